//! Why a data directory cannot be used.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use weir_base::{FaultClass, TopicPartition};

use crate::log::LogError;

/// What went wrong with the data directory as a whole.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// Reading or writing failed.
    #[error("data directory: {0}")]
    Io(Arc<io::Error>),
    /// The directory's own record is unreadable in both copies.
    #[error("the data directory's identity record is corrupt in both copies")]
    IdentityCorrupt,
    /// An option is out of bounds.
    #[error("storage options: {0}")]
    Options(String),
    /// A log could not be recovered for a reason other than its own content.
    #[error("log {partition}: {source}")]
    Log {
        /// Which one.
        partition: TopicPartition,
        /// Why.
        source: LogError,
    },
}

impl StorageError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            StorageError::Io(_) => FaultClass::DiskLost,
            StorageError::IdentityCorrupt | StorageError::Options(_) => FaultClass::Stop,
            StorageError::Log { source, .. } => source.class(),
        }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        StorageError::Io(Arc::new(error))
    }
}
