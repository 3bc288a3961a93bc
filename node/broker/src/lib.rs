//! weir-broker
#[allow(dead_code, reason = "the broker that starts hosts is not here yet")]
pub(crate) mod host;
