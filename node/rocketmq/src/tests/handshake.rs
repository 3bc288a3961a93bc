//! What every client does before its first message.

use std::time::Duration;

use weir_api::queues::{Backoff, GroupSettings};
use weir_base::{NodeId, Offset, TopicPartition};

use super::{Client, Fixture, code, resource, run};
use crate::RocketmqOptions;
use crate::proto::{
    ClientType, Code, CustomizedBackoff, HeartbeatRequest, MessageType, Nonce,
    NotifyClientTerminationRequest, Publishing, QueryAssignmentRequest, QueryAssignmentResponse,
    QueryRouteRequest, QueryRouteResponse, RetryPolicy, Settings, StatusOnly, Subscription,
    SubscriptionEntry, TelemetryCommand, ThreadStackTrace, Unread, WireDuration, command::Command,
    pub_sub::PubSub, strategy::Strategy,
};

pub(super) fn settings(kind: ClientType, pub_sub: Option<PubSub>) -> TelemetryCommand {
    let timeout = WireDuration::from(Duration::from_secs(3));
    TelemetryCommand {
        status: None,
        command: Some(Command::Settings(Settings {
            client_type: Some(kind.into()),
            request_timeout: Some(timeout),
            pub_sub,
            ..Settings::default()
        })),
    }
}

pub(super) fn publishing(topics: &[&str]) -> TelemetryCommand {
    let topics = topics.iter().filter_map(|topic| resource(topic));
    let publishing = Publishing {
        topics: topics.collect(),
        ..Publishing::default()
    };
    settings(ClientType::Producer, Some(PubSub::Publishing(publishing)))
}

pub(super) fn subscribing(kind: ClientType, group: &str) -> TelemetryCommand {
    subscribing_to(kind, group, &[])
}

pub(super) fn subscribing_to(kind: ClientType, group: &str, topics: &[&str]) -> TelemetryCommand {
    let entries = topics.iter().map(|topic| SubscriptionEntry {
        topic: resource(topic),
        expression: None,
    });
    let subscription = Subscription {
        group: resource(group),
        subscriptions: entries.collect(),
        ..Subscription::default()
    };
    settings(kind, Some(PubSub::Subscription(subscription)))
}

/// A consumer whose settings say how long its receives wait, as Go's do.
pub(super) fn waiting(kind: ClientType, group: &str, wait: Duration) -> TelemetryCommand {
    let subscription = Subscription {
        group: resource(group),
        long_polling_timeout: Some(wait.into()),
        ..Subscription::default()
    };
    settings(kind, Some(PubSub::Subscription(subscription)))
}

pub(super) fn told(command: Option<TelemetryCommand>) -> Settings {
    let command = command.expect("an answer");
    assert_eq!(code(command.status), i32::from(Code::Ok));
    match command.command {
        Some(Command::Settings(settings)) => settings,
        other => panic!("not settings: {other:?}"),
    }
}

async fn heartbeat(client: &Client) -> i32 {
    let beat = client.ask::<_, StatusOnly>("Heartbeat", HeartbeatRequest::default());
    code(beat.await.unwrap().status)
}

#[test]
fn settings_are_answered_at_once_and_the_client_is_known_until_its_stream_ends() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        assert_eq!(
            heartbeat(&client).await,
            i32::from(Code::UnrecognizedClientType)
        );
        let (sender, mut incoming) = client.telemetry(publishing(&["t"])).await.unwrap();
        let answer = told(incoming.message().await.unwrap());
        assert_eq!(answer.request_timeout.unwrap().seconds, 3);
        assert_eq!(answer.backoff_policy.unwrap().max_attempts, 3);
        let Some(PubSub::Publishing(publishing)) = answer.pub_sub else {
            panic!("the other arm came back");
        };
        assert_eq!(publishing.max_body_size, 4 * 1024 * 1024);
        assert!(publishing.validate_message_type);
        assert_eq!(publishing.topics.len(), 1);
        assert_eq!(heartbeat(&client).await, i32::from(Code::Ok));
        drop(sender);
        assert!(incoming.message().await.unwrap().is_none());
        while heartbeat(&client).await == i32::from(Code::Ok) {}
    });
}

