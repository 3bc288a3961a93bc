//! From a condition to a flat program, without recursion: operands are names and
//! literals, so only `NOT`, `AND`, `OR` and parentheses nest, and those wait on a stack.

use super::lexer::{Kind, Token, tokens};
use super::program::{Compare, Like, Op, Operand, Program};
use crate::error::FilterError;

/// Most instructions of a program.
pub(super) const STEPS_MAX: usize = 512;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// What waits for its right side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    Open(usize),
    Or,
    And,
    Not,
}

struct Compiler<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    pending: Vec<Pending>,
    program: Program,
}

/// Compiles a condition.
pub(super) fn compile(text: &str) -> Result<Program, FilterError> {
    let mut compiler = Compiler {
        tokens: tokens(text)?,
        next: 0,
        pending: Vec::new(),
        program: Program::default(),
    };
    loop {
        compiler.predicate()?;
        if compiler.connective()? {
            return Ok(compiler.program);
        }
    }
}

impl<'a> Compiler<'a> {
    fn kind(&self) -> &Kind<'a> {
        self.tokens
            .get(self.next)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        let at = self.tokens.get(self.next).map_or(0, |token| token.at);
        FilterError::Syntax { at, expected }
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.kind(), Kind::Symbol(found) if *found == symbol);
        self.next += usize::from(found);
        found
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = matches!(self.kind(), Kind::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn push(&mut self, pending: Pending) -> Result<(), FilterError> {
        self.pending.push(pending);
        let steps = self.pending.len();
        let max = DEPTH_MAX;
        if steps > max {
            return Err(FilterError::TooComplex { steps, max });
        }
        Ok(())
    }

    fn emit(&mut self, op: Op) -> Result<(), FilterError> {
        self.program.ops.push(op);
        let steps = self.program.ops.len();
        let max = STEPS_MAX;
        if steps > max {
            return Err(FilterError::TooComplex { steps, max });
        }
        Ok(())
    }

    /// Emits what binds at least as strongly as `least`.
    fn emit_pending(&mut self, least: Pending) -> Result<(), FilterError> {
        while let Some(pending) = self.pending.pop_if(|pending| *pending >= least) {
            self.emit(match pending {
                Pending::Not => Op::Not,
                Pending::And => Op::And,
                Pending::Or | Pending::Open(_) => Op::Or,
            })?;
        }
        Ok(())
    }

    /// `AND`, `OR`, closing parentheses, or the end.
    fn connective(&mut self) -> Result<bool, FilterError> {
        while self.take_symbol(")") {
            self.emit_pending(Pending::Or)?;
            if self.pending.pop().is_none() {
                self.next -= 1;
                return Err(self.expected("no ')' without a '('"));
            }
        }
        if self.take_word("AND") {
            self.emit_pending(Pending::And)?;
            self.push(Pending::And)?;
        } else if self.take_word("OR") {
            self.emit_pending(Pending::Or)?;
            self.push(Pending::Or)?;
        } else if *self.kind() == Kind::End {
            self.emit_pending(Pending::Or)?;
            if let Some(Pending::Open(at)) = self.pending.pop() {
                let expected = "a ')' for this '('";
                return Err(FilterError::Syntax { at, expected });
            }
            return Ok(true);
        } else {
            return Err(self.expected("AND, OR, ')' or the end"));
        }
        Ok(false)
    }

    /// What a connective connects.
    fn predicate(&mut self) -> Result<(), FilterError> {
        loop {
            let at = self.tokens.get(self.next).map_or(0, |token| token.at);
            if self.take_word("NOT") {
                self.push(Pending::Not)?;
            } else if self.take_symbol("(") {
                self.push(Pending::Open(at))?;
            } else {
                break;
            }
        }
        let left = self.operand()?;
        let is_truth = matches!(left, Operand::Truth(_));
        self.emit(Op::Load(left))?;
        if let Some(compare) = self.comparison() {
            let right = self.operand()?;
            self.emit(Op::Load(right))?;
            return self.emit(Op::Compare(compare));
        }
        if self.take_word("IS") {
            let not = self.take_word("NOT");
            if !self.take_word("NULL") {
                return Err(self.expected("NULL"));
            }
            self.emit(Op::IsNull)?;
            return self.negated(not);
        }
        let not = self.take_word("NOT");
        if self.take_word("BETWEEN") {
            let low = self.operand()?;
            self.emit(Op::Load(low))?;
            if !self.take_word("AND") {
                return Err(self.expected("AND"));
            }
            let high = self.operand()?;
            self.emit(Op::Load(high))?;
            self.emit(Op::Between)?;
        } else if self.take_word("IN") {
            self.list()?;
        } else if let Some(like) = self.like() {
            let Kind::Text(pattern) = self.kind().clone() else {
                return Err(self.expected("a text in quotes"));
            };
            self.next += 1;
            self.emit(Op::Like(like, pattern))?;
        } else if is_truth && !not {
            return Ok(());
        } else {
            return Err(self.expected("an operator"));
        }
        self.negated(not)
    }

    fn negated(&mut self, not: bool) -> Result<(), FilterError> {
        if not { self.emit(Op::Not) } else { Ok(()) }
    }

    fn list(&mut self) -> Result<(), FilterError> {
        if !self.take_symbol("(") {
            return Err(self.expected("'('"));
        }
        let mut count = 0;
        loop {
            let element = self.operand()?;
            self.emit(Op::Load(element))?;
            count += 1;
            if self.take_symbol(")") {
                return self.emit(Op::In(count));
            }
            if !self.take_symbol(",") {
                return Err(self.expected("',' or ')'"));
            }
        }
    }

    fn like(&mut self) -> Option<Like> {
        let kinds = [
            ("LIKE", Like::Pattern),
            ("CONTAINS", Like::Contains),
            ("STARTSWITH", Like::StartsWith),
            ("ENDSWITH", Like::EndsWith),
        ];
        let found = kinds.into_iter().find(|(word, _)| self.take_word(word));
        found.map(|(_, like)| like)
    }

    fn comparison(&mut self) -> Option<Compare> {
        let kinds = [
            ("=", Compare::Equal),
            ("<>", Compare::Unequal),
            ("!=", Compare::Unequal),
            (">=", Compare::AtLeast),
            ("<=", Compare::AtMost),
            (">", Compare::Above),
            ("<", Compare::Below),
        ];
        let found = kinds
            .into_iter()
            .find(|(symbol, _)| self.take_symbol(symbol));
        found.map(|(_, compare)| compare)
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        let negative = self.take_symbol("-");
        let operand = match (self.kind().clone(), negative) {
            (Kind::Int(value), false) => Operand::Int(value),
            (Kind::Int(value), true) => Operand::Int(value.wrapping_neg()),
            (Kind::Real(value), false) => Operand::Real(value),
            (Kind::Real(value), true) => Operand::Real(-value),
            (Kind::Text(text), false) => Operand::Text(text),
            (Kind::Word(word), false) => {
                let is = |keyword| word.eq_ignore_ascii_case(keyword);
                let reserved = ["AND", "OR", "NOT", "IN", "IS", "BETWEEN", "LIKE", "NULL"];
                if is("TRUE") || is("FALSE") {
                    Operand::Truth(is("TRUE"))
                } else if word == "TAGS" {
                    self.program.needs.tag = true;
                    Operand::Tag
                } else if reserved.into_iter().any(is) {
                    return Err(self.expected("a property or a literal"));
                } else {
                    self.program.needs.properties = true;
                    Operand::Property(word.into())
                }
            }
            (Kind::Symbol(_) | Kind::End, false) => {
                return Err(self.expected("a property or a literal"));
            }
            (Kind::Symbol(_) | Kind::End | Kind::Text(_) | Kind::Word(_), true) => {
                return Err(self.expected("a number"));
            }
        };
        self.next += 1;
        Ok(operand)
    }
}
