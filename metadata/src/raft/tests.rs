//! Three voters over a toy network on paused time.

use std::time::Duration;

use super::*;
use crate::command::{Command, Outcome};
use crate::testing::disk::MemoryDisk;
use crate::testing::net::ToyNet;
use crate::testing::world::{Process, env};
use weir_peer::Service;

const ALL: [u32; 3] = [1, 2, 3];

struct Voter {
    disk: MemoryDisk,
    process: Arc<Process>,
    group: Arc<Group>,
    store: Arc<ImageStore>,
}

struct Cluster {
    net: ToyNet,
    voters: BTreeMap<u32, Voter>,
    disks: BTreeMap<u32, MemoryDisk>,
    options: MetadataOptions,
}

impl Cluster {
    async fn start(options: MetadataOptions) -> Self {
        let mut cluster = Self {
            net: ToyNet::default(),
            voters: BTreeMap::new(),
            disks: BTreeMap::new(),
            options,
        };
        for id in ALL {
            cluster.boot(id).await;
        }
        cluster
    }

    async fn boot(&mut self, id: u32) {
        let disk = self.disks.entry(id).or_default().clone();
        let process = Arc::new(Process::default());
        let env = env(u8::try_from(id).unwrap(), &disk, &process, None);
        let store = Arc::new(ImageStore::new());
        let group = Group::start(
            env,
            self.net.client(id),
            NodeId(id),
            Uuid([u8::try_from(id).unwrap(); 16]),
            ALL.into_iter().map(NodeId).collect(),
            store.clone(),
            self.options.clone(),
        )
        .await
        .unwrap();
        let service = Arc::new(RaftService(group.clone()));
        self.net.register(id, Service::Raft, service);
        let voter = Voter {
            disk,
            process,
            group,
            store,
        };
        self.voters.insert(id, voter);
    }

    fn kill(&mut self, id: u32) {
        let voter = self.voters.remove(&id).unwrap();
        voter.process.kill();
        self.net.remove(id);
        voter.disk.crash();
    }

    /// A leader that a majority confirms, among `these`.
    async fn leader(&self, these: &[u32]) -> u32 {
        for _ in 0..200 {
            for id in these {
                let group = &self.voters[id].group;
                let leads = group.standing().borrow().leads.is_some();
                if leads && group.ensure_linearizable().await {
                    return *id;
                }
            }
            pause(50).await;
        }
        panic!("no leader among {these:?}");
    }

    async fn put(&self, leader: u32, key: &str) -> Result<(u64, Vec<ItemResult>), ProposeError> {
        let item = vec![Command::PutDocument {
            key: format!("test/{key}"),
            expected: None,
            value: key.as_bytes().to_vec(),
        }];
        self.voters[&leader]
            .group
            .propose(Proposal { items: vec![item] })
            .await
    }

    fn keys(&self, id: u32) -> Vec<String> {
        let image = self.voters[&id].store.image();
        image.documents.keys().cloned().collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "paused test time")]
async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_committed_command_reaches_every_voter_at_once() {
    let cluster = Cluster::start(MetadataOptions::default()).await;
    let leader = cluster.leader(&ALL).await;
    let (index, results) = cluster.put(leader, "a").await.unwrap();
    assert_eq!(results, [Ok(Outcome::Document(index))]);
    // Pushed with the commit, not with the next heartbeat.
    pause(10).await;
    for id in ALL {
        assert_eq!(cluster.keys(id), ["test/a"], "voter {id}");
    }
    let follower = ALL.into_iter().find(|id| *id != leader).unwrap();
    assert_eq!(
        cluster.put(follower, "b").await,
        Err(ProposeError::NotLeader(Some(NodeId(leader))))
    );
}

#[tokio::test(start_paused = true)]
async fn the_leaders_death_costs_an_election_and_nothing_else() {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let old = cluster.leader(&ALL).await;
    cluster.put(old, "a").await.unwrap();
    cluster.kill(old);
    let rest: Vec<u32> = ALL.into_iter().filter(|id| *id != old).collect();
    let new = cluster.leader(&rest).await;
    assert_eq!(cluster.keys(new), ["test/a"]);
    cluster.put(new, "b").await.unwrap();
    cluster.boot(old).await;
    for _ in 0..40 {
        pause(50).await;
    }
    assert_eq!(cluster.keys(old), ["test/a", "test/b"]);
}