#[test]
fn consumers_get_the_ladder_and_say_goodbye() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        let subscribing = subscribing(ClientType::PushConsumer, "g");
        let (_sender, mut incoming) = client.telemetry(subscribing).await.unwrap();
        let answer = told(incoming.message().await.unwrap());
        assert_eq!(answer.backoff_policy.unwrap().max_attempts, 17);
        let Some(PubSub::Subscription(subscription)) = answer.pub_sub else {
            panic!("the other arm came back");
        };
        assert_eq!(subscription.receive_batch_size, Some(32));
        assert_eq!(subscription.fifo, Some(false));
        assert_eq!(subscription.long_polling_timeout.unwrap().seconds, 20);
        let bye = NotifyClientTerminationRequest::default();
        let bye = client
            .ask::<_, StatusOnly>("NotifyClientTermination", bye)
            .await;
        assert_eq!(code(bye.unwrap().status), i32::from(Code::Ok));
        assert_eq!(
            heartbeat(&client).await,
            i32::from(Code::UnrecognizedClientType)
        );
    });
}

#[test]
fn the_wait_that_a_client_tells_is_the_one_in_force() {
    run(async {
        let fixture = Fixture::start().await;
        for (id, told_millis, in_force) in
            [("c1", 0, 20_000), ("c2", 200, 200), ("c3", 60_000, 20_000)]
        {
            let told_wait = Duration::from_millis(told_millis);
            let client = fixture.client(id).await;
            let waiting = waiting(ClientType::SimpleConsumer, "g", told_wait);
            let (_sender, mut incoming) = client.telemetry(waiting).await.unwrap();
            let answer = told(incoming.message().await.unwrap());
            let Some(PubSub::Subscription(subscription)) = answer.pub_sub else {
                panic!("the other arm came back");
            };
            let wait = subscription.long_polling_timeout.unwrap().to_duration();
            assert_eq!(wait, Some(Duration::from_millis(in_force)), "{id}");
        }
    });
}

#[test]
fn consumers_get_the_pauses_that_their_group_was_given() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 1, &[]).await;
        let steps = vec![Duration::from_secs(1), Duration::from_millis(2_500)];
        let given = GroupSettings {
            attempts_max: 3,
            backoff: Backoff::List(steps.clone()),
            ..GroupSettings::default()
        };
        let at = TopicPartition::new(topic, 0);
        let queues = fixture.broker.api().queues;
        let made = queues.ensure_group(at, "g".into(), given, Offset::ZERO, false);
        made.await.unwrap();
        // Also by a node that leads nothing of the topic.
        fixture.broker.set_leader("t", 0, Some(NodeId(9)));
        let client = fixture.client("c1").await;
        let subscribing = subscribing_to(ClientType::PushConsumer, "g", &["t"]);
        let (_sender, mut incoming) = client.telemetry(subscribing).await.unwrap();
        let policy = told(incoming.message().await.unwrap()).backoff_policy;
        let next = steps.into_iter().map(WireDuration::from).collect();
        let told = RetryPolicy {
            max_attempts: 4,
            strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff { next })),
        };
        assert_eq!(policy, Some(told));
    });
}

#[test]
fn consumers_get_pauses_that_grow_as_the_list_that_they_make() {
    run(async {
        let fixture = Fixture::start().await;
        let at = TopicPartition::new(fixture.topic("t", 1, &[]).await, 0);
        let queues = fixture.broker.api().queues;
        let given = |attempts_max, multiplier_percent| GroupSettings {
            attempts_max,
            backoff: Backoff::Exponential {
                initial: Duration::from_millis(500),
                max: Duration::from_millis(3_000),
                multiplier_percent,
                jitter_percent: 50,
            },
            ..GroupSettings::default()
        };
        for (group, settings, millis) in [
            ("doubling", given(16, 200), &[500, 1_000, 2_000, 3_000][..]),
            ("few", given(2, 200), &[500, 1_000]),
            ("steady", given(16, 100), &[500]),
        ] {
            let made = queues.ensure_group(at, group.into(), settings, Offset::ZERO, false);
            made.await.unwrap();
            let client = fixture.client("c1").await;
            let subscribing = subscribing_to(ClientType::PushConsumer, group, &["t"]);
            let (_sender, mut incoming) = client.telemetry(subscribing).await.unwrap();
            let policy = told(incoming.message().await.unwrap()).backoff_policy;
            assert_eq!(pauses(policy), millis, "{group}");
        }
    });
}

