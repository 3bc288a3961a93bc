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
        /// Connections at once; more are closed.
        connections_max: u32 = "10000", bounds "1 to 1000000", change "with the number of clients";
        /// How long requests under way may take to finish when the node stops.
        drain_grace: Duration = "5s", bounds "0ms to 5m", change "upwards for clients that wait long for acknowledgements";
        /// Largest produce request; a connection that announces more is closed.
        produce_bytes_max: ByteSize = "100MiB", bounds "1MiB to 1GiB", change "downwards to bound memory, upwards when clients batch more";
        /// Most bytes that the records of one compressed batch may take once decompressed; a larger batch is refused. Up to eight times as much may be held for a moment, by all connections together.
        decompressed_bytes_max: ByteSize = "64MiB", bounds "1MiB to 1GiB", change "downwards to bound memory, upwards for large batches of very compressible records";
        /// Largest request of any other kind. Decoding one takes a multiple of its size for a moment.
        request_bytes_max: ByteSize = "8MiB", bounds "64KiB to 64MiB", change "for requests about very many topics";
        /// Most data of one fetch response, whatever the client asks.
        fetch_bytes_max: ByteSize = "55MiB", bounds "1MiB to 1GiB", change "downwards to bound memory with many consumers";
        /// Requests under way on one connection; more stay unread.
        in_flight_max: u32 = "64", bounds "1 to 10000", change "for clients that pipeline deeply";
        /// Request bytes under way on one connection after which no more are read, and response bytes queued after which none are made.
        connection_bytes_max: ByteSize = "32MiB", bounds "1MiB to 1GiB", change "downwards to bound memory with many connections";
        /// A connection without a request for this long is closed.
        idle_close: Duration = "10m", bounds "1s to 1d", change "below the idle limit of a load balancer in between";
        /// Incremental fetch sessions that are remembered; further consumers send their whole list each time.
        fetch_sessions_max: u32 = "1000", bounds "0 to 1000000", change "with the number of consumers";
        /// How long a metadata request waits for a topic that is being made.
        metadata_wait: Duration = "2s", bounds "0ms to 30s", change "downwards for clients that retry by themselves";
    }
}

section! {
    /// The RocketMQ 5 front (gRPC).
    RocketmqSection "rocketmq" {
        /// Where RocketMQ clients connect, with TLS or without.
        listen: SocketAddr = "127.0.0.1:8081", bounds "an IP address with a port", change "to serve other machines";
        /// The address that clients are told; without it, the one that is listened on.
        advertised: Option<HostPort> = "", bounds "host:port", change "behind NAT, or when `listen` is 0.0.0.0";
        /// The certificate chain (PEM) that TLS clients are shown; without it, one made at the first start: `rocketmq.crt` in the data directory.
        tls_cert: Option<PathBuf> = "", bounds "a PEM file", change "for clients that check certificates";
        /// Its private key (PEM, PKCS#8).
        tls_key: Option<PathBuf> = "", bounds "a PEM file", change "with `tls_cert`";
        /// Whether clients without TLS are refused.
        tls_required: bool = "false", bounds "true, false", change "to true where the network is not trusted";
        /// Whether a topic that a client asks for is made when it does not exist.
        auto_create_topics: bool = "true", bounds "true, false", change "to false where topics are made on purpose only";
        /// Connections at once; more are closed.
        connections_max: u32 = "10000", bounds "1 to 1000000", change "with the number of clients";
        /// How long requests under way may take to finish when the node stops.
        drain_grace: Duration = "5s", bounds "0ms to 5m", change "upwards for clients that wait long for acknowledgements";
        /// Largest request.
        request_bytes_max: ByteSize = "16MiB", bounds "1MiB to 64MiB", change "when clients send many messages at once";
        /// Largest message body. A topic that was made with a smaller `max.message.bytes` keeps its own limit.
        body_bytes_max: ByteSize = "4MiB", bounds "1KiB to 32MiB", change "upwards for larger messages, with `request_bytes_max`";
        /// Longest delay of a delayed message.
        delay_max: Duration = "366d", bounds "1s to 366d", change "downwards to catch mistakes early";
        /// Calls under way on one connection, long polls included.
        calls_max: u32 = "1024", bounds "1 to 65536", change "for clients with very many threads";
        /// Clients whose settings are remembered; more are turned away.
        clients_max: u32 = "10000", bounds "1 to 1000000", change "with the number of clients";
        /// A connection on which nothing is under way for this long is closed.
        idle_close: Duration = "30m", bounds "1s to 1d", change "below the idle limit of a load balancer in between";
        /// How long a route request waits for a topic that is being made.
        topic_wait: Duration = "2s", bounds "0ms to 30s", change "downwards for clients with short timeouts";
        /// A client of which nothing was heard for this long is gone, and what it holds with it.
        client_silence: Duration = "40s", bounds "15s to 1h", change "upwards for clients that are stopped for long: others say every 10 s that they live";
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
        /// Where other nodes connect, over UDP (and TCP, to see whether the process lives).
        listen: SocketAddr = "127.0.0.1:19092", bounds "an IP address with a port", change "in every cluster of more than one machine";
        /// The address that other nodes are told; without it, the one that is listened on.
        advertised: Option<HostPort> = "", bounds "host:port", change "behind NAT, or when `listen` is 0.0.0.0";
        /// Bytes of a datagram on the path between nodes; without it, it is discovered.
        mtu: Option<u16> = "", bounds "1200 to 6000", change "on networks with jumbo frames, and on loopback (6000)";
        /// Silence after which a link counts as lost.
        idle_timeout: Duration = "2s", bounds "200ms to 1m", change "upwards on machines that stall";
        /// Longest pause between two packets on an idle link.
        keep_alive: Duration = "500ms", bounds "10ms to 30s", change "with `idle_timeout`, which is at least twice this";
        /// Longest time for one attempt to connect.
        connect_timeout: Duration = "1s", bounds "50ms to 1m", change "upwards on links with a long round trip";
        /// Requests of one peer that may run at once; more are turned away.
        requests_max: u32 = "1024", bounds "1 to 65536", change "only when metrics show refusals";
        /// Bytes that a peer may send ahead of a reader on one stream.
        stream_window_bytes: ByteSize = "8MiB", bounds "64KiB to 1GiB", change "to bandwidth times round trip on long links";
        /// The same over all streams of a link.
        link_window_bytes: ByteSize = "64MiB", bounds "64KiB to 1GiB", change "with `stream_window_bytes`, which is at most this";
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
        voters: Vec<Voter> = "", bounds "1, 3 or 5", change "when the cluster is set up; three or five survive one or two losses";
        /// Peer addresses to ask when joining a cluster whose voters this node is not among.
        seeds: Vec<HostPort> = "", bounds "at most 32", change "on nodes that join later";
        /// Least time without a leader of the metadata group before a voter stands for election.
        election_timeout_min: Duration = "500ms", bounds "30ms to 1m", change "to at least ten times the fsync time of the voters' disks";
        /// Most of it, and the lease that voters grant a leader.
        election_timeout_max: Duration = "1s", bounds "50ms to 2m", change "with `election_timeout_min`, which is less";
        /// How often the leader of the metadata group tells its voters that it lives.
        raft_heartbeat: Duration = "100ms", bounds "5ms to 10s", change "to at most a third of `election_timeout_min`";
        /// Time between two heartbeats of a node to the controller.
        heartbeat_interval: Duration = "250ms", bounds "20ms to 10s", change "to at most a third of `session_timeout`";
        /// Silence after which the controller fences a node.
        session_timeout: Duration = "1500ms", bounds "100ms to 5m", change "upwards on networks or disks that stall; failover of a silent node takes this long";
        /// Entries of the metadata log between two snapshots.
        snapshot_every: u32 = "5000", bounds "10 to 10000000", change "downwards when restarts replay too much";
        /// How often leadership is moved back to preferred leaders.
        rebalance_interval: Duration = "30s", bounds "100ms to 1h", change "upwards where leaders move too often";
    }
}

