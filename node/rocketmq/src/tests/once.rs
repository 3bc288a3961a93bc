//! Topics on which a message is stored once, by id or by business key.

use std::time::Duration;

use weir_api::queues;
use weir_base::{NodeId, TopicId};

use super::sending::{message, send, system};
use super::{Client, Fixture, code, resource, run};
use crate::proto::{
    Code, EndTransactionRequest, MessageType, RecallMessageRequest, RecallMessageResponse,
    SendResultEntry, StatusOnly, SystemProperties,
};

async fn sent(client: &Client, topic: &str, system: SystemProperties) -> SendResultEntry {
    let answer = send(client, vec![message(topic, system, "x")]).await;
    assert_eq!(code(answer.status), i32::from(Code::Ok));
    answer.entries.into_iter().next().unwrap()
}

impl Fixture {
    /// The ids of all that is in a topic's log, partition by partition. Asking its queues has
    /// the fake broker append what is due.
    async fn ids(&self, topic: TopicId, partitions: u32) -> Vec<Vec<String>> {
        let mut ids = Vec::new();
        for partition in 0..partitions {
            let at = weir_base::TopicPartition::new(topic, partition);
            drop(self.broker.api().queues.list_groups(at).await);
            let records = self.records(topic, partition).await;
            let read = records
                .iter()
                .map(|record| queues::Message::from_record(0, record).id.to_string());
            ids.push(read.collect());
        }
        ids
    }
}

#[test]
fn a_message_that_is_sent_again_is_stored_once_whatever_queue_it_is_sent_to() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 3, &[("weir.dedup", "id")]).await;
        let client = fixture.client("c1").await;
        for queue_id in [0, 1, 2] {
            for id in ["a", "b"] {
                let at = SystemProperties {
                    queue_id,
                    ..system(id)
                };
                let entry = sent(&client, "t", at).await;
                assert_eq!((&*entry.message_id, entry.offset), (id, -1));
            }
        }
        let mut ids = fixture.ids(topic, 3).await.concat();
        ids.sort();
        assert_eq!(ids, ["a", "b"]);
    });
}

#[test]
fn messages_of_one_group_are_stored_once_and_in_the_order_of_the_first_ones() {
    run(async {
        let fixture = Fixture::start().await;
        let configs = [("weir.dedup", "id"), ("weir.message.type", "fifo")];
        let topic = fixture.topic("f", 3, &configs).await;
        let client = fixture.client("c1").await;
        for id in ["1", "2", "1", "3", "2", "4"] {
            let grouped = SystemProperties {
                message_type: MessageType::Fifo.into(),
                message_group: Some("order-1".to_owned()),
                ..system(id)
            };
            sent(&client, "f", grouped).await;
        }
        assert_eq!(fixture.ids(topic, 3).await.concat(), ["1", "2", "3", "4"]);
    });
}

#[test]
fn a_message_group_keeps_its_order_though_not_all_of_it_has_keys() {
    run(async {
        let fixture = Fixture::start().await;
        let configs = [("weir.dedup", "key"), ("weir.message.type", "fifo")];
        let topic = fixture.topic("f", 3, &configs).await;
        let client = fixture.client("c1").await;
        for (id, key) in [("1", Some("k")), ("2", None), ("3", Some("k")), ("4", None)] {
            let grouped = SystemProperties {
                message_type: MessageType::Fifo.into(),
                message_group: Some("order-1".to_owned()),
                keys: key.into_iter().map(str::to_owned).collect(),
                ..system(id)
            };
            let entry = sent(&client, "f", grouped).await;
            // They were not appended before the queue released them.
            assert_eq!(entry.offset, -1);
        }
        assert_eq!(fixture.ids(topic, 3).await.concat(), ["1", "2", "4"]);
    });
}

