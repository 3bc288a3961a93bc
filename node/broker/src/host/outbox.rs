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
//! written is told in the log and tried again.
//!
//! One task a machine and one for each lane in use; all end with the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{BoxFuture, Env};

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
}

/// Why a parcel is not known to be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CarryError(pub(crate) String);

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
        loop {
            let Some(parcel) = self.head() else {
                if self.parcels.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let error = match self.deliver(parcel).await {
                Ok(()) => {
                    pause = PAUSE.0;
                    continue;
                }
                Err(error) => error,
            };
            tracing::warn!(kind = M::KIND, to = ?self.lane, %error, "not written yet");
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
        let told = self.host.call(self.carrier.done(&parcel)).await;
        told.map_err(|error| CarryError(error.to_string()))?;
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
