//! The stage of a scenario: nodes, one topic of one partition, one writer, and a look at
//! all of it every few milliseconds with the invariants.
//!
//! A scenario reads like its incident: it breaks things, waits for conditions, and asks.
//! Every wait is bounded, and ends early if an invariant breaks or a process ends by
//! itself that was not to.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir::options::NodeOptions;
use weir_base::image::PartitionRecord;
use weir_base::{BoxFuture, Env, NodeId, TopicPartition};

use crate::cluster::{Cluster, ip, on_fresh_thread};
use crate::invariants::{Invariants, Told};
use crate::log_events::{Listener, Said};
use crate::probe::{ReplicaSeen, Seen};
use crate::trace::{Trace, set_time_outside};
use crate::whole_node::{Insides, kafka_addresses, node_options, run_watched};
use crate::workload::kafka_client::KafkaClient;
use crate::workload::produce::{Ledger, Producer, check_all};

/// The topic that everything is about.
pub(super) const TOPIC: &str = "orders";
/// The founding voters of the metadata group: all, or the first three of five nodes.
pub(super) const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Where clients run: a machine with links and disks that nobody uses.
const CLIENT: NodeId = NodeId(200);
/// How long one scenario may take in all.
const LONGEST: Duration = Duration::from_secs(240);
/// Simulated milliseconds between two looks.
const LOOK_EVERY: u64 = 5;
const POLL: Duration = Duration::from_millis(5);

/// What the cluster of a scenario is.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) seed: u64,
    /// Nodes 1 to this.
    pub(super) nodes: u32,
    /// Of the topic's partition, the preferred leader first.
    pub(super) replicas: &'static [u32],
    pub(super) configs: &'static [(&'static str, &'static str)],
    /// What else the options of every node are.
    pub(super) options: fn(&mut NodeOptions),
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            replicas: &[1, 2, 3],
            configs: &[],
            options: |_| {},
        }
    }
}

/// Runs a scenario, with its seed and as many more as are asked for.
pub(super) fn play(
    setting: Setting,
    scenario: impl FnOnce(&mut Theatre) -> Result<()> + Copy + Send + 'static,
) -> Result<()> {
    // More in a nightly run.
    let seeds = std::env::var("WEIR_SCENARIO_SEEDS").map_or(Ok(1), |seeds| seeds.parse())?;
    for seed in setting.seed..setting.seed + seeds {
        let setting = Setting { seed, ..setting };
        on_fresh_thread(move || perform(setting, scenario))?;
    }
    Ok(())
}

/// Runs a scenario with a planted bug. Gives what objected.
///
/// # Panics
/// If nothing did.
#[cfg(feature = "mutants")]
pub(super) fn objection(
    mutant: weir_base::mutant::Mutant,
    setting: Setting,
    scenario: impl FnOnce(&mut Theatre) -> Result<()> + Send + 'static,
) -> String {
    let ended = on_fresh_thread(move || {
        weir_base::mutant::plant(Some(mutant));
        perform(setting, scenario)
    });
    match ended {
        Err(error) => format!("{error:#}"),
        Ok(()) => panic!("{mutant:?} survives"),
    }
}

fn perform(setting: Setting, scenario: impl FnOnce(&mut Theatre) -> Result<()>) -> Result<()> {
    // The text of a run takes much memory: only for whoever looks into a failure.
    let is_wanted = std::env::var_os("WEIR_SCENARIO_TRACE").is_some();
    let trace = if is_wanted {
        Trace::with_text()
    } else {
        Trace::new()
    };
    let said = Said::default();
    let listener = Listener::new(trace.clone(), said.clone());
    tracing::subscriber::with_default(listener, || {
        let mut theatre = Theatre::open(&setting, trace.clone(), said)?;
        let ended = theatre.make_topic(&setting);
        let ended = ended.and_then(|()| scenario(&mut theatre));
        let ended = ended.and_then(|()| theatre.heard_no_bug());
        let at = theatre.now();
        theatre.insides.lock().clear();
        if ended.is_err() && is_wanted {
            println!("{}", trace.text());
        }
        ended.with_context(|| format!("seed {} at {at} ms", setting.seed))
    })
}

/// What a client is asked to do.
type Order = Box<dyn FnOnce(Env) -> BoxFuture<'static, ()> + Send>;

/// What the writer was told and tells.
#[derive(Default)]
struct Writing {
    target: u64,
    done: u64,
    failure: Option<String>,
}

/// A running scenario.
pub(super) struct Theatre {
    cluster: Cluster,
    sim: turmoil::Sim<'static>,
    insides: Insides,
    invariants: Invariants,
    pub(super) seen: Seen,
    orders: UnboundedSender<Order>,
    ledger: Ledger,
    writing: Arc<Mutex<Writing>>,
    all: Vec<NodeId>,
    at: Option<TopicPartition>,
    up: BTreeSet<NodeId>,
    said: Said,
    /// Processes that may end by themselves, and did so why.
    mortal: BTreeSet<NodeId>,
    pub(super) deaths: Vec<(NodeId, String)>,
}

