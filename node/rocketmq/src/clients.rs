//! The clients that told this node their settings, and the way to each.
//!
//! Not kept over a crash: clients notice their streams end, and tell again. A client is
//! known from its first settings until its stream ends, it says goodbye, nothing was heard
//! of it for too long, or it opens another stream, whose settings then count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use weir_base::Monotonic;

use crate::errors::ok;
use crate::proto::{Settings, TelemetryCommand, command::Command};

/// What goes down a telemetry stream: commands, or the error that ends it.
pub(crate) type Outgoing = mpsc::Sender<Result<TelemetryCommand, tonic::Status>>;

/// What a client is here for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends to topics (Weir's names), and can be asked about their half messages.
    Producer { topics: BTreeSet<String> },
    /// Receives for a group.
    Consumer {
        group: String,
        takes: Takes,
        /// How long its receives wait that do not say.
        waits: Option<Duration>,
        /// The topic (Weir's name) whose queues say what the group's settings are.
        topic: Option<String>,
    },
}

/// How a consumer takes messages, which says what it means by "later".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A push consumer: its library receives, its application succeeds or fails.
    Pushed,
    /// A simple consumer: its application holds leases of its own.
    Simply,
}

/// A telemetry stream, counted up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId(u64);

struct Client {
    role: Role,
    stream: StreamId,
    outgoing: Outgoing,
    /// The settings that it was told last.
    told: Settings,
    /// Topics that it received from, by Weir's names.
    topics: BTreeSet<String>,
    /// When it last began a call.
    heard: Monotonic,
}

/// A client that is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Topics of which it may hold leases.
    pub(crate) topics: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<Arc<str>, Client>,
    streams: u64,
}

/// All clients of this node.
pub(crate) struct Clients {
    state: Mutex<State>,
    max: usize,
}

impl Clients {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            state: Mutex::default(),
            max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new stream.
    pub(crate) fn new_stream(&self) -> StreamId {
        let mut state = self.state();
        state.streams += 1;
        StreamId(state.streams)
    }

    /// A client told its settings and is told `told`; `false` if there are too many clients.
    pub(crate) fn tell(
        &self,
        client: &Arc<str>,
        (role, told): (Role, Settings),
        (stream, outgoing): (StreamId, &Outgoing),
        now: Monotonic,
    ) -> bool {
        let mut state = self.state();
        if state.clients.len() >= self.max && !state.clients.contains_key(client) {
            return false;
        }
        let topics = state.clients.remove(client).map(|before| before.topics);
        let known = Client {
            role,
            told,
            stream,
            outgoing: outgoing.clone(),
            topics: topics.unwrap_or_default(),
            heard: now,
        };
        state.clients.insert(Arc::clone(client), known);
        true
    }

    /// What a client is here for, if it told.
    pub(crate) fn role(&self, client: &str) -> Option<Role> {
        Some(self.state().clients.get(client)?.role.clone())
    }

    /// How long a consumer waits for messages where a call does not say, if it told.
    pub(crate) fn waits(&self, client: &str) -> Option<Duration> {
        match self.state().clients.get(client)?.role {
            Role::Consumer { waits, .. } => waits,
            Role::Producer { .. } => None,
        }
    }

    /// A client begins a call.
    pub(crate) fn heard(&self, client: &str, now: Monotonic) {
        if let Some(client) = self.state().clients.get_mut(client) {
            client.heard = now;
        }
    }

    /// When a client was heard of last, if it is known by this stream.
    pub(crate) fn last_heard(&self, client: &str, stream: StreamId) -> Option<Monotonic> {
        let state = self.state();
        let client = state.clients.get(client)?;
        (client.stream == stream).then_some(client.heard)
    }

    /// A client receives from a topic.
    pub(crate) fn receives(&self, client: &str, topic: &str) {
        let mut state = self.state();
        if let Some(client) = state.clients.get_mut(client)
            && !client.topics.contains(topic)
        {
            client.topics.insert(topic.to_owned());
        }
    }

