//! Why a connection ended.

use std::io;

use thiserror::Error;
use weir_wire::FrameError;

/// Every end of a connection, for the log.
#[derive(Debug, Error)]
pub(crate) enum CloseReason {
    #[error("client closed the connection")]
    PeerClosed,
    #[error("idle for too long")]
    Idle,
    #[error("node is draining")]
    Drained,
    #[error("closed by the node")]
    Closed,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("writing failed: {0}")]
    Write(io::Error),
    #[error("request names unknown api key {0}")]
    UnknownApi(i16),
    #[error("api key {api} is not served in version {version}")]
    UnsupportedVersion { api: i16, version: i16 },
    #[error("malformed request, api key {api} version {version}: {detail}")]
    Malformed {
        api: i16,
        version: i16,
        detail: String,
    },
    #[error("request header is malformed")]
    MalformedHeader,
    /// acks=0 has no response to carry an error: closing tells the producer to refresh.
    #[error("unacknowledged produce failed: {0}")]
    Unacknowledged(String),
    /// A bug of ours: the response has no encoding in that version.
    #[error("response to api key {api} version {version} cannot be encoded: {detail}")]
    Unencodable {
        api: i16,
        version: i16,
        detail: String,
    },
}

impl CloseReason {
    /// Whether an operator should see it without asking.
    pub(crate) fn is_remarkable(&self) -> bool {
        match self {
            CloseReason::PeerClosed
            | CloseReason::Idle
            | CloseReason::Drained
            | CloseReason::Closed
            | CloseReason::Write(_) => false,
            CloseReason::Frame(error) => !matches!(error, FrameError::Io(_)),
            CloseReason::UnknownApi(_)
            | CloseReason::UnsupportedVersion { .. }
            | CloseReason::Malformed { .. }
            | CloseReason::MalformedHeader
            | CloseReason::Unacknowledged(_)
            | CloseReason::Unencodable { .. } => true,
        }
    }
}
