//! What tests feed a queue with.

use weir_base::{Offset, Timestamp};
use weir_queue::MessageFacts;

/// A message that is nothing but there.
pub(crate) fn plain(offset: u64, stored_at: Timestamp) -> MessageFacts {
    MessageFacts {
        offset: Offset(offset),
        stored_at,
        bytes: 100,
        key: None,
        version: None,
        tag: None,
        properties: Vec::new(),
        not_before: None,
        only: None,
        letter: None,
    }
}
