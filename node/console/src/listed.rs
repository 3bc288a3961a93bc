//! Lists of all that a node leads: the lines of partitions that answer, and in a header of the
//! answer the names of those that do not. A queue that is being loaded, or that has lost its
//! quorum, hides no other one, and is not taken for one without groups.

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weir_api::console::{SILENT_HEADER, SILENT_NAMED_MAX};
use weir_base::TopicPartition;

use crate::failure::Failure;

/// Lines, and who is missing.
pub(crate) struct Listed<T> {
    lines: Vec<T>,
    /// `topic-partition why`.
    silent: Vec<String>,
    /// Partitions that are missing and not named.
    more: usize,
    /// One took all the time that there is.
    is_late: bool,
}

impl<T> Listed<T> {
    pub(crate) fn new() -> Self {
        Self {
            lines: Vec::new(),
            silent: Vec::new(),
            more: 0,
            is_late: false,
        }
    }

    /// Whether to ask no more: who asked would not wait for a second one that says nothing.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Adds what a partition says.
    pub(crate) fn take(&mut self, topic: &str, at: TopicPartition, said: Result<Vec<T>, Failure>) {
        match said {
            Ok(lines) => self.lines.extend(lines),
            Err(failure) => {
                self.is_late |= failure.is_timeout();
                self.pass(topic, at, &failure.problem.error);
            }
        }
    }

    /// Names a partition of which nothing is known.
    pub(crate) fn pass(&mut self, topic: &str, at: TopicPartition, why: &str) {
        if self.silent.len() < SILENT_NAMED_MAX {
            self.silent.push(format!("{topic}-{} {why}", at.index.0));
        } else {
            self.more += 1;
        }
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let mut text = self.silent.join(", ");
        if self.more > 0 {
            text.push_str(&format!(", and {} more", self.more));
        }
        // Names of topics and reasons are letters that a header may have.
        let value = HeaderValue::from_str(&text).ok();
        let value = value.filter(|_| !self.silent.is_empty())?;
        Some((HeaderName::from_static(SILENT_HEADER), value))
    }
}

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        let header = self.header().map(|header| [header]);
        (header, Json(self.lines)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use weir_base::Uuid;

    use super::*;

    #[test]
    fn many_that_are_missing_are_named_up_to_a_bound() {
        let mut listed: Listed<u32> = Listed::new();
        assert_eq!(listed.header(), None);
        for index in 0..60 {
            let at = TopicPartition::new(Uuid([7; 16]), index);
            listed.take("jobs", at, Err(Failure::not_ready()));
        }
        assert!(!listed.is_late());
        let (_, value) = listed.header().unwrap();
        let text = value.to_str().unwrap();
        assert!(text.starts_with("jobs-0 not_ready, jobs-1 "), "{text}");
        assert!(text.ends_with("jobs-49 not_ready, and 10 more"), "{text}");
        let late = Failure::timed_out(std::time::Duration::ZERO);
        listed.take("jobs", TopicPartition::new(Uuid([7; 16]), 60), Err(late));
        assert!(listed.is_late());
    }
}
