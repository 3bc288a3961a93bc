//! Clients that commit a position for one consumer group after the other, and after the
//! faults ask for each: what was acknowledged is there, with its note (C22).
//!
//! No group of these commits twice, so a request that was late cannot hide what is missing.
//! Some of them at a time: whoever coordinates has several positions under way when it loses
//! its place. Beside them each has one group whose position follows what was written, and is
//! asked for all the time: the history tells whether it ever went back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use weir_base::Env;
use weir_checkers::history::Offsets;
use weir_checkers::{Action, Key, Kind};

use super::kafka_client::KafkaClient;
use super::recorder::Recorder;
use super::router::Router;
use super::stage::Stage;

/// How many commit at a time: a few for each journal.
pub(crate) const KEEPERS: u64 = 12;

/// What is written at the first partition of their topic, in the history of the run.
const KEY: Key = Key(0);

const DEADLINE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
/// Tries before nobody knows whether a position is stored.
const TRIES: u32 = 20;

/// One of them.
pub(crate) struct Keeper {
    pub(crate) env: Env,
    /// Its number among all.
    pub(crate) number: u64,
    /// The topic whose positions are kept.
    pub(crate) topic: &'static str,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) recorder: Recorder,
    pub(crate) stage: Stage,
}

impl Keeper {
    /// Commits until the faults are over, and then looks for what was acknowledged.
    pub(crate) async fn run(self) {
        let mut router = Router::new(&self.env, &self.nodes);
        let mut kept = Vec::new();
        let follower = format!("follower-{}", self.number);
        for turn in 0_u64.. {
            if self.stage.is_healed() {
                break;
            }
            let group = format!("group-{}-{turn}", self.number);
            for _ in 0..TRIES {
                if self.commit(&mut router, &group, 0).await.is_ok() {
                    kept.push(group);
                    break;
                }
                self.env.sleep(PAUSE).await;
            }
            // Not at every turn: a machine has only so many ports.
            let followed = match turn % 4 {
                0 => self.follow(&mut router, &follower).await,
                2 => self.look(&mut router, &follower).await,
                _ => Ok(()),
            };
            if followed.is_err() {
                self.env.sleep(PAUSE).await;
            }
            self.env.sleep(PAUSE).await;
        }
        for group in kept {
            let found = loop {
                match self.committed(&mut router, &group).await {
                    Ok(found) => break found,
                    Err(_) => self.env.sleep(PAUSE).await,
                }
            };
            if found.as_ref().map(|(_, note)| &**note) != Some(&*group) {
                self.recorder.complain(format!(
                    "C22: {group} was told that its position is stored, and has {found:?}"
                ));
            }
        }
        while self.look(&mut router, &follower).await.is_err() {
            self.env.sleep(PAUSE).await;
        }
        self.stage.keeper_ends();
    }

    /// Commits the position of a group that follows what is written: once, whatever comes
    /// of it.
    async fn follow(&self, router: &mut Router, group: &str) -> Result<()> {
        let offset = self.recorder.acknowledged_end(KEY);
        let process = self.recorder.process();
        let tell = |kind| {
            let offsets = vec![(KEY, offset)];
            let positions = Offsets {
                group: group.to_owned(),
                offsets,
            };
            self.recorder
                .position(process, kind, Action::Commit(positions));
        };
        tell(Kind::Invoke);
        let committed = self.commit(router, group, i64::try_from(offset)?).await;
        tell(if committed.is_ok() {
            Kind::Ok
        } else {
            Kind::Info
        });
        committed
    }

    /// Asks for that position, and writes down what it is.
    async fn look(&self, router: &mut Router, group: &str) -> Result<()> {
        let process = self.recorder.process();
        let tell = |kind, offsets| {
            let positions = Offsets {
                group: group.to_owned(),
                offsets,
            };
            self.recorder
                .position(process, kind, Action::Committed(positions));
        };
        tell(Kind::Invoke, vec![(KEY, 0)]);
        let found = match self.committed(router, group).await {
            Ok(found) => found,
            Err(error) => {
                tell(Kind::Fail, vec![]);
                return Err(error);
            }
        };
        let found = found.map(|(offset, _)| u64::try_from(offset)).transpose()?;
        tell(
            Kind::Ok,
            found.map(|offset| (KEY, offset)).into_iter().collect(),
        );
        Ok(())
    }

    /// The node that coordinates a group.
    async fn coordinator(&self, router: &mut Router, group: &str) -> Result<KafkaClient> {
        let request = FindCoordinatorRequest::default()
            .with_key(text(group))
            .with_key_type(0);
        let found = router.any().await?.call(&request, 3).await?;
        ensure!(found.error_code == 0, "error {}", found.error_code);
        if self.stage.is_healed() {
            // One may stay away, and there is much to ask for.
            router.ask_again();
        }
        let port = u16::try_from(found.port)?;
        let at = self.env.net.resolve(&found.host, port).await?;
        let at = *at.first().context("the coordinator does not resolve")?;
        KafkaClient::connect(&self.env, at, DEADLINE).await
    }

    /// Commits an offset of the group, with its name as the note.
    async fn commit(&self, router: &mut Router, group: &str, offset: i64) -> Result<()> {
        let position = OffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(group)));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(self.topic)))
            .with_partitions(vec![position]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let mut coordinator = self.coordinator(router, group).await?;
        let response = coordinator.call(&request, 7).await?;
        let topic = response.topics.first().context("no topic")?;
        let code = topic.partitions.first().context("no partition")?.error_code;
        ensure!(code == 0, "error {code}");
        Ok(())
    }

    /// The group's position and the note at it, if it has one.
    async fn committed(&self, router: &mut Router, group: &str) -> Result<Option<(i64, String)>> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(TopicName(text(self.topic)))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(vec![topic]));
        let mut coordinator = self.coordinator(router, group).await?;
        let response = coordinator.call(&request, 7).await?;
        ensure!(response.error_code == 0, "error {}", response.error_code);
        let topic = response.topics.first().context("no topic")?;
        let position = topic.partitions.first().context("no partition")?;
        ensure!(position.error_code == 0, "error {}", position.error_code);
        let offset = position.committed_offset;
        let note = position.metadata.as_deref().unwrap_or_default();
        Ok((offset >= 0).then(|| (offset, note.to_owned())))
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
