//! The group machine, command by command, without a host.

mod fail_over;
mod harness;
mod offsets;
mod rebalance;
mod static_members;