section! {
    /// The logs on disk. Retention and segment sizes are configs of topics.
    StorageSection "storage" {
        /// Size of one file of the write-ahead log.
        wal_file_bytes: ByteSize = "32MiB", bounds "64KiB to 1GiB", change "with `wal_files_max`: their product is disk space, and the most that a restart replays";
        /// Files of the write-ahead log. Appends wait when all are in use.
        wal_files_max: u32 = "8", bounds "3 to 1024", change "upwards when appends wait for checkpoints";
        /// Bytes of appends that may wait for a commit; then appends wait.
        wal_queue_bytes: ByteSize = "64MiB", bounds "1MiB to 4GiB", change "downwards to bound memory";
        /// Bytes appended to all logs after which a checkpoint is made.
        checkpoint_bytes: ByteSize = "256MiB", bounds "64KiB to 64GiB", change "downwards for faster restarts, upwards for less disk work";
        /// Bytes of recent batches kept in memory, for all logs together.
        tail_cache_bytes: ByteSize = "64MiB", bounds "1MiB to 64GiB", change "upwards when consumers lag a little more than fits";
        /// Longest time that an async-flush topic's data stays unflushed.
        async_flush_interval: Duration = "100ms", bounds "1ms to 10s", change "to trade the window of loss against disk work";
        /// Unflushed bytes of all async-flush topics together that bring the flush forward.
        async_flush_bytes: ByteSize = "256KiB", bounds "4KiB to 1GiB", change "with `async_flush_interval`";
        /// Free bytes on the disk below which producers are refused; what frees space may still use them.
        reserve_bytes: ByteSize = "64MiB", bounds "0B to 1TiB", change "upwards on disks that others fill too";
        /// How long a removed log stays in the trash.
        trash_retention: Duration = "10m", bounds "0ms to 30d", change "upwards to be able to undo a deletion by hand";
        /// Within this time every closed segment is read and checked once: rot is found while another copy is whole.
        scrub_period: Duration = "7d", bounds "1s to 3650d", change "downwards on disks that are not trusted";
        /// The most that this reads in a second; with more data than that in a period, a round takes longer.
        scrub_bytes_per_second: ByteSize = "16MiB", bounds "64KiB to 64GiB", change "downwards where it disturbs, upwards with tens of terabytes";
    }
}