/// The terms that were led after a death which the two survivors notice one after the other,
/// and how long after the second noticed the last of them began. `late` is by how many
/// milliseconds the one with the lower id is later than the other, or earlier.
async fn led_after_a_death(late: i64) -> (Vec<u64>, Duration) {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let old = cluster.leader(&ALL).await;
    pause(300).await;
    cluster.kill(old);
    let rest: Vec<u32> = ALL.into_iter().filter(|id| *id != old).collect();
    let waits = [late.max(0), -late.min(0)].map(i64::unsigned_abs);
    for (id, wait) in rest.iter().zip(waits) {
        let group = Arc::clone(&cluster.voters[id].group);
        let tasks = group.env.tasks.clone();
        tasks.spawn("notices", async move {
            pause(wait).await;
            group.leader_is_gone(NodeId(old)).await;
        });
    }
    pause(late.unsigned_abs()).await;
    let (mut terms, mut took) = (Vec::new(), 0);
    for millis in 0..1_500 {
        let standing = rest.iter().map(|id| cluster.voters[id].group.standing());
        let term = standing.filter_map(|now| now.borrow().leads).max();
        if let Some(term) = term.filter(|term| !terms.contains(term)) {
            terms.push(term);
            took = millis;
        }
        pause(1).await;
    }
    rest.into_iter().for_each(|id| cluster.kill(id));
    (terms, Duration::from_millis(took))
}

