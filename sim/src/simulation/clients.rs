//! The clients of a run: a writer and a reader a partition, and an admin, spread over
//! two machines.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_base::NodeId;

use super::keys;
use crate::cluster::{Cluster, ip};
use crate::nemesis::Change;
use crate::plan::{CLIENTS, Plan, TOPICS};
use crate::whole_node::kafka_addresses;
use crate::workload::admin;
use crate::workload::produce::create_topic;
use crate::workload::reader::Reader;
use crate::workload::recorder::Recorder;
use crate::workload::stage::Stage;
use crate::workload::writer::{Target, Writer};

/// The run's end of its admin.
pub(super) struct Admin {
    /// What it is to do.
    pub(super) changes: UnboundedSender<Change>,
    /// The kinds of what it did.
    pub(super) done: UnboundedReceiver<&'static str>,
}

/// What the admin begins with.
type Orders = (UnboundedReceiver<Change>, UnboundedSender<&'static str>);

/// Starts them with the simulation.
pub(super) fn start(
    sim: &mut turmoil::Sim<'_>,
    cluster: &Cluster,
    plan: &Plan,
    recorder: &Recorder,
    stage: &Stage,
) -> Admin {
    let (changes, orders) = unbounded_channel();
    let (tell, done) = unbounded_channel();
    let mut orders: Option<Orders> = Some((orders, tell));
    let nodes = kafka_addresses(&plan.nodes);
    for (place, client) in CLIENTS.into_iter().enumerate() {
        let mine = keys().filter(|(_, _, key)| key.0 as usize % CLIENTS.len() == place);
        let targets: Vec<Target> = mine
            .map(|(topic, partition, key)| Target {
                topic: TOPICS[topic],
                partition,
                key,
                nodes: nodes.clone(),
                recorder: recorder.clone(),
                stage: stage.clone(),
            })
            .collect();
        let cluster = cluster.clone();
        let nodes = nodes.clone();
        // Clients are never restarted.
        let once = std::cell::RefCell::new(Some((targets, orders.take())));
        sim.host(ip(client), move || {
            let start = once.borrow_mut().take();
            let (cluster, nodes) = (cluster.clone(), nodes.clone());
            async move {
                let (targets, orders) = start.unwrap_or_default();
                software(client, cluster, nodes, targets, orders).await?;
                std::future::pending().await
            }
        });
    }
    Admin { changes, done }
}

async fn software(
    client: NodeId,
    cluster: Cluster,
    nodes: Vec<std::net::SocketAddr>,
    targets: Vec<Target>,
    orders: Option<Orders>,
) -> anyhow::Result<()> {
    let env = cluster.boot(client)?.env;
    let trace = cluster.trace().clone();
    if let Some((changes, done)) = orders {
        let admin = admin::run(env.clone(), nodes.clone(), trace, changes, done);
        env.tasks.spawn("admin", admin);
    }
    for target in targets {
        let (env, nodes) = (env.clone(), nodes.clone());
        let tasks = env.tasks.clone();
        tasks.clone().spawn("client", async move {
            let topic = target.topic;
            while create_topic(&env, &nodes, topic.name, topic.partitions, &topic.configs())
                .await
                .is_err()
            {}
            let (writer, reader) = (Writer::new(&env, target.clone()), Reader::new(&env, target));
            tasks.spawn("writer", writer.run());
            tasks.spawn("reader", reader.run());
        });
    }
    Ok(())
}
