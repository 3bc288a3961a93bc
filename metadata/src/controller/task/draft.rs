//! What the controller is about to propose, and the image as it will be then.

use tokio::sync::oneshot;
use weir_base::image::ClusterImage;

use super::Pending;
use crate::apply::apply_item;
use crate::ask::Answer;
use crate::command::{Item, Outcome, Refusal};
use crate::controller::companion;

/// The image as it will be once all planned items are committed.
pub(super) struct Draft {
    pub(super) image: ClusterImage,
    serial: u16,
    pub(super) items: Vec<Pending>,
}

impl Draft {
    pub(super) fn new(image: &ClusterImage) -> Self {
        Self {
            image: image.clone(),
            serial: 0,
            items: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        item: Item,
        reply: Option<oneshot::Sender<Answer>>,
    ) -> Result<Outcome, Refusal> {
        let index = self.image.version + 1;
        let outcome = apply_item(&mut self.image, index, &mut self.serial, &item)?;
        self.push(item, reply);
        Ok(outcome)
    }

    pub(super) fn add_or_answer(&mut self, item: Item, reply: oneshot::Sender<Answer>) {
        let index = self.image.version + 1;
        match apply_item(&mut self.image, index, &mut self.serial, &item) {
            Ok(_) => self.push(item, Some(reply)),
            // The asker may be gone.
            Err(refusal) => drop(reply.send(Answer::Refused(refusal))),
        }
    }

    /// Notes an item that was applied, and what follows from it for companions: in the same
    /// entry, so that no node ever sees the one without the other.
    fn push(&mut self, item: Item, reply: Option<oneshot::Sender<Answer>>) {
        let follows = companion::plan_align(&self.image, &item);
        self.items.push((item, reply));
        if follows.is_empty() {
            return;
        }
        let index = self.image.version + 1;
        match apply_item(&mut self.image, index, &mut self.serial, &follows) {
            Ok(_) => self.items.push((follows, None)),
            Err(refusal) => tracing::error!(%refusal, "the controller refused its own plan"),
        }
    }

    /// An item of the controller's own. Planned on this very draft, it cannot be
    /// refused but by a bug, which must not stop the controller from the rest.
    pub(super) fn add_own(&mut self, item: Item) {
        if !item.is_empty()
            && let Err(refusal) = self.add(item, None)
        {
            tracing::error!(%refusal, "the controller refused its own plan");
        }
    }
}
