//! Whole nodes on simulated machines: what `weir serve` starts, started by a scenario.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use weir::options::{ByteSize, HostPort, NodeOptions, Voter};
use weir::wire_up::start_node;
use weir_api::Api;
use weir_base::{Env, NodeId, Uuid};
use weir_broker::Broker;
use weir_metadata::Metadata;

use crate::cluster::{Cluster, PEER_PORT, host_name, ip};

/// The port of every node's Kafka front.
pub const KAFKA_PORT: u16 = 9092;
/// The port of every node's RocketMQ front.
pub const ROCKETMQ_PORT: u16 = 8081;
/// The port of every node's admin API.
pub const ADMIN_PORT: u16 = 8080;

/// Options of `node` in a cluster whose founding voters are `voters`: defaults, but for
/// addresses and for a write-ahead log small enough to be recycled in a short run.
#[must_use]
pub fn node_options(node: NodeId, voters: &[NodeId]) -> NodeOptions {
    let at = |port| SocketAddr::new(ip(node), port);
    let told = |port| {
        Some(HostPort {
            host: host_name(node),
            port,
        })
    };
    let mut options = NodeOptions::default();
    options.node.id = node.0;
    options.kafka.listen = at(KAFKA_PORT);
    options.kafka.advertised = told(KAFKA_PORT);
    options.rocketmq.listen = at(ROCKETMQ_PORT);
    options.rocketmq.advertised = told(ROCKETMQ_PORT);
    options.admin.listen = at(ADMIN_PORT);
    options.admin.advertised = told(ADMIN_PORT);
    options.peer.listen = at(PEER_PORT);
    options.peer.advertised = told(PEER_PORT);
    options.metadata.voters = voters
        .iter()
        .map(|voter| Voter {
            node: voter.0,
            address: HostPort {
                host: host_name(*voter),
                port: PEER_PORT,
            },
        })
        .collect();
    options.storage.wal_file_bytes = ByteSize(1 << 20);
    options.storage.checkpoint_bytes = ByteSize(2 << 20);
    options
}

/// The addresses of the nodes' Kafka fronts.
#[must_use]
pub fn kafka_addresses(nodes: &[NodeId]) -> Vec<SocketAddr> {
    let fronts = nodes.iter().map(|node| (ip(*node), KAFKA_PORT).into());
    fronts.collect()
}

/// The software of a host: starts a node and runs it until its host is crashed.
///
/// # Errors
/// What keeps it from starting, which ends the simulation.
pub async fn run_node(cluster: Cluster, options: NodeOptions) -> Result<()> {
    run_node_with(cluster, options, |_, _| {}).await
}

/// As [`run_node`], and starts what calls the node from within, as a front would.
///
/// # Errors
/// What keeps it from starting, which ends the simulation.
pub async fn run_node_with(
    cluster: Cluster,
    options: NodeOptions,
    also: impl FnOnce(&Env, Api),
) -> Result<()> {
    let host = cluster.boot(NodeId(options.node.id))?;
    let quic = Arc::new(host.quic);
    let running = start_node(&options, &host.env, quic, host.identity, None)
        .await
        .with_context(|| format!("node {}", host.node))?;
    also(&host.env, running.broker().api());
    pending::<()>().await;
    drop(running);
    Ok(())
}

/// The brokers of the nodes that run, for whoever looks inside; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Insides(Arc<Mutex<BTreeMap<NodeId, Inside>>>);

/// One run of a node.
#[derive(Clone)]
pub(crate) struct Inside {
    /// Which run of it.
    pub(crate) start: u64,
    pub(crate) directory: Uuid,
    pub(crate) broker: Broker,
    pub(crate) metadata: Metadata,
    /// The broker's waist: made once, looked through often.
    pub(crate) api: Api,
}

impl Insides {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Inside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason a process gives that ended because it was asked to.
pub(crate) const STOPPED: &str = "stopped as asked";
/// The same, if it had to give up on an orderly end.
pub(crate) const STOPPED_LATE: &str = "not stopped in time";

/// As [`run_node`] for a scenario that looks inside and restarts what ends: a node that
/// cannot start, or is done stopping, ends its process and says why.
///
/// # Errors
/// If there is no such node.
pub(crate) async fn run_watched(
    cluster: Cluster,
    options: NodeOptions,
    insides: Insides,
) -> Result<()> {
    let mut host = cluster.boot(NodeId(options.node.id))?;
    let (node, start, process) = (host.node, host.start, Arc::clone(&host.process));
    let env = host.env.clone();
    // A task of its own, so that it stops, goes on and panics like the others.
    host.env.tasks.spawn("main", async move {
        let started = start_node(&options, &env, Arc::new(host.quic), host.identity, None).await;
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                process.die(format!("did not start: {error}"));
                return;
            }
        };
        let broker = running.broker().clone();
        let api = broker.api();
        let inside = Inside {
            start,
            directory: running.directory(),
            broker,
            metadata: running.metadata().clone(),
            api,
        };
        insides.lock().insert(node, inside);
        if host.stop.wait_for(|asked| *asked).await.is_ok() {
            let stopping = env.timeout(options.node.stop_timeout, running.drain_and_stop());
            let in_time = stopping.await.is_some();
            process.die(if in_time { STOPPED } else { STOPPED_LATE }.to_owned());
        }
    });
    pending::<()>().await;
    Ok(())
}
