//! Offsets of partitions that this node leads.

use std::time::Duration;

use weir_api::image::PartitionRecord;
use weir_api::log::OffsetQuery;
use weir_api::{Api, ReadError};
use weir_base::{Monotonic, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;

/// How long one request waits for leaders that were just elected, and how often it asks.
const READY_MAX: Duration = Duration::from_secs(1);
const READY_POLL: Duration = Duration::from_millis(10);

/// The way to them, for one request.
pub(crate) struct OffsetsHere<'a> {
    state: &'a ConsoleState,
    api: &'a Api,
    give_up: Monotonic,
}

impl<'a> OffsetsHere<'a> {
    pub(crate) fn new(state: &'a ConsoleState, api: &'a Api) -> Self {
        Self {
            state,
            api,
            give_up: state.env.clock.now() + READY_MAX,
        }
    }

    /// An offset; `None` if this node does not lead the partition, or no longer, or is
    /// not ready to.
    pub(crate) async fn find(
        &self,
        at: TopicPartition,
        record: &PartitionRecord,
        query: OffsetQuery,
    ) -> Result<Option<u64>, Failure> {
        if record.leader != Some(self.api.cluster.node()) {
            return Ok(None);
        }
        loop {
            let found = self.state.within(self.api.log.offset(at, query, None));
            let refused = match found.await? {
                Ok(found) => return Ok(found.offset.map(|offset| offset.0)),
                Err(refused) => refused,
            };
            let passes = match refused {
                // It leads, or is about to: by the image alone, or not established yet.
                ReadError::NotReady | ReadError::NotLeader(_) | ReadError::UnknownEpoch => true,
                ReadError::UnknownPartition
                | ReadError::FencedEpoch(_)
                | ReadError::OutOfRange { .. }
                | ReadError::Storage => false,
            };
            if !passes || self.state.env.clock.now() >= self.give_up {
                return Ok(None);
            }
            self.state.env.sleep(READY_POLL).await;
        }
    }
}
