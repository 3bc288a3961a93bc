//! Telemetry: a stream in each direction for as long as the client lives. It tells its
//! settings and waits for the node's; without an answer it does not start.
//!
//! The stream's end is how this node learns that a client is gone. Of one whose machine or
//! network is gone no end comes: it is gone when nothing was heard of it for longer than a
//! client that lives is silent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weir_api::queues::{BACKOFF_STEPS_MAX, Backoff, GroupSettings};

use super::notify_client_termination::leave;
use super::{groups, topics};
use crate::clients::{Outgoing, Role, StreamId, Takes};
use crate::connection::UnderWay;
use crate::context::Call;
use crate::errors::{Refusal, ok, stream_error};
use crate::grpc::COMMAND_BYTES_MAX;
use crate::names;
use crate::proto::{
    ClientType, Code, CustomizedBackoff, ExponentialBackoff, Metric, Publishing, RetryPolicy,
    Settings, Subscription, TelemetryCommand, WireDuration, command::Command, pub_sub::PubSub,
    strategy::Strategy,
};

/// Commands waiting for a client that does not read; more wait with their sender.
const OUTGOING_MAX: usize = 16;
/// Topics of one producer, subscriptions of one consumer.
const TOPICS_MAX: usize = 4096;
/// How often a producer tries to send one message.
const SEND_ATTEMPTS: i32 = 3;
/// Messages of one receive.
pub(super) const RECEIVE_BATCH: i32 = 32;
/// How long a consumer waits for messages in one call.
pub(super) const POLLING: Duration = Duration::from_secs(20);
/// The waits of a push consumer before it takes a message that it failed again, in
/// seconds; the last for all further ones.
const LADDER: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
];
/// How long the answer to settings waits for topics and their leaders: clients wait three
/// seconds and more.
const GROUP_WAIT: Duration = Duration::from_millis(2_800);
/// How long a client may be without a stream.
const GRACE: Duration = Duration::from_secs(3);

/// What goes to the client.
pub(crate) type Commands = ReceiverStream<Result<TelemetryCommand, tonic::Status>>;

/// Opens the stream.
pub(crate) fn open(
    call: Call,
    under_way: Option<UnderWay>,
    incoming: Streaming<TelemetryCommand>,
) -> Commands {
    let (outgoing, commands) = mpsc::channel(OUTGOING_MAX);
    let tasks = call.shared.env.tasks.clone();
    tasks.spawn("rocketmq-telemetry", async move {
        follow(&call, incoming, &outgoing).await;
        drop(under_way);
    });
    ReceiverStream::new(commands)
}

/// Until either side ends the stream.
async fn follow(call: &Call, mut incoming: Streaming<TelemetryCommand>, outgoing: &Outgoing) {
    let clients = &call.shared.clients;
    let stream = clients.new_stream();
    loop {
        let told = tokio::select! {
            biased;
            () = outgoing.closed() => break,
            told = incoming.message() => told,
            () = silence(call, stream) => {
                tracing::info!(client = %call.client, "nothing heard of a client: it is gone");
                break;
            }
        };
        let told = match told {
            Ok(Some(told)) => told,
            Ok(None) => break,
            Err(error) => {
                // A client whose connection broke hears nothing of it.
                let _told = outgoing.try_send(Err(unread(error)));
                break;
            }
        };
        // Reports that nobody here asked for are read past.
        let Some(Command::Settings(settings)) = told.command else {
            continue;
        };
        let answer = match on_settings(call, settings, stream, outgoing).await {
            Ok(settings) => Ok(TelemetryCommand {
                status: Some(ok()),
                command: Some(Command::Settings(settings)),
            }),
            Err(refusal) => Err(stream_error(&refusal)),
        };
        let refused = answer.is_err();
        if outgoing.send(answer).await.is_err() || refused {
            break;
        }
    }
    // A client whose connection broke is back in a moment, and goes on with what it holds.
    call.shared.env.sleep(GRACE).await;
    if let Some(gone) = clients.close(&call.client, stream) {
        leave(call, &gone).await;
    }
}

