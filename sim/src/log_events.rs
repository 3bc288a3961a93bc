//! What nodes log, on record in the trace and counted by its words.
//!
//! One subscriber a run, on the run's thread. Whose words they are tells the task that
//! runs ([`crate::env::running_node`]).

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::env::running_node;
use crate::hearsay::{Hearsay, TOOK_OFFICE};
use crate::trace::{Trace, sim_now};

/// Levels that are kept.
const LEVEL: Level = Level::INFO;

/// What was said in a run; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    counts: BTreeMap<String, u64>,
    hearsay: Hearsay,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, speaker: String, message: String) {
        let mut heard = self.lock();
        heard.hearsay.hear(speaker, &message, sim_now());
        *heard.counts.entry(message).or_default() += 1;
    }

    /// How often each message was logged.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// How often somebody took over the metadata group.
    pub(crate) fn controllers(&self) -> u64 {
        let heard = self.lock();
        heard.counts.get(TOOK_OFFICE).copied().unwrap_or(0)
    }

    /// What was said that no sound node says.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().hearsay.violations().to_vec()
    }
}

/// Listens.
pub(crate) struct Listener {
    trace: Trace,
    said: Said,
}

impl Listener {
    pub(crate) fn new(trace: Trace, said: Said) -> Self {
        Self { trace, said }
    }
}

impl Subscriber for Listener {
    /// Events alone: turmoil opens a span at every step of every host.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("weir");
        ours && metadata.is_event() && *metadata.level() <= LEVEL
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(LEVEL.into())
    }

    /// No span is enabled: one id is as good as any.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level();
        let Words { message, rest, .. } = words;
        let what = format_args!("{level} {message}{rest}");
        let node = running_node();
        match &node {
            Some(node) => self.trace.note(node, what),
            None => self.trace.note(&"outside", what),
        }
        self.said.hear(
            node.map(|node| node.to_string()).unwrap_or_default(),
            message,
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event as text.
#[derive(Default)]
struct Words {
    message: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let done = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            other => write!(self.rest, " {other}={value:?}"),
        };
        done.unwrap_or_default();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
