//! Journal bytes of the first version must be readable for ever.
#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::time::Duration;

use weir_base::{Offset, Timestamp, Uuid};
use weir_coordinator::{
    CommittedOffset, Generation, GroupRecord, RecordError, StoredMember, StoredOffset,
};

/// Key length, key, value length plus one (0: no value), value; lengths as `u32` big-endian.
const GOLDEN: &[u8] = include_bytes!("../testdata/records.bin");

fn samples() -> Vec<GroupRecord> {
    let member = |id: &str, instance: Option<&str>| StoredMember {
        id: id.into(),
        instance: instance.map(Into::into),
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout: Duration::from_millis(45_000),
        rebalance_timeout: Duration::from_millis(300_000),
        protocols: vec![
            ("range".into(), vec![0, 1, 0, 0, 0, 0].into()),
            ("cooperative-sticky".into(), vec![9; 200].into()),
        ],
        assignment: vec![5, 6].into(),
    };
    let generation = |assigned, members| Generation {
        number: 300,
        protocol_type: "consumer".into(),
        protocol: Some("range".into()),
        leader: Some("client-1".into()),
        assigned,
        members,
        at: Timestamp(1_795_000_000_123),
    };
    let group = || "orders".into();
    vec![
        GroupRecord::Generation {
            group: group(),
            generation: generation(
                true,
                vec![member("client-1", None), member("client-2", Some("i"))],
            ),
        },
        GroupRecord::Generation {
            group: group(),
            generation: Generation {
                protocol: None,
                leader: None,
                ..generation(false, Vec::new())
            },
        },
        GroupRecord::OffsetCommitted {
            group: group(),
            topic: "events".into(),
            partition: 70_000,
            offset: StoredOffset {
                topic_id: Uuid([0xab; 16]),
                committed: CommittedOffset {
                    offset: Offset(1 << 40),
                    leader_epoch: -1,
                    metadata: "note".into(),
                    at: Timestamp(-1),
                },
            },
        },
        GroupRecord::OffsetDeleted {
            group: group(),
            topic: "events".into(),
            partition: 70_000,
        },
        GroupRecord::GroupDeleted { group: group() },
    ]
}

fn encoded(records: &[GroupRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let (key, value) = record.encode();
        bytes.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
        bytes.extend(&key);
        let length = value.as_ref().map_or(0, |value| value.len() + 1);
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(value.as_deref().unwrap_or_default());
    }
    bytes
}

fn field<'a>(bytes: &mut &'a [u8], skip: u32) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let length = u32::from_be_bytes(*length).checked_sub(skip);
    let (field, rest) = rest.split_at(length.unwrap_or(0) as usize);
    *bytes = rest;
    length.map(|_| field)
}

#[test]
fn old_bytes_decode_and_new_bytes_equal_them() {
    let mut bytes = GOLDEN;
    let mut decoded = Vec::new();
    while !bytes.is_empty() {
        let key = field(&mut bytes, 0);
        let value = field(&mut bytes, 1);
        decoded.push(GroupRecord::decode(key, value).unwrap());
    }
    assert_eq!(decoded, samples());
    assert_eq!(encoded(&samples()), GOLDEN);
}

#[test]
fn damaged_records_are_errors() {
    for record in samples() {
        let (key, value) = record.encode();
        for cut in 0..key.len() {
            assert!(GroupRecord::decode(Some(&key[..cut]), value.as_deref()).is_err());
        }
        for cut in 0..value.as_ref().map_or(0, bytes::Bytes::len) {
            let cut = value.as_ref().map(|value| &value[..cut]);
            assert!(GroupRecord::decode(Some(&key), cut).is_err());
        }
    }
    assert_eq!(GroupRecord::decode(None, None), Err(RecordError::NoKey));
    let records = samples();
    let ((group, _), (_, offset)) = (records[0].encode(), records[2].encode());
    assert_eq!(
        GroupRecord::decode(Some(&group), offset.as_deref()),
        Err(RecordError::Mismatch)
    );
}

#[test]
#[ignore = "writes testdata/records.bin: only for records that no release has written yet"]
fn write_golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/records.bin");
    std::fs::write(path, encoded(&samples())).unwrap();
}