    /// A stream ended: the client is gone, unless it has another stream by now.
    pub(crate) fn close(&self, client: &str, stream: StreamId) -> Option<Gone> {
        let mut state = self.state();
        if state.clients.get(client)?.stream != stream {
            return None;
        }
        let topics = state.clients.remove(client)?.topics;
        Some(Gone { topics })
    }

    /// A client says goodbye.
    pub(crate) fn forget(&self, client: &str) -> Option<Gone> {
        let topics = self.state().clients.remove(client)?.topics;
        Some(Gone { topics })
    }

    /// The groups that consumers known here receive for, each with the topic whose queues
    /// say what its settings are.
    pub(crate) fn consumed(&self) -> BTreeSet<(String, String)> {
        let state = self.state();
        let groups = state
            .clients
            .values()
            .filter_map(|client| match &client.role {
                Role::Consumer { group, topic, .. } => Some((topic.clone()?, group.clone())),
                Role::Producer { .. } => None,
            });
        groups.collect()
    }

    /// Tells the consumers of a group their settings anew if they are others by now:
    /// `in_force` makes them from those that were told last. A client that does not read is
    /// told the next time.
    pub(crate) fn tell_again(
        &self,
        (topic, group): (&str, &str),
        in_force: impl Fn(&Settings) -> Settings,
    ) {
        for client in self.state().clients.values_mut() {
            let is_meant = match &client.role {
                Role::Consumer {
                    group: of,
                    topic: from,
                    ..
                } => of == group && from.as_deref() == Some(topic),
                Role::Producer { .. } => false,
            };
            if !is_meant {
                continue;
            }
            let settings = in_force(&client.told);
            if settings == client.told {
                continue;
            }
            let command = TelemetryCommand {
                status: Some(ok()),
                command: Some(Command::Settings(settings.clone())),
            };
            if client.outgoing.try_send(Ok(command)).is_ok() {
                client.told = settings;
            }
        }
    }

    /// The topics that producers known here send to.
    pub(crate) fn produced(&self) -> BTreeSet<String> {
        let state = self.state();
        let topics = state
            .clients
            .values()
            .filter_map(|client| match &client.role {
                Role::Producer { topics } => Some(topics),
                Role::Consumer { .. } => None,
            });
        topics.flatten().cloned().collect()
    }

    /// The ways to the producers of `topic`, another one first every time.
    pub(crate) fn producers(&self, topic: &str, turn: usize) -> Vec<Outgoing> {
        let state = self.state();
        let producers = state.clients.values().filter(|client| match &client.role {
            Role::Producer { topics } => topics.contains(topic),
            Role::Consumer { .. } => false,
        });
        let mut producers: Vec<Outgoing> = producers.map(|c| c.outgoing.clone()).collect();
        let first = turn.checked_rem(producers.len()).unwrap_or(0);
        producers.rotate_left(first);
        producers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_stream_of_a_client_counts() {
        let clients = Clients::new(1);
        let (outgoing, _incoming) = mpsc::channel(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let role = Role::Consumer {
            group: "g".to_owned(),
            takes: Takes::Simply,
            waits: None,
            topic: None,
        };
        let told = || (role.clone(), Settings::default());
        let (first, second) = (clients.new_stream(), clients.new_stream());
        let (early, late) = (Monotonic(1), Monotonic(2));
        assert!(clients.tell(&a, told(), (first, &outgoing), early));
        assert!(!clients.tell(&b, told(), (second, &outgoing), early));
        assert!(clients.tell(&a, told(), (second, &outgoing), early));
        clients.heard("a", late);
        assert_eq!(clients.last_heard("a", second), Some(late));
        assert_eq!(clients.last_heard("a", first), None);
        assert_eq!(clients.close("a", first), None);
        assert_eq!(clients.role("a"), Some(role.clone()));
        clients.receives("a", "t");
        let topics = ["t".to_owned()].into();
        assert_eq!(clients.close("a", second), Some(Gone { topics }));
        assert_eq!(clients.role("a"), None);
    }
}
