//! weir-os
