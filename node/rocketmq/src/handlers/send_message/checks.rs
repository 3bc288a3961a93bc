//! What a RocketMQ 5 broker checks of a message, before anything of its request is done.

use std::time::Duration;

use weir_api::queues::envelope::is_property_name;
use weir_base::Timestamp;

use crate::context::RocketmqOptions;
use crate::errors::Refusal;
use crate::proto::{
    Code, Encoding, Message, MessageType, SystemProperties, WireDuration, WireTimestamp,
};

/// Longest message id; those that clients make have 34 bytes.
const ID_BYTES_MAX: usize = 255;
/// User properties of one message.
const PROPERTIES_MAX: usize = 128;
/// Their bytes, with tag and keys.
const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Message groups are shorter.
const GROUP_BYTES_END: usize = 64;
/// Longest time before a half message is asked about.
const RECOVERY_MAX: Duration = Duration::from_secs(3_600);
/// Properties that RocketMQ 4 clients set by these names: a user's own would read as theirs.
const RESERVED: [&str; 16] = [
    "KEYS",
    "TAGS",
    "WAIT",
    "DELAY",
    "UNIQ_KEY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    "TRAN_MSG",
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "ORIGIN_MESSAGE_ID",
    "RECONSUME_TIME",
    "POP_CK",
    "__SHARDINGKEY",
];

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stored at once.
    Normal,
    /// Stored at once, in the queue of its group.
    Fifo,
    /// Kept until then.
    Delay(Timestamp),
    /// Kept until its producer decides.
    Transaction,
}

/// Checks a message for a topic that takes `accepted`.
pub(super) fn check(
    options: &RocketmqOptions,
    accepted: &[MessageType],
    now: Timestamp,
    message: &Message,
) -> Result<Kind, Refusal> {
    let absent = SystemProperties::default();
    let system = message.system_properties.as_ref().unwrap_or(&absent);
    check_id(&system.message_id)?;
    check_body(options, message)?;
    check_properties(message, system)?;
    check_tag_and_keys(system)?;
    check_group(system)?;
    let kind = kind(system, now)?;
    check_delay(options, now, kind)?;
    check_recovery(system)?;
    check_accepted(accepted, kind)?;
    Ok(kind)
}

fn check_id(id: &str) -> Result<(), Refusal> {
    if id.trim().is_empty() || id.len() > ID_BYTES_MAX || has_control(id) {
        return Err(Refusal::new(
            Code::IllegalMessageId,
            format!(
                "message id '{id}' must have 1 to {ID_BYTES_MAX} bytes, no control characters, and not be blank"
            ),
        ));
    }
    Ok(())
}

fn check_body(options: &RocketmqOptions, message: &Message) -> Result<(), Refusal> {
    let (bytes, max) = (message.body.len(), options.body_bytes_max);
    if bytes == 0 {
        return Err(Refusal::new(
            Code::MessageBodyEmpty,
            "message body is empty",
        ));
    }
    if bytes > max {
        return Err(Refusal::new(
            Code::MessageBodyTooLarge,
            format!("message body of {bytes} bytes, at most {max} are accepted"),
        ));
    }
    Ok(())
}

fn check_properties(message: &Message, system: &SystemProperties) -> Result<(), Refusal> {
    let properties = &message.user_properties;
    if properties.len() > PROPERTIES_MAX {
        return Err(Refusal::new(
            Code::MessagePropertiesTooLarge,
            format!(
                "{} user properties, at most {PROPERTIES_MAX} are accepted",
                properties.len()
            ),
        ));
    }
    let of_user = properties
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let of_system = system.keys.iter().chain(&system.tag).map(String::len);
    let bytes: usize = of_user.chain(of_system).sum();
    if bytes > PROPERTIES_BYTES_MAX {
        return Err(Refusal::new(
            Code::MessagePropertiesTooLarge,
            format!(
                "properties, tag and keys of {bytes} bytes, at most {PROPERTIES_BYTES_MAX} are accepted"
            ),
        ));
    }
    let illegal = |name: &&String| {
        has_control(name) || !is_property_name(name) || RESERVED.contains(&name.as_str())
    };
    if let Some(name) = properties.keys().find(illegal) {
        return Err(Refusal::new(
            Code::IllegalMessagePropertyKey,
            format!("property name '{name}' is empty, has control characters or is reserved"),
        ));
    }
    Ok(())
}

fn check_tag_and_keys(system: &SystemProperties) -> Result<(), Refusal> {
    let blank = |text: &str| text.trim().is_empty() || has_control(text);
    if let Some(tag) = &system.tag
        && (blank(tag) || tag.contains('|'))
    {
        return Err(Refusal::new(
            Code::IllegalMessageTag,
            format!("tag '{tag}' must not be blank nor hold '|' or control characters"),
        ));
    }
    if let Some(key) = system.keys.iter().find(|key| blank(key)) {
        return Err(Refusal::new(
            Code::IllegalMessageKey,
            format!("key '{key}' must not be blank nor hold control characters"),
        ));
    }
    Ok(())
}

