//! Consumer groups and committed offsets: the pure machine behind every front's groups.
//!
//! No async, no clock, no I/O: the broker's machine host gives commands and the time to
//! [`GroupMachine`], writes its records and lets its replies go once they are committed.

mod admin;
pub mod command;
mod durable;
mod group;
mod machine;
mod offsets;
mod options;
mod record;
mod routing;
mod subscription;
mod timers;

pub use command::*;
pub use durable::Groups;
pub use machine::{GroupMachine, LiveGroups};
pub use options::{
    COMMIT_BYTES_MAX, GROUP_BYTES_MAX, GROUP_ID_BYTES_MAX, GroupOptions, GroupOptionsError,
    MEMBER_METADATA_BYTES_MAX, OFFSET_METADATA_BYTES_MAX,
};
pub use record::{Generation, GroupRecord, RecordError, StoredMember, StoredOffset};
pub use routing::journal_partition_of;
pub use subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
