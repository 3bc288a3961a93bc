//! Every option of a node, section by section.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::quantity::{ByteSize, HostPort, LogFormat, LogLevel, Voter};
use super::section::section;

section! {
    /// The node itself.
    NodeSection "node" {
        /// This node's id, which is also its Kafka broker id. Never reuse the id of a node whose data directory was lost.
        id: u32 = "1", bounds "1 to 2147483647", change "for every node of a cluster but one";
        /// A name for people; empty means `weir-<id>`.
        name: String = "", bounds "any text", change "to recognise the node in lists and logs";
        /// The cluster's name: part of the names in the nodes' certificates (`node-<id>.<cluster>.weir`).
        cluster: String = "dev", bounds "letters, digits and hyphens, at most 40", change "to keep clusters that share a certificate authority apart";
        /// The data directory: all that must survive a restart. One process at a time.
        data: PathBuf = "weir-data/node", bounds "a directory on a local disk", change "to the disk that holds the data";
        /// The rack or zone, over which replicas are spread; clients see it.
        rack: Option<String> = "", bounds "any text", change "when nodes can fail together";
        /// Threads that run the node.
        worker_threads: u32 = "2", bounds "1 to 64", change "to the number of cores the node may use";
        /// How long a node that was asked to stop may take to move leadership away and answer what it was asked.
        stop_timeout: Duration = "30s", bounds "100ms to 10m", change "together with the patience of what supervises the process";
    }
}

section! {
    /// What the node writes about itself.
    LogSection "log" {
        /// The least severity that is logged; `error` and `warn` also go to standard error.
        level: LogLevel = "info", bounds "error, warn, info, debug, trace", change "to `debug` while looking for a fault";
        /// How a line looks.
        format: LogFormat = "text", bounds "text, json", change "to `json` when a collector reads the log";
        /// Where the log goes; without it, all of it goes to standard error.
        file: Option<PathBuf> = "", bounds "a path", change "when nothing collects standard error";
        /// Size at which the file is set aside as `<file>.1`, replacing the one before.
        file_bytes_max: ByteSize = "16MiB", bounds "64KiB to 1GiB", change "to keep more history";
    }
}

section! {
    /// The Kafka front.
    KafkaSection "kafka" {
        /// Where Kafka clients connect.
        listen: SocketAddr = "127.0.0.1:9092", bounds "an IP address with a port", change "to serve other machines";
        /// The address that clients are told; without it, the one that is listened on.
        advertised: Option<HostPort> = "", bounds "host:port", change "behind NAT, or when `listen` is 0.0.0.0";
        /// Whether a topic that a client produces to or asks for is made when it does not exist. The cluster's `auto.create.topics.enable` must allow it too.
        auto_create_topics: bool = "true", bounds "true, false", change "to false where topics are made on purpose only";
        /// Connections at once; more are refused.
        connections_max: u32 = "4096", bounds "1 to 1000000", change "with the number of clients";
        /// Largest request; a connection that announces more is closed.
        request_bytes_max: ByteSize = "64MiB", bounds "64KiB to 128MiB", change "when clients batch more than this per request";
        /// Bytes of requests that the node holds at once; beyond that it stops reading from sockets.
        in_flight_bytes_max: ByteSize = "256MiB", bounds "1MiB to 64GiB", change "to bound memory under load, or to use more of it";
    }
}

section! {
    /// The admin API, metrics and health, over HTTP.
    AdminSection "admin" {
        /// Where it listens.
        listen: SocketAddr = "127.0.0.1:8080", bounds "an IP address with a port", change "to administer or scrape from other machines";
        /// The address that redirects and `weir` itself are told; without it, the one that is listened on.
        advertised: Option<HostPort> = "", bounds "host:port", change "behind NAT, or when `listen` is 0.0.0.0";
        /// Connections at once; more wait to be accepted.
        connections_max: u32 = "64", bounds "4 to 10000", change "when many scrape one node";
        /// Largest request body.
        body_bytes_max: ByteSize = "1MiB", bounds "1KiB to 16MiB", change "for very long lists of config changes";
    }
}

section! {
    /// The links between nodes (QUIC, mutual TLS).
    PeerSection "peer" {
        /// Where other nodes connect, over UDP.
        listen: SocketAddr = "127.0.0.1:19092", bounds "an IP address with a port", change "in every cluster of more than one machine";
        /// The address that other nodes are told; without it, the one that is listened on.
        advertised: Option<HostPort> = "", bounds "host:port", change "behind NAT, or when `listen` is 0.0.0.0";
        /// Bytes of a datagram on the path between nodes; without it, it is discovered.
        mtu: Option<u16> = "", bounds "1200 to 6000", change "on networks with jumbo frames, and on loopback (6000)";
        /// This node's certificate chain (PEM), with the name `node-<id>.<cluster>.weir`.
        tls_cert: Option<PathBuf> = "", bounds "a PEM file", change "in every cluster of more than one node";
        /// Its private key (PEM, PKCS#8).
        tls_key: Option<PathBuf> = "", bounds "a PEM file", change "with `tls_cert`";
        /// The certificate authority of the cluster's nodes (PEM).
        tls_ca: Option<PathBuf> = "", bounds "a PEM file", change "with `tls_cert`";
    }
}

section! {
    /// The metadata group, and who belongs to the cluster.
    MetadataSection "metadata" {
        /// The founding members of the metadata group, the same list on every node; empty means this node alone. Used only until the cluster is formed.
        voters: Vec<Voter> = "", bounds "an odd number, at most 7", change "when the cluster is set up; three or five survive one or two losses";
        /// Peer addresses to ask when joining a cluster whose voters this node is not among.
        seeds: Vec<HostPort> = "", bounds "at most 32", change "on nodes that join later";
        /// Time between two heartbeats of a node to the controller.
        heartbeat_interval: Duration = "250ms", bounds "20ms to 10s", change "with `session_timeout`, which should be at least four times this";
        /// Silence after which the controller fences a node.
        session_timeout: Duration = "1500ms", bounds "100ms to 5m", change "upwards on networks or disks that stall; failover of a silent node takes this long";
    }
}

section! {
    /// The logs on disk.
    StorageSection "storage" {
        /// Longest time that an async-flush topic's data stays unflushed.
        flush_interval: Duration = "100ms", bounds "1ms to 10s", change "to trade the window of loss against disk work";
        /// Most data of an async-flush partition that stays unflushed.
        flush_bytes: ByteSize = "256KiB", bounds "4KiB to 64MiB", change "with `flush_interval`";
    }
}

section! {
    /// The copies of a partition.
    ReplicationSection "replication" {
        /// Time a follower may lag before the leader has it taken out of the ISR.
        isr_lag_max: Duration = "10s", bounds "500ms to 10m", change "upwards where followers stall without being broken";
    }
}

section! {
    /// Consumer groups.
    GroupsSection "groups" {
        /// How long the first rebalance of an empty group waits for more members.
        initial_rebalance_delay: Duration = "3s", bounds "0ms to 1m", change "to 0ms where a fast first start matters more than one rebalance saved";
        /// Shortest session timeout a member may ask for.
        session_timeout_min: Duration = "6s", bounds "100ms to 1h", change "downwards in tests";
        /// Longest session timeout a member may ask for.
        session_timeout_max: Duration = "30m", bounds "1s to 1d", change "upwards for members that pause for long";
        /// Members of one group.
        members_max: u32 = "10000", bounds "1 to 1000000", change "to bound what one group can cost";
        /// Time that committed offsets outlive the last member of their group.
        offsets_retention: Duration = "7d", bounds "1m to 3650d", change "for consumers that run rarely";
    }
}
