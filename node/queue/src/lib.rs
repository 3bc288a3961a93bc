//! Queues on the log: the pure machine behind per-message delivery.
//!
//! No async, no clock, no I/O: the broker's machine host gives commands and the time to
//! the machine, writes its records and lets its replies go once they are committed. The
//! machine never reads a log: it says what it wants read ([`Want`]) and is fed facts.

pub mod aside;
mod command;
pub mod copies;
mod counts;
mod dedup;
mod delay;
mod durable;
pub mod envelope;
mod error;
mod filter;
mod group;
mod half;
mod ids;
mod intake;
mod machine;
mod message;
mod options;
mod receipt;
mod record;
mod replay;
mod reply;
mod retry;
mod settings;
mod timers;
pub mod trace;
mod turn;

pub use aside::{AsideLine, StoredAside};
pub use command::{
    Decision, DecisionSource, Dedup, EndCause, Feed, Prepare, QueueCommand, Receive, Room, Schedule,
};
pub use durable::{Admission, Gate, QueueState, producer_sequence};
pub use envelope::{Message, Payload, PayloadError};
pub use error::{FilterError, QueueError, ReceiptError, ReplayError, SettingsError};
pub use filter::{CompiledFilter, FILTER_BYTES_MAX, Filter};
pub use ids::{EntryNumber, GroupName, GroupNumber, KeyHash, MemberName, sip_hash};
pub use intake::{Found, TakeIn};
pub use machine::{QueueLive, QueueMachine};
pub use message::{MessageFacts, Needs, Want};
pub use options::{DELAY_MAX, GAPS_MAX, QueueOptions};
pub use receipt::{HalfHandle, Receipt, ScheduleHandle, Secret};
pub use record::{
    AttemptEnd, BLOCK_OFFSETS, Block, Counts, DeadLetter, Delays, Departure, Destination, Ending,
    HalfChecks, Outgoing, OutgoingMessage, QueueRecord, RecordError, Reign, StoredAttempts,
    StoredDecision, StoredDedup, StoredFirst, StoredGroupSettings, StoredHalf, StoredVersion,
};
pub use replay::{
    LetterFacts, REPLAY_RATE_MAX, REPLAY_TEXT_MAX, ReplayChange, ReplayCommand, ReplayFilter,
    ReplayReport, ReplayState, ReplayStep, ReplayView, StartReplay, StoredReplay,
};
pub use reply::{
    Books, Cancelled, Check, Delivery, GroupMeasure, GroupView, HalfLine, Prepared, QueueMeasure,
    QueueReply, Returned, Scheduled, ScheduledLine, Standing,
};
pub use settings::{
    ATTEMPTS_MAX, BACKOFF_MAX, BACKOFF_STEPS_MAX, BROADCAST_EXPIRY, Backoff, Capacity,
    GROUP_NAME_BYTES_MAX, GroupSettings, INVISIBLE_MAX, INVISIBLE_MIN, OnFull, Pacing, Rate,
    Target,
};
