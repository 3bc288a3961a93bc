//! The admin API's JSON: what the console answers and the command line reads, a file for each
//! thing that is asked about.
//!
//! Fields are only ever added. Times are milliseconds since the Unix epoch.

mod books;
mod groups;
mod kept;
mod letters;
mod nodes;
mod queues;
mod settings;
mod stories;
mod topics;

pub use books::{BooksView, GapLine, LedgerLine};
pub use groups::{CommittedView, GroupLine, GroupMemberView, GroupView, ResetOffset, ResetOffsets};
pub use kept::{DecideHalf, DelayedLine, HalfView, SendOn, UndeliverableLine};
pub use letters::{
    BeginReplay, ChangeReplay, DeadLettersView, LettersWanted, ReplayLine, ReplayStepView,
};
pub use nodes::{ClusterView, Done, Health, NOT_READY, NodeView, Problem};
pub use queues::{
    AlterQueueGroup, AlteredQueueGroup, DelaysView, QueueLine, QueueStep, QueueStoreLine,
    SeekQueueGroup,
};
pub use settings::{
    BackoffView, ExponentialView, NamedBackoff, QueueSettingsView, parse_on_full, parse_target,
    show_on_full, show_target,
};
pub use stories::{
    FoundMessage, FoundMessages, KeptMessage, KeptMessages, LookedThrough, RecordView,
    StandingView, StoryLine,
};
pub use topics::{
    AlterTopic, ConfigView, CreateTopic, FoundOffsets, OffsetsView, PartitionView, TopicLine,
    TopicView,
};

/// Header of a list of what a node leads: partitions that could not be asked, and why, such as
/// `jobs-2 not_available, jobs-3 loading`. Its lines are of the others.
pub const SILENT_HEADER: &str = "weir-silent";
/// How many of them are named; the others are counted behind them.
pub const SILENT_NAMED_MAX: usize = 50;
