//! What passes over the stream that every client keeps open to every node it uses.

use super::{Message, Settings, Status};

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct TelemetryCommand {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(oneof = "command::Command", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub(crate) command: Option<command::Command>,
}

pub(crate) mod command {
    /// Settings go both ways, reports come from clients, the others go to them.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub(crate) enum Command {
        #[prost(message, tag = "2")]
        Settings(super::Settings),
        #[prost(message, tag = "3")]
        ThreadStackTrace(super::ThreadStackTrace),
        #[prost(message, tag = "4")]
        VerifyMessageResult(super::Nonce),
        #[prost(message, tag = "5")]
        RecoverOrphanedTransaction(super::RecoverOrphanedTransactionCommand),
        #[prost(message, tag = "6")]
        PrintThreadStackTrace(super::Nonce),
        #[prost(message, tag = "7")]
        VerifyMessage(super::VerifyMessageCommand),
        #[prost(message, tag = "8")]
        ReconnectEndpoints(super::Nonce),
        #[prost(message, tag = "9")]
        NotifyUnsubscribeLite(super::NotifyUnsubscribeLiteCommand),
    }
}

/// All that a `PrintThreadStackTraceCommand`, a `ReconnectEndpointsCommand` and a
/// `VerifyMessageResult` hold: which question an answer is for. No command of operators is
/// sent from here.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Nonce {
    #[prost(string, tag = "1")]
    pub(crate) nonce: String,
}

/// What a client's threads do.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ThreadStackTrace {
    #[prost(string, tag = "1")]
    pub(crate) nonce: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) thread_stack_trace: Option<String>,
}

/// Has a push consumer process a message that it was not delivered.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct VerifyMessageCommand {
    #[prost(string, tag = "1")]
    pub(crate) nonce: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) message: Option<Message>,
}

/// Takes a light topic away from a consumer.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct NotifyUnsubscribeLiteCommand {
    #[prost(string, tag = "1")]
    pub(crate) lite_topic: String,
}

/// Asks a producer what became of the transaction of a half message.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct RecoverOrphanedTransactionCommand {
    #[prost(message, optional, tag = "1")]
    pub(crate) message: Option<Message>,
    #[prost(string, tag = "2")]
    pub(crate) transaction_id: String,
}
