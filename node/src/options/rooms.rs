//! The options as each room takes them. Defaults are the rooms' own; a test holds the
//! two together, so that a room that changes one has to change the reference.

use std::sync::Arc;

use rustls::ServerConfig;
use weir_api::groups::GroupOptions;
use weir_api::queues::QueueOptions;
use weir_console::ConsoleOptions;
use weir_kafka::KafkaOptions;
use weir_metadata::MetadataOptions;
use weir_replication::{CoreOptions, ReplicationOptions};
use weir_rocketmq::RocketmqOptions;
use weir_storage::StorageOptions;
use weir_wire::{Encryption, WireOptions};

use super::NodeOptions;

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Bytes where a room counts them in 32 bits; bounds keep them below.
fn bytes_u32(size: super::ByteSize) -> u32 {
    u32::try_from(size.0).unwrap_or(u32::MAX)
}

impl NodeOptions {
    /// For the links between nodes.
    #[must_use]
    pub fn peer_options(&self) -> weir_peer::Options {
        weir_peer::Options {
            idle_timeout: self.peer.idle_timeout,
            keep_alive: self.peer.keep_alive,
            connect_timeout: self.peer.connect_timeout,
            mtu: self.peer.mtu,
            requests_max: self.peer.requests_max,
            stream_window_bytes: bytes_u32(self.peer.stream_window_bytes),
            link_window_bytes: bytes_u32(self.peer.link_window_bytes),
            ..weir_peer::Options::default()
        }
    }

    /// For the group coordinator.
    #[must_use]
    pub fn group_options(&self) -> GroupOptions {
        GroupOptions {
            initial_rebalance_delay: self.groups.initial_rebalance_delay,
            session_timeout_min: self.groups.session_timeout_min,
            session_timeout_max: self.groups.session_timeout_max,
            members_max: count(self.groups.members_max),
            offsets_retention: self.groups.offsets_retention,
            ..GroupOptions::default()
        }
    }

    /// For the queue machines.
    #[must_use]
    pub fn queue_options(&self) -> QueueOptions {
        QueueOptions {
            groups_max: count(self.queues.groups_max),
            batch_max: count(self.queues.batch_max),
            in_flight_max: count(self.queues.in_flight_max),
            ready_max: count(self.queues.ready_max),
            held_max: count(self.queues.held_max),
            waiting_max: count(self.queues.waiting_max),
            wait_max: self.queues.wait_max,
            auto_renew_max: self.queues.auto_renew_max,
            scheduled_max: count(self.queues.scheduled_max),
            halves_max: count(self.queues.halves_max),
            check_after: self.queues.check_after,
            check_interval: self.queues.check_interval,
            checks_max: self.queues.checks_max,
            dedup_window: self.queues.dedup_window,
            dedup_max: count(self.queues.dedup_max),
            ..QueueOptions::default()
        }
    }

    /// For the Kafka front.
    #[must_use]
    pub fn kafka_options(&self) -> KafkaOptions {
        KafkaOptions {
            listen: self.kafka.listen,
            wire: WireOptions {
                connections_max: self.kafka.connections_max,
                drain_grace: self.kafka.drain_grace,
            },
            auto_create_topics: self.kafka.auto_create_topics,
            produce_bytes_max: self.kafka.produce_bytes_max.as_usize(),
            decompressed_bytes_max: self.kafka.decompressed_bytes_max.as_usize(),
            request_bytes_max: self.kafka.request_bytes_max.as_usize(),
            fetch_bytes_max: self.kafka.fetch_bytes_max.as_usize(),
            in_flight_max: count(self.kafka.in_flight_max),
            connection_bytes_max: self.kafka.connection_bytes_max.as_usize(),
            idle_close: self.kafka.idle_close,
            fetch_sessions_max: count(self.kafka.fetch_sessions_max),
            metadata_wait: self.kafka.metadata_wait,
        }
    }

    /// For the RocketMQ front; `tls` is what TLS clients are shown.
    #[must_use]
    pub fn rocketmq_options(&self, tls: Option<Arc<ServerConfig>>) -> RocketmqOptions {
        RocketmqOptions {
            listen: self.rocketmq.listen,
            wire: WireOptions {
                connections_max: self.rocketmq.connections_max,
                drain_grace: self.rocketmq.drain_grace,
            },
            encryption: Encryption {
                tls,
                required: self.rocketmq.tls_required,
            },
            auto_create_topics: self.rocketmq.auto_create_topics,
            request_bytes_max: self.rocketmq.request_bytes_max.as_usize(),
            body_bytes_max: self.rocketmq.body_bytes_max.as_usize(),
            delay_max: self.rocketmq.delay_max,
            calls_max: self.rocketmq.calls_max,
            clients_max: count(self.rocketmq.clients_max),
            idle_close: self.rocketmq.idle_close,
            topic_wait: self.rocketmq.topic_wait,
            client_silence: self.rocketmq.client_silence,
        }
    }

