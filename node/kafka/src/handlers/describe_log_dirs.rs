//! DescribeLogDirs: how much this node holds of each of its replicas.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{Call, text};

/// A node has one data directory, and tells nobody where.
const LOG_DIR: &str = "data";

pub(super) async fn handle(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let image = call.shared.image();
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (at, bytes, lag) in call.shared.api.log.replica_sizes() {
        let Some(name) = image.topic_names.get(&at.topic) else {
            continue;
        };
        let index = i32::try_from(at.index.0).unwrap_or(i32::MAX);
        if !wanted(request.topics.as_deref(), name, index) {
            continue;
        }
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
            .with_offset_lag(i64::try_from(lag).unwrap_or(i64::MAX));
        topics.entry(name).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(text(name).into())
            .with_partitions(partitions)
    });
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_static_str(LOG_DIR))
        .with_topics(topics.collect());
    DescribeLogDirsResponse::default().with_results(vec![directory])
}

fn wanted(topics: Option<&[DescribableLogDirTopic]>, name: &str, index: i32) -> bool {
    let Some(topics) = topics else {
        return true;
    };
    let mut topics = topics.iter();
    topics.any(|topic| topic.topic.as_str() == name && topic.partitions.contains(&index))
}
