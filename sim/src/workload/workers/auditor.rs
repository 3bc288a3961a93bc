//! Who makes the topics and groups, and in the end waits until nothing is pending in the
//! books of any node and reads all logs back. Until then it is the operator, too, who decides
//! what is asked about no more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_api::console::{AlteredQueueGroup, DecideHalf, Done, HalfView, QueueLine, QueueStoreLine};
use weir_base::NodeId;
use weir_checkers::queue::{Event, Outcome};

use super::book::{Book, Counted};
use super::{ATTEMPTS_MAX, BACKOFF, Crew, DEADLINE, Fate, PAUSE, QUEUES, Queue};
use crate::whole_node::kafka_addresses;
use crate::workload::produce::{ReadBack, create_topic, read_all_records};

/// Pause before the books are looked at again.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Auditor {
    crew: Crew,
}

impl Auditor {
    pub(super) fn new(crew: &Crew) -> Self {
        Self { crew: crew.clone() }
    }

    pub(super) async fn run(self) {
        for queue in QUEUES {
            while self.make(queue).await.is_err() {
                self.crew.env.sleep(PAUSE).await;
            }
        }
        self.crew.book.open();
        while !self.crew.stage.is_healed() || self.crew.book.is_sending() {
            self.crew.book.wait_for("senders".to_owned());
            self.crew.env.sleep(PAUSE).await;
        }
        loop {
            match self.close().await {
                Ok(()) => return,
                Err(why) => self.crew.book.wait_for(format!("{why:#}")),
            }
            self.crew.env.sleep(LOOK).await;
        }
    }

    /// Makes one topic and its group, the same on all partitions.
    async fn make(&self, queue: Queue) -> Result<()> {
        let (env, nodes) = (&self.crew.env, kafka_addresses(&self.crew.nodes));
        create_topic(env, &nodes, queue.topic, queue.partitions, &[]).await?;
        create_topic(env, &nodes, queue.letters, 1, &[]).await?;
        // A partition that moved between two nodes that were asked may have been left out.
        for _ in 0..2 {
            let mut made = 0;
            for node in &self.crew.nodes {
                made += self.set(*node, queue).await?;
            }
            let all = usize::try_from(queue.partitions)?;
            ensure!(made == all, "made on {made} partitions of {all}");
        }
        Ok(())
    }

    /// Sets the group on the partitions that a node leads; gives how many.
    async fn set(&self, node: NodeId, queue: Queue) -> Result<usize> {
        let Queue { topic, group, .. } = queue;
        let wish = json!({
            "attempts": ATTEMPTS_MAX,
            "backoff": [BACKOFF],
            "fifo": queue.is_ordered,
            "from_start": true,
        });
        let path = format!("/v1/queues/{topic}/groups/{group}");
        let altered: AlteredQueueGroup = self.ask(node, "PATCH", &path, Some(wish)).await?;
        Ok(altered.partitions)
    }

