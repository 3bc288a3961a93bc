//! An operator changes a group: its consumers are told, though they did not ask.
//!
//! A push consumer returns what it failed for as long as it was told, and would go on with the
//! old pauses until it asks again, some minutes later. One task asks one queue a group that is
//! led here; a node that leads none of a topic says nothing of its groups. A crash loses
//! nothing: clients tell and are told anew.

use std::sync::Arc;
use std::time::Duration;

use weir_api::queues::{QueueCommand, QueueReply};

use super::{queue, telemetry};
use crate::context::Shared;

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(3);

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        shared.env.sleep(LOOK).await;
        for (topic, group) in shared.clients.consumed() {
            let led = queue::led_of(&shared.image(), &topic, shared.node());
            let Some(at) = led.into_iter().next() else {
                continue;
            };
            let describe = QueueCommand::Describe {
                group: group.as_str().into(),
            };
            let described = shared.api.queues.call(at, describe).await;
            // Else it moves, or there is no such group any more: another look tells.
            if let Ok(QueueReply::Describe(Ok(view))) = described {
                let told_anew = |told: &_| telemetry::told_anew(told, &view.settings);
                shared.clients.tell_again((&topic, &group), told_anew);
            }
        }
    }
}
