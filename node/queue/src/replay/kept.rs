//! Replays in a snapshot: each beside the group whose letters it moves, which a replay's own
//! bytes, those of its first version, do not have.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serializer};

use super::job::StoredReplay;
use crate::ids::EntryNumber;

pub(crate) fn serialize<S: Serializer>(
    replays: &BTreeMap<EntryNumber, StoredReplay>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let replays = replays.iter();
    serializer.collect_seq(replays.map(|(number, replay)| (number, &replay.filter.group, replay)))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<EntryNumber, StoredReplay>, D::Error> {
    let all = Vec::<(EntryNumber, Option<Arc<str>>, StoredReplay)>::deserialize(deserializer)?;
    let whole = all.into_iter().map(|(number, group, mut replay)| {
        replay.filter.group = group;
        (number, replay)
    });
    Ok(whole.collect())
}
