//! One message, any client: what a Kafka client sends as RocketMQ clients get it and the other
//! way round, through both fronts of a real node. What is lost on the way is a row of the
//! table, as the rest is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use weir_base::Timestamp;
use weir_base::batch::{BatchBuilder, Compression, Record};

use crate::kafka::{fetch, packed, produce, try_fetch};
use crate::rocketmq::{
    DELAY, FIFO, GZIP, IDENTITY, Member, Message, NORMAL, OK, Sent, System, time,
};
use crate::{
    PATIENCE, described, eventually, free_ports, leader_of, pid, signal, start_ready, weir,
};

type Header = (&'static [u8], Option<&'static [u8]>);

/// A record, and what of it a RocketMQ client sees: keys, tag, body, properties.
struct FromKafka {
    what: &'static str,
    codec: Compression,
    key: Option<&'static [u8]>,
    value: Option<&'static [u8]>,
    headers: &'static [Header],
    keys: &'static [&'static str],
    tag: Option<&'static str>,
    body: &'static [u8],
    properties: &'static [(&'static str, &'static str)],
}

/// A record with a key, a value and one header: what rows change.
const PLAIN: FromKafka = FromKafka {
    what: "key, value, header",
    codec: Compression::None,
    key: Some(b"order-1"),
    value: Some(b"paid"),
    headers: &[(b"region", Some(b"eu"))],
    keys: &["order-1"],
    tag: None,
    body: b"paid",
    properties: &[("region", "eu")],
};

const FROM_KAFKA: &[FromKafka] = &[
    PLAIN,
    FromKafka {
        what: "gzip",
        codec: Compression::Gzip,
        ..PLAIN
    },
    FromKafka {
        what: "snappy",
        codec: Compression::Snappy,
        ..PLAIN
    },
    FromKafka {
        what: "lz4",
        codec: Compression::Lz4,
        ..PLAIN
    },
    FromKafka {
        what: "zstd",
        codec: Compression::Zstd,
        ..PLAIN
    },
    FromKafka {
        what: "a tag and several keys, as Weir's headers say them",
        headers: &[(b"weir.tag", Some(b"red")), (b"weir.keys", Some(b"a b c"))],
        keys: &["a", "b", "c"],
        tag: Some("red"),
        properties: &[],
        ..PLAIN
    },
    FromKafka {
        what: "letters of every kind, in key, header and tag",
        key: Some("Straße-7".as_bytes()),
        headers: &[
            ("город".as_bytes(), Some("東京 🗼".as_bytes())),
            (b"weir.tag", Some("größe".as_bytes())),
        ],
        keys: &["Straße-7"],
        tag: Some("größe"),
        properties: &[("город", "東京 🗼")],
        ..PLAIN
    },
    FromKafka {
        what: "bytes in the value stay as they are",
        value: Some(&[0, 159, 146, 150, 255]),
        body: &[0, 159, 146, 150, 255],
        ..PLAIN
    },
    FromKafka {
        what: "an empty value",
        value: Some(b""),
        body: b"",
        ..PLAIN
    },
    FromKafka {
        what: "no key",
        key: None,
        keys: &[],
        ..PLAIN
    },
    FromKafka {
        what: "lost: a key that is no text",
        key: Some(&[255, 254]),
        keys: &[],
        ..PLAIN
    },
    FromKafka {
        what: "lost: that a value is null, and no empty one",
        value: None,
        body: b"",
        ..PLAIN
    },
    FromKafka {
        what: "lost: that a header is null, and no empty one",
        headers: &[(b"region", None)],
        properties: &[("region", "")],
        ..PLAIN
    },
    FromKafka {
        what: "lost: headers that are no text, in name or in value",
        headers: &[
            (b"bin", Some(&[255])),
            (&[255], Some(b"bin")),
            (b"region", Some(b"eu")),
        ],
        ..PLAIN
    },
    FromKafka {
        what: "lost: all but the last of the headers of one name",
        headers: &[(b"region", Some(b"us")), (b"region", Some(b"eu"))],
        ..PLAIN
    },
    FromKafka {
        what: "not shown: headers of the broker's own",
        headers: &[(b"weir.tomorrow", Some(b"x")), (b"region", Some(b"eu"))],
        ..PLAIN
    },
];

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(now.as_millis()).unwrap())
}

