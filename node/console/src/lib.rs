//! weir-console
