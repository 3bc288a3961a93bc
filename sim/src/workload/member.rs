//! Members of one consumer group that share the partitions of a topic which loses nothing,
//! as consumers do that say `subscribe`: they come and go, with a word or without, stand
//! still for longer than they may, and send a commit once more when their generation is over.
//! What each is given, and what the group accepts, is C13's to judge.
//!
//! A member has a process of its own in every generation. They end when the group has
//! committed all that was written.

mod seat;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::{Env, Monotonic};
use weir_checkers::history::{Offsets, Share};
use weir_checkers::{Action, Key, Kind, Process, Read};

use super::kafka_client::Fetched;
use super::reader::add_reads;
use super::recorder::Recorder;
use super::router::Router;
use super::stage::Stage;
use crate::dice::Dice;
use crate::plan::{TOPICS, Topic};
use seat::{DONE, Desk, ILLEGAL_GENERATION, MEMBER_ID_REQUIRED, REBALANCES, Seat, UNKNOWN_MEMBER};

/// One more than partitions: somebody waits to take over.
pub(crate) const MEMBERS: u64 = 3;

const GROUP: &str = "members";
const PAUSE: Duration = Duration::from_millis(100);
/// Milliseconds after which a member does something else than consume, at least and at most.
const CALM: (u64, u64) = (1_500, 6_000);
/// Milliseconds that it stands still for, about as long as its session.
const STILL: (u64, u64) = (3_000, 9_000);

/// The topic that they consume: the first, whose keys are its partitions.
fn topic() -> Topic {
    TOPICS[0]
}

/// The highest position that the group committed, by key; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<BTreeMap<Key, u64>>>);

impl Progress {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, positions: &[(Key, u64)]) {
        let mut done = self.lock();
        for (key, offset) in positions {
            let highest = done.entry(*key).or_default();
            *highest = (*highest).max(*offset);
        }
    }
}

/// What became of a commit.
enum Committing {
    Done,
    Refused(Next),
    Unknown,
}

/// What a member is to do next.
enum Next {
    /// Joins again, in the same name.
    Rejoin,
    /// Begins anew: nobody knows it any more.
    Forgotten,
    /// Goes and says so.
    Leave,
}

pub(crate) struct Member {
    pub(crate) env: Env,
    pub(crate) number: u64,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) recorder: Recorder,
    pub(crate) stage: Stage,
    pub(crate) progress: Progress,
}

/// Positions by partition, with who committed them.
type Committed = (Seat, Process, Vec<(i32, i64)>);

/// A member as its group knows it, from its first join to its end.
struct Life<'m> {
    member: &'m Member,
    dice: &'m Dice,
    desk: Desk,
    /// By partition.
    leaders: Vec<Router>,
    id: String,
    /// Its generation, and its process there.
    known_as: Option<(i32, Process)>,
    /// What it committed last, to be sent again.
    last: Option<Committed>,
    calm_until: Monotonic,
}

impl Member {
    /// Consumes until the group has committed all that was written.
    pub(crate) async fn run(self) {
        let dice = Dice::new(self.env.entropy.fork(&format!("member {}", self.number)));
        while !self.is_done() {
            Life::new(&self, &dice).live().await;
            self.env.sleep(PAUSE).await;
        }
        self.stage.keeper_ends();
    }

    fn is_done(&self) -> bool {
        let done = self.progress.lock();
        (0..topic().partitions).all(|partition| {
            let committed = done.get(&key(partition)).copied();
            let written = self.stage.written(key(partition));
            written.is_some_and(|end| u64::try_from(end).ok() <= committed)
        })
    }
}

fn key(partition: i32) -> Key {
    Key(partition.unsigned_abs())
}

impl<'m> Life<'m> {
    fn new(member: &'m Member, dice: &'m Dice) -> Self {
        let (env, nodes) = (&member.env, &member.nodes);
        let mut life = Self {
            member,
            dice,
            desk: Desk::new(env, nodes),
            leaders: (0..topic().partitions)
                .map(|_| Router::new(env, nodes))
                .collect(),
            id: String::new(),
            known_as: None,
            last: None,
            calm_until: Monotonic(0),
        };
        life.be_calm();
        life
    }

    fn be_calm(&mut self) {
        let calm = self.dice.magnitude(CALM.0, CALM.1);
        self.calm_until = self.member.env.clock.now() + Duration::from_millis(calm);
    }

    /// From the first join until it leaves, ends without a word, or is forgotten.
    async fn live(mut self) {
        while !self.member.is_done() {
            match self.generation().await {
                Ok(Next::Rejoin) => {}
                Ok(Next::Forgotten) => return,
                Ok(Next::Leave) => break,
                Err(_) => {
                    self.desk.leave_it();
                    self.member.env.sleep(PAUSE).await;
                }
            }
        }
        // If it is not heard, it is missed later.
        drop(self.desk.leave(&self.id).await);
    }

