//! Incremental fetch sessions (KIP-227): what a consumer fetches, remembered, so that
//! it sends only changes and gets only partitions with something to say.
//!
//! A cache: bounded, evicted by age, lost with the process; a client whose session is
//! gone makes a new one. Ids are random, so a client of a restarted node does not hit
//! another's session.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use weir_base::{Entropy, Monotonic};

use crate::codec::fetch::{PartitionAnswer, TopicKey};

/// A full cache gives up sessions unused for this long.
const EVICT_AFTER: Duration = Duration::from_secs(120);
/// Partitions that all sessions together may remember.
const PARTITIONS_MAX: usize = 1_000_000;
/// Epochs that are no number: no session, and the first of a new one.
const SESSIONLESS: i32 = -1;
const FIRST: i32 = 0;

/// A partition as the request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) index: i32,
}

/// What is wanted of it, as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// What the client was last told; -1 if nothing or an error.
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    partitions: BTreeMap<PartitionKey, Cached>,
    used: Monotonic,
    /// Where the next fetch starts reading, so that no partition starves the others.
    turn: usize,
}

/// A fetch to be carried out.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The session's id for the response; 0 for none.
    pub(crate) session: i32,
    /// Whether partitions without news are left out.
    pub(crate) incremental: bool,
    pub(crate) partitions: Vec<(PartitionKey, Wanted)>,
}

/// All sessions of this node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    sessions_max: usize,
    partitions: usize,
}

impl FetchSessions {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            sessions_max,
            partitions: 0,
        }
    }

    /// Resolves a request's session id and epoch.
    pub(crate) fn begin(
        &mut self,
        id: i32,
        epoch: i32,
        wanted: Vec<(PartitionKey, Wanted)>,
        forgotten: Vec<PartitionKey>,
        now: Monotonic,
        entropy: &Entropy,
    ) -> Result<Begun, ResponseError> {
        if epoch == SESSIONLESS || epoch == FIRST {
            self.remove(id);
            let session = if epoch == FIRST {
                self.open(&wanted, now, entropy)
            } else {
                0
            };
            return Ok(Begun {
                session,
                incremental: false,
                partitions: wanted,
            });
        }
        let session = self.sessions.get_mut(&id);
        let session = session.ok_or(ResponseError::FetchSessionIdNotFound)?;
        if epoch != session.next_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        let by_id = |key: &PartitionKey| matches!(key.topic, TopicKey::Id(_));
        let known = session.partitions.keys().next().map(by_id);
        let asked = wanted.first().map(|(key, _)| by_id(key));
        if known
            .zip(asked)
            .is_some_and(|(known, asked)| known != asked)
        {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        session.next_epoch = next_epoch(epoch);
        session.used = now;
        let before = session.partitions.len();
        for key in forgotten {
            session.partitions.remove(&key);
        }
        for (key, wanted) in wanted {
            let known = session.partitions.get_mut(&key);
            if let Some(known) = known {
                known.wanted = wanted;
            } else {
                session.partitions.insert(key, Cached::new(wanted));
            }
        }
        let after = session.partitions.len();
        let turn = session.turn.checked_rem(after).unwrap_or(0);
        let all = session.partitions.iter();
        let mut partitions: Vec<_> = all.map(|(key, c)| (key.clone(), c.wanted)).collect();
        partitions.rotate_left(turn);
        self.partitions = self.partitions + after - before;
        if self.partitions > PARTITIONS_MAX {
            self.remove(id);
        }
        Ok(Begun {
            session: id,
            incremental: true,
            partitions,
        })
    }

    /// Opens a session, or gives 0 if there is no room or nothing to remember.
    fn open(
        &mut self,
        wanted: &[(PartitionKey, Wanted)],
        now: Monotonic,
        entropy: &Entropy,
    ) -> i32 {
        if self.sessions.len() >= self.sessions_max {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let oldest = oldest.filter(|(_, session)| now.since(session.used) >= EVICT_AFTER);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.remove(id));
        }
        let full = self.sessions.len() >= self.sessions_max;
        if wanted.is_empty() || full || self.partitions + wanted.len() > PARTITIONS_MAX {
            return 0;
        }
        let id = loop {
            let drawn = i32::try_from(entropy.next_u64() >> 33).unwrap_or(0);
            if drawn > 0 && !self.sessions.contains_key(&drawn) {
                break drawn;
            }
        };
        let partitions = wanted.iter().map(|(key, w)| (key.clone(), Cached::new(*w)));
        let session = Session {
            next_epoch: 1,
            partitions: partitions.collect(),
            used: now,
            turn: 0,
        };
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// Leaves only partitions with data, an error or news about their bounds, and
    /// remembers what the client is told. Keeps everything if the session is gone.
    pub(crate) fn retain_changed(
        &mut self,
        id: i32,
        answers: &mut Vec<(TopicKey, PartitionAnswer)>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let count = answers.len().max(1);
        let served = answers
            .iter()
            .position(|(_, answer)| !answer.records.is_empty());
        if let Some(served) = served {
            session.turn = (session.turn + served + 1) % count;
        }
        answers.retain(|(topic, answer)| {
            let key = PartitionKey {
                topic: topic.clone(),
                index: answer.index,
            };
            let Some(cached) = session.partitions.get_mut(&key) else {
                return true;
            };
            let told = (cached.high_watermark, cached.log_start);
            let now = (answer.high_watermark, answer.log_start);
            (cached.high_watermark, cached.log_start) = now;
            if answer.error != 0 {
                // When the error goes away the partition must be told of again.
                cached.high_watermark = -1;
                return true;
            }
            !answer.records.is_empty() || answer.diverging.is_some() || told != now
        });
    }
}

