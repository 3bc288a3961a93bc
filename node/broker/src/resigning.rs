//! Giving up what cannot be kept: a copy whose data is bad, a leadership refused.
//!
//! Asks the controller until it is answered. What comes of it is seen in the image: a
//! copy that was given up has a new identity there, on which [`crate::partitions`]
//! begins it anew from the leader; it then re-enters the ISR as any follower does. A copy
//! is never thrown away before the controller agreed that others hold everything, so on
//! a crash at any point it is the old copy still, or a new one that nobody counts on.
//!
//! At most one task a partition for each of the two, which bounds them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_base::{Env, LeaderEpoch, NodeId, TopicPartition};
use weir_metadata::{Metadata, MetadataError, Refusal, Resignation};
use weir_storage::LogError;

/// Pause before the controller is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Resigns for the replicas of this node. Clones share it.
#[derive(Clone)]
pub(crate) struct Resigning(Arc<Inner>);

struct Inner {
    env: Env,
    node: NodeId,
    metadata: Metadata,
    /// Copies being given up.
    replicas: Mutex<BTreeSet<TopicPartition>>,
    /// Leaderships being given up.
    leaderships: Mutex<BTreeSet<(TopicPartition, LeaderEpoch)>>,
}

impl Resigning {
    pub(crate) fn new(env: Env, node: NodeId, metadata: Metadata) -> Self {
        Self(Arc::new(Inner {
            env,
            node,
            metadata,
            replicas: Mutex::default(),
            leaderships: Mutex::default(),
        }))
    }

    /// The copy of `at` here is bad.
    pub(crate) fn replica(&self, at: TopicPartition, error: &LogError) {
        let inner = Arc::clone(&self.0);
        if insert(&inner.replicas, at) {
            let why = error.to_string();
            self.0.env.tasks.spawn("resign-replica", async move {
                inner.give_up_replica(at, why).await;
                remove(&inner.replicas, &at);
            });
        }
    }

    /// This node was elected for `at` in an epoch in which it must not lead.
    pub(crate) fn leadership(&self, at: TopicPartition, epoch: LeaderEpoch) {
        let inner = Arc::clone(&self.0);
        if insert(&inner.leaderships, (at, epoch)) {
            self.0.env.tasks.spawn("resign-leadership", async move {
                inner.give_up_leadership(at, epoch).await;
                remove(&inner.leaderships, &(at, epoch));
            });
        }
    }
}

fn insert<T: Ord>(set: &Mutex<BTreeSet<T>>, value: T) -> bool {
    let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
    set.insert(value)
}

fn remove<T: Ord>(set: &Mutex<BTreeSet<T>>, value: &T) {
    let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
    set.remove(value);
}

impl Inner {
    async fn give_up_replica(&self, at: TopicPartition, why: String) {
        let mut images = self.metadata.images();
        let mut bad = None;
        let mut is_told = false;
        loop {
            let image = images.borrow_and_update().clone();
            let Some(record) = image.partition(at) else {
                return;
            };
            let Some(replica) = record.replica(self.node) else {
                return;
            };
            let id = *bad.get_or_insert(replica.id);
            if replica.id != id {
                return;
            }
            let what = Resignation::Replica {
                id,
                why: why.clone(),
            };
            match self.metadata.resign(at, what).await {
                Ok(()) => return,
                Err(MetadataError::Refused(Refusal::LastCopy { .. })) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(
                            partition = %at, %why,
                            "the data here is bad and no other replica is known to hold everything \
                             acknowledged: it stays failed and nothing was removed. Start the node \
                             of another replica that was in sync; if there is none, restore this \
                             node's data directory from a backup and restart it, or delete the topic"
                        );
                    }
                    // Only another record can bring another answer.
                    let changed = images.wait_for(|image| image.partition(at) != Some(record));
                    if changed.await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(partition = %at, %error, "bad copy not given up yet");
                    self.env.sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn give_up_leadership(&self, at: TopicPartition, epoch: LeaderEpoch) {
        loop {
            let image = self.metadata.image();
            let is_over = |leader_epoch| leader_epoch > epoch;
            if image
                .partition(at)
                .is_none_or(|record| is_over(record.leader_epoch))
            {
                return;
            }
            let what = Resignation::Leadership { epoch };
            match self.metadata.resign(at, what).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(partition = %at, %error, "leadership not given up yet");
                    self.env.sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
