//! Which requests are served, in which versions.

use kafka_protocol::messages::ApiKey;

/// One row: the api, the least version advertised, the least served, the most of both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) api: ApiKey,
    pub(crate) advertised_min: i16,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

const fn served(api: ApiKey, min: i16, max: i16) -> Served {
    Served {
        api,
        advertised_min: min,
        min,
        max,
    }
}

/// Everything served, by api key. What 4.x brokers serve, as far as there is an encoding.
pub(crate) const SERVED: &[Served] = &[
    // librdkafka compresses only if produce version 0 is in the range (protocols 1.2).
    Served {
        api: ApiKey::Produce,
        advertised_min: 0,
        min: 3,
        max: 13,
    },
    served(ApiKey::Fetch, 4, 17),
    served(ApiKey::ListOffsets, 1, 10),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 9),
    served(ApiKey::OffsetFetch, 1, 9),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::DescribeProducers, 0, 0),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The row of an api.
pub(crate) fn row(api: ApiKey) -> Option<&'static Served> {
    SERVED.iter().find(|row| row.api as i16 == api as i16)
}
