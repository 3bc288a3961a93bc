//! What the front counts: requests by kind, their bytes, and how long answers took.
//!
//! Plain counters that sessions add to; a scrape reads them. They start at zero with the
//! process and nothing depends on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use weir_api::{Metrics, MetricsSource};
use weir_wire::Server;

use crate::codec::versions::SERVED;
use crate::context::Shared;

/// Upper bounds of the histogram of answer times, in microseconds.
const BOUNDS_MICROS: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    5_000_000,
];

/// The counters of one kind of request.
#[derive(Default)]
struct Kind {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    micros: AtomicU64,
    /// Answers that took at most the bound and more than the one before it.
    within: [AtomicU64; BOUNDS_MICROS.len()],
}

/// The counters of a front.
pub(crate) struct Meter {
    /// In the order of [`SERVED`].
    kinds: Vec<Kind>,
    connections: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Meter {
        Meter {
            kinds: SERVED.iter().map(|_| Kind::default()).collect(),
            connections: AtomicU64::new(0),
        }
    }

    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        add(&self.connections, 1);
    }

    /// An answer is ready to leave; `api` is the request's key.
    pub(crate) fn answered(&self, api: i16, bytes_in: usize, bytes_out: usize, took: Duration) {
        let at = SERVED.iter().position(|row| row.api as i16 == api);
        let Some(kind) = at.and_then(|at| self.kinds.get(at)) else {
            return;
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&kind.requests, 1);
        add(&kind.bytes_in, bytes_in as u64);
        add(&kind.bytes_out, bytes_out as u64);
        add(&kind.micros, micros);
        let bound = BOUNDS_MICROS.iter().position(|bound| micros <= *bound);
        if let Some(within) = bound.and_then(|at| kind.within.get(at)) {
            add(within, 1);
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of microseconds, for a graph"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// What a scrape asks.
pub(crate) struct FrontMetrics {
    pub(crate) shared: Arc<Shared>,
    pub(crate) server: Arc<Server>,
}

impl MetricsSource for FrontMetrics {
    fn collect(&self, into: &mut Metrics) {
        into.gauge(
            "weir_kafka_connections",
            "Kafka connections that are open.",
            &[],
            self.server.connections() as u64,
        );
        let meter = &self.shared.meter;
        into.counter(
            "weir_kafka_connections_total",
            "Kafka connections accepted.",
            &[],
            get(&meter.connections),
        );
        for (row, kind) in SERVED.iter().zip(&meter.kinds) {
            collect(row.api, kind, into);
        }
    }
}

/// Kinds that were never asked are left out.
fn collect(api: ApiKey, kind: &Kind, into: &mut Metrics) {
    let requests = get(&kind.requests);
    if requests == 0 {
        return;
    }
    let name = format!("{api:?}");
    let labels = [("api", &*name)];
    into.counter(
        "weir_kafka_requests_total",
        "Kafka requests answered, by kind.",
        &labels,
        requests,
    );
    into.counter(
        "weir_kafka_request_bytes_total",
        "Bytes of Kafka requests, by kind.",
        &labels,
        get(&kind.bytes_in),
    );
    into.counter(
        "weir_kafka_response_bytes_total",
        "Bytes of Kafka responses, by kind.",
        &labels,
        get(&kind.bytes_out),
    );
    let mut seen = 0;
    let at_most = BOUNDS_MICROS
        .iter()
        .zip(&kind.within)
        .map(|(bound, within)| {
            seen += get(within);
            (seconds(*bound), seen)
        });
    let at_most: Vec<(f64, u64)> = at_most.collect();
    into.histogram(
        "weir_kafka_request_seconds",
        "From reading a Kafka request to its answer being ready, waits that were asked for included.",
        &labels,
        &at_most,
        seconds(get(&kind.micros)),
        requests,
    );
}
