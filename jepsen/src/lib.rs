//! weir-jepsen
