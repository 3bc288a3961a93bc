//! Disks without space (reliability 3.5): producers are refused and nothing is lost, while
//! what helps goes on in the space kept back.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest};
use weir_base::Env;
use weir_base::batch::BatchBuilder;
use weir_base::image::NodeRecord;
use weir_storage::SimFaults;

use super::theatre::{Setting, TOPIC, Theatre, VOTERS, play, record};
use crate::whole_node::kafka_addresses;
use crate::workload::kafka_client::{KafkaClient, Produced, text, topic_name};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
/// Bytes that are left: half of what storage keeps back.
const ROOM: u64 = 32 * 1024 * 1024;
/// A topic made when there is no space left, so that it holds none.
const LATE: &str = "late";
const STORAGE_ERROR: i16 = 56;

/// Asks one node after the other until one has the final say.
async fn first_answer<T, F>(env: &Env, ask: impl Fn(SocketAddr) -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    for _ in 0..100 {
        for node in kafka_addresses(&VOTERS) {
            if let Ok(Some(answer)) = ask(node).await {
                return Ok(answer);
            }
        }
        env.sleep(SECOND / 10).await;
    }
    bail!("no node has the final say")
}

/// What the leader of the late topic says to a value.
async fn produce(env: Env) -> Result<Produced> {
    first_answer(&env, |to| {
        let env = env.clone();
        async move {
            let mut client = KafkaClient::connect(&env, to, SECOND * 3).await?;
            let value = BatchBuilder::new(env.clock.wall()).record(None, Some(b"value"));
            let produced = client.produce(LATE, 0, &value.build(), SECOND).await?;
            // Not the leader, or not known here yet.
            let elsewhere = matches!(produced, Produced::Refused(3 | 5 | 6));
            Ok((!elsewhere).then_some(produced))
        }
    })
    .await
}

/// What the coordinator of a group says to an offset.
async fn commit(env: Env) -> Result<i16> {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(7)
        .with_committed_metadata(Some(text("")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(text("group").into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    first_answer(&env, |to| {
        let (env, request) = (env.clone(), request.clone());
        async move {
            let mut client = KafkaClient::connect(&env, to, SECOND * 3).await?;
            // Whoever asks first has the groups' own topic made.
            let finding = FindCoordinatorRequest::default().with_key(text("group"));
            client.call(&finding, 3).await?;
            let response = client.call(&request, 8).await?;
            let topic = response.topics.first().context("no topic")?;
            let code = topic.partitions.first().context("no partition")?.error_code;
            // Not the coordinator, or not ready.
            Ok((!matches!(code, 14..=16)).then_some(code))
        }
    })
    .await
}

fn full_disks(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    for node in VOTERS {
        let disk = theatre.disk(node)?;
        disk.set_faults(SimFaults {
            capacity_bytes: Some(disk.used_bytes() + ROOM),
            ..SimFaults::default()
        });
    }
    let made = theatre.ask(10_000, |env| async move {
        first_answer(&env, |to| {
            let env = env.clone();
            async move {
                let mut client = KafkaClient::connect(&env, to, SECOND * 3).await?;
                client.create_topic(LATE, 1, &[]).await.map(Some)
            }
        })
        .await
    })?;
    ensure!(made == 0, "no topic was made: {made}");
    let refused = theatre.ask(20_000, produce)?;
    ensure!(refused == Produced::Refused(STORAGE_ERROR), "{refused:?}");
    let committed = theatre.ask(20_000, commit)?;
    ensure!(committed == 0, "no offset was committed: {committed}");
    for node in VOTERS {
        theatre.disk(node)?.set_faults(SimFaults::default());
    }
    let taken = theatre.ask(20_000, produce)?;
    ensure!(taken == Produced::At(0), "{taken:?}");
    theatre.recover()
}

/// A follower's alone: the others go on without it, and it catches up when it can.
fn full_follower(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    let full = VOTERS[2];
    let disk = theatre.disk(full)?;
    disk.set_faults(SimFaults {
        capacity_bytes: Some(disk.used_bytes() + ROOM),
        ..SimFaults::default()
    });
    theatre.write(100, 20_000)?;
    theatre.until("the full one is out of sync", 20_000, |seen| {
        record(seen).is_some_and(|record| !record.isr.contains(&full))
    })?;
    let is_active = |node: &NodeRecord| node.is_active();
    let node = theatre.seen.newest.nodes.get(&full);
    ensure!(node.is_some_and(is_active), "a full disk is no dead one");
    disk.set_faults(SimFaults::default());
    theatre.recover()
}

/// Small segments, so that every few values need space.
fn small_segments() -> Setting {
    Setting {
        configs: &[("segment.bytes", "2048")],
        ..Setting::default()
    }
}

#[test]
fn a_follower_without_space_holds_nobody_up() {
    play(small_segments(), full_follower).unwrap();
}

#[test]
fn a_full_disk_refuses_producers_and_commits_offsets() {
    play(Setting::default(), full_disks).unwrap();
}
