//! weir-replication
