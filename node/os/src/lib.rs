//! weir-os

pub mod disk;
