//! Harness over real processes: starts a cluster, lets stock clients load it, kills nodes, and judges what
//! the clients saw with `weir-checkers`.
//!
//! It lives outside of the simulator: real clocks, real processes, real disks. Everything a verdict rests
//! on is in the histories it writes to its output directory.

pub mod clients;
pub mod clock;
pub mod cluster;
pub mod failover;
pub mod gaps;
pub mod soak;
