//! This node's copy of the cluster image, and the feed that observers follow.
//!
//! Owned by the group's state machine on a voter and by the observer task elsewhere;
//! both only append. The image is always the fold of a prefix of the committed log
//! (I15). In memory: a voter rebuilds it from snapshot and log, an observer asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use weir_base::ClusterImage;

use crate::apply::apply;
use crate::command::{ItemResult, Proposal};

/// Bytes of recent entries kept for observers; one that is further behind gets the
/// whole image instead.
const FEED_BYTES_MAX: usize = 4 * 1024 * 1024;

struct Inner {
    image: ClusterImage,
    feed: VecDeque<(u64, Bytes)>,
    feed_bytes: usize,
}

/// See the module.
pub(crate) struct ImageStore {
    inner: Mutex<Inner>,
    images: watch::Sender<Arc<ClusterImage>>,
}

impl ImageStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                image: ClusterImage::default(),
                feed: VecDeque::new(),
                feed_bytes: 0,
            }),
            images: watch::Sender::new(Arc::default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest published image.
    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        self.images.borrow().clone()
    }

    pub(crate) fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.images.subscribe()
    }

    /// Applies committed entries in order, then publishes one image for all of them.
    /// An entry that is here already is skipped and has no results. That none is
    /// missing (I15) is openraft's promise on a voter; the observer task checks it.
    pub(crate) fn apply_all<'a>(
        &self,
        entries: impl Iterator<Item = (u64, &'a Proposal)>,
    ) -> Vec<Vec<ItemResult>> {
        let mut inner = self.lock();
        let results = entries
            .map(|(index, proposal)| {
                if index <= inner.image.version {
                    return Vec::new();
                }
                // A proposal was decoded from bytes, so it can be encoded again.
                let bytes = Bytes::from(postcard::to_stdvec(proposal).unwrap_or_default());
                inner.remember(index, bytes);
                apply(&mut inner.image, index, proposal)
            })
            .collect();
        let image = Arc::new(inner.image.clone());
        // Sent under the lock, so that images are published in order.
        self.images.send_replace(image);
        results
    }

    /// Replaces the image by a newer one; an older one is ignored.
    pub(crate) fn install(&self, image: ClusterImage) {
        let mut inner = self.lock();
        if image.version < inner.image.version {
            return;
        }
        inner.feed.clear();
        inner.feed_bytes = 0;
        inner.image = image.clone();
        self.images.send_replace(Arc::new(image));
    }

    /// Entries after `version` in order, if they are all still here.
    pub(crate) fn feed_after(&self, version: u64) -> Option<Vec<(u64, Bytes)>> {
        let inner = self.lock();
        if version >= inner.image.version {
            return Some(Vec::new());
        }
        match inner.feed.front() {
            Some((first, _)) if *first <= version + 1 && version > 0 => Some(
                inner
                    .feed
                    .iter()
                    .filter(|(index, _)| *index > version)
                    .cloned()
                    .collect(),
            ),
            Some(_) | None => None,
        }
    }
}

impl Inner {
    fn remember(&mut self, index: u64, bytes: Bytes) {
        self.feed_bytes += bytes.len();
        self.feed.push_back((index, bytes));
        while self.feed_bytes > FEED_BYTES_MAX {
            let Some((_, old)) = self.feed.pop_front() else {
                break;
            };
            self.feed_bytes -= old.len();
        }
    }
}
