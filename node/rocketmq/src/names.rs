//! Names of topics and groups, in RocketMQ's words and in Weir's (decisions/0001).
//!
//! | RocketMQ | Weir |
//! |---|---|
//! | `orders` | `orders` |
//! | `orders%2Ecreated`, or `orders.created` where the client lets it pass | `orders.created` |
//! | `orders` in namespace `shop` | `shop.orders` |
//! | `%DLQ%billing` | `dlq.billing` |
//! | `%RETRY%billing` | nothing: a message that waits for a retry stays in its queue |

use weir_base::ids::is_topic_name;

use crate::errors::Refusal;
use crate::proto::{Code, Resource};

/// Longest topic name that RocketMQ's clients know.
const TOPIC_BYTES_MAX: usize = 127;
/// Longest group name; with `dlq.` before it, it is still a topic's.
const GROUP_BYTES_MAX: usize = 120;
/// What RocketMQ writes before a group for the topic of its dead letters.
const DEAD_LETTERS: &str = "%DLQ%";
/// What RocketMQ 4 writes before a group for the topic of its retries.
const RETRIES: &str = "%RETRY%";
/// What Weir writes before a group for the topic of its dead letters.
const WEIR_DEAD_LETTERS: &str = "dlq.";
/// A full stop, which RocketMQ's clients do not let pass.
const FULL_STOP: &str = "%2E";

/// The Weir topic that a resource names.
pub(crate) fn topic(resource: Option<&Resource>) -> Result<String, Refusal> {
    let resource =
        resource.ok_or_else(|| refused(Code::IllegalTopic, "topic", "", TOPIC_BYTES_MAX))?;
    let name = &resource.name;
    if name.starts_with(RETRIES) {
        return Err(Refusal::new(
            Code::IllegalTopic,
            format!(
                "there is no topic '{name}': a message that waits for a retry stays in its queue"
            ),
        ));
    }
    if let Some(group) = name.strip_prefix(DEAD_LETTERS) {
        let group = plain(&resource.resource_namespace, group, GROUP_BYTES_MAX)
            .ok_or_else(|| refused(Code::IllegalTopic, "topic", name, TOPIC_BYTES_MAX))?;
        return Ok(format!("{WEIR_DEAD_LETTERS}{group}"));
    }
    plain(&resource.resource_namespace, name, TOPIC_BYTES_MAX)
        .ok_or_else(|| refused(Code::IllegalTopic, "topic", name, TOPIC_BYTES_MAX))
}

/// The Weir group that a resource names.
pub(crate) fn group(resource: Option<&Resource>) -> Result<String, Refusal> {
    let empty = Resource::default();
    let Resource {
        resource_namespace,
        name,
    } = resource.unwrap_or(&empty);
    plain(resource_namespace, name, GROUP_BYTES_MAX)
        .ok_or_else(|| refused(Code::IllegalConsumerGroup, "group", name, GROUP_BYTES_MAX))
}

/// How a RocketMQ client writes the Weir topic `name`.
pub(crate) fn shown(name: &str) -> String {
    match name.strip_prefix(WEIR_DEAD_LETTERS) {
        Some(group) => format!("{DEAD_LETTERS}{}", group.replace('.', FULL_STOP)),
        None => name.replace('.', FULL_STOP),
    }
}

/// `None` unless it is a legal name in Weir too.
fn plain(namespace: &str, name: &str, bytes_max: usize) -> Option<String> {
    let name = name.replace(FULL_STOP, ".");
    let name = match namespace {
        "" => name,
        namespace => format!("{namespace}.{name}"),
    };
    (name.len() <= bytes_max && is_topic_name(&name)).then_some(name)
}

fn refused(code: Code, what: &str, name: &str, bytes_max: usize) -> Refusal {
    Refusal::new(
        code,
        format!(
            "'{name}' is not a legal {what} name: 1 to {bytes_max} of [a-zA-Z0-9_-], a full stop is written {FULL_STOP}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(namespace: &str, name: &str) -> Resource {
        Resource {
            resource_namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn names_are_translated_both_ways() {
        for (wire, weir) in [
            ("orders", "orders"),
            ("orders%2Ecreated", "orders.created"),
            ("%DLQ%billing", "dlq.billing"),
            ("%DLQ%a%2Eb", "dlq.a.b"),
        ] {
            assert_eq!(topic(Some(&resource("", wire))).unwrap(), weir);
            assert_eq!(shown(weir), wire);
        }
        assert_eq!(topic(Some(&resource("", "a.b"))).unwrap(), "a.b");
        assert_eq!(
            topic(Some(&resource("shop", "orders"))).unwrap(),
            "shop.orders"
        );
        assert_eq!(group(Some(&resource("shop", "g"))).unwrap(), "shop.g");
    }

    #[test]
    fn what_has_no_legal_name_is_refused_with_the_limit() {
        let long = "x".repeat(128);
        for bad in [
            "",
            "a b",
            "a|b",
            "%a",
            "%RETRY%g",
            "%DLQ%",
            ".",
            long.as_str(),
        ] {
            let refusal = topic(Some(&resource("", bad))).unwrap_err();
            assert_eq!(refusal.code, Code::IllegalTopic, "{bad}");
        }
        let refusal = group(Some(&resource("", &long))).unwrap_err();
        assert_eq!(refusal.code, Code::IllegalConsumerGroup);
        assert!(refusal.message.contains("1 to 120"), "{}", refusal.message);
        assert_eq!(topic(None).unwrap_err().code, Code::IllegalTopic);
    }
}
