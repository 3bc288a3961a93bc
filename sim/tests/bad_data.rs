//! Whole nodes whose disks rot: a copy with bad data is given up and made anew from its
//! leader, and nothing acknowledged is missed (reliability 3.5).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_base::{BoxFuture, Env, NodeId};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node};
use weir_sim::workload::kafka_client::KafkaClient;
use weir_sim::workload::produce::{Ledger, check_all, create_topic, idempotent_producer};

static NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Where the client runs: a machine with links and disks that nobody uses.
const CLIENT: NodeId = NodeId(200);
const TOPIC: &str = "orders";
const VALUES: u64 = 60;
const POLL: Duration = Duration::from_millis(20);
/// Within the first batches of a segment: behind its head, before its end.
const ROTTEN_AT: u64 = 4_500;
/// The same in a small segment.
const ROTTEN_CLOSED_AT: u64 = 300;
const SEGMENT_BYTES: &str = "2048";

/// What the client wants of the machines: all processes killed and started again, and
/// meanwhile both stored states of a node's log damaged.
type Wish = Arc<Mutex<Option<Option<NodeId>>>>;

#[derive(Debug, Clone, Copy)]
struct Told {
    leader: NodeId,
    epoch: i32,
    is_settled: bool,
}

struct Client {
    env: Env,
    cluster: Cluster,
    nodes: &'static [NodeId],
    wish: Wish,
}

