//! A producer that waits at one node to be asked about half messages: those of senders
//! that said nothing. About those of the ordered queue nobody can be asked, or somebody who
//! never answers: they are left to be parked.

use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::NodeId;
use weir_checkers::queue::Event;

use super::book::Book;
use super::sender::decide;
use super::{Crew, DEADLINE, Fate, PAUSE, QUEUES};
use crate::workload::rocketmq::RocketmqClient;
use crate::workload::rocketmq::wire::{PRODUCER, Publishing, Settings, TelemetryCommand, resource};

/// How often it says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// A decision of a producer that was asked.
const ASKED: i32 = 2;

pub(super) struct Teller {
    crew: Crew,
    node: NodeId,
}

impl Teller {
    pub(super) fn new(crew: &Crew, node: NodeId) -> Self {
        Self {
            crew: crew.clone(),
            node,
        }
    }

    pub(super) async fn run(self) {
        self.crew.opened().await;
        while !self.crew.book.is_closed() {
            if self.listen().await.is_err() {
                self.crew.env.sleep(PAUSE).await;
            }
        }
    }

    /// Until the stream ends.
    async fn listen(&self) -> Result<()> {
        let (env, to) = (&self.crew.env, self.crew.front(self.node));
        let id = format!("teller-{}", self.node);
        let mut client = RocketmqClient::connect(env, to, id, DEADLINE).await?;
        let has_mute = self.crew.book.has_mute();
        let asked = QUEUES.iter().filter(|queue| !queue.is_ordered || has_mute);
        let topics = asked.filter_map(|queue| resource(queue.topic));
        let settings = Settings {
            client_type: Some(PRODUCER),
            publishing: Some(Publishing {
                topics: topics.collect(),
            }),
            subscription: None,
        };
        let mut commands = client.tell(settings, DEADLINE).await?;
        while !self.crew.book.is_closed() {
            match env.timeout(HEARTBEAT, commands.message()).await {
                Some(told) => {
                    let told = told?.context("the stream ended")?;
                    self.answer(&mut client, told).await?;
                }
                None => client.heartbeat(PRODUCER, DEADLINE).await?,
            }
        }
        Ok(())
    }

    async fn answer(&self, client: &mut RocketmqClient, told: TelemetryCommand) -> Result<()> {
        let Some(asked) = told.recover_orphaned_transaction else {
            return Ok(());
        };
        let message = asked.message.context("a question about nothing")?;
        let topic = message.topic.unwrap_or_default().name;
        let queue = QUEUES.iter().position(|queue| queue.topic == topic);
        let queue = queue.with_context(|| format!("a question about topic {topic}"))?;
        let id = message.system_properties.unwrap_or_default().message_id;
        let noted = Event::Asked {
            id: id.clone(),
            at: Book::now().0,
        };
        self.crew.book.note(queue, noted);
        if QUEUES[queue].is_ordered {
            return Ok(());
        }
        let commit = Fate::of(&id) != Fate::TakenBack;
        let told = (&*id, &*asked.transaction_id);
        let book = (&self.crew.book, queue);
        decide(client, book, told, commit, ASKED, DEADLINE).await
    }
}
