"""confluent-kafka (librdkafka): confluent.py BOOTSTRAP. Result lines as in ../README.md.

`confluent.py load BOOTSTRAP TOPIC SECONDS RATE PROCESS` is the producer of `weir-soak failover`: see ../README.md.
"""
import json, sys, threading, time, uuid
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
import report

PARTITIONS = 3
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# A rebalance overtook the commit, so the next owner reads and commits the records again; or all is committed.
OVERTAKEN = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._ASSIGNMENT_LOST, KafkaError._NO_OFFSET)
# The coordinator is gone, and what becomes of the commit is not known: the next one covers it.
UNSERVED = (KafkaError._WAIT_COORD, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
            KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._DESTROY)


class Member:
    """A consumer that remembers every change of what it owns."""

    def __init__(self, consumer, topic):
        self.consumer, self.changes, self.revoked = consumer, 0, set()
        consumer.subscribe([topic], on_assign=self.assigned, on_revoke=self.lost, on_lost=self.lost)

    def assigned(self, _consumer, _partitions):
        self.changes += 1

    def lost(self, _consumer, partitions):
        self.changes += 1
        self.revoked |= {p.partition for p in partitions}

    def owns(self):
        return {p.partition for p in self.consumer.assignment()}


def share(*members):
    for member in members:
        member.consumer.poll(0.1)
    return all(member.owns() for member in members) and sum(len(member.owns()) for member in members) == PARTITIONS


