//! weir-checkers
