//! Stands between nodes and their disks, and may see what a node appends to its
//! write-ahead log before it is there: so a process is killed right before something is on
//! its disk, or right behind it, before it hears of that.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use weir_base::NodeId;

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Go,
    /// It is not made, and the process waits for it until it is killed.
    Withhold,
    /// It is made, and the process waits to hear so until it is killed.
    Mute,
}

/// Who looks at writes.
pub type Watch = Box<dyn FnMut(NodeId, &[Bytes]) -> Verdict + Send>;

/// The wire, of all nodes; clones share it.
#[derive(Clone, Default)]
pub struct Tripwire(Arc<Mutex<Option<Watch>>>);

impl fmt::Debug for Tripwire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tripwire").finish_non_exhaustive()
    }
}

impl Tripwire {
    /// From now on `watch` looks at every write to a write-ahead log.
    pub fn set(&self, watch: Watch) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// A node writes this to its write-ahead log.
    pub(super) fn on_write(&self, node: NodeId, chunks: &[Bytes]) -> Verdict {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch
            .as_mut()
            .map_or(Verdict::Go, |look| look(node, chunks))
    }
}