class Checks:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.topic = f"confluent-{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def producer(self, **config):
        config = {key.replace("_", "."): value for key, value in config.items()}
        return Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5, **config})

    def consumer(self, group, **config):
        config = {key.replace("_", "."): value for key, value in config.items()}
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "enable.auto.commit": False, **config})

    def create_topic(self):
        for future in self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 3)], operation_timeout=10).values():
            future.result()
        report.until("partition leaders", lambda: self.leader(0) is not None)
        return f"{PARTITIONS} partitions, 3 replicas"

    def leader(self, partition):
        partitions = self.admin.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        return partitions[partition].leader if partition in partitions and partitions[partition].leader > 0 else None

    def read(self, partition, count, want=None):
        """The first `count` messages of a partition after the ones this object read before."""
        consumer = self.consumer(f"{self.topic}-read")
        consumer.assign([TopicPartition(self.topic, partition, OFFSET_BEGINNING)])
        found = []

        def enough():
            message = consumer.poll(1.0)
            if message is not None and message.error():
                raise AssertionError(message.error().str())
            if message is not None and (want is None or want(message)):
                found.append(message)
            return len(found) >= count

        report.until(f"{count} records of partition {partition}", enough, 60)
        consumer.close()
        return found

    def codec(self, codec):
        producer = self.producer(compression_type=codec)
        for i in range(200):
            producer.produce(self.topic, value=f"{codec} value {i}" * 5, key=f"key-{i}", headers={"codec": codec.encode()}, partition=0)
        assert producer.flush(30) == 0, "not all acknowledged in 30 s"
        found = self.read(0, 200, lambda m: dict(m.headers() or []).get("codec") == codec.encode())
        for i, message in enumerate(found):
            assert message.value() == (f"{codec} value {i}" * 5).encode() and message.key() == f"key-{i}".encode(), f"record {i} differs"
        return "200 records with keys and headers"

    def commit(self, member, harmless=OVERTAKEN):
        try:
            member.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in harmless:
                raise

    def group(self):
        """Two members share the partitions, one leaves, the other takes over; offsets are kept."""
        group = f"{self.topic}-group"
        total = len(CODECS) * 200
        first, second, seen = self.consumer(group), self.consumer(group), []
        first.subscribe([self.topic])

        def step(*members):
            for member in members:
                messages = [m for m in member.consume(200, 0.2) if not m.error()]
                seen.extend((m.partition(), m.offset()) for m in messages)
                if messages:
                    self.commit(member)
            return members

        report.until("the first member owns everything", lambda: step(first) and len(first.assignment()) == PARTITIONS)
        second.subscribe([self.topic])
        report.until("two members share", lambda: step(first, second) and len(first.assignment()) + len(second.assignment()) == PARTITIONS
                     and first.assignment() and second.assignment())
        second.close()
        report.until("the first member takes over", lambda: step(first) and len(first.assignment()) == PARTITIONS)
        report.until("all records", lambda: step(first) and len(set(seen)) == total, 60)
        self.commit(first)
        first.close()
        third = self.consumer(group)
        committed = third.committed([TopicPartition(self.topic, p) for p in range(PARTITIONS)], timeout=10)
        third.close()
        report.committed_all(seen, {c.partition: c.offset for c in committed}, {p: high for p, (_, high) in enumerate(self.watermarks())})
        return f"joined, left, {total} records read and committed"

    def static_member(self):
        """A member that restarts under its own name within its session gets its partitions back, and the other notices nothing."""
        def named(i):
            consumer = self.consumer(f"{self.topic}-static", group_instance_id=f"member-{i}", session_timeout_ms=45000)
            return Member(consumer, self.topic)

        members = [named(0), named(1)]
        report.until("two members share", lambda: share(*members))
        for i in (0, 1):  # one of the two leads the group
            other, owned = members[1 - i], members[i].owns()
            changes = other.changes
            members[i].consumer.close()  # a static member says no farewell
            members[i] = named(i)
            report.until(f"the restarted member owns {owned}", lambda: share(*members) and members[i].owns() == owned)
            assert other.changes == changes, f"restart of member {i}: the other member's partitions changed {other.changes - changes} times"
        for member in members:
            member.consumer.close()
        return "each of two members restarted and had its partitions back, without a rebalance"

    def cooperative(self):
        """Partitions that do not move to the second member, or back, are never taken from the first."""
        def sticky():
            return Member(self.consumer(f"{self.topic}-cooperative", partition_assignment_strategy="cooperative-sticky"), self.topic)

        first = sticky()
        report.until("the first member owns everything", lambda: share(first))
        second = sticky()
        report.until("two members share", lambda: share(first, second))
        moved = second.owns()
        assert not second.revoked, f"the second member lost {second.revoked} again"
        second.consumer.close()
        report.until("the first member takes over", lambda: share(first))
        assert len(moved) == 1 and first.revoked == moved, f"moved {moved}, but the first member lost {first.revoked}"
        first.consumer.close()
        return f"one of {PARTITIONS} partitions moved and came back, the others were never revoked"

    def whole(self):
        """Waits until every replica is in sync, so that one more kill is survivable."""
        def complete():
            topics = self.admin.list_topics(timeout=10).topics.values()
            return all(p.leader > 0 and len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())

        report.until("all replicas in sync", complete)

    def coordinator_kill(self):
        """A group goes on through the kill of its coordinator: what was committed stays so, and nothing is missed."""
        if not report.KILL:
            raise report.Skip("no kill command")
        topic, group, count = f"{self.topic}-coordinator", f"{self.topic}-coordinator", 3000
        for future in self.admin.create_topics([NewTopic(topic, PARTITIONS, 3)], operation_timeout=10).values():
            future.result()
        self.whole()
        producer, partitions = self.producer(message_timeout_ms=60000), [TopicPartition(topic, p) for p in range(PARTITIONS)]
        done = threading.Event()

        def produce():  # the kill falls among records that are sent and committed all the time
            for i in range(count):
                producer.produce(topic, value=str(i), partition=i % PARTITIONS)
                producer.poll(0.0015)
            done.set()

        threading.Thread(target=produce, daemon=True).start()
        member, seen = self.consumer(group), []
        member.subscribe([topic])

        def step():
            messages = [m for m in member.consume(50, 0.2) if not m.error()]
            seen.extend((m.partition(), m.offset(), int(m.value())) for m in messages)
            if messages:
                self.commit(member, OVERTAKEN + UNSERVED)
            return True

        report.until("the first records", lambda: step() and len(seen) >= count // 3)
        before, read = {p.partition: p.offset for p in member.committed(partitions, timeout=30)}, len(seen)
        coordinator = self.admin.describe_consumer_groups([group])[group].result(30).coordinator.id
        report.kill(coordinator)
        after = {}

        def committed():
            try:
                after.update({p.partition: p.offset for p in member.committed(partitions, timeout=5)})
            except KafkaException as error:
                if error.args[0].code() not in UNSERVED:
                    raise
            return step() and after

        report.until("committed positions after the kill", committed)
        assert all(after[p] >= before[p] for p in before), f"committed before the kill {before}, after it {after}"
        report.until("all records", lambda: step() and len({value for _, _, value in seen}) == count, 90)
        assert done.is_set() and producer.flush(60) == 0, "not all acknowledged"
        again = [(p, offset) for p, offset, _ in seen[read:] if offset < before[p]]
        assert not again, f"{len(again)} records came again that were committed before the kill"
        ends = {p.partition: member.get_watermark_offsets(p, timeout=30)[1] for p in partitions}

        def all_committed():
            step()
            self.commit(member, OVERTAKEN + UNSERVED)
            final = {p.partition: p.offset for p in member.committed(partitions, timeout=30)}
            try:
                report.committed_all([(p, offset) for p, offset, _ in seen], final, ends)
            except AssertionError as short:
                print(short, file=sys.stderr)
                return False
            return True

        report.until("all is committed", all_committed)
        member.close()
        return f"node {coordinator} killed, {count} records read and committed, {len(seen) - count} of them twice"

    def watermarks(self):
        consumer = self.consumer(f"{self.topic}-watermarks")
        marks = [consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10) for p in range(PARTITIONS)]
        consumer.close()
        return marks

    def delayed(self):
        """Copies of delayed records, which are control records for queues, are passed over at the end of the log."""
        topic, count = report.delayed_topic(), report.DELAYED_RECORDS
        group, errors = f"{topic}-group", []
        plain, packed = self.producer(), self.producer(compression_type="gzip")

        def send(producer, numbers):
            for i in numbers:
                producer.produce(topic, value=str(i), headers=report.asks_later(i), partition=0, on_delivery=lambda error, _: error and errors.append(error))
            assert producer.flush(30) == 0 and not errors, f"not acknowledged: {errors[:1]}"

        send(plain, range(count // 2))
        send(packed, range(count // 2, count))
        report.released(topic)

        def take(consumer, ends):
            found = []
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    found.append(int(message.value()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ends.append(message.offset())
                else:
                    raise AssertionError(message.error().str())
            return found

        def whole(consumer):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
            assert high > count, f"the log ends at {high}: no copy is in it"
            found, ends = [], []
            report.until(f"the end, {high}", lambda: found.extend(take(consumer, ends)) or (ends and ends[-1] >= high))
            report.in_order_once(found, count)
            return high

        readers = [self.consumer(f"{topic}-{level}", isolation_level=level.replace("-", "_"), enable_partition_eof=True)
                   for level in ("read-uncommitted", "read-committed")]
        for reader in readers:
            reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            high = whole(reader)
        member = self.consumer(group, enable_partition_eof=True)
        member.subscribe([topic])
        whole(member)
        self.commit(member, ())
        member.close()
        send(plain, [count])
        again = self.consumer(group)
        again.subscribe([topic])
        for consumer in (*readers, again):
            more = []
            report.until("the record behind the copies", lambda: more.extend(take(consumer, [])) or more)
            assert more == [count], f"behind the copies came {more}"
            consumer.close()
        return f"{count} records read up to {high}, uncommitted, committed and by a group, and one sent after"

    def leader_kill(self):
        if not report.KILL:
            raise report.Skip("no kill command")
        count, acks, errors, partition = 3000, [], [], 1
        producer = self.producer(message_timeout_ms=60000)

        def delivered(error, _message):
            (errors if error else acks).append(error or time.monotonic())

        killed = None
        for i in range(count):
            producer.produce(self.topic, value=str(i), partition=partition, on_delivery=delivered)
            producer.poll(0.0015)
            if i == count // 3:
                killed = self.leader(partition)
                report.kill(killed)
        assert producer.flush(60) == 0 and not errors, f"{len(errors)} errors, the first {errors[:1]}"
        report.in_order_once([int(m.value()) for m in self.read(partition, count)], count)
        gap = max(b - a for a, b in zip(acks, acks[1:]))
        return f"node {killed} killed, {count} records once and in order, longest gap between acks {gap * 1000:.0f} ms"


def load(bootstrap, topic, seconds, rate, process):
    """Sends process << 32 | 1, 2, 3 ... to partition 0 at `rate` per second; one line of JSON each when its fate is known."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 60000})
    clock = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def delivered(value, sent, error, message):
        fate = {"error": error.str()} if error else {"offset": message.offset()}
        print(json.dumps({"value": value, "sent_ns": sent, "t_ns": clock(), **fate}), flush=True)

    began, counter = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        while counter < elapsed * rate:
            counter += 1
            value, sent = process << 32 | counter, clock()
            producer.produce(topic, value=str(value), partition=0, on_delivery=lambda e, m, v=value, s=sent: delivered(v, s, e, m))
        producer.poll(0.001)
    producer.flush(60)


def main():
    if sys.argv[1] == "load":
        load(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))
        return
    checks = Checks(sys.argv[1])
    report.check("create-topic", checks.create_topic)
    for codec in CODECS:
        report.check(f"codec-{codec}", lambda: checks.codec(codec))
    report.check("group-rebalance", checks.group)
    report.check("static-member", checks.static_member)
    report.check("cooperative", checks.cooperative)
    report.check("delayed", checks.delayed)
    report.check("leader-kill", checks.leader_kill)
    report.check("coordinator-kill", checks.coordinator_kill)
    report.finish()


main()
