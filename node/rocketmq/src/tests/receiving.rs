//! Receiving and settling, over the real queue machine of the fake broker.

use std::time::Duration;

use weir_api::Acks;
use weir_api::queues::{Backoff, GroupSettings};
use weir_base::batch::BatchBuilder;
use weir_base::{NodeId, Offset, Timestamp, TopicPartition};

use super::handshake::{publishing, subscribing, subscribing_to, told, waiting};
use super::sending::{message, send, system};
use super::{Client, Fixture, code, resource, run};
use crate::RocketmqOptions;
use crate::proto::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, Broker, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, ClientType, Code, EndTransactionRequest, FilterExpression,
    ForwardMessageToDeadLetterQueueRequest, Message, MessageQueue, MessageType,
    NotifyClientTerminationRequest, RecallMessageRequest, RecallMessageResponse,
    ReceiveMessageRequest, ReceiveMessageResponse, StatusOnly, SystemProperties, TelemetryCommand,
    WireDuration, WireTimestamp, command::Command, received::Content,
};

/// A client with its telemetry stream.
pub(super) struct Member {
    pub(super) client: Client,
    _outgoing: tokio::sync::mpsc::Sender<TelemetryCommand>,
    incoming: tonic::Streaming<TelemetryCommand>,
}

impl Member {
    async fn start(fixture: &Fixture, id: &'static str, first: TelemetryCommand) -> Member {
        let client = fixture.client(id).await;
        let (outgoing, mut incoming) = client.telemetry(first).await.unwrap();
        told(incoming.message().await.unwrap());
        Member {
            client,
            _outgoing: outgoing,
            incoming,
        }
    }

    async fn consumer(fixture: &Fixture, id: &'static str, kind: ClientType) -> Member {
        Self::start(fixture, id, subscribing(kind, "g")).await
    }
}

pub(super) fn asking(topic: &str, wait: Duration) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue {
            topic: resource(topic),
            id: -1,
            ..MessageQueue::default()
        }),
        batch_size: 32,
        invisible_duration: Some(Duration::from_secs(10).into()),
        long_polling_timeout: Some(wait.into()),
        ..ReceiveMessageRequest::default()
    }
}

/// The status and the messages of an answer, whose shape is checked.
pub(super) async fn receive(
    client: &Client,
    request: ReceiveMessageRequest,
) -> (i32, Vec<Message>) {
    let answers: Vec<ReceiveMessageResponse> = client.ask_for_all("ReceiveMessage", request).await;
    let mut contents = answers.into_iter().map(|answer| answer.content.unwrap());
    let Some(Content::Status(status)) = contents.next() else {
        panic!("the status is not first");
    };
    let mut messages = Vec::new();
    for content in contents {
        match content {
            Content::Message(message) => messages.push(message),
            Content::DeliveryTimestamp(at) => assert!(at.seconds > 0),
            Content::Status(status) => panic!("two statuses: {status:?}"),
        }
    }
    (status.code, messages)
}

pub(super) async fn receive_some(client: &Client, topic: &str) -> Vec<Message> {
    let (code, messages) = receive(client, asking(topic, Duration::from_secs(10))).await;
    assert_eq!(code, i32::from(Code::Ok));
    messages
}

pub(super) fn handle(message: &Message) -> String {
    let system = message.system_properties.as_ref();
    system.unwrap().receipt_handle.clone().unwrap()
}

fn id(message: &Message) -> &str {
    &message.system_properties.as_ref().unwrap().message_id
}

fn attempt(message: &Message) -> i32 {
    message
        .system_properties
        .as_ref()
        .unwrap()
        .delivery_attempt
        .unwrap()
}

pub(super) async fn ack(client: &Client, topic: &str, handles: &[String]) -> AckMessageResponse {
    let entries = handles.iter().map(|handle| AckMessageEntry {
        message_id: "any".to_owned(),
        receipt_handle: handle.clone(),
    });
    let request = AckMessageRequest {
        group: resource("g"),
        topic: resource(topic),
        entries: entries.collect(),
    };
    client.ask("AckMessage", request).await.unwrap()
}

async fn later(client: &Client, topic: &str, handle: &str, seconds: u64) -> i32 {
    let request = ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource(topic),
        receipt_handle: handle.to_owned(),
        invisible_duration: Some(Duration::from_secs(seconds).into()),
        ..ChangeInvisibleDurationRequest::default()
    };
    let answer: ChangeInvisibleDurationResponse = client
        .ask("ChangeInvisibleDuration", request)
        .await
        .unwrap();
    code(answer.status)
}

