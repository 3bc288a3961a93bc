//! SendMessage: what is stored, where, and what is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use weir_api::log::{Read, ReadPartition};
use weir_api::queues;
use weir_base::batch::Record;
use weir_base::{NodeId, Offset, RecordBatch, TopicId, TopicPartition};

use super::{Client, Fixture, code, resource, run};
use crate::RocketmqOptions;
use crate::proto::{
    Code, Encoding, Message, MessageType, SendMessageRequest, SendMessageResponse,
    SystemProperties, WireTimestamp,
};

pub(super) fn system(id: &str) -> SystemProperties {
    SystemProperties {
        message_id: id.to_owned(),
        message_type: MessageType::Normal.into(),
        body_encoding: Encoding::Identity.into(),
        ..SystemProperties::default()
    }
}

pub(super) fn message(topic: &str, system: SystemProperties, body: &str) -> Message {
    Message {
        topic: resource(topic),
        system_properties: Some(system),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Message::default()
    }
}

pub(super) async fn send(client: &Client, messages: Vec<Message>) -> SendMessageResponse {
    client
        .ask("SendMessage", SendMessageRequest { messages })
        .await
        .unwrap()
}

async fn refused(client: &Client, message: Message) -> (i32, String) {
    let answer = send(client, vec![message]).await;
    assert_eq!(answer.entries, []);
    let status = answer.status.unwrap();
    (status.code, status.message)
}

impl Fixture {
    /// Everything in a partition.
    pub(super) async fn records(&self, topic: TopicId, partition: u32) -> Vec<Record> {
        let read = Read {
            partitions: vec![ReadPartition {
                at: TopicPartition::new(topic, partition),
                from: Offset::ZERO,
                bytes_max: 1 << 20,
                leader_epoch: None,
                last_fetched_epoch: None,
            }],
            bytes_min: 0,
            bytes_max: 1 << 20,
            wait_max: Duration::ZERO,
        };
        let mut outcomes = self.broker.api().log.read(read).await;
        let chunks = outcomes.remove(0).result.unwrap().chunks.concat();
        let batches = RecordBatch::parse_all(chunks.into()).unwrap();
        batches
            .iter()
            .flat_map(|batch| batch.records().unwrap())
            .collect()
    }
}

#[test]
fn a_message_is_stored_where_the_client_says_and_reads_as_it_was_sent() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 3, &[]).await;
        let client = fixture.client("c1").await;
        let mut sent = message(
            "t",
            SystemProperties {
                queue_id: 2,
                tag: Some("paid".to_owned()),
                keys: vec!["order-1".to_owned(), "user-2".to_owned()],
                born_host: "h".to_owned(),
                born_timestamp: Some(WireTimestamp {
                    seconds: 5,
                    nanos: 0,
                }),
                trace_context: Some("00-ab".to_owned()),
                ..system("01AB")
            },
            "body",
        );
        sent.user_properties = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        for offset in 0..2 {
            let answer = send(&client, vec![sent.clone()]).await;
            assert_eq!(code(answer.status), i32::from(Code::Ok));
            assert_eq!(
                (&*answer.entries[0].message_id, answer.entries[0].offset),
                ("01AB", offset)
            );
        }
        let records = fixture.records(topic, 2).await;
        assert_eq!(records.len(), 2);
        // What a Kafka consumer sees.
        assert_eq!(records[0].key.as_deref(), Some(&b"order-1"[..]));
        assert_eq!(records[0].value.as_deref(), Some(&b"body"[..]));
        let read = queues::Message::from_record(2, &records[0]);
        assert_eq!((&*read.id, read.tag.as_deref()), ("01AB", Some("paid")));
        assert_eq!(read.keys.len(), 2);
        assert_eq!(read.born_at.unwrap().0, 5_000);
        assert_eq!(read.properties, [("region".into(), "eu".into())]);
    });
}

#[test]
fn messages_of_one_group_share_a_queue_whatever_the_client_says() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 5, &[]).await;
        let client = fixture.client("c1").await;
        for queue_id in 0..5 {
            let fifo = SystemProperties {
                queue_id,
                message_type: MessageType::Fifo.into(),
                message_group: Some("order-1".to_owned()),
                ..system("01")
            };
            let answer = send(&client, vec![message("t", fifo, "x")]).await;
            assert_eq!(code(answer.status), i32::from(Code::Ok));
        }
        let mut filled = Vec::new();
        for partition in 0..5 {
            let records = fixture.records(topic, partition).await;
            if !records.is_empty() {
                assert_eq!(records[0].key.as_deref(), Some(&b"order-1"[..]));
                filled.push(records.len());
            }
        }
        assert_eq!(filled, [5]);
    });
}

