//! Whether a partition takes more messages, told ahead: up to which log end it does.
//!
//! A host asks once a turn and looks at the answer before every append, so that an append
//! waits for no machine. Limits are met to the batch: one that begins below is taken whole.
//! Groups without a limit of their own have that of their topic, which the host knows.
//!
//! What is kept counts as if it were at the end of the log already, where it will be: delayed
//! messages, half messages, and what waits to leave for the log. Only batches on their way
//! there do not, which would be counted twice once they are there (decisions/0007). Nor do
//! records of the log that were taken in, whose messages are kept: see `originals.rs`.

use weir_base::Offset;

use super::{Originals, QueueState, StoredGroup};
use crate::ids::GroupName;
use crate::record::Destination;
use crate::settings::{Capacity, OnFull, Target};

/// Whether a partition takes more messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Accept,
    /// A group has as many waiting as it may.
    Full {
        /// Which.
        group: GroupName,
        /// Its limit.
        messages_max: u64,
    },
    /// It is as full, and messages go elsewhere.
    Redirect {
        /// Where to.
        target: Target,
        /// Which group.
        group: GroupName,
        /// Its limit.
        messages_max: u64,
    },
}

/// From which log end on messages are refused, go elsewhere, or push others out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// The first of the groups that refuse: from where, which, and its limit.
    refuses: Option<(Offset, GroupName, u64)>,
    /// The first of those that send elsewhere.
    redirects: Option<(Offset, GroupName, u64, Target)>,
    /// The first of those that drop their oldest.
    drops: Option<Offset>,
    /// Of those, the one that may hold least, and how much.
    drops_least: Option<(u64, GroupName)>,
    /// The hindmost group without a limit of its own: its position, moved on by the
    /// originals behind that, and its name.
    hindmost: Option<(Offset, GroupName)>,
    /// Messages that are kept, and will be at the end of the log.
    kept: u64,
}

impl Gate {
    /// Whether a log that ends at `end` takes more messages; `default` is the limit of
    /// groups without one. Who refuses goes before who redirects; groups that drop their
    /// oldest never say no.
    #[must_use]
    pub fn admission(&self, end: Offset, default: Option<&Capacity>) -> Admission {
        let full = |group: &GroupName, messages_max| Admission::Full {
            group: group.clone(),
            messages_max,
        };
        let end = Offset(end.0.saturating_add(self.kept));
        let over = self.over(end, default);
        if let Some((from, group, max)) = &self.refuses
            && end >= *from
        {
            return full(group, *max);
        }
        if let Some((group, capacity)) = over
            && capacity.on_full == OnFull::Reject
        {
            return full(group, capacity.messages_max);
        }
        let elsewhere = |target: &Target, group: &GroupName, messages_max| Admission::Redirect {
            target: target.clone(),
            group: group.clone(),
            messages_max,
        };
        if let Some((from, group, max, target)) = &self.redirects
            && end >= *from
        {
            return elsewhere(target, group, *max);
        }
        if let Some((group, capacity)) = over
            && let OnFull::Redirect(target) = &capacity.on_full
        {
            return elsewhere(target, group, capacity.messages_max);
        }
        Admission::Accept
    }

    /// The group that has no room for one more delayed or half message, the log ending at
    /// `end`, and its limit. Who would send a message elsewhere says no as well: its handle
    /// is good here alone. So does who drops its oldest, once as much is kept as it may hold:
    /// what is kept is everybody's, and was promised.
    #[must_use]
    pub fn refuses_to_keep(
        &self,
        end: Offset,
        default: Option<&Capacity>,
    ) -> Option<(GroupName, u64)> {
        match self.admission(end, default) {
            Admission::Full {
                group,
                messages_max,
            }
            | Admission::Redirect {
                group,
                messages_max,
                ..
            } => return Some((group, messages_max)),
            Admission::Accept => {}
        }
        let by_default = self.hindmost.as_ref().zip(default);
        let by_default = by_default.filter(|(_, all)| all.on_full == OnFull::DropOldest);
        let by_default = by_default.map(|((_, group), all)| (all.messages_max, group.clone()));
        let droppers = self.drops_least.iter().cloned().chain(by_default);
        let (least, group) = droppers.min()?;
        (self.kept >= least).then_some((group, least))
    }

    /// Whether a group that drops its oldest holds more than it may: a `Trim` is due.
    #[must_use]
    pub fn wants_trim(&self, end: Offset, default: Option<&Capacity>) -> bool {
        let before = Offset(end.0.saturating_sub(1));
        let over = self.over(before, default);
        self.drops.is_some_and(|from| end > from)
            || over.is_some_and(|(_, capacity)| capacity.on_full == OnFull::DropOldest)
    }

    /// The hindmost group without a limit of its own, if it is over the default.
    fn over<'a>(
        &'a self,
        end: Offset,
        default: Option<&'a Capacity>,
    ) -> Option<(&'a GroupName, &'a Capacity)> {
        let (position, group) = self.hindmost.as_ref()?;
        let default = default?;
        let waiting = end.0.saturating_sub(position.0);
        (waiting >= default.messages_max).then_some((group, default))
    }

    fn add(&mut self, group: &StoredGroup, originals: &Originals) {
        let (Some(name), Some(settings)) = (&group.name, &group.settings) else {
            return;
        };
        let position = group.position();
        let position = Offset(position.0.saturating_add(originals.from(position)));
        let Some(capacity) = &settings.capacity else {
            if is_before(position, self.hindmost.as_ref().map(|(at, _)| *at)) {
                self.hindmost = Some((position, name.clone()));
            }
            return;
        };
        let messages_max = capacity.messages_max;
        let from = Offset(position.0.saturating_add(messages_max));
        match &capacity.on_full {
            OnFull::Reject => {
                if is_before(from, self.refuses.as_ref().map(|(at, ..)| *at)) {
                    self.refuses = Some((from, name.clone(), messages_max));
                }
            }
            OnFull::Redirect(target) => {
                if is_before(from, self.redirects.as_ref().map(|(at, ..)| *at)) {
                    self.redirects = Some((from, name.clone(), messages_max, target.clone()));
                }
            }
            OnFull::DropOldest => {
                self.drops = Some(self.drops.map_or(from, |old| old.min(from)));
                let least = (messages_max, name.clone());
                self.drops_least = Some(match self.drops_least.take() {
                    Some(known) => known.min(least),
                    None => least,
                });
            }
        }
    }
}

fn is_before(at: Offset, known: Option<Offset>) -> bool {
    known.is_none_or(|known| at < known)
}

impl QueueState {
    /// Messages that will be at the end of the log and are in no batch that goes there.
    fn kept(&self) -> u64 {
        let departing = self.outboxes.get(&Destination::Here);
        let departing = departing.map_or(0, |outbox| outbox.departing.len());
        let kept = self.timeline.len() + self.halves.len() + departing;
        u64::try_from(kept).unwrap_or(u64::MAX)
    }

    /// The gate as things stand.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let mut gate = Gate {
            kept: self.kept(),
            ..Gate::default()
        };
        let groups = self.groups.values();
        groups.for_each(|group| gate.add(group, &self.originals));
        gate
    }
}
