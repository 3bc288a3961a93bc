//! The console's error map: what the waist refuses, as HTTP status and [`Problem`].

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use weir_api::console::{NOT_READY, Problem};
use weir_api::groups::GroupError;
use weir_api::queues::{QueueError, ReplayError};
use weir_api::{AdminError, GroupCallError, QueueCallError, ReadError};

const RETRY: &str = "try again in a moment; `weir cluster status` shows what is missing";

/// A request that was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) problem: Box<Problem>,
    /// The whole address to ask instead.
    location: Option<String>,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        error: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            problem: Box::new(Problem {
                error: error.to_owned(),
                message: message.into(),
                remedy: remedy.into(),
                redirect: None,
            }),
            location: None,
        }
    }

    pub(crate) fn not_ready() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            NOT_READY,
            "the node is starting",
            "ask /healthz what it waits for",
        )
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timed_out",
            format!("no answer within {after:?}; a change may still happen"),
            "look whether it happened before trying again",
        )
    }

    /// Whether it was waited for in vain.
    pub(crate) fn is_timeout(&self) -> bool {
        self.status == StatusCode::GATEWAY_TIMEOUT
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        let remedy = "see node/console/README.md for what this path takes";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message, remedy)
    }

    pub(crate) fn unknown_topic(name: &str) -> Self {
        AdminError::UnknownTopic(name.to_owned()).into()
    }

    /// Another node answers this. Without its address, nobody can just now.
    pub(crate) fn elsewhere(path: &str, node: weir_base::NodeId, admin: Option<String>) -> Self {
        let mut failure = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "elsewhere",
            format!("node {node} answers this"),
            RETRY,
        );
        if let Some(admin) = admin {
            failure.status = StatusCode::TEMPORARY_REDIRECT;
            failure.problem.remedy = format!("ask {admin}");
            failure.location = Some(format!("http://{admin}{path}"));
            failure.problem.redirect = Some(admin);
        }
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let location = self.location.map(|location| [(header::LOCATION, location)]);
        (self.status, location, Json(self.problem)).into_response()
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            AdminError::TopicExists(_) => (
                S::CONFLICT,
                "topic_exists",
                "choose another name, or alter the topic",
            ),
            AdminError::UnknownTopic(_) | AdminError::UnknownTopicId(_) => (
                S::NOT_FOUND,
                "unknown_topic",
                "`weir topic list` shows what there is",
            ),
            AdminError::InvalidTopicName(_) => {
                (S::BAD_REQUEST, "invalid_topic_name", "choose another name")
            }
            AdminError::InvalidPartitions(_) => (
                S::BAD_REQUEST,
                "invalid_partitions",
                "choose another number; topics only grow",
            ),
            AdminError::InvalidReplicationFactor(_) => (
                S::BAD_REQUEST,
                "invalid_replication_factor",
                "choose at least 1 and at most the number of nodes",
            ),
            AdminError::InvalidAssignment(_) => (
                S::BAD_REQUEST,
                "invalid_assignment",
                "name for each partition distinct nodes that exist",
            ),
            AdminError::InvalidConfig(_) => (
                S::BAD_REQUEST,
                "invalid_config",
                "`weir topic describe` on any topic shows all keys and what they do",
            ),
            AdminError::InvalidRequest(_) => {
                (S::BAD_REQUEST, "invalid_request", "change the request")
            }
            AdminError::NoReassignment => (
                S::CONFLICT,
                "no_reassignment",
                "nothing needs to be cancelled",
            ),
            AdminError::PreferredLeaderNotAvailable => (
                S::SERVICE_UNAVAILABLE,
                "preferred_leader_not_available",
                RETRY,
            ),
            AdminError::ElectionNotNeeded => (
                S::CONFLICT,
                "election_not_needed",
                "nothing needs to be done",
            ),
            AdminError::Unavailable(_) => (S::SERVICE_UNAVAILABLE, "unavailable", RETRY),
            AdminError::TimedOut(_) => (
                S::GATEWAY_TIMEOUT,
                "timed_out",
                "look whether it happened before trying again",
            ),
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<GroupCallError> for Failure {
    fn from(error: GroupCallError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            GroupCallError::NotCoordinator => (S::SERVICE_UNAVAILABLE, "not_coordinator", RETRY),
            GroupCallError::NotAvailable => (S::SERVICE_UNAVAILABLE, "not_available", RETRY),
            GroupCallError::Loading => (S::SERVICE_UNAVAILABLE, "loading", RETRY),
            GroupCallError::Indeterminate => (
                S::SERVICE_UNAVAILABLE,
                "indeterminate",
                "look whether it happened before trying again",
            ),
            GroupCallError::Group(group) => return group.clone().into(),
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        use StatusCode as S;
        let stop_consumers = "stop its consumers first: their commits would undo the change";
        let (status, word, remedy) = match &error {
            GroupError::InvalidGroupId => {
                (S::BAD_REQUEST, "invalid_group_id", "write 1 to 1024 bytes")
            }
            GroupError::NoSuchGroup => (
                S::NOT_FOUND,
                "unknown_group",
                "`weir group list` shows what there is",
            ),
            GroupError::NotEmpty => (S::CONFLICT, "group_not_empty", stop_consumers),
            GroupError::Subscribed => (S::CONFLICT, "group_subscribed", stop_consumers),
            GroupError::MetadataTooLong => (S::BAD_REQUEST, "metadata_too_long", "shorten it"),
            // Answers to members; to an admin they all say that the group is in use.
            GroupError::MemberIdRequired(_)
            | GroupError::UnknownMember
            | GroupError::FencedInstance
            | GroupError::IllegalGeneration
            | GroupError::RebalanceInProgress
            | GroupError::InconsistentProtocol
            | GroupError::InvalidSessionTimeout { .. }
            | GroupError::GroupFull => (S::CONFLICT, "group_in_use", stop_consumers),
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<QueueCallError> for Failure {
    fn from(error: QueueCallError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            QueueCallError::UnknownPartition => (
                S::NOT_FOUND,
                "unknown_partition",
                "`weir topic describe` shows what there is",
            ),
            QueueCallError::NotLeader(_) => (S::SERVICE_UNAVAILABLE, "leader_moved", RETRY),
            QueueCallError::NotAvailable => (S::SERVICE_UNAVAILABLE, "not_available", RETRY),
            QueueCallError::Loading => (S::SERVICE_UNAVAILABLE, "loading", RETRY),
            QueueCallError::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", RETRY),
            QueueCallError::Indeterminate => (
                S::SERVICE_UNAVAILABLE,
                "indeterminate",
                "look whether it happened before trying again",
            ),
            QueueCallError::NoQueue => (
                S::NOT_FOUND,
                "no_queue",
                "`weir queue list` shows what there is",
            ),
            QueueCallError::IllegalGroupName(_) => {
                (S::BAD_REQUEST, "illegal_group_name", "choose another name")
            }
            QueueCallError::Unreadable(_) => (
                S::INTERNAL_SERVER_ERROR,
                "unreadable",
                "look into the node's log; was a newer version running?",
            ),
            QueueCallError::TooLarge { .. } => (
                S::BAD_REQUEST,
                "too_large",
                "stay within the topic's max.message.bytes, or raise it",
            ),
            QueueCallError::Refused(refused) => return refused.clone().into(),
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            QueueError::NoSuchGroup(_) => (
                S::NOT_FOUND,
                "unknown_group",
                "`weir queue list` shows what there is",
            ),
            QueueError::NoSuchHalf | QueueError::NoSuchOutgoing => (
                S::NOT_FOUND,
                "unknown_half",
                "`weir tx list` shows what is undecided",
            ),
            QueueError::AlreadyDecided(_) => (
                S::CONFLICT,
                "already_decided",
                "the first decision stands; nothing needs to be done",
            ),
            QueueError::ForgedHandle | QueueError::Receipt(_) => (
                S::BAD_REQUEST,
                "bad_handle",
                "copy it whole from the list it is in",
            ),
            QueueError::Replay(error) => return error.clone().into(),
            QueueError::InvalidGroupName { .. }
            | QueueError::Settings(_)
            | QueueError::InvisibleDuration { .. }
            | QueueError::RetryDelay { .. }
            | QueueError::DelayTooLong { .. }
            | QueueError::PayloadTooLarge { .. }
            | QueueError::SentBefore
            | QueueError::ToldTooLong { .. } => {
                (S::BAD_REQUEST, "refused", "stay within the limit")
            }
            QueueError::TooManyGroups { .. }
            | QueueError::TooManyWaiting { .. }
            | QueueError::Full { .. }
            | QueueError::TooManyScheduled { .. }
            | QueueError::TooManyHalves { .. }
            | QueueError::TooManyIds { .. } => {
                (S::SERVICE_UNAVAILABLE, "too_many", "wait, or remove some")
            }
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            ReplayError::UnderWay(_) => (
                S::CONFLICT,
                "replay_under_way",
                "`weir dlq replays` shows it; `weir dlq cancel` ends it",
            ),
            ReplayError::NotKnown(_) => (
                S::NOT_FOUND,
                "unknown_replay",
                "`weir dlq replays` shows what there is",
            ),
            ReplayError::Over { .. } => (S::CONFLICT, "replay_over", "begin another one"),
            ReplayError::Rate { .. } | ReplayError::Text { .. } => {
                (S::BAD_REQUEST, "refused", "stay within the limit")
            }
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        use StatusCode as S;
        let (status, word, remedy) = match &error {
            ReadError::UnknownPartition => (
                S::NOT_FOUND,
                "unknown_partition",
                "`weir topic describe` shows what there is",
            ),
            ReadError::NotLeader(_)
            | ReadError::FencedEpoch(_)
            | ReadError::UnknownEpoch
            | ReadError::NotReady => (S::SERVICE_UNAVAILABLE, "leader_moved", RETRY),
            ReadError::OutOfRange { .. } => {
                (S::BAD_REQUEST, "out_of_range", "choose an offset in range")
            }
            ReadError::Storage => (S::SERVICE_UNAVAILABLE, "storage", RETRY),
        };
        Self::new(status, word, error.to_string(), remedy)
    }
}