/// A fixture whose topic `t` the group `g` knows from its beginning.
pub(super) async fn with_group(partitions: u32) -> (Fixture, Member) {
    let fixture = Fixture::start().await;
    fixture.topic("t", partitions, &[]).await;
    let member = Member::consumer(&fixture, "c1", ClientType::SimpleConsumer).await;
    let (none, _) = receive(&member.client, asking("t", Duration::ZERO)).await;
    assert_eq!(none, i32::from(Code::MessageNotFound));
    (fixture, member)
}

#[test]
fn a_message_arrives_as_it_was_sent_and_is_settled_once() {
    run(async {
        let (_fixture, member) = with_group(1).await;
        let mut sent = message(
            "t",
            SystemProperties {
                tag: Some("paid".to_owned()),
                keys: vec!["k1".to_owned(), "k2".to_owned()],
                message_type: MessageType::Fifo.into(),
                message_group: Some("group".to_owned()),
                born_host: "host".to_owned(),
                born_timestamp: Some(WireTimestamp {
                    seconds: 5,
                    nanos: 6_000_000,
                }),
                trace_context: Some("00-ab".to_owned()),
                ..system("01AB")
            },
            "body",
        );
        sent.user_properties
            .insert("region".to_owned(), "eu".to_owned());
        assert_eq!(
            code(send(&member.client, vec![sent.clone()]).await.status),
            20_000
        );
        let got = receive_some(&member.client, "t").await.remove(0);
        let (was, is) = (
            sent.system_properties.unwrap(),
            got.system_properties.clone().unwrap(),
        );
        assert_eq!(
            (got.topic.as_ref(), &got.body),
            (sent.topic.as_ref(), &sent.body)
        );
        assert_eq!(got.user_properties, sent.user_properties);
        assert_eq!(
            (
                is.tag,
                is.keys,
                is.message_id,
                is.message_group,
                is.born_timestamp,
                is.born_host,
                is.trace_context,
                is.message_type
            ),
            (
                was.tag,
                was.keys,
                was.message_id,
                was.message_group,
                was.born_timestamp,
                was.born_host,
                was.trace_context,
                was.message_type
            ),
        );
        assert_eq!(
            is.body_digest.unwrap().checksum,
            "02083F4579E08A612425C0C1A17EE47ADD783B94"
        );
        assert_eq!(
            (is.queue_id, is.queue_offset, is.delivery_attempt),
            (0, Some(0), Some(1))
        );
        let handle = handle(&got);
        let both = [handle.clone(), "forged".to_owned()];
        let acked = ack(&member.client, "t", &both).await;
        assert_eq!(code(acked.status), i32::from(Code::MultipleResults));
        let codes: Vec<i32> = acked
            .entries
            .into_iter()
            .map(|entry| code(entry.status))
            .collect();
        assert_eq!(codes, [20_000, i32::from(Code::InvalidReceiptHandle)]);
        let again = ack(&member.client, "t", &[handle]).await;
        assert_eq!(code(again.status), i32::from(Code::InvalidReceiptHandle));
    });
}

#[test]
fn what_a_kafka_producer_wrote_reads_as_a_message() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let image = fixture.broker.api().cluster.image();
        let at = TopicPartition::new(image.topics["t"].id, 0);
        let now = fixture.env.clock.wall();
        let batch = BatchBuilder::new(now)
            .record_with_headers(
                Some(b"key"),
                Some(b"value"),
                &[("h", b"1"), ("weir.tag", b"x")],
            )
            .build();
        let log = fixture.broker.api().log;
        log.append(at, batch, Acks::All, Duration::from_secs(1))
            .await
            .unwrap();
        let got = receive_some(&member.client, "t").await.remove(0);
        let system = got.system_properties.clone().unwrap();
        assert_eq!((id(&got), &got.body[..]), ("0-0", &b"value"[..]));
        assert_eq!(
            (system.tag.as_deref(), system.keys),
            (Some("x"), vec!["key".to_owned()])
        );
        assert_eq!(got.user_properties["h"], "1");
        assert_eq!(system.store_timestamp, Some(now.into()));
        assert_eq!(system.born_timestamp, Some(now.into()));
    });
}

