//! Checks of half messages for producers that are connected to another node than the leader.
//!
//! The other node asks every few seconds, with all partitions of a topic that one node leads
//! in one request, and is given one check with its half message. What is lost on the way is
//! counted as a check, as if the producer had not answered.

use std::sync::Arc;
use std::time::Duration;

use weir_api::queue::CheckElsewhere;
use weir_api::queues::{Check, HalfHandle, MemberName, Payload};
use weir_api::{QueueApi, QueueCallError};
use weir_base::{NodeId, TopicPartition};

use super::queue_calls::{ODD_ANSWER, QueueAnswer, QueueRequest};
use crate::Broker;

/// Partitions with undecided half messages that one request waits at, a moment each.
const WAITS_MAX: usize = 8;

impl Broker {
    /// See [`QueueApi::check_elsewhere`].
    pub(crate) async fn ask_check(
        self,
        leader: NodeId,
        at: Vec<TopicPartition>,
        (member, producers): (MemberName, Arc<str>),
        timeout: Duration,
    ) -> Result<Option<CheckElsewhere>, QueueCallError> {
        let request = QueueRequest::Check {
            at,
            member,
            producers,
        };
        let answer = self.ask_queue_of(leader, request, timeout).await?;
        let QueueAnswer::Check(check) = answer else {
            return Err(ODD_ANSWER);
        };
        let Some((at, handle, payload)) = check else {
            return Ok(None);
        };
        Ok(Some(CheckElsewhere {
            at,
            handle: HalfHandle::parse(&handle).ok_or(ODD_ANSWER)?,
            payload,
        }))
    }

    /// See [`QueueApi::missed_elsewhere`].
    pub(crate) async fn tell_missed(
        self,
        leader: NodeId,
        at: TopicPartition,
        handle: HalfHandle,
        timeout: Duration,
    ) -> Result<(), QueueCallError> {
        let handle = handle.to_string();
        let request = QueueRequest::Missed { at, handle };
        self.ask_queue_of(leader, request, timeout).await.map(drop)
    }

    /// One check for another node.
    pub(super) async fn check_for(
        &self,
        at: Vec<TopicPartition>,
        member: MemberName,
        producers: Arc<str>,
    ) -> Option<(TopicPartition, String, Payload)> {
        let queues: &dyn QueueApi = self;
        let mut waited = 0;
        for at in at {
            // Without a queue there is no half message, and offering to answer would make one.
            let halves = queues.list_half(at, 1, false).await;
            if waited == WAITS_MAX || !halves.is_ok_and(|halves| !halves.is_empty()) {
                continue;
            }
            waited += 1;
            // The machine waits its shortest wait, in which what is due is given.
            let (member, producers) = (member.clone(), Arc::clone(&producers));
            let checks = queues
                .await_checks(at, member, producers, 1, Duration::ZERO)
                .await;
            let Some(check) = checks.ok().and_then(|checks| checks.into_iter().next()) else {
                continue;
            };
            if let Some(payload) = self.half_of(at, &check).await {
                return Some((at, check.handle.to_string(), payload));
            }
        }
        None
    }

    /// The half message of a check; the check does not count if it cannot be read just now.
    async fn half_of(&self, at: TopicPartition, check: &Check) -> Option<Payload> {
        let queues: &dyn QueueApi = self;
        match queues.kept(at, vec![check.payload_at]).await {
            Ok(kept) => kept.into_iter().next().flatten(),
            Err(error) => {
                tracing::debug!(%at, %error, "half message cannot be read");
                // It is asked about again in any case.
                let _told = queues.check_missed(at, check.handle).await;
                None
            }
        }
    }
}