/// Runs a test that may wait for a client, and fails it if it hangs.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(PATIENCE * 3, test).await };
    runtime.block_on(limited).expect("finished in time")
}

/// A node with the topics `t` and, of ordered messages, `f`: its Kafka and RocketMQ ports.
macro_rules! node {
    ($kafka:ident, $rocketmq:ident) => {
        let data = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let (_node, _) = start_ready(data.path(), 1, ports);
        weir(ports, "topic create t --partitions 1");
        weir(
            ports,
            "topic create f --partitions 1 --config weir.message.type=fifo",
        );
        described(ports, "t", 1);
        described(ports, "f", 1);
        let ($kafka, $rocketmq) = (ports.0, ports.1 + 1);
    };
}

#[test]
fn what_kafka_clients_send_reaches_rocketmq_clients() {
    node!(kafka, rocketmq);
    run(async {
        let member = Member::start(rocketmq, "t").await;
        for (offset, row) in (0..).zip(FROM_KAFKA) {
            let sent_at = Timestamp(now().0 - 5_000);
            let headers = row.headers.iter().copied();
            let batch = BatchBuilder::new(sent_at)
                .record_with_raw_headers(row.key, row.value, headers)
                .build();
            let what = row.what;
            assert_eq!(produce(kafka, "t", &packed(&batch, row.codec)), 0, "{what}");
            let got = member.take().await;
            let system = got.system.unwrap();
            assert_eq!(system.message_id, format!("0-{offset}"), "{what}");
            assert_eq!(system.keys, row.keys, "{what}");
            assert_eq!(system.tag.as_deref(), row.tag, "{what}");
            assert_eq!(&got.body[..], row.body, "{what}");
            let expected = row.properties.iter();
            let expected: BTreeMap<String, String> = expected
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(got.properties, expected, "{what}");
            assert_eq!(
                (system.message_type, system.body_encoding),
                (NORMAL, IDENTITY),
                "{what}"
            );
            assert_eq!(system.born_timestamp, time(sent_at.0), "{what}");
            assert_eq!(system.store_timestamp, time(sent_at.0), "{what}");
        }
    });
}

#[test]
fn what_kafka_clients_send_for_later_and_in_order_comes_so() {
    node!(kafka, rocketmq);
    run(async {
        let member = Member::start(rocketmq, "t").await;
        let due = now().0 + 700;
        let at = due.to_string();
        let delayed = BatchBuilder::new(now())
            .record_with_headers(None, Some(b"later"), &[("weir.deliver.at", at.as_bytes())])
            .build();
        let at_once = BatchBuilder::new(now()).record(None, Some(b"now")).build();
        for batch in [delayed, at_once] {
            assert_eq!(produce(kafka, "t", &batch), 0);
        }
        // Who reads the log has it at once, and others pass it meanwhile.
        let records = fetch(kafka, "t", 0);
        assert_eq!(records[0].value.as_deref(), Some(&b"later"[..]));
        assert_eq!(member.take().await.body, "now");
        let got = member.take().await;
        let (system, arrived) = (got.system.unwrap(), now().0);
        assert_eq!(got.body, "later");
        assert!(arrived >= due, "{} ms early", due - arrived);
        assert_eq!(
            (system.message_type, system.delivery_timestamp),
            (DELAY, time(due))
        );

        let member = Member::start(rocketmq, "f").await;
        let group: &[(&str, &[u8])] = &[("weir.group", b"order-1")];
        for step in ["made", "paid", "sent"] {
            let batch = BatchBuilder::new(now())
                .record_with_headers(Some(b"any"), Some(step.as_bytes()), group)
                .build();
            assert_eq!(produce(kafka, "f", &batch), 0);
        }
        for step in ["made", "paid", "sent"] {
            let got = member.take().await;
            let system = got.system.unwrap();
            assert_eq!(got.body, step);
            assert_eq!(system.message_group.as_deref(), Some("order-1"));
            assert_eq!(system.message_type, FIFO);
        }
    });
}