fn check_group(system: &SystemProperties) -> Result<(), Refusal> {
    let Some(group) = &system.message_group else {
        return Ok(());
    };
    if group.trim().is_empty() || group.len() >= GROUP_BYTES_END || has_control(group) {
        return Err(Refusal::new(
            Code::IllegalMessageGroup,
            format!(
                "message group '{group}' must have 1 to {} bytes, no control characters, and not be blank",
                GROUP_BYTES_END - 1
            ),
        ));
    }
    Ok(())
}

/// The type that the client declares, if the properties go with it.
fn kind(system: &SystemProperties, now: Timestamp) -> Result<Kind, Refusal> {
    let conflict = |why: &str| Err(Refusal::new(Code::MessagePropertyConflictWithType, why));
    if Encoding::try_from(system.body_encoding).is_err() {
        return Err(Refusal::new(
            Code::MessageCorrupted,
            format!("body encoding {} does not exist", system.body_encoding),
        ));
    }
    let Ok(declared) = MessageType::try_from(system.message_type) else {
        return conflict(&format!(
            "message type {} does not exist",
            system.message_type
        ));
    };
    let due = system.delivery_timestamp.map(WireTimestamp::to_timestamp);
    let due = due.map(|due| due.max(now));
    match (declared, &system.message_group, due) {
        (MessageType::Lite, ..) => refuse_unsupported("LITE"),
        (MessageType::Priority, ..) => refuse_unsupported("PRIORITY"),
        (_, Some(_), Some(_)) => {
            conflict("a message has a message group or a delivery time, not both")
        }
        (MessageType::Normal | MessageType::Unspecified, None, None) => Ok(Kind::Normal),
        (MessageType::Fifo | MessageType::Unspecified, Some(_), None) => Ok(Kind::Fifo),
        (MessageType::Delay | MessageType::Unspecified, None, Some(due)) => Ok(Kind::Delay(due)),
        (MessageType::Transaction, None, None) => Ok(Kind::Transaction),
        (MessageType::Normal, ..) => {
            conflict("a NORMAL message has neither message group nor delivery time")
        }
        (MessageType::Fifo, ..) => conflict("a FIFO message needs a message group"),
        (MessageType::Delay, ..) => {
            conflict("a DELAY message needs a delivery time and has no message group")
        }
        (MessageType::Transaction, ..) => {
            conflict("a TRANSACTION message has neither message group nor delivery time")
        }
    }
}

fn refuse_unsupported(what: &str) -> Result<Kind, Refusal> {
    Err(Refusal::new(
        Code::Unsupported,
        format!("{what} messages are not served: send NORMAL, FIFO, DELAY or TRANSACTION"),
    ))
}

fn check_delay(options: &RocketmqOptions, now: Timestamp, kind: Kind) -> Result<(), Refusal> {
    match kind {
        Kind::Delay(due) if due > now + options.delay_max => Err(Refusal::new(
            Code::IllegalDeliveryTime,
            format!(
                "delivery time {} ms since 1970 is more than {} days ahead",
                due.0,
                options.delay_max.as_secs() / 86_400
            ),
        )),
        Kind::Delay(_) | Kind::Normal | Kind::Fifo | Kind::Transaction => Ok(()),
    }
}

/// When a half message is asked about first.
fn check_recovery(system: &SystemProperties) -> Result<(), Refusal> {
    let told = system.orphaned_transaction_recovery_duration;
    match told.map(WireDuration::to_duration) {
        Some(duration) if duration.is_none_or(|duration| duration > RECOVERY_MAX) => {
            Err(Refusal::new(
                Code::BadRequest,
                format!("orphaned transaction recovery duration must be 0 to {RECOVERY_MAX:?}"),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_accepted(accepted: &[MessageType], kind: Kind) -> Result<(), Refusal> {
    let sent = match kind {
        Kind::Normal => MessageType::Normal,
        Kind::Fifo => MessageType::Fifo,
        Kind::Delay(_) => MessageType::Delay,
        Kind::Transaction => MessageType::Transaction,
    };
    if accepted.contains(&sent) {
        return Ok(());
    }
    let name = |of: &MessageType| format!("{of:?}").to_uppercase();
    let accepted: Vec<String> = accepted.iter().map(name).collect();
    Err(Refusal::new(
        Code::MessagePropertyConflictWithType,
        format!(
            "the topic takes {} messages, not {}: its config weir.message.type says so",
            accepted.join(", "),
            name(&sent)
        ),
    ))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
