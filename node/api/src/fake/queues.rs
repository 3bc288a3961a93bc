//! The real queue machine over a journal in memory: what it decides is committed at once.
//!
//! As for groups there is no task: whoever waits for a reply also ticks the machine at its
//! deadlines, feeds it and carries what it sends; every call does so first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_base::batch::{BatchBuilder, Record};
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{
    LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, RecordBatch, Timestamp, TopicId,
    TopicPartition, ids,
};

use super::partition::FakePartition;
use super::{FakeBroker, State};
use crate::outgoing::{OutgoingSources, kept_payload, outgoing_payload};
use crate::queue::{
    CheckElsewhere, ELSEWHERE_WAIT_MAX, QueueApi, QueueCall, QueueCallError, Settlement, YOUNG,
    begins, check_size, dead_letter_topic, settled,
};
use crate::queues::copies::append_copy;
use crate::queues::trace::{Fact, Subject, Trace};
use crate::queues::{
    Cancelled, DecisionSource, Delivery, Destination, Feed, Found, GroupName, GroupNumber,
    GroupSettings, HalfHandle, MemberName, MessageFacts, Outgoing, Payload, Prepare, Prepared,
    QueueCommand, QueueLive, QueueMachine, QueueOptions, QueueRecord, QueueReply, QueueState,
    ReceiptError, Receive, Schedule, ScheduleHandle, Scheduled, TakeIn, Want, producer_sequence,
};
use crate::{ClusterApi, records};

/// Least pause between two ticks, should a deadline not move.
const TICK_PAUSE: Duration = Duration::from_millis(10);
/// Bytes read for one answer to a want.
const READ_BYTES: usize = 256 * 1024;

type Out = Decision<QueueRecord, QueueReply>;

/// The machine of one partition.
pub(super) struct FakeQueue {
    state: QueueState,
    live: QueueLive,
    journal: BTreeMap<Offset, QueueRecord>,
    end: Offset,
    next_token: u64,
    waiting: BTreeMap<Token, oneshot::Sender<QueueReply>>,
    wants: BTreeMap<GroupNumber, Want>,
    /// Delayed messages below it were handed over.
    looked_at: Offset,
}

impl FakeQueue {
    fn new(options: QueueOptions, partition: u32, partitions: u32, seed: u64) -> Self {
        Self {
            state: QueueState::default(),
            live: QueueLive::new(options, partition, seed).with_partitions(partitions),
            journal: BTreeMap::new(),
            end: Offset::ZERO,
            next_token: 0,
            waiting: BTreeMap::new(),
            wants: BTreeMap::new(),
            looked_at: Offset::ZERO,
        }
    }

    fn call(&mut self, now: Timestamp, command: QueueCommand) -> oneshot::Receiver<QueueReply> {
        self.next_token += 1;
        let token = Token(self.next_token);
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(token, sender);
        let mut out = Out::default();
        QueueMachine::decide(&self.state, &mut self.live, now, token, command, &mut out);
        self.settle(out);
        receiver
    }

