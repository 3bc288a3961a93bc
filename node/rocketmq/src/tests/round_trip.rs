//! One message, any client: what a Kafka client stored as RocketMQ clients get it, and the
//! other way round. A record of the log is, byte for byte, what the Kafka front takes and
//! gives. What is lost on the way is a row of the table, as the rest is.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_api::Acks;
use weir_base::batch::{BatchBuilder, Record};
use weir_base::{Timestamp, TopicPartition};

use super::receiving::{ack, handle, receive_some, with_group};
use super::run;
use super::sending::{message, send, system};
use crate::proto::{MessageType, SystemProperties, WireTimestamp};

type Header = (&'static [u8], Option<&'static [u8]>);

/// A record, and what of it a RocketMQ client sees: keys, tag, body, properties.
struct FromKafka {
    what: &'static str,
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
        what: "a tag and keys, as Weir's headers say them",
        headers: &[(b"weir.tag", Some(b"red")), (b"weir.keys", Some(b"a b"))],
        keys: &["a", "b"],
        tag: Some("red"),
        properties: &[],
        ..PLAIN
    },
    FromKafka {
        what: "bytes in the value stay as they are",
        value: Some(&[0, 159, 146, 150, 255]),
        body: &[0, 159, 146, 150, 255],
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

#[test]
fn what_kafka_clients_send_reaches_rocketmq_clients() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let image = fixture.broker.api().cluster.image();
        let at = TopicPartition::new(image.topics["t"].id, 0);
        for (offset, row) in (0..).zip(FROM_KAFKA) {
            let sent_at = Timestamp(fixture.env.clock.wall().0 - 5_000);
            let headers = row.headers.iter().copied();
            let batch = BatchBuilder::new(sent_at)
                .record_with_raw_headers(row.key, row.value, headers)
                .build();
            let log = fixture.broker.api().log;
            let stored = log.append(at, batch, Acks::All, Duration::from_secs(1));
            stored.await.unwrap();
            let got = receive_some(&member.client, "t").await.remove(0);
            ack(&member.client, "t", &[handle(&got)]).await;
            let system = got.system_properties.unwrap();
            let what = row.what;
            assert_eq!(system.message_id, format!("0-{offset}"), "{what}");
            assert_eq!(system.keys, row.keys, "{what}");
            assert_eq!(system.tag.as_deref(), row.tag, "{what}");
            assert_eq!(&got.body[..], row.body, "{what}");
            let expected = row.properties.iter();
            let expected: BTreeMap<String, String> = expected
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(got.user_properties, expected, "{what}");
            assert_eq!(system.born_timestamp, Some(sent_at.into()), "{what}");
            assert_eq!(system.store_timestamp, Some(sent_at.into()), "{what}");
        }
    });
}

/// Key, value, headers.
type Seen<'a> = (Option<&'a str>, Option<&'a [u8]>, Vec<(&'a str, &'a str)>);

/// What Kafka clients see of a record.
fn seen(record: &Record) -> Seen<'_> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let headers = record.headers.iter();
    let headers = headers.map(|h| (text(&h.key), text(h.value.as_deref().unwrap())));
    (
        record.key.as_deref().map(text),
        record.value.as_deref(),
        headers.collect(),
    )
}

#[test]
fn what_rocketmq_clients_send_reaches_kafka_clients_and_comes_back_whole() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let image = fixture.broker.api().cluster.image();
        let topic = image.topics["t"].id;
        let born = WireTimestamp {
            seconds: 1_700_000_000,
            nanos: 5_000_000,
        };
        let plain = || SystemProperties {
            born_host: "h".to_owned(),
            born_timestamp: Some(born),
            ..system("01AB")
        };
        let about = [
            ("weir.born.host", "h"),
            ("weir.keys", "k1 k2"),
            ("weir.born.at", "1700000000005"),
        ];
        let rows = [
            (
                "id, tag, keys: the first key is the record's",
                SystemProperties {
                    tag: Some("red".to_owned()),
                    keys: vec!["k1".to_owned(), "k2".to_owned()],
                    ..plain()
                },
                Some("k1"),
                vec![
                    ("weir.id", "01AB"),
                    ("weir.tag", "red"),
                    about[0],
                    about[1],
                    about[2],
                ],
            ),
            (
                "a message group is the record's key before any other",
                SystemProperties {
                    message_type: MessageType::Fifo.into(),
                    message_group: Some("g".to_owned()),
                    keys: vec!["k1".to_owned(), "k2".to_owned()],
                    ..plain()
                },
                Some("g"),
                vec![
                    ("weir.id", "01AB"),
                    ("weir.group", "g"),
                    about[0],
                    about[1],
                    about[2],
                ],
            ),
            (
                "neither",
                plain(),
                None,
                vec![("weir.id", "01AB"), about[0], about[2]],
            ),
        ];
        for (what, system, key, mut headers) in rows {
            let mut sent = message("t", system, "body");
            sent.user_properties
                .insert("region".to_owned(), "eu".to_owned());
            let answer = send(&member.client, vec![sent.clone()]).await;
            assert_eq!(answer.entries.len(), 1, "{what}: {answer:?}");
            let records = fixture.records(topic, 0).await;
            let record = records.last().unwrap();
            headers.push(("region", "eu"));
            let mut found = seen(record);
            // Kafka keeps their order, but nobody relies on that of these.
            found.2.sort_unstable();
            headers.sort_unstable();
            assert_eq!(found, (key, Some(&b"body"[..]), headers), "{what}");
            let got = receive_some(&member.client, "t").await.remove(0);
            ack(&member.client, "t", &[handle(&got)]).await;
            assert_eq!(
                (&got.body, &got.user_properties),
                (&sent.body, &sent.user_properties)
            );
            let (was, is) = (
                sent.system_properties.unwrap(),
                got.system_properties.unwrap(),
            );
            assert_eq!(
                (
                    is.message_id,
                    is.tag,
                    is.keys,
                    is.message_group,
                    is.born_timestamp
                ),
                (
                    was.message_id,
                    was.tag,
                    was.keys,
                    was.message_group,
                    was.born_timestamp
                ),
                "{what}"
            );
        }
    });
}
