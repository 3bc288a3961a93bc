//! Takes delayed messages in that are in a partition's log: looks the log through for records
//! that ask for a time of delivery, and hands them to the partition's machine.
//!
//! The machine says where to begin, and keeps what it is told and how far that reaches in one
//! batch of records: after whatever ends this, the next leader goes on where it stood. Only
//! the leader reads, each record once; what is not compressed is not even parsed if it has
//! no such header.

use std::time::Duration;

use weir_base::batch::Compression;
use weir_base::{Offset, RecordBatch, TopicPartition};
use weir_queue::{Found, QueueCommand, QueueMachine, QueueReply, TakeIn, envelope::DELIVER_PREFIX};
use weir_replication::{PartitionHandle, ReadError};

use super::read::{FindError, batches, open_if};
use crate::Broker;
use crate::host::{Caller, HostError};

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Bytes of messages that are handed over at once; one may exceed it.
const FOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Offsets without a delayed message after which the machine is told so.
const TELL_AFTER: u64 = 64 * 1024;
/// Pause before a machine that did not answer, or a log that did not read, is asked again:
/// the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The task of one machine.
pub(super) struct Intake {
    pub(super) broker: Broker,
    /// The partition with the messages.
    pub(super) parent: TopicPartition,
    pub(super) host: Caller<QueueMachine>,
}

/// What was looked through and not handed over yet.
struct Looked {
    from: Offset,
    end: Offset,
    found: Vec<Found>,
    bytes: usize,
}

impl Looked {
    fn at(from: Offset) -> Self {
        Self {
            from,
            end: from,
            found: Vec::new(),
            bytes: 0,
        }
    }

    fn is_worth_telling(&self) -> bool {
        !self.found.is_empty() || self.end.0 - self.from.0 >= TELL_AFTER
    }
}

impl Intake {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let env = self.broker.0.env.clone();
        let mut pause = PAUSE.0;
        loop {
            let Some(partition) = self.broker.0.replication.partition(self.parent) else {
                // Not opened yet, or moved away: then this task ends soon.
                env.sleep(PAUSE.1).await;
                continue;
            };
            let mut views = partition.views();
            if !views.borrow_and_update().is_leader {
                if views.changed().await.is_err() {
                    env.sleep(PAUSE.1).await;
                }
                continue;
            }
            if let Err(error) = self.lead(&partition, &mut pause).await {
                tracing::warn!(partition = %self.parent, %error, "delayed messages not taken in");
            }
            env.sleep(pause).await;
            pause = PAUSE.1.min(pause * 2);
        }
    }

    /// Goes on for as long as the machine answers.
    async fn lead(
        &self,
        partition: &PartitionHandle,
        pause: &mut Duration,
    ) -> Result<(), FindError> {
        let mut views = partition.views();
        let Some(next) = self.tell(Looked::at(Offset::ZERO)).await else {
            return Ok(());
        };
        *pause = PAUSE.0;
        let mut looked = Looked::at(next);
        loop {
            let end = views.borrow_and_update().high_watermark;
            while looked.end < end {
                self.look(partition, &mut looked).await?;
                if looked.is_worth_telling() {
                    let wanted = looked.end;
                    let Some(next) = self.tell(looked).await else {
                        return Ok(());
                    };
                    if next < wanted {
                        // As many are kept as may be: some must be due first.
                        self.broker.0.env.sleep(PAUSE.1).await;
                    }
                    looked = Looked::at(next);
                }
            }
            if views.changed().await.is_err() || !views.borrow().is_leader {
                return Ok(());
            }
        }
    }

    /// Hands over what was found; gives where to go on, or nothing if the machine does not
    /// serve here, or it is not known what it did.
    async fn tell(&self, looked: Looked) -> Option<Offset> {
        let take = QueueCommand::TakeIn(TakeIn {
            from: looked.from,
            end: looked.end,
            found: looked.found,
        });
        match self.host.call(take).await {
            Ok(QueueReply::TakeIn(next)) => Some(next),
            Ok(_)
            | Err(
                HostError::NotLeader
                | HostError::NoLease
                | HostError::Loading
                | HostError::Indeterminate
                | HostError::Overloaded
                | HostError::Unreadable(_),
            ) => None,
        }
    }

    /// Looks through what one read gives, or as much of it as may be handed over at once.
    async fn look(
        &self,
        partition: &PartitionHandle,
        looked: &mut Looked,
    ) -> Result<(), FindError> {
        let start = partition.view().log_start;
        if looked.end < start {
            looked.end = start;
        }
        let fetched = match partition.read(looked.end, READ_BYTES).await {
            Ok(fetched) => fetched,
            // Retention was faster.
            Err(ReadError::OutOfRange { start, .. }) if start > looked.end => {
                looked.end = start;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let end = fetched.chunk.end;
        if end <= looked.end {
            // Nothing yet, whatever the high watermark says.
            self.broker.0.env.sleep(PAUSE.0).await;
            return Ok(());
        }
        for batch in batches(fetched.chunk.chunks, looked.end)? {
            if !may_delay(&batch) {
                continue;
            }
            let from = looked.end;
            // A bad batch must not stop the others: groups count its messages as missing.
            let opened = open_if(&batch, |offset| offset >= from).unwrap_or_else(|error| {
                tracing::error!(partition = %self.parent, %error, "no delayed messages of a batch");
                Vec::new()
            });
            for record in opened {
                if let Some(found) = Found::of(self.parent.index.0, &record) {
                    if looked.bytes >= FOUND_BYTES_MAX {
                        looked.end = found.offset;
                        return Ok(());
                    }
                    looked.bytes += found.payload.len();
                    looked.found.push(found);
                }
            }
        }
        looked.end = end;
        Ok(())
    }
}

/// Whether a batch may hold what asks to come later: not what queues send, which was kept
/// until its time.
fn may_delay(batch: &RecordBatch) -> bool {
    let header = batch.header();
    let is_sent = header.is_idempotent() && header.producer_id.is_journal();
    let is_readable = header.attributes.compression() == Compression::None;
    let has_none = is_readable && !batch.has_header(DELIVER_PREFIX);
    !is_sent && !header.attributes.is_control() && !has_none
}