#[test]
fn a_group_that_was_accepted_misses_nothing_where_another_node_led_then() {
    run(async {
        let fixture = Fixture::start().await;
        let at = TopicPartition::new(fixture.topic("t", 2, &[]).await, 1);
        let log = fixture.broker.api().log;
        let sent = |value: &'static [u8]| {
            // So old that the partition is not young.
            let batch = BatchBuilder::new(Timestamp(0)).record(None, Some(value));
            log.append_forwarded(at, batch.build(), Acks::All, Duration::from_secs(1))
        };
        sent(b"before").await.unwrap();
        fixture.broker.set_leader("t", 1, Some(NodeId(9)));
        let consumer = subscribing_to(ClientType::SimpleConsumer, "g", &["t"]);
        let member = Member::start(&fixture, "c1", consumer).await;
        sent(b"after").await.unwrap();
        fixture.broker.set_leader("t", 1, Some(NodeId(1)));
        let got = receive_some(&member.client, "t").await;
        let bodies: Vec<&[u8]> = got.iter().map(|message| &message.body[..]).collect();
        assert_eq!(bodies, [b"after"]);
    });
}

#[test]
fn a_queue_that_another_node_leads_by_now_is_asked_and_settled_there() {
    run(async {
        let (fixture, member) = with_group(2).await;
        let in_queue_1 = |id| SystemProperties {
            queue_id: 1,
            ..system(id)
        };
        let sent = ["01", "02", "03"].map(|id| message("t", in_queue_1(id), "x"));
        for message in sent {
            send(&member.client, vec![message]).await;
        }
        fixture.broker.set_leader("t", 1, Some(NodeId(9)));
        let naming = |broker| ReceiveMessageRequest {
            message_queue: Some(MessageQueue {
                topic: resource("t"),
                id: 1,
                broker,
                ..MessageQueue::default()
            }),
            ..asking("t", Duration::from_millis(200))
        };
        // Without a broker it does not say that it knows a route: what is led here has nothing.
        let (none, _) = receive(&member.client, naming(None)).await;
        assert_eq!(none, i32::from(Code::MessageNotFound));
        let (found, got) = receive(&member.client, naming(Some(Broker::default()))).await;
        assert_eq!(found, i32::from(Code::Ok));
        assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ["01", "02", "03"]);
        let handles: Vec<String> = got.iter().map(handle).collect();
        assert_eq!(later(&member.client, "t", &handles[0], 20).await, 20_000);
        let both = handles[..2].to_vec();
        let expired = i32::from(Code::InvalidReceiptHandle);
        for expected in [20_000, expired] {
            let acked = ack(&member.client, "t", &both).await;
            let codes = acked.entries.into_iter().map(|entry| code(entry.status));
            assert_eq!(codes.collect::<Vec<_>>(), [expected; 2]);
        }
        // Its lease does not outlive the leadership.
        fixture.broker.set_leader("t", 1, None);
        let acked = ack(&member.client, "t", &handles[2..]).await;
        assert_eq!(code(acked.status), expired);
    });
}

#[test]
fn a_waiting_call_is_answered_when_a_message_comes_to_any_queue() {
    run(async {
        for partitions in [1, 3] {
            let (_fixture, member) = with_group(partitions).await;
            let waiting = receive_some(&member.client, "t");
            let sending = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let last = SystemProperties {
                    queue_id: i32::try_from(partitions - 1).unwrap(),
                    ..system("01")
                };
                send(&member.client, vec![message("t", last, "x")]).await
            };
            let began = std::time::Instant::now();
            let (got, _) = tokio::join!(waiting, sending);
            assert_eq!(id(&got[0]), "01");
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "{:?}",
                began.elapsed()
            );
        }
    });
}

