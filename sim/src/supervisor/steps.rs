//! Kills leaders of queues at the steps by which they move what they keep: before, right
//! behind, or as soon as a step is committed (`queue_steps.rs`).
//!
//! ```text
//!   armed --(its leader writes it)--> struck: the writer waits for its disk --> killed
//!     ^            +--> pending: until it is committed --> killed
//!     +------------------+ that leader is gone
//! ```
//! What is written is seen on its way to the disk, so that nothing happens between the step
//! and the end of the one that took it but what the network carries already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weir_base::{NodeId, Offset, TopicPartition};
use weir_storage::batches_in;

use crate::env::{Tripwire, Verdict};
use crate::queue_steps::{Found, Moment, Reader, Step};
use crate::whole_node::Insides;

/// Who is to be killed where, and for how long it stays down, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) step: Step,
    pub(super) moment: Moment,
    pub(super) down: u64,
}

/// Who is to be killed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Struck {
    pub(super) node: NodeId,
    pub(super) blow: Blow,
}

/// A step that was written, by whom, and where what was written ends.
#[derive(Debug, Clone, Copy)]
struct Pending {
    at: TopicPartition,
    writer: NodeId,
    end: Offset,
    struck: Struck,
}

#[derive(Default)]
struct State {
    reader: Reader,
    armed: Vec<Blow>,
    pending: Option<Pending>,
    struck: Vec<Struck>,
}

/// Shared by its clones.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<Mutex<State>>);

impl Steps {
    /// Looks at all that the nodes write from now on.
    pub(super) fn watch(&self, wire: &Tripwire, insides: &Insides) {
        let (steps, insides) = (self.clone(), insides.clone());
        wire.set(Box::new(move |node, chunks| {
            steps.on_write(node, chunks, &insides)
        }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arm(&self, blow: Blow) {
        self.lock().armed.push(blow);
    }

    /// Waits for this one no more.
    pub(super) fn disarm(&self, blow: Blow) {
        self.lock().armed.retain(|armed| *armed != blow);
    }

    /// Waits for none any more. Who was struck must still be killed.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.armed.clear();
        state.pending = None;
    }

    /// Who is to be killed now.
    pub(super) fn look(&self, insides: &Insides) -> Vec<Struck> {
        let mut state = self.lock();
        if let Some(pending) = state.pending {
            let mark = leads(insides, pending.writer, pending.at);
            match mark {
                Some(mark) if mark >= pending.end => {
                    state.pending = None;
                    state.struck.push(pending.struck);
                }
                Some(_) => {}
                // It ended otherwise: another one is waited for.
                None => {
                    state.pending = None;
                    state.armed.push(pending.struck.blow);
                }
            }
        }
        std::mem::take(&mut state.struck)
    }

    fn on_write(&self, node: NodeId, chunks: &[Bytes], insides: &Insides) -> Verdict {
        let image = {
            let insides = insides.lock();
            let Some(inside) = insides.get(&node) else {
                return Verdict::Go;
            };
            inside.api.cluster.image()
        };
        let leader = |at| image.partition(at).and_then(|record| record.leader);
        let mut state = self.lock();
        let mut verdict = Verdict::Go;
        for (at, batch) in batches_in(&chunks.concat().into()) {
            if leader(at) != Some(node) {
                continue;
            }
            for Found { step, journal } in state.reader.read(&image, at, &batch) {
                let Some(node_of_queue) = leader(journal) else {
                    continue;
                };
                // One blow a write: a second one might be for what the first prevents.
                let is_dealt = verdict != Verdict::Go || !state.struck.is_empty();
                let is_pending = state.pending.is_some();
                let armed = state.armed.iter().position(|blow| {
                    blow.step == step
                        && !is_dealt
                        && (blow.moment != Moment::Committed || !is_pending)
                });
                let Some(blow) = armed.map(|index| state.armed.remove(index)) else {
                    continue;
                };
                // What is not to be written at all takes the writer.
                let victim = if blow.moment == Moment::Before {
                    node
                } else {
                    node_of_queue
                };
                let struck = Struck { node: victim, blow };
                match blow.moment {
                    Moment::Before => {
                        verdict = Verdict::Withhold;
                        state.struck.push(struck);
                    }
                    Moment::Behind => {
                        if victim == node {
                            verdict = Verdict::Mute;
                        }
                        state.struck.push(struck);
                    }
                    Moment::Committed => {
                        let (writer, end) = (node, batch.end_offset());
                        state.pending = Some(Pending {
                            at,
                            writer,
                            end,
                            struck,
                        });
                    }
                }
            }
        }
        verdict
    }
}

/// Up to where what a leader wrote is committed, while it leads.
fn leads(insides: &Insides, node: NodeId, at: TopicPartition) -> Option<Offset> {
    let view = super::ambush::view(insides, node, at)?;
    view.is_leader.then_some(view.high_watermark)
}
