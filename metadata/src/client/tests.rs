//! Whole nodes over the toy network: three voters and an observer, paused time.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::image::{NodeRecord, NodeState};
use weir_base::{PartitionEpoch, TopicPartition};

use super::*;
use crate::ask::{ConfigChange, ConfigOp, ConfigResource, NewTopic};
use crate::invariants::check_image;
use crate::testing::disk::MemoryDisk;
use crate::testing::net::ToyNet;
use crate::testing::world::{Process, env};

const VOTERS: [u32; 3] = [1, 2, 3];
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    process: Arc<Process>,
    metadata: Metadata,
}

struct Cluster {
    net: ToyNet,
    disks: BTreeMap<u32, MemoryDisk>,
    nodes: BTreeMap<u32, Node>,
}

#[expect(clippy::disallowed_methods, reason = "paused test time")]
async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[expect(clippy::disallowed_methods, reason = "paused test time")]
fn clock() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

impl Cluster {
    /// Voters 1 to 3 and observers up to `nodes`, all registered and let in.
    async fn start(nodes: u32) -> Self {
        let mut cluster = Self {
            net: ToyNet::default(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        for id in 1..=nodes {
            cluster.boot(id, StartKind::Clean).await;
        }
        for id in 1..=nodes {
            cluster.on(id).register().await.unwrap();
        }
        let all = usize::try_from(nodes).unwrap();
        cluster
            .wait(|image| {
                let active = image.nodes.values().filter(|n| n.is_active());
                active.count() == all
            })
            .await;
        cluster
    }

    async fn boot(&mut self, id: u32, start_kind: StartKind) {
        let disk = self.disks.entry(id).or_default().clone();
        let storage = Uuid([u8::try_from(id).unwrap(); 16]);
        let (metadata, process) = self.launch(id, &disk, storage, start_kind).await;
        self.nodes.insert(id, Node { process, metadata });
    }

    async fn launch(
        &self,
        id: u32,
        disk: &MemoryDisk,
        storage: Uuid,
        start_kind: StartKind,
    ) -> (Metadata, Arc<Process>) {
        let process = Arc::new(Process::default());
        let seed = u8::try_from(id).unwrap();
        let env = env(seed, disk, &process, Some(self.net.tcp(id)));
        let facts = NodeFacts {
            id: NodeId(id),
            name: format!("n{id}"),
            storage,
            peer_address: format!("127.0.0.1:{}", 7000 + id),
            endpoints: BTreeMap::new(),
            rack: None,
            start_kind,
        };
        let voters = VOTERS
            .iter()
            .map(|id| (NodeId(*id), format!("127.0.0.1:{}", 7000 + id)))
            .collect();
        let peers = self.net.client(id);
        // As the links do in a whole node, for their tethers.
        let port = u16::try_from(7000 + id).unwrap();
        let listener = env.net.listen(([127, 0, 0, 1], port).into()).await.unwrap();
        env.tasks.spawn("control-port", async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        let (metadata, services) =
            Metadata::start(env, peers, facts, voters, MetadataOptions::default())
                .await
                .unwrap();
        for (service, by) in services {
            self.net.register(id, service, by);
        }
        (metadata, process)
    }

    fn on(&self, id: u32) -> &Metadata {
        &self.nodes[&id].metadata
    }

    /// `kill -9`: tasks end, ports close, memory is gone; the page cache stays.
    fn kill(&mut self, id: u32) {
        let node = self.nodes.remove(&id).unwrap();
        self.net.remove(id);
        node.process.kill();
    }

    /// Until every live node's image is as wanted; how long that took.
    async fn wait(&self, wanted: impl Fn(&ClusterImage) -> bool) -> Duration {
        let from = clock();
        for _ in 0..20_000 {
            if self.nodes.values().all(|n| wanted(&n.metadata.image())) {
                for node in self.nodes.values() {
                    check_image(&node.metadata.image()).unwrap();
                }
                return clock() - from;
            }
            pause(1).await;
        }
        let images: Vec<_> = self.nodes.values().map(|n| n.metadata.image()).collect();
        panic!("not within 20 s: {images:#?}");
    }

    fn controller(&self) -> u32 {
        let known = self.nodes.values().next().unwrap().metadata.controller();
        known.unwrap().0
    }

    async fn topic(&self, from: u32, name: &str, partitions: u32) -> TopicId {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        self.on(from)
            .create_topic(topic, false, SECOND)
            .await
            .unwrap()
    }
}

use weir_base::TopicId;

mod nemesis;

fn led(image: &ClusterImage, by: u32) -> usize {
    let leads = |p: &weir_base::image::PartitionRecord| p.leader == Some(NodeId(by));
    image.partitions().filter(|(_, p)| leads(p)).count()
}

fn leaderless(image: &ClusterImage) -> usize {
    image
        .partitions()
        .filter(|(_, p)| p.leader.is_none())
        .count()
}

#[tokio::test(start_paused = true)]
async fn any_node_can_make_a_topic_and_every_node_sees_it() {
    let cluster = Cluster::start(4).await;
    assert!(cluster.on(4).image().cluster_id.is_some());
    // From an observer: answered when it is applied there.
    let id = cluster.topic(4, "orders", 4).await;
    let image = cluster.on(4).image();
    assert_eq!(image.topic(id).unwrap().partitions.len(), 4);
    let took = cluster.wait(|image| image.topic(id).is_some()).await;
    assert!(
        took < Duration::from_millis(20),
        "pushed, not polled: {took:?}"
    );
    let again = NewTopic {
        name: "orders".to_owned(),
        ..NewTopic::default()
    };
    assert_eq!(
        cluster.on(2).create_topic(again, false, SECOND).await,
        Err(MetadataError::Refused(Refusal::TopicExists(
            "orders".to_owned()
        )))
    );
    let check = NewTopic {
        name: "only-checked".to_owned(),
        ..NewTopic::default()
    };
    cluster
        .on(2)
        .create_topic(check, true, SECOND)
        .await
        .unwrap();
    assert!(!cluster.on(2).image().topics.contains_key("only-checked"));
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_while_the_cluster_forms_gets_all_its_copies() {
    let mut cluster = Cluster {
        net: ToyNet::default(),
        disks: BTreeMap::new(),
        nodes: BTreeMap::new(),
    };
    for id in VOTERS {
        cluster.boot(id, StartKind::Clean).await;
    }
    cluster.on(1).register().await.unwrap();
    let topic = NewTopic {
        name: "early".to_owned(),
        ..NewTopic::default()
    };
    let early = cluster.on(1).create_topic(topic, false, SECOND).await;
    assert!(
        matches!(&early, Err(MetadataError::Unavailable(why)) if why.contains("voter 2")),
        "{early:?}"
    );
    for id in [2, 3] {
        cluster.on(id).register().await.unwrap();
    }
    let id = cluster.topic(1, "early", 1).await;
    let image = cluster.on(1).image();
    assert_eq!(image.topic(id).unwrap().partitions[0].replicas.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_other_admin_calls_work_from_an_observer() {
    let cluster = Cluster::start(4).await;
    let on = cluster.on(4);
    let id = cluster.topic(1, "t", 1).await;
    on.create_partitions("t".to_owned(), 3, None, false, SECOND)
        .await
        .unwrap();
    let change = ConfigChange {
        key: "retention.ms".to_owned(),
        op: ConfigOp::Set("1000".to_owned()),
    };
    let resource = ConfigResource::Topic("t".to_owned());
    on.alter_configs(resource, vec![change], false, false, SECOND)
        .await
        .unwrap();
    let topic = on.image().topic(id).unwrap().clone();
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(topic.configs["retention.ms"], "1000");
    let first = on.allocate_producer_ids().await.unwrap();
    let second = cluster.on(1).allocate_producer_ids().await.unwrap();
    assert_eq!(first.end, second.start);
    let version = on
        .put_document("a/b".to_owned(), None, vec![1], SECOND)
        .await
        .unwrap();
    assert!(matches!(
        on.put_document("a/b".to_owned(), None, vec![2], SECOND)
            .await,
        Err(MetadataError::Refused(Refusal::VersionConflict { .. }))
    ));
    on.delete_document("a/b".to_owned(), version, SECOND)
        .await
        .unwrap();
    let at = TopicPartition::new(id, 0);
    assert_eq!(
        on.elect_preferred(at, SECOND).await,
        Err(MetadataError::Refused(Refusal::ElectionNotNeeded))
    );
    on.delete_topic(id, SECOND).await.unwrap();
    assert!(on.image().topics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_at_once() {
    let mut cluster = Cluster::start(4).await;
    cluster.topic(1, "t", 40).await;
    let victim = (1..=4).find(|id| *id != cluster.controller()).unwrap();
    assert!(led(&cluster.on(1).image(), victim) > 5);
    cluster.kill(victim);
    let took = cluster
        .wait(|image| led(image, victim) == 0 && leaderless(image) == 0)
        .await;
    assert!(took < Duration::from_millis(200), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_controller_costs_no_more_than_another_leader() {
    let mut cluster = Cluster::start(4).await;
    cluster.topic(1, "t", 40).await;
    let mut victim = cluster.controller();
    for life in 0..6 {
        if life > 0 {
            cluster.boot(victim, StartKind::SameBoot).await;
            cluster.on(victim).register().await.unwrap();
            cluster
                .wait(|image| image.nodes.values().all(NodeRecord::is_active))
                .await;
            // Now and then in the midst of a heartbeat, and of the others' patience.
            pause(317 * life).await;
            victim = cluster.controller();
        }
        cluster.kill(victim);
        let took = cluster
            .wait(|image| {
                let gone = !image.nodes[&NodeId(victim)].is_active();
                gone && led(image, victim) == 0 && leaderless(image) == 0
            })
            .await;
        // Who was just started looks after the others' processes a little later.
        assert!(took < Duration::from_millis(300), "{victim}: {took:?}");
    }
    // Sessions were rebuilt: nobody else was fenced, then or later.
    pause(5000).await;
    let image = cluster.nodes.values().next().unwrap().metadata.image();
    for (id, node) in &image.nodes {
        assert_eq!(node.is_active(), id.0 != victim, "node {id}");
    }
    for node in cluster.nodes.values() {
        assert!(node.metadata.health().is_healthy);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_fenced_after_its_session_and_comes_back() {
    let cluster = Cluster::start(4).await;
    cluster.topic(1, "t", 8).await;
    let all = [1, 2, 3, 4];
    let victim = (1..=4).find(|id| *id != cluster.controller()).unwrap();
    let rest: Vec<u32> = all.into_iter().filter(|id| *id != victim).collect();
    cluster.net.isolate(&[victim], &all);
    let lease = cluster.on(victim).lease_until().unwrap();
    let from = clock();
    let fenced = |image: &ClusterImage| !image.nodes[&NodeId(victim)].is_active();
    while !rest.iter().all(|id| fenced(&cluster.on(*id).image())) {
        pause(10).await;
        assert!(clock() - from < Duration::from_secs(3));
    }
    let took = clock() - from;
    assert!(
        took > Duration::from_millis(1000),
        "silence proves nothing: {took:?}"
    );
    let inner = cluster.on(victim).inner();
    assert!(
        inner.env.clock.now() > lease,
        "I10: the lease ended before the fence"
    );
    assert_eq!(leaderless(&cluster.on(rest[0]).image()), 0);
    cluster.net.heal();
    cluster
        .wait(|image| image.nodes.values().all(|n| n.is_active()))
        .await;
    assert_eq!(
        cluster.on(victim).image().nodes[&NodeId(victim)].epoch,
        cluster.on(victim).epoch().unwrap(),
        "the same boot"
    );
}

/// What it is for is in that image: the node may have been fenced in it, and believe to lead.
#[tokio::test(start_paused = true)]
async fn a_lease_comes_with_the_image_it_was_granted_on() {
    let cluster = Cluster::start(4).await;
    let observer = 4;
    let controller = cluster.controller();
    let others: Vec<u32> = VOTERS.into_iter().filter(|id| *id != controller).collect();
    cluster.net.isolate(&[observer], &VOTERS);
    let fenced = |id: u32| !cluster.on(id).image().nodes[&NodeId(observer)].is_active();
    let from = clock();
    while !fenced(controller) {
        pause(1).await;
        assert!(clock() - from < 5 * SECOND);
    }
    let granted_on = cluster.on(controller).image().version;
    // Its heartbeats come through at once; for the log it asks the others first.
    cluster.net.heal();
    cluster.net.isolate(&[observer], &others);
    let node = cluster.on(observer);
    while node.lease_until().unwrap() < node.inner().env.clock.now() {
        pause(1).await;
        assert!(clock() - from < 10 * SECOND);
    }
    let known = node.image().version;
    assert!(known >= granted_on, "{known} < {granted_on}");
}

#[tokio::test(start_paused = true)]
async fn a_controller_whose_group_stops_ends_and_another_takes_over() {
    let mut cluster = Cluster::start(3).await;
    let first = cluster.controller();
    // Not killed: its tasks stay, and must neither spin nor go on in office.
    cluster.on(first).shutdown().await;
    let stopped = cluster.nodes.remove(&first).unwrap();
    let from = clock();
    let elsewhere = |node: &Node| node.metadata.controller().is_some_and(|id| id.0 != first);
    while !cluster.nodes.values().all(elsewhere) {
        pause(1).await;
        assert!(clock() - from < 5 * SECOND);
    }
    drop(stopped);
}

#[tokio::test(start_paused = true)]
async fn a_controller_without_its_majority_grants_no_lease_not_even_to_itself() {
    let cluster = Cluster::start(4).await;
    cluster.topic(1, "t", 8).await;
    let all = [1, 2, 3, 4];
    let first = cluster.controller();
    let rest: Vec<u32> = all.into_iter().filter(|id| *id != first).collect();
    cluster.net.isolate(&[first], &all);
    let from = clock();
    let active = |id: u32| cluster.on(id).image().nodes[&NodeId(first)].is_active();
    while rest.iter().any(|id| active(*id)) {
        pause(1).await;
        assert!(clock() - from < Duration::from_secs(10));
    }
    let lease = cluster.on(first).lease_until().unwrap();
    let now = cluster.on(first).inner().env.clock.now();
    assert!(lease < now, "I10: fenced with a lease of {:?}", lease - now);
}

/// Voters that restart forget what they granted the controller, and elect another at once.
#[tokio::test(start_paused = true)]
async fn no_lease_of_a_former_controller_outlasts_the_session_its_successor_waits_for() {
    for phase in (0..1000).step_by(125) {
        let mut cluster = Cluster::start(4).await;
        let first = cluster.controller();
        let mut others = VOTERS.into_iter().filter(|id| *id != first);
        let (forgetful, next) = (others.next().unwrap(), others.next().unwrap());
        // The next one stands for election for a while: another still has the first's word.
        cluster.net.isolate(&[next], &[first, 4]);
        pause(3000 + phase).await;
        cluster.net.heal();
        cluster.net.isolate(&[first, 4], &[1, 2, 3, 4]);
        cluster.kill(forgetful);
        cluster.boot(forgetful, StartKind::SameBoot).await;
        let from = clock();
        let active = |id: u32| cluster.on(next).image().nodes[&NodeId(id)].is_active();
        while active(4) {
            pause(1).await;
            assert!(clock() - from < Duration::from_secs(10));
        }
        for id in [first, 4] {
            let lease = cluster.on(id).lease_until().unwrap();
            let now = cluster.on(id).inner().env.clock.now();
            assert!(
                lease < now,
                "I10: node {id} is fenced with a lease of {:?} after {:?}, phase {phase}",
                lease - now,
                clock() - from
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_answers_nothing_and_the_majority_goes_on() {
    let cluster = Cluster::start(3).await;
    let old = cluster.controller();
    cluster.net.isolate(&[old], &VOTERS);
    let topic = NewTopic {
        name: "lost".to_owned(),
        ..NewTopic::default()
    };
    let refused = cluster.on(old).create_topic(topic, false, SECOND).await;
    assert!(
        matches!(refused, Err(MetadataError::TimedOut(_))),
        "{refused:?}"
    );
    pause(3000).await;
    let other = VOTERS.into_iter().find(|id| *id != old).unwrap();
    cluster.topic(other, "kept", 1).await;
    cluster.net.heal();
    cluster
        .wait(|image| image.topics.contains_key("kept"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_leads_nothing_and_leaves_without_a_gap() {
    let cluster = Cluster::start(3).await;
    cluster.topic(1, "t", 12).await;
    let victim = 2;
    assert_eq!(cluster.on(victim).drain(SECOND).await, Ok(0));
    let image = cluster.on(victim).image();
    assert_eq!(image.nodes[&NodeId(victim)].state, NodeState::Draining);
    assert_eq!(leaderless(&image), 0);
    assert!(image.partitions().all(|(_, p)| p.isr.len() == 3));
    cluster.on(victim).leave(SECOND).await.unwrap();
    pause(3000).await;
    let image = cluster.on(1).image();
    assert_eq!(image.nodes[&NodeId(victim)].state, NodeState::Fenced);
    assert!(image.partitions().all(|(_, p)| p.isr.len() == 2));
}

/// Whenever it leaves: a heartbeat may be under way.
#[tokio::test(start_paused = true)]
async fn a_node_that_left_takes_no_lease_from_a_late_answer() {
    let cluster = Cluster::start(3).await;
    let victim = VOTERS
        .into_iter()
        .find(|id| *id != cluster.controller())
        .unwrap();
    let node = cluster.on(victim);
    let before = node.lease_until();
    while node.lease_until() == before {
        pause(1).await;
    }
    let options = &node.inner().options;
    let sent = node.lock().lease.unwrap();
    let next = sent + options.heartbeat + Duration::from_millis(1);
    node.inner().env.clock.sleep_until(next).await;
    let left = node.leave(SECOND);
    let (left, ()) = tokio::join!(left, pause(100));
    left.unwrap();
    assert_eq!(node.lease_until(), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_stalls_leads_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.topic(1, "t", 12).await;
    let slow = 3;
    assert!(led(&cluster.on(1).image(), slow) > 0);
    let stalled = DiskFacts {
        fsync_age: Duration::from_secs(6),
        ..DiskFacts::default()
    };
    cluster.on(slow).report_disk(stalled);
    let took = cluster.wait(|image| led(image, slow) == 0).await;
    assert!(took < SECOND, "{took:?}");
    // It follows on, and peace-time rebalancing gives it nothing.
    pause(65_000).await;
    let image = cluster.on(1).image();
    assert_eq!(led(&image, slow), 0);
    assert!(image.nodes[&NodeId(slow)].is_active());
    cluster.on(slow).report_disk(DiskFacts::default());
    pause(65_000).await;
    assert!(led(&cluster.on(1).image(), slow) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_slower_than_the_others_leads_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.topic(1, "t", 12).await;
    let p99 = |millis: u64| DiskFacts {
        fsync_p99: Some(Duration::from_millis(millis)),
        ..DiskFacts::default()
    };
    for node in VOTERS {
        cluster.on(node).report_disk(p99(80));
    }
    // Where all are slow, nobody is.
    pause(30_000).await;
    let slow = 3;
    assert!(led(&cluster.on(1).image(), slow) > 0);
    for node in VOTERS.into_iter().filter(|node| *node != slow) {
        cluster.on(node).report_disk(p99(2));
    }
    let took = cluster.wait(|image| led(image, slow) == 0).await;
    let lasting = Duration::from_secs(10);
    assert!(
        took > lasting - SECOND && took < lasting + SECOND,
        "{took:?}"
    );
    // It follows on, and peace-time rebalancing gives it nothing.
    pause(65_000).await;
    let image = cluster.on(1).image();
    assert_eq!(led(&image, slow), 0);
    assert!(image.nodes[&NodeId(slow)].is_active());
    cluster.on(slow).report_disk(p99(2));
    pause(65_000).await;
    assert!(led(&cluster.on(1).image(), slow) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_still_reads_its_journals_is_given_nothing_back() {
    let cluster = Cluster::start(3).await;
    cluster.topic(1, "t", 12).await;
    let reader = 3;
    cluster.on(reader).report_disk(DiskFacts {
        fsync_age: Duration::from_secs(6),
        ..DiskFacts::default()
    });
    cluster.wait(|image| led(image, reader) == 0).await;
    cluster.on(reader).report_disk(DiskFacts {
        reads_journals: true,
        ..DiskFacts::default()
    });
    pause(65_000).await;
    assert_eq!(led(&cluster.on(1).image(), reader), 0);
    cluster.on(reader).report_disk(DiskFacts::default());
    pause(65_000).await;
    assert!(led(&cluster.on(1).image(), reader) > 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_led_goes_to_one_that_reads_no_journals() {
    let mut cluster = Cluster::start(3).await;
    let controller = cluster.controller();
    let mut others = VOTERS.into_iter().filter(|id| *id != controller);
    let (reader, dead) = (others.next().unwrap(), others.next().unwrap());
    let topic = NewTopic {
        name: "t".to_owned(),
        assignment: Some(vec![[dead, reader, controller].map(NodeId).to_vec()]),
        ..NewTopic::default()
    };
    let on = cluster.on(controller);
    on.create_topic(topic, false, SECOND).await.unwrap();
    cluster.on(reader).report_disk(DiskFacts {
        reads_journals: true,
        ..DiskFacts::default()
    });
    pause(2_000).await;
    cluster.kill(dead);
    cluster.wait(|image| led(image, dead) == 0).await;
    let image = cluster.on(controller).image();
    assert_eq!([led(&image, reader), led(&image, controller)], [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_leaders_isr_proposal_is_agreed_or_refused() {
    let cluster = Cluster::start(3).await;
    let id = cluster.topic(1, "t", 1).await;
    let at = TopicPartition::new(id, 0);
    let image = cluster.on(1).image();
    let record = image.partition(at).unwrap();
    let leader = record.leader.unwrap();
    let change = IsrChange {
        at,
        leader_epoch: record.leader_epoch,
        partition_epoch: record.partition_epoch,
        isr: vec![(leader, image.nodes[&leader].epoch)],
    };
    let agreed = cluster.on(leader.0).alter_partition(change.clone()).await;
    let agreed = agreed.unwrap();
    assert_eq!((agreed.isr.clone(), agreed.elr.len()), (vec![leader], 2));
    assert_eq!(
        cluster.on(leader.0).image().partition(at),
        Some(&agreed),
        "answered when it is applied here"
    );
    let mut stale = change.clone();
    stale.partition_epoch = PartitionEpoch(7);
    stale.isr = Vec::new();
    assert!(matches!(
        cluster.on(leader.0).alter_partition(stale).await,
        Err(MetadataError::Refused(Refusal::StalePartitionEpoch { .. }))
    ));
    let other = VOTERS.into_iter().find(|id| *id != leader.0).unwrap();
    assert!(matches!(
        cluster.on(other).alter_partition(change).await,
        Err(MetadataError::Refused(Refusal::NotLeader { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_move_ends_by_itself_when_the_new_replica_is_in_sync() {
    let cluster = Cluster::start(4).await;
    let topic = NewTopic {
        name: "t".to_owned(),
        assignment: Some(vec![vec![NodeId(1), NodeId(2)]]),
        ..NewTopic::default()
    };
    let id = cluster
        .on(3)
        .create_topic(topic, false, SECOND)
        .await
        .unwrap();
    let at = TopicPartition::new(id, 0);
    let target = vec![NodeId(4), NodeId(2)];
    cluster
        .on(3)
        .reassign(at, Some(target.clone()), SECOND)
        .await
        .unwrap();
    let image = cluster.on(1).image();
    let record = image.partition(at).unwrap();
    assert_eq!(record.adding, [NodeId(4)]);
    let change = IsrChange {
        at,
        leader_epoch: record.leader_epoch,
        partition_epoch: record.partition_epoch,
        isr: [1, 2, 4]
            .map(|id| (NodeId(id), image.nodes[&NodeId(id)].epoch))
            .to_vec(),
    };
    cluster.on(1).alter_partition(change).await.unwrap();
    cluster
        .wait(|image| {
            let record = image.partition(at).unwrap();
            let held: Vec<NodeId> = record.replicas.iter().map(|r| r.node).collect();
            held == target && record.leader == Some(NodeId(4))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_crashed_node_comes_back_under_a_new_epoch_and_keeps_its_place() {
    let mut cluster = Cluster::start(3).await;
    let topic = NewTopic {
        name: "t".to_owned(),
        configs: [("weir.flush".to_owned(), "async".to_owned())].into(),
        ..NewTopic::default()
    };
    let id = cluster
        .on(1)
        .create_topic(topic, false, SECOND)
        .await
        .unwrap();
    let at = TopicPartition::new(id, 0);
    let before = cluster.on(1).epoch().unwrap();
    // All processes die, the machines do not: whoever was last in sync may lead.
    for id in VOTERS {
        cluster.kill(id);
    }
    for id in VOTERS {
        cluster.boot(id, StartKind::SameBoot).await;
    }
    for id in VOTERS {
        cluster.on(id).register().await.unwrap();
    }
    cluster
        .wait(|image| {
            image.nodes.values().all(|n| n.is_active())
                && image.partition(at).is_some_and(|p| p.leader.is_some())
        })
        .await;
    assert!(cluster.on(1).epoch().unwrap() > before);
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_is_told_to_take_a_new_id() {
    let mut cluster = Cluster::start(4).await;
    cluster.kill(4);
    let disk = MemoryDisk::default();
    let storage = Uuid([44; 16]);
    let (metadata, _process) = cluster.launch(4, &disk, storage, StartKind::Clean).await;
    let refused = metadata.register().await.unwrap_err();
    assert!(
        matches!(
            &refused,
            MetadataError::Refused(Refusal::StorageMismatch { .. })
        ),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn gossip_alone_changes_no_image() {
    let cluster = Cluster::start(3).await;
    let before = cluster.on(1).image();
    // Everyone hears that node 2 is down, from everyone.
    for _ in 0..5 {
        for id in VOTERS {
            cluster.on(id).suspect(NodeId(2));
        }
        pause(200).await;
    }
    let after = cluster.on(1).image();
    assert_eq!(
        (&after.nodes, &after.topics),
        (&before.nodes, &before.topics)
    );
}
