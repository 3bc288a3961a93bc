//! A group that one node accepted gets all that is sent from then on, at partitions whose
//! leaders hear of it late, are other ones by then, or were not there.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use weir_api::queues::{GroupSettings, Receive};
use weir_api::{Acks, Api, NewTopic, QueueCallError};
use weir_base::batch::BatchBuilder;
use weir_base::{Env, NodeId, Offset, Timestamp, TopicPartition};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Three partitions led by a node each, on all; and two on one node each, the second on node 3.
const TOPICS: [(&str, u32); 2] = [("t", 3), ("single", 2)];
const WAIT: Duration = Duration::from_secs(3);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far the story has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Chapter {
    #[default]
    Begun,
    OldAreSent,
    /// Node 3 is in the state that the test wants it in.
    Prepared,
    Accepted,
    /// Node 3 is up.
    Restored,
    NewAreSent,
}

/// What was received of each partition.
type Got = BTreeMap<(&'static str, u32), BTreeSet<String>>;

#[derive(Default)]
struct Told {
    chapter: Chapter,
    got: Got,
    /// Whether nothing is on record any more.
    is_forgotten: bool,
}

#[derive(Clone, Default)]
struct Story(Arc<Mutex<Told>>);

impl Story {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }

    async fn wait(&self, env: &Env, chapter: Chapter) {
        while self.told().chapter < chapter {
            env.sleep(at(10)).await;
        }
    }
}

/// The partitions that the group is to have.
fn partitions() -> impl Iterator<Item = (&'static str, u32)> {
    let all = TOPICS.into_iter();
    all.flat_map(|(topic, partitions)| (0..partitions).map(move |index| (topic, index)))
}

async fn make_topics(env: &Env, api: &Api) {
    let [one, two, three] = NODES;
    let led_by_each = vec![
        vec![one, two, three],
        vec![two, three, one],
        vec![three, one, two],
    ];
    for (name, assignment) in [("t", led_by_each), ("single", vec![vec![one], vec![three]])] {
        while !api.cluster.image().topics.contains_key(name) {
            let topic = NewTopic {
                name: name.to_owned(),
                assignment: Some(assignment.clone()),
                ..NewTopic::default()
            };
            let made = api.admin.create_topic(topic, false, WAIT).await;
            if let Err(error) = made {
                tracing::info!(%error, "not made");
            }
            env.sleep(at(50)).await;
        }
    }
}

async fn send(env: &Env, api: &Api, value: &str) {
    for (name, index) in partitions() {
        let topic = api.cluster.image().topics[name].id;
        loop {
            // Two hours old: no partition is young.
            let time = Timestamp(api.cluster.now().0 - 7_200_000);
            let batch = BatchBuilder::new(time).record(None, Some(value.as_bytes()));
            let to = TopicPartition::new(topic, index);
            let sent = api.log.append_forwarded(to, batch.build(), Acks::All, WAIT);
            if sent.await.is_ok() {
                break;
            }
            env.sleep(at(50)).await;
        }
    }
}

async fn subscribe(api: &Api, name: &str) -> Result<GroupSettings, QueueCallError> {
    let topic = api.cluster.image().topics[name].id;
    let settings = GroupSettings::default();
    let subscribed = api.queues.subscribe(topic, "g".into(), settings, WAIT);
    subscribed.await
}

/// What the first member does, at node 1.
async fn tell(env: Env, api: Api, story: Story) {
    make_topics(&env, &api).await;
    send(&env, &api, "old").await;
    story.told().chapter = Chapter::OldAreSent;
    story.wait(&env, Chapter::Prepared).await;
    for (name, _) in TOPICS {
        while subscribe(&api, name).await.is_err() {}
    }
    story.told().chapter = Chapter::Accepted;
    story.wait(&env, Chapter::Restored).await;
    send(&env, &api, "new").await;
    story.told().chapter = Chapter::NewAreSent;
}

/// What members at every node do, who come when all is sent.
async fn listen(env: Env, api: Api, story: Story) {
    story.wait(&env, Chapter::NewAreSent).await;
    loop {
        env.sleep(at(20)).await;
        let image = api.cluster.image();
        let is_start = |key: &String| key.starts_with("queue-start/");
        story.told().is_forgotten = !image.documents.keys().any(is_start);
        for (name, index) in partitions() {
            let topic = &image.topics[name];
            let leader = topic.partitions[index as usize].leader;
            if leader != Some(api.cluster.node()) || subscribe(&api, name).await.is_err() {
                continue;
            }
            let at = TopicPartition::new(topic.id, index);
            let receive = Receive {
                group: "g".into(),
                member: "m".into(),
                batch_max: 8,
                invisible: None,
                wait: Duration::ZERO,
                filter: None,
                attempt_id: None,
                auto_renew: false,
            };
            let Ok(got) = api.queues.receive(at, receive).await else {
                continue;
            };
            let offsets = got.iter().map(|delivery| delivery.offset).collect();
            let Ok(records) = api.queues.records(at, offsets).await else {
                continue;
            };
            let values = records.into_iter().map(|record| record.unwrap().value);
            let values = values.map(|value| String::from_utf8(value.unwrap().into()).unwrap());
            story
                .told()
                .got
                .entry((name, index))
                .or_default()
                .extend(values);
        }
    }
}

