//! Clients that run against simulated nodes, and remember what they were told.

pub(crate) mod admin;
pub mod broadcast;
pub(crate) mod clerk;
pub mod kafka_client;
pub(crate) mod keeper;
pub(crate) mod member;
pub mod produce;
pub mod queue;
pub(crate) mod reader;
pub(crate) mod recorder;
pub(crate) mod rocketmq;
pub(crate) mod router;
pub(crate) mod stage;
pub(crate) mod workers;
pub(crate) mod writer;
