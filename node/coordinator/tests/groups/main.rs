//! The group machine, command by command, without a host.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that is wrong about a reply should panic"
)]

mod fail_over;
mod harness;
mod offsets;
mod rebalance;
mod static_members;