    fn tick(&mut self, now: Timestamp) {
        if self.deadline().is_some_and(|at| at <= now) {
            let mut out = Out::default();
            QueueMachine::on_tick(&self.state, &mut self.live, now, &mut out);
            self.settle(out);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        QueueMachine::next_deadline(&self.state, &self.live)
    }

    fn settle(&mut self, out: Out) {
        for record in out.records {
            QueueMachine::apply(&mut self.state, self.end, &record);
            self.journal.insert(self.end, record);
            self.end = self.end + 1;
        }
        for (token, reply) in out.replies {
            if let Some(waiting) = self.waiting.remove(&token) {
                // The caller may have gone away meanwhile.
                let _gone = waiting.send(reply);
            }
        }
        let wants = QueueMachine::wants(&self.state, &mut self.live);
        self.wants.extend(wants.into_iter().map(|w| (w.group, w)));
    }

    /// Answers what it wants read; says whether there was anything.
    fn feed(&mut self, now: Timestamp, log: &FakePartition) -> bool {
        let end = log.end();
        let ready = self.wants.values().find(|want| want.from < end).cloned();
        let Some(want) = ready else {
            return false;
        };
        self.wants.remove(&want.group);
        let feed = answer(&want, log);
        drop(self.call(now, QueueCommand::Feed(feed)));
        true
    }

    /// Hands over delayed messages that are in the log.
    fn take_in(&mut self, now: Timestamp, partition: u32, log: &FakePartition) {
        if self.looked_at >= log.end() {
            return;
        }
        let from = self.looked_at.max(log.start);
        let batches = log.read(from, usize::MAX, true);
        let batches = batches.iter().filter(|batch| !is_sent(batch));
        let records = batches.flat_map(|batch| records::open(batch).unwrap_or_default());
        let found = records.filter(|record| record.offset >= from);
        let take = TakeIn {
            from: self.looked_at,
            end: log.end(),
            found: found
                .filter_map(|record| Found::of(partition, &record))
                .collect(),
        };
        let mut taken = self.call(now, QueueCommand::TakeIn(take));
        if let Ok(QueueReply::TakeIn(next)) = taken.try_recv() {
            self.looked_at = next;
        }
    }

    fn outgoing(&self) -> Option<(Destination, u64, Outgoing)> {
        let (to, sequence, batch) = self.state.outgoing().next()?;
        Some((to.clone(), sequence, batch.clone()))
    }
}

fn answer(want: &Want, log: &FakePartition) -> Feed {
    let mut feed = Feed {
        group: want.group,
        from: want.from,
        facts: Vec::new(),
        no_messages: Vec::new(),
        end: want.from.max(log.start),
    };
    for batch in log.read(want.from, READ_BYTES, true) {
        // What cannot be opened counts as missing.
        for record in records::messages_if(&batch, |_| true).unwrap_or_default() {
            if record.offset < feed.end {
                continue;
            }
            if feed.facts.len() == want.records_max {
                return feed;
            }
            feed.end = record.offset + 1;
            let facts = MessageFacts::of(&record, want.needs);
            feed.facts.push(if is_sent(&batch) {
                facts.sent_by_queue()
            } else {
                facts
            });
        }
        feed.end = feed.end.max(batch.end_offset());
    }
    feed
}

/// Whether a queue sent it.
fn is_sent(batch: &RecordBatch) -> bool {
    let header = batch.header();
    header.producer_id.is_journal() || header.attributes.is_control()
}

fn record_at(log: &FakePartition, offset: Offset) -> Option<Record> {
    let batch = log.read(offset, 1, true).into_iter().next()?;
    let opened = records::messages_if(&batch, |at| at == offset).ok()?;
    opened.into_iter().next()
}

/// A journal's: nobody else's, and another one for copies.
fn producer_of(at: TopicPartition, is_copy: bool) -> ProducerId {
    let topic = u128::from_be_bytes(at.topic.0) % (1 << 40);
    let place = u64::try_from(topic).unwrap_or(0) << 20 | u64::from(at.index.0);
    let lane = i64::from(is_copy) << 61;
    ProducerId(ProducerId::JOURNALS_FROM | lane | place.cast_signed())
}

struct Sources<'a> {
    queue: &'a FakeQueue,
    log: Option<&'a FakePartition>,
    topic: &'a str,
    partition: u32,
}

impl OutgoingSources for Sources<'_> {
    fn kept(&self, at: Offset) -> Option<Payload> {
        kept_payload(self.queue.journal.get(&at)?)
    }

    fn stored(&self, at: Offset) -> Option<Payload> {
        record_at(self.log?, at).map(|record| Payload::of(&record))
    }

    fn origin(&self) -> (&str, u32) {
        (self.topic, self.partition)
    }
}

impl FakeBroker {
    /// Does all there is to do for the queue of `at`.
    fn pump(&self, at: TopicPartition, state: &mut State) {
        let now = self.now();
        let Some(mut queue) = state.queues.remove(&at) else {
            return;
        };
        queue.tick(now);
        loop {
            let log = state.partitions.entry(at).or_default();
            queue.take_in(now, at.index.0, log);
            let fed = queue.feed(now, log);
            let sent = self.carry(at, &mut queue, state, now);
            if !fed && !sent {
                break;
            }
        }
        state.queues.insert(at, queue);
    }

