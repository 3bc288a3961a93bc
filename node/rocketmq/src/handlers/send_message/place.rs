//! Which partition a message goes to (decisions/0002).

use weir_api::image::TopicRecord;
use weir_api::queues::sip_hash;
use weir_base::{NodeId, TopicPartition};

use super::{queue, topics};
use crate::context::Call;

/// The key of the hash by which Java's client spreads message groups: bytes 0 to 15.
const GROUP_HASH_KEY: (u64, u64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

/// The partition of a message. That of a message group follows from the group alone,
/// since clients of different languages disagree about it; any other message goes where
/// the client says, if this node leads that, else to a partition that it does lead.
pub(super) fn partition(
    call: &Call,
    topic: &TopicRecord,
    group: Option<&str>,
    queue_id: i32,
) -> u32 {
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if let Some(group) = group {
        return of_group(group, topics::group_partitions(topic));
    }
    let asked = u32::try_from(queue_id).ok();
    let asked = asked.filter(|asked| *asked < count).unwrap_or(0);
    here(topic, call.shared.node(), asked).unwrap_or(asked)
}

/// The same for a message without a group, as leadership is just now.
pub(super) fn now(call: &Call, topic: &TopicRecord, queue_id: i32) -> TopicPartition {
    let image = call.shared.image();
    let topic = image.topic(topic.id).map_or(topic, |topic| &**topic);
    queue::partition(topic, partition(call, topic, None, queue_id))
}

/// The partition of a message that is stored once: repeats of it must come to the same. That
/// of a message group comes first.
pub(super) fn of_once(topic: &TopicRecord, group: Option<&str>, id: &[u8]) -> TopicPartition {
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let place = match group {
        Some(group) => of_group(group, topics::group_partitions(topic)),
        None => of_hash(id, count),
    };
    queue::partition(topic, place)
}

/// As Java's client: the signed hash, modulo the number of queues.
fn of_group(group: &str, count: u32) -> u32 {
    of_hash(group.as_bytes(), count)
}

fn of_hash(bytes: &[u8], count: u32) -> u32 {
    let hash = sip_hash(GROUP_HASH_KEY, bytes).cast_signed();
    let place = hash.rem_euclid(i64::from(count.max(1)));
    u32::try_from(place).unwrap_or(0)
}

/// The first partition from `asked` on, around the end, that `node` leads.
fn here(topic: &TopicRecord, node: NodeId, asked: u32) -> Option<u32> {
    let led = |(index, partition): (u32, &weir_api::image::PartitionRecord)| {
        (partition.leader == Some(node)).then_some(index)
    };
    let led: Vec<u32> = (0..).zip(&topic.partitions).filter_map(led).collect();
    let behind = led.iter().find(|index| **index >= asked);
    behind.or_else(|| led.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_where_javas_client_sends_them() {
        // SipHash-2-4 of "order-1" is negative as Java counts: unsigned, it would be 1.
        for (group, of_three, of_five) in [("a", 1, 4), ("c", 2, 2), ("order-1", 0, 0)] {
            assert_eq!(
                (of_group(group, 3), of_group(group, 5)),
                (of_three, of_five)
            );
        }
    }
}
