//! Clients inside the simulation: they speak the Kafka protocol over the simulated
//! network and keep unknown outcomes unknown.

pub mod kafka_client;
pub mod produce;
pub mod queue;