impl Theatre {
    fn open(setting: &Setting, trace: Trace, said: Said) -> Result<Self> {
        let all: Vec<NodeId> = (1..=setting.nodes).map(NodeId).collect();
        let machines = [all.as_slice(), &[CLIENT]].concat();
        let cluster = Cluster::new(setting.seed, &machines, trace)?;
        cluster.contain_panics();
        let mut sim = Cluster::builder(setting.seed, LONGEST).build();
        let insides = Insides::default();
        for node in all.iter().copied() {
            let (cluster, insides) = (cluster.clone(), insides.clone());
            let change = setting.options;
            sim.host(ip(node), move || {
                let mut options = node_options(node, &VOTERS);
                change(&mut options);
                let software = run_watched(cluster.clone(), options, insides.clone());
                async move { Ok(software.await?) }
            });
        }
        let orders = host_client(&mut sim, &cluster);
        Ok(Self {
            cluster,
            sim,
            insides,
            invariants: Invariants::new(),
            seen: Seen::default(),
            orders,
            ledger: Ledger::default(),
            writing: Arc::default(),
            up: all.iter().copied().collect(),
            all,
            at: None,
            said,
            mortal: BTreeSet::new(),
            deaths: Vec::new(),
        })
    }

    /// Waits for all nodes, makes the topic, and starts its writer.
    fn make_topic(&mut self, setting: &Setting) -> Result<()> {
        let count = self.all.len();
        self.until("all nodes are active", 20_000, |seen| {
            seen.newest.nodes.values().filter(|n| n.is_active()).count() == count
        })?;
        let nodes = kafka_addresses(&VOTERS);
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

    /// Simulated milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One step.
    pub(super) fn step(&mut self) -> Result<()> {
        set_time_outside(self.sim.elapsed());
        self.sim
            .step()
            .map_err(|error| anyhow!("a host ended: {error}"))?;
        self.bury()?;
        if let Some(failure) = self.lock().failure.take() {
            bail!("the writer was told what it must never be: {failure}");
        }
        if self.now().is_multiple_of(LOOK_EVERY) {
            set_time_outside(self.sim.elapsed());
            self.seen = Seen::look(&self.insides, Arc::clone(&self.seen.newest));
            let mut told = Told::new();
            if let Some(at) = self.at {
                told.insert(at, self.ledger.acknowledged_end(0));
            }
            let broken = self.invariants.look(&self.seen, &told);
            ensure!(broken.is_empty(), "{}", broken.join("; "));
        }
        Ok(())
    }

    /// Processes that ended by themselves are ended for good.
    fn bury(&mut self) -> Result<()> {
        for node in self.all.clone() {
            if self.up.contains(&node)
                && let Some(why) = self.cluster.death(node)
            {
                self.kill(node)?;
                ensure!(
                    self.mortal.contains(&node),
                    "node {node} ended by itself: {why}"
                );
                self.deaths.push((node, why));
            }
        }
        Ok(())
    }

    /// Lets `millis` pass.
    pub(super) fn run(&mut self, millis: u64) -> Result<()> {
        let end = self.now() + millis;
        while self.now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Steps until what is seen is as wanted. Gives the milliseconds it took.
    pub(super) fn until(
        &mut self,
        what: &str,
        within: u64,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<u64> {
        let begun = self.now();
        while !is_so(&self.seen) {
            let passed = self.now() - begun;
            ensure!(
                passed < within,
                "not within {within} ms: {what}{}",
                self.describe()
            );
            self.step()?;
        }
        Ok(self.now() - begun)
    }

    /// Steps until a client has done something and gives what came of it.
    pub(super) fn ask<T: Send + 'static, F>(
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
    pub(super) fn begin_writing(&self, more: u64) {
        self.lock().target += more;
    }

    /// Values acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.lock().done
    }

    /// Steps until all that is to be written was acknowledged.
    pub(super) fn until_written(&mut self, within: u64) -> Result<u64> {
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
    pub(super) fn write(&mut self, more: u64, within: u64) -> Result<u64> {
        self.begin_writing(more);
        self.until_written(within)
    }

    /// Everything acknowledged is there, once, in order, at its offset.
    pub(super) fn check(&mut self) -> Result<()> {
        let (ledger, nodes) = (self.ledger.clone(), kafka_addresses(&self.all));
        self.ask(30_000, |env| async move {
            check_all(&env, &nodes, TOPIC, 1, &ledger).await
        })
    }

    /// The writer goes on, every replica comes into sync, and nothing is missing.
    pub(super) fn recover(&mut self) -> Result<()> {
        self.write(10, 30_000)?;
        self.until("every replica is in sync", 30_000, |seen| {
            record(seen).is_some_and(|r| r.leader.is_some() && r.isr.len() == r.replicas.len())
        })?;
        self.check()
    }

    /// The partition as the newest image has it.
    pub(super) fn record(&self) -> Result<&PartitionRecord> {
        record(&self.seen).context("no topic")
    }

    /// Who leads the partition.
    pub(super) fn leader(&self) -> Result<NodeId> {
        self.record()?.leader.context("no leader")
    }

    /// A node's replica.
    pub(super) fn replica(&self, node: NodeId) -> Option<&ReplicaSeen> {
        replica(&self.seen, node)
    }

    /// A node's disk.
    pub(super) fn disk(&self, node: NodeId) -> Result<weir_storage::SimDisk> {
        Ok(self.cluster.disk(node).context("no such disk")?.clone())
    }

    /// How often nodes logged a message that begins so.
    pub(super) fn heard(&self, begins: &str) -> u64 {
        let said = self.said.counts();
        let such = said
            .iter()
            .filter(|(message, _)| message.starts_with(begins));
        such.map(|(_, count)| count).sum()
    }

    /// What a node says of a bug in itself that it lives with, nobody may have said.
    fn heard_no_bug(&self) -> Result<()> {
        let bug = "the controller refused its own plan";
        ensure!(self.heard(bug) == 0, "{bug}");
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, node: NodeId) -> Result<()> {
        self.up.remove(&node);
        let inside = self.insides.lock().remove(&node);
        drop(inside);
        self.cluster.kill(&mut self.sim, node)
    }

    /// Takes a machine's power. Not while links are cut: it heals them.
    pub(super) fn power_off(&mut self, node: NodeId) -> Result<()> {
        self.up.remove(&node);
        let inside = self.insides.lock().remove(&node);
        drop(inside);
        self.cluster.power_off(&mut self.sim, node)
    }

    /// Starts what was killed or lost its power.
    pub(super) fn start(&mut self, node: NodeId) -> Result<()> {
        self.up.insert(node);
        self.cluster.start(&mut self.sim, node)
    }

    /// From now on the process may end by itself.
    pub(super) fn may_die(&mut self, node: NodeId) {
        self.mortal.insert(node);
    }

    pub(super) fn pause(&self, node: NodeId) {
        self.cluster.pause(node);
    }

    pub(super) fn resume(&self, node: NodeId) {
        self.cluster.resume(node);
    }

    /// What each of `one` sends to each of `two` vanishes.
    pub(super) fn cut_oneway(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.partition_oneway(ip(a), ip(b));
        }
    }

    /// Nothing gets from one side to the other.
    pub(super) fn cut(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.partition(ip(a), ip(b));
        }
    }

    /// Nothing gets from the clients to a node, or back; or it does again.
    pub(super) fn cut_clients(&self, node: NodeId, is_cut: bool) {
        if is_cut {
            self.sim.partition(ip(CLIENT), ip(node));
        } else {
            self.sim.repair(ip(CLIENT), ip(node));
        }
    }

    /// What is sent between two sides arrives when all is healed.
    pub(super) fn hold(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.hold(ip(a), ip(b));
        }
    }

