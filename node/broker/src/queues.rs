//! Queues of this node: which machine serves a partition, and the tasks that work for it.
//!
//! ```text
//!   call --> machine of P --> replies          P: the topic's partition, led here
//!              ^    |                          J(P): the same partition of its companion
//!        feed  |    | parcels                        topic, led here too: the journal
//!              |    v
//!          log of P <-- carrier --> P, dead letters (by `forward` if led elsewhere)
//! ```
//! Every replica of a journal runs the machine, so that the next leader is warm. Queue
//! calls are for the leader of P; while J(P) is not led with it they are refused as
//! "not available", which passes: the controller brings the two together as soon as J's
//! ISR allows.
//!
//! A topic's companion is made at the first call that begins something on it.

mod carrier;
mod feed;
pub(crate) mod gate;
mod intake;
mod read;
mod subscribe;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use weir_api::queue::{
    CheckElsewhere, QueueApi, QueueCall, QueueCallError, Settlement, begins, check_size,
    dead_letter_topic,
};
use weir_api::{AdminApi, AdminError, NewTopic};
use weir_base::batch::Record;
use weir_base::env::TaskHandle;
use weir_base::{Entropy, Env, NodeId, Offset, Timestamp, TopicId, TopicPartition, companion, ids};
use weir_queue::trace::{Fact, Subject};
use weir_queue::{
    Cancelled, Decision, DecisionSource, Delivery, Gate, GroupName, GroupSettings, HalfHandle,
    MemberName, Payload, Prepare, Prepared, QueueCommand, QueueError, QueueLive, QueueMachine,
    QueueOptions, QueueRecord, QueueReply, QueueState, ReceiptError, Receive, Schedule,
    ScheduleHandle, Scheduled, Want,
};
use weir_replication::{PartitionHandle, ReadError};

use crate::Broker;
use crate::host::outbox::drain;
use crate::host::{HostError, HostOptions, Journaled, MachineHost};
use crate::journal::PartitionJournal;
use carrier::{QueueCarrier, QueueParcel, payload_of};
use feed::Feeder;
use gate::{Limited, Trimmer};
use intake::Intake;
use read::{FindError, find_known};
pub(crate) use subscribe::Standing;
use watch::Watched;

/// How long a call waits for the journals that it is the first to need.
const FIRST_USE_WAIT: Duration = Duration::from_secs(5);
/// Pause before a journal that was just made is asked again.
const FIRST_USE_PAUSE: Duration = Duration::from_millis(10);

impl Journaled for QueueMachine {
    const KIND: &'static str = "queue-6";
    type Want = Want;
    type Parcel = QueueParcel;
    type Notice = Gate;

    fn encode(record: &QueueRecord) -> (Bytes, Option<Bytes>) {
        record.encode()
    }

    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<QueueRecord, String> {
        QueueRecord::decode(key, value).map_err(|error| error.to_string())
    }

    fn wants(state: &QueueState, live: &mut QueueLive) -> Vec<Want> {
        QueueMachine::wants(state, live)
    }

    fn parcels(state: &QueueState, known: &[QueueParcel]) -> Option<Vec<QueueParcel>> {
        carrier::parcels(state, known)
    }

    fn notice(state: &QueueState) -> Gate {
        state.gate()
    }
}

/// A machine with the tasks that work for it; they end with it.
struct Hosted {
    host: MachineHost<QueueMachine>,
    _feeder: TaskHandle,
    _outbox: TaskHandle,
    _trimmer: TaskHandle,
    _intake: TaskHandle,
}

type Hosts = BTreeMap<TopicPartition, Arc<Hosted>>;

/// The hosted queue machines of this node, by journal.
pub(crate) struct Queues {
    options: QueueOptions,
    host_options: HostOptions,
    hosts: Mutex<Hosts>,
    pub(crate) limited: Limited,
    pub(crate) watched: Watched,
    seeds: Entropy,
}

impl Queues {
    pub(crate) fn new(env: &Env, options: &QueueOptions) -> Self {
        Self {
            options: options.clone(),
            host_options: HostOptions::default(),
            hosts: Mutex::default(),
            limited: Limited::default(),
            watched: Watched::default(),
            seeds: env.entropy.fork("queues"),
        }
    }

