//! What every front shares: accepting connections within a budget, frames in, chunks out.
//!
//! Owns: the accept loop and its drain ([`Server`]), TLS beside plaintext on one port
//! ([`sniff`]), the length-prefixed frame reader ([`FrameReader`]) and the writer of
//! shared chunks ([`ChunkWriter`]). Knows no
//! protocol. Both ends of a connection are plain poll functions, so that a front can
//! drive reading, its requests and writing from one task, without a channel between.
//! Nothing here survives a crash, and nothing needs to.

pub mod accept;
pub mod frame;
pub mod start;
pub mod tls;
pub mod write;

pub use accept::{Connection, Serve, Server, WireOptions};
pub use frame::{FrameError, FrameReader};
pub use start::{OptionsError, StartError, check_bounds};
pub use tls::{Encryption, sniff};
pub use write::ChunkWriter;
