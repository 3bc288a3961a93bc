//! The in-sync replica set as the leader sees it.
//!
//! ```text
//!            propose more                  agreed (a higher partition epoch)
//! Committed ─────────────▶ Expanding ──────────────────────────────▶ Committed
//!     │      propose fewer               refused, and no attempt in doubt
//!     └──────────────────▶ Shrinking ──────────────────────────────▶ Committed
//! ```
//! One proposal at a time. The *maximal* ISR, agreed plus everything proposed since, is
//! what the watermark counts (S-07): a change may be in force at the controller before
//! this leader hears of it. An attempt without an answer may still be carried out later,
//! so after one the set stays maximal until a record with a higher partition epoch comes;
//! if a retry is refused meanwhile, the leader proposes the agreed ISR itself, whose only
//! purpose is to raise the partition epoch and so to fence the lost attempt (I5).

use std::collections::BTreeSet;
use std::time::Duration;

use weir_base::{Monotonic, NodeId};

use super::effect::{IsrAnswer, IsrProposal};

/// Agreed, or agreed and something proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InSync {
    /// What the controller agreed on, as far as known; nothing is under way.
    Committed {
        /// The agreed ISR.
        isr: BTreeSet<NodeId>,
        /// Propose nothing before this: the last proposal was refused.
        quiet_until: Option<Monotonic>,
        /// How often in a row.
        refusals: u32,
    },
    /// Replicas are to be added.
    Expanding {
        /// The agreed ISR.
        isr: BTreeSet<NodeId>,
        /// What is asked for.
        pending: Pending,
    },
    /// Replicas are to be removed, or the record is to change without them.
    Shrinking {
        /// The agreed ISR.
        isr: BTreeSet<NodeId>,
        /// What is asked for.
        pending: Pending,
    },
}

/// A proposal under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Sent again word for word: a member's node epoch must stay the one it was judged in.
    proposal: IsrProposal,
    /// Agreed plus everything proposed at this partition epoch.
    maximal: BTreeSet<NodeId>,
    /// When to ask again; `None` while an attempt is unanswered.
    retry_at: Option<Monotonic>,
    /// Some attempt at this partition epoch may yet be carried out.
    doubtful: bool,
    /// Attempts and refusals so far; the pause grows with them.
    attempts: u32,
}

/// The pause doubles this often, no further.
const DOUBLINGS_MAX: u32 = 5;

impl InSync {
    pub(crate) fn committed(isr: BTreeSet<NodeId>) -> InSync {
        InSync::Committed {
            isr,
            quiet_until: None,
            refusals: 0,
        }
    }

    /// The agreed ISR.
    pub(crate) fn isr(&self) -> &BTreeSet<NodeId> {
        match self {
            InSync::Committed { isr, .. }
            | InSync::Expanding { isr, .. }
            | InSync::Shrinking { isr, .. } => isr,
        }
    }

    /// Agreed plus proposed: whom the watermark counts.
    pub(crate) fn maximal(&self) -> &BTreeSet<NodeId> {
        match self {
            InSync::Committed { isr, .. } => isr,
            InSync::Expanding { pending, .. } | InSync::Shrinking { pending, .. } => {
                &pending.maximal
            }
        }
    }

    /// Whether something may be proposed now.
    pub(crate) fn is_free(&self, now: Monotonic) -> bool {
        match self {
            InSync::Committed { quiet_until, .. } => quiet_until.is_none_or(|at| at <= now),
            InSync::Expanding { .. } | InSync::Shrinking { .. } => false,
        }
    }

    /// When time alone makes something possible.
    pub(crate) fn next_wake(&self) -> Option<Monotonic> {
        match self {
            InSync::Committed { quiet_until, .. } => *quiet_until,
            InSync::Expanding { pending, .. } | InSync::Shrinking { pending, .. } => {
                pending.retry_at
            }
        }
    }

    /// Notes `proposal` as sent.
    pub(crate) fn propose(&mut self, proposal: IsrProposal) {
        let isr = self.isr().clone();
        let attempts = match self {
            InSync::Committed { refusals, .. } => *refusals,
            InSync::Expanding { pending, .. } | InSync::Shrinking { pending, .. } => {
                pending.attempts
            }
        };
        let proposed: BTreeSet<NodeId> = proposal.isr.iter().map(|(node, _)| *node).collect();
        let pending = Pending {
            maximal: self.maximal().union(&proposed).copied().collect(),
            proposal,
            retry_at: None,
            doubtful: false,
            attempts,
        };
        *self = Self::pending(isr, pending);
    }

    fn pending(isr: BTreeSet<NodeId>, pending: Pending) -> InSync {
        let grows = pending
            .proposal
            .isr
            .iter()
            .any(|(node, _)| !isr.contains(node));
        if grows {
            InSync::Expanding { isr, pending }
        } else {
            InSync::Shrinking { isr, pending }
        }
    }

    /// The proposal to send again, if its time has come.
    pub(crate) fn retry(&mut self, now: Monotonic) -> Option<IsrProposal> {
        match self {
            InSync::Committed { quiet_until, .. } => {
                *quiet_until = quiet_until.filter(|at| *at > now);
                None
            }
            InSync::Expanding { pending, .. } | InSync::Shrinking { pending, .. } => {
                pending.retry_at.take_if(|at| *at <= now)?;
                Some(pending.proposal.clone())
            }
        }
    }

    /// An answer to the attempt under way. `fencing` is the agreed ISR as a proposal.
    pub(crate) fn on_answer(
        &mut self,
        now: Monotonic,
        answer: IsrAnswer,
        backoff: Duration,
        fencing: impl FnOnce() -> IsrProposal,
    ) {
        let (isr, mut pending) = match self {
            InSync::Committed { .. } => return,
            InSync::Expanding { isr, pending } | InSync::Shrinking { isr, pending } => {
                (isr.clone(), pending.clone())
            }
        };
        let again = now + backoff * (1 << pending.attempts.min(DOUBLINGS_MAX));
        pending.attempts = pending.attempts.saturating_add(1);
        match answer {
            IsrAnswer::Agreed | IsrAnswer::Unknown => {
                pending.doubtful = true;
                pending.retry_at = Some(again);
            }
            IsrAnswer::Refused if pending.doubtful => {
                pending.proposal = fencing();
                pending.retry_at = Some(again);
            }
            IsrAnswer::Refused => {
                *self = InSync::Committed {
                    isr,
                    quiet_until: Some(again),
                    refusals: pending.attempts,
                };
                return;
            }
        }
        *self = Self::pending(isr, pending);
    }
}
