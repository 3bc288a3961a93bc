//! The clients of a scenario: one writer, and whoever is asked for something, all on one
//! machine.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_base::{BoxFuture, Env, NodeId, TopicPartition};

use super::{POLL, Setting, TOPIC, Theatre, record};
use crate::cluster::{Cluster, ip};
use crate::whole_node::kafka_addresses;
use crate::workload::kafka_client::KafkaClient;
use crate::workload::produce::{Ledger, Producer, check_all};

/// Where they run: a machine with links and disks that nobody uses.
pub(super) const CLIENT: NodeId = NodeId(200);

/// What a client is asked to do.
pub(super) type Order = Box<dyn FnOnce(Env) -> BoxFuture<'static, ()> + Send>;

/// What the writer was told and tells.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) target: u64,
    pub(super) done: u64,
    pub(super) failure: Option<String>,
}

impl Theatre {
    /// Waits for all nodes, makes the topic, and starts its writer.
    pub(super) fn make_topic(&mut self, setting: &Setting) -> Result<()> {
        let count = self.all.len();
        self.until("all nodes are active", 20_000, |seen| {
            seen.newest.nodes.values().filter(|n| n.is_active()).count() == count
        })?;
        let nodes = kafka_addresses(&self.all);
        let request = create_request(setting)?;
        self.ask(10_000, |env| async move {
            loop {
                let asked = async {
                    let first = *nodes.first().context("no nodes")?;
                    let mut client = KafkaClient::connect(&env, first, POLL * 400).await?;
                    let response = client.call(&request, 5).await?;
                    Ok::<_, anyhow::Error>(response.topics.first().map(|topic| topic.error_code))
                };
                match asked.await {
                    // Made, by this request or by the one before it.
                    Ok(Some(0 | 36)) => return Ok(()),
                    Ok(other) => bail!("the topic was refused: {other:?}"),
                    Err(_) => env.sleep(POLL).await,
                }
            }
        })?;
        let replicas = setting.replicas.len();
        self.until("the topic is led and in sync", 10_000, |seen| {
            let record = record(seen);
            record.is_some_and(|r| r.leader.is_some() && r.isr.len() == replicas)
        })?;
        self.at = self
            .seen
            .newest
            .topics
            .get(TOPIC)
            .map(|t| TopicPartition::new(t.id, 0));
        let (ledger, writing) = (self.ledger.clone(), Arc::clone(&self.writing));
        let nodes = kafka_addresses(&self.all);
        let order: Order = Box::new(move |env| Box::pin(write(env, nodes, ledger, writing)));
        self.orders.send(order).ok().context("no client")
    }

    /// Steps until a client has done something and gives what came of it.
    pub(in crate::scenarios) fn ask<T: Send + 'static, F>(
        &mut self,
        within: u64,
        order: impl FnOnce(Env) -> F + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let slot = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&slot);
        let order: Order = Box::new(move |env| {
            let asked = order(env);
            Box::pin(async move {
                let answer = asked.await;
                *filled.lock().unwrap() = Some(answer);
            })
        });
        self.orders.send(order).ok().context("no client")?;
        let end = self.now() + within;
        loop {
            if let Some(answer) = slot.lock().unwrap().take() {
                return answer;
            }
            ensure!(
                self.now() < end,
                "no answer within {within} ms{}",
                self.describe()
            );
            self.step()?;
        }
    }

    /// The writer writes `more` values, whatever happens.
    pub(in crate::scenarios) fn begin_writing(&self, more: u64) {
        self.lock().target += more;
    }

    /// Values acknowledged.
    pub(in crate::scenarios) fn acknowledged(&self) -> u64 {
        self.lock().done
    }

    /// Steps until all that is to be written was acknowledged.
    pub(in crate::scenarios) fn until_written(&mut self, within: u64) -> Result<u64> {
        let begun = self.now();
        loop {
            let (done, target) = {
                let writing = self.lock();
                (writing.done, writing.target)
            };
            if done >= target {
                return Ok(self.now() - begun);
            }
            let passed = self.now() - begun;
            ensure!(
                passed < within,
                "{done} of {target} values acknowledged after {within} ms{}",
                self.describe()
            );
            self.step()?;
        }
    }

    /// Writes and waits for it.
    pub(in crate::scenarios) fn write(&mut self, more: u64, within: u64) -> Result<u64> {
        self.begin_writing(more);
        self.until_written(within)
    }

    /// Everything acknowledged is there, once, in order, at its offset.
    pub(in crate::scenarios) fn check(&mut self) -> Result<()> {
        let (ledger, nodes) = (self.ledger.clone(), kafka_addresses(&self.all));
        self.ask(30_000, |env| async move {
            check_all(&env, &nodes, TOPIC, 1, &ledger).await
        })
    }

    /// The writer goes on, every replica comes into sync, and nothing is missing.
    pub(in crate::scenarios) fn recover(&mut self) -> Result<()> {
        self.write(10, 30_000)?;
        self.until("every replica is in sync", 30_000, |seen| {
            record(seen).is_some_and(|r| r.leader.is_some() && r.isr.len() == r.replicas.len())
        })?;
        self.check()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap()
    }
}

pub(super) fn host_client(
    sim: &mut turmoil::Sim<'static>,
    cluster: &Cluster,
) -> UnboundedSender<Order> {
    let (send, orders) = unbounded_channel();
    let once = std::cell::RefCell::new(Some(orders));
    let cluster = cluster.clone();
    sim.host(ip(CLIENT), move || {
        let orders: Option<UnboundedReceiver<Order>> = once.borrow_mut().take();
        let cluster = cluster.clone();
        async move {
            let env = cluster.boot(CLIENT)?.env;
            let mut orders = orders.ok_or("a client is never restarted")?;
            while let Some(order) = orders.recv().await {
                env.tasks.spawn("order", order(env.clone()));
            }
            pending().await
        }
    });
    send
}

async fn write(
    env: Env,
    nodes: Vec<std::net::SocketAddr>,
    ledger: Ledger,
    writing: Arc<Mutex<Writing>>,
) {
    let topic = TOPIC.to_owned();
    let mut producer = Producer::start(env.clone(), &nodes, topic, 0, ledger).await;
    for counter in 0.. {
        while writing.lock().unwrap().target <= counter {
            env.sleep(POLL).await;
        }
        if let Err(error) = producer.send(counter).await {
            writing.lock().unwrap().failure = Some(error.to_string());
            return;
        }
        writing.lock().unwrap().done = counter + 1;
    }
}

fn create_request(setting: &Setting) -> Result<CreateTopicsRequest> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let brokers = setting
        .replicas
        .iter()
        .map(|node| i32::try_from(*node).map(BrokerId));
    let placed = CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(brokers.collect::<Result<_, _>>()?);
    let configs = setting.configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![placed])
        .with_configs(configs.collect());
    Ok(CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(5_000))
}
