//! The broker's one object.

use std::sync::Arc;

use weir_api::Api;
use weir_api::groups::GroupOptions;
use weir_api::queues::QueueOptions;
use weir_base::{Env, Monotonic, NodeId};
use weir_metadata::Metadata;
use weir_peer::{PeerService, Peers};
use weir_replication::{PartitionHandle, Replication, ReplicationOptions};
use weir_storage::Storage;

use crate::agreement::{Agreement, IsrChanges};
use crate::cut::CutKeeper;
use crate::duties;
use crate::forward::{ForwardService, Forwarding};
use crate::groups::Groups;
use crate::inspection;
use crate::partitions::Partitions;
use crate::presence::Presence;
use crate::queues::{self, Queues};
use crate::resigning::Resigning;
use crate::scrub;

/// What an operator may tune.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Partitions of the internal topic that holds group state, when it is first made.
    /// Default 8, 1 to 100. More spread groups over more coordinators. Fixed afterwards.
    pub group_partitions: u32,
    /// Of the group coordinator.
    pub groups: GroupOptions,
    /// Of queues.
    pub queues: QueueOptions,
    /// Of replication.
    pub replication: ReplicationOptions,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            group_partitions: 8,
            groups: GroupOptions::default(),
            queues: QueueOptions::default(),
            replication: ReplicationOptions::default(),
        }
    }
}

/// One node's broker. Cloning shares it.
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) node: NodeId,
    pub(crate) metadata: Metadata,
    pub(crate) replication: Replication,
    pub(crate) groups: Groups,
    pub(crate) presence: Arc<Presence>,
    pub(crate) changes: Arc<IsrChanges>,
    pub(crate) queues: Queues,
    pub(crate) forwarding: Forwarding,
}

impl Broker {
    /// Starts following the image: opens and closes partitions as it says.
    #[must_use]
    pub fn start(
        env: Env,
        node: NodeId,
        storage: Arc<Storage>,
        metadata: Metadata,
        peers: Peers,
        options: &BrokerOptions,
    ) -> Broker {
        let groups = Groups::new(&env, options);
        let queues = Queues::new(&env, &options.queues);
        let resigning = Resigning::new(env.clone(), node, metadata.clone());
        let changes = Arc::new(IsrChanges::default());
        let agreement = Arc::new(Agreement {
            metadata: metadata.clone(),
            resigning: resigning.clone(),
            cut: CutKeeper::new(env.clone()),
            changes: Arc::clone(&changes),
        });
        let presence = Presence::new(env.clone(), Arc::clone(&peers));
        let forwarding = Forwarding::new(peers.clone());
        let replication =
            Replication::start(env.clone(), node, peers, agreement, options.replication);
        let inner = Inner {
            env: env.clone(),
            node,
            metadata,
            replication,
            groups,
            presence,
            changes,
            queues,
            forwarding,
        };
        let broker = Broker(Arc::new(inner));
        let partitions = Partitions::new(broker.clone(), Arc::clone(&storage), resigning);
        env.tasks.spawn("broker-partitions", partitions.follow());
        env.tasks
            .spawn("broker-inspection", inspection::run(broker.clone()));
        env.tasks
            .spawn("queue-watch", queues::watch::run(broker.clone()));
        let duties = duties::run(broker.clone(), Arc::clone(&storage));
        env.tasks.spawn("broker-duties", duties);
        env.tasks
            .spawn("broker-scrub", scrub::run(broker.clone(), storage));
        broker
    }

    /// Replication's end of the links between nodes.
    #[must_use]
    pub fn replication_service(&self) -> Arc<dyn PeerService> {
        self.0.replication.service()
    }

    /// What answers other nodes' brokers: a sign of life, and what they forward.
    #[must_use]
    pub fn broker_service(&self) -> Arc<dyn PeerService> {
        Arc::new(ForwardService(self.clone()))
    }

    /// Until when this node may act as leader without asking anybody (I10).
    pub fn set_lease(&self, until: Monotonic) {
        self.0.replication.set_lease(until);
    }

    /// Whether groups or queues of this node still read their journals: callers would wait
    /// for what it leads from now on. It reads them whoever leads.
    #[must_use]
    pub fn reads_journals(&self) -> bool {
        self.0.groups.are_behind() || self.0.queues.are_behind()
    }

    /// The replicas on this node, to look at: each tells where it stands.
    #[must_use]
    pub fn replicas(&self) -> Vec<PartitionHandle> {
        self.0.replication.partitions()
    }

    /// Stops leading and following, before the logs are closed.
    pub fn shut_down(&self) {
        self.0.replication.shut_down();
    }

    /// The waist, for fronts.
    #[must_use]
    pub fn api(&self) -> Api {
        Api {
            log: Arc::new(self.clone()),
            groups: Arc::new(self.clone()),
            queues: Arc::new(self.clone()),
            admin: Arc::new(self.clone()),
            cluster: Arc::new(self.clone()),
        }
    }
}
