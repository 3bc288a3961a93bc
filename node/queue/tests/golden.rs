//! Journal bytes of the first version must be readable for ever.
#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::time::Duration;

use weir_base::{Offset, Timestamp};
use weir_queue::*;

/// Key length, key, value length plus one (0: no value), value; lengths as `u32` big-endian.
const GOLDEN: &[u8] = include_bytes!("../testdata/records.bin");

fn settings() -> GroupSettings {
    let target = |topic: &str| Target {
        topic: topic.into(),
        partition: 3,
    };
    GroupSettings {
        attempts_max: 5,
        backoff: Backoff::List(vec![Duration::from_secs(1), Duration::from_secs(3)]),
        fifo: true,
        invisible: Duration::from_secs(60),
        filter: Filter::Sql("a > 3".into()),
        pacing: Pacing {
            rate: Rate::Partition(1_000),
            concurrency: Some(8),
            key_concurrency: Some(1),
        },
        dead_letter: Some(target("dead")),
        capacity: Some(Capacity {
            messages_max: 1 << 40,
            on_full: OnFull::Redirect(target("more")),
        }),
        expires_after: Some(Duration::from_secs(86_400)),
        broadcast: Some("config".into()),
        versioned: true,
    }
}

fn replay(at: Timestamp) -> StoredReplay {
    let step = |state, by: &str| ReplayStep {
        at,
        by: by.into(),
        state,
        moved: 2,
    };
    StoredReplay {
        filter: ReplayFilter {
            since: Some(at),
            until: Some(at),
            cause: Some("nack".into()),
            key: Some("k".into()),
            tag: Some("t".into()),
            group: None,
        },
        rate: Some(100),
        dry_run: true,
        begin: Offset(1),
        position: Offset(5),
        end: Offset(9),
        state: ReplayState::Cancelled,
        moved: 2,
        passed_over: 1,
        homeless: 1,
        audit: vec![
            step(ReplayState::Running, "ann"),
            step(ReplayState::Paused, "bob"),
            step(ReplayState::Done, ""),
        ],
    }
}

