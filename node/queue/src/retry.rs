//! When a message that failed comes again.

use std::time::Duration;

use crate::ids::sip_hash;
use crate::settings::Backoff;

/// RocketMQ's pauses, in seconds.
const LADDER: [u64; 16] = [
    10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
];

impl Backoff {
    /// The pause after attempt number `ended`, from 1. `salt` decides on the jitter: the
    /// same salt gives the same pause.
    #[must_use]
    pub fn pause(&self, ended: u16, salt: u64) -> Duration {
        let step = usize::from(ended.max(1)) - 1;
        match self {
            Backoff::List(pauses) => {
                let pause = pauses.get(step).or_else(|| pauses.last());
                pause.copied().unwrap_or(Duration::ZERO)
            }
            Backoff::Ladder => Duration::from_secs(LADDER[step.min(LADDER.len() - 1)]),
            Backoff::Exponential {
                initial,
                max,
                multiplier_percent,
                jitter_percent,
            } => {
                let millis = |duration: &Duration| u64::try_from(duration.as_millis());
                let max = millis(max).unwrap_or(u64::MAX);
                let mut pause = millis(initial).unwrap_or(u64::MAX).min(max);
                for _ in 0..step {
                    let grown = u128::from(pause) * u128::from(*multiplier_percent) / 100;
                    pause = u64::try_from(grown).unwrap_or(u64::MAX).min(max);
                    if pause == max || *multiplier_percent <= 100 {
                        break;
                    }
                }
                let spread = u128::from(pause) * u128::from(*jitter_percent) / 100;
                let spread = u64::try_from(spread).unwrap_or(u64::MAX);
                let drawn = sip_hash((salt, step as u64), &[]);
                let span = spread.saturating_mul(2).saturating_add(1);
                Duration::from_millis((pause - spread.min(pause)).saturating_add(drawn % span))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff: &Backoff, count: u16) -> Vec<u128> {
        let pause = |ended| backoff.pause(ended, 7).as_millis();
        (1..=count).map(pause).collect()
    }

    #[test]
    fn the_three_kinds() {
        let list = Backoff::List([1, 3, 5].map(Duration::from_secs).to_vec());
        assert_eq!(pauses(&list, 4), [1_000, 3_000, 5_000, 5_000]);
        assert_eq!(pauses(&Backoff::Ladder, 2), [10_000, 30_000]);
        assert_eq!(Backoff::Ladder.pause(u16::MAX, 0).as_secs(), 7_200);
        let doubling = Backoff::Exponential {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(1_000),
            multiplier_percent: 200,
            jitter_percent: 0,
        };
        assert_eq!(pauses(&doubling, 6), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(doubling.pause(u16::MAX, 1).as_millis(), 1_000);
    }

    #[test]
    fn jitter_stays_within_its_share_and_differs() {
        let backoff = Backoff::default();
        let drawn: Vec<u128> = (0..1_000)
            .map(|s| backoff.pause(1, s).as_millis())
            .collect();
        assert!(drawn.iter().all(|pause| (800..=1_200).contains(pause)));
        assert!(drawn.iter().min() < Some(&820) && drawn.iter().max() > Some(&1_180));
    }
}
