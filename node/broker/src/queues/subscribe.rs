//! Where a new group begins: fixed once, for all partitions of a topic.
//!
//! A client hears from one node that it is subscribed. From then on its group must miss
//! nothing, also where others lead, however late these hear of it. So, in this order:
//!
//! ```text
//!   every leader says:  has the group | would begin it at offset n
//!           |                                       (nobody leads: after this epoch)
//!           v
//!   document queue-start/TOPIC/GROUP: the n of every partition; the first one counts
//!           |                                                    <- subscribed from here
//!           v
//!   the group is made where this node leads; elsewhere the same way, by whoever comes first
//!           |
//!           v
//!   all have it: the document is deleted
//! ```
//!
//! Always: while some partition has a group and another has not, either the document says
//! where the other one begins, or an operator deleted the group there. A crash in between
//! leaves the document: the next call goes on from it. What is recorded is never behind
//! the end of the log at that time, so that errors deliver a message too many and none too
//! few. Costs a new group two entries of the metadata log, one that is there a question to
//! every leader.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_api::ReadError;
use weir_api::queue::{QueueCallError, YOUNG};
use weir_base::image::{ClusterImage, TopicRecord};
use weir_base::{BoxFuture, LeaderEpoch, NodeId, Offset, Timestamp, TopicId, TopicPartition};
use weir_metadata::MetadataError;
use weir_queue::{GroupName, GroupSettings, QueueCommand, QueueError, QueueReply};

use super::check_group_name;
use crate::Broker;
use crate::partitions::join_all;
use crate::read::read_error;

/// Pause before the leaders are asked again, unless the image changes earlier.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one leader is waited for, of the caller's patience.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// How long the deletion of a document is tried: one that stays harms nobody.
const FORGET_WAIT: Duration = Duration::from_secs(10);

/// What a leader says of a group. Goes over the wire: append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It is there.
    Made(GroupSettings),
    /// It is not, and would begin here.
    Missing(Offset),
    /// Not led here, or not served just now.
    Unknown,
}

/// Where the group begins at one partition. Kept in the metadata group: append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Start {
    /// It was there already.
    Made,
    At(Offset),
    /// Behind all records of the epochs up to this one, in which nobody led.
    After(LeaderEpoch),
}

/// One call on its way.
struct Subscription {
    broker: Broker,
    topic: TopicId,
    group: GroupName,
    /// The caller's, until a leader told those that the group has.
    settings: GroupSettings,
    /// Whether all starts are on record: what is left may be done later, by others.
    is_accepted: bool,
}

impl Broker {
    /// See [`weir_api::QueueApi::subscribe`].
    pub(crate) async fn subscribe_all(
        self,
        topic: TopicId,
        group: GroupName,
        settings: GroupSettings,
        timeout: Duration,
    ) -> Result<GroupSettings, QueueCallError> {
        check_group_name(&group, &settings)?;
        let env = self.0.env.clone();
        let until = env.clock.now() + timeout;
        let mut images = self.0.metadata.images();
        let mut subscription = Subscription {
            broker: self,
            topic,
            group,
            settings,
            is_accepted: false,
        };
        loop {
            images.mark_unchanged();
            let left = until.since(env.clock.now());
            let done = env.timeout(left, subscription.go_on(left)).await;
            match done.unwrap_or(Err(QueueCallError::NotAvailable)) {
                Ok(settings) => return Ok(settings),
                Err(error) if !passes(&error) => return Err(error),
                Err(_) if env.clock.now() < until => {
                    // Either way it is looked at again.
                    let _changed = env.timeout(PAUSE, images.changed()).await;
                }
                Err(_) if subscription.is_accepted => return Ok(subscription.settings),
                Err(error) => return Err(error),
            }
        }
    }

    /// What this node, as leader, says of a group.
    pub(crate) async fn standing(&self, at: TopicPartition, group: GroupName) -> Standing {
        let describe = QueueCommand::Describe { group };
        match self.clone().queue_call(at, describe).await {
            Ok(QueueReply::Describe(Ok(view))) => Standing::Made(view.settings),
            Ok(QueueReply::Describe(Err(QueueError::NoSuchGroup(_))))
            | Err(QueueCallError::NoQueue) => {
                let beginning = self.beginning(at).await;
                beginning.map_or(Standing::Unknown, Standing::Missing)
            }
            Ok(_) | Err(_) => Standing::Unknown,
        }
    }

