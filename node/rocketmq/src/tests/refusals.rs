//! Bad input, whole: what every call says of what it cannot serve. One table, a row a kind of
//! mistake: the code that clients act on, and the limit or the remedy in words.

use std::time::Duration;

use bytes::Bytes;
use weir_api::queues::{HalfHandle, ScheduleHandle};
use weir_base::Timestamp;

use super::handshake::{publishing, settings, subscribing, told};
use super::sending::{message, send, system};
use super::{Client, Fixture, resource, run};
use crate::RocketmqOptions;
use crate::proto::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, ClientType, Code, EndTransactionRequest, FilterExpression,
    ForwardMessageToDeadLetterQueueRequest, HeartbeatRequest, Message, MessageQueue, MessageType,
    Publishing, RecallMessageRequest, RecallMessageResponse, ReceiveMessageRequest,
    ReceiveMessageResponse, SendMessageRequest, SendMessageResponse, Status, StatusOnly,
    SystemProperties, TelemetryCommand, WireTimestamp, command::Command, pub_sub::PubSub,
    received::Content,
};

const MIB: usize = 1024 * 1024;

/// One request that must be refused.
enum Asked {
    Send(Message),
    Receive(ReceiveMessageRequest),
    Ack(String),
    Later(String, Option<Duration>),
    GiveUp(String),
    End(EndTransactionRequest),
    Recall(String),
    Beat(i32),
    Tell(TelemetryCommand),
}

impl Asked {
    /// What the answer says.
    async fn of(self, client: &Client) -> (i32, String) {
        let (group, topic) = (resource("g"), resource("t"));
        let status: Option<Status> = match self {
            Asked::Send(message) => {
                let request = SendMessageRequest {
                    messages: vec![message],
                };
                let answer: SendMessageResponse = client.ask("SendMessage", request).await.unwrap();
                assert_eq!(answer.entries, []);
                answer.status
            }
            Asked::Receive(request) => {
                let mut answers: Vec<ReceiveMessageResponse> =
                    client.ask_for_all("ReceiveMessage", request).await;
                match answers.remove(0).content {
                    Some(Content::Status(status)) => Some(status),
                    other => panic!("{other:?}"),
                }
            }
            Asked::Ack(receipt_handle) => {
                let entry = AckMessageEntry {
                    message_id: "any".to_owned(),
                    receipt_handle,
                };
                let request = AckMessageRequest {
                    group,
                    topic,
                    entries: vec![entry],
                };
                let answer: AckMessageResponse = client.ask("AckMessage", request).await.unwrap();
                answer.entries.into_iter().next().unwrap().status
            }
            Asked::Later(receipt_handle, duration) => {
                let request = ChangeInvisibleDurationRequest {
                    group,
                    topic,
                    receipt_handle,
                    invisible_duration: duration.map(Into::into),
                    ..ChangeInvisibleDurationRequest::default()
                };
                let method = "ChangeInvisibleDuration";
                let answer: ChangeInvisibleDurationResponse =
                    client.ask(method, request).await.unwrap();
                answer.status
            }
            Asked::GiveUp(receipt_handle) => {
                let request = ForwardMessageToDeadLetterQueueRequest {
                    group,
                    topic,
                    receipt_handle,
                    ..ForwardMessageToDeadLetterQueueRequest::default()
                };
                let method = "ForwardMessageToDeadLetterQueue";
                let answer: StatusOnly = client.ask(method, request).await.unwrap();
                answer.status
            }
            Asked::End(request) => {
                let answer: StatusOnly = client.ask("EndTransaction", request).await.unwrap();
                answer.status
            }
            Asked::Recall(recall_handle) => {
                let request = RecallMessageRequest {
                    topic,
                    recall_handle,
                };
                let answer: RecallMessageResponse =
                    client.ask("RecallMessage", request).await.unwrap();
                answer.status
            }
            Asked::Beat(client_type) => {
                let request = HeartbeatRequest { group, client_type };
                let answer: StatusOnly = client.ask("Heartbeat", request).await.unwrap();
                answer.status
            }
            Asked::Tell(command) => {
                let (_sender, mut incoming) = client.telemetry(command).await.unwrap();
                let error = incoming.message().await.unwrap_err();
                assert_eq!(error.code(), tonic::Code::InvalidArgument);
                // gRPC has no place for the code, so the words begin with it.
                let (code, words) = error.message().split_once(' ').unwrap();
                return (code.parse().unwrap(), words.to_owned());
            }
        };
        let status = status.expect("a status");
        (status.code, status.message)
    }
}

