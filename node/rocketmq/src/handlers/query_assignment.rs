//! QueryAssignment: what a push consumer receives from, asked every few seconds.
//!
//! Members of a group compete for messages and not for queues, so all get the same
//! answer, ordered groups too: every node that leads some of the topic, with the queue -1
//! for "any of it". The order within a message group is the queue's to keep, not the
//! assignment's.

use std::collections::BTreeMap;

use super::{query_route, topics};
use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::names;
use crate::proto::{
    Assignment, Code, MessageQueue, QueryAssignmentRequest, QueryAssignmentResponse,
};

/// The queue that stands for all of a node's.
pub(super) const ANY_QUEUE: i32 = -1;

pub(crate) async fn handle(
    call: Call,
    request: QueryAssignmentRequest,
) -> Result<QueryAssignmentResponse, Refusal> {
    let name = names::topic(request.topic.as_ref())?;
    let _group = names::group(request.group.as_ref())?;
    let image = topics::find_or_make(&call.shared, &name).await?;
    let topic = topics::find(&image, &name).ok_or_else(|| topics::not_found(&name))?;
    let queues = query_route::queues(&image, topic, request.topic.as_ref(), |node| {
        !call.shared.api.cluster.is_gone(node)
    });
    let mut brokers: BTreeMap<String, MessageQueue> = BTreeMap::new();
    for queue in queues {
        let name = queue.broker.as_ref().map(|broker| broker.name.clone());
        brokers
            .entry(name.unwrap_or_default())
            .or_insert(MessageQueue {
                id: ANY_QUEUE,
                ..queue
            });
    }
    if brokers.is_empty() {
        return Err(Refusal::new(
            Code::HaNotAvailable,
            format!("no partition of topic '{name}' has a leader just now"),
        ));
    }
    let assignments = brokers.into_values().map(|queue| Assignment {
        message_queue: Some(queue),
    });
    Ok(QueryAssignmentResponse {
        status: Some(ok()),
        assignments: assignments.collect(),
    })
}