impl Cached {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            high_watermark: -1,
            log_start: -1,
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn key(index: i32) -> PartitionKey {
        PartitionKey {
            topic: TopicKey::Name(StrBytes::from_static_str("t")),
            index,
        }
    }

    fn want(offset: i64) -> Wanted {
        Wanted {
            offset,
            bytes_max: 1,
            leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn both() -> Vec<(PartitionKey, Wanted)> {
        vec![(key(0), want(0)), (key(1), want(0))]
    }

    fn begin(sessions: &mut FetchSessions, id: i32, epoch: i32) -> Result<Begun, ResponseError> {
        let entropy = Entropy::from_seed([3; 32]);
        sessions.begin(id, epoch, Vec::new(), Vec::new(), Monotonic(0), &entropy)
    }

    fn open(sessions: &mut FetchSessions, now: Monotonic, entropy: &Entropy) -> i32 {
        let begun = sessions.begin(0, FIRST, both(), Vec::new(), now, entropy);
        begun.unwrap().session
    }

    fn answer(index: i32, high_watermark: i64) -> (TopicKey, PartitionAnswer) {
        let answer = PartitionAnswer {
            index,
            high_watermark,
            ..PartitionAnswer::default()
        };
        (key(index).topic, answer)
    }

    #[test]
    fn a_session_remembers_and_tells_only_news() {
        let entropy = Entropy::from_seed([1; 32]);
        let mut sessions = FetchSessions::new(10);
        let id = open(&mut sessions, Monotonic(0), &entropy);
        assert!(id > 0);
        let begun = sessions
            .begin(
                id,
                1,
                vec![(key(1), want(9))],
                vec![key(0)],
                Monotonic(1),
                &entropy,
            )
            .unwrap();
        assert!(begun.incremental);
        assert_eq!(begun.partitions, [(key(1), want(9))]);
        let mut answers = vec![answer(1, 5)];
        sessions.retain_changed(id, &mut answers);
        assert_eq!(answers.len(), 1, "the first watermark is news");
        let mut answers = vec![answer(1, 5)];
        sessions.retain_changed(id, &mut answers);
        assert!(answers.is_empty());
        let mut failed = vec![answer(1, -1)];
        failed[0].1.error = 6;
        sessions.retain_changed(id, &mut failed);
        assert_eq!(failed.len(), 1);
        let mut answers = vec![answer(1, 5)];
        sessions.retain_changed(id, &mut answers);
        assert_eq!(answers.len(), 1, "an error that went away is news");
    }

    #[test]
    fn wrong_ids_epochs_and_kinds_of_topic_are_refused() {
        let entropy = Entropy::from_seed([1; 32]);
        let mut sessions = FetchSessions::new(10);
        let id = open(&mut sessions, Monotonic(0), &entropy);
        assert_eq!(
            begin(&mut sessions, id + 1, 1).unwrap_err(),
            ResponseError::FetchSessionIdNotFound
        );
        assert_eq!(
            begin(&mut sessions, id, 2).unwrap_err(),
            ResponseError::InvalidFetchSessionEpoch
        );
        let by_id = PartitionKey {
            topic: TopicKey::Id(weir_base::Uuid([1; 16])),
            index: 0,
        };
        let mixed = sessions.begin(
            id,
            1,
            vec![(by_id, want(0))],
            vec![],
            Monotonic(0),
            &entropy,
        );
        assert_eq!(mixed.unwrap_err(), ResponseError::FetchSessionTopicIdError);
        assert!(begin(&mut sessions, id, 1).is_ok());
        assert!(begin(&mut sessions, id, SESSIONLESS).is_ok());
        assert_eq!(
            begin(&mut sessions, id, 2).unwrap_err(),
            ResponseError::FetchSessionIdNotFound
        );
    }

    #[test]
    fn a_full_cache_evicts_only_the_unused() {
        let entropy = Entropy::from_seed([1; 32]);
        let mut sessions = FetchSessions::new(2);
        let first = open(&mut sessions, Monotonic(0), &entropy);
        open(&mut sessions, Monotonic(1), &entropy);
        assert_eq!(open(&mut sessions, Monotonic(2), &entropy), 0);
        let later = Monotonic(0) + EVICT_AFTER;
        assert!(open(&mut sessions, later, &entropy) > 0);
        assert_eq!(
            begin(&mut sessions, first, 1).unwrap_err(),
            ResponseError::FetchSessionIdNotFound
        );
        assert_eq!(sessions.partitions, 4);
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