    /// Stops the machine of a replica that begins anew.
    pub(crate) fn stop(&self, journal: TopicPartition) {
        self.lock().remove(&journal);
    }

    /// Stops the machine of a replica that left this node, and forgets its snapshot.
    pub(crate) fn close(&self, env: &Env, journal: TopicPartition) {
        if self.lock().remove(&journal).is_some() {
            let forget = MachineHost::<QueueMachine>::remove_snapshot(env.clone(), journal);
            env.tasks.spawn("forget-snapshot", forget);
        }
    }

    /// Whether a machine here still reads its journal ([`MachineHost::is_behind`]).
    pub(crate) fn are_behind(&self) -> bool {
        self.lock().values().any(|hosted| hosted.host.is_behind())
    }

    fn hosted(&self, journal: TopicPartition) -> Option<Arc<Hosted>> {
        self.lock().get(&journal).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Runs a machine on a journal's replica that was opened here.
    pub(crate) fn open_queue(
        &self,
        journal: TopicPartition,
        parent: TopicPartition,
        partition: PartitionHandle,
    ) {
        let (env, queues) = (&self.0.env, &self.0.queues);
        let (options, seeds) = (queues.options.clone(), queues.seeds.fork("secret"));
        let index = parent.index.0;
        let broker = self.clone();
        let volatile = move || {
            let live = QueueLive::new(options.clone(), index, seeds.next_u64());
            live.with_partitions(broker.partitions_of(parent.topic))
        };
        let on = Arc::new(PartitionJournal::new(env, partition));
        let host = MachineHost::start(env, on, journal, queues.host_options.clone(), volatile);
        let feeder = Feeder {
            broker: self.clone(),
            parent,
            desk: Arc::clone(host.desk()),
            host: host.caller(),
        };
        let intake = Intake {
            broker: self.clone(),
            parent,
            host: host.caller(),
        };
        let trimmer = Trimmer {
            broker: self.clone(),
            parent,
            gates: host.desk().notices(),
            host: host.caller(),
        };
        let carrier = Arc::new(QueueCarrier {
            broker: self.clone(),
            parent,
            journal,
        });
        let outbox = drain(env.clone(), Arc::clone(host.desk()), host.caller(), carrier);
        let hosted = Hosted {
            _feeder: env.tasks.spawn_owned("queue-feed", feeder.run()),
            _outbox: env.tasks.spawn_owned("queue-outbox", outbox),
            _trimmer: env.tasks.spawn_owned("queue-trim", trimmer.run()),
            _intake: env.tasks.spawn_owned("queue-intake", intake.run()),
            host,
        };
        queues.lock().insert(journal, Arc::new(hosted));
    }

    /// The journal of a partition that is led here.
    fn queue_of(&self, at: TopicPartition) -> Result<Option<TopicPartition>, QueueCallError> {
        let image = self.0.metadata.image();
        if image.partition(at).is_none() || image.is_companion(at) {
            return Err(QueueCallError::UnknownPartition);
        }
        self.leads(at)?;
        Ok(image.partner(at).map(|(journal, _)| journal))
    }

    fn leads(&self, at: TopicPartition) -> Result<PartitionHandle, QueueCallError> {
        let partition = self.0.replication.partition(at);
        match partition.filter(|partition| partition.view().is_leader) {
            Some(partition) => Ok(partition),
            None => Err(self
                .leader_hint(at)
                .map_or(QueueCallError::UnknownPartition, QueueCallError::NotLeader)),
        }
    }

    async fn queue_call(
        self,
        at: TopicPartition,
        command: QueueCommand,
    ) -> Result<QueueReply, QueueCallError> {
        if let QueueCommand::EnsureGroup {
            group, settings, ..
        } = &command
        {
            check_group_name(group, settings)?;
        }
        let journal = self.queue_of(at)?;
        check_size(&command, self.batch_bytes_max(at))?;
        let command = self.with_room(at, command);
        if let Some(journal) = journal {
            return self.ask_queue(at, journal, command).await;
        }
        if !begins(&command) {
            return Err(QueueCallError::NoQueue);
        }
        self.make_queue(at).await?;
        let until = self.0.env.clock.now() + FIRST_USE_WAIT;
        loop {
            let journal = self.queue_of(at)?.ok_or(QueueCallError::NotAvailable)?;
            // Refused so, nothing was done: the journal is as young as that.
            match self.ask_queue(at, journal, command.clone()).await {
                Err(QueueCallError::NotAvailable | QueueCallError::Loading)
                    if self.0.env.clock.now() < until =>
                {
                    self.0.env.sleep(FIRST_USE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_queue(
        &self,
        at: TopicPartition,
        journal: TopicPartition,
        command: QueueCommand,
    ) -> Result<QueueReply, QueueCallError> {
        let hosted = self.0.queues.hosted(journal);
        let hosted = hosted.ok_or(QueueCallError::NotAvailable)?;
        let answer = hosted.host.call(command).await;
        if let Ok(
            QueueReply::Schedule(Err(QueueError::Full { .. }))
            | QueueReply::Prepare(Err(QueueError::Full { .. })),
        ) = &answer
        {
            self.0
                .queues
                .limited
                .refused
                .fetch_add(1, Ordering::Relaxed);
        }
        answer.map_err(|error| match error {
            // The partition may have moved in the same moment.
            HostError::NotLeader | HostError::NoLease => {
                self.leads(at).err().unwrap_or(QueueCallError::NotAvailable)
            }
            HostError::Loading => QueueCallError::Loading,
            HostError::Indeterminate => QueueCallError::Indeterminate,
            HostError::Overloaded => QueueCallError::Overloaded,
            HostError::Unreadable(detail) => {
                tracing::error!(%journal, %detail, "a queue's journal cannot be read");
                QueueCallError::Unreadable(detail.to_string())
            }
        })
    }

    /// Makes the companion of a topic.
    async fn make_queue(&self, at: TopicPartition) -> Result<(), QueueCallError> {
        let configs = [
            ("cleanup.policy", "compact"),
            ("weir.flush", "sync"),
            ("weir.replication", "sync"),
        ];
        let topic = NewTopic {
            name: companion::name_of(at.topic),
            configs: configs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            internal: true,
            ..NewTopic::default()
        };
        match self.create_topic(topic, false, FIRST_USE_WAIT).await {
            Ok(_) | Err(AdminError::TopicExists(_)) => Ok(()),
            Err(error) => {
                tracing::warn!(partition = %at, %error, "queue journals not made");
                Err(QueueCallError::NotAvailable)
            }
        }
    }
}

/// A group whose dead letters would have nowhere to go is refused before it is made.
fn check_group_name(group: &GroupName, settings: &GroupSettings) -> Result<(), QueueCallError> {
    if settings.dead_letter.is_none() && !ids::is_topic_name(&dead_letter_topic(group)) {
        return Err(QueueCallError::IllegalGroupName(group.clone()));
    }
    Ok(())
}

impl QueueApi for Broker {
    fn cancel_forwarded(
        &self,
        at: TopicPartition,
        handle: ScheduleHandle,
        timeout: Duration,
    ) -> QueueCall<Cancelled> {
        Box::pin(self.clone().forward_cancel(at, handle, timeout))
    }

    fn resolve_forwarded(
        &self,
        at: TopicPartition,
        handle: HalfHandle,
        decision: Decision,
        source: DecisionSource,
        timeout: Duration,
    ) -> QueueCall<()> {
        let decided = self
            .clone()
            .forward_decision(at, handle, (decision, source), timeout);
        Box::pin(decided)
    }

    fn schedule_forwarded(
        &self,
        at: TopicPartition,
        schedule: Schedule,
        timeout: Duration,
    ) -> QueueCall<Scheduled> {
        Box::pin(self.clone().forward_schedule(at, schedule, timeout))
    }

    fn prepare_forwarded(
        &self,
        at: TopicPartition,
        prepare: Prepare,
        timeout: Duration,
    ) -> QueueCall<Prepared> {
        Box::pin(self.clone().forward_prepare(at, prepare, timeout))
    }

    fn check_elsewhere(
        &self,
        leader: NodeId,
        at: Vec<TopicPartition>,
        member: MemberName,
        producers: Arc<str>,
        timeout: Duration,
    ) -> QueueCall<Option<CheckElsewhere>> {
        let asked = self
            .clone()
            .ask_check(leader, at, (member, producers), timeout);
        Box::pin(asked)
    }

    fn missed_elsewhere(
        &self,
        leader: NodeId,
        at: TopicPartition,
        handle: HalfHandle,
        timeout: Duration,
    ) -> QueueCall<()> {
        Box::pin(self.clone().tell_missed(leader, at, handle, timeout))
    }

    fn receive_elsewhere(
        &self,
        leader: NodeId,
        at: TopicPartition,
        receive: Receive,
        settings: GroupSettings,
        timeout: Duration,
    ) -> QueueCall<Vec<(Delivery, Record)>> {
        let asked = (receive, settings);
        Box::pin(self.clone().forward_receive(leader, at, asked, timeout))
    }

    fn settle_forwarded(
        &self,
        at: TopicPartition,
        group: GroupName,
        settlement: Settlement,
        timeout: Duration,
    ) -> QueueCall<Vec<Result<(), ReceiptError>>> {
        let settled = self
            .clone()
            .forward_settlement(at, group, settlement, timeout);
        Box::pin(settled)
    }

    fn subscribe(
        &self,
        topic: TopicId,
        group: GroupName,
        settings: GroupSettings,
        timeout: Duration,
    ) -> QueueCall<GroupSettings> {
        Box::pin(self.clone().subscribe_all(topic, group, settings, timeout))
    }

    fn call(&self, at: TopicPartition, command: QueueCommand) -> QueueCall<QueueReply> {
        Box::pin(self.clone().queue_call(at, command))
    }

    fn records(&self, at: TopicPartition, offsets: Vec<Offset>) -> QueueCall<Vec<Option<Record>>> {
        let broker = self.clone();
        Box::pin(async move { broker.queue_records(at, at, offsets).await })
    }

    fn story(&self, at: TopicPartition, subject: Subject) -> QueueCall<Vec<(Timestamp, Fact)>> {
        let broker = self.clone();
        Box::pin(async move {
            let journal = broker.queue_of(at)?.ok_or(QueueCallError::NoQueue)?;
            let partition = broker.0.replication.partition(journal);
            // Who does not know all that is committed would leave the end of it out.
            let partition = partition.filter(PartitionHandle::may_answer);
            let partition = partition.ok_or(QueueCallError::NotAvailable)?;
            read::story(&partition, subject).await.map_err(find_error)
        })
    }

    fn kept(&self, at: TopicPartition, places: Vec<Offset>) -> QueueCall<Vec<Option<Payload>>> {
        let broker = self.clone();
        Box::pin(async move {
            let journal = broker.queue_of(at)?.ok_or(QueueCallError::NoQueue)?;
            let records = broker.queue_records(at, journal, places).await?;
            let payloads = records.iter().map(|record| payload_of(record.as_ref()?));
            Ok(payloads.collect())
        })
    }
}

impl Broker {
    /// Records of `log`, for who asks the leader of `at`.
    async fn queue_records(
        &self,
        at: TopicPartition,
        log: TopicPartition,
        offsets: Vec<Offset>,
    ) -> Result<Vec<Option<Record>>, QueueCallError> {
        self.leads(at)?;
        let partition = self.0.replication.partition(log);
        let partition = partition.ok_or(QueueCallError::NotAvailable)?;
        let found = find_known(&self.0.env, &partition, &offsets).await;
        let mut found = found.map_err(find_error)?;
        let looked_for = |offset: &Offset| found.end.is_none_or(|end| *offset < end);
        let offsets: Vec<Offset> = offsets.into_iter().take_while(looked_for).collect();
        let offsets = offsets.into_iter();
        Ok(offsets
            .map(|offset| found.records.remove(&offset))
            .collect())
    }
}

fn find_error(error: FindError) -> QueueCallError {
    match error {
        FindError::Read(ReadError::Closed | ReadError::NotLeader(_))
        | FindError::NotKnown { .. } => QueueCallError::NotAvailable,
        FindError::Read(error @ (ReadError::OutOfRange { .. } | ReadError::Storage(_))) => {
            QueueCallError::Unreadable(error.to_string())
        }
        error @ FindError::Batch { .. } => QueueCallError::Unreadable(error.to_string()),
    }
}
