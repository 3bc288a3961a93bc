//! What must hold at every look at a cluster, one file an invariant (`weir_base::invariant`
//! numbers them).
//!
//! Each keeps what it has to remember from look to look. Those about logs speak of
//! partitions with sync flush and sync replication alone: what the weaker modes may lose
//! is judged at the end of a run, by what was acknowledged (`oracle`). Four are judged elsewhere:
//! I8 where data is read (`workload/reader.rs`, and an assert in the product); I12 by the
//! storage's own model; I13, of which half messages are the only kind there is, by C18, to which a
//! half message that was decided both ways is an anomaly; I14 by the model of the queue machine
//! (`node/queue/tests/model`), which at every change of leader folds the journal anew, whole,
//! compacted and from a snapshot, and compares all that is pending.

mod i01_one_leader;
mod i01_terms;
mod i02_follows;
mod i02_log_matching;
mod i03_watermark;
mod i04_joins;
mod i04_members_hold_it;
mod i04_returned_members;
mod i04_suspects;
mod i05_to_i07_records;
mod i09_epochs;
mod i10_fenced;
mod i10_lease;
mod i11_producers;
mod i15_images;

use std::collections::BTreeMap;

use weir_base::{NodeId, TopicPartition};

use crate::probe::Seen;

/// What clients were told, by partition: one past the last acknowledged offset.
pub(crate) type Told = BTreeMap<TopicPartition, u64>;

/// One invariant over a run.
trait Check {
    /// Looks; gives what is broken.
    fn look(&mut self, seen: &Seen, told: &Told) -> Vec<String>;
}

/// All of them.
pub(crate) struct Invariants(Vec<Box<dyn Check>>);

impl Invariants {
    /// `forgetful` is a voter whose metadata may rot: it may forget its last term. Where a
    /// disk lies, nobody can say what logs hold: only what the cluster agrees on is looked at.
    pub(crate) fn new(forgetful: Option<NodeId>, a_disk_lies: bool) -> Self {
        let agreed: [Box<dyn Check>; 9] = [
            Box::<i01_one_leader::OneLeader>::default(),
            Box::new(i01_terms::Terms::new(forgetful)),
            Box::<i04_suspects::Suspects>::default(),
            Box::<i05_to_i07_records::Records>::default(),
            Box::<i09_epochs::Epochs>::default(),
            Box::new(i10_fenced::Fenced),
            Box::new(i10_fenced::Replaced),
            Box::<i10_lease::Lease>::default(),
            Box::<i15_images::Images>::default(),
        ];
        let of_logs: [Box<dyn Check>; 7] = [
            Box::<i02_follows::Follows>::default(),
            Box::new(i02_log_matching::LogMatching),
            Box::<i03_watermark::Watermark>::default(),
            Box::<i04_joins::Joins>::default(),
            Box::<i04_members_hold_it::MembersHoldIt>::default(),
            Box::<i04_returned_members::ReturnedMembers>::default(),
            Box::<i11_producers::Producers>::default(),
        ];
        let of_logs = of_logs.into_iter().filter(|_| !a_disk_lies);
        Self(agreed.into_iter().chain(of_logs).collect())
    }

    /// Looks with all; gives what is broken.
    pub(crate) fn look(&mut self, seen: &Seen, told: &Told) -> Vec<String> {
        let all = self.0.iter_mut();
        all.flat_map(|check| check.look(seen, told)).collect()
    }
}

#[cfg(test)]
pub(crate) mod testing;
