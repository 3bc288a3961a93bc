//! What nodes log, on record in the trace and counted by its words.
//!
//! One subscriber a run, on the run's thread. turmoil opens a span `node` around each
//! step of a host: that tells whose words they are.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::trace::Trace;

/// Levels that are kept.
const LEVEL: Level = Level::INFO;

/// What was said in a run; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<BTreeMap<String, u64>>>);

impl Said {
    /// How often each message was logged.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Listens.
pub(crate) struct Listener {
    trace: Trace,
    said: Said,
    next_span: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<u64, String>,
    current: Vec<u64>,
}

impl Listener {
    pub(crate) fn new(trace: Trace, said: Said) -> Self {
        Self {
            trace,
            said,
            next_span: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("weir");
        let node = metadata.is_span() && metadata.name() == "node";
        *metadata.level() <= LEVEL && (ours || node)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(LEVEL.into())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next_span.fetch_add(1, Ordering::Relaxed);
        let mut words = Words::default();
        span.record(&mut words);
        self.with(|state| state.nodes.insert(id, words.name));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let node = self.with(|state| {
            let span = state.current.last().and_then(|id| state.nodes.get(id));
            span.cloned().unwrap_or_default()
        });
        let level = event.metadata().level();
        let Words { message, rest, .. } = words;
        self.trace
            .note(&node, format_args!("{level} {message}{rest}"));
        let mut said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said.entry(message).or_default() += 1;
    }

    fn enter(&self, span: &Id) {
        self.with(|state| state.current.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        self.with(|state| state.current.pop());
    }

    fn try_close(&self, id: Id) -> bool {
        self.with(|state| state.nodes.remove(&id.into_u64()));
        true
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct Words {
    message: String,
    name: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let done = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "name" => write!(self.name, "{value:?}"),
            other => write!(self.rest, " {other}={value:?}"),
        };
        done.unwrap_or_default();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