#[test]
fn a_request_of_many_messages_has_a_result_each() {
    run(async {
        let fixture = Fixture::start().await;
        // Two of the messages fit into one batch, three do not.
        let topic = fixture.topic("t", 2, &[("max.message.bytes", "400")]).await;
        let client = fixture.client("c1").await;
        let body = "x".repeat(100);
        let on = |queue_id, id: &str| {
            message(
                "t",
                SystemProperties {
                    queue_id,
                    ..system(id)
                },
                &body,
            )
        };
        let messages = vec![on(0, "a"), on(1, "b"), on(0, "c"), on(0, "d")];
        let answer = send(&client, messages).await;
        assert_eq!(code(answer.status), i32::from(Code::Ok));
        let results: Vec<_> = answer
            .entries
            .iter()
            .map(|e| (&*e.message_id, e.offset))
            .collect();
        assert_eq!(results, [("a", 0), ("b", 0), ("c", 1), ("d", 2)]);
        let ids = |records: Vec<Record>| -> Vec<String> {
            let read = records
                .iter()
                .map(|r| queues::Message::from_record(0, r).id.to_string());
            read.collect()
        };
        assert_eq!(ids(fixture.records(topic, 0).await), ["a", "c", "d"]);
    });
}

#[test]
fn message_groups_stay_when_their_topic_grew() {
    run(async {
        let fixture = Fixture::start().await;
        let configs = [("weir.message.group.partitions", "3")];
        let topic = fixture.topic("t", 5, &configs).await;
        let client = fixture.client("c1").await;
        // Of five partitions "a" would be in the last: `place` says so.
        let grouped = SystemProperties {
            message_type: MessageType::Fifo.into(),
            message_group: Some("a".to_owned()),
            ..system("01")
        };
        send(&client, vec![message("t", grouped, "x")]).await;
        assert_eq!(fixture.records(topic, 1).await.len(), 1);
    });
}

#[test]
fn a_queue_that_is_led_elsewhere_is_served_by_one_that_is_led_here() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 2, &[]).await;
        fixture.broker.set_leader("t", 0, Some(NodeId(9)));
        let client = fixture.client("c1").await;
        let answer = send(&client, vec![message("t", system("a"), "x")]).await;
        assert_eq!(code(answer.status), i32::from(Code::Ok));
        assert_eq!(fixture.records(topic, 1).await.len(), 1);
        // Nobody leads anything: the client is to try another node.
        fixture.broker.set_leader("t", 0, None);
        fixture.broker.set_leader("t", 1, None);
        let answer = send(&client, vec![message("t", system("a"), "x")]).await;
        assert_eq!(code(answer.status), i32::from(Code::HaNotAvailable));
    });
}

#[test]
fn what_a_rocketmq_broker_refuses_is_refused_with_its_limit() {
    run(async {
        let options = RocketmqOptions {
            body_bytes_max: 1024,
            ..RocketmqOptions::default()
        };
        let fixture = Fixture::with(options).await;
        let topic = fixture.topic("t", 1, &[]).await;
        fixture
            .topic("f", 1, &[("weir.message.type", "fifo")])
            .await;
        let client = fixture.client("c1").await;
        let with = |change: &dyn Fn(&mut SystemProperties)| {
            let mut changed = system("01");
            change(&mut changed);
            message("t", changed, "x")
        };
        let property = |name: &str, value: &str| {
            let mut changed = message("t", system("01"), "x");
            changed
                .user_properties
                .insert(name.to_owned(), value.to_owned());
            changed
        };
        let far = WireTimestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        let long = "x".repeat(64);
        let mut many = message("t", system("01"), "x");
        many.user_properties = (0..129).map(|n| (format!("p{n}"), String::new())).collect();
        let cases = [
            (
                with(&|s| s.message_id = " ".to_owned()),
                Code::IllegalMessageId,
                "255",
            ),
            (
                message("t", system("01"), ""),
                Code::MessageBodyEmpty,
                "empty",
            ),
            (
                message("t", system("01"), &"x".repeat(1025)),
                Code::MessageBodyTooLarge,
                "1024",
            ),
            (many, Code::MessagePropertiesTooLarge, "128"),
            (
                property("p", &"x".repeat(16 * 1024)),
                Code::MessagePropertiesTooLarge,
                "16384",
            ),
            (
                property("weir.id", "x"),
                Code::IllegalMessagePropertyKey,
                "weir.id",
            ),
            (
                property("TAGS", "x"),
                Code::IllegalMessagePropertyKey,
                "TAGS",
            ),
            (
                with(&|s| s.tag = Some("a|b".to_owned())),
                Code::IllegalMessageTag,
                "a|b",
            ),
            (
                with(&|s| s.keys = vec![String::new()]),
                Code::IllegalMessageKey,
                "blank",
            ),
            (
                with(&|s| s.message_group = Some(long.clone())),
                Code::IllegalMessageGroup,
                "63",
            ),
            (
                with(&|s| s.message_type = 77),
                Code::MessagePropertyConflictWithType,
                "77",
            ),
            (
                with(&|s| s.body_encoding = 77),
                Code::MessageCorrupted,
                "77",
            ),
            (with(&|s| s.message_type = 5), Code::Unsupported, "LITE"),
            (
                with(&|s| s.message_type = 2),
                Code::MessagePropertyConflictWithType,
                "group",
            ),
            (
                with(&|s| s.message_group = Some("g".to_owned())),
                Code::MessagePropertyConflictWithType,
                "NORMAL",
            ),
            (
                with(&|s| {
                    s.message_type = 3;
                    s.delivery_timestamp = Some(far);
                }),
                Code::IllegalDeliveryTime,
                "366 days",
            ),
            (
                message("f", system("01"), "x"),
                Code::MessagePropertyConflictWithType,
                "FIFO",
            ),
            (message("a b", system("01"), "x"), Code::IllegalTopic, "127"),
            (
                message("%RETRY%g", system("01"), "x"),
                Code::IllegalTopic,
                "retry",
            ),
        ];
        for (bad, code, words) in cases {
            let (got, why) = refused(&client, bad).await;
            assert_eq!(got, i32::from(code), "{why}");
            assert!(why.contains(words), "{why}");
        }
        let answer = send(&client, vec![]).await;
        assert_eq!(code(answer.status), i32::from(Code::MessageCorrupted));
        let two = vec![
            message("t", system("01"), "x"),
            message("f", system("02"), "x"),
        ];
        assert_eq!(
            code(send(&client, two).await.status),
            i32::from(Code::MessageCorrupted)
        );
        // One bad message keeps the others of its request out, too.
        let two = vec![
            message("t", system("01"), "x"),
            message("t", system(""), "x"),
        ];
        assert_eq!(
            code(send(&client, two).await.status),
            i32::from(Code::IllegalMessageId)
        );
        assert_eq!(fixture.records(topic, 0).await.len(), 0);
    });
}

