//! Histories of what clients saw, and the checkers that judge them.
//!
//! A [`History`] is what a test driver wrote down: who asked for what, when, and what the answer was.
//! [`Evidence`] is what it proves about the log. Each checker is a pure function over the two and
//! carries the number it has in the reliability notes; `n` operations cost `O(n log n)`.
//!
//! An answer that never came, or that leaves open whether the write happened, is [`Kind::Info`]:
//! the checkers count it neither as stored nor as lost until somebody reads its value.
//!
//! Called by `weir-jepsen` over real processes and by `weir-sim` over simulated ones. Pure: no clock,
//! no I/O but [`History::read`].

pub mod aborted_read;
pub mod anomaly;
pub mod availability;
pub mod committed_offsets;
pub mod consume_counts;
pub mod duplicate;
pub mod evidence;
pub mod history;
pub mod inconsistent_offsets;
pub mod lost_write;
pub mod poll_order;
pub mod queue;
pub mod realtime_lag;
pub mod realtime_order;
pub mod registers;
pub mod report;
pub mod send_order;
pub mod unseen;

pub use anomaly::{Anomaly, Checker};
pub use evidence::Evidence;
pub use history::{
    Action, History, HistoryError, Key, Kind, Micro, Op, Operation, Process, Read, Send, Value,
};
pub use report::{Report, Verdict};
