//! Topics, configs and descriptions in every version of every admin request.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use kafka_protocol::messages::alter_configs_request;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest, OffsetForLeaderEpochRequest, describe_producers_request,
};
use support::{Client, Fixture, name, run};
use weir_api::Acks;
use weir_base::batch::BatchBuilder;
use weir_base::image::Endpoint;
use weir_base::{NodeId, ProducerEpoch, ProducerId, TopicId, TopicPartition};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn creatable(topic: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
}

async fn create(client: &mut Client, version: i16, topic: CreatableTopic) -> i16 {
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(1000)
        .with_topics(vec![topic]);
    client.call(version, &request).await.topics[0].error_code
}

#[test]
fn topics_are_created_and_deleted_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        for version in 2..=7 {
            let topic = format!("t{version}");
            let request = CreateTopicsRequest::default()
                .with_timeout_ms(1000)
                .with_topics(vec![creatable(&topic, 3)]);
            let dry = request.clone().with_validate_only(true);
            assert_eq!(client.call(version, &dry).await.topics[0].error_code, 0);
            let made = client.call(version, &request).await.topics.remove(0);
            assert_eq!(made.error_code, 0);
            if version >= 5 {
                assert_eq!((made.num_partitions, made.replication_factor), (3, 1));
                assert!(
                    made.configs
                        .unwrap()
                        .iter()
                        .any(|c| c.name.as_str() == "retention.ms")
                );
            }
            assert_eq!(made.topic_id.is_nil(), version < 7);
            assert_eq!(create(&mut client, version, creatable(&topic, 3)).await, 36);
            assert_eq!(
                create(&mut client, version, creatable("bad name", 3)).await,
                17
            );
            assert_eq!(create(&mut client, version, creatable("new", 0)).await, 37);
            let replicas = creatable("new", 1).with_replication_factor(3);
            assert_eq!(create(&mut client, version, replicas).await, 38);
            let unknown = CreatableTopicConfig::default()
                .with_name(name("no.such.config"))
                .with_value(Some(name("1")));
            let config = creatable("new", 1).with_configs(vec![unknown]);
            assert_eq!(create(&mut client, version, config).await, 40);
            let elsewhere =
                CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(77)]);
            let placed = creatable("new", -1).with_assignments(vec![elsewhere.clone()]);
            assert_eq!(create(&mut client, version, placed).await, 39);
            let both = creatable("new", 1).with_assignments(vec![elsewhere]);
            assert_eq!(create(&mut client, version, both).await, 42);
        }
        for version in 1..=6 {
            let topic = format!("t{}", version + 1);
            let mut request = DeleteTopicsRequest::default().with_timeout_ms(1000);
            let names = [topic.as_str(), "unknown"];
            if version >= 6 {
                let states = names.map(|n| DeleteTopicState::default().with_name(Some(name(n))));
                request.topics = states.to_vec();
            } else {
                request.topic_names = names.map(name).to_vec();
            }
            let response = client.call(version, &request).await;
            let codes: Vec<i16> = response.responses.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [0, 3], "version {version}");
        }
        let id = fixture.topic("by-id", 1).await;
        for code in [0, 100] {
            let state = DeleteTopicState::default()
                .with_name(None)
                .with_topic_id(uuid::Uuid::from_bytes(id.0));
            let request = DeleteTopicsRequest::default().with_topics(vec![state]);
            assert_eq!(client.call(6, &request).await.responses[0].error_code, code);
        }
    });
}

#[test]
fn topics_grow_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        for version in 0..=3 {
            let grow = |topic: &str, count: i32| {
                let topic = CreatePartitionsTopic::default()
                    .with_name(name(topic))
                    .with_count(count)
                    .with_assignments(None);
                CreatePartitionsRequest::default()
                    .with_timeout_ms(1000)
                    .with_topics(vec![topic])
            };
            let total = i32::from(version) + 2;
            for (topic, count, code) in [("t", total, 0), ("t", total, 37), ("u", 3, 3)] {
                let response = client.call(version, &grow(topic, count)).await;
                assert_eq!(response.results[0].error_code, code);
            }
        }
    });
}

/// One config of a resource, with where it comes from.
async fn config(client: &mut Client, version: i16, kind: i8, of: &str, key: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(name(of))
        .with_configuration_keys(Some(vec![name(key)]));
    let request = DescribeConfigsRequest::default()
        .with_include_synonyms(true)
        .with_resources(vec![resource]);
    let response = client.call(version, &request).await;
    assert_eq!(response.results[0].error_code, 0);
    assert_eq!(response.results[0].configs.len(), 1);
    let config = &response.results[0].configs[0];
    (
        config.value.as_deref().unwrap().to_owned(),
        config.config_source,
    )
}

