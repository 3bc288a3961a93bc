//! ReceiveMessage: a long poll over the partitions of a topic that this node leads.
//!
//! Which of them a client names is not looked at: members compete for messages, and a
//! consumer that asks one queue after the other would wait at empty ones. One that another
//! node leads by now is asked for there (decisions/0005). What is leased leaves in one
//! answer: status, messages, the time of delivery.

mod wait;

use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::image::{ClusterImage, TopicRecord};
use weir_api::queues::{self, Delivery, Filter, Receive};
use weir_base::batch::Record;
use weir_base::{NodeId, TopicPartition};

use super::{groups, queue, telemetry, topics};
use crate::context::{Call, ENDPOINT};
use crate::errors::{self, Refusal, ok};
use crate::message;
use crate::names;
use crate::proto::{
    Code, FilterExpression, FilterType, Message, ReceiveMessageRequest, ReceiveMessageResponse,
    Resource, Status, WireDuration, received::Content,
};
use wait::Found;

/// Messages of one call; clients ask for at most as many as settings told them.
const BATCH_MAX: i32 = 256;
/// Bounds of a lease that a client asks for.
const INVISIBLE_MIN: Duration = Duration::from_secs(10);
const INVISIBLE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// How much longer than it may wait for messages a call takes at most: clients ask one queue
/// after the other, and one that never answers would keep all others from them.
const OVERTIME_MAX: Duration = Duration::from_secs(3);
/// A call that has less time than this left cannot wait for anything.
const TIME_MIN: Duration = Duration::from_millis(100);

pub(crate) async fn handle(
    call: Call,
    request: ReceiveMessageRequest,
) -> Result<Vec<ReceiveMessageResponse>, Refusal> {
    let asked = Asked::read(&call, &request)?;
    let image = topics::find_or_make(&call.shared, &asked.topic).await?;
    let topic =
        topics::find(&image, &asked.topic).ok_or_else(|| topics::not_found(&asked.topic))?;
    call.shared.clients.receives(&call.client, &asked.topic);
    let resource = request.message_queue.and_then(|queue| queue.topic);
    let limit = asked.wait + OVERTIME_MAX;
    let waiting = wait::deliveries(&call, topic, &asked);
    let answered = call.shared.env.timeout(limit, waiting).await;
    let found = answered.unwrap_or_else(|| Err(unanswered(&asked.topic)))?;
    let messages = messages(&call, topic, &asked, resource.as_ref(), found).await?;
    let status = match messages.is_empty() {
        true => Status {
            code: Code::MessageNotFound.into(),
            message: "no message in time".to_owned(),
        },
        false => ok(),
    };
    let now = Content::DeliveryTimestamp(call.shared.api.cluster.now().into());
    let parts = std::iter::once(Content::Status(status))
        .chain(messages.into_iter().map(Content::Message))
        .chain([now]);
    Ok(parts
        .map(|content| ReceiveMessageResponse {
            content: Some(content),
        })
        .collect())
}

/// What was leased in spite of it comes again when the lease is over.
fn unanswered(topic: &str) -> Refusal {
    Refusal::new(
        Code::HaNotAvailable,
        format!("the queues of topic '{topic}' did not answer in time: ask again"),
    )
}

/// What is asked for, in Weir's words.
struct Asked {
    group: Arc<str>,
    topic: String,
    /// The queue that the client takes this node's to be. Stock clients name its broker, too;
    /// without one it says nothing.
    queue: Option<usize>,
    filter: Filter,
    batch_max: usize,
    invisible: Option<Duration>,
    auto_renew: bool,
    wait: Duration,
    attempt_id: Option<Arc<str>>,
}

impl Asked {
    fn read(call: &Call, request: &ReceiveMessageRequest) -> Result<Asked, Refusal> {
        let queue = request.message_queue.as_ref();
        let Ok(batch_max @ 1..) = usize::try_from(request.batch_size.min(BATCH_MAX)) else {
            return Err(Refusal::new(
                Code::BadRequest,
                format!(
                    "batch size {}: ask for 1 to {BATCH_MAX} messages",
                    request.batch_size
                ),
            ));
        };
        Ok(Asked {
            group: names::group(request.group.as_ref())?.into(),
            topic: names::topic(queue.and_then(|queue| queue.topic.as_ref()))?,
            queue: queue
                .filter(|queue| queue.broker.is_some())
                .and_then(|queue| usize::try_from(queue.id).ok()),
            filter: filter(request.filter_expression.as_ref())?,
            batch_max,
            invisible: invisible(request)?,
            auto_renew: request.auto_renew,
            wait: wait(call, request)?,
            attempt_id: request.attempt_id.as_deref().map(Arc::from),
        })
    }

    /// The queue that was named, and who leads it, if that is another node than `here`.
    fn led_elsewhere(
        &self,
        image: &ClusterImage,
        here: NodeId,
    ) -> Option<(TopicPartition, NodeId)> {
        let topic = topics::find(image, &self.topic)?;
        let named = self.queue?;
        let leader = topic.partitions.get(named)?.leader?;
        let at = queue::partition(topic, u32::try_from(named).ok()?);
        (leader != here).then_some((at, leader))
    }

    /// The command for one partition, waiting as long as `wait`.
    fn receive(&self, call: &Call, batch_max: usize, wait: Duration) -> Receive {
        Receive {
            group: Arc::clone(&self.group),
            member: Arc::clone(&call.client),
            batch_max,
            invisible: self.invisible,
            wait,
            filter: Some(self.filter.clone()),
            attempt_id: self.attempt_id.clone(),
            auto_renew: self.auto_renew,
        }
    }
}

