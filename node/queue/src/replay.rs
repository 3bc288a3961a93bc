//! Replays: dead letters go back where they came from, as a job of the partition they
//! are on.
//!
//! ```text
//!   Start --> Running --feed--> [departing + moved-back bits + position], one batch of records
//!               |  ^   \
//!           pause  resume +--> Done (looked at all)      Cancel --> Cancelled
//! ```
//! The list of dead letters is the partition's log less the moved-back bits. A letter's bit
//! and the record that it is to be appended where it came from are of one batch, with the
//! job's new position: so whoever leads next finds each letter in exactly one of the two
//! places, and goes on behind it; from there it is the outbox that neither loses nor
//! doubles it. A bit is never cleared: no replay moves a letter that another one moved.
//!
//! Letters go back for the group that gave them up alone (`weir.replay.group`): the
//! topic's other groups have them behind them.
//!
//! What does not outlive the leader is what is being read, and the pace: a successor may
//! begin with a tenth of a second's worth of letters too early.
//!
//! Cost: a bit a letter, 40 bytes for 128 of them; a record of some 200 bytes for each feed
//! of at most 256 letters, and what departs for each that does.

mod job;
pub(crate) mod kept;
mod letter;

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::{Offset, Timestamp};

pub use job::{
    REPLAY_RATE_MAX, REPLAY_TEXT_MAX, ReplayChange, ReplayCommand, ReplayFilter, ReplayReport,
    ReplayState, ReplayStep, ReplayView, StartReplay, StoredReplay,
};
pub use letter::LetterFacts;

use crate::command::Feed;
use crate::durable::QueueState;
use crate::error::{QueueError, ReplayError};
use crate::ids::{EntryNumber, GroupNumber};
use crate::message::{MessageFacts, Needs, Want};
use crate::record::{BLOCK_OFFSETS, Destination, OutgoingMessage, QueueRecord};
use crate::settings::Target;
use crate::timers::Timer;
use crate::turn::Turn;

/// Replays that are remembered; the oldest goes when another begins.
const REPLAYS_MAX: usize = 100;
/// Letters looked at in one turn.
const LETTERS_AT_ONCE: usize = 256;
/// Messages that wait for a batch: with more, replays wait.
const DEPARTING_MAX: usize = 2_048;
/// About what a letter's new headers take.
const HEADER_BYTES: u32 = 256;

/// What a leader has of replays beside what is on record.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// What the host was asked for.
    wanted: Option<(EntryNumber, Offset)>,
    /// Not before this time, by the rate.
    held_until: Option<Timestamp>,
}

/// The replay that moves letters.
fn running(state: &QueueState) -> Option<(EntryNumber, &StoredReplay)> {
    // One begins when all others are over, so it is the last.
    let (number, replay) = state.replays.last_key_value()?;
    (replay.state == ReplayState::Running).then_some((*number, replay))
}

impl Replays {
    /// What is to be read for a replay, if anything is and was not asked for already.
    pub(crate) fn want(&mut self, state: &QueueState) -> Option<Want> {
        let (number, replay) = running(state)?;
        let from = replay.position;
        let is_held = self.held_until.is_some() || state.departing() >= DEPARTING_MAX;
        if is_held || self.wanted == Some((number, from)) {
            return None;
        }
        self.wanted = Some((number, from));
        Some(Want {
            group: GroupNumber(number.0),
            from,
            records_max: LETTERS_AT_ONCE,
            needs: Needs {
                tag: replay.filter.tag.is_some(),
                letter: true,
                ..Needs::default()
            },
        })
    }

    /// The rate allows more.
    pub(crate) fn on_due(&mut self, now: Timestamp) {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
    }

    /// Takes letters in; gives whether they answer the last want.
    pub(crate) fn feed(&mut self, turn: &mut Turn<'_>, feed: &Feed) -> bool {
        let number = EntryNumber(feed.group.0);
        if self.wanted != Some((number, feed.from)) {
            return false;
        }
        self.wanted = None;
        let state = turn.state;
        let Some((_, replay)) = running(state).filter(|(running, _)| *running == number) else {
            return true;
        };
        let mut replay = replay.clone();
        if feed.end <= feed.from {
            return true;
        }
        let moved = self.move_back(turn, &mut replay, feed);
        if replay.position >= replay.end {
            replay.step(turn.now, "".into(), ReplayState::Done);
        } else if let Some(rate) = replay.rate {
            self.hold(turn, moved, rate);
        }
        turn.record(QueueRecord::Replay {
            number,
            value: Some(replay),
        });
        true
    }

