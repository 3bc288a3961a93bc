//! C23: once all is healed, the copies of a log that are in sync are one: the same batches,
//! byte for byte, from the highest of their starts to the lowest of their watermarks.
//!
//! Clients read of leaders; this reads the followers, too. A copy that cannot be read is
//! the disk's fault: what comes of that is judged elsewhere.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use weir_base::{NodeId, Offset, RecordBatch};
use weir_replication::PartitionHandle;

/// Bytes of one read.
const STEP: usize = 1 << 20;

/// What one copy holds of what is committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Copy {
    start: Offset,
    end: Offset,
    /// By base offset.
    batches: BTreeMap<Offset, Bytes>,
}

impl Copy {
    /// Reads all of it; `None` if that does not work, or not at once.
    pub(super) fn read(handle: &PartitionHandle) -> Option<Self> {
        let view = handle.view();
        let mut copy = Self {
            start: view.log_start,
            end: view.log_start,
            ..Self::default()
        };
        while copy.end < view.high_watermark {
            let fetched = at_once(handle.read(copy.end, STEP))?.ok()?;
            if fetched.chunk.end <= copy.end {
                break;
            }
            copy.end = fetched.chunk.end;
            let bytes = Bytes::from(fetched.chunk.chunks.concat());
            for batch in RecordBatch::parse_all(bytes).ok()? {
                copy.batches.insert(batch.base_offset(), batch.to_bytes());
            }
        }
        Some(copy)
    }
}

/// What a future gives without waiting for anything: so read logs whose disks are fast.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Where two of the copies part, in words.
pub(super) fn differ(copies: &[(NodeId, Copy)]) -> Option<String> {
    let (first, others) = copies.split_first()?;
    let (a, one) = first;
    others.iter().find_map(|(b, two)| {
        let (from, to) = (one.start.max(two.start), one.end.min(two.end));
        if from >= to {
            return None;
        }
        let (one, two) = (one.batches.range(from..to), two.batches.range(from..to));
        let parts = parting(one, two)?;
        Some(format!(
            "nodes {a} and {b} hold different batches at {parts}, between {from} and {to}"
        ))
    })
}

/// The lowest base offset at which two rows of batches are not the same.
fn parting<'b>(
    mut one: impl Iterator<Item = (&'b Offset, &'b Bytes)>,
    mut two: impl Iterator<Item = (&'b Offset, &'b Bytes)>,
) -> Option<Offset> {
    loop {
        match (one.next(), two.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return a.into_iter().chain(b).map(|(at, _)| *at).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of two offsets each, one a letter.
    fn copy(start: u64, letters: &str) -> Copy {
        let offsets = (0..).map(|index| Offset(start + 2 * index));
        let batches = letters.chars().map(|letter| letter.to_string().into());
        Copy {
            start: Offset(start),
            end: Offset(start + 2 * letters.len() as u64),
            batches: offsets.zip(batches).collect(),
        }
    }

    fn parts(one: Copy, two: Copy) -> bool {
        let differ = |one, two| differ(&[(NodeId(1), one), (NodeId(2), two)]);
        let parts = differ(one.clone(), two.clone());
        assert_eq!(parts.is_some(), differ(two, one).is_some());
        parts.is_some()
    }

    #[test]
    fn copies_that_are_not_one_are_flagged() {
        assert!(parts(copy(0, "abc"), copy(0, "axc")), "another batch");
        assert!(parts(copy(0, "abc"), copy(0, "abx")), "another last one");
        let mut hole = copy(0, "abc");
        hole.batches.remove(&Offset(2));
        assert!(parts(copy(0, "abc"), hole), "a batch is missing");
        let mut emptied = copy(0, "abc");
        emptied.batches.clear();
        assert!(parts(copy(0, "abc"), emptied), "all are missing");
        assert!(parts(copy(0, "abcd"), copy(2, "bxd")));
    }

    #[test]
    fn copies_may_begin_later_and_know_less() {
        assert!(!parts(copy(0, "abc"), copy(0, "abc")));
        assert!(!parts(copy(0, "abc"), copy(0, "ab")), "a lower watermark");
        assert!(!parts(copy(0, "abc"), copy(2, "bcd")), "a higher start");
        // What begins below the common start is cut there in one of them.
        let mut across = copy(2, "bc");
        across.start = Offset(3);
        across.batches.remove(&Offset(2));
        assert!(!parts(copy(0, "abc"), across));
        assert!(!parts(copy(0, "ab"), copy(4, "cd")), "nothing in common");
        assert!(!parts(Copy::default(), copy(0, "a")));
        assert_eq!(differ(&[]), None);
    }
}