    /// One generation, from the join on.
    async fn generation(&mut self) -> Result<Next> {
        let joined = self.desk.join(&self.id).await?;
        match joined.error_code {
            DONE => {}
            MEMBER_ID_REQUIRED => {
                self.id = joined.member_id.to_string();
                return Ok(Next::Rejoin);
            }
            UNKNOWN_MEMBER => return Ok(Next::Forgotten),
            code => anyhow::bail!("error {code}"),
        }
        self.id = joined.member_id.to_string();
        let seat = Seat {
            id: self.id.clone(),
            generation: joined.generation_id,
        };
        let leads = joined.leader == joined.member_id;
        let members = joined.members.iter().map(|m| m.member_id.to_string());
        let shares = if leads {
            shares(members.collect(), seat.generation)
        } else {
            vec![]
        };
        let process = self.process(seat.generation);
        self.tell_share(process, Kind::Invoke, seat.generation, &[]);
        let share = match self.desk.sync(&seat, shares).await {
            Ok((DONE, share)) => share,
            Ok((code, _)) => {
                self.tell_share(process, Kind::Fail, seat.generation, &[]);
                return match code {
                    REBALANCES | ILLEGAL_GENERATION => Ok(Next::Rejoin),
                    UNKNOWN_MEMBER => Ok(Next::Forgotten),
                    code => anyhow::bail!("error {code}"),
                };
            }
            Err(error) => {
                self.tell_share(process, Kind::Info, seat.generation, &[]);
                return Err(error);
            }
        };
        let share: Vec<i32> = share
            .iter()
            .map(|partition| i32::from(*partition))
            .collect();
        self.tell_share(process, Kind::Ok, seat.generation, &share);
        self.commit_late(&seat).await;
        self.consume(&seat, process, &share).await
    }

    /// The process that it is in a generation: the same if it is told of that once more, as by
    /// a coordinator that knows of no later one.
    fn process(&mut self, generation: i32) -> Process {
        match self.known_as {
            Some((known, process)) if known == generation => process,
            Some(_) | None => {
                let process = self.member.recorder.process();
                self.known_as = Some((generation, process));
                process
            }
        }
    }

    /// Sends the last commit again, as a copy of it that was late.
    async fn commit_late(&mut self, now: &Seat) {
        let Some((seat, process, positions)) = self.last.clone() else {
            return;
        };
        if seat.generation != now.generation && self.dice.one_in(2) {
            self.commit(&seat, process, &positions).await;
        }
    }

    /// Polls, commits and says that it is alive, until something else is to be done.
    async fn consume(&mut self, seat: &Seat, process: Process, share: &[i32]) -> Result<Next> {
        let mut next = self.positions(process, share).await;
        let mut due: BTreeMap<i32, i64> = BTreeMap::new();
        loop {
            for (partition, offset) in &mut next {
                if let Ok(true) = self.poll(process, *partition, offset).await {
                    due.insert(*partition, *offset);
                }
            }
            // Not after every poll: what was polled and not committed comes again.
            if !due.is_empty() && (self.member.stage.is_healed() || !self.dice.one_in(4)) {
                let positions: Vec<(i32, i64)> = due.iter().map(|(p, o)| (*p, *o)).collect();
                self.last = Some((seat.clone(), process, positions.clone()));
                match self.commit(seat, process, &positions).await {
                    Committing::Done => due.clear(),
                    Committing::Refused(next) => return Ok(next),
                    Committing::Unknown => {}
                }
            }
            if self.member.is_done() {
                return Ok(Next::Leave);
            }
            match self.desk.beat(seat).await {
                Ok(DONE) => {}
                Ok(REBALANCES | ILLEGAL_GENERATION) => return Ok(Next::Rejoin),
                Ok(UNKNOWN_MEMBER) => return Ok(Next::Forgotten),
                Ok(_) => self.desk.leave_it(),
                // Looked for anew.
                Err(_) => {}
            }
            if let Some(next) = self.misbehave().await {
                return Ok(next);
            }
            self.member.env.sleep(PAUSE).await;
        }
    }

    /// What a member does that a coordinator has to bear; nothing after the faults.
    async fn misbehave(&mut self) -> Option<Next> {
        let env = &self.member.env;
        if self.member.stage.is_healed() || env.clock.now() < self.calm_until {
            return None;
        }
        let what = self.dice.between(0, 2);
        let still = self.dice.magnitude(STILL.0, STILL.1);
        self.be_calm();
        match what {
            0 => Some(Next::Leave),
            1 => Some(Next::Forgotten),
            _ => {
                self.member.env.sleep(Duration::from_millis(still)).await;
                None
            }
        }
    }

    /// Where to begin, asked until it is answered.
    async fn positions(&mut self, process: Process, share: &[i32]) -> BTreeMap<i32, i64> {
        let mut next: BTreeMap<i32, i64> = share.iter().map(|p| (*p, 0)).collect();
        let asked = share.iter().map(|p| (key(*p), 0)).collect();
        if share.is_empty() {
            return next;
        }
        self.tell_positions(process, Kind::Invoke, Action::Committed, asked);
        let found = loop {
            match self.desk.positions(share).await {
                Ok(found) => break found,
                Err(_) => self.member.env.sleep(PAUSE).await,
            }
        };
        let told = positions(&found);
        self.member.progress.reach(&told);
        self.tell_positions(process, Kind::Ok, Action::Committed, told);
        next.extend(found);
        next
    }