    /// Moves what the replay wants of a feed, as far as one turn may; gives how many.
    fn move_back(&self, turn: &mut Turn<'_>, replay: &mut StoredReplay, feed: &Feed) -> u64 {
        let state = turn.state;
        let at_once = replay
            .rate
            .map_or(u64::MAX, |rate| u64::from(rate / 10).max(1));
        let mut bits: BTreeMap<u64, u128> = BTreeMap::new();
        let (mut moved, mut next) = (0, feed.end.min(replay.end));
        let fresh = feed.facts.iter();
        let fresh = fresh.filter(|facts| facts.offset >= replay.position);
        for facts in fresh.take_while(|facts| facts.offset < replay.end) {
            let (block, bit) = place(facts.offset);
            let known = bits.entry(block).or_insert_with(|| state.moved_back(block));
            if *known & bit != 0 {
                continue;
            }
            let letter = facts.letter.as_deref();
            let Some(letter) = letter.filter(|letter| replay.filter.wants(facts, letter)) else {
                replay.passed_over += 1;
                continue;
            };
            let Some(home) = letter.origin.clone() else {
                replay.homeless += 1;
                continue;
            };
            if moved == at_once {
                next = facts.offset;
                break;
            }
            moved += 1;
            if !replay.dry_run {
                if !weir_base::mutant!(ReplayForgetsMark) {
                    *known |= bit;
                }
                depart(turn, facts, letter, home);
            }
        }
        for (block, bits) in bits {
            if bits != state.moved_back(block) {
                turn.record(QueueRecord::MovedBack {
                    block,
                    bits: Some(bits),
                });
            }
        }
        replay.moved += moved;
        replay.position = next;
        if weir_base::mutant!(ReplaySkips) {
            replay.position = feed.end.min(replay.end);
        }
        moved
    }

    fn hold(&mut self, turn: &mut Turn<'_>, moved: u64, rate: u32) {
        let pause = Duration::from_secs(moved) / rate;
        if moved > 0 {
            let until = turn.now + pause.max(Duration::from_millis(1));
            self.held_until = Some(until);
            turn.core.timers.arm(until, Timer::Replay);
        }
    }

    /// Does what an operator asks.
    pub(crate) fn command(
        &mut self,
        turn: &mut Turn<'_>,
        command: ReplayCommand,
    ) -> Result<ReplayReport, QueueError> {
        match command {
            ReplayCommand::Start(wish) => self.start(turn, wish),
            ReplayCommand::Change { replay, change, by } => {
                job::check_text(&by)?;
                let view = change_one(turn, replay, change, by)?;
                Ok(ReplayReport {
                    replays: vec![view],
                    ..ReplayReport::default()
                })
            }
            ReplayCommand::List { start, of } => Ok(report(turn.state, start, of)),
        }
    }

    fn start(
        &mut self,
        turn: &mut Turn<'_>,
        wish: StartReplay,
    ) -> Result<ReplayReport, QueueError> {
        wish.validate()?;
        let state = turn.state;
        let mut open = state.replays.iter().filter(|(_, r)| !r.state.is_over());
        if let Some((number, _)) = open.next() {
            return Err(ReplayError::UnderWay(*number).into());
        }
        let excess = (state.replays.len() + 1).saturating_sub(REPLAYS_MAX);
        for number in state.replays.keys().take(excess).copied() {
            turn.record(QueueRecord::Replay {
                number,
                value: None,
            });
        }
        // What retention took is no letter any more.
        let kept = wish.begin.0 / BLOCK_OFFSETS;
        for block in state.moved_back.range(..kept).map(|(block, _)| *block) {
            turn.record(QueueRecord::MovedBack { block, bits: None });
        }
        self.held_until = None;
        let number = turn.draw();
        let replay = wish.stored(turn.now);
        turn.record(QueueRecord::Replay {
            number,
            value: Some(replay.clone()),
        });
        Ok(ReplayReport {
            replays: vec![ReplayView { number, replay }],
            ..ReplayReport::default()
        })
    }
}

/// Block and bit of a letter.
fn place(offset: Offset) -> (u64, u128) {
    (offset.0 / BLOCK_OFFSETS, 1 << (offset.0 % BLOCK_OFFSETS))
}

fn depart(turn: &mut Turn<'_>, facts: &MessageFacts, letter: &LetterFacts, home: Target) {
    let message = OutgoingMessage::Replayed {
        offset: facts.offset,
        group: letter.group.clone(),
    };
    let bytes = facts.bytes.saturating_add(HEADER_BYTES);
    turn.depart(Destination::There(home), message, bytes);
}

fn change_one(
    turn: &mut Turn<'_>,
    number: EntryNumber,
    change: ReplayChange,
    by: std::sync::Arc<str>,
) -> Result<ReplayView, QueueError> {
    let replay = turn.state.replays.get(&number);
    let mut replay = replay.ok_or(ReplayError::NotKnown(number))?.clone();
    if replay.state.is_over() {
        let state = replay.state;
        return Err(ReplayError::Over { number, state }.into());
    }
    let state = match change {
        ReplayChange::Pause => ReplayState::Paused,
        ReplayChange::Resume => ReplayState::Running,
        ReplayChange::Cancel => ReplayState::Cancelled,
    };
    if state != replay.state {
        replay.step(turn.now, by, state);
        turn.record(QueueRecord::Replay {
            number,
            value: Some(replay.clone()),
        });
    }
    Ok(ReplayView { number, replay })
}

fn report(state: &QueueState, start: Offset, of: Vec<Offset>) -> ReplayReport {
    let replays = state.replays.iter().map(|(number, replay)| ReplayView {
        number: *number,
        replay: replay.clone(),
    });
    let kept = state.moved_back.range(start.0 / BLOCK_OFFSETS..);
    let kept = kept.map(|(block, bits)| {
        let gone = crate::counts::bits(*block, Offset::ZERO, start);
        u64::from((bits & !gone).count_ones())
    });
    let is_moved = |offset: &Offset| {
        let (block, bit) = place(*offset);
        state.moved_back(block) & bit != 0
    };
    ReplayReport {
        replays: replays.collect(),
        moved_back: kept.sum(),
        on_the_way: state.replayed_on_the_way(),
        among: of.into_iter().filter(is_moved).collect(),
    }
}
