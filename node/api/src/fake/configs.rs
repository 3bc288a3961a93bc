//! Defaults of topic configs as the fake describes them.

use std::collections::BTreeMap;

use crate::admin::ConfigEntry;

/// Kafka's config type numbers.
const BOOL: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;

const TOPIC_DEFAULTS: &[(&str, &str, i8)] = &[
    ("cleanup.policy", "delete", LIST),
    ("compression.type", "producer", STRING),
    ("delete.retention.ms", "86400000", LONG),
    ("max.message.bytes", "4194304", INT),
    ("message.timestamp.after.max.ms", "3600000", LONG),
    (
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        LONG,
    ),
    ("message.timestamp.type", "CreateTime", STRING),
    ("min.insync.replicas", "1", INT),
    ("retention.bytes", "-1", LONG),
    ("retention.ms", "604800000", LONG),
    ("segment.bytes", "1073741824", INT),
    ("segment.ms", "604800000", LONG),
    ("unclean.leader.election.enable", "false", BOOL),
    ("weir.dedup", "none", STRING),
    ("weir.dedup.window.ms", "-1", LONG),
    ("weir.flush", "sync", STRING),
    ("weir.message.group.partitions", "-1", INT),
    ("weir.message.type", "mixed", STRING),
    ("weir.replication", "sync", STRING),
];

/// Whether topics have such a config, and `value` fits its type.
pub(super) fn check(key: &str, value: &str) -> Result<(), String> {
    let Some((_, _, kind)) = TOPIC_DEFAULTS.iter().find(|(name, ..)| *name == key) else {
        return Err(format!("unknown topic config '{key}'"));
    };
    let fits = match *kind {
        BOOL => value.parse::<bool>().is_ok(),
        INT => value.parse::<i32>().is_ok(),
        LONG => value.parse::<i64>().is_ok(),
        _ => !value.is_empty(),
    };
    if fits {
        return Ok(());
    }
    Err(format!("'{value}' is no value for '{key}'"))
}

/// Every config with what was set over the default.
pub(super) fn describe(set: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |(key, default, kind): &(&str, &str, i8)| ConfigEntry {
        key: (*key).to_owned(),
        value: set
            .get(*key)
            .cloned()
            .unwrap_or_else(|| (*default).to_owned()),
        is_set: set.contains_key(*key),
        kind: *kind,
        read_only: false,
        documentation: "see the topic configuration reference",
    };
    TOPIC_DEFAULTS.iter().map(entry).collect()
}
