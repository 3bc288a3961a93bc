//! Consumer groups and committed offsets: the pure machine behind every front's groups.

pub mod command;

pub use command::*;