    /// For the logs on disk.
    #[must_use]
    pub fn storage_options(&self) -> StorageOptions {
        StorageOptions {
            wal_file_bytes: self.storage.wal_file_bytes.0,
            wal_files_max: count(self.storage.wal_files_max),
            wal_queue_bytes: self.storage.wal_queue_bytes.as_usize(),
            checkpoint_bytes: self.storage.checkpoint_bytes.0,
            tail_cache_bytes: self.storage.tail_cache_bytes.as_usize(),
            async_flush_interval: self.storage.async_flush_interval,
            async_flush_bytes: self.storage.async_flush_bytes.0,
            reserve_bytes: self.storage.reserve_bytes.0,
            trash_retention: self.storage.trash_retention,
            scrub_period: self.storage.scrub_period,
            scrub_bytes_per_second: self.storage.scrub_bytes_per_second.0,
        }
    }

    /// For the metadata group. The links hold the control port.
    #[must_use]
    pub fn metadata_options(&self) -> MetadataOptions {
        MetadataOptions {
            election_min: self.metadata.election_timeout_min,
            election_max: self.metadata.election_timeout_max,
            raft_heartbeat: self.metadata.raft_heartbeat,
            heartbeat: self.metadata.heartbeat_interval,
            session: self.metadata.session_timeout,
            snapshot_every: u64::from(self.metadata.snapshot_every),
            rebalance: self.metadata.rebalance_interval,
            ..MetadataOptions::default()
        }
    }

    /// For the copies of partitions.
    #[must_use]
    pub fn replication_options(&self) -> ReplicationOptions {
        let defaults = ReplicationOptions::default();
        ReplicationOptions {
            core: CoreOptions {
                lag_max: self.replication.isr_lag_max,
                hold_max: self.replication.isr_hold_max,
                unreplicated_bytes_max: self.replication.unreplicated_bytes_max.0,
                unreplicated_age_max: self.replication.unreplicated_age_max,
                ..defaults.core
            },
            append_queue_len_max: count(self.replication.append_queue_max),
            append_queue_bytes_max: self.replication.append_queue_bytes_max.as_usize(),
            streams_per_peer: self.replication.streams_per_peer,
            window_bytes: self.replication.window_bytes.as_usize(),
            catch_up_window_bytes: self.replication.catch_up_window_bytes.as_usize(),
            catch_up_delay: self.replication.catch_up_delay,
            catch_up_reads_max: count(self.replication.catch_up_reads_max),
            ..defaults
        }
    }

    /// For the console.
    #[must_use]
    pub fn console_options(&self) -> ConsoleOptions {
        ConsoleOptions {
            listen: self.admin.listen,
            connections_max: count(self.admin.connections_max),
            body_bytes_max: self.admin.body_bytes_max.as_usize(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_rooms_own_and_valid() {
        let options = NodeOptions::default();
        assert_eq!(options.peer_options(), weir_peer::Options::default());
        assert_eq!(options.peer_options().validate(), Ok(()));
        assert_eq!(options.storage_options(), StorageOptions::default());
        assert_eq!(options.storage_options().validate(), Ok(()));
        assert_eq!(options.metadata_options(), MetadataOptions::default());
        assert_eq!(options.metadata_options().validate(), Ok(()));
        assert_eq!(options.replication_options(), ReplicationOptions::default());
        assert_eq!(options.group_options(), GroupOptions::default());
        assert_eq!(options.queue_options(), QueueOptions::default());
        let kafka = format!("{:?}", options.kafka_options());
        assert_eq!(kafka, format!("{:?}", KafkaOptions::default()));
        assert_eq!(options.kafka_options().validate(), Ok(()));
        let rocketmq = format!("{:?}", options.rocketmq_options(None));
        assert_eq!(rocketmq, format!("{:?}", RocketmqOptions::default()));
        assert_eq!(options.rocketmq_options(None).validate(), Ok(()));
    }
}