#[test]
fn a_repeated_business_key_is_answered_with_the_first_message() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = fixture.topic("t", 2, &[("weir.dedup", "key")]).await;
        let client = fixture.client("c1").await;
        let keyed = |id: &str, key: &str| SystemProperties {
            keys: vec![key.to_owned(), "all".to_owned()],
            ..system(id)
        };
        for (id, key, first) in [("1", "k", "1"), ("2", "k", "1"), ("3", "l", "3")] {
            let entry = sent(&client, "t", keyed(id, key)).await;
            assert_eq!(entry.message_id, first);
        }
        // What has no key is not compared.
        for _ in 0..2 {
            sent(&client, "t", system("4")).await;
        }
        let mut ids = fixture.ids(topic, 2).await.concat();
        ids.sort();
        assert_eq!(ids, ["1", "3", "4", "4"]);

        // A delayed one: the repeat can take the first one back, and then its key is free.
        let due = fixture.env.clock.wall() + Duration::from_secs(600);
        let delayed = |id: &str| SystemProperties {
            message_type: MessageType::Delay.into(),
            delivery_timestamp: Some(due.into()),
            ..keyed(id, "later")
        };
        let first = sent(&client, "t", delayed("5")).await;
        let again = sent(&client, "t", delayed("6")).await;
        assert_eq!(again.message_id, "5");
        assert_eq!(again.recall_handle, first.recall_handle);
        let recall = RecallMessageRequest {
            topic: resource("t"),
            recall_handle: again.recall_handle,
        };
        let recalled: RecallMessageResponse = client.ask("RecallMessage", recall).await.unwrap();
        assert_eq!(recalled.message_id, "5");
        assert_eq!(sent(&client, "t", delayed("7")).await.message_id, "7");

        // A half message: one transaction, which can be decided by either answer.
        let half = |id: &str, key: &str| SystemProperties {
            message_type: MessageType::Transaction.into(),
            ..keyed(id, key)
        };
        let first = sent(&client, "t", half("8", "paid")).await;
        let again = sent(&client, "t", half("9", "paid")).await;
        assert_eq!(
            (&*again.message_id, &again.transaction_id),
            ("8", &first.transaction_id)
        );
        let commit = EndTransactionRequest {
            topic: resource("t"),
            transaction_id: again.transaction_id,
            resolution: 1,
            source: 1,
            ..EndTransactionRequest::default()
        };
        let committed: StatusOnly = client.ask("EndTransaction", commit).await.unwrap();
        assert_eq!(code(committed.status), i32::from(Code::Ok));
        // There is nothing to decide of what was sent as it is.
        let answer = send(&client, vec![message("t", half("10", "k"), "x")]).await;
        let conflict = i32::from(Code::MessagePropertyConflictWithType);
        assert_eq!(code(answer.entries[0].status.clone()), conflict);
        let mut ids = fixture.ids(topic, 2).await.concat();
        ids.sort();
        assert_eq!(ids, ["1", "3", "4", "4", "8"]);
    });
}

#[test]
fn when_no_more_ids_can_be_remembered_a_message_is_refused_and_none_is_stored_twice() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.broker.set_queue_options(queues::QueueOptions {
            dedup_max: 2,
            ..queues::QueueOptions::default()
        });
        let topic = fixture.topic("t", 1, &[("weir.dedup", "id")]).await;
        let client = fixture.client("c1").await;
        for id in ["a", "b"] {
            sent(&client, "t", system(id)).await;
        }
        for _ in 0..2 {
            let answer = send(&client, vec![message("t", system("c"), "x")]).await;
            let status = answer.entries[0].status.clone().unwrap();
            // The one code that clients repeat after a pause.
            assert_eq!(status.code, i32::from(Code::TooManyRequests));
            assert!(status.message.contains("dedup_max"), "{}", status.message);
            for known in ["a", "b"] {
                let entry = sent(&client, "t", system(known)).await;
                assert_eq!(entry.message_id, known);
            }
        }
        assert_eq!(fixture.ids(topic, 1).await.concat(), ["a", "b"]);
    });
}

#[test]
fn after_the_window_a_message_is_new_and_without_a_leader_it_is_refused() {
    run(async {
        let fixture = Fixture::start().await;
        let configs = [("weir.dedup", "id"), ("weir.dedup.window.ms", "300")];
        let topic = fixture.topic("t", 1, &configs).await;
        let client = fixture.client("c1").await;
        while fixture.ids(topic, 1).await.concat() != ["a", "a"] {
            sent(&client, "t", system("a")).await;
        }
        fixture.broker.set_leader("t", 0, Some(NodeId(9)));
        let mut request = client.request(crate::proto::SendMessageRequest {
            messages: vec![message("t", system("b"), "x")],
        });
        request.set_timeout(Duration::from_millis(500));
        let answer: crate::proto::SendMessageResponse =
            client.ask_with("SendMessage", request).await.unwrap();
        assert_eq!(code(answer.status), i32::from(Code::HaNotAvailable));
    });
}