/// Key, value, headers: what Kafka clients see of a record. They keep the headers' order, but
/// nobody relies on that of these.
type Seen<'a> = (Option<&'a str>, Option<&'a [u8]>, Vec<(&'a str, &'a str)>);

fn seen(record: &Record) -> Seen<'_> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let headers = record.headers.iter();
    let headers = headers.map(|h| (text(&h.key), text(h.value.as_deref().unwrap())));
    let mut headers: Vec<(&str, &str)> = headers.collect();
    headers.sort_unstable();
    let key = record.key.as_deref().map(text);
    (key, record.value.as_deref(), headers)
}

const BORN: i64 = 1_700_000_000_005;

/// What all rows below are made of: an id, a place and a time of birth, a property.
fn plain() -> System {
    System {
        message_id: "01AB".to_owned(),
        message_type: NORMAL,
        body_encoding: IDENTITY,
        born_host: "h".to_owned(),
        born_timestamp: time(BORN),
        ..System::default()
    }
}

fn message(system: System) -> Message {
    Message {
        properties: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        system: Some(system),
        body: Bytes::from_static(b"body"),
        ..Message::default()
    }
}

/// The headers of what [`message`] makes, beside `more`.
fn headers<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![
        ("weir.id", "01AB"),
        ("weir.born.host", "h"),
        ("weir.born.at", "1700000000005"),
        ("region", "eu"),
    ];
    headers.extend(more);
    headers.sort_unstable();
    headers
}

async fn stored(member: &Member, message: &Message) {
    let sent = member.send(message).await;
    assert_eq!(sent.status.map(|status| status.code), Some(OK));
}

/// What came back is what was sent.
fn assert_whole(sent: &Message, got: Message, what: &str) {
    let (was, is) = (sent.system.clone().unwrap(), got.system.unwrap());
    let is = System {
        store_timestamp: None,
        receipt_handle: None,
        ..is
    };
    assert_eq!(is, was, "{what}");
    assert_eq!(
        (&got.body, &got.properties),
        (&sent.body, &sent.properties),
        "{what}"
    );
}

#[test]
fn what_rocketmq_clients_send_reaches_kafka_clients_and_comes_back_whole() {
    node!(kafka, rocketmq);
    run(async {
        let member = Member::start(rocketmq, "t").await;
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let rows = [
            ("an id, and no key", plain(), None, headers(&[])),
            (
                "a tag and several keys: the first one is the record's",
                System {
                    tag: Some("red".to_owned()),
                    keys: texts(&["k1", "k2", "k3"]),
                    ..plain()
                },
                Some("k1"),
                headers(&[("weir.tag", "red"), ("weir.keys", "k1 k2 k3")]),
            ),
            (
                "letters of every kind",
                System {
                    tag: Some("größe".to_owned()),
                    keys: texts(&["Straße-7"]),
                    ..plain()
                },
                Some("Straße-7"),
                headers(&[("weir.tag", "größe"), ("weir.keys", "Straße-7")]),
            ),
            (
                "a body that its client has compressed, as it is",
                System {
                    body_encoding: GZIP,
                    ..plain()
                },
                None,
                headers(&[("weir.encoding", "gzip")]),
            ),
            (
                "a message group is the record's key before any other",
                System {
                    message_type: FIFO,
                    message_group: Some("g".to_owned()),
                    keys: texts(&["k1", "k2"]),
                    ..plain()
                },
                Some("g"),
                headers(&[("weir.group", "g"), ("weir.keys", "k1 k2")]),
            ),
        ];
        for (offset, (what, system, key, headers)) in (0..).zip(rows) {
            let sent = message(system);
            stored(&member, &sent).await;
            let records = fetch(kafka, "t", offset);
            assert_eq!(records.len(), 1, "{what}");
            let expected = (key, Some(&b"body"[..]), headers);
            assert_eq!(seen(&records[0]), expected, "{what}");
            assert_whole(&sent, member.take().await, what);
        }
        let empty = Message {
            body: Bytes::new(),
            ..message(plain())
        };
        let Sent { status, .. } = member.send(&empty).await;
        let refused = status.unwrap();
        assert_eq!(refused.message, "message body is empty", "{refused:?}");
    });
}

