//! The simulated side of every seam.
//!
//! The fault model, which the nemesis must stay within:
//! - time: one simulated clock; each node's monotonic clock may drift, its wall clock
//!   may also jump ([`ClockFaults`]);
//! - UDP: datagrams are delayed, reordered, lost and doubled ([`Weather`]), or cut off by
//!   turmoil's partitions; never altered (QUIC would drop them);
//! - TCP: turmoil's, which never loses a byte of an open connection but by a partition,
//!   and then never repeats it: only deadlines help. A connection is refused only by a
//!   machine that is up ([`Machines`]); a partition swallows the attempt in silence;
//! - processes: killed (the machine answers for them, the page cache lives) or powered
//!   off (silence, what was not synced is lost);
//! - disks: as in the header of `weir_storage::fault_disk`;
//! - tasks: all on the host's single thread; a panic ends the run.

mod clock;
mod crypto;
mod disk;
mod machines;
mod net;
mod quic;
mod tasks;
mod tripwire;
mod weather;

pub(crate) use clock::EPOCH;
pub use clock::{ClockFaults, SimClock};
pub use crypto::{Authority, crypto_provider};
pub use disk::TracedDisk;
pub use machines::Machines;
pub use net::SimNet;
pub use quic::SimQuic;
pub use tasks::SimSpawner;
pub(crate) use tasks::running_node;
pub use tripwire::{Tripwire, Verdict, Watch};
pub use weather::Weather;