#[test]
fn configs_are_described_and_changed_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let key = "retention.ms";
        for version in 1..=4 {
            let default = ("604800000".to_owned(), 5);
            assert_eq!(config(&mut client, version, TOPIC, "t", key).await, default);
            assert_eq!(
                config(&mut client, version, BROKER, "1", key).await,
                default
            );
        }
        for version in 0..=2 {
            let value = format!("{}", 1000 + i32::from(version));
            let setting = alter_configs_request::AlterableConfig::default()
                .with_name(name(key))
                .with_value(Some(name(&value)));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(name("t"))
                .with_configs(vec![setting]);
            let request = AlterConfigsRequest::default().with_resources(vec![resource]);
            assert_eq!(
                client.call(version, &request).await.responses[0].error_code,
                0
            );
            assert_eq!(config(&mut client, 4, TOPIC, "t", key).await, (value, 1));
        }
        for version in 0..=1 {
            let change = |kind: i8, of: &str, key: &str, operation: i8, value: Option<&str>| {
                let setting = incremental::AlterableConfig::default()
                    .with_name(name(key))
                    .with_config_operation(operation)
                    .with_value(value.map(name));
                let resource = incremental::AlterConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(name(of))
                    .with_configs(vec![setting]);
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
            };
            let cases = [
                (TOPIC, "t", key, 0, Some("77"), 0),
                (TOPIC, "t", key, 0, Some("soon"), 40),
                (TOPIC, "t", key, 0, None, 40),
                (TOPIC, "t", key, 9, Some("1"), 42),
                (TOPIC, "unknown", key, 0, Some("1"), 3),
                (BROKER, "", key, 0, Some("5"), 0),
                (BROKER, "1", key, 0, Some("5"), 42),
                (8, "1", key, 0, Some("5"), 42),
                (TOPIC, "t", "cleanup.policy", 0, Some("delete"), 0),
                (TOPIC, "t", "cleanup.policy", 2, Some("compact"), 0),
            ];
            for (kind, of, key, operation, value, code) in cases {
                let request = change(kind, of, key, operation, value);
                let response = client.call(version, &request).await;
                assert_eq!(
                    response.responses[0].error_code, code,
                    "{of} {key} {operation}"
                );
            }
            let policy = config(&mut client, 4, TOPIC, "t", "cleanup.policy").await.0;
            assert_eq!(policy, "delete,compact");
            let reset = change(TOPIC, "t", key, 1, None);
            assert_eq!(
                client.call(version, &reset).await.responses[0].error_code,
                0
            );
            assert_eq!(config(&mut client, 4, TOPIC, "t", key).await.1, 5);
        }
    });
}

#[test]
fn the_cluster_and_its_topics_are_described() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("a", 3).await;
        fixture.topic("b", 2).await;
        let mut client = fixture.client().await;
        for version in 0..=2 {
            let mut request = DescribeClusterRequest::default();
            let response = client.call(version, &request).await;
            assert_eq!(response.error_code, 0);
            assert_eq!(response.brokers[0].broker_id.0, 1);
            assert_eq!(response.cluster_id.len(), 22);
            if version >= 1 {
                request.endpoint_type = 2;
                assert_eq!(client.call(version, &request).await.error_code, 114);
            }
        }
        let mut pages = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            let at = cursor.as_ref().map(|(topic, partition)| {
                Cursor::default()
                    .with_topic_name(name(topic))
                    .with_partition_index(*partition)
            });
            let request = DescribeTopicPartitionsRequest::default()
                .with_response_partition_limit(2)
                .with_cursor(at);
            let response = client.call(0, &request).await;
            for topic in &response.topics {
                let of = topic.name.as_deref().unwrap().as_str();
                let indexes = topic.partitions.iter().map(|p| p.partition_index);
                pages.extend(indexes.map(|index| format!("{of}{index}")));
            }
            match response.next_cursor {
                None => break,
                Some(next) => {
                    cursor = Some((next.topic_name.to_string(), next.partition_index));
                }
            }
        }
        assert_eq!(pages, ["a0", "a1", "a2", "b0", "b1"]);
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(9)
            .with_topics(vec![TopicRequest::default().with_name(name("unknown"))]);
        assert_eq!(client.call(0, &request).await.topics[0].error_code, 3);
        for version in 1..=4 {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            let response = client.call(version, &request).await;
            let topics = &response.results[0].topics;
            let partitions: usize = topics.iter().map(|t| t.partitions.len()).sum();
            assert_eq!(partitions, 5);
        }
    });
}

