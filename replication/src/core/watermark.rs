//! The high watermark: how far every replica of the maximal ISR is, as durably as the
//! topic asks.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::image::{Durability, FlushMode, ReplicationMode};
use weir_base::{NodeId, Offset};
use weir_storage::LogPosition;

use super::leader::Replica;

/// What a position counts for under a flush mode.
pub(crate) fn counted(flush: FlushMode, end: Offset, durable_end: Offset) -> Offset {
    match flush {
        FlushMode::Sync if weir_base::mutant!(M5) => end,
        FlushMode::Sync => durable_end,
        FlushMode::Async => end,
    }
}

/// The least counted offset over `maximal`; a member never heard of in this epoch
/// counts as nothing.
pub(crate) fn least(
    flush: FlushMode,
    me: NodeId,
    own: LogPosition,
    maximal: &BTreeSet<NodeId>,
    replicas: &BTreeMap<NodeId, Replica>,
) -> Offset {
    maximal
        .iter()
        .filter(|node| **node != me)
        .map(|node| {
            replicas
                .get(node)
                .map_or(Offset::ZERO, |replica| replica.counted(flush))
        })
        .fold(counted(flush, own.end, own.durable_end), Offset::min)
}

/// The stronger of two durabilities, setting by setting: what holds while a change to
/// a stronger one waits for its flush barrier.
pub(crate) fn stronger(a: Durability, b: Durability) -> Durability {
    Durability {
        flush: match (a.flush, b.flush) {
            (FlushMode::Async, FlushMode::Async) => FlushMode::Async,
            (FlushMode::Sync, _) | (_, FlushMode::Sync) => FlushMode::Sync,
        },
        replication: match (a.replication, b.replication) {
            (ReplicationMode::Async, ReplicationMode::Async) => ReplicationMode::Async,
            (ReplicationMode::Sync, _) | (_, ReplicationMode::Sync) => ReplicationMode::Sync,
        },
    }
}
