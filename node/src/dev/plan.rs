//! What `weir dev` will run: ids, ports, directories and options of each node. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::options::{HostPort, NodeOptions, Voter};

/// Most nodes of a development cluster.
pub const NODES_MAX: u32 = 9;
/// From a node's Kafka port to its peer port.
const PEER_PORT_STEP: u32 = 10_000;
/// From one node's admin port to the next one's: 8080, 8180, ... so that the ports
/// right behind 8080, which other fronts use by default, stay free.
const ADMIN_PORT_STEP: u32 = 100;
/// The cluster's name, in its certificates.
pub const CLUSTER: &str = "dev";

/// The options that [`Plan::options`] decides, which therefore no environment variable
/// may decide for all nodes alike.
pub const DECIDED: &[&str] = &[
    "node.id",
    "node.cluster",
    "node.data",
    "node.stop_timeout",
    "log.file",
    "kafka.listen",
    "kafka.advertised",
    "rocketmq.listen",
    "rocketmq.advertised",
    "admin.listen",
    "admin.advertised",
    "peer.listen",
    "peer.advertised",
    "peer.mtu",
    "peer.tls_cert",
    "peer.tls_key",
    "peer.tls_ca",
    "metadata.voters",
    "metadata.seeds",
    "metadata.election_timeout_min",
    "metadata.election_timeout_max",
    "metadata.raft_heartbeat",
    "groups.initial_rebalance_delay",
];

/// How long a node may take to stop; the supervisor kills it a little later.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Nodes.
    pub nodes: u32,
    /// Kafka port of node 1.
    pub port_base: u16,
    /// Admin port of node 1.
    pub admin_port_base: u16,
    /// RocketMQ port of node 1.
    pub rocketmq_port_base: u16,
    /// Where everything lies; absolute.
    pub directory: PathBuf,
}

/// What is remembered of a cluster between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founded {
    /// Most nodes it ever had.
    pub nodes: u32,
    /// The founding metadata voters, for ever.
    pub voters: Vec<u32>,
}

/// A cluster to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its nodes, by id.
    pub nodes: Vec<NodePlan>,
    /// To be remembered.
    pub founded: Founded,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Its id.
    pub id: u32,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where RocketMQ clients connect.
    pub rocketmq: SocketAddr,
    /// Where its admin API listens.
    pub admin: SocketAddr,
    /// Where its peers connect (UDP and TCP).
    pub peer: SocketAddr,
    /// Its own directory.
    pub directory: PathBuf,
}

/// Why there is no such cluster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Outside the bounds.
    #[error("--nodes {0}: 1 to {NODES_MAX} are possible")]
    Nodes(u32),
    /// Less nodes than before.
    #[error(
        "--nodes {asked}: the cluster in {directory} has {had} nodes and cannot shrink, since nodes hold data; run it with --nodes {had}, or start afresh with another --data"
    )]
    Shrunk {
        /// Asked for.
        asked: u32,
        /// Present.
        had: u32,
        /// Where.
        directory: PathBuf,
    },
    /// No such port.
    #[error(
        "{option} {base} with {nodes} nodes needs port {port}, which does not exist; choose a lower one"
    )]
    PortRange {
        /// The option.
        option: &'static str,
        /// Its value.
        base: u16,
        /// Nodes.
        nodes: u32,
        /// The first port that is none.
        port: u32,
    },
    /// Two listeners on one port.
    #[error(
        "port {port} would be both {first} and {second}; choose another --port-base, --admin-port-base or --rocketmq-port-base"
    )]
    PortTwice {
        /// The port.
        port: u16,
        /// One listener.
        first: String,
        /// The other.
        second: String,
    },
}

