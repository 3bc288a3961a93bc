//! Words, literals and symbols of a condition.

use std::sync::Arc;

use crate::error::FilterError;

/// One token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) kind: Kind<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    /// A keyword or a property's name.
    Word(&'a str),
    Text(Arc<str>),
    Int(i64),
    Real(f64),
    Symbol(&'static str),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 11] = ["<>", "!=", ">=", "<=", "=", ">", "<", "(", ")", ",", "-"];

fn syntax(at: usize, expected: &'static str) -> FilterError {
    FilterError::Syntax { at, expected }
}

/// All tokens; the last is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or(' ');
        let (kind, length) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first == '\'' {
            quoted(rest, at)?
        } else if first.is_ascii_digit() {
            number(rest, at)?
        } else if first.is_alphabetic() || matches!(first, '_' | '$') {
            let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
            let length = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
            (Kind::Word(rest.get(..length).unwrap_or_default()), length)
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            let symbol =
                symbol.ok_or_else(|| syntax(at, "a property, a literal or an operator"))?;
            (Kind::Symbol(symbol), symbol.len())
        };
        tokens.push(Token { at, kind });
        at += length;
    }
    tokens.push(Token {
        at: text.len(),
        kind: Kind::End,
    });
    Ok(tokens)
}

/// `'it''s'`.
fn quoted(rest: &str, at: usize) -> Result<(Kind<'_>, usize), FilterError> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((place, c)) = chars.next() {
        if c != '\'' {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            text.push('\'');
        } else {
            return Ok((Kind::Text(text.into()), place + 1));
        }
    }
    Err(syntax(at, "a closing quote"))
}

fn number(rest: &str, at: usize) -> Result<(Kind<'_>, usize), FilterError> {
    let mut length = 0;
    let mut before = ' ';
    for c in rest.chars() {
        let exponent = matches!(before, 'e' | 'E') && matches!(c, '+' | '-');
        if !c.is_ascii_alphanumeric() && c != '.' && !exponent {
            break;
        }
        length += c.len_utf8();
        before = c;
    }
    let digits = rest.get(..length).unwrap_or_default();
    let int = digits.parse().ok().map(Kind::Int);
    let real = || digits.parse().ok().filter(|real: &f64| real.is_finite());
    let kind = int.or_else(|| real().map(Kind::Real));
    Ok((kind.ok_or_else(|| syntax(at, "a number"))?, length))
}