    /// All links between nodes work.
    pub(super) fn heal(&self) {
        for (a, b) in pairs(&self.all, &self.all) {
            self.sim.release(ip(a), ip(b));
            self.sim.repair(ip(a), ip(b));
        }
    }

    /// All nodes but these.
    pub(super) fn others(&self, but: &[NodeId]) -> Vec<NodeId> {
        let all = self.all.iter().copied();
        all.filter(|node| !but.contains(node)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writing> {
        self.writing.lock().unwrap()
    }

    fn describe(&self) -> String {
        let replicas: Vec<String> = (self.all.iter())
            .filter_map(|node| {
                let r = self.replica(*node)?;
                Some(format!(
                    "\n  node {node}: epoch {} leads {} ready {} failed {} watermark {} end {} durable {}",
                    r.leader_epoch,
                    r.is_leader,
                    r.is_ready,
                    r.is_failed,
                    r.high_watermark,
                    r.log_end,
                    r.durable_end
                ))
            })
            .collect();
        format!("\n  {:?}{}", record(&self.seen), replicas.concat())
    }
}

/// The partition as the newest image has it.
pub(super) fn record(seen: &Seen) -> Option<&PartitionRecord> {
    seen.newest.topics.get(TOPIC)?.partitions.first()
}

/// A node's replica of it.
pub(super) fn replica(seen: &Seen, node: NodeId) -> Option<&ReplicaSeen> {
    let at = TopicPartition::new(seen.newest.topics.get(TOPIC)?.id, 0);
    seen.nodes.get(&node)?.replicas.get(&at)
}

fn pairs(one: &[NodeId], two: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let all = one.iter().flat_map(|a| two.iter().map(|b| (*a, *b)));
    all.filter(|(a, b)| a != b).collect()
}

fn host_client(sim: &mut turmoil::Sim<'static>, cluster: &Cluster) -> UnboundedSender<Order> {
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
