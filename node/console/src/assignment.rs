//! What a consumer was assigned, from the bytes that its group's leader wrote: Kafka's
//! ConsumerProtocolAssignment, any version (`i16` version, then an array of topic name
//! and array of `i32` partitions). What follows is left alone.

use std::collections::BTreeMap;

/// Partitions by topic; `None` if the bytes are not in that format (Connect and
/// home-made assignors write their own) and nothing was assigned if there are none.
pub(crate) fn consumer_assignment(mut bytes: &[u8]) -> Option<BTreeMap<String, Vec<u32>>> {
    let bytes = &mut bytes;
    if bytes.is_empty() {
        return Some(BTreeMap::new());
    }
    if i16::from_be_bytes(take(bytes)?) < 0 {
        return None;
    }
    let topics = count(bytes)?;
    let mut assignment = BTreeMap::new();
    // A lying count ends at the end of the bytes; nothing is allocated ahead.
    for _ in 0..topics {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        *bytes = rest;
        let mut partitions = Vec::new();
        for _ in 0..count(bytes)? {
            partitions.push(count(bytes)?);
        }
        partitions.sort_unstable();
        assignment.insert(name, partitions);
    }
    Some(assignment)
}

fn count(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(bytes)?)).ok()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_found_and_garbage_is_not_believed() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 2];
        bytes.extend([0, 0, 0, 3, 0, 0, 0, 1]);
        let whole = bytes.len();
        bytes.extend([0xff; 4]);
        let expected = BTreeMap::from([("ab".to_owned(), vec![1, 3])]);
        assert_eq!(consumer_assignment(&bytes), Some(expected));
        assert_eq!(consumer_assignment(&[]), Some(BTreeMap::new()));
        for cut in 1..whole {
            assert_eq!(consumer_assignment(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(consumer_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
    }
}
