//! Frames between a follower node and a leader node, and the two ends of a stream.
//!
//! ```text
//! follower                                             leader
//! partition ─open, progress─▶ Uplink ══════════════▶ serve ─▶ partition's inbox
//! partition's inbox ◀──────── Uplink ◀══data, answers══ Outlet ◀─ partition
//! ```
//! One stream a leader, follower and shard, opened by the follower, shared by all their
//! partitions. A stream that breaks loses what was on it; every partition then opens a
//! new session. Nothing relies on an order between streams: leader epoch and session
//! fence every message.

pub(crate) mod outlet;
mod pace;
pub(crate) mod serve;
pub(crate) mod uplink;
pub(crate) mod window;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{LeaderEpoch, TopicPartition};

use crate::core::effect::{Answer, DataHeader, Open, Progress, Session};

/// What a follower says. A frame holds several, for any partitions. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToLeader {
    Open(TopicPartition, Open),
    Progress(TopicPartition, Progress),
}

/// What a leader says: one a frame; batches follow `Data` to the frame's end. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToFollower {
    Data(TopicPartition, DataHeader),
    Answer(TopicPartition, LeaderEpoch, Session, Answer),
}

/// Messages of a follower in one frame; a decoder refuses longer ones.
pub(crate) const MESSAGES_MAX: usize = 256;

/// Bytes that are no frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame;

pub(crate) fn encode_to_leader(messages: &[ToLeader]) -> Bytes {
    encode(messages)
}

pub(crate) fn decode_to_leader(frame: &[u8]) -> Result<Vec<ToLeader>, BadFrame> {
    let messages: Vec<ToLeader> = postcard::from_bytes(frame).map_err(|_| BadFrame)?;
    if messages.len() > MESSAGES_MAX {
        return Err(BadFrame);
    }
    Ok(messages)
}

pub(crate) fn encode_to_follower(message: &ToFollower) -> Bytes {
    encode(message)
}

/// The message, and the batches behind it.
pub(crate) fn decode_to_follower(frame: &Bytes) -> Result<(ToFollower, Bytes), BadFrame> {
    let (message, rest) = postcard::take_from_bytes(frame).map_err(|_| BadFrame)?;
    Ok((message, frame.slice(frame.len() - rest.len()..)))
}

fn encode<T: Serialize + ?Sized>(message: &T) -> Bytes {
    // Serialising plain numbers into memory cannot fail.
    postcard::to_stdvec(message).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_base::{Offset, Uuid};

    fn at() -> TopicPartition {
        TopicPartition::new(Uuid([7; 16]), 3)
    }

    #[test]
    fn frames_round_trip_and_keep_the_batches_behind() {
        let header = DataHeader {
            leader_epoch: LeaderEpoch(4),
            session: Session::default(),
            high_watermark: Offset(1 << 40),
            log_start: Offset(2),
        };
        let message = ToFollower::Data(at(), header);
        let mut frame = encode_to_follower(&message).to_vec();
        frame.extend_from_slice(b"batches");
        let (decoded, rest) = decode_to_follower(&frame.into()).unwrap();
        assert_eq!((decoded, &rest[..]), (message, &b"batches"[..]));
    }

    #[test]
    fn too_many_messages_and_garbage_are_refused() {
        let progress = Progress {
            leader_epoch: LeaderEpoch(1),
            session: Session::default(),
            end: Offset(9),
            durable_end: Offset(8),
        };
        let message = ToLeader::Progress(at(), progress);
        let fits = vec![message.clone(); MESSAGES_MAX];
        assert_eq!(decode_to_leader(&encode_to_leader(&fits)), Ok(fits));
        let over = vec![message; MESSAGES_MAX + 1];
        assert_eq!(decode_to_leader(&encode_to_leader(&over)), Err(BadFrame));
        assert_eq!(decode_to_leader(&[0xff; 40]), Err(BadFrame));
        assert!(decode_to_follower(&Bytes::from_static(&[9, 9])).is_err());
    }
}