    /// Where a group begins that is new to a partition led here.
    async fn beginning(&self, at: TopicPartition) -> Result<Offset, ReadError> {
        let (partition, view) = self.led(at, None)?;
        if !partition.may_answer() {
            return Err(ReadError::NotReady);
        }
        if view.log_start == Offset::ZERO {
            let young = i64::try_from(YOUNG.as_millis()).unwrap_or(i64::MAX);
            let since = Timestamp(self.0.env.clock.wall().0.saturating_sub(young));
            let first_young = partition.offset_at_time(since).await;
            if let Some((Offset::ZERO, _)) = first_young.map_err(read_error)? {
                return Ok(Offset::ZERO);
            }
        }
        Ok(view.high_watermark)
    }
}

/// Whether nothing was done, for a reason that passes.
fn passes(error: &QueueCallError) -> bool {
    match error {
        QueueCallError::NotLeader(_)
        | QueueCallError::NotAvailable
        | QueueCallError::Loading
        | QueueCallError::Indeterminate
        | QueueCallError::Overloaded => true,
        QueueCallError::UnknownPartition
        | QueueCallError::NoQueue
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => false,
    }
}

/// What the first partition that has the group has.
fn settings_of(standings: &[Standing]) -> Option<GroupSettings> {
    standings.iter().find_map(|standing| match standing {
        Standing::Made(settings) => Some(settings.clone()),
        Standing::Missing(_) | Standing::Unknown => None,
    })
}

impl Subscription {
    fn key(&self) -> String {
        format!("queue-start/{}/{}", self.topic, self.group)
    }

