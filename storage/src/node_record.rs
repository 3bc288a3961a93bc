//! What a data directory records about itself: who it is, and how its last process ended.

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use weir_base::Uuid;

use crate::two_slot::TwoSlot;

/// Version of the stored form.
const FORMAT: u32 = 2;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    format: u32,
    /// Made at the first start, for ever.
    pub(crate) storage: Uuid,
    /// Counts starts; the high bits of write-ahead log record numbers.
    pub(crate) session: u64,
    /// The machine's boot of the last start.
    pub(crate) boot_id: String,
    /// The last process shut the directory down in order.
    pub(crate) clean: bool,
    /// First write-ahead log file to replay.
    pub(crate) wal_first_number: u64,
    /// The worst start whose consequences the cluster was not told yet: a process may end
    /// between its start and its registration, and the next start looks harmless.
    pub(crate) untold: StartKind,
}

impl NodeRecord {
    pub(crate) fn new(storage: Uuid) -> Self {
        Self {
            format: FORMAT,
            storage,
            session: 0,
            boot_id: String::new(),
            clean: false,
            wal_first_number: 1,
            untold: StartKind::Fresh,
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.format == FORMAT
    }
}

/// How the previous process on this data directory ended. In order: what a later one
/// says holds over what an earlier one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartKind {
    /// There was none: the directory was made just now.
    Fresh,
    /// In order: everything is durable.
    Clean,
    /// By a crash, but the machine did not restart, so what it wrote is still there.
    ProcessCrash,
    /// By a crash of the machine, or one that cannot be told from it: what was not
    /// fsynced may be lost.
    Unclean,
    /// As `Unclean`, and a record of the write-ahead log was written and does not read
    /// back: of a group that the crash tore, which was never acknowledged, or of one that
    /// rotted. The two look alike here, so this directory's copies are to be elected only
    /// after a look at the others (reliability 3.4).
    TailSuspect,
}

impl NodeRecord {
    /// How the process that left this record ended, seen from boot `boot_id`.
    pub(crate) fn start_kind(&self, boot_id: &str) -> StartKind {
        if self.session == 0 {
            StartKind::Fresh
        } else if self.clean {
            StartKind::Clean
        } else if !boot_id.is_empty() && self.boot_id == boot_id {
            StartKind::ProcessCrash
        } else {
            StartKind::Unclean
        }
    }
}

/// The stored record.
pub(crate) struct NodeFile {
    slots: tokio::sync::Mutex<TwoSlot>,
    record: Mutex<NodeRecord>,
}

impl NodeFile {
    pub(crate) fn new(slots: TwoSlot, record: NodeRecord) -> Self {
        Self {
            slots: tokio::sync::Mutex::new(slots),
            record: Mutex::new(record),
        }
    }

    pub(crate) fn record(&self) -> NodeRecord {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.clone()
    }

    /// Changes and stores the record.
    pub(crate) async fn update(&self, change: impl FnOnce(&mut NodeRecord)) -> io::Result<()> {
        let mut slots = self.slots.lock().await;
        let mut record = self.record();
        change(&mut record);
        slots.store(record.clone()).await?;
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_boot_vouches_for_what_was_not_synced() {
        let mut record = NodeRecord::new(Uuid([1; 16]));
        assert_eq!(record.start_kind("a"), StartKind::Fresh);
        record.session = 1;
        record.boot_id = "a".to_owned();
        assert_eq!(record.start_kind("a"), StartKind::ProcessCrash);
        assert_eq!(record.start_kind("b"), StartKind::Unclean);
        record.boot_id = String::new();
        assert_eq!(record.start_kind(""), StartKind::Unclean);
        record.clean = true;
        assert_eq!(record.start_kind("b"), StartKind::Clean);
    }
}