#[test]
fn a_call_that_does_not_say_how_long_waits_as_the_clients_settings_say() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 2, &[]).await;
        let told = Duration::from_millis(300);
        let first = waiting(ClientType::SimpleConsumer, "g", told);
        let member = Member::start(&fixture, "c1", first).await;
        let request = ReceiveMessageRequest {
            long_polling_timeout: None,
            ..asking("t", Duration::ZERO)
        };
        let began = std::time::Instant::now();
        let (code, _) = receive(&member.client, request).await;
        assert_eq!(code, i32::from(Code::MessageNotFound));
        let took = began.elapsed();
        assert!(took >= told && took < Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn a_failed_message_of_a_push_consumer_comes_again_with_its_attempt_counted() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1, &[]).await;
        let member = Member::consumer(&fixture, "c1", ClientType::PushConsumer).await;
        let pushed = || ReceiveMessageRequest {
            auto_renew: true,
            invisible_duration: None,
            ..asking("t", Duration::from_secs(5))
        };
        let none = ReceiveMessageRequest {
            long_polling_timeout: Some(WireDuration::default()),
            ..pushed()
        };
        assert_eq!(receive(&member.client, none).await.1, []);
        send(&member.client, vec![message("t", system("01"), "x")]).await;
        let first = receive(&member.client, pushed()).await.1.remove(0);
        assert_eq!(attempt(&first), 1);
        assert_eq!(later(&member.client, "t", &handle(&first), 0).await, 20_000);
        let second = receive(&member.client, pushed()).await.1.remove(0);
        assert_eq!((id(&second), attempt(&second)), ("01", 2));
        // The first receipt is worth nothing any more.
        let stale = ack(&member.client, "t", &[handle(&first)]).await;
        assert_eq!(code(stale.status), i32::from(Code::InvalidReceiptHandle));
        // Given up, it is to be found among the dead letters, with where it came from.
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: resource("g"),
            topic: resource("t"),
            receipt_handle: handle(&second),
            delivery_attempt: 7,
            ..ForwardMessageToDeadLetterQueueRequest::default()
        };
        let method = "ForwardMessageToDeadLetterQueue";
        let given_up: StatusOnly = member.client.ask(method, request).await.unwrap();
        assert_eq!(code(given_up.status), 20_000);
        let image = fixture.broker.api().cluster.image();
        let letter = fixture.records(image.topics["dlq.g"].id, 0).await.remove(0);
        let attempts = letter
            .headers
            .iter()
            .find(|h| &h.key[..] == b"weir.dlq.attempts");
        let attempts = attempts.and_then(|header| header.value.as_deref());
        assert_eq!(attempts, Some(&b"7"[..]));
    });
}

#[test]
fn a_run_of_a_message_group_comes_in_one_answer_and_what_is_behind_a_failure_again() {
    run(async {
        let fixture = Fixture::start().await;
        fixture
            .topic("f", 1, &[("weir.message.type", "fifo")])
            .await;
        let subscribing = subscribing_to(ClientType::PushConsumer, "g", &["f"]);
        let member = Member::start(&fixture, "c1", subscribing).await;
        for id in ["01", "02", "03", "04"] {
            let fifo = SystemProperties {
                message_type: MessageType::Fifo.into(),
                message_group: Some("order-1".to_owned()),
                ..system(id)
            };
            send(&member.client, vec![message("f", fifo, "x")]).await;
        }
        let pushed = || ReceiveMessageRequest {
            auto_renew: true,
            invisible_duration: None,
            ..asking("f", Duration::from_secs(5))
        };
        let ids =
            |got: &[Message]| -> Vec<String> { got.iter().map(|m| id(m).to_owned()).collect() };
        let (_, run) = receive(&member.client, pushed()).await;
        assert_eq!(ids(&run), ["01", "02", "03", "04"]);
        let settled = ack(&member.client, "f", &[handle(&run[0]), handle(&run[2])]).await;
        assert_eq!(code(settled.status), i32::from(Code::Ok));
        assert_eq!(
            later(&member.client, "f", &handle(&run[1]), 0).await,
            20_000
        );
        let stale = ack(&member.client, "f", &[handle(&run[3])]).await;
        assert_eq!(code(stale.status), i32::from(Code::InvalidReceiptHandle));
        let (_, again) = receive(&member.client, pushed()).await;
        assert_eq!(
            (ids(&again), attempt(&again[0])),
            (vec!["02".to_owned()], 2)
        );
        ack(&member.client, "f", &[handle(&again[0])]).await;
        let (_, rest) = receive(&member.client, pushed()).await;
        assert_eq!((ids(&rest), attempt(&rest[0])), (vec!["04".to_owned()], 1));
    });
}

#[test]
fn a_simple_consumer_keeps_its_lease_and_its_handle() {
    run(async {
        let (_fixture, member) = with_group(1).await;
        send(&member.client, vec![message("t", system("01"), "x")]).await;
        let got = receive_some(&member.client, "t").await.remove(0);
        assert_eq!(later(&member.client, "t", &handle(&got), 20).await, 20_000);
        let illegal = i32::from(Code::IllegalInvisibleTime);
        assert_eq!(
            later(&member.client, "t", &handle(&got), 13 * 3_600).await,
            illegal
        );
        let acked = ack(&member.client, "t", &[handle(&got)]).await;
        assert_eq!(code(acked.status), 20_000);
    });
}

