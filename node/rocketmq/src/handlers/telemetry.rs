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
use weir_api::queues::{Backoff, GroupSettings};

use super::notify_client_termination::leave;
use super::{groups, topics};
use crate::clients::{Outgoing, Role, StreamId, Takes};
use crate::connection::UnderWay;
use crate::context::Call;
use crate::errors::{Refusal, ok, stream_error};
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
        let Ok(Some(told)) = told else {
            break;
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
    let (role, pub_sub, backoff) = match settings.pub_sub.take() {
        Some(PubSub::Publishing(publishing)) => (
            producer(&publishing)?,
            publishing_in_force(call, publishing),
            sends_again(),
        ),
        Some(PubSub::Subscription(subscription)) => {
            let takes = takes(settings.client_type())?;
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
    let now = call.shared.env.clock.now();
    if !call
        .shared
        .clients
        .tell(&call.client, role, (stream, outgoing), now)
    {
        return Err(Refusal::new(
            Code::TooManyRequests,
            format!(
                "this node serves {} clients, no more",
                call.shared.options.clients_max
            ),
        ));
    }
    Ok(Settings {
        pub_sub: Some(pub_sub),
        backoff_policy: Some(backoff),
        metric: Some(Metric {
            on: false,
            endpoints: None,
        }),
        ..settings
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
    for entry in &subscription.subscriptions {
        names::topic(entry.topic.as_ref())?;
    }
    Ok(Role::Consumer {
        group: names::group(subscription.group.as_ref())?,
        takes,
        waits: waits(subscription),
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

/// A push consumer returns what it failed for as long as it is told here: a group that
/// was given a list of pauses has those.
fn receives_again(group: &GroupSettings) -> RetryPolicy {
    let next = match &group.backoff {
        Backoff::List(steps) => steps.iter().copied().map(WireDuration::from).collect(),
        Backoff::Ladder | Backoff::Exponential { .. } => {
            let steps = LADDER.map(Duration::from_secs);
            steps.into_iter().map(WireDuration::from).collect()
        }
    };
    RetryPolicy {
        max_attempts: i32::from(group.attempts_max) + 1,
        strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff { next })),
    }
}