/// Why a command was not read: too large is said with the limit.
fn unread(error: tonic::Status) -> tonic::Status {
    if error.code() != tonic::Code::OutOfRange {
        return error;
    }
    stream_error(&Refusal::new(
        Code::PayloadTooLarge,
        format!("a telemetry command has at most {COMMAND_BYTES_MAX} bytes"),
    ))
}

/// Ends when nothing was heard of the client for too long.
async fn silence(call: &Call, stream: StreamId) {
    let (clock, limit) = (&call.shared.env.clock, call.shared.options.client_silence);
    let began = clock.now();
    loop {
        let heard = call.shared.clients.last_heard(&call.client, stream);
        let until = heard.unwrap_or(began) + limit;
        if until <= clock.now() {
            return;
        }
        clock.sleep_until(until).await;
    }
}

/// Remembers the client and gives the settings that are in force.
async fn on_settings(
    call: &Call,
    mut settings: Settings,
    stream: StreamId,
    outgoing: &Outgoing,
) -> Result<Settings, Refusal> {
    let kind = client_type(settings.client_type.unwrap_or_default())?;
    let (role, pub_sub, backoff) = match settings.pub_sub.take() {
        Some(PubSub::Publishing(publishing)) => (
            producer(&publishing)?,
            publishing_in_force(call, publishing),
            sends_again(),
        ),
        Some(PubSub::Subscription(subscription)) => {
            let takes = takes(kind)?;
            let role = consumer(&subscription, takes)?;
            let group = group_of(call, &subscription).await?;
            (
                role,
                subscription_in_force(&group, subscription),
                receives_again(&group),
            )
        }
        None => {
            return Err(Refusal::new(
                Code::InvalidClientProperties,
                "settings need what the client publishes or what it subscribes to",
            ));
        }
    };
    let in_force = Settings {
        pub_sub: Some(pub_sub),
        backoff_policy: Some(backoff),
        metric: Some(Metric {
            on: false,
            endpoints: None,
        }),
        ..settings
    };
    let (now, clients) = (call.shared.env.clock.now(), &call.shared.clients);
    let known = (role, in_force.clone());
    if !clients.tell(&call.client, known, (stream, outgoing), now) {
        return Err(Refusal::new(
            Code::TooManyRequests,
            format!(
                "this node serves {} clients, no more",
                call.shared.options.clients_max
            ),
        ));
    }
    Ok(in_force)
}

/// What a consumer is told once its group has other settings.
pub(super) fn told_anew(told: &Settings, group: &GroupSettings) -> Settings {
    let mut settings = told.clone();
    settings.backoff_policy = Some(receives_again(group));
    if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
        subscription.fifo = Some(group.fifo);
    }
    settings
}

/// What kind of client calls.
pub(super) fn client_type(told: i32) -> Result<ClientType, Refusal> {
    ClientType::try_from(told).map_err(|_| {
        let why = format!("client type {told} does not exist: known are 0 to 6");
        Refusal::new(Code::UnrecognizedClientType, why)
    })
}

fn takes(client: ClientType) -> Result<Takes, Refusal> {
    match client {
        // Some clients leave it out.
        ClientType::Unspecified | ClientType::Producer | ClientType::PushConsumer => {
            Ok(Takes::Pushed)
        }
        ClientType::SimpleConsumer => Ok(Takes::Simply),
        ClientType::PullConsumer
        | ClientType::LitePushConsumer
        | ClientType::LiteSimpleConsumer => Err(Refusal::new(
            Code::NotImplemented,
            format!("{client:?} is not served: use a push or a simple consumer"),
        )),
    }
}

fn producer(publishing: &Publishing) -> Result<Role, Refusal> {
    bounded(publishing.topics.len())?;
    let topics = publishing
        .topics
        .iter()
        .map(|topic| names::topic(Some(topic)));
    let topics: BTreeSet<String> = topics.collect::<Result<_, _>>()?;
    Ok(Role::Producer { topics })
}

