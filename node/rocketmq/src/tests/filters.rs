//! Subscriptions by an SQL92 condition, as clients ask for them in every receive.

use std::time::Duration;

use super::receiving::{ack, asking, handle, receive, with_group};
use super::sending::{message, send, system};
use super::{Client, Fixture, code, run};
use crate::proto::{
    Code, FilterExpression, FilterType, Message, ReceiveMessageRequest, ReceiveMessageResponse,
    SystemProperties, received::Content,
};

fn where_sql(condition: &str, wait: Duration) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        filter_expression: Some(FilterExpression {
            r#type: FilterType::Sql.into(),
            expression: condition.to_owned(),
        }),
        ..asking("t", wait)
    }
}

/// Sends a message with these properties; `TAGS` is its tag.
async fn sent(client: &Client, id: &str, properties: &[(&str, &str)]) {
    let tag = properties.iter().find(|(name, _)| *name == "TAGS");
    let system = SystemProperties {
        tag: tag.map(|(_, tag)| (*tag).to_owned()),
        ..system(id)
    };
    let mut message = message("t", system, "x");
    let properties = properties.iter().filter(|(name, _)| *name != "TAGS");
    let properties = properties.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    message.user_properties = properties.collect();
    let answer = send(client, vec![message]).await;
    assert_eq!(code(answer.status), i32::from(Code::Ok));
}

fn ids(messages: &[Message]) -> Vec<&str> {
    let systems = messages.iter().flat_map(|m| &m.system_properties);
    systems.map(|system| &*system.message_id).collect()
}

/// The code and the words of a receive that is refused.
async fn refused(client: &Client, condition: &str) -> (i32, String) {
    let request = where_sql(condition, Duration::ZERO);
    let mut answers: Vec<ReceiveMessageResponse> =
        client.ask_for_all("ReceiveMessage", request).await;
    let Some(Content::Status(status)) = answers.remove(0).content else {
        panic!("no status");
    };
    (status.code, status.message)
}

#[test]
fn only_messages_that_meet_the_condition_come_and_the_others_are_done_with() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let client = &member.client;
        for (id, properties) in [
            ("1", &[("price", "10"), ("region", "eu")][..]),
            ("2", &[("price", "9.5"), ("region", "eu")]),
            ("3", &[("price", "100"), ("region", "us")]),
            ("4", &[("region", "eu")]),
            ("5", &[("price", "much"), ("region", "eu")]),
            ("6", &[("price", "11"), ("region", "eu"), ("TAGS", "sale")]),
            ("7", &[("price", "250"), ("region", "eu west")]),
        ] {
            sent(client, id, properties).await;
        }
        let condition = "price >= 10 AND (region = 'eu' OR region LIKE 'eu %') AND TAGS IS NULL";
        let (status, got) = receive(client, where_sql(condition, Duration::from_secs(10))).await;
        assert_eq!(status, i32::from(Code::Ok));
        // A number is compared as one; what is missing or is none meets nothing.
        assert_eq!(ids(&got), ["1", "7"]);
        let handles: Vec<String> = got.iter().map(handle).collect();
        ack(client, "t", &handles).await;
        let (status, got) = receive(client, where_sql(condition, Duration::ZERO)).await;
        assert_eq!((status, got.len()), (i32::from(Code::MessageNotFound), 0));
        assert_eq!(finals(&fixture).await, (2, 5));
        // One that comes later is looked at, too.
        sent(client, "8", &[("price", "1e3"), ("region", "eu")]).await;
        let (_, got) = receive(client, where_sql(condition, Duration::from_secs(10))).await;
        assert_eq!(ids(&got), ["8"]);
    });
}

/// How many messages the group acknowledged and how many it passed over.
async fn finals(fixture: &Fixture) -> (u64, u64) {
    let api = fixture.broker.api();
    let at = weir_base::TopicPartition::new(api.cluster.image().topics["t"].id, 0);
    let groups = api.queues.list_groups(at).await.unwrap();
    (groups[0].counts.acked, groups[0].counts.filtered)
}

#[test]
fn a_condition_that_cannot_be_run_is_refused_with_its_place_and_changes_nothing() {
    run(async {
        let (_fixture, member) = with_group(1).await;
        let client = &member.client;
        sent(client, "1", &[("a", "1")]).await;
        let (deep, long) = (
            format!("{}a = 1{}", "(".repeat(2_000), ")".repeat(2_000)),
            format!("a = 1{}", " OR a = 1".repeat(400)),
        );
        for (condition, words) in [
            ("a >", "at byte 3: expected"),
            ("a = 'x", "at byte 4: expected"),
            ("a = 1 AND AND b = 2", "at byte 10: expected"),
            ("a IN ()", "at byte 6: expected"),
            ("price; DROP TABLE t", "at byte 5: expected"),
            // Steps are counted before any message is looked at.
            (&deep, "steps, more than"),
            (&long, "steps, more than"),
        ] {
            let (code, why) = refused(client, condition).await;
            assert_eq!(code, i32::from(Code::IllegalFilterExpression), "{why}");
            assert!(why.contains(words), "{condition:.40}: {why}");
        }
        let (_, got) = receive(client, where_sql("a = 1", Duration::from_secs(10))).await;
        assert_eq!(ids(&got), ["1"]);
    });
}

#[test]
fn a_pattern_that_takes_too_long_on_a_message_does_not_match_it() {
    run(async {
        let (fixture, member) = with_group(1).await;
        let client = &member.client;
        // Both match, the first one after some 136,000 steps; the budget is 64 Ki.
        sent(client, "slow", &[("a", &format!("{}b", "a".repeat(8_000)))]).await;
        sent(client, "fast", &[("a", &format!("{}b", "a".repeat(20)))]).await;
        let condition = format!("a LIKE '%{}b'", "a".repeat(16));
        let (_, got) = receive(client, where_sql(&condition, Duration::from_secs(10))).await;
        assert_eq!(ids(&got), ["fast"]);
        ack(client, "t", &[handle(&got[0])]).await;
        assert_eq!(finals(&fixture).await, (1, 1));
    });
}
