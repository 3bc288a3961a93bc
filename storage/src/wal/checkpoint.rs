//! The checkpoint: segments are synced, so that the write-ahead log may forget.
//!
//! Begins when half of the log files are in use or many bytes were appended. Every append
//! in a file before the current one was in its segment before it was in that file; so
//! once all logs changed since the last time are synced, those files are free. The
//! number of the first file to replay is stored before any is recycled (M16).

use std::sync::Arc;

use crate::log::LogError;
use crate::node_record::NodeFile;
use crate::shared::Shared;

/// Makes checkpoints when asked, until the data directory fails.
pub(crate) async fn run(shared: Arc<Shared>, node: Arc<NodeFile>) {
    loop {
        shared.checkpoint.notified().await;
        match checkpoint(&shared, &node).await {
            Ok(()) | Err(LogError::DiskFull) => {}
            Err(_) => {
                shared.wal.close();
                return;
            }
        }
    }
}

/// One checkpoint. With `DiskFull` nothing is lost but the chance to free log files; it
/// is tried again when the next is due.
pub(crate) async fn checkpoint(shared: &Arc<Shared>, node: &NodeFile) -> Result<(), LogError> {
    let first_number = shared.wal.files.current_number();
    let mut outcome = Ok(());
    for log in shared.take_dirty() {
        match log.checkpoint().await {
            Ok(()) => {}
            Err(LogError::DiskFull) => {
                shared.dirty(&log);
                outcome = Err(LogError::DiskFull);
            }
            Err(other) => return Err(other),
        }
    }
    outcome?;
    let stored = node.update(|record| record.wal_first_number = first_number);
    shared.health.judge(stored.await)?;
    shared.wal.files.release_below(first_number);
    Ok(())
}
