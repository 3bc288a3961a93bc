//! Random clients, time and fail-overs against what must always hold.
//!
//! The driver is a host in miniature: records are appended at once and committed later,
//! replies are parked until then, and a fail-over drops all that is volatile or not
//! committed. Five clients follow the protocol most of the time and break it the rest:
//! they forget who they are, use stale generations, restart under their instance id.
//!
//! Checked: G1 (a commit is accepted only from a generation that no newer one is known
//! to have replaced; what was acknowledged is read back, equal to a plain map), G2 (a
//! generation has one assignment, whatever failed), every caller is answered at most
//! once and in kind, replay equals the fold from any snapshot, and after the faults the
//! clients all find themselves in one stable generation.
#![expect(
    clippy::unwrap_used,
    reason = "a test that is wrong about a reply should panic"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{Offset, Timestamp, Uuid};
use weir_coordinator::*;

const CLIENTS: usize = 5;
const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Debug, Clone)]
enum Step {
    /// A client does the next thing the protocol asks of it.
    Follow(usize),
    /// A client's process dies and starts again, without a word.
    Restart(usize),
    /// A client repeats its sync, as after a lost answer; a leader with other shares.
    SyncAgain(usize),
    /// A client leaves.
    Leave(usize),
    /// A client commits, with a generation that is off by this much.
    Commit(usize, i32, u32),
    /// A client changes what it subscribes to.
    Resubscribe(usize),
    /// Somebody outside the group commits.
    CommitOutside(usize, u32),
    /// All offsets are read.
    Fetch(usize),
    /// The group is described, all are listed.
    Look(usize),
    Pass(u64),
    /// So many more records are committed.
    Replicate(usize),
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        20 => client.clone().prop_map(Step::Follow),
        1 => client.clone().prop_map(Step::Restart),
        2 => client.clone().prop_map(Step::SyncAgain),
        1 => client.clone().prop_map(Step::Leave),
        3 => (client.clone(), prop_oneof![4 => Just(0), 1 => -2..2i32], 0..3u32)
            .prop_map(|(c, off, p)| Step::Commit(c, off, p)),
        1 => client.prop_map(Step::Resubscribe),
        1 => (0..2usize, 0..3u32).prop_map(|(g, p)| Step::CommitOutside(g, p)),
        2 => (0..2usize).prop_map(Step::Fetch),
        1 => (0..2usize).prop_map(Step::Look),
        6 => prop_oneof![4 => 0..3_000u64, 1 => 0..70_000u64].prop_map(Step::Pass),
        8 => (0..12usize).prop_map(Step::Replicate),
        1 => Just(Step::FailOver),
    ]
}

/// What a caller in wait asked.
#[derive(Debug, Clone)]
enum Asked {
    Join(usize, u32),
    Sync(usize, u32, i32),
    Heartbeat(usize, u32),
    Commit,
    Fetch(usize),
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Join,
    Sync,
    Beat,
    /// Waits for an answer.
    Wait,
}

struct Client {
    group: usize,
    instance: Option<&'static str>,
    topics: u32,
    /// Counts lives: answers to an earlier life are not heard.
    life: u32,
    member: Option<MemberId>,
    generation: i32,
    /// From the join, if it leads.
    lead: Vec<MemberId>,
    wish: Wish,
}

struct Model {
    durable: Groups,
    live: LiveGroups,
    log: Vec<GroupRecord>,
    committed: usize,
    now: Timestamp,
    tokens: u64,
    asked: BTreeMap<Token, Asked>,
    parked: VecDeque<(usize, Token, GroupReply)>,
    clients: Vec<Client>,
    /// Accepted commits: log end after it, group, partition, value.
    commits: Vec<(usize, usize, u32, u64)>,
    /// The newest generation that a member was told of.
    newest: [i32; 2],
    /// The assignment that each generation was seen to have.
    assigned: BTreeMap<(usize, i32), String>,
    /// Numbers for ids, offsets and assignments, none used twice.
    drawn: u64,
}

fn options() -> GroupOptions {
    GroupOptions {
        initial_rebalance_delay: Duration::from_secs(1),
        // Groups must not be forgotten here: their generations would start anew.
        offsets_retention_check_interval: Duration::from_secs(1_000_000),
        ..GroupOptions::default()
    }
}

impl Model {
    fn new() -> Self {
        let client = |n: usize| Client {
            group: usize::from(n == 4),
            instance: [None, None, Some("i"), None, Some("j")][n],
            topics: 1,
            life: 0,
            member: None,
            generation: -1,
            lead: Vec::new(),
            wish: Wish::Join,
        };
        Self {
            durable: Groups::default(),
            live: LiveGroups::with_options(options()),
            log: Vec::new(),
            committed: 0,
            now: Timestamp(1_000_000),
            tokens: 0,
            asked: BTreeMap::new(),
            parked: VecDeque::new(),
            clients: (0..CLIENTS).map(client).collect(),
            commits: Vec::new(),
            newest: [0; 2],
            assigned: BTreeMap::new(),
            drawn: 0,
        }
    }

