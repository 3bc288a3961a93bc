//! Coming, staying, suspecting others, going.

use std::time::Duration;

use weir_base::{NodeEpoch, NodeId};

use super::{Metadata, MetadataError};
use crate::ask::{Ask, Heartbeat};
use crate::command::{Outcome, Refusal, StartKind};
use crate::probe;

/// One round of trying to register.
const REGISTER_ROUND: Duration = Duration::from_secs(5);
/// Probes of a suspect's control port before it is taken for alive.
const PROBES: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(30);

impl Metadata {
    /// Registers this boot: waits for the controller as long as it takes. Heartbeats run
    /// from then on, and the controller lets the node in once it has caught up.
    ///
    /// # Errors
    /// [`Refusal::StorageMismatch`] if the id belongs to another data directory; never
    /// for want of a controller.
    pub async fn register(&self) -> Result<NodeEpoch, MetadataError> {
        let epoch = self.register_as(self.inner().me.start_kind).await?;
        let begins = !std::mem::replace(&mut self.lock().beating, true);
        if begins {
            let metadata = self.clone();
            self.inner()
                .env
                .tasks
                .spawn("heartbeat", async move { metadata.beat().await });
        }
        Ok(epoch)
    }

    async fn register_as(&self, start: StartKind) -> Result<NodeEpoch, MetadataError> {
        loop {
            let ask = Ask::Register(self.registration(start));
            match self.ask(ask, REGISTER_ROUND).await {
                Ok(Outcome::Node(epoch)) => {
                    self.inner().epoch.send_replace(Some(epoch));
                    return Ok(epoch);
                }
                Ok(other) => tracing::error!(?other, "no answer to a registration"),
                Err(error @ (MetadataError::Refused(_) | MetadataError::Start(_))) => {
                    return Err(error);
                }
                Err(error) => tracing::info!(%error, "not registered yet"),
            }
        }
    }

    async fn beat(self) {
        let inner = self.inner().clone();
        loop {
            let sent = inner.env.clock.now();
            if self.lock().left {
                return;
            }
            match self.beat_once().await {
                Ok(stale) => {
                    let mut state = self.lock();
                    if state.left {
                        // It said good-bye while it waited: the answer is no lease (I10).
                        return;
                    }
                    state.lease = Some(sent.before(stale));
                }
                Err(MetadataError::Refused(
                    Refusal::StaleNodeEpoch { .. } | Refusal::UnknownNode(_),
                )) => {
                    // A registration whose answer was lost came through after all. This
                    // process has lived on, so it lost nothing.
                    if let Err(error) = self.register_as(StartKind::SameBoot).await {
                        tracing::error!(%error, "this node was replaced");
                    }
                }
                Err(error) => tracing::debug!(%error, "heartbeat"),
            }
            let next = sent + inner.options.heartbeat;
            inner.env.clock.sleep_until(next).await;
        }
    }

    /// One heartbeat: how old what the controller knew was when it granted the lease.
    async fn beat_once(&self) -> Result<Duration, MetadataError> {
        let disk = self.lock().disk;
        let bounded = |count: u128| u32::try_from(count).unwrap_or(u32::MAX);
        let heartbeat = Heartbeat {
            node: self.inner().me.id,
            epoch: self.epoch()?,
            applied: self.image().version,
            fsync_age_ms: bounded(disk.fsync_age.as_millis()),
            fsync_p99_us: disk.fsync_p99.map(|p99| bounded(p99.as_micros())),
            reads_journals: disk.reads_journals,
        };
        let limit = self.inner().options.session / 2;
        match self.ask(Ask::Heartbeat(heartbeat), limit).await? {
            Outcome::Lease { stale_ms } => Ok(Duration::from_millis(stale_ms.into())),
            other @ (Outcome::Done
            | Outcome::Node(_)
            | Outcome::Topic(_)
            | Outcome::Partition(_)
            | Outcome::ProducerIds(..)
            | Outcome::Document(_)) => {
                let said = format!("no answer to a heartbeat: {other:?}");
                Err(MetadataError::Unavailable(said))
            }
        }
    }

    /// A hint that `node` may be gone: its link was lost. Its control port is probed at
    /// once; if that is refused, the controller is told (and a voter whose leader it
    /// was stands for election). Cheap to call often.
    pub fn suspect(&self, node: NodeId) {
        if node == self.inner().me.id || !self.lock().suspects.insert(node) {
            return;
        }
        let metadata = self.clone();
        self.inner().env.tasks.spawn("suspect", async move {
            metadata.look_after(node).await;
            metadata.lock().suspects.remove(&node);
        });
    }

    async fn look_after(&self, node: NodeId) {
        let inner = self.inner();
        let image = self.image();
        let Some(record) = image.nodes.get(&node) else {
            return;
        };
        let mut refused = false;
        for _ in 0..PROBES {
            let limit = inner.options.probe_deadline;
            refused = probe::is_refused(&inner.env, &record.peer_address, limit).await;
            if refused {
                break;
            }
            inner.env.sleep(PROBE_PAUSE).await;
        }
        if !refused {
            return;
        }
        if self.controller() == Some(node)
            && let Some(group) = &inner.group
        {
            group.leader_is_gone(node).await;
        }
        if record.is_active() {
            let ask = Ask::Suspect {
                node,
                epoch: record.epoch,
                refused,
            };
            // Unheard, the session still ends by itself.
            drop(self.ask(ask, inner.options.session).await);
        }
    }

    /// Begins a controlled shutdown: the controller moves leaderships away. Returns how
    /// many this node still leads after `timeout`; 0 means that stopping now
    /// interrupts nobody.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn drain(&self, timeout: Duration) -> Result<usize, MetadataError> {
        let inner = self.inner();
        let deadline = inner.env.clock.now() + timeout;
        let node = inner.me.id;
        let epoch = self.epoch()?;
        self.ask(Ask::Drain { node, epoch }, timeout).await?;
        let mut images = self.images();
        let is_free = |image: &weir_base::ClusterImage| led_by(image, node) == 0;
        let freed = images.wait_for(|image| is_free(image));
        let left = deadline - inner.env.clock.now();
        // Out of time is an answer too: the count says so.
        drop(inner.env.timeout(left, freed).await);
        Ok(led_by(&self.image(), node))
    }

    /// Says good-bye: stops the heartbeats and is fenced at once, so that nobody waits
    /// for this node's acknowledgements. After `drain`, before the process ends.
    ///
    /// # Errors
    /// As [`MetadataError`] says; then the others notice by themselves.
    pub async fn leave(&self, timeout: Duration) -> Result<(), MetadataError> {
        {
            // Whoever says good-bye is fenced at once, and leads nothing from here on (I10).
            let mut state = self.lock();
            state.left = true;
            state.lease = None;
        }
        let ask = Ask::Leave {
            node: self.inner().me.id,
            epoch: self.epoch()?,
        };
        self.ask(ask, timeout).await.map(drop)
    }
}

fn led_by(image: &weir_base::ClusterImage, node: NodeId) -> usize {
    let leads = |(_, p): &(_, &weir_base::image::PartitionRecord)| p.leader == Some(node);
    image.partitions().filter(leads).count()
}