/// The pauses of a policy that lists them.
fn pauses(policy: Option<RetryPolicy>) -> Vec<u128> {
    let Some(Strategy::CustomizedBackoff(listed)) = policy.and_then(|p| p.strategy) else {
        panic!("no list");
    };
    let next = listed.next.into_iter();
    next.map(|pause| pause.to_duration().unwrap().as_millis())
        .collect()
}

#[test]
fn consumers_are_told_what_an_operator_changed() {
    run(async {
        let fixture = Fixture::start().await;
        let at = TopicPartition::new(fixture.topic("t", 1, &[]).await, 0);
        let client = fixture.client("c1").await;
        let subscribing = subscribing_to(ClientType::PushConsumer, "g", &["t"]);
        let (_sender, mut incoming) = client.telemetry(subscribing).await.unwrap();
        let first = told(incoming.message().await.unwrap());
        assert_eq!(pauses(first.backoff_policy).len(), 18);
        let changed = GroupSettings {
            attempts_max: 5,
            backoff: Backoff::List(vec![Duration::from_secs(7)]),
            fifo: true,
            ..GroupSettings::default()
        };
        let queues = fixture.broker.api().queues;
        let made = queues.ensure_group(at, "g".into(), changed, Offset::ZERO, true);
        made.await.unwrap();
        let second = told(incoming.message().await.unwrap());
        assert_eq!(second.backoff_policy.as_ref().unwrap().max_attempts, 6);
        assert_eq!(pauses(second.backoff_policy), [7_000]);
        let Some(PubSub::Subscription(subscription)) = second.pub_sub else {
            panic!("the other arm came");
        };
        assert_eq!(subscription.fifo, Some(true));
        assert_eq!(subscription.receive_batch_size, Some(32));
    });
}

#[test]
fn commands_that_nobody_asked_for_are_read_past() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        let (sender, mut incoming) = client.telemetry(publishing(&["t"])).await.unwrap();
        told(incoming.message().await.unwrap());
        let nonce = "n".to_owned();
        for command in [
            Command::ThreadStackTrace(ThreadStackTrace {
                nonce: nonce.clone(),
                thread_stack_trace: Some("main".to_owned()),
            }),
            Command::VerifyMessageResult(Nonce { nonce }),
        ] {
            let told = TelemetryCommand {
                status: Some(crate::errors::ok()),
                command: Some(command),
            };
            sender.send(told).await.unwrap();
        }
        sender.send(publishing(&["t"])).await.unwrap();
        told(incoming.message().await.unwrap());
    });
}

#[test]
fn settings_that_cannot_be_served_end_the_stream_with_the_reason() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        for (bad, code) in [
            (
                settings(ClientType::Producer, None),
                tonic::Code::InvalidArgument,
            ),
            (publishing(&["a b"]), tonic::Code::InvalidArgument),
            (
                subscribing(ClientType::PushConsumer, ""),
                tonic::Code::InvalidArgument,
            ),
            (
                subscribing(ClientType::LitePushConsumer, "g"),
                tonic::Code::Internal,
            ),
        ] {
            let (_sender, mut incoming) = client.telemetry(bad).await.unwrap();
            assert_eq!(incoming.message().await.unwrap_err().code(), code);
        }
        assert_eq!(
            heartbeat(&client).await,
            i32::from(Code::UnrecognizedClientType)
        );
    });
}

#[test]
fn a_consumer_waits_for_its_topic_to_be_known_here() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        let kind = ClientType::PushConsumer;
        let unknown = subscribing_to(kind, "g", &["t"]);
        let (_sender, mut incoming) = client.telemetry(unknown.clone()).await.unwrap();
        let refused = incoming.message().await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let (_sender, mut incoming) = client.telemetry(unknown).await.unwrap();
        let making = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fixture
                .topic("t", 1, &[("weir.message.type", "fifo")])
                .await;
        };
        let (answer, ()) = tokio::join!(incoming.message(), making);
        let Some(PubSub::Subscription(subscription)) = told(answer.unwrap()).pub_sub else {
            panic!("the other arm came back");
        };
        assert_eq!(subscription.fifo, Some(true));
    });
}

