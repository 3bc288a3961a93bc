//! Three nodes and a topic that node 2 leads, until it is killed: what is asked of it at
//! another node, and of its successor.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::{Api, NewTopic};
use weir_base::{Env, NodeId, TopicPartition};
use weir_sim::cluster::{Cluster, ip};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// How long a call may take.
pub(crate) const WAIT: Duration = Duration::from_secs(2);

pub(crate) fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far those are that ask; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<(bool, bool)>>);

impl Progress {
    pub(crate) fn leader_may_die(&self) {
        self.0.lock().unwrap().0 = true;
    }

    pub(crate) fn is_done(&self) {
        self.0.lock().unwrap().1 = true;
    }
}

/// The partition, once the node knows of it.
pub(crate) async fn partition(env: &Env, api: &Api) -> TopicPartition {
    loop {
        if let Some(topic) = api.cluster.image().topics.get("t") {
            return TopicPartition::new(topic.id, 0);
        }
        env.sleep(at(20)).await;
    }
}

/// Makes the topic, at node 1, which never leads it while another node is there.
pub(crate) async fn make_topic(env: &Env, api: &Api) -> TopicPartition {
    loop {
        let topic = NewTopic {
            name: "t".to_owned(),
            assignment: Some(vec![vec![NODES[1], NODES[2], NODES[0]]]),
            ..NewTopic::default()
        };
        let made = api.admin.create_topic(topic, false, WAIT).await;
        if made.is_ok() || api.cluster.image().topics.contains_key("t") {
            return partition(env, api).await;
        }
        env.sleep(at(50)).await;
    }
}

/// Runs the nodes, each with what `start` begins there, until all is done; kills node 2 when
/// it may die.
///
/// # Panics
/// If it is not done in time, or before node 2 was killed.
pub(crate) fn until_done(
    seed: u64,
    progress: &Progress,
    start: impl Fn(NodeId, &Env, Api) + Clone + 'static,
) {
    let cluster = Cluster::new(seed, &NODES, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(90_000)).build();
    for node in NODES {
        let (cluster, start) = (cluster.clone(), start.clone());
        sim.host(ip(node), move || {
            let (options, start) = (node_options(node, &NODES), start.clone());
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                start(node, env, api);
            });
            async move { Ok(software.await?) }
        });
    }
    let mut is_killed = false;
    loop {
        let (leader_may_die, is_done) = *progress.0.lock().unwrap();
        if is_done {
            break;
        }
        assert!(sim.elapsed() < at(80_000), "seed {seed}: not done");
        if leader_may_die && !is_killed {
            cluster.kill(&mut sim, NODES[1]).unwrap();
            is_killed = true;
        }
        sim.step().unwrap();
    }
    assert!(is_killed);
}
