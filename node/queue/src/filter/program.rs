//! A compiled condition: instructions that each run once, on a small stack.
//!
//! Truth has three values, as in SQL: what involves a property that is missing, or that
//! is no number where one is needed, is unknown, and unknown is not a match. Only `LIKE`
//! costs more than a step: it has a budget, and is unknown beyond.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::message::{MessageFacts, Needs};

/// Characters that one `LIKE` may look at.
const LIKE_STEPS_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) needs: Needs,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Load(Operand),
    Compare(Compare),
    /// Value, low, high.
    Between,
    /// A value and so many elements.
    In(usize),
    IsNull,
    Like(Like, Arc<str>),
    And,
    Or,
    Not,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Property(Arc<str>),
    Tag,
    Text(Arc<str>),
    Int(i64),
    Real(f64),
    Truth(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Like {
    /// `%` is anything, `_` one character.
    Pattern,
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    /// Also the third truth value.
    Unknown,
    Truth(bool),
    Int(i64),
    Real(f64),
    Text(&'a str),
}

impl Program {
    /// Whether the condition is true of the message.
    pub(super) fn wants(&self, message: &MessageFacts) -> bool {
        let mut stack: Vec<Value<'_>> = Vec::with_capacity(8);
        for op in &self.ops {
            let value = match op {
                Op::Load(operand) => load(operand, message),
                Op::Compare(compare) => {
                    let (right, left) = (pop(&mut stack), pop(&mut stack));
                    truth(holds(left, *compare, right))
                }
                Op::Between => {
                    let (high, low, value) = (pop(&mut stack), pop(&mut stack), pop(&mut stack));
                    let above = holds(value, Compare::AtLeast, low);
                    truth(and(above, holds(value, Compare::AtMost, high)))
                }
                Op::In(count) => {
                    let elements = stack.split_off(stack.len().saturating_sub(*count));
                    let value = pop(&mut stack);
                    let equal = elements.into_iter();
                    let equal = equal.map(|element| holds(value, Compare::Equal, element));
                    truth(equal.fold(Some(false), or))
                }
                Op::IsNull => Value::Truth(pop(&mut stack) == Value::Unknown),
                Op::Like(like, pattern) => match pop(&mut stack) {
                    Value::Text(text) => truth(matches_like(text, *like, pattern)),
                    Value::Unknown | Value::Truth(_) | Value::Int(_) | Value::Real(_) => {
                        Value::Unknown
                    }
                },
                Op::And => {
                    let (right, left) = (pop(&mut stack), pop(&mut stack));
                    truth(and(known(left), known(right)))
                }
                Op::Or => {
                    let (right, left) = (pop(&mut stack), pop(&mut stack));
                    truth(or(known(left), known(right)))
                }
                Op::Not => truth(known(pop(&mut stack)).map(|value| !value)),
            };
            stack.push(value);
        }
        pop(&mut stack) == Value::Truth(true)
    }
}

fn pop<'a>(stack: &mut Vec<Value<'a>>) -> Value<'a> {
    stack.pop().unwrap_or(Value::Unknown)
}

fn load<'a>(operand: &'a Operand, message: &'a MessageFacts) -> Value<'a> {
    match operand {
        Operand::Property(name) => {
            let found = message.properties.iter().rev().find(|(key, _)| key == name);
            found.map_or(Value::Unknown, |(_, value)| Value::Text(value))
        }
        Operand::Tag => message.tag.as_deref().map_or(Value::Unknown, Value::Text),
        Operand::Text(text) => Value::Text(text),
        Operand::Int(value) => Value::Int(*value),
        Operand::Real(value) => Value::Real(*value),
        Operand::Truth(value) => Value::Truth(*value),
    }
}

fn truth(value: Option<bool>) -> Value<'static> {
    value.map_or(Value::Unknown, Value::Truth)
}

fn known(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Truth(value) => Some(value),
        Value::Unknown | Value::Int(_) | Value::Real(_) | Value::Text(_) => None,
    }
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), right) => right,
        (None, _) => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    and(left.map(|left| !left), right.map(|right| !right)).map(|value| !value)
}

/// Compares; `None` if the two do not compare.
fn holds(left: Value<'_>, compare: Compare, right: Value<'_>) -> Option<bool> {
    let order = order(left, right)?;
    Some(match compare {
        Compare::Equal => order == Ordering::Equal,
        Compare::Unequal => order != Ordering::Equal,
        Compare::Above => order == Ordering::Greater,
        Compare::AtLeast => order != Ordering::Less,
        Compare::Below => order == Ordering::Less,
        Compare::AtMost => order != Ordering::Greater,
    })
}

/// Properties are text; beside a number they are read as one, beside a truth as one.
fn order(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Truth(left), Value::Truth(right)) => Some(left.cmp(&right)),
        (Value::Text(text), Value::Truth(right)) => Some(read_truth(text)?.cmp(&right)),
        (Value::Truth(left), Value::Text(text)) => Some(left.cmp(&read_truth(text)?)),
        (Value::Text(text), number) => order_numbers(read_number(text)?, number),
        (number, Value::Text(text)) => order_numbers(number, read_number(text)?),
        (left, right) => order_numbers(left, right),
    }
}

fn read_truth(text: &str) -> Option<bool> {
    let is = |word: &str| text.trim().eq_ignore_ascii_case(word);
    (is("true") || is("false")).then(|| is("true"))
}

fn read_number(text: &str) -> Option<Value<'static>> {
    let text = text.trim();
    let int = text.parse().ok().map(Value::Int);
    let real = || text.parse().ok().filter(|real: &f64| real.is_finite());
    int.or_else(|| real().map(Value::Real))
}

fn order_numbers(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        return Some(left.cmp(&right));
    }
    real(left)?.partial_cmp(&real(right)?)
}

fn real(value: Value<'_>) -> Option<f64> {
    match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "beside a real number, as in SQL"
        )]
        Value::Int(value) => Some(value as f64),
        Value::Real(value) => Some(value),
        Value::Unknown | Value::Truth(_) | Value::Text(_) => None,
    }
}

/// `None` when the budget is used up.
fn matches_like(text: &str, like: Like, pattern: &str) -> Option<bool> {
    match like {
        Like::Contains => return Some(text.contains(pattern)),
        Like::StartsWith => return Some(text.starts_with(pattern)),
        Like::EndsWith => return Some(text.ends_with(pattern)),
        Like::Pattern => {}
    }
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    // Where to go on when what follows the last `%` does not fit here.
    let mut retry = None;
    for _ in 0..LIKE_STEPS_MAX {
        let (text_before, mut pattern_after) = (text.clone(), pattern.clone());
        match (text.next(), pattern_after.next()) {
            (_, Some('%')) => {
                text = text_before.clone();
                retry = Some((text_before, pattern_after.clone()));
                pattern = pattern_after;
                continue;
            }
            (None, None) => return Some(true),
            (None, Some(_)) => return Some(false),
            (Some(a), Some(b)) if a == b || b == '_' => {
                pattern = pattern_after;
                continue;
            }
            (Some(_), _) => {}
        }
        let Some((from, after)) = &mut retry else {
            return Some(false);
        };
        from.next();
        (text, pattern) = (from.clone(), after.clone());
    }
    None
}