section! {
    /// The copies of a partition.
    ReplicationSection "replication" {
        /// Time that a follower may not be caught up before the leader has it taken out of the ISR.
        isr_lag_max: Duration = "10s", bounds "500ms to 10m", change "upwards where followers stall without being broken";
        /// Time that a follower may hold the high watermark back while others are enough.
        isr_hold_max: Duration = "2s", bounds "100ms to 10m", change "downwards for steadier latencies, upwards for steadier ISRs";
        /// Async replication: writes stall with this many bytes not on the followers.
        unreplicated_bytes_max: ByteSize = "64MiB", bounds "64KiB to 64GiB", change "to bound what a failover can lose";
        /// Async replication: writes stall while any is unreplicated for longer.
        unreplicated_age_max: Duration = "1s", bounds "10ms to 1h", change "with `unreplicated_bytes_max`";
        /// Appends that may wait for one partition; more are refused as overload.
        append_queue_max: u32 = "8192", bounds "1 to 1000000", change "for very many small batches in flight";
        /// Their bytes.
        append_queue_bytes_max: ByteSize = "32MiB", bounds "64KiB to 4GiB", change "downwards to bound memory with many partitions";
        /// Streams between a follower and a leader, over which partitions are spread.
        streams_per_peer: u32 = "4", bounds "1 to 64", change "upwards on nodes with many cores";
        /// Bytes on their way to one follower of one partition.
        window_bytes: ByteSize = "8MiB", bounds "64KiB to 1GiB", change "to bandwidth times round trip on long links";
        /// Bytes on their way from a leader's disk to a follower's, of all partitions of one follower together, at most.
        catch_up_window_bytes: ByteSize = "8MiB", bounds "64KiB to 1GiB", change "upwards to catch up faster where an fsync takes long";
        /// How long these may wait on that way for one another: what is appended now waits with
        /// them. If they wait longer, there are fewer of them.
        catch_up_delay: Duration = "1ms", bounds "1ms to 1m", change "upwards where a follower catches up too slowly";
        /// Followers that may be fed from disk at once.
        catch_up_reads_max: u32 = "4", bounds "1 to 1024", change "to trade catching up against foreground latency";
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

section! {
    /// Queues: per-message delivery. Each number is of one partition, unless it says otherwise.
    QueuesSection "queues" {
        /// Queue groups of one partition; more are refused.
        groups_max: u32 = "1000", bounds "1 to 100000", change "upwards for broadcasts with very many subscribers, each of which is a group";
        /// Messages that one receive is given at most, whatever it asks for.
        batch_max: u32 = "1024", bounds "1 to 10000", change "downwards so that one consumer cannot take much at once";
        /// Messages of one group that are delivered and not settled; then its receives wait. About 160 bytes each.
        in_flight_max: u32 = "65536", bounds "1 to 10000000", change "downwards to bound memory and what a failover delivers again";
        /// Messages of one group that are read ahead of its receives. About 60 bytes each.
        ready_max: u32 = "1024", bounds "16 to 100000", change "upwards for groups that take large batches very fast";
        /// Messages of one group that wait for a retry or behind others of their message group; then nothing new is read for it. About 80 bytes each.
        held_max: u32 = "262144", bounds "16 to 10000000", change "upwards where more fail at once, downwards to bound memory";
        /// Receives that wait on one group; more are refused.
        waiting_max: u32 = "10000", bounds "1 to 1000000", change "with the number of consumers";
        /// Longest that a receive waits, whatever it asks for.
        wait_max: Duration = "1m", bounds "1s to 10m", change "below the idle limit of what is between clients and nodes";
        /// How long a lease is renewed for a consumer that is there and says nothing (push consumers of RocketMQ).
        auto_renew_max: Duration = "3h", bounds "1m to 7d", change "to what the longest work on one message takes";
        /// Delayed messages that wait; more are refused. 20 to 24 bytes of memory each.
        scheduled_max: u32 = "67108864", bounds "1 to 1000000000", change "downwards to bound memory";
        /// Half messages that are not decided; more are refused.
        halves_max: u32 = "1048576", bounds "1 to 100000000", change "downwards to bound memory";
        /// When producers are asked first about a half message that they did not decide, unless they say.
        check_after: Duration = "6s", bounds "100ms to 1h", change "to what a transaction takes";
        /// Pause between two such questions.
        check_interval: Duration = "30s", bounds "100ms to 1h", change "downwards to decide sooner after a producer died";
        /// Questions about one half message; then it is parked for an operator.
        checks_max: u16 = "15", bounds "1 to 1000", change "with `check_interval`: their product is how long producers may be away";
        /// How long the id of a message keeps a second one of the same id out, where deduplication is asked for.
        dedup_window: Duration = "10m", bounds "1s to 7d", change "to the longest time after which producers repeat";
        /// Ids that are remembered for it; more are refused. In memory, about 170 bytes each, and 230 with the first one's id to tell.
        dedup_max: u32 = "4194304", bounds "1 to 100000000", change "with `dedup_window`: the rate of such messages times the window";
    }
}
