//! Callers in wait: for the machine to answer, and for its answer to be committed.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use weir_base::Offset;
use weir_base::machine::Token;

use super::HostError;

/// Where an answer goes.
type Caller<R> = oneshot::Sender<Result<R, HostError>>;

/// The callers of one epoch.
pub(super) struct Parked<R> {
    tokens: u64,
    /// Callers the machine has not answered.
    waiting: BTreeMap<Token, Caller<R>>,
    /// Answers and the journal end they were decided at, which never falls.
    answered: VecDeque<(Offset, Caller<R>, R)>,
}

impl<R> Parked<R> {
    pub(super) fn new() -> Self {
        Self {
            tokens: 0,
            waiting: BTreeMap::new(),
            answered: VecDeque::new(),
        }
    }

    /// Callers in wait, for either reason.
    pub(super) fn callers(&self) -> usize {
        self.waiting.len() + self.answered.len()
    }

    /// Answers waiting for a commit.
    pub(super) fn answers(&self) -> usize {
        self.answered.len()
    }

    /// Names a new caller.
    pub(super) fn admit(&mut self, caller: Caller<R>) -> Token {
        let token = Token(self.tokens);
        self.tokens += 1;
        self.waiting.insert(token, caller);
        token
    }

    /// The machine answered a caller, on state that ends at `at`.
    pub(super) fn park(&mut self, at: Offset, token: Token, reply: R) {
        let caller = self.waiting.remove(&token);
        // A machine that answers twice or the wrong caller has lost its own state.
        assert!(caller.is_some(), "{token:?} was answered twice");
        assert!(
            self.answered.back().is_none_or(|(last, ..)| *last <= at),
            "replies are parked in journal order"
        );
        if let Some(caller) = caller {
            self.answered.push_back((at, caller, reply));
        }
    }

    /// Everything below `committed` is committed: the answers decided on it may go.
    pub(super) fn release(&mut self, committed: Offset) {
        while self
            .answered
            .front()
            .is_some_and(|(at, ..)| *at <= committed)
        {
            if let Some((_, caller, reply)) = self.answered.pop_front() {
                // A caller that gave up is no error.
                drop(caller.send(Ok(reply)));
            }
        }
    }

    /// The epoch is lost: nobody in wait can be told what became of its wish.
    pub(super) fn fail(self) {
        let answered = self.answered.into_iter().map(|(_, caller, _)| caller);
        for caller in self.waiting.into_values().chain(answered) {
            drop(caller.send(Err(HostError::Indeterminate)));
        }
    }
}
