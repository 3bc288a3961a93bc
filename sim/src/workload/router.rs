//! The way to whoever leads a partition, as Kafka clients find it: any node tells.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::Env;

use super::kafka_client::KafkaClient;

const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// Finds leaders and keeps the connection to one of them.
pub(crate) struct Router {
    env: Env,
    nodes: Vec<SocketAddr>,
    next: usize,
    connected: Option<KafkaClient>,
}

impl Router {
    pub(crate) fn new(env: &Env, nodes: &[SocketAddr]) -> Self {
        Self {
            env: env.clone(),
            nodes: nodes.to_vec(),
            next: 0,
            connected: None,
        }
    }

    /// A connection to any node, each in turn.
    pub(crate) async fn any(&mut self) -> Result<KafkaClient> {
        let to = *self
            .nodes
            .get(self.next % self.nodes.len())
            .context("no nodes")?;
        self.next += 1;
        KafkaClient::connect(&self.env, to, CALL_DEADLINE).await
    }

    /// Asks the last node once more before the next one.
    pub(crate) fn ask_again(&mut self) {
        self.next -= 1;
    }

    /// The connection to the leader of a partition.
    pub(crate) async fn leader(&mut self, topic: &str, partition: i32) -> Result<&mut KafkaClient> {
        if self.connected.is_none() {
            let metadata = self.any().await?.metadata(topic).await?;
            let topics = metadata.topics.first().context("topic not in the answer")?;
            let record = topics
                .partitions
                .iter()
                .find(|p| p.partition_index == partition);
            let leader = record.context("partition not in the answer")?.leader_id;
            let broker = metadata.brokers.iter().find(|b| b.node_id == leader);
            let broker = broker.context("no leader")?;
            let port = u16::try_from(broker.port)?;
            let found = self.env.net.resolve(&broker.host, port).await?;
            let to = *found.first().context("leader does not resolve")?;
            let client = KafkaClient::connect(&self.env, to, CALL_DEADLINE).await?;
            self.connected = Some(client);
        }
        self.connected.as_mut().context("not connected")
    }

    /// Whom it is connected to: who gave the last answer, if one came.
    pub(crate) fn connected_to(&self) -> Option<SocketAddr> {
        self.connected.as_ref().map(KafkaClient::peer)
    }

    pub(crate) fn disconnect(&mut self) {
        self.connected = None;
    }
}
