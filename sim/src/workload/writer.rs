//! A producer to one partition, for as long as the run lasts.
//!
//! It is idempotent and repeats what it has no answer to; now and then it gives up, and
//! then nobody knows whether the values are stored. After the faults it never gives up.
//! Now and then it sends a batch again that was acknowledged, as a copy that was late does:
//! the broker knows the last five of a producer, and where each is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use weir_base::batch::BatchBuilder;
use weir_base::{Env, ProducerEpoch, ProducerId, RecordBatch};
use weir_checkers::{Key, Kind, Process, Send};

use super::kafka_client::Produced;
use super::recorder::Recorder;
use super::router::Router;
use super::stage::Stage;
use crate::dice::Dice;
use crate::plan::Topic;

const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Batches that must be acknowledged after the faults.
const BATCHES_AFTER: u32 = 3;
/// How long it tries before it may give up.
const PATIENCE: Duration = Duration::from_secs(8);

/// Acknowledged batches that a broker must know again, the newest included.
const KNOWN: usize = 5;
/// How often one of them is sent again: once in that many batches.
const REPEATS: u64 = 8;
/// Milliseconds between two batches, at least and at most.
const PAUSE: (u64, u64) = (20, 300);

/// One partition and what is written down about it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) topic: Topic,
    pub(crate) partition: i32,
    pub(crate) key: Key,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) recorder: Recorder,
    pub(crate) stage: Stage,
    /// As [`crate::focus::Focus`] says.
    pub(crate) patience: u64,
    pub(crate) repeats_often: bool,
}

/// What became of a batch.
enum Ended {
    At(i64),
    GaveUp,
    /// The broker knows the producer no more, or another state of it.
    Estranged,
}

pub(crate) struct Writer {
    target: Target,
    env: Env,
    dice: Dice,
    repeats: Dice,
    router: Router,
    /// What this producer sent last, and where each was stored.
    known: VecDeque<(RecordBatch, i64)>,
}

impl Writer {
    pub(crate) fn new(env: &Env, target: Target) -> Self {
        let purpose = format!("writer {}", target.key.0);
        Self {
            dice: Dice::new(env.entropy.fork(&purpose)),
            repeats: Dice::new(env.entropy.fork(&format!("{purpose} repeats"))),
            known: VecDeque::new(),
            router: Router::new(env, &target.nodes),
            env: env.clone(),
            target,
        }
    }