    fn send(&mut self, asked: Asked, command: GroupCommand) -> bool {
        let token = Token(self.tokens);
        self.tokens += 1;
        self.asked.insert(token, asked.clone());
        let mut out = Decision::default();
        GroupMachine::decide(
            &self.durable,
            &mut self.live,
            self.now,
            token,
            command,
            &mut out,
        );
        let accepted = out
            .replies
            .iter()
            .any(|(to, reply)| *to == token && matches!(reply, GroupReply::CommitOffsets(Ok(()))));
        if let Some((_, GroupReply::FetchOffsets(Ok(offsets)))) = out.replies.first()
            && let Asked::Fetch(group) = asked
        {
            self.check_offsets(group, offsets);
        }
        self.take(out);
        accepted
    }

    fn take(&mut self, out: Decision<GroupRecord, GroupReply>) {
        for record in out.records {
            GroupMachine::apply(&mut self.durable, Offset(self.log.len() as u64), &record);
            self.log.push(record);
        }
        for (token, reply) in out.replies {
            self.parked.push_back((self.log.len(), token, reply));
        }
    }

    fn tick(&mut self) {
        let mut ticks = 0;
        while GroupMachine::next_deadline(&self.durable, &self.live)
            .is_some_and(|at| at <= self.now)
        {
            let mut out = Decision::default();
            GroupMachine::on_tick(&self.durable, &mut self.live, self.now, &mut out);
            self.take(out);
            ticks += 1;
            assert!(ticks < 100, "the machine asks for ticks without end");
        }
    }

    fn replicate(&mut self, records: usize) {
        self.committed = (self.committed + records).min(self.log.len());
        while self
            .parked
            .front()
            .is_some_and(|(at, ..)| *at <= self.committed)
        {
            let (_, token, reply) = self.parked.pop_front().unwrap();
            let asked = self
                .asked
                .remove(&token)
                .expect("answered twice or unasked");
            self.hear(asked, reply);
        }
    }

    fn fail_over(&mut self) {
        self.check_folds();
        self.log.truncate(self.committed);
        self.durable = fold(Groups::default(), &self.log);
        self.live = LiveGroups::with_options(options());
        self.parked.clear();
        let committed = self.committed;
        self.commits.retain(|(at, ..)| *at <= committed);
        // Whoever waits is told that the outcome is unknown: it joins again as who it is.
        self.asked.clear();
        for client in &mut self.clients {
            if client.wish == Wish::Wait {
                client.wish = Wish::Join;
            }
        }
    }

    /// Replay from any snapshot equals replay from the start.
    fn check_folds(&self) {
        assert_eq!(fold(Groups::default(), &self.log), self.durable);
        let middle = self.log.len() / 2;
        let snapshot = postcard::to_stdvec(&fold(Groups::default(), &self.log[..middle])).unwrap();
        let restored = postcard::from_bytes(&snapshot).unwrap();
        assert_eq!(fold(restored, &self.log[middle..]), self.durable);
        for record in &self.log {
            let (key, value) = record.encode();
            assert_eq!(
                GroupRecord::decode(Some(&key), value.as_deref()).as_ref(),
                Ok(record)
            );
        }
    }

    /// What is read equals a plain map of the accepted commits.
    fn check_offsets(&self, group: usize, offsets: &[(OffsetKey, Option<CommittedOffset>)]) {
        let of_group = self.commits.iter().filter(|commit| commit.1 == group);
        let expected: BTreeMap<u32, u64> = of_group
            .map(|(_, _, partition, value)| (*partition, *value))
            .collect();
        let read: BTreeMap<u32, u64> = offsets
            .iter()
            .map(|(key, offset)| (key.partition, offset.as_ref().unwrap().offset.0))
            .collect();
        assert_eq!(read, expected);
    }

