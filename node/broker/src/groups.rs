//! Consumer groups: which machine serves a group, and where producer ids come from.
//!
//! A group's state lives in one partition of the internal topic [`GROUPS_TOPIC`], chosen
//! by a fixed hash of its id; the node that leads that partition coordinates it. Every
//! replica runs the machine, so that the next leader is warm.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_api::groups::{
    GroupCommand, GroupMachine, GroupOptions, GroupReply, LiveGroups, MemberId,
    journal_partition_of,
};
use weir_api::{AdminApi, AdminError, Coordinator, GroupApi, GroupCallError, NewTopic};
use weir_base::image::TopicRecord;
use weir_base::{BoxFuture, Entropy, Env, TopicPartition};
use weir_replication::PartitionHandle;

use crate::host::{HostError, HostOptions, MachineHost};
use crate::journal::PartitionJournal;
use crate::{Broker, BrokerOptions};

/// The internal topic with the journals of groups. Kafka's tools know the name as internal.
pub(crate) const GROUPS_TOPIC: &str = "__consumer_offsets";
/// How long a call waits for the internal topic to be made.
const TOPIC_WAIT: Duration = Duration::from_secs(5);

type Hosts = BTreeMap<TopicPartition, Arc<MachineHost<GroupMachine>>>;

/// The hosted group machines of this node.
pub(crate) struct Groups {
    partitions: u32,
    options: GroupOptions,
    host_options: HostOptions,
    hosts: Mutex<Hosts>,
    producer_ids: tokio::sync::Mutex<Range<i64>>,
    member_ids: Entropy,
}

impl Groups {
    pub(crate) fn new(env: &Env, options: &BrokerOptions) -> Self {
        Self {
            partitions: options.group_partitions,
            options: options.groups.clone(),
            host_options: HostOptions::default(),
            hosts: Mutex::default(),
            producer_ids: tokio::sync::Mutex::new(0..0),
            member_ids: env.entropy.fork("group-members"),
        }
    }

    /// Runs a machine on a replica that was opened here.
    pub(crate) fn open(&self, env: &Env, at: TopicPartition, partition: PartitionHandle) {
        let journal = Arc::new(PartitionJournal::new(env, partition));
        let options = self.options.clone();
        let volatile = move || LiveGroups::with_options(options.clone());
        let host = MachineHost::start(env, journal, at, self.host_options.clone(), volatile);
        self.lock().insert(at, Arc::new(host));
    }

    /// Stops the machine of a replica that begins anew: its snapshot, a fold of what was
    /// committed, stays true.
    pub(crate) fn stop(&self, at: TopicPartition) {
        self.lock().remove(&at);
    }

    /// Stops the machine of a replica that left this node, and forgets its snapshot.
    pub(crate) fn close(&self, env: &Env, at: TopicPartition) {
        if self.lock().remove(&at).is_some() {
            let forget = MachineHost::<GroupMachine>::remove_snapshot(env.clone(), at);
            env.tasks.spawn("forget-snapshot", forget);
        }
    }

    fn host(&self, at: TopicPartition) -> Option<Arc<MachineHost<GroupMachine>>> {
        self.lock().get(&at).cloned()
    }

    /// Whether a machine here still reads its journal ([`MachineHost::is_behind`]).
    pub(crate) fn are_behind(&self) -> bool {
        self.lock().values().any(|host| host.is_behind())
    }

    fn all(&self) -> Vec<Arc<MachineHost<GroupMachine>>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal of a group, if the internal topic exists.
fn journal_of(topic: &TopicRecord, group: &str) -> TopicPartition {
    let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    TopicPartition::new(topic.id, journal_partition_of(group, partitions))
}

impl GroupApi for Broker {
    fn coordinator(&self, group: &str) -> BoxFuture<'static, Result<Coordinator, GroupCallError>> {
        let broker = self.clone();
        let group = group.to_owned();
        Box::pin(async move {
            let topic = broker.groups_topic().await?;
            let at = journal_of(&topic, &group);
            let image = broker.0.metadata.image();
            let leader = image.partition(at).and_then(|record| record.leader);
            leader
                .map(|node| Coordinator { node })
                .ok_or(GroupCallError::NotAvailable)
        })
    }

    fn call(
        &self,
        command: GroupCommand,
    ) -> BoxFuture<'static, Result<GroupReply, GroupCallError>> {
        let broker = self.clone();
        Box::pin(async move {
            let Some(group) = command.group().cloned() else {
                return broker.list_groups().await;
            };
            let image = broker.0.metadata.image();
            let topic = image
                .topics
                .get(GROUPS_TOPIC)
                .ok_or(GroupCallError::NotCoordinator)?;
            let host = broker.0.groups.host(journal_of(topic, &group));
            let host = host.ok_or(GroupCallError::NotCoordinator)?;
            host.call(command).await.map_err(call_error)
        })
    }

    fn new_producer_id(&self) -> BoxFuture<'static, Result<i64, GroupCallError>> {
        let broker = self.clone();
        Box::pin(async move {
            let mut block = broker.0.groups.producer_ids.lock().await;
            if block.is_empty() {
                // A block whose answer was lost is never given out: ids are plenty.
                let fresh = broker.0.metadata.allocate_producer_ids().await;
                *block = fresh.map_err(|_| GroupCallError::NotAvailable)?;
            }
            block.next().ok_or(GroupCallError::NotAvailable)
        })
    }

    fn fresh_member_id(&self, client_id: &str) -> MemberId {
        format!("{client_id}-{}", self.0.groups.member_ids.uuid()).into()
    }
}

impl Broker {
    /// The groups' internal topic, made on first use.
    async fn groups_topic(&self) -> Result<Arc<TopicRecord>, GroupCallError> {
        if let Some(topic) = self.0.metadata.image().topics.get(GROUPS_TOPIC) {
            return Ok(Arc::clone(topic));
        }
        let configs = [
            ("cleanup.policy", "compact"),
            ("weir.flush", "sync"),
            ("weir.replication", "sync"),
        ];
        let topic = NewTopic {
            name: GROUPS_TOPIC.to_owned(),
            partitions: Some(self.0.groups.partitions),
            configs: configs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            internal: true,
            ..NewTopic::default()
        };
        match self.create_topic(topic, false, TOPIC_WAIT).await {
            Ok(_) | Err(AdminError::TopicExists(_)) => {}
            Err(_) => return Err(GroupCallError::NotAvailable),
        }
        let image = self.0.metadata.image();
        image
            .topics
            .get(GROUPS_TOPIC)
            .cloned()
            .ok_or(GroupCallError::NotAvailable)
    }

    /// The groups of all machines that this node leads.
    async fn list_groups(&self) -> Result<GroupReply, GroupCallError> {
        let mut groups = Vec::new();
        for host in self.0.groups.all() {
            match host.call(GroupCommand::List).await {
                Ok(GroupReply::List(some)) => groups.extend(some),
                // Led elsewhere: its leader lists it.
                Ok(_) | Err(HostError::NotLeader | HostError::NoLease) => {}
                Err(error) => return Err(call_error(error)),
            }
        }
        Ok(GroupReply::List(groups))
    }
}

fn call_error(error: HostError) -> GroupCallError {
    match error {
        HostError::NotLeader | HostError::NoLease => GroupCallError::NotCoordinator,
        HostError::Loading => GroupCallError::Loading,
        HostError::Indeterminate => GroupCallError::Indeterminate,
        HostError::Overloaded => GroupCallError::NotAvailable,
        HostError::Unreadable(detail) => {
            tracing::error!(%detail, "a group journal cannot be read");
            GroupCallError::NotAvailable
        }
    }
}
