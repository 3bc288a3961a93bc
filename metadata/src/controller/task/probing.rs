//! From suspicion to proof: a control port refused here and elsewhere.

use std::sync::Arc;

use weir_base::image::ClusterImage;
use weir_base::{NodeEpoch, NodeId};
use weir_peer::Service;

use super::{Controller, Mail, Office};
use crate::ask::{Answer, Ask};
use crate::probe;

impl Controller {
    /// A new controller knows no sessions, but a refused port needs none.
    pub(super) fn probe_everyone(self: &Arc<Self>) {
        for node in self.store.image().nodes.values() {
            self.suspect(node.id, node.epoch, None);
        }
    }

    /// Probes a node's control port, here and from others; fences it if it is refused
    /// by two (or here alone, if nobody else is left to ask).
    pub(super) fn suspect(
        self: &Arc<Self>,
        node: NodeId,
        epoch: NodeEpoch,
        witness: Option<NodeId>,
    ) {
        let image = self.store.image();
        let Some(record) = image.nodes.get(&node) else {
            return;
        };
        if node == self.me || record.epoch != epoch || !record.is_active() {
            return;
        }
        let is_first = |office: &mut Office| office.probing.insert(node);
        if !self.office().as_mut().is_some_and(is_first) {
            return;
        }
        let controller = self.clone();
        let address = record.peer_address.clone();
        self.env.tasks.spawn("probe", async move {
            let is_gone = controller.is_gone(&image, node, &address, witness).await;
            if let Some(office) = controller.office().as_mut() {
                office.probing.remove(&node);
            }
            if is_gone {
                tracing::info!(%node, "its control port is refused: the process is gone");
                drop(controller.mailbox.send(Mail::Gone(node, epoch)).await);
            }
        });
    }

    async fn is_gone(
        &self,
        image: &ClusterImage,
        node: NodeId,
        address: &str,
        witness: Option<NodeId>,
    ) -> bool {
        let mut others = self.witnesses(image, node).into_iter();
        let here = probe::is_refused(&self.env, address, self.options.probe_deadline);
        let (first, second) = (others.next(), others.next());
        let nobody_else = first.is_none();
        let asked_already = witness.is_some_and(|witness| witness != self.me);
        let (here, first, second) = tokio::join!(
            here,
            self.opinion(first.filter(|_| !asked_already), node),
            self.opinion(second.filter(|_| !asked_already), node)
        );
        here && (asked_already || nobody_else || first || second)
    }

    /// Active nodes that were heard of lately, but for this one and the suspect.
    fn witnesses(&self, image: &ClusterImage, suspect: NodeId) -> Vec<NodeId> {
        let now = self.env.clock.now();
        let office = self.office();
        image
            .nodes
            .values()
            .filter(|n| n.is_active() && n.id != suspect && n.id != self.me)
            .filter(|n| {
                office.as_ref().is_some_and(|office| {
                    let silence = office.sessions.silence(now, n.id, n.epoch);
                    silence <= self.options.session
                })
            })
            .map(|n| n.id)
            .collect()
    }

    async fn opinion(&self, of: Option<NodeId>, node: NodeId) -> bool {
        let Some(of) = of else { return false };
        let Ok(body) = postcard::to_stdvec(&Ask::Probe(node)) else {
            return false;
        };
        let deadline = self.options.probe_deadline * 2;
        let answer = self
            .peers
            .request(of, Service::Controller, body.into(), deadline)
            .await;
        answer.is_ok_and(|bytes| postcard::from_bytes::<Answer>(&bytes) == Ok(Answer::Probed(true)))
    }
}