#[test]
fn leaders_are_elected_and_partitions_moved_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let endpoint = Endpoint {
            host: "other".to_owned(),
            port: 1,
        };
        let endpoints = [("kafka".to_owned(), endpoint)].into();
        fixture.broker.add_node(NodeId(2), endpoints);
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        for version in 0..=2 {
            let elect = |topic: &str| {
                let topic = TopicPartitions::default()
                    .with_topic(name(topic))
                    .with_partitions(vec![0]);
                ElectLeadersRequest::default()
                    .with_timeout_ms(1000)
                    .with_topic_partitions(Some(vec![topic]))
            };
            fixture.broker.set_leader("t", 0, Some(NodeId(2)));
            for (topic, code) in [("t", 0), ("t", 84), ("u", 3)] {
                let response = client.call(version, &elect(topic)).await;
                let result = &response.replica_election_results[0].partition_result[0];
                assert_eq!(result.error_code, code);
            }
            let all = elect("t").with_topic_partitions(None);
            let response = client.call(version, &all).await;
            assert!(response.replica_election_results.is_empty());
            if version >= 1 {
                let unclean = elect("t").with_election_type(1);
                assert_eq!(client.call(version, &unclean).await.error_code, 42);
            }
        }
        for version in 0..=1 {
            let reassign = |replicas: Option<Vec<i32>>| {
                let partition = ReassignablePartition::default()
                    .with_replicas(replicas.map(|r| r.into_iter().map(BrokerId).collect()));
                let topic = ReassignableTopic::default()
                    .with_name(name("t"))
                    .with_partitions(vec![partition]);
                AlterPartitionReassignmentsRequest::default()
                    .with_timeout_ms(1000)
                    .with_topics(vec![topic])
            };
            for (to, code) in [(Some(vec![2]), 0), (Some(vec![9]), 39), (None, 85)] {
                let response = client.call(version, &reassign(to)).await;
                assert_eq!(response.responses[0].partitions[0].error_code, code);
            }
            if version >= 1 {
                let request =
                    reassign(Some(vec![1, 2])).with_allow_replication_factor_change(false);
                let response = client.call(version, &request).await;
                assert_eq!(response.responses[0].partitions[0].error_code, 38);
            }
        }
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let response = client.call(0, &request).await;
        assert!((response.error_code, response.topics.len()) == (0, 0));
    });
}

async fn append(fixture: &Fixture, topic: TopicId, producer: i64) {
    let batch = BatchBuilder::new(fixture.now())
        .producer(ProducerId(producer), ProducerEpoch(0), 0)
        .record(None, Some(b"a"))
        .record(None, Some(b"b"))
        .build();
    let log = fixture.broker.api().log;
    let second = std::time::Duration::from_secs(1);
    let to = TopicPartition::new(topic, 0);
    log.append(to, batch, Acks::All, second).await.unwrap();
}

#[test]
fn records_are_deleted_and_epochs_and_producers_told_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        append(&fixture, id, 5).await;
        fixture.broker.set_leader("t", 0, Some(NodeId(1)));
        append(&fixture, id, 6).await;
        for version in 2..=4 {
            let cases = [
                (1, -1, 0, 1, 2),
                (2, -1, 0, 2, 4),
                (9, -1, 0, 2, 4),
                (0, -1, 0, -1, -1),
            ];
            let stale = [(1, 1, 74, -1, -1), (1, 9, 75, -1, -1)];
            for (asked, believed, code, epoch, end) in cases.into_iter().chain(stale) {
                let partition = OffsetForLeaderPartition::default()
                    .with_leader_epoch(asked)
                    .with_current_leader_epoch(believed);
                let topic = OffsetForLeaderTopic::default()
                    .with_topic(name("t"))
                    .with_partitions(vec![partition]);
                let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                let response = client.call(version, &request).await;
                let found = &response.topics[0].partitions[0];
                assert_eq!(
                    (found.error_code, found.leader_epoch, found.end_offset),
                    (code, epoch, end),
                    "epoch {asked}"
                );
            }
        }
        let topic = describe_producers_request::TopicRequest::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0, 7]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let response = client.call(0, &request).await;
        let [known, unknown] = &response.topics[0].partitions[..] else {
            panic!("two partitions");
        };
        let ids: Vec<i64> = known
            .active_producers
            .iter()
            .map(|p| p.producer_id.0)
            .collect();
        assert_eq!((ids, unknown.error_code), (vec![5, 6], 3));
        for version in 0..=2 {
            let before = i64::from(version) + 1;
            for (offset, code, low) in [(before, 0, before), (99, 1, -1)] {
                let partition = DeleteRecordsPartition::default().with_offset(offset);
                let topic = DeleteRecordsTopic::default()
                    .with_name(name("t"))
                    .with_partitions(vec![partition]);
                let request = DeleteRecordsRequest::default()
                    .with_timeout_ms(1000)
                    .with_topics(vec![topic]);
                let response = client.call(version, &request).await;
                let result = &response.topics[0].partitions[0];
                assert_eq!((result.error_code, result.low_watermark), (code, low));
            }
        }
    });
}