    fn follow(&mut self, n: usize) {
        let (group, life) = (self.clients[n].group, self.clients[n].life);
        let name = GROUPS[group];
        match self.clients[n].wish {
            Wish::Wait => {}
            Wish::Join => {
                self.drawn += 1;
                let client = &mut self.clients[n];
                client.wish = Wish::Wait;
                let topic = [
                    0,
                    1,
                    0,
                    0,
                    0,
                    1,
                    0,
                    1,
                    b'a' + u8::try_from(client.topics % 20).unwrap(),
                ];
                let join = JoinGroup {
                    group: name.into(),
                    member: client.member.clone(),
                    fresh_member_id: format!("client-{n}-{}", self.drawn).into(),
                    instance: client.instance.map(Into::into),
                    member_id_required: n != 1,
                    skip_assignment_understood: true,
                    client_id: "client".into(),
                    client_host: "/host".into(),
                    session_timeout: Duration::from_secs(10),
                    rebalance_timeout: Duration::from_secs(30),
                    protocol_type: "consumer".into(),
                    protocols: vec![("range".into(), Bytes::copy_from_slice(&topic))],
                };
                self.send(Asked::Join(n, life), GroupCommand::Join(join));
            }
            Wish::Sync => {
                self.drawn += 1;
                let client = &mut self.clients[n];
                client.wish = Wish::Wait;
                // Each sync of a leader is an assignment of its own, told by its number.
                let nonce = self.drawn;
                let share =
                    |member: &MemberId| (member.clone(), format!("{nonce} {member}").into());
                let sync = SyncGroup {
                    group: name.into(),
                    member: client.member.clone().unwrap(),
                    instance: client.instance.map(Into::into),
                    generation: client.generation,
                    protocol_type: Some("consumer".into()),
                    protocol: Some("range".into()),
                    assignments: client.lead.iter().map(share).collect(),
                };
                let generation = client.generation;
                self.send(Asked::Sync(n, life, generation), GroupCommand::Sync(sync));
            }
            Wish::Beat => {
                let client = &self.clients[n];
                let command = GroupCommand::Heartbeat {
                    group: name.into(),
                    member: client.member.clone().unwrap(),
                    instance: client.instance.map(Into::into),
                    generation: client.generation,
                };
                self.send(Asked::Heartbeat(n, life), command);
            }
        }
    }

    fn hear(&mut self, asked: Asked, reply: GroupReply) {
        match (asked, reply) {
            (Asked::Join(n, life), GroupReply::Join(result)) => {
                if let Ok(joined) = &result {
                    let newest = &mut self.newest[self.clients[n].group];
                    *newest = joined.generation.max(*newest);
                }
                let client = &mut self.clients[n];
                if client.life != life {
                    return;
                }
                match result {
                    Ok(joined) => {
                        client.generation = joined.generation;
                        let leads = joined.leader == joined.member && !joined.skip_assignment;
                        client.lead = joined.members.into_iter().map(|(id, ..)| id).collect();
                        if !leads {
                            client.lead.clear();
                        }
                        client.member = Some(joined.member);
                        client.wish = Wish::Sync;
                    }
                    Err(error) => client.on_error(&error),
                }
            }
            (Asked::Sync(n, life, generation), GroupReply::Sync(result)) => {
                if let Ok(synced) = &result {
                    self.check_share(self.clients[n].group, generation, &synced.assignment);
                }
                let client = &mut self.clients[n];
                if client.life != life {
                    return;
                }
                match result {
                    Ok(_) => client.wish = Wish::Beat,
                    Err(error) => client.on_error(&error),
                }
            }
            (Asked::Heartbeat(n, life), GroupReply::Heartbeat(result)) => {
                let client = &mut self.clients[n];
                if let Err(error) = result
                    && client.life == life
                    && client.wish == Wish::Beat
                {
                    client.on_error(&error);
                }
            }
            (Asked::Commit, GroupReply::CommitOffsets(_))
            | (Asked::Fetch(_), GroupReply::FetchOffsets(Ok(_)))
            | (
                Asked::Other,
                GroupReply::Leave(Ok(_)) | GroupReply::Describe(_) | GroupReply::List(_),
            ) => {}
            (asked, reply) => panic!("{asked:?} was answered {reply:?}"),
        }
    }

    /// G2: all shares of a generation are of one assignment.
    fn check_share(&mut self, group: usize, generation: i32, share: &[u8]) {
        if share.is_empty() {
            return;
        }
        let share = std::str::from_utf8(share).unwrap();
        let nonce = share.split(' ').next().unwrap().to_owned();
        let known = self
            .assigned
            .entry((group, generation))
            .or_insert_with(|| nonce.clone());
        assert_eq!(
            *known, nonce,
            "G2: generation {generation} was assigned twice"
        );
    }

    fn commit(&mut self, n: usize, off: i32, partition: u32) {
        let client = &self.clients[n];
        let (group, generation) = (client.group, client.generation + off);
        let (member, instance) = (client.member.clone(), client.instance);
        let newest = self.newest[group];
        if self.commit_as(group, member, instance, generation, partition) && generation >= 0 {
            assert!(
                generation >= newest,
                "G1: generation {generation} committed after {newest} was known"
            );
        }
    }

