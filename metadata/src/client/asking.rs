//! From a call to the controller and back.

use std::time::Duration;

use weir_base::{Monotonic, NodeId};
use weir_peer::{PeerError, Service};

use super::{Metadata, MetadataError};
use crate::ask::{Answer, Ask};
use crate::command::Outcome;

/// Between two tries while nobody leads.
const PAUSE: Duration = Duration::from_millis(20);

impl Metadata {
    /// Asks until it is answered or `timeout` passed, following whoever is said to
    /// lead. Once the outcome of a try is unknown, only what is safe to repeat is
    /// asked again.
    pub(crate) async fn ask(&self, ask: Ask, timeout: Duration) -> Result<Outcome, MetadataError> {
        let inner = self.inner();
        let deadline = inner.env.clock.now() + timeout;
        let mut hint = self.controller();
        let mut turn = usize::try_from(inner.me.id.0).unwrap_or(0);
        let mut why = "nobody leads".to_owned();
        let mut may_be_done = false;
        loop {
            let left = deadline - inner.env.clock.now();
            if left.is_zero() {
                return Err(if may_be_done {
                    MetadataError::TimedOut(timeout)
                } else {
                    MetadataError::Unavailable(why)
                });
            }
            let to = hint.take().unwrap_or_else(|| {
                turn += 1;
                inner.voters[turn % inner.voters.len()]
            });
            let repeatable = ask.is_repeatable();
            let patience = if repeatable {
                left.min(inner.options.request_deadline)
            } else {
                left
            };
            let failed = match self.ask_node(to, &ask, patience).await {
                Ok(Answer::Done { index, outcome }) => {
                    return if weir_base::mutant!(M32) || self.applied(index, deadline).await {
                        Ok(outcome)
                    } else {
                        Err(MetadataError::TimedOut(timeout))
                    };
                }
                Ok(Answer::Refused(refusal)) => return Err(refusal.into()),
                Ok(Answer::NotController(leader)) => {
                    why = format!("node {to} does not lead the metadata group");
                    // Someone new is asked at once; the same again only after a pause.
                    hint = leader.filter(|leader| *leader != to);
                    if hint.is_some() {
                        continue;
                    }
                    false
                }
                Ok(Answer::Overloaded) => {
                    why = format!("the controller, node {to}, is overloaded");
                    hint = Some(to);
                    false
                }
                Ok(Answer::NotYet(detail)) => {
                    why = detail;
                    hint = Some(to);
                    false
                }
                Ok(Answer::Unknown(detail)) => {
                    why = detail;
                    true
                }
                Ok(Answer::Probed(_)) => {
                    why = format!("node {to} answered another question");
                    true
                }
                Err(error) => {
                    why = error.to_string();
                    match error {
                        PeerError::Lost { .. } => true,
                        PeerError::Unreachable { .. }
                        | PeerError::Refused { .. }
                        | PeerError::Frame(_) => false,
                    }
                }
            };
            may_be_done |= failed;
            if may_be_done && !repeatable {
                return Err(MetadataError::TimedOut(timeout));
            }
            let left = deadline - inner.env.clock.now();
            inner.env.sleep(PAUSE.min(left)).await;
            hint = hint.or_else(|| self.controller().filter(|leader| *leader != to));
        }
    }

    /// Asks one node, which may be this one.
    async fn ask_node(
        &self,
        to: NodeId,
        ask: &Ask,
        patience: Duration,
    ) -> Result<Answer, PeerError> {
        let inner = self.inner();
        if to == inner.me.id {
            let Some(controller) = inner.controller.clone() else {
                return Ok(Answer::NotController(None));
            };
            let asked = controller.handle(to, ask.clone());
            let lost = || PeerError::Lost {
                node: to,
                detail: "the controller here did not answer".to_owned(),
            };
            return inner.env.timeout(patience, asked).await.ok_or_else(lost);
        }
        let bad = |error: postcard::Error| PeerError::Frame(error.to_string());
        let body = postcard::to_stdvec(ask).map_err(bad)?;
        let answer = inner
            .peers
            .request(to, Service::Controller, body.into(), patience)
            .await?;
        // Whatever those bytes were, the question was delivered.
        postcard::from_bytes(&answer).map_err(|error| PeerError::Lost {
            node: to,
            detail: error.to_string(),
        })
    }

    /// Waits until entry `index` is applied here.
    pub(crate) async fn applied(&self, index: u64, deadline: Monotonic) -> bool {
        let mut images = self.images();
        let wait = async {
            images
                .wait_for(|image| image.version >= index)
                .await
                .is_ok()
        };
        let env = &self.inner().env;
        let left = deadline - env.clock.now();
        env.timeout(left, wait).await.unwrap_or(false)
    }
}
