//! Documents: namespaced, versioned, opaque values of other rooms, with compare-and-set.

use weir_base::image::{ClusterImage, Document};

use crate::apply::Draft;
use crate::command::{ItemResult, Outcome, Refusal};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value, in bytes. What is larger belongs into a topic.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;

/// The documents whose key begins with `prefix`, in key order.
pub fn with_prefix<'a>(
    image: &'a ClusterImage,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Document)> {
    image
        .documents
        .range(prefix.to_owned()..)
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(key, document)| (key.as_str(), document))
}

pub(crate) fn put(
    draft: &mut Draft<'_>,
    key: &str,
    expected: Option<u64>,
    value: &[u8],
) -> ItemResult {
    let is_named = key
        .split_once('/')
        .is_some_and(|(n, k)| !n.is_empty() && !k.is_empty());
    if !is_named || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(Refusal::InvalidRequest(format!(
            "document '{key}' of {} bytes: the key must be namespace/key of at most \
             {KEY_BYTES_MAX} bytes, the value at most {VALUE_BYTES_MAX} bytes",
            value.len()
        )));
    }
    check(draft, key, expected)?;
    let version = draft.index;
    draft.put_document(
        key,
        Some(Document {
            version,
            value: value.to_vec(),
        }),
    );
    Ok(Outcome::Document(version))
}

pub(crate) fn delete(draft: &mut Draft<'_>, key: &str, expected: u64) -> ItemResult {
    check(draft, key, Some(expected))?;
    draft.put_document(key, None);
    Ok(Outcome::Done)
}

fn check(draft: &Draft<'_>, key: &str, expected: Option<u64>) -> Result<(), Refusal> {
    let current = draft.image().documents.get(key).map(|d| d.version);
    if current == expected {
        Ok(())
    } else {
        Err(Refusal::VersionConflict {
            key: key.to_owned(),
            expected,
            current,
        })
    }
}
