//! What the broker can tell of this node's replicas at a scrape.

use std::sync::atomic::Ordering;

use weir_api::{Metrics, MetricsSource};

use crate::Broker;

impl MetricsSource for Broker {
    fn collect(&self, into: &mut Metrics) {
        let changes = &self.0.changes;
        into.counter(
            "weir_isr_shrinks_total",
            "Replicas taken out of an ISR on this leader's word.",
            &[],
            changes.shrinks.load(Ordering::Relaxed),
        );
        into.counter(
            "weir_isr_expands_total",
            "Replicas taken into an ISR on this leader's word.",
            &[],
            changes.expands.load(Ordering::Relaxed),
        );
        into.counter(
            "weir_acked_truncated_total",
            "Offsets that may have been acknowledged and that a fail-over under async replication cut here.",
            &[],
            self.0.replication.acknowledged_cut(),
        );
        let limited = &self.0.queues.limited;
        for (name, help, counter) in [
            (
                "weir_queue_refused_batches_total",
                "Batches, and messages to be kept for later, that a full queue refused here.",
                &limited.refused,
            ),
            (
                "weir_queue_redirected_batches_total",
                "Batches that a full queue sent elsewhere here.",
                &limited.redirected,
            ),
        ] {
            into.counter(name, help, &[], counter.load(Ordering::Relaxed));
        }
        self.0.queues.watched.collect(into);
        let image = self.0.metadata.image();
        let held = image
            .partitions()
            .filter(|(_, of)| of.has_replica(self.0.node));
        let (mut offline, mut lacking) = (0, 0);
        for (at, of) in held {
            offline += u64::from(self.0.replication.partition(at).is_none());
            let leads = of.leader == Some(self.0.node);
            lacking += u64::from(leads && of.isr.len() < of.replicas.len());
        }
        into.gauge(
            "weir_node_replicas_offline",
            "Replicas that this node should have and does not have open.",
            &[],
            offline,
        );
        into.gauge(
            "weir_node_partitions_under_replicated",
            "Partitions that this node leads and whose ISR is smaller than their replicas.",
            &[],
            lacking,
        );
    }
}