fn told_as(kind: i32, consumer: bool) -> TelemetryCommand {
    let mut command = match consumer {
        true => subscribing(ClientType::PushConsumer, "g"),
        false => publishing(&["t"]),
    };
    if let Some(Command::Settings(settings)) = &mut command.command {
        settings.client_type = Some(kind);
    }
    command
}

fn asking(filter: Option<(i32, &str)>, lease: Duration, batch_size: i32) -> Asked {
    Asked::Receive(ReceiveMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue {
            topic: resource("t"),
            id: -1,
            ..MessageQueue::default()
        }),
        filter_expression: filter.map(|(kind, expression)| FilterExpression {
            r#type: kind,
            expression: expression.to_owned(),
        }),
        batch_size,
        invisible_duration: Some(lease.into()),
        long_polling_timeout: Some(Duration::ZERO.into()),
        ..ReceiveMessageRequest::default()
    })
}

fn filtered(kind: i32, expression: &str) -> Asked {
    asking(Some((kind, expression)), Duration::from_secs(30), 1)
}

fn ending(transaction_id: String, resolution: i32) -> Asked {
    Asked::End(EndTransactionRequest {
        topic: resource("t"),
        transaction_id,
        resolution,
        source: 1,
        ..EndTransactionRequest::default()
    })
}

fn sending(topic: &str, change: impl FnOnce(&mut SystemProperties)) -> Asked {
    let mut changed = system("01");
    change(&mut changed);
    Asked::Send(message(topic, changed, "x"))
}

fn sized(bytes: usize) -> Asked {
    let mut sent = message("t", system("01"), "");
    sent.body = Bytes::from(vec![b'x'; bytes]);
    Asked::Send(sent)
}

/// The same text, for a partition that the topic does not have.
fn elsewhere(handle: &str) -> String {
    let (_, rest) = handle.split_once('.').unwrap();
    format!("99.{rest}")
}

/// What has the right form and was never given.
fn forged(handle: &str) -> String {
    let mut forged = handle.to_owned();
    let last = forged.pop();
    forged.push(if last == Some('0') { '1' } else { '0' });
    forged
}

/// A receipt, a transaction's id and a recall handle that were given.
async fn given(client: &Client, soon: Timestamp) -> [String; 3] {
    let Asked::Receive(none) = asking(None, Duration::from_secs(30), 1) else {
        panic!("it receives");
    };
    let empty: Vec<ReceiveMessageResponse> =
        client.ask_for_all("ReceiveMessage", none.clone()).await;
    assert_eq!(empty.len(), 2, "{empty:?}");
    send(client, vec![message("t", system("01"), "x")]).await;
    let some = ReceiveMessageRequest {
        long_polling_timeout: Some(Duration::from_secs(5).into()),
        ..none
    };
    let answers: Vec<ReceiveMessageResponse> = client.ask_for_all("ReceiveMessage", some).await;
    let got = answers.into_iter().find_map(|answer| match answer.content {
        Some(Content::Message(message)) => Some(message),
        Some(Content::Status(status)) if status.code != i32::from(Code::Ok) => panic!("{status:?}"),
        Some(Content::Status(_) | Content::DeliveryTimestamp(_)) | None => None,
    });
    let got = got.expect("a message");
    let receipt = got.system_properties.unwrap().receipt_handle.unwrap();
    let kept = vec![
        SystemProperties {
            message_type: MessageType::Transaction.into(),
            ..system("02")
        },
        SystemProperties {
            message_type: MessageType::Delay.into(),
            delivery_timestamp: Some(soon.into()),
            ..system("03")
        },
    ];
    let kept = kept.into_iter().map(|system| message("t", system, "x"));
    let kept = send(client, kept.collect()).await;
    assert_eq!(kept.entries.len(), 2, "{kept:?}");
    let mut kept = kept.entries.into_iter();
    let half = kept.next().unwrap().transaction_id;
    let recall = kept.next().unwrap().recall_handle;
    [receipt, half, recall]
}

