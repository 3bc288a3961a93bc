//! Leader and follower of one partition: epochs, ISR, high watermark, truncation.

#[cfg(feature = "mutants")]
pub mod mutants;

/// Whether the named bug is planted; never in a build without the feature.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(feature = "mutants")]
        let planted = crate::mutants::is_planted(crate::mutants::Mutant::$name);
        #[cfg(not(feature = "mutants"))]
        let planted = false;
        planted
    }};
}

pub mod core;
