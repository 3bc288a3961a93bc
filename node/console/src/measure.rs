//! `/metrics`: what the console can tell from the image and the logs, and what the
//! sources add.

use std::collections::BTreeMap;

use weir_api::{Api, Metrics, MetricsSource};
use weir_base::TopicId;

use crate::ConsoleState;
use crate::cluster::{Count, state_name};

pub(crate) fn scrape(state: &ConsoleState) -> String {
    let mut metrics = Metrics::default();
    let health = state.health.health();
    metrics.gauge(
        "weir_ready",
        "Whether the node serves (1) or not (0).",
        &[],
        u64::from(health.ready),
    );
    if let Some(broker) = state.broker.get() {
        cluster(&broker.api, &mut metrics);
        logs(&broker.api, &mut metrics);
        for source in &broker.metrics {
            MetricsSource::collect(&**source, &mut metrics);
        }
    }
    metrics.to_text()
}

fn cluster(api: &Api, metrics: &mut Metrics) {
    let image = api.cluster.image();
    let node = api.cluster.node();
    let mut gauge = |name, help, value: usize| metrics.gauge(name, help, &[], value as u64);
    let count = Count::of(&image);
    let led = image
        .partitions()
        .filter(|(_, p)| p.leader == Some(node))
        .count();
    let held = image
        .partitions()
        .filter(|(_, p)| p.has_replica(node))
        .count();
    gauge("weir_topics", "Topics of the cluster.", image.topics.len());
    gauge(
        "weir_partitions",
        "Partitions of the cluster.",
        count.partitions,
    );
    gauge(
        "weir_partitions_leaderless",
        "Partitions that nobody leads.",
        count.leaderless,
    );
    gauge(
        "weir_partitions_under_replicated",
        "Partitions whose ISR is smaller than their replicas.",
        count.under_replicated,
    );
    gauge(
        "weir_partitions_under_min_isr",
        "Partitions that take no writes because their ISR is below min ISR.",
        count.under_min_isr,
    );
    gauge(
        "weir_node_partitions_led",
        "Partitions that this node leads.",
        led,
    );
    gauge(
        "weir_node_replicas",
        "Partitions that this node has a replica of.",
        held,
    );
    let is_controller = api.cluster.controller() == Some(node);
    gauge(
        "weir_node_is_controller",
        "Whether this node leads the metadata group.",
        usize::from(is_controller),
    );
    metrics.gauge(
        "weir_metadata_version",
        "Metadata log index of the newest image here.",
        &[],
        image.version,
    );
    let mut states = BTreeMap::from([("fenced", 0u64), ("active", 0), ("draining", 0)]);
    for node in image.nodes.values() {
        *states.entry(state_name(node.state)).or_default() += 1;
    }
    for (state, nodes) in states {
        metrics.gauge("weir_nodes", "Nodes by state.", &[("state", state)], nodes);
    }
}

/// Per topic, not per partition: a node has thousands of those, and a scrape should not.
fn logs(api: &Api, metrics: &mut Metrics) {
    let image = api.cluster.image();
    let mut topics: BTreeMap<TopicId, (u64, u64)> = BTreeMap::new();
    for (at, bytes, lag) in api.log.replica_sizes() {
        let (size, lag_max) = topics.entry(at.topic).or_default();
        *size += bytes;
        *lag_max = lag.max(*lag_max);
    }
    for (id, (bytes, lag_max)) in topics {
        let Some(name) = image.topic_names.get(&id) else {
            continue;
        };
        let labels = [("topic", &**name)];
        metrics.gauge(
            "weir_log_bytes",
            "Bytes on this node, by topic.",
            &labels,
            bytes,
        );
        metrics.gauge(
            "weir_replica_lag_max",
            "Offsets by which the worst replica on this node lags, by topic.",
            &labels,
            lag_max,
        );
    }
}
