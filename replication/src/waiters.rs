//! Producers waiting for an offset to be reached.
//!
//! Bounded by the appends that the queue admitted and the log took; each caller also has
//! a deadline of its own and may be gone when its turn comes.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use weir_base::Offset;

use crate::error::AppendError;

/// An acknowledged append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base: Offset,
    /// One past the last.
    pub end: Offset,
    /// Log start when it was acknowledged.
    pub log_start: Offset,
}

/// Where an append's answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// Callers by the offset they wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<(Offset, u64), (Offset, Reply)>,
    count: u64,
}

impl Waiters {
    /// Waits until everything below `end` is reached.
    pub(crate) fn wait(&mut self, base: Offset, end: Offset, reply: Reply) {
        self.count += 1;
        self.waiting.insert((end, self.count), (base, reply));
    }

    /// Answers all that wait for `reached` or less.
    pub(crate) fn complete(&mut self, reached: Offset, log_start: Offset) {
        while let Some(first) = self.waiting.first_entry() {
            let (end, _) = *first.key();
            if end > reached {
                break;
            }
            let (base, reply) = first.remove();
            answer(
                reply,
                Ok(Appended {
                    base,
                    end,
                    log_start,
                }),
            );
        }
    }

    /// Answers all with `error`.
    pub(crate) fn fail(&mut self, error: &AppendError) {
        for (_, (_, reply)) in std::mem::take(&mut self.waiting) {
            answer(reply, Err(error.clone()));
        }
    }
}

/// Answers; the caller may have given up.
pub(crate) fn answer(reply: Reply, result: Result<Appended, AppendError>) {
    drop(reply.send(result));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_order_of_ends_not_of_arrival() {
        let mut waiters = Waiters::default();
        let mut late = {
            let (reply, answer) = oneshot::channel();
            waiters.wait(Offset(4), Offset(6), reply);
            answer
        };
        let mut duplicate = {
            let (reply, answer) = oneshot::channel();
            waiters.wait(Offset(1), Offset(2), reply);
            answer
        };
        waiters.complete(Offset(5), Offset(0));
        let answered = duplicate.try_recv().unwrap().unwrap();
        assert_eq!((answered.base, answered.end), (Offset(1), Offset(2)));
        assert!(late.try_recv().is_err());
        waiters.fail(&AppendError::Closed);
        assert!(matches!(late.try_recv().unwrap(), Err(AppendError::Closed)));
    }
}