/// Plans a cluster, new or founded in an earlier run.
///
/// # Errors
/// If it cannot be had.
pub fn plan(wish: &Wish, founded: Option<&Founded>) -> Result<Plan, PlanError> {
    if !(1..=NODES_MAX).contains(&wish.nodes) {
        return Err(PlanError::Nodes(wish.nodes));
    }
    if let Some(founded) = founded
        && wish.nodes < founded.nodes
    {
        return Err(PlanError::Shrunk {
            asked: wish.nodes,
            had: founded.nodes,
            directory: wish.directory.clone(),
        });
    }
    let port = |option, base: u16, step: u32| {
        let port = u32::from(base) + step;
        match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Ok(_) | Err(_) => Err(PlanError::PortRange {
                option,
                base,
                nodes: wish.nodes,
                port,
            }),
        }
    };
    let nodes = (1..=wish.nodes)
        .map(|id| {
            Ok(NodePlan {
                id,
                kafka: port("--port-base", wish.port_base, id - 1)?,
                rocketmq: port("--rocketmq-port-base", wish.rocketmq_port_base, id - 1)?,
                admin: port(
                    "--admin-port-base",
                    wish.admin_port_base,
                    (id - 1) * ADMIN_PORT_STEP,
                )?,
                peer: port("--port-base", wish.port_base, PEER_PORT_STEP + id - 1)?,
                directory: wish.directory.join(format!("node-{id}")),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Peers listen on UDP and on TCP, so all share one range.
    let mut taken = BTreeMap::new();
    for node in &nodes {
        for (what, address) in node.listeners() {
            let name = format!("node {}'s {what} port", node.id);
            if let Some(first) = taken.insert(address.port(), name.clone()) {
                return Err(PlanError::PortTwice {
                    port: address.port(),
                    first,
                    second: name,
                });
            }
        }
    }
    // A majority of two is both, so two nodes would only fail more often than one.
    let voters = match founded {
        Some(founded) => founded.voters.clone(),
        None if wish.nodes >= 3 => vec![1, 2, 3],
        None => vec![1],
    };
    Ok(Plan {
        nodes,
        founded: Founded {
            nodes: wish.nodes,
            voters,
        },
    })
}

impl NodePlan {
    /// What it listens on.
    #[must_use]
    pub fn listeners(&self) -> [(&'static str, SocketAddr); 4] {
        [
            ("Kafka", self.kafka),
            ("RocketMQ", self.rocketmq),
            ("admin", self.admin),
            ("peer", self.peer),
        ]
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("weir.toml")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("weir.log")
    }
}

impl Plan {
    /// The options of one node. `certificates` says where its files lie.
    #[must_use]
    pub fn options(&self, node: &NodePlan, certificates: &NodeCertificates) -> NodeOptions {
        let mut options = NodeOptions::default();
        options.node.id = node.id;
        options.node.cluster = CLUSTER.to_owned();
        options.node.data = node.data();
        options.node.stop_timeout = STOP_TIMEOUT;
        options.log.file = Some(node.log_file());
        options.kafka.listen = node.kafka;
        options.rocketmq.listen = node.rocketmq;
        options.admin.listen = node.admin;
        options.peer.listen = node.peer;
        // Loopback carries it, and links are a third faster than at what discovery finds.
        options.peer.mtu = Some(6_000);
        options.peer.tls_cert = Some(certificates.certificate.clone());
        options.peer.tls_key = Some(certificates.key.clone());
        options.peer.tls_ca = Some(certificates.authority.clone());
        let address = |node: &NodePlan| HostPort {
            host: node.peer.ip().to_string(),
            port: node.peer.port(),
        };
        let is_voter = |node: &&NodePlan| self.founded.voters.contains(&node.id);
        options.metadata.voters = self
            .nodes
            .iter()
            .filter(is_voter)
            .map(|node| Voter {
                node: node.id,
                address: address(node),
            })
            .collect();
        options.metadata.seeds = self.nodes.iter().filter(is_voter).map(address).collect();
        // Loopback answers in microseconds, so a lost leader is worth noticing early.
        options.metadata.election_timeout_min = Duration::from_millis(150);
        options.metadata.election_timeout_max = Duration::from_millis(300);
        options.metadata.raft_heartbeat = Duration::from_millis(40);
        // One developer's one consumer should not wait three seconds for others.
        options.groups.initial_rebalance_delay = Duration::ZERO;
        options
    }
}

/// Where a node's certificate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificates {
    /// The cluster's authority.
    pub authority: PathBuf,
    /// The node's chain.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
}

impl NodeCertificates {
    /// As they lie in a development cluster.
    #[must_use]
    pub fn of(directory: &Path, node: &NodePlan) -> Self {
        Self {
            authority: directory.join("ca.crt"),
            certificate: node.directory.join("node.crt"),
            key: node.directory.join("node.key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(nodes: u32, port_base: u16, admin_port_base: u16) -> Wish {
        Wish {
            nodes,
            port_base,
            admin_port_base,
            rocketmq_port_base: admin_port_base + 1,
            directory: "/d".into(),
        }
    }

    #[test]
    fn three_nodes_by_default() {
        let plan = plan(&wish(3, 9092, 8080), None).unwrap();
        let ports: Vec<_> = plan
            .nodes
            .iter()
            .map(|n| {
                (
                    n.id,
                    n.kafka.port(),
                    n.rocketmq.port(),
                    n.admin.port(),
                    n.peer.port(),
                )
            })
            .collect();
        assert_eq!(
            ports,
            [
                (1, 9092, 8081, 8080, 19092),
                (2, 9093, 8082, 8180, 19093),
                (3, 9094, 8083, 8280, 19094)
            ]
        );
        assert_eq!(plan.founded.voters, [1, 2, 3]);
        for node in &plan.nodes {
            let certificates = NodeCertificates::of(Path::new("/d"), node);
            let options = plan.options(node, &certificates);
            options.validate().unwrap();
            assert_eq!(options.beyond_loopback(), []);
            assert_eq!(options.metadata.voters.len(), 3);
            // Whatever differs from the defaults was decided here.
            for (section, default) in options
                .sections()
                .iter()
                .zip(NodeOptions::default().sections())
            {
                for field in section.fields() {
                    let path = format!("{}.{}", section.name(), field.key);
                    let changed = section.show(field.key) != default.show(field.key);
                    assert!(!changed || DECIDED.contains(&path.as_str()), "{path}");
                }
            }
        }
    }

    #[test]
    fn a_cluster_grows_but_keeps_its_founding_voters_and_never_shrinks() {
        let one = plan(&wish(1, 9092, 8080), None).unwrap();
        assert_eq!(one.founded.voters, [1]);
        let four = plan(&wish(4, 7000, 8080), Some(&one.founded)).unwrap();
        assert_eq!(
            four.founded,
            Founded {
                nodes: 4,
                voters: vec![1]
            }
        );
        let node = &four.nodes[3];
        let options = four.options(node, &NodeCertificates::of(Path::new("/d"), node));
        options.validate().unwrap();
        assert_eq!(
            options.metadata.voters[0].address.to_string(),
            "127.0.0.1:17000"
        );
        let error = plan(&wish(3, 9092, 8080), Some(&four.founded)).unwrap_err();
        assert!(error.to_string().contains("--nodes 4"), "{error}");
    }

    #[test]
    fn impossible_ports_are_refused_by_name() {
        for (wish, words) in [
            (wish(0, 9092, 8080), "--nodes 0"),
            (wish(10, 9092, 8080), "--nodes 10"),
            (
                wish(2, 55_535, 8080),
                "--port-base 55535 with 2 nodes needs port 65536",
            ),
            (wish(9, 9092, 65_000), "--admin-port-base 65000"),
            (wish(1, 0, 8080), "--port-base 0"),
            (
                wish(3, 8080, 8082),
                "port 8082 would be both node 1's admin port and node 3's Kafka port",
            ),
            (wish(1, 9092, 19_092), "port 19092"),
        ] {
            let error = plan(&wish, None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