#[test]
fn what_rocketmq_clients_send_for_later_and_in_order_comes_so() {
    node!(kafka, rocketmq);
    run(async {
        let member = Member::start(rocketmq, "t").await;
        let due = now().0 + 700;
        let sent = message(System {
            message_type: DELAY,
            delivery_timestamp: time(due),
            ..plain()
        });
        stored(&member, &sent).await;
        // Here nobody has it before: it is not in the log.
        let got = member.take().await;
        let arrived = now().0;
        assert!(arrived >= due, "{} ms early", due - arrived);
        assert_whole(&sent, got, "delayed");
        let at = due.to_string();
        let records = fetch(kafka, "t", 0);
        assert_eq!(records.len(), 1);
        let expected = headers(&[("weir.deliver.at", &at)]);
        assert_eq!(seen(&records[0]), (None, Some(&b"body"[..]), expected));
        assert!(records[0].timestamp.0 >= due, "stored when it was due");

        let member = Member::start(rocketmq, "f").await;
        let steps = ["made", "paid", "sent"];
        for step in steps {
            let step = Message {
                body: step.into(),
                ..message(System {
                    message_type: FIFO,
                    message_group: Some("order-1".to_owned()),
                    ..plain()
                })
            };
            stored(&member, &step).await;
        }
        let records = fetch(kafka, "f", 0);
        let values: Vec<_> = records.iter().map(|r| r.value.clone().unwrap()).collect();
        assert_eq!(values, steps);
        assert!(records.iter().all(|r| r.key.as_deref() == Some(b"order-1")));
        for step in steps {
            assert_eq!(member.take().await.body, step);
        }
    });
}

/// The ids of all that is in a topic, from any node that leads it.
fn ids(ports: (u16, u16), topic: &str) -> Option<Vec<String>> {
    let records = (ports.0..ports.0 + 3).find_map(|kafka| try_fetch(kafka, topic, 0))?;
    let headers = records.iter().flat_map(|record| &record.headers);
    let ids = headers.filter(|header| *header.key == *b"weir.id");
    let ids = ids.map(|header| header.value.clone().unwrap_or_default());
    let ids = ids.map(|id| String::from_utf8(id.to_vec()).unwrap());
    Some(ids.collect())
}

/// Sends a message until it is known to be stored: clients repeat what they do not know.
async fn stored_at_last(rocketmq: u16, id: &str) {
    let sent = message(System {
        message_id: id.to_owned(),
        ..plain()
    });
    let begun = std::time::Instant::now();
    loop {
        if let Ok(member) = Member::try_start(rocketmq, "once").await {
            let sent = member.try_send(&sent).await;
            if sent.is_ok_and(|sent| sent.status.is_some_and(|status| status.code == OK)) {
                return;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "never stored: {id}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn what_was_sent_once_is_known_to_the_next_leader_and_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (data, ports) = (data.path(), free_ports());
    let (_nodes, _) = start_ready(data, 3, ports);
    weir(
        ports,
        "topic create once --partitions 1 --replication-factor 3 --config weir.dedup=id",
    );
    described(ports, "once", 3);
    let node = |kafka: u16| usize::from(kafka - ports.0);
    let rocketmq = |node: usize| ports.1 + 1 + u16::try_from(node).unwrap();
    let first = node(leader_of(ports, "once"));
    let other = (first + 1) % 3;
    run(stored_at_last(rocketmq(other), "a"));
    run(stored_at_last(rocketmq(first), "a"));

    // The leader dies; its successor has the ids from the journal that it followed.
    signal(pid(data, first).unwrap(), "-KILL");
    run(stored_at_last(rocketmq(other), "a"));
    run(stored_at_last(rocketmq(other), "b"));
    let all = |expected: &[&str]| {
        eventually("all of it is in the log, once", || {
            (ids(ports, "once")? == expected).then_some(())
        });
    };
    all(&["a", "b"]);

    // All die at once, and read their journals when they start again.
    let nodes: Vec<u64> = (0..3).filter_map(|node| pid(data, node)).collect();
    for node in nodes {
        signal(node, "-KILL");
    }
    run(stored_at_last(rocketmq(first), "b"));
    run(stored_at_last(rocketmq(other), "a"));
    run(stored_at_last(rocketmq(other), "c"));
    all(&["a", "b", "c"]);
}
