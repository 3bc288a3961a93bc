//! Which journal holds a group.

/// The journal partition, of `partitions`, that coordinates `group`. Fixed for ever:
/// groups whose journals were hashed otherwise would not be found again.
#[must_use]
pub fn journal_partition_of(group: &str, partitions: u32) -> u32 {
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV-1a mixes its high bits better than its low ones.
    let folded = (hash ^ (hash >> 32)) & u64::from(u32::MAX);
    u32::try_from(folded)
        .unwrap_or(0)
        .checked_rem(partitions)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_is_fixed_and_even() {
        assert_eq!(journal_partition_of("orders", 1), 0);
        assert_eq!(journal_partition_of("orders", 0), 0);
        let mut counts = [0u32; 16];
        for n in 0..1600 {
            counts[journal_partition_of(&format!("group-{n}"), 16) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (50..200).contains(c)), "{counts:?}");
        // Golden: these must never move.
        let placed =
            ["", "orders", "billing", "connect-cluster"].map(|g| journal_partition_of(g, 50));
        assert_eq!(placed, GOLDEN);
    }

    const GOLDEN: [u32; 4] = [41, 28, 20, 38];
}
