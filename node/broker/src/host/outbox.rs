//! Carries a machine's parcels: what its journal says is to be written elsewhere.
//!
//! ```text
//!   record (committed) --> parcel on the desk --> carry: idempotent append --> done: record
//!        |                       ^                       |                        |
//!        +-- crash: the next leader finds it on record --+-- again: a duplicate --+
//! ```
//! A lane is a destination: its parcels go one after the other, lanes beside each other,
//! so that a destination without a leader holds up nothing else. A parcel is carried again
//! until it is known to be there; that it is there twice is what `carry` rules out, by the
//! sequence numbers that are on record with it. Nothing is ever given up: what cannot be
//! written is told in the log and tried again. What a destination refuses for good, such as
//! a partition that does not exist, would hold up its lane for ever: after half a minute of
//! nothing but that the machine sets it aside, whole.
//!
//! One task a machine and one for each lane in use; all end with the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{BoxFuture, Env, Monotonic};

use super::desk::{Desk, Parcel};
use super::{Caller, Journaled};

/// Pause before a parcel is tried again: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// How one machine's parcels are written.
pub(crate) trait Carrier<M: Journaled>: Send + Sync + 'static {
    /// Writes it where it is to go, unless it is there; completes when it is committed.
    fn carry(&self, parcel: M::Parcel) -> BoxFuture<'static, Result<(), CarryError>>;

    /// The command that tells so.
    fn done(&self, parcel: &M::Parcel) -> M::Command;

    /// The command that sets a parcel aside, if that can be: asked for when it was refused
    /// for a while, and was never written.
    fn set_aside(
        &self,
        _parcel: M::Parcel,
        _why: String,
    ) -> BoxFuture<'static, Option<M::Command>> {
        Box::pin(std::future::ready(None))
    }
}

/// Why a parcel is not known to be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct CarryError {
    why: String,
    /// Whether trying again cannot help, as far as can be told now.
    is_final: bool,
}

impl CarryError {
    /// Another time it may go well.
    pub(crate) fn later(why: String) -> Self {
        let is_final = false;
        Self { why, is_final }
    }

    /// It was not written, and will not be as long as nobody changes the destination.
    pub(crate) fn refused(why: String) -> Self {
        let is_final = true;
        Self { why, is_final }
    }
}

/// How long a parcel must have been refused, and nothing else, to be set aside: images lag,
/// and who made a mistake may mend it.
const REFUSED_FOR: Duration = Duration::from_secs(30);

type Parcels<M> = watch::Receiver<Vec<<M as Journaled>::Parcel>>;
type LaneOf<M> = <<M as Journaled>::Parcel as Parcel>::Lane;

/// Runs until it is aborted.
pub(crate) async fn drain<M: Journaled>(
    env: Env,
    desk: Arc<Desk<M>>,
    host: Caller<M>,
    carrier: Arc<dyn Carrier<M>>,
) {
    let mut parcels = desk.parcels();
    let mut lanes: BTreeMap<LaneOf<M>, TaskHandle> = BTreeMap::new();
    loop {
        let wanted: Vec<_> = {
            let parcels = parcels.borrow_and_update();
            parcels.iter().map(|p| p.lane().clone()).collect()
        };
        // Who has nothing on the desk has nothing under way that anybody waits for.
        lanes.retain(|lane, _| wanted.contains(lane));
        for lane in wanted {
            let new = |lane: &LaneOf<M>| {
                let carrying = Lane {
                    env: env.clone(),
                    lane: lane.clone(),
                    parcels: desk.parcels(),
                    host: host.clone(),
                    carrier: Arc::clone(&carrier),
                };
                env.tasks.spawn_owned("outbox", carrying.run())
            };
            lanes.entry(lane).or_insert_with_key(new);
        }
        if parcels.changed().await.is_err() {
            return;
        }
    }
}

/// One destination.
struct Lane<M: Journaled> {
    env: Env,
    lane: LaneOf<M>,
    parcels: Parcels<M>,
    host: Caller<M>,
    carrier: Arc<dyn Carrier<M>>,
}

impl<M: Journaled> Lane<M> {
    async fn run(mut self) {
        let mut pause = PAUSE.0;
        let mut refused_since: Option<Monotonic> = None;
        loop {
            let Some(parcel) = self.head() else {
                if self.parcels.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let error = match self.deliver(parcel.clone()).await {
                Ok(()) => {
                    (pause, refused_since) = (PAUSE.0, None);
                    continue;
                }
                Err(error) => error,
            };
            tracing::warn!(kind = M::KIND, to = ?self.lane, %error, "not written yet");
            let now = self.env.clock.now();
            refused_since = error.is_final.then(|| refused_since.unwrap_or(now));
            if refused_since.is_some_and(|since| now >= since + REFUSED_FOR)
                && self.set_aside(parcel, error.why).await
            {
                (pause, refused_since) = (PAUSE.0, None);
                continue;
            }
            self.env.sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn head(&mut self) -> Option<M::Parcel> {
        let parcels = self.parcels.borrow_and_update();
        parcels.iter().find(|p| *p.lane() == self.lane).cloned()
    }

    async fn deliver(&mut self, parcel: M::Parcel) -> Result<(), CarryError> {
        self.carrier.carry(parcel.clone()).await?;
        self.tell(self.carrier.done(&parcel), &parcel).await
    }

    /// Whether the machine has it, and the lane goes on.
    async fn set_aside(&mut self, parcel: M::Parcel, why: String) -> bool {
        let command = self.carrier.set_aside(parcel.clone(), why.clone()).await;
        let Some(command) = command else {
            return false;
        };
        tracing::error!(kind = M::KIND, to = ?self.lane, why, "refused for good: set aside");
        self.tell(command, &parcel).await.is_ok()
    }

    /// Tells the machine what became of a parcel, and waits until it is off the desk.
    async fn tell(&mut self, command: M::Command, parcel: &M::Parcel) -> Result<(), CarryError> {
        let told = self.host.call(command).await;
        told.map_err(|error| CarryError::later(error.to_string()))?;
        let lane = &self.lane;
        let is_next = |parcels: &Vec<M::Parcel>| {
            let head = parcels.iter().find(|p| p.lane() == lane);
            head.is_none_or(|head| head.number() != parcel.number())
        };
        // An error means that the host is gone.
        drop(self.parcels.wait_for(is_next).await);
        Ok(())
    }
}
