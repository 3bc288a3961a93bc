//! What a dead letter says of itself, read back from its headers.

use std::sync::Arc;

use weir_base::batch::Record;
use weir_base::ids::is_topic_name;

use crate::envelope::{DLQ_PREFIX, HEADER_GROUP, HEADER_KEYS};
use crate::settings::Target;

/// Facts that only replays look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFacts {
    /// Where it came from, if it tells so.
    pub origin: Option<Target>,
    /// The group that gave it up.
    pub group: Option<Arc<str>>,
    /// Why, as the header says it: a word, and perhaps the consumer's words behind `: `.
    pub cause: Arc<str>,
    /// Its message group, record key and keys.
    pub keys: Vec<Arc<str>>,
}

impl LetterFacts {
    /// Reads a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Arc::<str>::from);
        let mut letter = Self::default();
        letter.keys.extend(record.key.as_deref().and_then(text));
        let (mut topic, mut partition) = (None, None);
        for header in &record.headers {
            let value = header.value.as_deref().unwrap_or_default();
            let (Some(name), Some(value)) = (text(&header.key), text(value)) else {
                continue;
            };
            match &*name {
                HEADER_GROUP => letter.keys.push(value),
                HEADER_KEYS => letter.keys.extend(value.split_whitespace().map(Arc::from)),
                name => match name.strip_prefix(DLQ_PREFIX) {
                    Some("cause") => letter.cause = value,
                    Some("group") => letter.group = Some(value),
                    Some("origin.topic") => topic = Some(value),
                    Some("origin.partition") => partition = value.parse().ok(),
                    _ => {}
                },
            }
        }
        letter.origin = topic
            .zip(partition)
            .map(|(topic, partition)| Target { topic, partition });
        letter.origin = letter.origin.filter(|origin| is_topic_name(&origin.topic));
        letter
    }
}
