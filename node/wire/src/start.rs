//! Why a front does not start, and the check of its options' bounds.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use thiserror::Error;

/// Options outside their bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} is {value}, must be {bounds}")]
pub struct OptionsError {
    field: &'static str,
    value: usize,
    bounds: &'static str,
}

/// An option: its name, its value, where it must lie, and the same in words.
pub type Bound = (&'static str, usize, RangeInclusive<usize>, &'static str);

/// Checks the bounds of a front's options, in order.
///
/// # Errors
/// [`OptionsError`] names the first field outside them.
pub fn check_bounds(options: impl IntoIterator<Item = Bound>) -> Result<(), OptionsError> {
    for (field, value, range, bounds) in options {
        if !range.contains(&value) {
            return Err(OptionsError {
                field,
                value,
                bounds,
            });
        }
    }
    Ok(())
}

/// Why a front did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Options outside their bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
}
