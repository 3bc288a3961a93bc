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
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::InitProducerId, 0, 5),
];

/// The row of an api.
pub(crate) fn row(api: ApiKey) -> Option<&'static Served> {
    SERVED.iter().find(|row| row.api as i16 == api as i16)
}