#[test]
fn a_client_that_says_goodbye_leaves_its_messages_to_others() {
    run(async {
        let (fixture, member) = with_group(1).await;
        send(&member.client, vec![message("t", system("01"), "x")]).await;
        let got = receive_some(&member.client, "t").await.remove(0);
        let bye = NotifyClientTerminationRequest::default();
        let bye: StatusOnly = member
            .client
            .ask("NotifyClientTermination", bye)
            .await
            .unwrap();
        assert_eq!(code(bye.status), 20_000);
        let other = Member::consumer(&fixture, "c2", ClientType::SimpleConsumer).await;
        let stale = ack(&other.client, "t", &[handle(&got)]).await;
        assert_eq!(code(stale.status), i32::from(Code::InvalidReceiptHandle));
    });
}

#[test]
fn a_client_that_is_silent_is_gone_though_its_stream_stands() {
    run(async {
        let options = RocketmqOptions {
            client_silence: Duration::from_millis(1_500),
            ..RocketmqOptions::default()
        };
        let fixture = Fixture::with(options).await;
        let at = TopicPartition::new(fixture.topic("t", 1, &[]).await, 0);
        let settings = GroupSettings {
            backoff: Backoff::List(vec![Duration::ZERO]),
            ..GroupSettings::default()
        };
        let queues = fixture.broker.api().queues;
        let made = queues.ensure_group(at, "g".into(), settings, Offset::ZERO, true);
        made.await.unwrap();
        let pushed = || ReceiveMessageRequest {
            auto_renew: true,
            invisible_duration: None,
            ..asking("t", Duration::from_millis(500))
        };
        let silent = Member::consumer(&fixture, "c1", ClientType::PushConsumer).await;
        receive(&silent.client, pushed()).await;
        send(&silent.client, vec![message("t", system("01"), "x")]).await;
        let first = receive(&silent.client, pushed()).await.1.remove(0);
        assert_eq!((id(&first), attempt(&first)), ("01", 1));
        let other = Member::consumer(&fixture, "c2", ClientType::PushConsumer).await;
        let again = loop {
            let (_, mut got) = receive(&other.client, pushed()).await;
            if let Some(message) = got.pop() {
                break message;
            }
        };
        assert_eq!((id(&again), attempt(&again)), ("01", 2));
        let settled = ack(&other.client, "t", &[handle(&again)]).await;
        assert_eq!(code(settled.status), 20_000);
    });
}

#[test]
fn requests_that_cannot_be_served_name_their_limit() {
    run(async {
        let (_fixture, member) = with_group(1).await;
        let filter = |kind: i32, expression: &str| ReceiveMessageRequest {
            filter_expression: Some(FilterExpression {
                r#type: kind,
                expression: expression.to_owned(),
            }),
            ..asking("t", Duration::ZERO)
        };
        let cases = [
            (
                ReceiveMessageRequest {
                    batch_size: 0,
                    ..asking("t", Duration::ZERO)
                },
                Code::BadRequest,
            ),
            (
                ReceiveMessageRequest {
                    invisible_duration: Some(Duration::from_secs(9).into()),
                    ..asking("t", Duration::ZERO)
                },
                Code::IllegalInvisibleTime,
            ),
            (filter(1, "a || |"), Code::IllegalFilterExpression),
            (filter(77, "a"), Code::IllegalFilterExpression),
            (
                ReceiveMessageRequest {
                    group: resource("a b"),
                    ..asking("t", Duration::ZERO)
                },
                Code::IllegalConsumerGroup,
            ),
            (asking("a b", Duration::ZERO), Code::IllegalTopic),
        ];
        for (request, refused) in cases {
            assert_eq!(receive(&member.client, request).await.0, i32::from(refused));
        }
    });
}

#[test]
fn tags_that_are_not_subscribed_to_are_passed_over() {
    run(async {
        let (_fixture, member) = with_group(1).await;
        for (id, tag) in [("1", "a"), ("2", "b"), ("3", "c")] {
            let tagged = SystemProperties {
                tag: Some(tag.to_owned()),
                ..system(id)
            };
            send(&member.client, vec![message("t", tagged, "x")]).await;
        }
        let request = ReceiveMessageRequest {
            filter_expression: Some(FilterExpression {
                r#type: 1,
                expression: "a || c".to_owned(),
            }),
            ..asking("t", Duration::from_secs(5))
        };
        let got = receive(&member.client, request).await.1;
        assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ["1", "3"]);
    });
}

