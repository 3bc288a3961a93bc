//! Where two logs part, found by leader epoch and never by high watermark (S-02, S-03).
//!
//! ```text
//! leader    1 1 1 | 2 2 | 4 4 4          follower asks: last epoch 3, end 8
//! follower  1 1 1 | 2 2 2 2 | 3          leader: largest epoch <= 3 is 2, it ended at 5
//!           0     3     5   7 8          follower keeps 0..5 and asks again: epoch 2, end 5
//! ```
//! Each round drops at least one epoch from the follower's tail, so the loop ends.

use weir_base::{LeaderEpoch, Offset};
use weir_storage::{EpochEnd, LogPosition};

use super::effect::{Answer, Open};

/// The leader's verdict on a follower's position: `None` if its log is a prefix of
/// the leader's and data may flow from its end.
///
/// `found` is the leader's largest epoch not above the follower's last, and its end.
pub(crate) fn judge(
    open: &Open,
    epoch: LeaderEpoch,
    leader: LogPosition,
    found: Option<EpochEnd>,
) -> Option<Answer> {
    let reset = Answer::Reset {
        start: leader.start,
    };
    let within = leader.start <= open.end && open.end <= leader.end;
    if open.start == open.end {
        // An empty log cannot differ, but it can lie outside.
        return (!within).then_some(reset);
    }
    if open.end < leader.start {
        return Some(reset);
    }
    match found {
        None => Some(reset),
        // Batches from a future the leader never saw: they cannot be its successors'.
        Some(_) if open.last_epoch > epoch => Some(Answer::Refused),
        Some(found) if found.epoch == open.last_epoch && open.end <= found.end => None,
        Some(found) => Some(Answer::diverging(found)),
    }
}

/// Where the follower cuts after [`Answer::Diverging`]. `own` is its largest epoch not
/// above the leader's, and where that ended here.
pub(crate) fn cut(leader: EpochEnd, own: Option<EpochEnd>, position: LogPosition) -> Offset {
    let to = match own {
        // All that is here is newer than the leader's: nothing can match.
        None => position.start,
        Some(own) if own.epoch == leader.epoch => own.end.min(leader.end),
        // The leader has an epoch this log lacks, so the match lies at or before the
        // end of an older one: drop what is newer and ask again.
        Some(own) => own.end,
    };
    to.clamp(position.start, position.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::Session;
    use weir_base::Uuid;

    /// A log as epochs of its offsets from 0.
    fn end_of_epoch(log: &[u32], asked: u32) -> Option<EpochEnd> {
        let epoch = log.iter().copied().filter(|e| *e <= asked).max()?;
        let end = log.iter().filter(|e| **e <= epoch).count();
        Some(EpochEnd {
            epoch: LeaderEpoch(epoch),
            end: Offset(end as u64),
        })
    }

    fn position(log: &[u32]) -> LogPosition {
        LogPosition {
            start: Offset(0),
            durable_end: Offset(log.len() as u64),
            end: Offset(log.len() as u64),
            last_epoch: LeaderEpoch(log.last().copied().unwrap_or(0)),
        }
    }

    /// Runs the loop to its end; gives the follower's log and the number of rounds.
    fn reconcile(leader: &[u32], follower: &[u32]) -> (Vec<u32>, usize) {
        let mut log = follower.to_vec();
        for round in 0.. {
            let at = position(&log);
            let open = Open {
                leader_epoch: LeaderEpoch(9),
                session: Session::default(),
                replica: Uuid::ZERO,
                start: at.start,
                end: at.end,
                durable_end: at.end,
                last_epoch: at.last_epoch,
            };
            let found = end_of_epoch(leader, at.last_epoch.0);
            match judge(&open, LeaderEpoch(9), position(leader), found) {
                None => return (log, round),
                Some(Answer::Diverging { epoch, end }) => {
                    let own = end_of_epoch(&log, epoch.0);
                    let to = cut(EpochEnd { epoch, end }, own, at);
                    assert!(to < at.end, "no progress: {leader:?} {log:?}");
                    log.truncate(usize::try_from(to.0).unwrap());
                }
                Some(Answer::Reset { start }) => {
                    assert_eq!(start, Offset(0));
                    log.clear();
                }
                Some(Answer::Refused) => panic!("refused"),
            }
        }
        unreachable!()
    }

    #[test]
    fn kip_279_two_fast_fail_overs_converge() {
        let leader = [1, 1, 1, 2, 2, 4, 4, 4];
        let follower = [1, 1, 1, 2, 2, 2, 2, 3];
        assert_eq!(reconcile(&leader, &follower), (vec![1, 1, 1, 2, 2], 1));
        // The leader lacks 3 and 5, the follower lacks 4: two rounds.
        let (log, rounds) = reconcile(&[1, 4, 4, 6], &[1, 3, 3, 5, 5]);
        assert_eq!((log, rounds), (vec![1], 2));
    }

    #[test]
    fn every_small_pair_ends_at_the_longest_common_prefix() {
        // All nondecreasing epoch sequences of length <= 5 over 1..=4. The same offset
        // and epoch hold the same bytes (I2), and an epoch's run starts where its
        // leader started, so only pairs that agree on that are possible histories.
        let logs: Vec<Vec<u32>> = (0..=5usize)
            .flat_map(|len| (0..4usize.pow(u32::try_from(len).unwrap())).map(move |n| (len, n)))
            .map(|(len, mut n)| {
                (0..len)
                    .map(|_| {
                        let epoch = u32::try_from(n % 4).unwrap() + 1;
                        n /= 4;
                        epoch
                    })
                    .collect::<Vec<_>>()
            })
            .filter(|log| log.is_sorted())
            .collect();
        let start = |log: &[u32], epoch| log.iter().position(|e| *e == epoch);
        let mut pairs = 0;
        for leader in &logs {
            for follower in &logs {
                let possible =
                    (1..=4).all(
                        |epoch| match (start(leader, epoch), start(follower, epoch)) {
                            (Some(a), Some(b)) => a == b && leader[..a] == follower[..b],
                            _ => true,
                        },
                    );
                if !possible {
                    continue;
                }
                let common = leader
                    .iter()
                    .zip(follower)
                    .take_while(|(a, b)| a == b)
                    .count();
                let (log, _) = reconcile(leader, follower);
                assert_eq!(log, leader[..common], "{leader:?} {follower:?}");
                pairs += 1;
            }
        }
        assert!(pairs > 1_000, "{pairs}");
    }
}