    /// Writes until the faults are over and what was written since is acknowledged.
    pub(crate) async fn run(mut self) {
        let mut left = BATCHES_AFTER;
        'producer: loop {
            let (process, producer) = (self.target.recorder.process(), self.producer().await);
            let mut sequence = 0;
            self.known.clear();
            loop {
                self.repeat(producer).await;
                let healed = self.target.stage.is_healed();
                let count = self.dice.between(1, 3);
                let sends: Vec<Send> = (0..count).map(|_| self.send()).collect();
                self.told(process, Kind::Invoke, sends.clone());
                let batch = match batch(&self.env, producer, sequence, &sends) {
                    Ok(batch) => batch,
                    Err(error) => {
                        self.target.recorder.complain(format!("no batch: {error}"));
                        return;
                    }
                };
                let ended = self.until_ended(&batch, producer, sequence).await;
                let batch_records = i32::try_from(count).unwrap_or(0);
                sequence += batch_records;
                match ended {
                    Ended::At(base) => {
                        self.known.push_back((batch, base));
                        if self.known.len() > KNOWN {
                            self.known.pop_front();
                        }
                        let offsets = u64::try_from(base).unwrap_or(0)..;
                        let stored = sends.iter().zip(offsets).map(|(send, offset)| Send {
                            offset: Some(offset),
                            ..*send
                        });
                        let stored = stored.collect();
                        self.told(process, Kind::Ok, stored);
                        left -= u32::from(healed);
                        if left == 0 {
                            let end = base + i64::from(batch_records);
                            self.target.stage.set_written(self.target.key, end);
                            return;
                        }
                    }
                    Ended::GaveUp | Ended::Estranged => {
                        self.told(process, Kind::Info, sends);
                        continue 'producer;
                    }
                }
                let (least, most) = PAUSE;
                let patience = self.target.patience;
                let pause = self.dice.magnitude(least * patience, most * patience);
                self.env.sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    /// Sends one of the known batches once more. Any answer but its offset, and any but a
    /// refusal that says nothing of it, is wrong where nothing is ever lost.
    async fn repeat(&mut self, producer: (i64, i16)) {
        let often = if self.target.repeats_often {
            2
        } else {
            REPEATS
        };
        let due = self.target.topic.keeps_all() && self.repeats.one_in(often);
        let Some(last) = self.known.len().checked_sub(1).filter(|_| due) else {
            return;
        };
        let at = self.repeats.between(0, last as u64);
        let (batch, base) = self.known[usize::try_from(at).unwrap_or(0)].clone();
        let sequence = batch.header().base_sequence;
        match self.send_once(&batch).await {
            Ok(Produced::At(again)) if again != base => {
                let (name, partition) = (self.target.topic.name, self.target.partition);
                let what = format!(
                    "{name}-{partition}: producer {producer:?} was told {base} for sequence {sequence}, and {again} when it sent it again"
                );
                self.target.recorder.complain(what);
            }
            Ok(Produced::At(_)) => {}
            Ok(Produced::Refused(error)) => {
                self.refused(error, producer, sequence);
                self.router.disconnect();
            }
            Err(_) => self.router.disconnect(),
        }
    }

    async fn send_once(&mut self, batch: &RecordBatch) -> Result<Produced> {
        let (name, partition) = (self.target.topic.name, self.target.partition);
        let leader = self.router.leader(name, partition).await?;
        leader
            .produce(name, partition, batch, Duration::from_secs(1))
            .await
    }

    fn send(&self) -> Send {
        Send {
            key: self.target.key,
            value: self.target.recorder.value(),
            offset: None,
        }
    }

    fn told(&self, process: Process, kind: Kind, sends: Vec<Send>) {
        self.target.recorder.send(process, kind, sends);
    }

    async fn producer(&mut self) -> (i64, i16) {
        loop {
            match async { self.router.any().await?.new_producer().await }.await {
                Ok(producer) => return producer,
                Err(_) => self.env.sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn until_ended(
        &mut self,
        batch: &RecordBatch,
        producer: (i64, i16),
        sequence: i32,
    ) -> Ended {
        let begun = self.env.clock.now();
        loop {
            match self.send_once(batch).await {
                Ok(Produced::At(offset)) => return Ended::At(offset),
                Ok(Produced::Refused(error)) => {
                    self.router.disconnect();
                    if let Some(ended) = self.refused(error, producer, sequence) {
                        return ended;
                    }
                }
                Err(_) => self.router.disconnect(),
            }
            let tried = self.env.clock.now() - begun;
            if tried > PATIENCE && !self.target.stage.is_healed() && self.dice.one_in(8) {
                return Ended::GaveUp;
            }
            self.env.sleep(RETRY_PAUSE).await;
        }
    }

    /// What a refusal means: nothing, mostly, but that it is to be tried again.
    fn refused(&self, error: i16, producer: (i64, i16), sequence: i32) -> Option<Ended> {
        /// Corrupt, too large, duplicate sequence, invalid record, codec: the broker was
        /// sent nothing of the kind.
        const NEVER: [i16; 5] = [2, 10, 46, 87, 76];
        /// Out of order, invalid epoch, unknown producer.
        const ESTRANGED: [i16; 3] = [45, 47, 59];
        let keeps_all = self.target.topic.keeps_all();
        let (name, partition) = (self.target.topic.name, self.target.partition);
        if NEVER.contains(&error) || (ESTRANGED.contains(&error) && keeps_all) {
            let what = format!(
                "{name}-{partition}: producer {producer:?} was told error {error} for sequence {sequence}"
            );
            self.target.recorder.complain(what);
        }
        ESTRANGED.contains(&error).then_some(Ended::Estranged)
    }
}

fn batch(env: &Env, (id, epoch): (i64, i16), sequence: i32, sends: &[Send]) -> Result<RecordBatch> {
    let builder = BatchBuilder::new(env.clock.wall());
    let mut builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    for send in sends {
        builder = builder.record(None, Some(send.value.0.to_string().as_bytes()));
    }
    Ok(builder.build())
}
