//! Three nodes in one process on the machine's own disk and loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use weir_base::image::{Durability, NodeRecord, NodeState, PartitionRecord, Replica};
use weir_base::{BoxFuture, LeaderEpoch, NodeEpoch, NodeId, PartitionEpoch, TopicPartition, Uuid};
use weir_os::{OsDisk, OsQuic, os_env};
use weir_peer::{NodeIdentity, Options, PeerNode, Peers, Service, node_name};
use weir_replication::{
    IsrAgreement, IsrChange, IsrRefusal, PartitionHandle, ReplicaEvent, Replication,
    ReplicationOptions,
};
use weir_storage::{LogConfig, Storage, StorageOptions};

const EPOCH: LeaderEpoch = LeaderEpoch(1);

/// Nobody leaves or joins.
struct Fixed;

impl IsrAgreement for Fixed {
    fn propose(&self, _: IsrChange) -> BoxFuture<'static, Result<PartitionRecord, IsrRefusal>> {
        let refusal = IsrRefusal::Ineligible("the ISR is fixed".to_owned());
        Box::pin(std::future::ready(Err(refusal)))
    }

    fn on_event(&self, event: ReplicaEvent) {
        panic!("{event:?}");
    }

    fn leader_epoch(&self, _: TopicPartition) -> Option<LeaderEpoch> {
        Some(EPOCH)
    }
}

struct Node {
    replication: Replication,
    links: PeerNode,
    peers: Peers,
    _storage: Storage,
    _directory: tempfile::TempDir,
}

/// The nodes.
pub(crate) struct Cluster(BTreeMap<NodeId, Node>);

fn identities(count: u32) -> Vec<NodeIdentity> {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let identity = |id| {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = CertificateParams::new(vec![node_name("c", NodeId(id))]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let (chain, key) = (leaf.pem(), key.serialize_pem());
        NodeIdentity::from_pem(
            "c".to_owned(),
            chain.as_bytes(),
            key.as_bytes(),
            root.as_bytes(),
        )
        .unwrap()
    };
    (1..=count).map(identity).collect()
}

impl Cluster {
    /// Three nodes; partition `n` of one topic is led by node `n % 3 + 1`.
    pub(crate) async fn start(partitions: u32, durability: Durability) -> Cluster {
        let mut nodes = BTreeMap::new();
        for (id, identity) in (1..).map(NodeId).zip(identities(3)) {
            let directory = tempfile::tempdir().unwrap();
            let env = os_env(Arc::new(OsDisk::open(directory.path()).unwrap()));
            let storage = Storage::open(env.clone(), StorageOptions::default())
                .await
                .unwrap();
            let quic = OsQuic::new(env.tasks.clone());
            let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let options = Options {
                mtu: Some(6000),
                ..Options::default()
            };
            let started = PeerNode::start(&env, &quic, id, identity, listen, vec![], options);
            let (peers, links) = started.await.unwrap();
            let replication = Replication::start(
                env,
                id,
                Arc::clone(&peers),
                Arc::new(Fixed),
                ReplicationOptions::default(),
            );
            links.register(Service::Replication, replication.service());
            for n in 0..partitions {
                let log = storage.open_log(Self::at(n), LogConfig::default());
                let (log, _) = log.await.unwrap();
                replication.open(Self::at(n), Self::replica(id).id, log);
            }
            let node = Node {
                replication,
                links,
                peers,
                _storage: storage,
                _directory: directory,
            };
            nodes.insert(id, node);
        }
        for node in nodes.values() {
            for (other, met) in &nodes {
                node.peers.set_address(*other, met.links.local_address());
            }
        }
        let cluster = Cluster(nodes);
        cluster.publish(partitions, durability);
        cluster
    }

    fn at(n: u32) -> TopicPartition {
        TopicPartition::new(Uuid([1; 16]), n)
    }

    fn replica(node: NodeId) -> Replica {
        let id = Uuid([u8::try_from(node.0).unwrap(); 16]);
        Replica { node, id }
    }

    fn leader(n: u32) -> NodeId {
        NodeId(n % 3 + 1)
    }

    fn publish(&self, partitions: u32, durability: Durability) {
        let ids: Vec<NodeId> = self.0.keys().copied().collect();
        let registered = |id: &NodeId| {
            let node = NodeRecord {
                id: *id,
                name: id.to_string(),
                storage: Uuid::ZERO,
                epoch: NodeEpoch(u64::from(id.0)),
                state: NodeState::Active,
                peer_address: String::new(),
                endpoints: BTreeMap::new(),
                rack: None,
            };
            (*id, node)
        };
        let nodes = ids.iter().map(registered).collect();
        for n in 0..partitions {
            let record = PartitionRecord {
                replicas: ids.iter().map(|id| Self::replica(*id)).collect(),
                leader: Some(Self::leader(n)),
                leader_epoch: EPOCH,
                partition_epoch: PartitionEpoch(1),
                isr: ids.clone(),
                elr: vec![],
                last_known_elr: vec![],
                suspects: vec![],
                adding: vec![],
                removing: vec![],
                min_isr: 2,
                durability,
                pending_durability: None,
            };
            for node in self.0.values() {
                node.replication.apply(Self::at(n), &record, &nodes);
            }
        }
    }

    /// A partition on the node that leads it.
    pub(crate) fn led(&self, n: u32) -> PartitionHandle {
        self.replicas(n).remove(&Self::leader(n)).unwrap()
    }

    /// A partition on all nodes.
    pub(crate) fn replicas(&self, n: u32) -> BTreeMap<NodeId, PartitionHandle> {
        let replica = |(id, node): (&NodeId, &Node)| {
            let handle = node.replication.partition(Self::at(n)).unwrap();
            (*id, handle)
        };
        self.0.iter().map(replica).collect()
    }
}
