//! The admin of a run: does as the nemesis says, a few times at most, and tells what
//! worked. What must hold afterwards holds either way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DeleteTopicsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use weir_base::{Env, NodeId};

use super::router::Router;
use crate::nemesis::Change;
use crate::plan::{SHIFTING, TOPICS};
use crate::trace::Trace;

const TRIES: u32 = 5;

/// Does what it is told, one after the other; `done` gets the kind of each that worked.
pub(crate) async fn run(
    env: Env,
    nodes: Vec<SocketAddr>,
    trace: Trace,
    mut changes: UnboundedReceiver<Change>,
    done: UnboundedSender<&'static str>,
) {
    let mut router = Router::new(&env, &nodes);
    while let Some(change) = changes.recv().await {
        for _ in 0..TRIES {
            let made = make(&mut router, &change).await;
            // Without a backtrace: the trace is the same wherever this was built.
            let told = made.as_ref().map_err(|error| format!("{error:#}"));
            trace.note(&"admin", format_args!("{change:?}: {told:?}"));
            if made.is_ok() {
                // The run counts them until its end.
                done.send(change.kind()).unwrap_or_default();
                break;
            }
            env.sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn make(router: &mut Router, change: &Change) -> Result<()> {
    let mut client = router.any().await?;
    let error = match change {
        Change::CreateTopic { number } => {
            let name = format!("passing-{number}");
            client.create_topic(&name, 2, &[]).await?
        }
        Change::DeleteTopic { number } => {
            let request = DeleteTopicsRequest::default()
                .with_topic_names(vec![name(&format!("passing-{number}"))])
                .with_timeout_ms(2_000);
            let response = client.call(&request, 4).await?;
            response.responses.first().context("no topic")?.error_code
        }
        Change::Mode { flush, replication } => {
            let set = |key: &str, value: &str| {
                AlterableConfig::default()
                    .with_name(text(key))
                    .with_config_operation(0)
                    .with_value(Some(text(value)))
            };
            let configs = vec![
                set("weir.flush", flush),
                set("weir.replication", replication),
            ];
            const TOPIC: i8 = 2;
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(SHIFTING))
                .with_configs(configs);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            let response = client.call(&request, 1).await?;
            response
                .responses
                .first()
                .context("no resource")?
                .error_code
        }
        Change::PreferredLeaders => {
            let request = ElectLeadersRequest::default()
                .with_election_type(0)
                .with_topic_partitions(None)
                .with_timeout_ms(2_000);
            client.call(&request, 2).await?.error_code
        }
        Change::Reassign { topic, replicas } => {
            let topic = TOPICS[usize::try_from(*topic)? % TOPICS.len()];
            reassign(&mut client, topic.name, replicas).await?
        }
        // The scenario starts it.
        Change::AddNode { .. } => 0,
    };
    ensure!(error == 0, "error {error}");
    Ok(())
}

pub(crate) async fn reassign(
    client: &mut super::kafka_client::KafkaClient,
    topic: &str,
    replicas: &[NodeId],
) -> Result<i16> {
    let replicas = replicas
        .iter()
        .map(|node| i32::try_from(node.0).map(BrokerId));
    let partition = ReassignablePartition::default()
        .with_partition_index(0)
        .with_replicas(Some(replicas.collect::<Result<_, _>>()?));
    let topic = ReassignableTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(2_000);
    let response = client.call(&request, 0).await?;
    let topic = response.responses.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    Ok(partition.map_or(response.error_code, |p| p.error_code))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}
