//! The RocketMQ 5 protocol (gRPC): unmodified RocketMQ clients against Weir's log and
//! queues.
//!
//! Owns: connections (`connection`: plaintext or TLS, HTTP/2), the table of methods
//! (`grpc`), the messages (`proto`), the clients that told their settings (`clients`), the
//! names of topics and groups (`names`), one handler a method (`handlers`) and one error
//! map (`errors`). It keeps no state that matters: after a crash clients open their
//! streams anew and tell their settings again. Everything else is asked of `weir-api`.
//! Bad input is answered with the protocol's status code and the limit in its message.

mod clients;
mod connection;
mod context;
mod errors;
mod front;
mod grpc;
mod handlers;
mod message;
mod names;
mod proto;
#[cfg(test)]
mod tests;

pub use context::RocketmqOptions;
pub use front::RocketmqFront;
pub use weir_wire::{OptionsError, StartError};
