//! Check-backs: producers are asked what became of the transactions of half messages
//! that nobody decided on.
//!
//! One task follows which topics have producers here and queues led here, and holds one
//! watch a partition: a call that waits until its queue wants to ask. Of queues led by other
//! nodes it asks every few seconds, since a producer may know this node alone. Any producer
//! that sends to the topic may answer, over `EndTransaction`. A question that no producer took
//! does not count: the queue asks again in a moment, whoever offers to answer then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::queues::{self, Check, HalfHandle};
use weir_base::env::TaskHandle;
use weir_base::{NodeId, TopicPartition};

use super::queue;
use crate::context::Shared;
use crate::message;
use crate::names;
use crate::proto::{
    RecoverOrphanedTransactionCommand, Resource, TelemetryCommand, command::Command,
};

/// How often it is looked at which partitions are to be watched, and have queues.
const LOOK: Duration = Duration::from_secs(1);
/// How long one call waits for questions.
const WAIT: Duration = Duration::from_secs(20);
/// Pause after a failed call.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a question that no producer here took: another node may have one that does.
const MISSED_PAUSE: Duration = Duration::from_secs(6);
/// Questions taken at once.
const BATCH: usize = 32;
/// How often nodes are asked that lead queues of which producers are here.
const ELSEWHERE: Duration = Duration::from_secs(3);
/// How long such a node may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Partitions that it is asked about at once.
const PARTITIONS_MAX: usize = 256;

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut watches: BTreeMap<TopicPartition, TaskHandle> = BTreeMap::new();
    loop {
        let image = shared.image();
        let mut wanted: BTreeMap<TopicPartition, Arc<str>> = BTreeMap::new();
        for name in shared.clients.produced() {
            let Some(topic) = image.topics.get(name.as_str()) else {
                continue;
            };
            let led = queue::led_by(topic, shared.node());
            wanted.extend(led.into_iter().map(|at| (at, Arc::clone(&topic.name))));
        }
        watches.retain(|at, _| wanted.contains_key(at));
        for (at, topic) in wanted {
            let shared = &shared;
            watches.entry(at).or_insert_with(|| {
                let watching = watch(Arc::clone(shared), at, topic);
                shared
                    .env
                    .tasks
                    .spawn_owned("rocketmq-check-back", watching)
            });
        }
        shared.env.sleep(LOOK).await;
    }
}

/// Asks for the queues that other nodes lead, for as long as the node runs.
pub(crate) async fn run_elsewhere(shared: Arc<Shared>) {
    let mut turn = 0;
    loop {
        shared.env.sleep(ELSEWHERE).await;
        for name in shared.clients.produced() {
            let image = shared.image();
            let Some(topic) = image.topics.get(name.as_str()) else {
                continue;
            };
            let mut led: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
            for (index, partition) in (0..).zip(&topic.partitions) {
                let leader = partition.leader.filter(|leader| *leader != shared.node());
                if let Some(leader) = leader.filter(|leader| !shared.api.cluster.is_gone(*leader)) {
                    let of = led.entry(leader).or_default();
                    of.push(queue::partition(topic, index));
                }
            }
            for (leader, mut at) in led {
                turn += 1;
                let first = turn % at.len().max(1);
                at.rotate_left(first);
                at.truncate(PARTITIONS_MAX);
                while take_elsewhere(&shared, leader, &at, &topic.name, turn).await {
                    turn += 1;
                }
            }
        }
    }
}

/// Passes one question of another node on; says whether there may be more.
async fn take_elsewhere(
    shared: &Shared,
    leader: NodeId,
    at: &[TopicPartition],
    topic: &Arc<str>,
    turn: usize,
) -> bool {
    let (queues, member) = (&shared.api.queues, member(shared));
    let producers = Arc::clone(topic);
    let asked = queues.check_elsewhere(leader, at.to_vec(), member, producers, ANSWER_MAX);
    let check = match asked.await {
        Ok(Some(check)) => check,
        Ok(None) => return false,
        Err(error) => {
            tracing::debug!(%leader, %error, "half messages cannot be asked about just now");
            return false;
        }
    };
    let half = queues::Message::from_payload(&check.payload);
    if pass_on(shared, topic, half, check.handle, turn) {
        return true;
    }
    let missed = queues.missed_elsewhere(leader, check.at, check.handle, ANSWER_MAX);
    if let Err(error) = missed.await {
        tracing::debug!(%leader, %error, "a check that reached nobody is counted");
    }
    false
}

/// As whom this node offers to answer.
fn member(shared: &Shared) -> Arc<str> {
    format!("rocketmq-{}", shared.node()).into()
}

/// Asks what the queue of one partition wants asked.
async fn watch(shared: Arc<Shared>, at: TopicPartition, topic: Arc<str>) {
    let member = member(&shared);
    let mut turn = 0;
    loop {
        let queues = &shared.api.queues;
        // Without a queue there is no half message, and offering to answer would make one.
        if matches!(
            queues.list_half(at, 1, false).await,
            Err(QueueCallError::NoQueue)
        ) {
            shared.env.sleep(LOOK).await;
            continue;
        }
        let (member, producers) = (Arc::clone(&member), Arc::clone(&topic));
        match queues
            .await_checks(at, member, producers, BATCH, WAIT)
            .await
        {
            Ok(checks) => {
                let mut missed = false;
                for check in checks {
                    turn += 1;
                    if ask(&shared, at, &topic, &check, turn).await {
                        continue;
                    }
                    missed = true;
                    if let Err(error) = queues.check_missed(at, check.handle).await {
                        tracing::debug!(%at, %error, "a check that reached nobody is counted");
                    }
                }
                if missed {
                    shared.env.sleep(MISSED_PAUSE).await;
                }
            }
            Err(error) => {
                tracing::debug!(%at, %error, "half messages cannot be asked about just now");
                shared.env.sleep(PAUSE).await;
            }
        }
    }
}

/// Asks one producer about one half message; says whether it was reached. What cannot be read
/// at all counts as asked, so that it is parked in the end, for an operator to look at.
async fn ask(
    shared: &Shared,
    at: TopicPartition,
    topic: &Arc<str>,
    check: &Check,
    turn: usize,
) -> bool {
    let kept = shared.api.queues.kept(at, vec![check.payload_at]).await;
    let payload = match kept.map(|mut kept| kept.pop().flatten()) {
        Ok(Some(payload)) => payload,
        Ok(None) => {
            tracing::warn!(%at, half = %check.handle, "half message has no content");
            return true;
        }
        Err(error) => {
            tracing::debug!(%at, %error, "half message cannot be read");
            return false;
        }
    };
    let half = queues::Message::from_payload(&payload);
    pass_on(shared, topic, half, check.handle, turn)
}

/// Sends a question to one producer, the next if its stream is full or gone.
fn pass_on(
    shared: &Shared,
    topic: &Arc<str>,
    half: queues::Message,
    handle: HalfHandle,
    turn: usize,
) -> bool {
    let resource = Resource {
        resource_namespace: String::new(),
        name: names::shown(topic),
    };
    let command = Command::RecoverOrphanedTransaction(RecoverOrphanedTransactionCommand {
        message: Some(message::half(resource, half)),
        transaction_id: handle.to_string(),
    });
    let command = TelemetryCommand {
        status: None,
        command: Some(command),
    };
    let producers = shared.clients.producers(topic, turn);
    let asked = producers
        .iter()
        .any(|producer| producer.try_send(Ok(command.clone())).is_ok());
    if !asked {
        tracing::info!(%topic, half = %handle, "no producer here to ask about a half message");
    }
    asked
}
