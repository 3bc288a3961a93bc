"""kafka-python: kafka_python.py BOOTSTRAP. Result lines as in ../README.md."""
import sys, time, uuid
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError
import report

PARTITIONS = 3
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# How long a poll waits at the end of the log. This client (3.0.12) has a poll that ends just before the answer to its join
# is there forget about it: it never takes its partitions then, though it is the group's member.
JOINED_MS, JOINING_MS = 200, 10_000


class Checks:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap.split(",")
        self.topic = f"kafka-python-{uuid.uuid4().hex[:8]}"
        self.admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def producer(self, **config):
        return KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=5, **config)

    def consumer(self, group, **config):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                             session_timeout_ms=6000, heartbeat_interval_ms=500, **config)

    def create_topic(self):
        self.admin.create_topics({self.topic: {"num_partitions": PARTITIONS, "replication_factor": 3}})
        report.until("partition leaders", lambda: self.leader(0) is not None)
        return f"{PARTITIONS} partitions, 3 replicas"

    def leader(self, partition, name=None):
        for topic in self.admin.describe_topics([name or self.topic]):
            for found in topic["partitions"]:
                if found["partition_index"] == partition and found["leader_id"] > 0:
                    return found["leader_id"]
        return None

    def read(self, partition, count, want=lambda record: True):
        consumer = self.consumer(None)
        consumer.assign([TopicPartition(self.topic, partition)])
        consumer.seek_to_beginning()
        found = []

        def enough():
            for records in consumer.poll(1000).values():
                found.extend(record for record in records if want(record))
            return len(found) >= count

        report.until(f"{count} records of partition {partition}", enough, 60)
        consumer.close()
        return found

    def codec(self, codec):
        producer = self.producer(compression_type=None if codec == "none" else codec)
        sent = [producer.send(self.topic, value=f"{codec} value {i}".encode() * 5, key=f"key-{i}".encode(),
                              headers=[("codec", codec.encode())], partition=0) for i in range(200)]
        for future in sent:
            future.get(30)
        producer.close()
        found = self.read(0, 200, lambda r: dict(r.headers).get("codec") == codec.encode())
        for i, record in enumerate(found):
            assert record.value == f"{codec} value {i}".encode() * 5 and record.key == f"key-{i}".encode(), f"record {i} differs"
        return "200 records with keys and headers"

    def group(self):
        """Two members share the partitions, one leaves, the other takes over; offsets are kept."""
        group = f"{self.topic}-group"
        partitions = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
        first, second, seen = self.consumer(group), self.consumer(group), set()
        total = len(CODECS) * 200
        first.subscribe([self.topic])

        def step(*members):
            for member in members:
                records = member.poll(1_000)  # as a rule a join takes less, see above
                seen.update((r.partition, r.offset) for batch in records.values() for r in batch)
                try:
                    if records:
                        member.commit()
                except (CommitFailedError, RebalanceInProgressError):
                    pass  # the next owner reads and commits them again
            return members

        report.until("the first member owns everything", lambda: step(first) and len(first.assignment()) == PARTITIONS)
        second.subscribe([self.topic])
        report.until("two members share", lambda: step(first, second) and first.assignment() and second.assignment()
                     and len(first.assignment()) + len(second.assignment()) == PARTITIONS)
        second.close()
        report.until("the first member takes over", lambda: step(first) and len(first.assignment()) == PARTITIONS)
        report.until("all records", lambda: step(first) and len(seen) == total, 60)
        first.commit()
        first.close()
        third = self.consumer(group)
        committed = {p.partition: third.committed(p) or 0 for p in partitions}
        ends = {p.partition: end for p, end in third.end_offsets(partitions).items()}
        third.close()
        report.committed_all(seen, committed, ends)
        return f"joined, left, {total} records read and committed"

    def delayed(self):
        """Copies of delayed records, which are control records for queues, are passed over at the end of the log."""
        topic, count = report.delayed_topic(), report.DELAYED_RECORDS
        partition, group = TopicPartition(topic, 0), f"{topic}-group"
        plain, packed = self.producer(), self.producer(compression_type="gzip")
        for producer, numbers in ((plain, range(count // 2)), (packed, range(count // 2, count))):
            sent = [producer.send(topic, value=str(i).encode(), headers=report.asks_later(i), partition=0) for i in numbers]
            for future in sent:
                future.get(30)
        packed.close()
        report.released(topic)

        def take(consumer):
            wait = JOINED_MS if partition in consumer.assignment() else JOINING_MS
            return [int(record.value) for records in consumer.poll(wait).values() for record in records]

        def whole(consumer):
            end, found = consumer.end_offsets([partition])[partition], []
            assert end > count, f"the log ends at {end}: no copy is in it"

            def at_end():
                found.extend(take(consumer))
                return partition in consumer.assignment() and consumer.position(partition) >= end

            report.until(f"position {end}", at_end)
            report.in_order_once(found, count)
            return end

        readers = [self.consumer(None, isolation_level=level) for level in ("read_uncommitted", "read_committed")]
        for reader in readers:
            reader.assign([partition])
            reader.seek_to_beginning()
            end = whole(reader)
        member = self.consumer(group)
        member.subscribe([topic])
        whole(member)
        member.commit()
        member.close()
        plain.send(topic, value=str(count).encode(), partition=0).get(30)
        plain.close()
        again = self.consumer(group)
        again.subscribe([topic])
        for name, consumer in zip(("uncommitted", "committed", "group"), (*readers, again)):
            more = []

            def state():
                assigned = partition in consumer.assignment()
                return (f"({name}, assigned {assigned}, at {consumer.position(partition) if assigned else None}, log from {end} to "
                        f"{consumer.end_offsets([partition])[partition]}, leader {self.leader(0, topic)})")

            report.until("the record behind the copies", lambda: more.extend(take(consumer)) or more, state=state)
            assert more == [count], f"behind the copies came {more}"
            consumer.close()
        return f"{count} records read up to {end}, uncommitted, committed and by a group, and one sent after"

    def leader_kill(self):
        if not report.KILL:
            raise report.Skip("no kill command")
        count, partition, acks, sent = 3000, 1, [], []
        producer = self.producer(delivery_timeout_ms=60000)
        killed = None
        for i in range(count):
            future = producer.send(self.topic, value=str(i).encode(), partition=partition)
            future.add_callback(lambda _: acks.append(time.monotonic()))
            sent.append(future)
            time.sleep(0.0015)
            if i == count // 3:
                killed = self.leader(partition)
                report.kill(killed)
        for future in sent:
            future.get(60)
        producer.close()
        report.in_order_once([int(r.value) for r in self.read(partition, count)], count)
        gap = max(b - a for a, b in zip(acks, acks[1:]))
        return f"node {killed} killed, {count} records once and in order, longest gap between acks {gap * 1000:.0f} ms"


checks = Checks(sys.argv[1])
report.check("create-topic", checks.create_topic)
for codec in CODECS:
    report.check(f"codec-{codec}", lambda: checks.codec(codec))
report.check("group-rebalance", checks.group)
report.check("delayed", checks.delayed)
report.check("leader-kill", checks.leader_kill)
report.finish()