    /// Polls one partition once. Says whether something came.
    async fn poll(&mut self, process: Process, partition: i32, next: &mut i64) -> Result<bool> {
        let at = usize::try_from(partition)?;
        let router = self.leaders.get_mut(at).context("no such partition")?;
        let fetched = async {
            let leader = router.leader(topic().name, partition).await?;
            leader.fetch(topic().name, partition, *next).await
        };
        let fetched = match fetched.await {
            Ok(fetched) if fetched.error == 0 => fetched,
            Ok(_) | Err(_) => {
                router.disconnect();
                return Ok(false);
            }
        };
        let before = *next;
        match reads(key(partition), &fetched, next) {
            Ok(reads) if reads.is_empty() => {}
            Ok(reads) => self.member.recorder.poll(process, reads),
            Err(error) => {
                let what = format!("{}-{partition}: {error:#}", topic().name);
                self.member.recorder.complain(what);
            }
        }
        Ok(*next > before)
    }

    /// Commits positions.
    async fn commit(
        &mut self,
        seat: &Seat,
        process: Process,
        offsets: &[(i32, i64)],
    ) -> Committing {
        let told = positions(offsets);
        self.tell_positions(process, Kind::Invoke, Action::Commit, told.clone());
        let code = self.desk.commit(seat, offsets).await;
        let (kind, came) = match code {
            Ok(DONE) => (Kind::Ok, Committing::Done),
            Ok(ILLEGAL_GENERATION | REBALANCES) => (Kind::Fail, Committing::Refused(Next::Rejoin)),
            Ok(UNKNOWN_MEMBER) => (Kind::Fail, Committing::Refused(Next::Forgotten)),
            Ok(_) | Err(_) => {
                self.desk.leave_it();
                (Kind::Info, Committing::Unknown)
            }
        };
        if kind == Kind::Ok {
            self.member.progress.reach(&told);
        }
        self.tell_positions(process, kind, Action::Commit, told);
        came
    }

    fn tell_share(&self, process: Process, kind: Kind, generation: i32, share: &[i32]) {
        let keys: BTreeSet<Key> = share.iter().map(|partition| key(*partition)).collect();
        let share = Share {
            group: GROUP.to_owned(),
            generation,
            keys,
        };
        let recorder = &self.member.recorder;
        recorder.position(process, kind, Action::Share(share));
    }

    fn tell_positions(
        &self,
        process: Process,
        kind: Kind,
        what: impl FnOnce(Offsets) -> Action,
        offsets: Vec<(Key, u64)>,
    ) {
        let group = GROUP.to_owned();
        let action = what(Offsets { group, offsets });
        self.member.recorder.position(process, kind, action);
    }
}

/// Partitions in turn, to others in every generation.
fn shares(mut members: Vec<String>, generation: i32) -> Vec<(String, Vec<u8>)> {
    members.sort_unstable();
    let mut shares: Vec<(String, Vec<u8>)> = members.into_iter().map(|id| (id, vec![])).collect();
    let first = usize::try_from(generation).unwrap_or(0);
    let partitions = u8::try_from(topic().partitions).unwrap_or(0);
    for (turn, partition) in (first..).zip(0..partitions) {
        let members = shares.len().max(1);
        if let Some((_, share)) = shares.get_mut(turn % members) {
            share.push(partition);
        }
    }
    shares
}

fn positions(offsets: &[(i32, i64)]) -> Vec<(Key, u64)> {
    let offsets = offsets.iter();
    offsets
        .filter_map(|(partition, offset)| Some((key(*partition), u64::try_from(*offset).ok()?)))
        .collect()
}

/// The values of a fetch from `next` on, which it moves behind them.
fn reads(key: Key, fetched: &Fetched, next: &mut i64) -> Result<Vec<Read>> {
    let mut reads = Vec::new();
    let from = *next;
    for batch in &fetched.batches {
        *next = batch.end_offset().to_wire();
        if batch.header().attributes.is_control() {
            continue;
        }
        add_reads(key, batch.records()?, from, &mut reads)?;
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_member_and_another_in_the_next_generation() {
        let of = |generation| -> BTreeMap<u8, String> {
            let members = vec!["b".to_owned(), "a".to_owned(), "c".to_owned()];
            let shares = shares(members, generation);
            let all = shares.iter().map(|(_, share)| share.len()).sum::<usize>();
            assert_eq!(all, 2);
            let owners = shares.into_iter().flat_map(|(id, share)| {
                share
                    .into_iter()
                    .map(move |partition| (partition, id.clone()))
            });
            owners.collect()
        };
        let (one, two) = (of(1), of(2));
        assert_eq!(one.len(), 2);
        assert!(
            one.iter()
                .all(|(partition, owner)| two[partition] != *owner)
        );
    }
}
