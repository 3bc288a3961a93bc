//! Where a host lays out what its machine wants done outside: reads, and writes elsewhere;
//! and what others may know of it.
//!
//! Reads may be wanted on state that is not committed yet, since they change nothing.
//! Parcels lie here only once the record of them is committed. Emptied when the epoch is
//! lost; whoever works from it works for nobody then, and harms nobody.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::Journaled;

/// What is to be written elsewhere, once; in order within a lane.
pub(crate) trait Parcel: Clone + Send + Sync + 'static {
    /// What parcels are ordered within: a destination.
    type Lane: Ord + Clone + fmt::Debug + Send + Sync + 'static;

    /// Where it goes.
    fn lane(&self) -> &Self::Lane;

    /// Its place in the lane; grows.
    fn number(&self) -> u64;
}

/// For machines that write nowhere else.
#[derive(Debug, Clone)]
pub(crate) enum NoParcel {}

impl Parcel for NoParcel {
    type Lane = ();

    fn lane(&self) -> &() {
        &()
    }

    fn number(&self) -> u64 {
        0
    }
}

/// What is wanted, each with a number that grows from want to want.
struct Wanted<W> {
    last: u64,
    wants: Vec<(u64, W)>,
}

impl<W> Default for Wanted<W> {
    fn default() -> Self {
        Self {
            last: 0,
            wants: Vec::new(),
        }
    }
}

/// One machine's.
pub(crate) struct Desk<M: Journaled> {
    wants: Mutex<Wanted<M::Want>>,
    wanted: Notify,
    /// The first of every lane.
    parcels: watch::Sender<Vec<M::Parcel>>,
    notice: watch::Sender<M::Notice>,
}

impl<M: Journaled> Desk<M> {
    pub(super) fn new() -> Self {
        Self {
            wants: Mutex::default(),
            wanted: Notify::new(),
            parcels: watch::Sender::new(Vec::new()),
            notice: watch::Sender::new(M::Notice::default()),
        }
    }

    pub(super) fn want(&self, more: Vec<M::Want>) {
        if more.is_empty() {
            return;
        }
        let mut wanted = self.lock();
        for want in more {
            wanted.last += 1;
            let number = wanted.last;
            wanted.wants.push((number, want));
        }
        drop(wanted);
        self.wanted.notify_one();
    }

    /// Puts back what could not be answered, under the number that it had.
    pub(crate) fn want_again(&self, number: u64, want: M::Want) {
        self.lock().wants.push((number, want));
        self.wanted.notify_one();
    }

    pub(super) fn send(&self, parcels: Option<Vec<M::Parcel>>) {
        if let Some(parcels) = parcels {
            self.parcels.send_replace(parcels);
        }
    }

    pub(super) fn tell(&self, notice: M::Notice) {
        self.notice.send_if_modified(|known| {
            let is_new = *known != notice;
            if is_new {
                *known = notice;
            }
            is_new
        });
    }

    pub(super) fn clear(&self) {
        self.lock().wants.clear();
        self.tell(M::Notice::default());
        self.parcels.send_if_modified(|parcels| {
            let had = !parcels.is_empty();
            parcels.clear();
            had
        });
    }

    /// Takes what is wanted, waiting for some. For one reader.
    pub(crate) async fn wants(&self) -> Vec<(u64, M::Want)> {
        loop {
            let wants = std::mem::take(&mut self.lock().wants);
            if !wants.is_empty() {
                return wants;
            }
            self.wanted.notified().await;
        }
    }

    /// What the machine told last; nothing if it does not serve.
    pub(crate) fn notice(&self) -> M::Notice {
        self.notice.borrow().clone()
    }

    /// Follows what it tells.
    pub(crate) fn notices(&self) -> watch::Receiver<M::Notice> {
        self.notice.subscribe()
    }

    /// Follows the parcels.
    pub(crate) fn parcels(&self) -> watch::Receiver<Vec<M::Parcel>> {
        self.parcels.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted<M::Want>> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