#[test]
fn every_kind_of_bad_input_has_its_code_and_names_the_limit() {
    run(async {
        let options = RocketmqOptions {
            request_bytes_max: 2 * MIB,
            body_bytes_max: MIB,
            ..RocketmqOptions::default()
        };
        let fixture = Fixture::with(options).await;
        fixture.topic("t", 1, &[]).await;
        for kind in ["normal", "fifo", "delay", "transaction"] {
            fixture.topic(kind, 1, &[("weir.message.type", kind)]).await;
        }
        let client = fixture.client("c1").await;
        let first = subscribing(ClientType::SimpleConsumer, "g");
        let (_sender, mut incoming) = client.telemetry(first).await.unwrap();
        told(incoming.message().await.unwrap());
        let [receipt, half, recall] = given(
            &client,
            fixture.env.clock.wall() + Duration::from_secs(3_600),
        )
        .await;
        let expired = receipt.clone();
        let settled = Asked::Ack(receipt.clone()).of(&client).await;
        assert_eq!(settled.0, i32::from(Code::Ok));
        let of_nobody = HalfHandle::new((1, 2), 0, weir_api::queues::EntryNumber(7));
        let recall_of_nobody =
            ScheduleHandle::new((1, 2), 0, Timestamp(5), weir_api::queues::EntryNumber(7));
        let longest = WireTimestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        let rows: Vec<(&str, Asked, Code, &str)> = vec![
            // Values that the protocol does not have.
            (
                "producer's client type",
                Asked::Tell(told_as(99, false)),
                Code::UnrecognizedClientType,
                "99",
            ),
            (
                "consumer's client type",
                Asked::Tell(told_as(-1, true)),
                Code::UnrecognizedClientType,
                "0 to 6",
            ),
            (
                "heartbeat's client type",
                Asked::Beat(7),
                Code::UnrecognizedClientType,
                "0 to 6",
            ),
            (
                "message type",
                sending("t", |s| s.message_type = 99),
                Code::MessagePropertyConflictWithType,
                "99",
            ),
            (
                "body encoding",
                sending("t", |s| s.body_encoding = 99),
                Code::MessageCorrupted,
                "99",
            ),
            (
                "resolution",
                ending(half.clone(), 99),
                Code::BadRequest,
                "99",
            ),
            (
                "filter type",
                filtered(99, "a"),
                Code::IllegalFilterExpression,
                "99",
            ),
            (
                "no arm of settings",
                Asked::Tell(settings(ClientType::Producer, None)),
                Code::InvalidClientProperties,
                "publishes",
            ),
            // The wrong type of message for a topic.
            (
                "NORMAL to fifo",
                sending("fifo", |_| ()),
                Code::MessagePropertyConflictWithType,
                "FIFO",
            ),
            (
                "NORMAL to delay",
                sending("delay", |_| ()),
                Code::MessagePropertyConflictWithType,
                "DELAY",
            ),
            (
                "NORMAL to transaction",
                sending("transaction", |_| ()),
                Code::MessagePropertyConflictWithType,
                "TRANSACTION",
            ),
            (
                "FIFO to normal",
                sending("normal", |s| {
                    s.message_type = MessageType::Fifo.into();
                    s.message_group = Some("m".to_owned());
                }),
                Code::MessagePropertyConflictWithType,
                "weir.message.type",
            ),
            (
                "TRANSACTION to normal",
                sending("normal", |s| s.message_type = 4),
                Code::MessagePropertyConflictWithType,
                "NORMAL",
            ),
            (
                "LITE",
                sending("t", |s| s.message_type = 5),
                Code::Unsupported,
                "NORMAL, FIFO",
            ),
            (
                "PRIORITY",
                sending("t", |s| s.message_type = 6),
                Code::Unsupported,
                "NORMAL, FIFO",
            ),
            // Receipts.
            (
                "ack of an ended lease",
                Asked::Ack(expired.clone()),
                Code::InvalidReceiptHandle,
                "has ended",
            ),
            (
                "ack of a forged receipt",
                Asked::Ack(forged(&receipt)),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            (
                "ack of no receipt",
                Asked::Ack("x".to_owned()),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            (
                "ack at no partition",
                Asked::Ack(elsewhere(&receipt)),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            (
                "later for an ended lease",
                Asked::Later(expired.clone(), Some(Duration::from_secs(30))),
                Code::InvalidReceiptHandle,
                "has ended",
            ),
            (
                "later at no partition",
                Asked::Later(elsewhere(&receipt), Some(Duration::from_secs(30))),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            (
                "later without a time",
                Asked::Later(expired.clone(), None),
                Code::IllegalInvisibleTime,
                "missing",
            ),
            (
                "given up after its end",
                Asked::GiveUp(expired.clone()),
                Code::InvalidReceiptHandle,
                "has ended",
            ),
            (
                "given up at no partition",
                Asked::GiveUp(elsewhere(&receipt)),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            // Transactions.
            (
                "id that is none",
                ending("x".to_owned(), 1),
                Code::InvalidTransactionId,
                "no transaction id",
            ),
            (
                "id with another seal",
                ending(of_nobody.to_string(), 1),
                Code::InvalidTransactionId,
                "not given",
            ),
            (
                "id at no partition",
                ending(elsewhere(&half), 1),
                Code::InvalidTransactionId,
                "not given",
            ),
            // Recalls.
            (
                "recall handle that is none",
                Asked::Recall("x".to_owned()),
                Code::InvalidReceiptHandle,
                "no recall handle",
            ),
            (
                "recall handle with another seal",
                Asked::Recall(format!("{recall_of_nobody}:03")),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            (
                "recall handle at no partition",
                Asked::Recall(elsewhere(&recall)),
                Code::InvalidReceiptHandle,
                "not given",
            ),
            // Filters.
            (
                "tags",
                filtered(1, "a || |"),
                Code::IllegalFilterExpression,
                "byte",
            ),
            (
                "SQL that ends early",
                filtered(2, "a ="),
                Code::IllegalFilterExpression,
                "byte 3",
            ),
            (
                "SQL with a stray word",
                filtered(2, "a = 1 b"),
                Code::IllegalFilterExpression,
                "byte",
            ),
            (
                "SQL that is too long",
                filtered(2, &format!("a = '{}'", "x".repeat(70_000))),
                Code::IllegalFilterExpression,
                "more than",
            ),
            // Times and sizes.
            (
                "delay",
                sending("t", |s| {
                    s.message_type = MessageType::Delay.into();
                    s.delivery_timestamp = Some(longest);
                }),
                Code::IllegalDeliveryTime,
                "366 days",
            ),
            (
                "lease",
                asking(None, Duration::from_secs(13 * 3_600), 1),
                Code::IllegalInvisibleTime,
                "43200s",
            ),
            (
                "batch",
                asking(None, Duration::from_secs(30), 0),
                Code::BadRequest,
                "256",
            ),
            ("no body", sized(0), Code::MessageBodyEmpty, "empty"),
            ("body", sized(MIB + 1), Code::MessageBodyTooLarge, "1048576"),
            ("request", sized(3 * MIB), Code::PayloadTooLarge, "2097152"),
            (
                "request that is a stream's",
                Asked::Receive(ReceiveMessageRequest {
                    attempt_id: Some("x".repeat(3 * MIB)),
                    ..ReceiveMessageRequest::default()
                }),
                Code::PayloadTooLarge,
                "2097152",
            ),
            (
                "settings",
                Asked::Tell(settings(
                    ClientType::Producer,
                    Some(PubSub::Publishing(Publishing {
                        topics: vec![resource(&"x".repeat(300 * 1024)).unwrap()],
                        ..Publishing::default()
                    })),
                )),
                Code::PayloadTooLarge,
                "262144",
            ),
        ];
        for (kind, asked, code, words) in rows {
            let (got, why) = asked.of(&client).await;
            assert_eq!(got, i32::from(code), "{kind}: {why}");
            assert!(why.contains(words), "{kind}: {why}");
        }
        // Nothing of it was stored, and what was given is still good.
        let ended = ending(half, 2).of(&client).await;
        assert_eq!(ended.0, i32::from(Code::Ok), "{}", ended.1);
        let recalled = Asked::Recall(recall).of(&client).await;
        assert_eq!(recalled.0, i32::from(Code::Ok), "{}", recalled.1);
        let image = fixture.broker.api().cluster.image();
        let stored = fixture.records(image.topics["t"].id, 0).await;
        assert_eq!(stored.len(), 1);
    });
}