#[test]
fn more_clients_than_allowed_are_turned_away() {
    run(async {
        let options = RocketmqOptions {
            clients_max: 1,
            ..RocketmqOptions::default()
        };
        let fixture = Fixture::with(options).await;
        let first = fixture.client("c1").await;
        let (_sender, mut incoming) = first.telemetry(publishing(&[])).await.unwrap();
        told(incoming.message().await.unwrap());
        let second = fixture.client("c2").await;
        let (_sender, mut incoming) = second.telemetry(publishing(&[])).await.unwrap();
        let error = incoming.message().await.unwrap_err();
        assert!(error.message().contains("1 clients"), "{error}");
    });
}

#[test]
fn a_client_without_an_id_is_refused_in_every_answer() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("").await;
        assert_eq!(heartbeat(&client).await, i32::from(Code::ClientIdRequired));
        let error = client.telemetry(publishing(&[])).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    });
}

async fn route(client: &Client, topic: &str) -> QueryRouteResponse {
    let request = QueryRouteRequest {
        topic: resource(topic),
        endpoints: None,
    };
    client.ask("QueryRoute", request).await.unwrap()
}

#[test]
fn a_route_names_every_queue_in_order_with_its_leader() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 3, &[]).await;
        let client = fixture.client("c1").await;
        let answer = route(&client, "t").await;
        assert_eq!(code(answer.status), i32::from(Code::Ok));
        let ids: Vec<i32> = answer.message_queues.iter().map(|queue| queue.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        for queue in &answer.message_queues {
            assert_eq!(queue.accept_message_types, [1, 2, 3, 4]);
            let broker = queue.broker.as_ref().unwrap();
            let address = &broker.endpoints.as_ref().unwrap().addresses[0];
            assert_eq!(
                address.port,
                i32::from(fixture.front.local_address().port())
            );
        }
        // Clients count queues: a route that lacks one would send groups elsewhere.
        fixture.broker.set_leader("t", 1, None);
        assert_eq!(
            code(route(&client, "t").await.status),
            i32::from(Code::HaNotAvailable)
        );
    });
}

#[test]
fn a_topic_of_one_type_says_so() {
    run(async {
        let fixture = Fixture::start().await;
        fixture
            .topic("f", 1, &[("weir.message.type", "fifo")])
            .await;
        let client = fixture.client("c1").await;
        let queues = route(&client, "f").await.message_queues;
        assert_eq!(
            queues[0].accept_message_types,
            [i32::from(MessageType::Fifo)]
        );
    });
}

#[test]
fn asking_for_a_route_makes_the_topic_where_allowed() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        let answer = route(&client, "new%2Etopic").await;
        assert_eq!(code(answer.status), i32::from(Code::Ok));
        let image = fixture.broker.api().cluster.image();
        assert!(image.topics.contains_key("new.topic"));
        assert_eq!(
            code(route(&client, "a b").await.status),
            i32::from(Code::IllegalTopic)
        );

        let options = RocketmqOptions {
            auto_create_topics: false,
            ..RocketmqOptions::default()
        };
        let fixture = Fixture::with(options).await;
        let client = fixture.client("c1").await;
        assert_eq!(
            code(route(&client, "new").await.status),
            i32::from(Code::TopicNotFound)
        );
    });
}

#[test]
fn an_assignment_is_one_queue_a_node() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 3, &[]).await;
        let client = fixture.client("c1").await;
        let request = QueryAssignmentRequest {
            topic: resource("t"),
            group: resource("g"),
            endpoints: None,
        };
        let answer: QueryAssignmentResponse = client.ask("QueryAssignment", request).await.unwrap();
        assert_eq!(code(answer.status), i32::from(Code::Ok));
        let queues = answer
            .assignments
            .iter()
            .filter_map(|a| a.message_queue.as_ref());
        assert_eq!(queues.map(|queue| queue.id).collect::<Vec<_>>(), [-1]);
    });
}

#[test]
fn what_is_not_served_says_so() {
    run(async {
        let fixture = Fixture::start().await;
        let client = fixture.client("c1").await;
        for method in ["PullMessage", "GetOffset", "SyncLiteSubscription"] {
            let answer: StatusOnly = client.ask(method, Unread {}).await.unwrap();
            assert_eq!(
                code(answer.status),
                i32::from(Code::NotImplemented),
                "{method}"
            );
        }
        let error = client
            .ask::<_, StatusOnly>("NoSuch", Unread {})
            .await
            .unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unimplemented);
    });
}
