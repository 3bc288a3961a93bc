//! Which messages a group wants: by tag, or by an SQL92 condition on properties.

mod compile;
mod lexer;
mod program;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::FilterError;
use crate::message::{MessageFacts, Needs};

use program::Program;

/// Longest expression, in bytes.
pub const FILTER_BYTES_MAX: usize = 4096;

/// A subscription's condition, as it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Every message.
    #[default]
    All,
    /// Messages with one of these tags: `a || b`; `*` is every message.
    Tags(Arc<str>),
    /// Messages for which the condition is true; unknown is not true.
    Sql(Arc<str>),
}

/// A filter made ready to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CompiledFilter {
    /// `None`: every message.
    test: Option<Test>,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// Sorted.
    Tags(Vec<Arc<str>>),
    Sql(Program),
}

impl Filter {
    /// Makes it ready to run.
    ///
    /// # Errors
    /// [`FilterError`], with the place in the expression.
    pub fn compile(&self) -> Result<CompiledFilter, FilterError> {
        let test = match self {
            Filter::All => None,
            Filter::Tags(tags) => compile_tags(checked(tags)?)?.map(Test::Tags),
            Filter::Sql(condition) => Some(Test::Sql(compile::compile(checked(condition)?)?)),
        };
        Ok(CompiledFilter { test })
    }
}

fn checked(expression: &str) -> Result<&str, FilterError> {
    if expression.len() > FILTER_BYTES_MAX {
        return Err(FilterError::TooLong {
            bytes: expression.len(),
            max: FILTER_BYTES_MAX,
        });
    }
    Ok(expression)
}

/// `None` for every message.
fn compile_tags(expression: &str) -> Result<Option<Vec<Arc<str>>>, FilterError> {
    let mut tags: Vec<Arc<str>> = Vec::new();
    let mut at = 0;
    for part in expression.split("||") {
        let tag = part.trim();
        if tag == "*" {
            return Ok(None);
        }
        if tag.is_empty() || tag.chars().any(|c| c == '|' || c.is_control()) {
            return Err(FilterError::Tag { at });
        }
        tags.push(tag.into());
        at += part.len() + 2;
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(Some(tags))
}

impl CompiledFilter {
    /// Which facts it looks at.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match &self.test {
            None => Needs::default(),
            Some(Test::Tags(_)) => Needs {
                tag: true,
                ..Needs::default()
            },
            Some(Test::Sql(program)) => program.needs,
        }
    }

    /// Whether the group wants the message.
    #[must_use]
    pub fn wants(&self, message: &MessageFacts) -> bool {
        match (&self.test, &message.tag) {
            (None, _) => true,
            (Some(Test::Tags(tags)), Some(tag)) => tags.binary_search(tag).is_ok(),
            (Some(Test::Tags(_)), None) => false,
            (Some(Test::Sql(program)), _) => program.wants(message),
        }
    }
}
