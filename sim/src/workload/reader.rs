//! A consumer of one partition that follows it from its start, and after the faults one
//! that reads it all again: what that one does not find is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::batch::Record;
use weir_base::{Env, RecordBatch};
use weir_checkers::{Key, Process, Read, Value};

use super::router::Router;
use super::writer::Target;

const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long what was acknowledged may take to be readable, if it is not lost.
const VISIBLE_AFTER: Duration = Duration::from_secs(20);

pub(crate) struct Reader {
    target: Target,
    env: Env,
    router: Router,
}

/// A place in the log and who reads there.
struct Cursor {
    process: Process,
    next: i64,
    /// The next sequence of each producer (I11), while read from the start.
    sequences: BTreeMap<(i64, i16), i32>,
    /// Whether the log cannot be cut any more while it is read.
    is_final: bool,
}

impl Reader {
    pub(crate) fn new(env: &Env, target: Target) -> Self {
        Self {
            router: Router::new(env, &target.nodes),
            env: env.clone(),
            target,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut cursor = self.begin(false);
        self.read_to_the_end(&mut cursor).await;
        let mut again = self.begin(true);
        self.read_to_the_end(&mut again).await;
        self.target.stage.set_read(self.target.key);
    }

    /// Reads until everything is read that was written after the faults. Where a leader
    /// says the end is may be less: it may not know yet that it leads no more. And with
    /// async replication a value can be read only some time after it was acknowledged, or
    /// never, if the leader that did was the last to know of it.
    async fn read_to_the_end(&mut self, cursor: &mut Cursor) {
        let mut written_at = None;
        loop {
            let at_end = self.read_some(cursor).await == Some(true);
            if let Some(end) = self.target.stage.written(self.target.key) {
                let now = self.env.clock.now();
                let waited = now.since(*written_at.get_or_insert(now));
                if at_end && (cursor.next >= end || waited > VISIBLE_AFTER) {
                    let (by, recorder) = (self.router.connected_to(), &self.target.recorder);
                    recorder.reads_no_further(cursor.process, cursor.next, end, by);
                    return;
                }
            }
        }
    }

    /// At the start of the log.
    fn begin(&self, is_final: bool) -> Cursor {
        let process = self.target.recorder.process();
        self.target.recorder.assign(process, self.target.key);
        Cursor {
            process,
            next: 0,
            sequences: BTreeMap::new(),
            is_final,
        }
    }

    /// Reads what is there. Says whether that was the end of what is committed; `None` if
    /// nobody answered.
    async fn read_some(&mut self, cursor: &mut Cursor) -> Option<bool> {
        const OFFSET_OUT_OF_RANGE: i16 = 1;
        let (name, partition) = (self.target.topic.name, self.target.partition);
        let fetched = async {
            let leader = self.router.leader(name, partition).await?;
            leader.fetch(name, partition, cursor.next).await
        }
        .await;
        let fetched = match fetched {
            Ok(fetched) if fetched.error == 0 => fetched,
            Ok(fetched) if fetched.error == OFFSET_OUT_OF_RANGE => {
                if self.target.topic.keeps_all() {
                    let next = cursor.next;
                    let what = format!(
                        "{name}-{partition}: offset {next} was read up to, and is out of range"
                    );
                    self.target.recorder.complain(what);
                }
                *cursor = self.begin(cursor.is_final);
                self.env.sleep(RETRY_PAUSE).await;
                return None;
            }
            Ok(_) | Err(_) => {
                self.router.disconnect();
                self.env.sleep(RETRY_PAUSE).await;
                return None;
            }
        };
        let mut reads = Vec::new();
        for batch in &fetched.batches {
            if let Err(error) = self.take(batch, cursor, &mut reads) {
                let what = format!("{name}-{partition}: {error:#}");
                self.target.recorder.complain(what);
            }
        }
        let at_end = fetched.batches.is_empty() && cursor.next >= fetched.high_watermark;
        if !reads.is_empty() {
            self.target.recorder.poll(cursor.process, reads);
        }
        Some(at_end)
    }

    fn take(&self, batch: &RecordBatch, cursor: &mut Cursor, reads: &mut Vec<Read>) -> Result<()> {
        let from = cursor.next;
        cursor.next = batch.end_offset().to_wire();
        let header = batch.header();
        if header.attributes.is_control() {
            return Ok(());
        }
        let records = batch.records()?;
        let count = i32::try_from(records.len())?;
        let producer = (header.producer_id.0, header.producer_epoch.0);
        let sequence = header.base_sequence;
        let expected = cursor.sequences.insert(producer, sequence + count);
        if let Some(expected) = expected
            && expected != sequence
            && header.base_offset.to_wire() >= from
            && (cursor.is_final || self.target.topic.keeps_all())
        {
            let at = header.base_offset.to_wire();
            let what = format!(
                "I11: producer {producer:?} has sequence {sequence} at {at} after {expected} were written"
            );
            self.target.recorder.complain(what);
        }
        add_reads(self.target.key, records, from, reads)
    }
}

/// Adds the values of records from offset `from` on: a batch is fetched whole, and may begin before.
pub(super) fn add_reads(
    key: Key,
    records: Vec<Record>,
    from: i64,
    reads: &mut Vec<Read>,
) -> Result<()> {
    for record in records {
        let offset = record.offset.to_wire();
        if offset < from {
            continue;
        }
        let value = record.value.context("a value without bytes")?;
        let value = String::from_utf8(value.into())?.parse()?;
        reads.push(Read {
            key,
            offset: u64::try_from(offset)?,
            value: Value(value),
        });
    }
    Ok(())
}