/// Runs the story; `is_down`: node 3 is dead while the group is accepted.
fn simulate(seed: u64, is_down: bool) -> Got {
    let cluster = Cluster::new(seed, &NODES, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(120_000)).build();
    let story = Story::default();
    for node in NODES {
        let (cluster, story) = (cluster.clone(), story.clone());
        sim.host(ip(node), move || {
            let story = story.clone();
            let options = node_options(node, &NODES);
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                let listening = listen(env.clone(), api.clone(), story.clone());
                env.tasks.spawn("listen", listening);
                if node == NodeId(1) {
                    env.tasks.spawn("tell", tell(env.clone(), api, story));
                }
            });
            async move { Ok(software.await?) }
        });
    }
    let three = NODES[2];
    let mut settled = None;
    loop {
        let chapter = story.told().chapter;
        let in_time = sim.elapsed() < at(100_000);
        assert!(in_time, "seed {seed}: not done, but {chapter:?}");
        match chapter {
            Chapter::OldAreSent => {
                if is_down {
                    cluster.kill(&mut sim, three).unwrap();
                }
                story.told().chapter = Chapter::Prepared;
            }
            Chapter::Accepted => {
                if is_down {
                    cluster.start(&mut sim, three).unwrap();
                }
                story.told().chapter = Chapter::Restored;
            }
            Chapter::Begun | Chapter::Prepared | Chapter::Restored | Chapter::NewAreSent => {}
        }
        sim.step().unwrap();
        let told = story.told();
        let all = told.got.values().filter(|got| got.contains("new")).count();
        if settled.is_none() && all == partitions().count() && told.is_forgotten {
            // What comes too much comes now.
            settled = Some(sim.elapsed() + at(2_000));
        }
        if settled.is_some_and(|settled| settled < sim.elapsed()) {
            return told.got.clone();
        }
    }
}

fn check(seed: u64, is_down: bool) {
    let got = on_fresh_thread(move || simulate(seed, is_down));
    let new: BTreeSet<String> = ["new".to_owned()].into();
    let expected: Got = partitions().map(|at| (at, new.clone())).collect();
    assert_eq!(got, expected, "seed {seed}");
}

#[test]
fn leaders_that_hear_of_a_group_late_begin_it_where_it_was_accepted() {
    for seed in 1..4 {
        check(seed, false);
    }
}

#[test]
fn a_group_begins_behind_the_last_epoch_of_a_partition_that_nobody_led() {
    for seed in 4..7 {
        check(seed, true);
    }
}

/// What an operator gave a group at the one partition that it was made on: node 3 leads it.
fn given() -> GroupSettings {
    GroupSettings {
        attempts_max: 3,
        fifo: true,
        ..GroupSettings::default()
    }
}

/// What node 2, which leads nothing of the topic, and node 1, where the group is made later,
/// say of its settings.
async fn ask(env: Env, api: Api, asked: Arc<Mutex<BTreeMap<NodeId, GroupSettings>>>) {
    let [one, two, three] = NODES;
    let node = api.cluster.node();
    if node == one {
        make_topics(&env, &api).await;
    }
    let topic = loop {
        env.sleep(at(50)).await;
        if let Some(topic) = api.cluster.image().topics.get("single") {
            break topic.id;
        }
    };
    let (first, second) = (TopicPartition::new(topic, 0), TopicPartition::new(topic, 1));
    if node == three {
        let (queues, group) = (&api.queues, || "g".into());
        while queues
            .ensure_group(second, group(), given(), Offset(0), true)
            .await
            .is_err()
        {
            env.sleep(at(50)).await;
        }
        asked.lock().unwrap().insert(three, given());
        return;
    }
    // Each in its turn: first who leads nothing.
    let before = if node == two { three } else { two };
    while !asked.lock().unwrap().contains_key(&before) {
        env.sleep(at(10)).await;
    }
    let mut told = loop {
        if let Ok(settings) = subscribe(&api, "single").await {
            break settings;
        }
    };
    if node == one {
        told = api.queues.list_groups(first).await.unwrap()[0]
            .settings
            .clone();
    }
    asked.lock().unwrap().insert(node, told);
}

#[test]
fn every_node_tells_a_groups_own_settings_and_makes_it_with_them() {
    let told = on_fresh_thread(|| {
        let cluster = Cluster::new(7, &NODES, Trace::new()).unwrap();
        let mut sim = Cluster::builder(7, at(120_000)).build();
        let asked = Arc::default();
        for node in NODES {
            let (cluster, asked) = (cluster.clone(), Arc::clone(&asked));
            sim.host(ip(node), move || {
                let asked = Arc::clone(&asked);
                let options = node_options(node, &NODES);
                let software = run_node_with(cluster.clone(), options, move |env, api| {
                    env.tasks.spawn("ask", ask(env.clone(), api, asked));
                });
                async move { Ok(software.await?) }
            });
        }
        while asked.lock().unwrap().len() < NODES.len() {
            assert!(sim.elapsed() < at(60_000), "only {asked:?}");
            sim.step().unwrap();
        }
        asked.lock().unwrap().clone()
    });
    let expected: BTreeMap<NodeId, GroupSettings> = NODES.map(|node| (node, given())).into();
    assert_eq!(told, expected);
}
