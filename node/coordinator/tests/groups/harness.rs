//! A coordinator without a host: decides, applies and commits at once, and can fail over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{Offset, Timestamp, Uuid};
use weir_coordinator::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Coordinator {
    pub(crate) durable: Groups,
    pub(crate) live: LiveGroups,
    pub(crate) log: Vec<GroupRecord>,
    pub(crate) now: Timestamp,
    pub(crate) options: GroupOptions,
    replies: BTreeMap<Token, GroupReply>,
    tokens: u64,
    ids: u64,
}

pub(crate) fn options(initial_delay: Duration) -> GroupOptions {
    GroupOptions {
        initial_rebalance_delay: initial_delay,
        ..GroupOptions::default()
    }
}

impl Coordinator {
    pub(crate) fn new(options: GroupOptions) -> Self {
        Self {
            durable: Groups::default(),
            live: LiveGroups::with_options(options.clone()),
            log: Vec::new(),
            now: Timestamp(1_000_000),
            options,
            replies: BTreeMap::new(),
            tokens: 0,
            ids: 0,
        }
    }

    /// Without the initial delay.
    pub(crate) fn prompt() -> Self {
        Self::new(options(Duration::ZERO))
    }

    pub(crate) fn send(&mut self, command: GroupCommand) -> Token {
        let token = Token(self.tokens);
        self.tokens += 1;
        let mut out = Decision::default();
        GroupMachine::decide(
            &self.durable,
            &mut self.live,
            self.now,
            token,
            command,
            &mut out,
        );
        self.take(out);
        token
    }

    fn take(&mut self, out: Decision<GroupRecord, GroupReply>) {
        for record in out.records {
            let at = Offset(self.log.len() as u64);
            GroupMachine::apply(&mut self.durable, at, &record);
            self.log.push(record);
        }
        for (token, reply) in out.replies {
            let before = self.replies.insert(token, reply);
            assert!(before.is_none(), "{token:?} answered twice");
        }
    }