/// One record of each kind; deletions of them follow.
fn samples() -> Vec<QueueRecord> {
    let group = GroupNumber(70_000);
    let number = EntryNumber(1 << 33);
    let at = Timestamp(1_795_000_000_123);
    let attempts = StoredAttempts {
        ended: 2,
        next_at: at,
        first_at: Timestamp(at.0 - 5_000),
        history: [
            EndCause::Nack,
            EndCause::Rejected,
            EndCause::LeaseTimeout,
            EndCause::Disconnected,
        ]
        .map(|cause| AttemptEnd { at, cause })
        .to_vec(),
        note: Some("because".into()),
    };
    let counts = Counts {
        acked: 100,
        dead_lettered: 1,
        forwarded: 2,
        filtered: 3,
        superseded: 4,
        dropped: 5,
        missing: 6,
        no_message: 7,
        delayed: 0,
        sought: -8,
    };
    let with_delayed = Counts {
        delayed: 2,
        ..counts
    };
    let stored = |settings| StoredGroupSettings {
        number: group,
        start: Offset(77),
        settings,
    };
    let with = |backoff, on_full| GroupSettings {
        backoff,
        capacity: Some(Capacity {
            messages_max: 1,
            on_full,
        }),
        filter: Filter::Tags("a||b".into()),
        ..GroupSettings::default()
    };
    let here = Destination::Here;
    let there = Destination::There(Target {
        topic: "dlq.orders".into(),
        partition: 0,
    });
    vec![
        QueueRecord::Reign(Reign {
            reserved: 65_536,
            secret: (u64::MAX, 1),
        }),
        QueueRecord::Group {
            group: "orders".into(),
            value: Some(stored(settings())),
        },
        QueueRecord::Group {
            group: "ladder".into(),
            value: Some(stored(with(Backoff::Ladder, OnFull::Reject))),
        },
        QueueRecord::Group {
            group: "plain".into(),
            value: Some(stored(with(Backoff::default(), OnFull::DropOldest))),
        },
        QueueRecord::Cursor {
            group,
            block: Some(1 << 30),
        },
        QueueRecord::Block {
            group,
            block: 1 << 30,
            value: Some(Block {
                finished: u128::MAX - 4,
                counts: vec![(500_000, counts)],
            }),
        },
        QueueRecord::Attempts {
            group,
            offset: Offset(1 << 37),
            value: Some(attempts.clone()),
        },
        QueueRecord::Ledger {
            group,
            hour: 500_000,
            value: Some(counts),
        },
        QueueRecord::Gap {
            group,
            from: Offset(9),
            offsets: Some(4),
        },
        QueueRecord::Version {
            group,
            key: KeyHash::of(b"key"),
            value: Some(StoredVersion { version: 12, at }),
        },
        QueueRecord::Scheduled {
            deliver_at: at,
            number,
            logged: None,
            payload: Some(Message::default().payload().encode()),
        },
        QueueRecord::Cancelled {
            number,
            until: Some(at),
        },
        QueueRecord::Dedup {
            id: u128::MAX / 3,
            value: Some(StoredDedup {
                until: at,
                first: None,
            }),
        },
        QueueRecord::Half {
            number,
            value: Some(StoredHalf {
                producers: "p".into(),
                prepared_at: at,
                check_at: at,
                payload: vec![1, 2, 3].into(),
            }),
        },
        QueueRecord::HalfChecks {
            number,
            value: Some(HalfChecks {
                checks: 3,
                next_at: at,
                parked: true,
            }),
        },
        QueueRecord::Decided {
            number,
            value: Some(StoredDecision {
                decision: Decision::Rollback,
                until: at,
            }),
        },
        QueueRecord::Decided {
            number,
            value: Some(StoredDecision {
                decision: Decision::Commit,
                until: at,
            }),
        },
        QueueRecord::Outgoing {
            destination: here.clone(),
            sequence: 1 << 35,
            value: Some(Outgoing {
                messages: vec![
                    OutgoingMessage::Released {
                        deliver_at: at,
                        number,
                        payload_at: Offset(5),
                    },
                    OutgoingMessage::Committed {
                        number,
                        payload_at: Offset(6),
                    },
                ],
            }),
        },
        QueueRecord::Outgoing {
            destination: there.clone(),
            sequence: 0,
            value: Some(Outgoing {
                messages: vec![
                    OutgoingMessage::DeadLetter {
                        offset: Offset(7),
                        facts: DeadLetter {
                            group: "orders".into(),
                            attempts,
                        },
                    },
                    OutgoingMessage::Forwarded { offset: Offset(8) },
                ],
            }),
        },
        QueueRecord::Sequence {
            destination: here,
            next: 9,
        },
        QueueRecord::Sequence {
            destination: there.clone(),
            next: 1 << 35,
        },
        QueueRecord::Departing {
            destination: there,
            number,
            value: Some(Departure {
                bytes: 300,
                message: OutgoingMessage::Forwarded { offset: Offset(8) },
            }),
        },
        QueueRecord::Replay {
            number,
            value: Some(replay(at)),
        },
        QueueRecord::MovedBack {
            block: 1 << 30,
            bits: Some(u128::MAX - 2),
        },
        QueueRecord::Departing {
            destination: Destination::Here,
            number,
            value: Some(Departure {
                bytes: 1,
                message: OutgoingMessage::Replayed {
                    offset: Offset(9),
                    group: Some("orders".into()),
                },
            }),
        },
        QueueRecord::Aside {
            number,
            value: Some(StoredAside {
                destination: Destination::Here,
                at,
                reason: "no such partition".into(),
                payload: vec![4, 5].into(),
            }),
        },
        QueueRecord::Departing {
            destination: Destination::Here,
            number,
            value: Some(Departure {
                bytes: 2,
                message: OutgoingMessage::Aside {
                    number,
                    payload_at: Offset(10),
                },
            }),
        },
        QueueRecord::Dedup {
            id: 7,
            value: Some(StoredDedup {
                until: at,
                first: Some(StoredFirst {
                    number,
                    deliver_at: Some(at),
                    told: Some("m1".into()),
                }),
            }),
        },
        QueueRecord::Dedup {
            id: 8,
            value: Some(StoredDedup {
                until: at,
                first: Some(StoredFirst {
                    number,
                    deliver_at: None,
                    told: None,
                }),
            }),
        },
        QueueRecord::Replay {
            number,
            value: Some(StoredReplay {
                filter: ReplayFilter {
                    group: Some("orders".into()),
                    ..replay(at).filter
                },
                ..replay(at)
            }),
        },
        QueueRecord::Delays(Delays {
            since: at,
            next: Offset(1 << 33),
            kept: 1 << 34,
            released: 300,
            cancelled: 2,
        }),
        QueueRecord::Scheduled {
            deliver_at: at,
            number: EntryNumber(9),
            logged: Some(Offset(1 << 33)),
            payload: Some(vec![6, 7].into()),
        },
        QueueRecord::Block {
            group,
            block: 3,
            value: Some(Block {
                finished: 6,
                counts: vec![(400_000, with_delayed)],
            }),
        },
        QueueRecord::Ledger {
            group,
            hour: 400_000,
            value: Some(with_delayed),
        },
        QueueRecord::Sequence {
            destination: Destination::Copies,
            next: 3,
        },
        QueueRecord::TakenIn {
            block: 1 << 30,
            bits: Some(u128::MAX - 8),
        },
    ]
}

fn encoded(records: &[QueueRecord]) -> Vec<u8> {
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
        decoded.push(QueueRecord::decode(key, value).unwrap());
    }
    assert_eq!(decoded, samples());
    assert_eq!(encoded(&samples()), GOLDEN);
}

#[test]
fn damaged_records_are_errors() {
    for record in samples() {
        let (key, value) = record.encode();
        for cut in 0..key.len() {
            assert!(QueueRecord::decode(Some(&key[..cut]), value.as_deref()).is_err());
        }
        for cut in 0..value.as_ref().map_or(0, bytes::Bytes::len) {
            let cut = value.as_ref().map(|value| &value[..cut]);
            assert!(QueueRecord::decode(Some(&key), cut).is_err());
        }
    }
    assert_eq!(QueueRecord::decode(None, None), Err(RecordError::NoKey));
    let records = samples();
    let ((key, _), (_, value)) = (records[4].encode(), records[5].encode());
    let mixed = QueueRecord::decode(Some(&key), value.as_deref());
    assert_eq!(mixed, Err(RecordError::Mismatch));
}

/// A deletion is a key alone, and says what it deletes.
#[test]
fn deletions_are_read_back() {
    for record in samples() {
        let (key, _) = record.encode();
        let Ok(deletion) = QueueRecord::decode(Some(&key), None) else {
            let kept = matches!(
                record,
                QueueRecord::Reign(_) | QueueRecord::Sequence { .. } | QueueRecord::Delays(_)
            );
            assert!(kept, "{record:?} cannot be deleted");
            continue;
        };
        assert_eq!(deletion.encode(), (key, None));
    }
}

#[test]
#[ignore = "writes testdata/records.bin: only for records that no release has written yet"]
fn write_golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/records.bin");
    std::fs::write(path, encoded(&samples())).unwrap();
}
