//! One node's replicas and links, as the tasks share them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Semaphore, watch};
use weir_base::{Entropy, Env, LeaderEpoch, Monotonic, NodeId, TopicPartition};
use weir_peer::Peers;

use crate::agreement::IsrAgreement;
use crate::inbox::Inbox;
use crate::options::ReplicationOptions;
use crate::partition::PartitionHandle;
use crate::stream::uplink::Uplink;
use crate::stream::window::CatchUpWindow;

/// Shared by everything on a node.
pub(crate) struct Node {
    pub(crate) env: Env,
    pub(crate) me: NodeId,
    pub(crate) peers: Peers,
    pub(crate) agreement: Arc<dyn IsrAgreement>,
    pub(crate) options: ReplicationOptions,
    pub(crate) entropy: Entropy,
    pub(crate) catch_up_budget: Arc<Semaphore>,
    catch_up_windows: Mutex<BTreeMap<NodeId, Arc<CatchUpWindow>>>,
    pub(crate) partitions: RwLock<BTreeMap<TopicPartition, PartitionHandle>>,
    uplinks: Mutex<BTreeMap<(NodeId, u32), Arc<Uplink>>>,
    /// Until when this node may act as leader without asking anybody.
    lease: AtomicU64,
    acknowledged_cut: AtomicU64,
    /// Replicas opened so far.
    opened: AtomicU64,
    closed: watch::Sender<bool>,
}

impl Node {
    pub(crate) fn new(
        env: Env,
        me: NodeId,
        peers: Peers,
        agreement: Arc<dyn IsrAgreement>,
        options: ReplicationOptions,
    ) -> Node {
        Node {
            entropy: env.entropy.fork("replication"),
            env,
            me,
            peers,
            agreement,
            options,
            catch_up_budget: Arc::new(Semaphore::new(options.catch_up_reads_max.max(1))),
            catch_up_windows: Mutex::default(),
            partitions: RwLock::default(),
            uplinks: Mutex::default(),
            lease: AtomicU64::new(u64::MAX),
            acknowledged_cut: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    pub(crate) fn handle(&self, at: TopicPartition) -> Option<PartitionHandle> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.get(&at).cloned()
    }

    pub(crate) fn inbox(&self, at: TopicPartition) -> Option<Arc<Inbox>> {
        self.handle(at).map(|handle| handle.inbox().clone())
    }

    /// The way to `leader` that `at` uses.
    pub(crate) fn uplink(&self, leader: NodeId, at: TopicPartition) -> Arc<Uplink> {
        let seed = at
            .topic
            .0
            .iter()
            .fold(at.index.0, |sum, b| sum.wrapping_mul(31) ^ u32::from(*b));
        let shard = seed % self.options.streams_per_peer.max(1);
        let mut uplinks = self.uplinks.lock().unwrap_or_else(PoisonError::into_inner);
        let uplink = uplinks
            .entry((leader, shard))
            .or_insert_with(|| Arc::new(Uplink::new(leader)));
        Arc::clone(uplink)
    }

    /// What `follower` catches up with from here, over all of its streams.
    pub(crate) fn catch_up_window(&self, follower: NodeId) -> Arc<CatchUpWindow> {
        let options = &self.options;
        let mut windows = self
            .catch_up_windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(follower).or_insert_with(|| {
            Arc::new(CatchUpWindow::new(
                options.catch_up_window_bytes,
                options.catch_up_read_bytes,
                options.catch_up_delay,
            ))
        });
        Arc::clone(window)
    }

    pub(crate) fn set_lease(&self, until: Monotonic) {
        self.lease.store(until.0, Ordering::Release);
    }

    /// Whether a replica here that leads in `epoch` does so for certain (I10): the lease
    /// holds, and is for this epoch. A node that was fenced has a lease again as soon as it
    /// is heard of, for what it will lead; a replica that is late would take it for its own.
    pub(crate) fn is_sure_to_lead(&self, at: TopicPartition, epoch: LeaderEpoch) -> bool {
        self.holds_lease()
            && (self.agreement.leader_epoch(at) == Some(epoch) || weir_base::mutant!(M31))
    }

    fn holds_lease(&self) -> bool {
        let lease = self.lease.load(Ordering::Acquire);
        lease == u64::MAX || self.env.clock.now().0 < lease
    }

    pub(crate) fn count_cut(&self, offsets: u64) {
        self.acknowledged_cut.fetch_add(offsets, Ordering::Relaxed);
    }

    /// Where the session numbers of a replica opened now begin: above those of every
    /// replica opened before (a replica would need a session a millisecond for 50 days
    /// to run into the next one's).
    pub(crate) fn next_sessions(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed) << 32
    }

    pub(crate) fn acknowledged_cut(&self) -> u64 {
        self.acknowledged_cut.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Completes when the node closes: streams end with it.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        drop(closed.wait_for(|closed| *closed).await);
    }

    /// Ends every task at its next step.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        self.catch_up_budget.close();
        let partitions = std::mem::take(
            &mut *self
                .partitions
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for handle in partitions.values() {
            handle.inbox().close();
        }
    }
}