    /// Appends the first batch that the queue sends; says whether there was one.
    fn carry(
        &self,
        at: TopicPartition,
        queue: &mut FakeQueue,
        state: &mut State,
        now: Timestamp,
    ) -> bool {
        let Some((destination, sequence, batch)) = queue.outgoing() else {
            return false;
        };
        let image = self.image();
        let topic = image.topic_names.get(&at.topic);
        let topic = topic.map_or("", |name| &**name);
        let to = match &destination {
            Destination::Here | Destination::Copies => at,
            Destination::There(target) => {
                let known = image.topics.get(&target.topic).map(|topic| topic.id);
                let make = || {
                    let nodes = vec![vec![self.node()]; target.partition as usize + 1];
                    self.install_topic(&target.topic, false, BTreeMap::new(), &nodes)
                };
                TopicPartition::new(known.unwrap_or_else(make), target.partition)
            }
        };
        let sources = Sources {
            queue,
            log: state.partitions.get(&at),
            topic,
            partition: at.index.0,
        };
        let messages = batch.messages.iter();
        let payloads = messages.filter_map(|message| outgoing_payload(message, &sources));
        if let Destination::There(target) = &destination
            && self.image().partition(to).is_none()
        {
            let (topic, partition) = (&target.topic, target.partition);
            let refused = QueueCommand::OutboxRefused {
                reason: format!("topic '{topic}' has no partition {partition}").into(),
                payloads: payloads.map(|payload| payload.encode()).collect(),
                destination,
                sequence,
            };
            drop(queue.call(now, refused));
            return true;
        }
        let is_copy = destination == Destination::Copies;
        let batch = BatchBuilder::new(now).producer(
            producer_of(at, is_copy),
            ProducerEpoch(0),
            producer_sequence(sequence),
        );
        let batch = if is_copy { batch.control() } else { batch };
        let built: RecordBatch = payloads
            .fold(batch, |batch, payload| match is_copy {
                true => append_copy(&payload, batch),
                false => payload.append_to(batch),
            })
            .build();
        let log = state.partitions.entry(to).or_default();
        drop(log.append(built, LeaderEpoch(1)));
        drop(queue.call(
            now,
            QueueCommand::OutboxDone {
                destination,
                sequence,
            },
        ));
        true
    }

    fn start_queue_call(
        &self,
        at: TopicPartition,
        by: NodeId,
        command: QueueCommand,
    ) -> Result<oneshot::Receiver<QueueReply>, QueueCallError> {
        self.leads_queue(at, by)?;
        check_size(&command, self.batch_bytes_max(at))?;
        if let QueueCommand::EnsureGroup {
            group, settings, ..
        } = &command
            && settings.dead_letter.is_none()
            && !ids::is_topic_name(&dead_letter_topic(group))
        {
            return Err(QueueCallError::IllegalGroupName(group.clone()));
        }
        let mut state = self.state();
        if begins(&command) {
            let options = state.queue_options.clone();
            let topic = self.image().topic(at.topic).cloned();
            let partitions = topic.map_or(1, |topic| topic.partitions.len());
            let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
            let seed = self.0.entropy.next_u64();
            let new = || FakeQueue::new(options, at.index.0, partitions, seed);
            state.queues.entry(at).or_insert_with(new);
        }
        self.pump(at, &mut state);
        let queue = state.queues.get_mut(&at).ok_or(QueueCallError::NoQueue)?;
        let reply = queue.call(self.now(), command);
        self.pump(at, &mut state);
        Ok(reply)
    }

    /// Whether the queue of `at` answers at node `by`; that of another node is this one's, too.
    fn leads_queue(&self, at: TopicPartition, by: NodeId) -> Result<(), QueueCallError> {
        let leads = self.lead(at).ok_or(QueueCallError::UnknownPartition)?;
        match leads {
            Ok(_) if by == self.node() => {}
            Err(hint) if by != self.node() && hint.leader == Some(by) => {}
            Ok(_) => return Err(QueueCallError::NotAvailable),
            Err(hint) => return Err(QueueCallError::NotLeader(hint)),
        }
        match self.state().silent.contains(&at) {
            true => Err(QueueCallError::NotAvailable),
            false => Ok(()),
        }
    }

