//! Serving a follower that is behind, from the log, without hurting those that are not.
//!
//! Reads are of one chunk, take a permit of a node-wide budget (which is what bounds the
//! disk and the memory they take), and run beside the stream's writer, so that a slow
//! disk never delays what is appended now.

use std::sync::Arc;

use tokio::sync::Semaphore;
use weir_base::Env;
use weir_storage::LogError;

use crate::core::effect::Answer;
use crate::stream::outlet::{Behind, Outlet};

/// Reads the next chunk for `behind` and queues it.
pub(crate) fn start(env: &Env, budget: &Arc<Semaphore>, outlet: Arc<Outlet>, behind: Behind) {
    let budget = Arc::clone(budget);
    let clock = Arc::clone(&env.clock);
    env.tasks.spawn("replication catch-up read", async move {
        let Ok(_permit) = budget.acquire().await else {
            return; // the node stops
        };
        let Behind {
            at,
            session,
            log,
            inbox,
            from,
            below,
            bytes_max,
        } = behind;
        match log.read(from, below, bytes_max).await {
            Ok(chunk) => outlet.on_read(at, session, chunk, clock.now()),
            Err(LogError::OutOfRange { start, .. }) => {
                // Retention passed the follower by, or the log was cut and the session is over.
                if let Some(epoch) = outlet.epoch_of(at, session) {
                    outlet.stop(at, session);
                    let answer = if from < start {
                        Answer::Reset { start }
                    } else {
                        Answer::Refused
                    };
                    outlet.answer(at, epoch, session, answer);
                }
            }
            Err(error) => {
                outlet.stop(at, session);
                inbox.fail(error);
            }
        }
    });
}