    fn commit_as(
        &mut self,
        group: usize,
        member: Option<MemberId>,
        instance: Option<&str>,
        generation: i32,
        partition: u32,
    ) -> bool {
        self.drawn += 1;
        let value = self.drawn;
        let key = OffsetKey {
            topic: GROUPS[group].into(),
            topic_id: Uuid([1; 16]),
            partition,
        };
        let offset = CommittedOffset {
            offset: Offset(value),
            leader_epoch: -1,
            metadata: "".into(),
            at: self.now,
        };
        let command = GroupCommand::CommitOffsets(CommitOffsets {
            group: GROUPS[group].into(),
            member,
            instance: instance.map(Into::into),
            generation,
            offsets: vec![(key, offset)],
        });
        let accepted = self.send(Asked::Commit, command);
        if accepted {
            self.commits.push((self.log.len(), group, partition, value));
        }
        accepted
    }

    fn run(&mut self, step: Step) {
        self.tick();
        match step {
            Step::Follow(n) => self.follow(n),
            Step::Restart(n) => self.clients[n].forget(),
            Step::SyncAgain(n) => {
                if self.clients[n].wish == Wish::Beat {
                    self.clients[n].wish = Wish::Sync;
                    self.follow(n);
                }
            }
            Step::Leave(n) => {
                let client = &mut self.clients[n];
                let leaving = LeavingMember {
                    member: client.member.clone(),
                    instance: client.instance.map(Into::into),
                };
                let group = GROUPS[client.group].into();
                client.forget();
                let members = vec![leaving];
                self.send(Asked::Other, GroupCommand::Leave { group, members });
            }
            Step::Commit(n, off, partition) => self.commit(n, off, partition),
            Step::Resubscribe(n) => {
                self.clients[n].topics += 1;
                if self.clients[n].wish == Wish::Beat {
                    self.clients[n].wish = Wish::Join;
                }
            }
            Step::CommitOutside(group, partition) => {
                self.commit_as(group, None, None, -1, partition);
            }
            Step::Fetch(group) => {
                let command = GroupCommand::FetchOffsets {
                    group: GROUPS[group].into(),
                    partitions: None,
                };
                self.send(Asked::Fetch(group), command);
            }
            Step::Look(group) => {
                let group = GROUPS[group].into();
                self.send(Asked::Other, GroupCommand::Describe { group });
                self.send(Asked::Other, GroupCommand::List);
            }
            Step::Pass(millis) => self.now = self.now + Duration::from_millis(millis),
            Step::Replicate(records) => self.replicate(records),
            Step::FailOver => self.fail_over(),
        }
    }

    /// Faults are over: everybody follows the protocol, and each group becomes stable
    /// with exactly its clients in one generation.
    fn heal(&mut self) {
        for second in 0..600 {
            self.now = self.now + Duration::from_secs(1);
            self.tick();
            for n in 0..CLIENTS {
                self.follow(n);
            }
            self.replicate(usize::MAX / 2);
            if second > 60 && self.is_stable() {
                break;
            }
        }
        assert!(self.is_stable(), "groups do not settle");
        for n in 0..CLIENTS {
            self.commit(n, 0, 0);
        }
        self.replicate(usize::MAX / 2);
        assert!(self.parked.is_empty());
        self.check_folds();
    }

    fn is_stable(&self) -> bool {
        GROUPS.iter().enumerate().all(|(group, name)| {
            let clients = || self.clients.iter().filter(|client| client.group == group);
            let here: BTreeSet<_> = clients()
                .filter_map(|client| client.member.clone())
                .collect();
            let generation = self.durable.generation(name).unwrap();
            let recorded: BTreeSet<_> = generation.members.iter().map(|m| m.id.clone()).collect();
            generation.assigned
                && here == recorded
                && clients().all(|client| {
                    client.wish == Wish::Beat && client.generation == generation.number
                })
        })
    }
}

impl Client {
    fn forget(&mut self) {
        self.life += 1;
        self.member = None;
        self.generation = -1;
        self.wish = Wish::Join;
    }

    /// What Kafka's consumer does.
    fn on_error(&mut self, error: &GroupError) {
        self.wish = Wish::Join;
        match error {
            GroupError::MemberIdRequired(id) => self.member = Some(id.clone()),
            GroupError::RebalanceInProgress => {}
            GroupError::UnknownMember | GroupError::FencedInstance => {
                self.member = None;
                self.generation = -1;
            }
            GroupError::IllegalGeneration => self.generation = -1,
            GroupError::InvalidGroupId
            | GroupError::InconsistentProtocol
            | GroupError::InvalidSessionTimeout { .. }
            | GroupError::GroupFull
            | GroupError::NotEmpty
            | GroupError::NoSuchGroup
            | GroupError::Subscribed
            | GroupError::MetadataTooLong => panic!("{error}"),
        }
    }
}

fn fold(mut groups: Groups, records: &[GroupRecord]) -> Groups {
    for record in records {
        GroupMachine::apply(&mut groups, Offset::ZERO, record);
    }
    groups
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn groups_keep_their_promises(steps in proptest::collection::vec(step(), 1..250)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
        }
        model.heal();
    }
}
