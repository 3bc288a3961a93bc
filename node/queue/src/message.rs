//! What a machine is told of a message: never its body.

use std::sync::Arc;

use weir_base::{Offset, Timestamp};

use crate::ids::KeyHash;
use crate::replay::LetterFacts;

/// Facts about one record of the partition. The host derives them with
/// [`MessageFacts::of`]and feeds them in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFacts {
    /// Where it is.
    pub offset: Offset,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Bytes of key, value and headers.
    pub bytes: u32,
    /// Its message group, or else its record key.
    pub key: Option<KeyHash>,
    /// Its `weir.version`, if it has one and a key.
    pub version: Option<u64>,
    /// Its tag, if [`Needs::tag`].
    pub tag: Option<Arc<str>>,
    /// Its properties, if [`Needs::properties`]; of several of one name the last counts.
    pub properties: Vec<(Arc<str>, Arc<str>)>,
    /// When it may be delivered, if it asks to come later and no queue sent it: what a queue
    /// sends was kept until its time.
    pub not_before: Option<Timestamp>,
    /// The one group it is for, if it is for one: the others pass it over.
    pub only: Option<KeyHash>,
    /// What it tells as a dead letter, if [`Needs::letter`].
    pub letter: Option<Box<LetterFacts>>,
}

/// Which facts a group's filter looks at: the others are not worth an allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The tag.
    pub tag: bool,
    /// User properties.
    pub properties: bool,
    /// What dead letters tell of themselves.
    pub letter: bool,
}

/// What the machine wants read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// For which group; the [`Feed`](crate::Feed) names it again.
    pub group: crate::ids::GroupNumber,
    /// First offset wanted.
    pub from: Offset,
    /// Most records of use. The host may read fewer, and feeds whatever it read.
    pub records_max: usize,
    /// What the facts must hold.
    pub needs: Needs,
}
