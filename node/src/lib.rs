//! The composition root: options, commands, the node process and `weir dev`.

pub mod certificates;
pub mod dev;
pub mod logging;
mod measure;
pub mod options;
pub mod serve;
pub mod wire_up;