    fn at(&self, index: usize) -> TopicPartition {
        TopicPartition::new(self.topic, u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Does what is left to be done; gives the settings in force.
    async fn go_on(&mut self, left: Duration) -> Result<GroupSettings, QueueCallError> {
        let image = self.broker.0.metadata.image();
        let record = image.topic(self.topic);
        let record = record.ok_or(QueueCallError::UnknownPartition)?;
        let mut standings = self.standings(record, left).await;
        if let Some(settings) = settings_of(&standings) {
            // Where it is missing it is made alike, on partitions added later for one.
            self.settings = settings;
        }
        let is_missing = |standing: &Standing| matches!(standing, Standing::Missing(_));
        let mut document = image.documents.get(&self.key()).map(|d| d.version);
        if standings.iter().any(is_missing) {
            let (starts, version) = self.starts(&image, record, &standings, left).await?;
            self.is_accepted = true;
            document = Some(version);
            self.make_here(record, &mut standings, &starts).await?;
        }
        let settings = settings_of(&standings);
        // It is nowhere, and no leader says that it may be made: nothing is known.
        if settings.is_none() && !self.is_accepted {
            return Err(QueueCallError::NotAvailable);
        }
        let is_made = |standing: &Standing| matches!(standing, Standing::Made(_));
        if let Some(version) = document
            && standings.iter().all(is_made)
        {
            self.forget(version);
        }
        Ok(settings.unwrap_or_else(|| self.settings.clone()))
    }

    /// Makes the group wherever this node leads and it is missing.
    async fn make_here(
        &self,
        record: &TopicRecord,
        standings: &mut [Standing],
        starts: &[Start],
    ) -> Result<(), QueueCallError> {
        let mut making: Vec<BoxFuture<'_, (usize, Result<GroupSettings, QueueCallError>)>> =
            Vec::new();
        for (index, partition) in record.partitions.iter().enumerate() {
            if partition.leader == Some(self.broker.0.node)
                && let Some(Standing::Missing(here)) = standings.get(index)
            {
                let (here, start) = (*here, starts.get(index));
                making.push(Box::pin(async move {
                    (index, self.make(self.at(index), start, here).await)
                }));
            }
        }
        for (index, made) in join_all(making.into_iter()).await {
            let settings = made?;
            if let Some(standing) = standings.get_mut(index) {
                *standing = Standing::Made(settings);
            }
        }
        Ok(())
    }

    /// Asks every leader.
    async fn standings(&self, record: &TopicRecord, left: Duration) -> Vec<Standing> {
        let mut standings = vec![Standing::Unknown; record.partitions.len()];
        let mut leaders: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (index, partition) in record.partitions.iter().enumerate() {
            if let Some(leader) = partition.leader {
                leaders.entry(leader).or_default().push(index);
            }
        }
        let broker = &self.broker;
        let mut asking: Vec<BoxFuture<'_, (Vec<usize>, Vec<Standing>)>> = Vec::new();
        for (leader, indexes) in leaders {
            let at = indexes.iter().map(|index| self.at(*index)).collect();
            let group = self.group.clone();
            asking.push(Box::pin(async move {
                let told = if leader == broker.0.node {
                    broker.standings_here(at, group).await
                } else {
                    let wait = left.min(ASK_WAIT);
                    broker.ask_standings(leader, at, group, wait).await
                };
                (indexes, told)
            }));
        }
        let told = join_all(asking.into_iter()).await.into_iter();
        for (index, standing) in told.flat_map(|(indexes, told)| indexes.into_iter().zip(told)) {
            if let Some(place) = standings.get_mut(index) {
                *place = standing;
            }
        }
        standings
    }

    /// The starts on record, which are written if there are none; with the document's version.
    async fn starts(
        &self,
        image: &ClusterImage,
        record: &TopicRecord,
        standings: &[Standing],
        left: Duration,
    ) -> Result<(Vec<Start>, u64), QueueCallError> {
        let key = self.key();
        let unreadable = |error: postcard::Error| {
            QueueCallError::Unreadable(format!("document '{key}': {error}"))
        };
        if let Some(document) = image.documents.get(&key) {
            let starts = postcard::from_bytes(&document.value).map_err(unreadable)?;
            return Ok((starts, document.version));
        }
        let starts = record.partitions.iter().zip(standings);
        let starts = starts.map(|(partition, standing)| match standing {
            Standing::Made(_) => Some(Start::Made),
            Standing::Missing(offset) => Some(Start::At(*offset)),
            Standing::Unknown if partition.leader.is_none() => {
                Some(Start::After(partition.leader_epoch))
            }
            // Somebody may be taking messages there right now.
            Standing::Unknown => None,
        });
        let starts: Option<Vec<Start>> = starts.collect();
        let starts = starts.ok_or(QueueCallError::NotAvailable)?;
        let value = postcard::to_stdvec(&starts).map_err(unreadable)?;
        let metadata = &self.broker.0.metadata;
        match metadata.put_document(key.clone(), None, value, left).await {
            Ok(version) => Ok((starts, version)),
            // Also if another was first: its document is found when the image has it.
            Err(error) => {
                tracing::debug!(%key, %error, "where a group begins is not on record yet");
                Err(match error {
                    MetadataError::Refused(_)
                    | MetadataError::Unavailable(_)
                    | MetadataError::TimedOut(_)
                    | MetadataError::Start(_) => QueueCallError::NotAvailable,
                })
            }
        }
    }

    /// Makes the group at a partition led here; `here` is where it would begin now.
    async fn make(
        &self,
        at: TopicPartition,
        start: Option<&Start>,
        here: Offset,
    ) -> Result<GroupSettings, QueueCallError> {
        let broker = &self.broker;
        let led = broker.led(at, None);
        let (partition, view) = led.map_err(|_| QueueCallError::NotAvailable)?;
        let start = match start {
            Some(Start::At(offset)) => *offset,
            Some(Start::After(epoch)) => {
                let end = partition.end_of_epoch(*epoch);
                end.map_or(view.log_start, |epoch| epoch.end)
            }
            // Somebody deleted it since.
            Some(Start::Made) => here,
            // A partition that is younger than the document.
            None => view.log_start,
        };
        let command = QueueCommand::EnsureGroup {
            group: self.group.clone(),
            settings: self.settings.clone(),
            // An unclean election may have shortened the log.
            start: start.min(view.high_watermark).max(view.log_start),
            replace: false,
        };
        let reply = broker.clone().queue_call(at, command).await?;
        let QueueReply::EnsureGroup(made) = reply else {
            tracing::error!("a queue answered another question");
            return Err(QueueCallError::Indeterminate);
        };
        Ok(made?.settings)
    }

    /// Deletes the document: every partition has the group.
    fn forget(&self, version: u64) {
        let (metadata, key) = (self.broker.0.metadata.clone(), self.key());
        self.broker.0.env.tasks.spawn("queue-start", async move {
            let deleted = metadata.delete_document(key.clone(), version, FORGET_WAIT);
            if let Err(error) = deleted.await {
                tracing::debug!(%key, %error, "not deleted, or somebody else did");
            }
        });
    }
}
