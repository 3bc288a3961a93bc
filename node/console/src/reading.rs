//! Records of a queue, all that are asked for: one call of the broker's reads 64 MiB at most
//! and leaves out what is behind that, which is asked for again here. Only what is shown of a
//! record is kept of it.

use weir_api::Api;
use weir_api::queue::QueueCall;
use weir_base::batch::Record;
use weir_base::{Offset, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;

/// What `show` makes of the record at each of `offsets`, in that order; of none where there
/// is none.
pub(crate) async fn records<U>(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    offsets: Vec<Offset>,
    show: impl Fn(Option<&Record>) -> U,
) -> Result<Vec<U>, Failure> {
    let read = |offsets| api.queues.records(at, offsets);
    all(state, offsets, read, |record| show(record.as_ref())).await
}

/// The same of what a queue's journal keeps.
pub(crate) async fn all<T, U>(
    state: &ConsoleState,
    mut offsets: Vec<Offset>,
    read: impl Fn(Vec<Offset>) -> QueueCall<Vec<Option<T>>>,
    show: impl Fn(Option<T>) -> U,
) -> Result<Vec<U>, Failure> {
    let mut shown = Vec::with_capacity(offsets.len());
    while !offsets.is_empty() {
        let mut found = state.within(read(offsets.clone())).await??;
        if found.is_empty() {
            // It never is, but a loop must not rest on that.
            found.push(None);
        }
        offsets.drain(..found.len().min(offsets.len()));
        shown.extend(found.into_iter().map(&show));
    }
    Ok(shown)
}
