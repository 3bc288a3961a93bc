//! What a producer says besides: acknowledgements, and which codec a batch was sent with.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Counts of a producer; clones count together.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Counts>>);

#[derive(Clone, Default)]
pub struct Counts {
    pub acknowledged: usize,
    pub failures: Vec<String>,
    /// The longest time without an acknowledgement between two.
    pub gap: Duration,
    /// What librdkafka said of its batches, for a producer with `debug=msg`.
    pub batches: Vec<String>,
    last: Option<Instant>,
}

impl Watch {
    pub fn counts(&self) -> Counts {
        self.0.lock().expect("no thread panics here").clone()
    }
}

impl ClientContext for Watch {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if message.contains("Produce MessageSet") {
            let mut counts = self.0.lock().expect("no thread panics here");
            counts.batches.push(message.to_owned());
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut counts = self.0.lock().expect("no thread panics here");
        if let Err((error, _)) = result {
            counts.failures.push(error.to_string());
            return;
        }
        let now = Instant::now();
        if let Some(last) = counts.last.replace(now) {
            counts.gap = counts.gap.max(now - last);
        }
        counts.acknowledged += 1;
    }
}