impl Client {
    /// The partition as some node tells it.
    async fn partition(&self) -> Result<Told> {
        let mut last = anyhow::anyhow!("nobody asked");
        for address in kafka_addresses(self.nodes) {
            let asked = async {
                let mut client = KafkaClient::connect(&self.env, address, POLL * 10).await?;
                let metadata = client.metadata(TOPIC).await?;
                let topic = metadata.topics.first().context("no topic")?;
                let partition = topic.partitions.first().context("no partition")?;
                let leader = u32::try_from(partition.leader_id.0).context("no leader")?;
                Ok(Told {
                    leader: NodeId(leader),
                    epoch: partition.leader_epoch,
                    // In sync, and led by the preferred leader: it stays like this.
                    is_settled: partition.isr_nodes.len() == self.nodes.len()
                        && partition.replica_nodes.first() == Some(&partition.leader_id),
                })
            };
            match asked.await {
                Ok(told) => return Ok(told),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits until every replica is in sync and leadership settled (it goes back to preferred
    /// leaders every 30 s), in an epoch above
    /// `above`: a node that just started tells what it knew before.
    async fn settled(&self, above: i32) -> Result<Told> {
        let mut told = None;
        for _ in 0..2_500 {
            told = self.partition().await.ok();
            match told {
                Some(told) if told.is_settled && told.epoch > above => return Ok(told),
                Some(_) | None => self.env.sleep(POLL).await,
            }
        }
        anyhow::bail!("not settled in time: {told:?}")
    }

    /// Copies of a node that were given up.
    fn discarded(&self, node: NodeId) -> usize {
        let files = self.cluster.disk(node).unwrap().files();
        let states = |path: &&String| path.starts_with("trash/") && path.ends_with("/state.0");
        files.iter().filter(states).count()
    }

    async fn until_discarded(&self, node: NodeId, count: usize) -> Result<()> {
        for _ in 0..2_500 {
            if self.discarded(node) == count {
                return Ok(());
            }
            self.env.sleep(POLL).await;
        }
        anyhow::bail!("node {node} discarded {} copies", self.discarded(node))
    }

    /// Everything is killed and started again, so that no cache hides what is on disk.
    async fn restart(&self, damaged: Option<NodeId>) {
        *self.wish.lock().unwrap() = Some(damaged);
        while self.wish.lock().unwrap().is_some() {
            self.env.sleep(POLL).await;
        }
    }

    /// The only copy there is rots: it is not thrown away, and what can be read is not
    /// passed off as everything.
    async fn keep_the_last(self, ledger: Ledger) -> Result<()> {
        let nodes = kafka_addresses(self.nodes);
        create_topic(&self.env, &nodes, TOPIC, 1, &[]).await?;
        let (env, topic) = (self.env.clone(), TOPIC.to_owned());
        idempotent_producer(env, nodes.clone(), topic, 0, VALUES, ledger.clone()).await?;
        let mut epoch = self.settled(0).await?.epoch;
        for _ in 0..2 {
            self.restart(None).await;
            epoch = self.settled(epoch).await?.epoch;
        }
        let check = || check_all(&self.env, &nodes, TOPIC, 1, &ledger);
        let flip = || {
            let disk = self.cluster.disk(NodeId(1)).unwrap();
            let files = log_files(&self.cluster, NodeId(1), ".segment");
            files
                .iter()
                .try_for_each(|path| disk.flip_bit(path, ROTTEN_AT, 3))
        };
        flip()?;
        ensure!(check().await.is_err(), "bad data was served");
        ensure!(self.discarded(NodeId(1)) == 0, "the last copy was removed");
        // The operator's remedy: the data comes back.
        flip()?;
        self.restart(None).await;
        self.settled(epoch).await?;
        check().await
    }

    /// A closed segment of a follower rots, which nobody reads.
    async fn find_unread(self, ledger: Ledger) -> Result<()> {
        let nodes = kafka_addresses(self.nodes);
        let configs = [("segment.bytes", SEGMENT_BYTES)];
        create_topic(&self.env, &nodes, TOPIC, 1, &configs).await?;
        let (env, topic) = (self.env.clone(), TOPIC.to_owned());
        idempotent_producer(env, nodes.clone(), topic, 0, VALUES, ledger.clone()).await?;
        let told = self.settled(0).await?;
        let follower = self.nodes.iter().find(|node| **node != told.leader);
        let follower = *follower.context("no follower")?;
        let segments = log_files(&self.cluster, follower, ".segment");
        ensure!(segments.len() > 2, "{segments:?}");
        let disk = self.cluster.disk(follower).unwrap();
        disk.flip_bit(&segments[1], ROTTEN_CLOSED_AT, 3)?;
        self.until_discarded(follower, 1).await?;
        self.settled(told.epoch - 1).await?;
        check_all(&self.env, &nodes, TOPIC, 1, &ledger).await
    }

    async fn make_anew(self, ledger: Ledger) -> Result<()> {
        let nodes = kafka_addresses(self.nodes);
        create_topic(&self.env, &nodes, TOPIC, 1, &[]).await?;
        let (env, topic) = (self.env.clone(), TOPIC.to_owned());
        idempotent_producer(env, nodes.clone(), topic, 0, VALUES, ledger.clone()).await?;
        let check = || check_all(&self.env, &nodes, TOPIC, 1, &ledger);
        let mut epoch = self.settled(0).await?.epoch;
        let mut damaged = None;
        for _ in 0..3 {
            self.restart(damaged).await;
            epoch = self.settled(epoch).await?.epoch;
            if let Some(node) = damaged {
                self.until_discarded(node, 2).await?;
            }
            // Again: the first start brought into the segments what the write-ahead log
            // had, and a copy made anew is in the cache.
            self.restart(None).await;
            let told = self.settled(epoch).await?;
            // From the leader's disk: if its copy was made anew before, it is whole.
            check().await?;
            let before = self.discarded(told.leader);
            let disk = self.cluster.disk(told.leader).unwrap();
            for path in log_files(&self.cluster, told.leader, ".segment") {
                disk.flip_bit(&path, ROTTEN_AT, 3)?;
            }
            check().await?;
            self.until_discarded(told.leader, before + 1).await?;
            epoch = self.settled(told.epoch).await?.epoch;
            damaged = damaged.is_none().then_some(told.leader);
        }
        check().await
    }
}

/// Files of the one log on a node's disk.
fn log_files(cluster: &Cluster, node: NodeId, ending: &str) -> Vec<String> {
    let mut files = cluster.disk(node).unwrap().files();
    files.retain(|path| path.starts_with("logs/") && path.ends_with(ending));
    files
}

/// Restarts all nodes; one finds both stored states of its log damaged.
fn restart(
    cluster: &Cluster,
    sim: &mut turmoil::Sim<'_>,
    nodes: &[NodeId],
    damaged: Option<NodeId>,
) {
    for node in nodes.iter().copied() {
        cluster.kill(sim, node).unwrap();
    }
    if let Some(node) = damaged {
        for ending in ["/state.0", "/state.1"] {
            for path in log_files(cluster, node, ending) {
                cluster.disk(node).unwrap().flip_bit(&path, 20, 1).unwrap();
            }
        }
    }
    for node in nodes.iter().copied() {
        cluster.start(sim, node).unwrap();
    }
}

type Script = fn(Client, Ledger) -> BoxFuture<'static, Result<()>>;

#[test]
fn rotten_copies_are_given_up_and_made_anew() {
    simulate(4, &NODES, |client, ledger| {
        Box::pin(client.make_anew(ledger))
    });
}

#[test]
fn rot_that_nobody_reads_is_found_by_the_scrub() {
    simulate(6, &NODES, |client, ledger| {
        Box::pin(client.find_unread(ledger))
    });
}

#[test]
fn the_last_copy_is_kept_and_serves_nothing_bad() {
    simulate(5, &NODES[..1], |client, ledger| {
        Box::pin(client.keep_the_last(ledger))
    });
}

fn simulate(seed: u64, nodes: &'static [NodeId], script: Script) {
    on_fresh_thread(move || {
        let machines = [nodes, &[CLIENT]].concat();
        let cluster = Cluster::new(seed, &machines, Trace::default()).unwrap();
        let mut sim = Cluster::builder(seed, Duration::from_secs(450)).build();
        for node in nodes.iter().copied() {
            let cluster = cluster.clone();
            sim.host(ip(node), move || {
                let mut options = node_options(node, nodes);
                options.storage.scrub_period = Duration::from_secs(2);
                let software = run_node(cluster.clone(), options);
                async move { Ok(software.await?) }
            });
        }
        let (ledger, wish) = (Ledger::default(), Wish::default());
        let ended = Arc::new(Mutex::new(None));
        let told = (
            cluster.clone(),
            ledger.clone(),
            wish.clone(),
            Arc::clone(&ended),
        );
        sim.host(ip(CLIENT), move || {
            let (cluster, ledger, wish, ended) = told.clone();
            async move {
                let env = cluster.boot(CLIENT)?.env;
                let client = Client {
                    env,
                    cluster,
                    nodes,
                    wish,
                };
                let result = script(client, ledger).await;
                *ended.lock().unwrap() = Some(result);
                std::future::pending().await
            }
        });
        while ended.lock().unwrap().is_none() {
            assert!(sim.elapsed() < Duration::from_secs(400), "not done");
            let wished = *wish.lock().unwrap();
            if let Some(damaged) = wished {
                restart(&cluster, &mut sim, nodes, damaged);
                *wish.lock().unwrap() = None;
            }
            sim.step().unwrap();
        }
        let result = ended.lock().unwrap().take().unwrap();
        result.unwrap_or_else(|error| panic!("{:?}: {error:#}", sim.elapsed()));
        assert_eq!(ledger.acknowledged_count(), 60);
        tracing::info!(elapsed = ?sim.elapsed(), "done");
    });
}