    /// Where a group begins at each partition: for ever what it was when first asked.
    fn starts(&self, topic: TopicId, group: &GroupName) -> Result<Vec<Offset>, QueueCallError> {
        let image = self.image();
        let record = image.topic(topic);
        let partitions = record.ok_or(QueueCallError::UnknownPartition)?;
        let partitions = (0..).zip(&partitions.partitions).map(|(index, _)| index);
        let young = i64::try_from(YOUNG.as_millis()).unwrap_or(i64::MAX);
        let young = Timestamp(self.now().0.saturating_sub(young));
        let mut state = self.state();
        let now: Vec<Offset> = partitions
            .map(|index| {
                let log = state.partitions.get(&TopicPartition::new(topic, index));
                log.map_or(Offset::ZERO, |log| {
                    let first = log.read(Offset::ZERO, 1, true).into_iter().next();
                    let is_young = first.is_some_and(|b| b.header().max_timestamp >= young);
                    match is_young && log.start == Offset::ZERO {
                        true => Offset::ZERO,
                        false => log.end(),
                    }
                })
            })
            .collect();
        let count = now.len();
        let of = (topic, group.clone());
        let mut starts = state.starts.entry(of).or_insert(now).clone();
        starts.resize(count, Offset::ZERO);
        Ok(starts)
    }

    /// What any partition of a topic, whoever leads it, has as a group's settings.
    fn settings_anywhere(&self, topic: TopicId, group: &GroupName) -> Option<GroupSettings> {
        let now = self.now();
        let mut state = self.state();
        let mut queues = state.queues.iter_mut().filter(|(at, _)| at.topic == topic);
        queues.find_map(|(_, queue)| {
            let group = group.clone();
            let mut described = queue.call(now, QueueCommand::Describe { group });
            let Ok(QueueReply::Describe(Ok(view))) = described.try_recv() else {
                return None;
            };
            Some(view.settings)
        })
    }

    fn pump_and_wait(&self, at: TopicPartition) -> Duration {
        let mut state = self.state();
        self.pump(at, &mut state);
        let deadline = state.queues.get(&at).and_then(FakeQueue::deadline);
        deadline.map_or(Duration::MAX, |at| {
            let left = u64::try_from(at.0.saturating_sub(self.now().0));
            Duration::from_millis(left.unwrap_or(0)).max(TICK_PAUSE)
        })
    }

    fn call_at(
        &self,
        by: NodeId,
        at: TopicPartition,
        command: QueueCommand,
    ) -> QueueCall<QueueReply> {
        let broker = self.clone();
        Box::pin(async move {
            let mut changes = broker.0.changes.subscribe();
            let mut reply = broker.start_queue_call(at, by, command)?;
            // It may have appended, or moved the deadline that others wait for.
            broker.wake_readers();
            changes.mark_unchanged();
            loop {
                let wait = broker.pump_and_wait(at);
                tokio::select! {
                    biased;
                    reply = &mut reply => {
                        return reply.map_err(|_| QueueCallError::Indeterminate);
                    }
                    changed = changes.changed() => drop(changed),
                    () = broker.0.env.sleep(wait) => {}
                }
                if let Err(elsewhere) = broker.leads_queue(at, by) {
                    tracing::debug!(%elsewhere, "a queue call lost its leader");
                    return Err(QueueCallError::Indeterminate);
                }
            }
        })
    }
}

impl QueueApi for FakeBroker {
    fn cancel_forwarded(
        &self,
        at: TopicPartition,
        handle: ScheduleHandle,
        _timeout: Duration,
    ) -> QueueCall<Cancelled> {
        let queues: &dyn QueueApi = self;
        queues.cancel(at, handle)
    }

    fn resolve_forwarded(
        &self,
        at: TopicPartition,
        handle: HalfHandle,
        decision: crate::queues::Decision,
        source: DecisionSource,
        _timeout: Duration,
    ) -> QueueCall<()> {
        let queues: &dyn QueueApi = self;
        queues.resolve(at, handle, decision, source)
    }

    fn schedule_forwarded(
        &self,
        at: TopicPartition,
        schedule: Schedule,
        _timeout: Duration,
    ) -> QueueCall<Scheduled> {
        let queues: &dyn QueueApi = self;
        queues.schedule(at, schedule)
    }

    fn prepare_forwarded(
        &self,
        at: TopicPartition,
        prepare: Prepare,
        _timeout: Duration,
    ) -> QueueCall<Prepared> {
        let queues: &dyn QueueApi = self;
        queues.prepare_once(at, prepare)
    }

