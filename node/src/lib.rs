//! The composition root: options, commands, the node process and `weir dev`.

pub mod options;
