//! The Kafka protocol: unmodified Kafka clients against Weir's log and groups.
//!
//! Owns: framing of requests into typed calls (`codec`), the order of responses on a
//! connection (`session`), one handler a verb (`handlers`) and one error map
//! (`errors`). It keeps no state that matters: fetch sessions are a cache that
//! clients rebuild. Everything else is asked of `weir-api`. Bad input is answered with
//! Kafka's error code where the protocol has one, else the connection is closed with
//! the reason in the log.

mod close;
mod codec;
mod context;
mod errors;
mod front;
mod handlers;
mod meter;
mod session;

pub use context::KafkaOptions;
pub use front::KafkaFront;
pub use weir_wire::{OptionsError, StartError};
