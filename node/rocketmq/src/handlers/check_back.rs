//! Check-backs: producers are asked what became of the transactions of half messages
//! that nobody decided on.
//!
//! One task follows which topics have producers here and queues led here, and holds one
//! watch a partition: a call that waits until its queue wants to ask. Any producer that
//! sends to the topic may answer, over `EndTransaction`. A question that no producer took
//! is asked again by the queue, which counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::queues::{self, Check};
use weir_base::TopicPartition;
use weir_base::env::TaskHandle;

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
/// Questions taken at once.
const BATCH: usize = 32;

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

/// Asks what the queue of one partition wants asked.
async fn watch(shared: Arc<Shared>, at: TopicPartition, topic: Arc<str>) {
    let member: Arc<str> = format!("rocketmq-{}", shared.node()).into();
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
        let until = shared.api.cluster.now() + WAIT;
        let (member, producers) = (Arc::clone(&member), Arc::clone(&topic));
        match queues
            .await_checks(at, member, producers, BATCH, until)
            .await
        {
            Ok(checks) => {
                for check in checks {
                    turn += 1;
                    ask(&shared, at, &topic, check, turn).await;
                }
            }
            Err(error) => {
                tracing::debug!(%at, %error, "half messages cannot be asked about just now");
                shared.env.sleep(PAUSE).await;
            }
        }
    }
}

/// Asks one producer, the next if its stream is full or gone.
async fn ask(shared: &Shared, at: TopicPartition, topic: &Arc<str>, check: Check, turn: usize) {
    let kept = shared.api.queues.kept(at, vec![check.payload_at]).await;
    let payload = match kept.map(|mut kept| kept.pop().flatten()) {
        Ok(Some(payload)) => payload,
        Ok(None) => return tracing::warn!(%at, half = %check.handle, "half message has no content"),
        Err(error) => return tracing::debug!(%at, %error, "half message cannot be read"),
    };
    let resource = Resource {
        resource_namespace: String::new(),
        name: names::shown(topic),
    };
    let transaction_id = check.handle.to_string();
    let half = queues::Message::from_payload(&payload);
    let command = Command::RecoverOrphanedTransaction(RecoverOrphanedTransactionCommand {
        message: Some(message::half(resource, half)),
        transaction_id,
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
        tracing::info!(%topic, half = %check.handle, check = check.check, "no producer to ask about a half message");
    }
}