    /// Ends it all, if nothing is pending any more.
    async fn close(&self) -> Result<()> {
        let mut counts = [Counted::default(); QUEUES.len()];
        let (mut seen, mut wanted) = (0, 0);
        let mut silent = Vec::new();
        let mut found = Vec::new();
        for node in &self.crew.nodes {
            let (kept, lines) = match self.books(*node).await {
                Ok(told) => told,
                Err(why) => {
                    // One may stay away: then the others lead.
                    silent.push(format!("{why:#}"));
                    continue;
                }
            };
            for line in kept {
                let queue = QUEUES.iter().position(|queue| queue.topic == line.topic);
                let ordered = queue.filter(|queue| QUEUES[*queue].is_ordered);
                if let Some(queue) = queue.filter(|_| line.halves > 0) {
                    let left = self.halves(*node, queue).await?;
                    if ordered.is_some() {
                        found.extend(left);
                    }
                }
                // Those of an ordered queue are abandoned.
                let halves = if ordered.is_some() { 0 } else { line.halves };
                let pending = line.delayed + halves + line.outgoing + line.undeliverable;
                ensure!(pending == 0, "kept: {line:?}");
            }
            for (queue, counted) in QUEUES.iter().zip(&mut counts) {
                let ours = lines.iter().filter(|line| line.group == queue.group);
                for line in ours {
                    let pending = line.lag + line.in_flight + line.retrying;
                    ensure!(pending == 0, "pending: {line:?}");
                    counted.acked += line.acked;
                    counted.dead_lettered += line.dead_lettered;
                    seen += 1;
                }
            }
        }
        for queue in QUEUES {
            wanted += queue.partitions;
        }
        ensure!(
            seen == wanted,
            "{seen} partitions of {wanted} have a queue; who does not answer: {silent:?}"
        );
        for (queue, of) in QUEUES.into_iter().enumerate() {
            for partition in 0..of.partitions {
                for (offset, at, id) in self.read(of.topic, partition).await? {
                    found.push((queue, Event::Stored { id, offset, at }));
                }
            }
            for (offset, _, id) in self.read(of.letters, 0).await? {
                found.push((queue, Event::DeadLetter { id, offset }));
            }
        }
        for (queue, event) in found {
            self.crew.book.note(queue, event);
        }
        self.crew.book.close(counts);
        Ok(())
    }

    /// What a node says of the partitions that it leads.
    async fn books(&self, node: NodeId) -> Result<(Vec<QueueStoreLine>, Vec<QueueLine>)> {
        let kept = self.ask(node, "GET", "/v1/queues-watch", None).await?;
        let lines = self.ask(node, "GET", "/v1/queues", None).await?;
        Ok((kept, lines))
    }

    /// The half messages that a node keeps undecided. Decides those of the queue that is not
    /// ordered, once nobody is asked about them any more.
    async fn halves(&self, node: NodeId, queue: usize) -> Result<Vec<(usize, Event)>> {
        let Queue {
            topic, is_ordered, ..
        } = QUEUES[queue];
        let path = format!("/v1/queues/{topic}/halves");
        let left: Vec<HalfView> = self.ask(node, "GET", &path, None).await?;
        for half in left.iter().filter(|half| half.parked && !is_ordered) {
            let commit = Fate::of(&half.id) != Fate::TakenBack;
            let note = |outcome| {
                let event = Event::Decided {
                    id: half.id.clone(),
                    commit,
                    outcome,
                    at: Book::now().0,
                };
                self.crew.book.note(queue, event);
            };
            note(Outcome::Info);
            let (path, wish) = (format!("{path}/{}", half.handle), DecideHalf { commit });
            let wish = Some(serde_json::to_value(wish)?);
            let decided: Result<Done> = self.ask(node, "POST", &path, wish).await;
            decided?;
            note(Outcome::Ok);
        }
        let kept = left.into_iter().map(|half| {
            let kept = Event::Kept {
                checks: usize::try_from(half.checks)?,
                id: half.id,
                parked: half.parked,
            };
            Ok((queue, kept))
        });
        kept.collect()
    }

    async fn read(&self, topic: &str, partition: i32) -> Result<Vec<(u64, i64, String)>> {
        let nodes = kafka_addresses(&self.crew.nodes);
        let read = read_all_records(&self.crew.env, &nodes, topic, partition).await?;
        let read = read.into_iter();
        read.map(|ReadBack { offset, at, value }| Ok((u64::try_from(offset)?, at, value)))
            .collect()
    }

    /// Asks a node's admin API.
    async fn ask<T: DeserializeOwned>(
        &self,
        node: NodeId,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<T> {
        let (env, to) = (&self.crew.env, self.crew.admin(node));
        let body = body.map_or_else(String::new, |body| body.to_string());
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let asking = async {
            let mut stream = env.net.connect(to).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, anyhow::Error>(answer)
        };
        let answer = env.timeout(DEADLINE, asking).await;
        let answer = answer.with_context(|| format!("node {node}: no answer in time"))??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "node {node}: {status}: {body}");
        Ok(serde_json::from_str(body)?)
    }
}