    /// Lets time pass, ticking at each deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = GroupMachine::next_deadline(&self.durable, &self.live)
            && at <= until
        {
            self.now = self.now.max(at);
            let mut out = Decision::default();
            GroupMachine::on_tick(&self.durable, &mut self.live, self.now, &mut out);
            self.take(out);
        }
        self.now = until;
    }

    /// Another node takes over with what the journal holds.
    pub(crate) fn fail_over(&mut self) {
        self.durable = Groups::default();
        for (at, record) in self.log.iter().enumerate() {
            GroupMachine::apply(&mut self.durable, Offset(at as u64), record);
        }
        self.live = LiveGroups::with_options(self.options.clone());
        self.replies.clear();
    }

    pub(crate) fn answered(&self, token: Token) -> bool {
        self.replies.contains_key(&token)
    }

    fn reply(&mut self, token: Token) -> GroupReply {
        self.replies.remove(&token).expect("no reply yet")
    }

    pub(crate) fn fresh_id(&mut self) -> MemberId {
        self.ids += 1;
        format!("client-{}", self.ids).into()
    }

    pub(crate) fn join(&mut self, join: JoinGroup) -> Token {
        self.send(GroupCommand::Join(join))
    }

    pub(crate) fn joined(&mut self, token: Token) -> Result<Joined, GroupError> {
        match self.reply(token) {
            GroupReply::Join(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// A first join that skips the member id dance.
    pub(crate) fn newcomer(&mut self, group: &str) -> JoinGroup {
        let fresh = self.fresh_id();
        JoinGroup {
            group: group.into(),
            member: None,
            fresh_member_id: fresh,
            instance: None,
            member_id_required: false,
            skip_assignment_understood: true,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: 10 * SECOND,
            rebalance_timeout: 60 * SECOND,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), subscription(&["t"]))],
        }
    }

    pub(crate) fn static_newcomer(&mut self, group: &str, instance: &str) -> JoinGroup {
        JoinGroup {
            instance: Some(instance.into()),
            ..self.newcomer(group)
        }
    }

    pub(crate) fn sync(
        &mut self,
        group: &str,
        member: &MemberId,
        generation: i32,
        assignments: &[(&MemberId, &str)],
    ) -> Token {
        self.send(GroupCommand::Sync(SyncGroup {
            group: group.into(),
            member: member.clone(),
            instance: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, share)| ((*id).clone(), Bytes::copy_from_slice(share.as_bytes())))
                .collect(),
        }))
    }

    pub(crate) fn synced(&mut self, token: Token) -> Result<Bytes, GroupError> {
        match self.reply(token) {
            GroupReply::Sync(result) => result.map(|synced| synced.assignment),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        group: &str,
        member: &MemberId,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.heartbeat_as(group, member, None, generation)
    }

    pub(crate) fn heartbeat_as(
        &mut self,
        group: &str,
        member: &MemberId,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let token = self.send(GroupCommand::Heartbeat {
            group: group.into(),
            member: member.clone(),
            instance: instance.map(Arc::from),
            generation,
        });
        match self.reply(token) {
            GroupReply::Heartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(
        &mut self,
        group: &str,
        members: &[(Option<&MemberId>, Option<&str>)],
    ) -> Vec<Result<(), GroupError>> {
        let members = members.iter().map(|(member, instance)| LeavingMember {
            member: member.cloned(),
            instance: instance.map(Arc::from),
        });
        let token = self.send(GroupCommand::Leave {
            group: group.into(),
            members: members.collect(),
        });
        match self.reply(token) {
            GroupReply::Leave(result) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn commit(
        &mut self,
        group: &str,
        member: Option<&MemberId>,
        generation: i32,
        offsets: &[(OffsetKey, u64)],
    ) -> Result<(), GroupError> {
        let token = self.send(GroupCommand::CommitOffsets(CommitOffsets {
            group: group.into(),
            member: member.cloned(),
            instance: None,
            generation,
            offsets: offsets
                .iter()
                .map(|(key, offset)| (key.clone(), committed(*offset, "")))
                .collect(),
        }));
        match self.reply(token) {
            GroupReply::CommitOffsets(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn fetch(&mut self, group: &str, key: &OffsetKey) -> Option<u64> {
        let token = self.send(GroupCommand::FetchOffsets {
            group: group.into(),
            partitions: Some(vec![key.clone()]),
        });
        match self.reply(token) {
            GroupReply::FetchOffsets(result) => {
                let (answered, offset) = result.unwrap().remove(0);
                assert_eq!(answered, *key);
                offset.map(|offset| offset.offset.0)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn fetch_all(&mut self, group: &str) -> Vec<(OffsetKey, Option<CommittedOffset>)> {
        let token = self.send(GroupCommand::FetchOffsets {
            group: group.into(),
            partitions: None,
        });
        match self.reply(token) {
            GroupReply::FetchOffsets(result) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn describe(&mut self, group: &str) -> Result<GroupDescription, GroupError> {
        let token = self.send(GroupCommand::Describe {
            group: group.into(),
        });
        match self.reply(token) {
            GroupReply::Describe(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&mut self, group: &str) -> GroupState {
        self.describe(group).map_or(GroupState::Dead, |d| d.state)
    }

    pub(crate) fn list(&mut self) -> Vec<GroupListing> {
        let token = self.send(GroupCommand::List);
        match self.reply(token) {
            GroupReply::List(groups) => groups,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, group: &str) -> Result<(), GroupError> {
        let token = self.send(GroupCommand::Delete {
            group: group.into(),
        });
        match self.reply(token) {
            GroupReply::Delete(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &[OffsetKey],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let token = self.send(GroupCommand::DeleteOffsets {
            group: group.into(),
            partitions: partitions.to_vec(),
        });
        match self.reply(token) {
            GroupReply::DeleteOffsets(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of one member; its id and generation.
    pub(crate) fn stable(&mut self, group: &str) -> (MemberId, i32) {
        let join = self.newcomer(group);
        let token = self.join(join);
        let joined = self.joined(token).unwrap();
        let token = self.sync(
            group,
            &joined.member,
            joined.generation,
            &[(&joined.member, "all")],
        );
        assert_eq!(self.synced(token).unwrap(), "all");
        (joined.member, joined.generation)
    }

    /// A stable group of two members: the leader, the follower, the generation.
    pub(crate) fn stable_pair(&mut self, group: &str) -> (MemberId, MemberId, i32) {
        let (first, _) = self.stable(group);
        let second = self.newcomer(group);
        let second = self.join(second);
        let again = self.rejoin(group, &first);
        let again = self.join(again);
        let (one, two) = (self.joined(again).unwrap(), self.joined(second).unwrap());
        assert_eq!(one.generation, two.generation);
        assert_eq!(one.leader, one.member);
        let leader = self.sync(
            group,
            &one.member,
            one.generation,
            &[(&one.member, "a"), (&two.member, "b")],
        );
        let follower = self.sync(group, &two.member, two.generation, &[]);
        assert_eq!(self.synced(leader).unwrap(), "a");
        assert_eq!(self.synced(follower).unwrap(), "b");
        (one.member, two.member, one.generation)
    }

    /// A join of somebody who has an id.
    pub(crate) fn rejoin(&mut self, group: &str, member: &MemberId) -> JoinGroup {
        JoinGroup {
            member: Some(member.clone()),
            ..self.newcomer(group)
        }
    }
}

pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff; 4]);
    bytes.into()
}

pub(crate) fn key(topic: &str, partition: u32) -> OffsetKey {
    OffsetKey {
        topic: topic.into(),
        topic_id: Uuid([7; 16]),
        partition,
    }
}

pub(crate) fn committed(offset: u64, metadata: &str) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(offset),
        leader_epoch: 3,
        metadata: metadata.into(),
        at: Timestamp(0),
    }
}