fn consumer(subscription: &Subscription, takes: Takes) -> Result<Role, Refusal> {
    bounded(subscription.subscriptions.len())?;
    // As the settings, which are those of the group on the last of its topics.
    let mut topic = None;
    for entry in &subscription.subscriptions {
        topic = Some(names::topic(entry.topic.as_ref())?);
    }
    Ok(Role::Consumer {
        group: names::group(subscription.group.as_ref())?,
        takes,
        waits: waits(subscription),
        topic,
    })
}

/// How long the client said that its receives wait, if it did; no time at all is what some
/// say that did not think of it.
fn waits(subscription: &Subscription) -> Option<Duration> {
    let told = subscription.long_polling_timeout;
    let told = told.and_then(WireDuration::to_duration)?;
    (!told.is_zero()).then(|| told.min(POLLING))
}

/// The group's settings. Once they are told the group misses nothing that is sent: some
/// clients count as started when the first of all nodes answered.
async fn group_of(call: &Call, subscription: &Subscription) -> Result<GroupSettings, Refusal> {
    let group: Arc<str> = names::group(subscription.group.as_ref())?.into();
    let clock = &call.shared.env.clock;
    let deadline = clock.now() + GROUP_WAIT;
    let mut found = GroupSettings::default();
    for entry in &subscription.subscriptions {
        let name = names::topic(entry.topic.as_ref())?;
        let left = deadline.since(clock.now());
        let topic = topics::find_within(&call.shared, &name, left).await?;
        let left = deadline.since(clock.now());
        found = groups::subscribe(call, &topic, &group, left).await?;
    }
    Ok(found)
}

fn bounded(topics: usize) -> Result<(), Refusal> {
    if topics <= TOPICS_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidClientProperties,
        format!("settings name {topics} topics, at most {TOPICS_MAX} are possible"),
    ))
}

fn publishing_in_force(call: &Call, publishing: Publishing) -> PubSub {
    let body_max = call.shared.options.body_bytes_max;
    PubSub::Publishing(Publishing {
        max_body_size: i32::try_from(body_max).unwrap_or(i32::MAX),
        validate_message_type: true,
        ..publishing
    })
}

fn subscription_in_force(group: &GroupSettings, subscription: Subscription) -> PubSub {
    PubSub::Subscription(Subscription {
        fifo: Some(group.fifo),
        receive_batch_size: Some(RECEIVE_BATCH),
        long_polling_timeout: Some(waits(&subscription).unwrap_or(POLLING).into()),
        ..subscription
    })
}

fn sends_again() -> RetryPolicy {
    RetryPolicy {
        max_attempts: SEND_ATTEMPTS,
        strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
            initial: Some(Duration::from_millis(10).into()),
            max: Some(Duration::from_secs(1).into()),
            multiplier: 2.0,
        })),
    }
}

/// A push consumer returns what it failed for as long as it is told here, so it is told the
/// group's own pauses. They are told one by one even where they grow by a rule: all clients
/// read lists, and a list is what they get from RocketMQ.
fn receives_again(group: &GroupSettings) -> RetryPolicy {
    let next: Vec<Duration> = match &group.backoff {
        Backoff::List(steps) => steps.clone(),
        Backoff::Ladder => LADDER.map(Duration::from_secs).to_vec(),
        Backoff::Exponential {
            initial,
            max,
            multiplier_percent,
            jitter_percent: _,
        } => {
            let steady = Backoff::Exponential {
                initial: *initial,
                max: *max,
                multiplier_percent: *multiplier_percent,
                jitter_percent: 0,
            };
            let mut steps: Vec<Duration> = (1..=group.attempts_max)
                .take(BACKOFF_STEPS_MAX)
                .map(|ended| steady.pause(ended, 0))
                .collect();
            // The last one stands for all further ones.
            while let [.., before, last] = &steps[..]
                && before == last
            {
                steps.pop();
            }
            steps
        }
    };
    let next = next.into_iter().map(WireDuration::from).collect();
    RetryPolicy {
        max_attempts: i32::from(group.attempts_max) + 1,
        strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff { next })),
    }
}
