//! Metadata while a leader's process has just ended: the answer waits for the next one.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use support::{Fixture, name, run};
use weir_base::NodeId;
use weir_base::image::Endpoint;

const VERSION: i16 = 12;
const DEAD: NodeId = NodeId(2);

/// Topic `t`, led by a node whose process has ended, which nobody knows.
async fn led_by_the_dead() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.topic("t", 1).await;
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: 1,
    };
    let endpoints = BTreeMap::from([("kafka".to_owned(), endpoint)]);
    fixture.broker.add_node(DEAD, endpoints);
    fixture.broker.set_leader("t", 0, Some(DEAD));
    fixture.broker.end_process(DEAD);
    fixture
}

fn ask(topics: &[&str]) -> MetadataRequest {
    let topic = |topic: &&str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    MetadataRequest::default().with_topics(Some(topics.iter().map(topic).collect()))
}

fn leader(response: &MetadataResponse) -> (i32, i16) {
    let partition = &response.topics[0].partitions[0];
    (partition.leader_id.0, partition.error_code)
}

#[test]
fn the_answer_waits_for_the_election() {
    run(async {
        let fixture = led_by_the_dead().await;
        let mut client = fixture.client().await;
        client.send(VERSION, &ask(&["t"])).await;
        let cluster = fixture.broker.api().cluster;
        // The question for a sign of life is what makes it known.
        while !cluster.is_gone(DEAD) {
            fixture.env.sleep(Duration::from_millis(1)).await;
        }
        fixture.broker.set_leader("t", 0, Some(NodeId(1)));
        let (_, response) = client.receive::<MetadataResponse>(VERSION).await;
        assert_eq!(leader(&response), (1, 0));
    });
}

#[test]
fn without_an_election_the_answer_says_so_in_the_end() {
    run(async {
        let fixture = led_by_the_dead().await;
        let mut client = fixture.client().await;
        let response = client.call(VERSION, &ask(&["t"])).await;
        let none = ResponseError::LeaderNotAvailable.code();
        assert_eq!(leader(&response), (-1, none));
    });
}

#[test]
fn questions_about_other_topics_do_not_ask_it() {
    run(async {
        let fixture = led_by_the_dead().await;
        fixture.topic("other", 1).await;
        let mut client = fixture.client().await;
        let response = client.call(VERSION, &ask(&["other"])).await;
        assert_eq!(leader(&response), (1, 0));
        assert!(!fixture.broker.api().cluster.is_gone(DEAD));
    });
}
