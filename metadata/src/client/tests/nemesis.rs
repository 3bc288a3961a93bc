//! Random faults over whole nodes, then none: what was acknowledged is there, what was
//! refused is not, every node's image is a prefix of one history (I15), and the cluster
//! heals. The same seed gives the same history twice.

use std::sync::Mutex as StdMutex;

use weir_base::Entropy;

use super::*;
use crate::invariants::check_step;

const NODES: u32 = 5;

#[derive(Default)]
struct Oracle {
    /// Bytes of the image at each version, whoever showed it.
    history: BTreeMap<u64, u32>,
    last: BTreeMap<u32, Arc<ClusterImage>>,
    acked: BTreeSet<String>,
    refused: BTreeSet<String>,
    trace: Vec<(u128, u32, u64)>,
}

impl Oracle {
    fn see(&mut self, at: u128, node: u32, image: &Arc<ClusterImage>) {
        if self.last.get(&node).is_some_and(|l| Arc::ptr_eq(l, image)) {
            return;
        }
        check_image(image).unwrap();
        let sum = crc32c::crc32c(&postcard::to_stdvec(&**image).unwrap());
        let known = *self.history.entry(image.version).or_insert(sum);
        assert_eq!(known, sum, "I15: two images of version {}", image.version);
        if let Some(before) = self.last.insert(node, image.clone()) {
            check_step(&before, image).unwrap();
        }
        self.trace.push((at, node, image.version));
    }
}

async fn chaos(seed: u8, steps: u32) -> Vec<(u128, u32, u64)> {
    let start = clock();
    let dice = Entropy::from_seed([seed; 32]);
    let roll = |n: u64| u32::try_from(dice.below(n)).unwrap();
    let oracle = Arc::new(StdMutex::new(Oracle::default()));
    let mut cluster = Cluster::start(NODES).await;
    let all: Vec<u32> = (1..=NODES).collect();
    for step in 0..steps {
        match roll(10) {
            0 | 1 => {
                let alive: Vec<u32> = cluster.nodes.keys().copied().collect();
                if let Some(id) = alive.get(usize::try_from(roll(5)).unwrap()) {
                    cluster.kill(*id);
                    oracle.lock().unwrap().last.remove(id);
                    if roll(2) == 0 {
                        cluster.disks[id].crash();
                    }
                }
            }
            2..=4 => {
                let dead = all.iter().find(|id| !cluster.nodes.contains_key(id));
                if let Some(id) = dead.copied() {
                    boot(&mut cluster, id).await;
                }
            }
            5 => cluster.net.isolate(&[1 + roll(5)], &all),
            6 => cluster.net.isolate(&[1 + roll(5), 1 + roll(5)], &all),
            7 => cluster.net.heal(),
            _ => ask(&cluster, &oracle, &roll, step, Kind::Topic),
        }
        ask(&cluster, &oracle, &roll, step, Kind::Document);
        for _ in 0..1 + roll(40) {
            pause(10).await;
            look(&cluster, &oracle, start);
        }
    }
    // Peace.
    cluster.net.heal();
    for id in all {
        if !cluster.nodes.contains_key(&id) {
            boot(&mut cluster, id).await;
        }
    }
    let took = cluster
        .wait(|image| {
            let active = image.nodes.values().filter(|n| n.is_active());
            active.count() == 5 && leaderless(image) == 0
        })
        .await;
    assert!(took < Duration::from_secs(10), "healed only after {took:?}");
    pause(3000).await;
    look(&cluster, &oracle, start);
    let oracle = oracle.lock().unwrap();
    let image = cluster.on(1).image();
    let there = |name: &String| {
        image.documents.contains_key(name) || image.topics.contains_key(name.as_str())
    };
    for name in &oracle.acked {
        assert!(there(name), "acknowledged and lost: {name}");
    }
    for name in &oracle.refused {
        assert!(!there(name), "'definitely not done', and there: {name}");
    }
    assert!(
        oracle.acked.len() > 2,
        "the run did nothing: {:?}",
        oracle.acked
    );
    oracle.trace.clone()
}

async fn boot(cluster: &mut Cluster, id: u32) {
    cluster.boot(id, StartKind::SameBoot).await;
    let metadata = cluster.on(id).clone();
    let tasks = metadata.inner().env.tasks.clone();
    tasks.spawn("test-register", async move {
        metadata.register().await.unwrap();
    });
}

fn look(cluster: &Cluster, oracle: &StdMutex<Oracle>, start: tokio::time::Instant) {
    let at = (clock() - start).as_millis();
    for (id, node) in &cluster.nodes {
        oracle.lock().unwrap().see(at, *id, &node.metadata.image());
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Topic,
    Document,
}

fn ask(
    cluster: &Cluster,
    oracle: &Arc<StdMutex<Oracle>>,
    roll: &impl Fn(u64) -> u32,
    step: u32,
    kind: Kind,
) {
    let alive: Vec<u32> = cluster.nodes.keys().copied().collect();
    let Some(id) = alive.get(usize::try_from(roll(5)).unwrap()) else {
        return;
    };
    let metadata = cluster.on(*id).clone();
    let oracle = oracle.clone();
    let timeout = Duration::from_millis(300 + u64::from(roll(3000)));
    let tasks = metadata.inner().env.tasks.clone();
    tasks.spawn("test-ask", async move {
        let (name, result) = match kind {
            Kind::Document => {
                let key = format!("test/{step}");
                let put = metadata.put_document(key.clone(), None, vec![7], timeout);
                (key, put.await.map(drop))
            }
            Kind::Topic => {
                let topic = NewTopic {
                    name: format!("t{step}"),
                    partitions: Some(3),
                    ..NewTopic::default()
                };
                let name = topic.name.clone();
                let made = metadata.create_topic(topic, false, timeout).await;
                (name, made.map(drop))
            }
        };
        let mut oracle = oracle.lock().unwrap();
        match result {
            Ok(()) => oracle.acked.insert(name),
            Err(MetadataError::TimedOut(_)) => false,
            Err(
                MetadataError::Refused(_) | MetadataError::Unavailable(_) | MetadataError::Start(_),
            ) => oracle.refused.insert(name),
        };
    });
}

fn run(seed: u8, steps: u32) -> Vec<(u128, u32, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&[seed]))
        .build()
        .unwrap();
    runtime.block_on(chaos(seed, steps))
}

#[test]
fn whatever_fails_the_history_is_one_and_nothing_acknowledged_is_lost() {
    for seed in 1..=8 {
        run(seed, 60);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let first = run(42, 40);
    assert_eq!(first, run(42, 40));
    assert_ne!(first, run(43, 40));
}
