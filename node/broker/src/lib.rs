//! The broker: implements the waist (`weir-api`) over storage, replication and metadata.
//!
//! Owns: which partitions this node holds (`partitions`), the way of an append and of
//! a read to them, the hosted group coordinators, and admin calls to the controller.
//! It decides nothing about epochs, ISR or elections: it carries image deltas down to
//! replication and ISR proposals up to metadata. On a crash nothing here is lost, since
//! nothing here is kept.

mod admin;
mod agreement;
mod append;
mod cluster;
mod cut;
mod duties;
mod forward;
mod groups;
mod host;
mod journal;
mod partitions;
mod queues;
mod read;
mod resigning;

mod broker;

pub use broker::{Broker, BrokerOptions};