#[test]
fn a_delayed_message_comes_when_it_is_due_or_is_taken_back() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let delayed = |id: &str, after: Duration| {
            let due = fixture.env.clock.wall() + after;
            message(
                "t",
                SystemProperties {
                    message_type: MessageType::Delay.into(),
                    delivery_timestamp: Some(due.into()),
                    ..system(id)
                },
                "x",
            )
        };
        let kept = send(
            &member.client,
            vec![delayed("far", Duration::from_secs(3_600))],
        )
        .await;
        assert_eq!(code(kept.status), 20_000);
        let recall = || RecallMessageRequest {
            topic: resource("t"),
            recall_handle: kept.entries[0].recall_handle.clone(),
        };
        let soon = fixture.env.clock.wall() + Duration::from_millis(300);
        send(
            &member.client,
            vec![delayed("soon", Duration::from_millis(300))],
        )
        .await;
        let got = receive_some(&member.client, "t").await;
        assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ["soon"]);
        assert!(fixture.env.clock.wall() >= soon);
        for _ in 0..2 {
            let recalled: RecallMessageResponse =
                member.client.ask("RecallMessage", recall()).await.unwrap();
            assert_eq!(
                (code(recalled.status), &*recalled.message_id),
                (20_000, "far")
            );
        }
        let forged = RecallMessageRequest {
            recall_handle: "x".to_owned(),
            ..recall()
        };
        let forged: RecallMessageResponse =
            member.client.ask("RecallMessage", forged).await.unwrap();
        assert_eq!(code(forged.status), i32::from(Code::InvalidReceiptHandle));
    });
}

#[test]
fn half_messages_are_seen_when_committed_and_asked_about_when_forgotten() {
    run(async {
        let (fixture, consumer) = with_group(1).await;
        let mut producer = Member::start(&fixture, "p1", publishing(&["t"])).await;
        let half = |id: &str, recovery: u64| {
            message(
                "t",
                SystemProperties {
                    message_type: MessageType::Transaction.into(),
                    orphaned_transaction_recovery_duration: Some(
                        Duration::from_secs(recovery).into(),
                    ),
                    ..system(id)
                },
                "x",
            )
        };
        let end = |transaction_id: String, resolution: i32, source: i32| {
            let request = EndTransactionRequest {
                topic: resource("t"),
                transaction_id,
                resolution,
                source,
                ..EndTransactionRequest::default()
            };
            let client = producer.client.clone();
            async move {
                let answer: StatusOnly = client.ask("EndTransaction", request).await.unwrap();
                code(answer.status)
            }
        };
        let prepared = send(
            &producer.client,
            vec![half("1", 60), half("2", 60), half("3", 1)],
        )
        .await;
        assert_eq!(code(prepared.status), 20_000);
        let ids: Vec<String> = prepared
            .entries
            .into_iter()
            .map(|e| e.transaction_id)
            .collect();
        assert_eq!(end(ids[1].clone(), 2, 1).await, 20_000);
        assert_eq!(end(ids[0].clone(), 1, 1).await, 20_000);
        // The first decision stands, and may be repeated.
        assert_eq!(end(ids[0].clone(), 1, 1).await, 20_000);
        let invalid = i32::from(Code::InvalidTransactionId);
        assert_eq!(end(ids[0].clone(), 2, 1).await, invalid);
        assert_eq!(end("forged".to_owned(), 1, 1).await, invalid);
        let got = receive_some(&consumer.client, "t").await;
        assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ["1"]);

        let asked = producer.incoming.message().await.unwrap().unwrap();
        let Some(Command::RecoverOrphanedTransaction(asked)) = asked.command else {
            panic!("another command: {asked:?}");
        };
        assert_eq!(
            (
                asked.transaction_id.as_str(),
                id(asked.message.as_ref().unwrap())
            ),
            (ids[2].as_str(), "3")
        );
        assert_eq!(end(asked.transaction_id, 1, 2).await, 20_000);
        let got = receive_some(&consumer.client, "t").await;
        assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ["3"]);
    });
}