    fn check_elsewhere(
        &self,
        _leader: NodeId,
        _at: Vec<TopicPartition>,
        _member: MemberName,
        _producers: Arc<str>,
        _timeout: Duration,
    ) -> QueueCall<Option<CheckElsewhere>> {
        // There is no other node.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn missed_elsewhere(
        &self,
        _leader: NodeId,
        _at: TopicPartition,
        _handle: HalfHandle,
        _timeout: Duration,
    ) -> QueueCall<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn receive_elsewhere(
        &self,
        leader: NodeId,
        at: TopicPartition,
        receive: Receive,
        _settings: GroupSettings,
        _timeout: Duration,
    ) -> QueueCall<Vec<(Delivery, Record)>> {
        let broker = self.clone();
        let wait = receive.wait.min(ELSEWHERE_WAIT_MAX);
        let receive = Receive { wait, ..receive };
        let asked = self.call_at(leader, at, QueueCommand::Receive(receive));
        Box::pin(async move {
            let QueueReply::Receive(leased) = asked.await? else {
                return Err(QueueCallError::Indeterminate);
            };
            let state = broker.state();
            let log = state.partitions.get(&at);
            let leased = leased?.into_iter();
            Ok(leased
                .filter_map(|delivery| Some((delivery, record_at(log?, delivery.offset)?)))
                .collect())
        })
    }

    fn settle_forwarded(
        &self,
        at: TopicPartition,
        group: GroupName,
        settlement: Settlement,
        _timeout: Duration,
    ) -> QueueCall<Vec<Result<(), ReceiptError>>> {
        let image = self.image();
        let leader = image.partition(at).and_then(|partition| partition.leader);
        let called = self.call_at(
            leader.unwrap_or_else(|| self.node()),
            at,
            settlement.command(group),
        );
        Box::pin(async move { settled(called.await?) })
    }

    fn subscribe(
        &self,
        topic: TopicId,
        group: GroupName,
        settings: GroupSettings,
        _timeout: Duration,
    ) -> QueueCall<GroupSettings> {
        let broker = self.clone();
        Box::pin(async move {
            let queues: &dyn QueueApi = &broker;
            let starts = broker.starts(topic, &group)?;
            let known = broker.settings_anywhere(topic, &group);
            let mut in_force = known.unwrap_or(settings);
            for (index, start) in (0..).zip(starts) {
                let at = TopicPartition::new(topic, index);
                if broker.leads_queue(at, broker.node()).is_ok() {
                    let settings = in_force.clone();
                    let made = queues.ensure_group(at, group.clone(), settings, start, false);
                    in_force = made.await?.settings;
                }
            }
            Ok(in_force)
        })
    }

    fn call(&self, at: TopicPartition, command: QueueCommand) -> QueueCall<QueueReply> {
        self.call_at(self.node(), at, command)
    }

    fn records(&self, at: TopicPartition, offsets: Vec<Offset>) -> QueueCall<Vec<Option<Record>>> {
        let found = self.leads_queue(at, self.node()).map(|()| {
            let state = self.state();
            let log = state.partitions.get(&at);
            let offsets = offsets.into_iter();
            offsets.map(|offset| record_at(log?, offset)).collect()
        });
        Box::pin(std::future::ready(found))
    }

    fn story(&self, at: TopicPartition, subject: Subject) -> QueueCall<Vec<(Timestamp, Fact)>> {
        let now = self.now();
        let story = self.leads_queue(at, self.node()).and_then(|()| {
            let state = self.state();
            let queue = state.queues.get(&at).ok_or(QueueCallError::NoQueue)?;
            let mut trace = Trace::new(subject);
            let facts = queue.journal.values().flat_map(|record| trace.read(record));
            // Its records have no times.
            Ok(facts.map(|fact| (now, fact)).collect())
        });
        Box::pin(std::future::ready(story))
    }

    fn kept(&self, at: TopicPartition, places: Vec<Offset>) -> QueueCall<Vec<Option<Payload>>> {
        let found = self.leads_queue(at, self.node()).and_then(|()| {
            let state = self.state();
            let queue = state.queues.get(&at).ok_or(QueueCallError::NoQueue)?;
            let places = places.iter();
            Ok(places
                .map(|at| kept_payload(queue.journal.get(at)?))
                .collect())
        });
        Box::pin(std::future::ready(found))
    }
}