/// A message of each kind that a topic takes, with a body of `bytes`.
fn of_each_kind(fixture: &Fixture, topic: &str, bytes: usize) -> [Message; 4] {
    let due = fixture.env.clock.wall() + Duration::from_secs(3_600);
    let kind = |kind: MessageType| SystemProperties {
        message_type: kind.into(),
        tag: Some("tag".to_owned()),
        keys: vec!["key".to_owned()],
        ..system("01")
    };
    let fifo = SystemProperties {
        message_group: Some("group".to_owned()),
        ..kind(MessageType::Fifo)
    };
    let delayed = SystemProperties {
        delivery_timestamp: Some(due.into()),
        ..kind(MessageType::Delay)
    };
    let body = "x".repeat(bytes);
    [
        kind(MessageType::Normal),
        fifo,
        delayed,
        kind(MessageType::Transaction),
    ]
    .map(|system| message(topic, system, &body))
}

#[test]
fn a_body_of_the_limit_fits_a_topic_made_on_first_use_now_or_later() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        let max = RocketmqOptions::default().body_bytes_max;
        for fits in of_each_kind(&fixture, "new", max) {
            let kind = fits.system_properties.clone().unwrap().message_type;
            let status = send(&client, vec![fits]).await.status.unwrap();
            assert_eq!(status.code, i32::from(Code::Ok), "{kind}: {status:?}");
        }
        for longer in of_each_kind(&fixture, "new", max + 1) {
            let (code, why) = refused(&client, longer).await;
            assert_eq!(code, i32::from(Code::MessageBodyTooLarge), "{why}");
            assert!(why.contains(&max.to_string()), "{why}");
        }
    });
}

#[test]
fn a_topic_with_a_limit_of_its_own_holds_every_message_to_it() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture
            .topic("t", 1, &[("max.message.bytes", "4000")])
            .await;
        let client = fixture.client("c1").await;
        // All but the body takes more than 10 bytes and less than 400.
        for fits in of_each_kind(&fixture, "t", 3_600) {
            let status = send(&client, vec![fits]).await.status.unwrap();
            assert_eq!(status.code, i32::from(Code::Ok), "{status:?}");
        }
        for longer in of_each_kind(&fixture, "t", 3_990) {
            let answer = send(&client, vec![longer]).await;
            let status = answer.status.unwrap();
            assert_eq!(
                status.code,
                i32::from(Code::MessageBodyTooLarge),
                "{status:?}"
            );
            assert!(
                status.message.contains("max.message.bytes is 4000"),
                "{status:?}"
            );
        }
        assert_eq!(fixture.records(topic, 0).await.len(), 2);
    });
}

#[test]
fn an_append_that_is_not_committed_in_time_is_told_before_the_client_gives_up() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1, &[]).await;
        fixture.broker.hold_acks(true);
        let client = fixture.client("c1").await;
        let mut request = client.request(SendMessageRequest {
            messages: vec![message("t", system("01"), "x")],
        });
        request.set_timeout(Duration::from_millis(300));
        let answer: SendMessageResponse = client.ask_with("SendMessage", request).await.unwrap();
        assert_eq!(
            code(answer.status),
            i32::from(Code::MasterPersistenceTimeout)
        );
    });
}