#[tokio::test(start_paused = true)]
async fn who_notices_a_death_late_deposes_nobody() {
    for late in (-150..=150).step_by(2) {
        let (terms, took) = led_after_a_death(late).await;
        assert_eq!(terms.len(), 1, "{late} ms: terms {terms:?} were led");
        assert!(took < Duration::from_millis(150), "{late} ms: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_commits_nothing() {
    let cluster = Cluster::start(MetadataOptions::default()).await;
    let old = cluster.leader(&ALL).await;
    cluster.net.isolate(&[old], &ALL);
    let stuck = cluster.put(old, "lost");
    #[expect(clippy::disallowed_methods, reason = "paused test time")]
    let stuck = tokio::time::timeout(Duration::from_secs(5), stuck).await;
    assert!(stuck.is_err(), "{stuck:?}");
    assert!(!cluster.voters[&old].group.ensure_linearizable().await);
    assert!(!cluster.voters[&old].group.is_in_touch());
    let rest: Vec<u32> = ALL.into_iter().filter(|id| *id != old).collect();
    let new = cluster.leader(&rest).await;
    cluster.put(new, "kept").await.unwrap();
    cluster.net.heal();
    pause(3000).await;
    for id in ALL {
        assert_eq!(cluster.keys(id), ["test/kept"], "voter {id}");
    }
}

/// It goes on in its old term, with an entry that was decided and not committed yet. Who is
/// told that it leads would plan on an image that lacks it.
#[tokio::test(start_paused = true)]
async fn a_restarted_leader_is_confirmed_with_all_that_it_decided() {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let old = cluster.leader(&ALL).await;
    cluster.put(old, "a").await.unwrap();
    cluster.net.isolate(&[old], &ALL);
    let decided = cluster.put(old, "b");
    #[expect(clippy::disallowed_methods, reason = "paused test time")]
    let decided = tokio::time::timeout(Duration::from_millis(50), decided).await;
    assert!(decided.is_err(), "{decided:?}");
    cluster.kill(old);
    cluster.boot(old).await;
    let group = cluster.voters[&old].group.clone();
    pause(10).await;
    assert!(group.standing().borrow().leads.is_some(), "in its old term");
    assert!(!group.is_in_touch(), "nobody answered it yet");
    cluster.net.heal();
    assert_eq!(cluster.leader(&[old]).await, old);
    assert_eq!(cluster.keys(old), ["test/a", "test/b"]);
}

/// openraft is in a new term before that is on the disk. If that fails nobody was told, and
/// the voter never was in it.
#[tokio::test(start_paused = true)]
async fn a_term_that_was_not_saved_is_not_told() {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let leader = cluster.leader(&ALL).await;
    let alone = ALL.into_iter().find(|id| *id != leader).unwrap();
    cluster.net.isolate(&[alone], &ALL);
    cluster.disks[&alone].fail_syncs(true);
    let group = cluster.voters[&alone].group.clone();
    let mut metrics = group.raft.metrics();
    let failed = metrics.wait_for(|now| now.running_state.is_err()).await;
    let in_memory = failed.unwrap().current_term;
    let told = group.progress();
    assert!(told.term < in_memory, "{told:?}");
    cluster.kill(alone);
    cluster.disks[&alone].fail_syncs(false);
    cluster.boot(alone).await;
    // At once: openraft tells nothing yet, and nothing is no vote.
    let back = cluster.voters[&alone].group.progress();
    let vote = |at: RaftProgress| (at.term, at.voted_for);
    assert_eq!(vote(back), vote(told));
}

#[tokio::test(start_paused = true)]
async fn everything_committed_survives_power_loss_of_all() {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let leader = cluster.leader(&ALL).await;
    for key in ["a", "b", "c"] {
        cluster.put(leader, key).await.unwrap();
    }
    for id in ALL {
        cluster.kill(id);
    }
    for id in ALL {
        cluster.boot(id).await;
    }
    let leader = cluster.leader(&ALL).await;
    assert_eq!(cluster.keys(leader), ["test/a", "test/b", "test/c"]);
}

#[tokio::test(start_paused = true)]
async fn a_voter_far_behind_gets_the_snapshot() {
    let options = MetadataOptions {
        snapshot_every: 20,
        ..MetadataOptions::default()
    };
    let mut cluster = Cluster::start(options).await;
    let leader = cluster.leader(&ALL).await;
    let behind = ALL.into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(behind);
    for key in 0..70 {
        cluster.put(leader, &format!("{key:02}")).await.unwrap();
    }
    pause(1000).await;
    assert!(
        cluster.disks[&leader]
            .names()
            .iter()
            .any(|n| n.contains("snapshot-"))
    );
    cluster.boot(behind).await;
    pause(3000).await;
    assert_eq!(cluster.keys(behind).len(), 70);
    assert!(
        cluster.disks[&behind]
            .names()
            .iter()
            .any(|n| n.contains("snapshot-"))
    );
    // And from its own disk again.
    cluster.kill(behind);
    cluster.boot(behind).await;
    pause(3000).await;
    assert_eq!(cluster.keys(behind).len(), 70);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_lost_its_disk_is_refused_under_its_old_id() {
    let mut cluster = Cluster::start(MetadataOptions::default()).await;
    let leader = cluster.leader(&ALL).await;
    for id in ALL {
        let boot = Command::RegisterNode(crate::testing::registration(
            id,
            crate::command::StartKind::Clean,
        ));
        let proposal = Proposal {
            items: vec![vec![boot]],
        };
        cluster.voters[&leader]
            .group
            .propose(proposal)
            .await
            .unwrap();
    }
    // The lowest voter is the one that could form a group anew.
    cluster.kill(1);
    cluster.disks.insert(1, MemoryDisk::default());
    let before: Vec<_> = [2, 3].map(|id| cluster.keys(id)).into();
    let fresh = Uuid([99; 16]);
    let disk = cluster.disks[&1].clone();
    let process = Arc::new(Process::default());
    let wiped = Group::start(
        env(9, &disk, &process, None),
        cluster.net.client(1),
        NodeId(1),
        fresh,
        ALL.into_iter().map(NodeId).collect(),
        Arc::new(ImageStore::new()),
        cluster.options.clone(),
    )
    .await
    .unwrap();
    cluster
        .net
        .register(1, Service::Raft, Arc::new(RaftService(wiped.clone())));
    pause(10_000).await;
    assert_eq!(wiped.standing().borrow().leads, None);
    assert!(!wiped.scope(wiped.raft.is_initialized()).await.unwrap());
    let leader = cluster.leader(&[2, 3]).await;
    cluster.put(leader, "on").await.unwrap();
    assert_ne!(before, [2, 3].map(|id| cluster.keys(id)));
}