/// The filter, if it compiles.
fn filter(expression: Option<&FilterExpression>) -> Result<Filter, Refusal> {
    let refused = |why: String| Refusal::new(Code::IllegalFilterExpression, why);
    let Some(told) = expression else {
        return Ok(Filter::All);
    };
    let text = told.expression.trim();
    let filter = match FilterType::try_from(told.r#type) {
        Ok(FilterType::Tag | FilterType::Unspecified) if text.is_empty() || text == "*" => {
            Filter::All
        }
        Ok(FilterType::Tag | FilterType::Unspecified) => Filter::Tags(text.into()),
        Ok(FilterType::Sql) => Filter::Sql(text.into()),
        Err(_) => {
            return Err(refused(format!(
                "filter type {} does not exist",
                told.r#type
            )));
        }
    };
    filter
        .compile()
        .map_err(|error| refused(error.to_string()))?;
    Ok(filter)
}

/// The lease; that of a push consumer is the group's, and renewed while it is there.
fn invisible(request: &ReceiveMessageRequest) -> Result<Option<Duration>, Refusal> {
    if request.auto_renew {
        return Ok(None);
    }
    let asked = request
        .invisible_duration
        .and_then(WireDuration::to_duration);
    let legal = asked.filter(|asked| (INVISIBLE_MIN..=INVISIBLE_MAX).contains(asked));
    legal.map(Some).ok_or_else(|| {
        Refusal::new(
            Code::IllegalInvisibleTime,
            format!("invisible duration {asked:?} must be {INVISIBLE_MIN:?} to {INVISIBLE_MAX:?}"),
        )
    })
}

/// How long to wait: as asked, or else as the client's settings say (Go's requests do not),
/// but so that the answer is there before the client gives up.
fn wait(call: &Call, request: &ReceiveMessageRequest) -> Result<Duration, Refusal> {
    let most = telemetry::POLLING;
    let asked = request
        .long_polling_timeout
        .and_then(WireDuration::to_duration)
        .or_else(|| call.shared.clients.waits(&call.client));
    let remaining = call.remaining(most + most);
    if remaining < TIME_MIN {
        return Err(Refusal::new(
            Code::IllegalPollingTime,
            format!(
                "{remaining:?} are left of the call's deadline, at least {TIME_MIN:?} are needed"
            ),
        ));
    }
    Ok(asked.unwrap_or(most).min(most).min(remaining * 9 / 10))
}

/// What was leased, with what is read of it. Records that are gone are reported to their queue.
async fn messages(
    call: &Call,
    topic: &TopicRecord,
    asked: &Asked,
    resource: Option<&Resource>,
    found: Found,
) -> Result<Vec<Message>, Refusal> {
    let queues = &call.shared.api.queues;
    let found = match found {
        Found::Elsewhere(at, leased) => vec![(at, leased)],
        Found::Here(deliveries) => {
            let mut found = Vec::with_capacity(deliveries.len());
            for (at, leased) in deliveries {
                let read = queues.read_leased(at, &asked.group, leased).await;
                found.push((at, read.map_err(|error| errors::queue(&error))?));
            }
            found
        }
    };
    let found = found.into_iter();
    let each = found.flat_map(|(at, leased)| leased.into_iter().map(move |each| (at, each)));
    Ok(each
        .map(|(at, (delivery, record))| {
            delivered(call, topic, at, asked, resource, delivery, &record)
        })
        .collect())
}

fn delivered(
    call: &Call,
    topic: &TopicRecord,
    at: TopicPartition,
    asked: &Asked,
    resource: Option<&Resource>,
    delivery: Delivery,
    record: &Record,
) -> Message {
    let read = queues::Message::from_record(at.index.0, record);
    let shown = resource.cloned().unwrap_or_else(|| Resource {
        resource_namespace: String::new(),
        name: names::shown(&topic.name),
    });
    let mut message = message::shown(Some(shown), Some(record.timestamp), read);
    let system = message.system_properties.get_or_insert_default();
    let image = call.shared.image();
    let host = image.nodes.get(&call.shared.node());
    let host = host.and_then(|node| node.endpoints.get(ENDPOINT));
    system.store_host =
        host.map_or_else(String::new, |host| format!("{}:{}", host.host, host.port));
    system.queue_id = i32::try_from(at.index.0).unwrap_or(i32::MAX);
    system.queue_offset = Some(delivery.offset.to_wire());
    system.delivery_attempt = Some(delivery.attempt.into());
    system.receipt_handle = Some(delivery.receipt.to_string());
    if !asked.auto_renew {
        system.invisible_duration = asked.invisible.map(WireDuration::from);
    }
    message
}

/// Makes the group where it is missing, and asks again.
async fn receive_at(
    call: &Call,
    topic: &TopicRecord,
    at: TopicPartition,
    receive: Receive,
) -> Result<Vec<Delivery>, Refusal> {
    let queues = &call.shared.api.queues;
    match queues.receive(at, receive.clone()).await {
        Err(error) if groups::is_missing(&error) => {
            groups::subscribe(call, topic, &receive.group, groups::PATIENCE).await?;
            let received = queues.receive(at, receive).await;
            received.map_err(|error| match groups::is_missing(&error) {
                // It is to be made, but was not in time.
                true => errors::queue(&QueueCallError::NotAvailable),
                false => errors::queue(&error),
            })
        }
        received => received.map_err(|error| errors::queue(&error)),
    }
}
