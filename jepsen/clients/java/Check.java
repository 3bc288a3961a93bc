import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.function.Predicate;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Apache Kafka's own Java client: {@code Check BOOTSTRAP}, result lines as in ../README.md.
 * {@code Check load BOOTSTRAP TOPIC SECONDS RATE PROCESS} is the producer of {@code weir-soak failover}.
 */
public final class Check {
    static final int PARTITIONS = 3;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final String NAME = Objects.requireNonNullElse(System.getenv("CLIENT"), "java");
    static final String KILL = Objects.requireNonNullElse(System.getenv("KILL"), "");

    interface Action { String run() throws Exception; }

    final String bootstrap;
    final String topic = "java-" + UUID.randomUUID().toString().substring(0, 8);
    boolean failed;

    Check(String bootstrap) { this.bootstrap = bootstrap; }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        if (args[0].equals("load")) {
            load(args[1], args[2], Double.parseDouble(args[3]), Double.parseDouble(args[4]), Long.parseLong(args[5]));
            return;
        }
        var check = new Check(args[0]);
        check.check("create-topic", check::createTopic);
        for (var codec : CODECS) check.check("codec-" + codec, () -> check.codec(codec));
        check.check("group-rebalance", check::group);
        check.check("static-member", () -> Members.staticMember(check));
        check.check("cooperative", () -> Members.cooperative(check));
        if (Delayed.TOPIC.isEmpty()) System.out.println(NAME + " delayed SKIP needs a cluster that `run` starts");
        else check.check("delayed", () -> Delayed.check(check));
        if (KILL.isEmpty()) System.out.println(NAME + " leader-kill SKIP no kill command");
        else check.check("leader-kill", check::leaderKill);
        System.exit(check.failed ? 1 : 0);
    }

    void check(String name, Action action) {
        String line;
        try {
            line = " PASS " + action.run();
        } catch (Exception | AssertionError error) {
            failed = true;
            error.printStackTrace();
            line = " FAIL " + String.valueOf(error).replace('\n', ' ');
        }
        System.out.println(NAME + " " + name + line);
    }

    static void until(String what, int seconds, Callable<Boolean> condition) throws Exception {
        for (var end = System.nanoTime() + seconds * 1_000_000_000L; !condition.call(); Thread.sleep(10))
            if (System.nanoTime() > end) throw new AssertionError(what + ": not within " + seconds + " s");
    }

    static KafkaProducer<String, String> producer(String bootstrap, Map<String, Object> more) {
        var config = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", 5, "delivery.timeout.ms", 60000, "request.timeout.ms", 20000));
        config.putAll(more);
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(String group) { return consumer(group, Map.of()); }

    KafkaConsumer<String, String> consumer(String group, Map<String, Object> more) {
        var config = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "session.timeout.ms", 6000, "heartbeat.interval.ms", 500));
        if (group != null) config.put("group.id", group);
        config.putAll(more);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    String createTopic() throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 3))).all().get(20, TimeUnit.SECONDS);
            until("partition leaders", 10, () -> {
                try { return leader(admin, 0) > 0; } catch (ExecutionException notYet) { return false; }
            });
        }
        return PARTITIONS + " partitions, 3 replicas";
    }

    int leader(Admin admin, int partition) throws Exception {
        var leader = admin.describeTopics(List.of(topic)).allTopicNames().get(20, TimeUnit.SECONDS).get(topic).partitions().get(partition).leader();
        return leader == null ? 0 : leader.id();
    }

    /** The first {@code count} records of a partition that {@code want} accepts. */
    List<ConsumerRecord<String, String>> read(int partition, int count, Predicate<ConsumerRecord<String, String>> want) throws Exception {
        var found = new ArrayList<ConsumerRecord<String, String>>();
        try (var consumer = consumer(null)) {
            var from = List.of(new TopicPartition(topic, partition));
            consumer.assign(from);
            consumer.seekToBeginning(from);
            until(count + " records", 60, () -> {
                for (var record : consumer.poll(Duration.ofSeconds(1))) if (want.test(record)) found.add(record);
                return found.size() >= count;
            });
        }
        return found;
    }

    String codec(String codec) throws Exception {
        try (var producer = producer(bootstrap, Map.of("compression.type", codec))) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var i = 0; i < 200; i++) {
                var record = new ProducerRecord<>(topic, 0, "key-" + i, (codec + " value " + i + " ").repeat(5));
                record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
                sent.add(producer.send(record));
            }
            for (var future : sent) future.get(30, TimeUnit.SECONDS);
        }
        var found = read(0, 200, r -> new String(r.headers().lastHeader("codec").value(), StandardCharsets.UTF_8).equals(codec));
        for (var i = 0; i < 200; i++)
            if (!found.get(i).key().equals("key-" + i) || !found.get(i).value().equals((codec + " value " + i + " ").repeat(5)))
                throw new AssertionError("record " + i + " differs");
        return "200 records with keys and headers";
    }

    /** Two members share the partitions, one leaves, the other takes over; offsets are kept. */
    String group() throws Exception {
        var group = topic + "-group";
        var partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).collect(Collectors.toSet());
        var seen = new HashMap<TopicPartition, Set<Long>>();
        partitions.forEach(p -> seen.put(p, new HashSet<>()));
        var total = CODECS.size() * 200;
        java.util.function.Consumer<KafkaConsumer<String, String>> step = member -> {
            var records = member.poll(Duration.ofMillis(200));
            for (var record : records) seen.get(new TopicPartition(topic, record.partition())).add(record.offset());
            if (!records.isEmpty()) {
                try { member.commitSync(); } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException again) { /* the next owner reads it again */ }
            }
        };
        try (var first = consumer(group)) {
            first.subscribe(List.of(topic));
            until("the first member owns everything", 60, () -> { step.accept(first); return first.assignment().equals(partitions); });
            try (var second = consumer(group)) {
                second.subscribe(List.of(topic));
                until("two members share", 60, () -> {
                    step.accept(first);
                    step.accept(second);
                    return !first.assignment().isEmpty() && !second.assignment().isEmpty() && first.assignment().size() + second.assignment().size() == PARTITIONS;
                });
            }
            // A farewell that a moving coordinator missed leaves the member to its session timeout of 45 s.
            until("the first member takes over", 60, () -> { step.accept(first); return first.assignment().equals(partitions); });
            until("all records", 60, () -> { step.accept(first); return seen.values().stream().mapToInt(Set::size).sum() == total; });
            first.commitSync();
        }
        try (var third = consumer(group)) {
            // Offsets need not be dense: control records take some and are never shown.
            var ends = third.endOffsets(partitions);
            third.committed(partitions).forEach((partition, committed) -> {
                long last = seen.get(partition).stream().max(Long::compare).orElse(-1L), offset = committed == null ? 0 : committed.offset();
                if (offset <= last || offset > ends.get(partition))
                    throw new AssertionError(partition + ": committed " + offset + ", last record " + last + ", end " + ends.get(partition));
            });
        }
        return "joined, left, " + total + " records read and committed";
    }

    String leaderKill() throws Exception {
        int count = 3000, partition = 1, killed = 0;
        var last = new AtomicLong();
        var gap = new AtomicLong();
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap)); var producer = producer(bootstrap, Map.of())) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var i = 0; i < count; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, partition, null, "" + i), (metadata, error) -> {
                    var now = System.nanoTime();
                    var before = last.getAndSet(now);
                    if (before != 0) gap.accumulateAndGet(now - before, Math::max);
                }));
                TimeUnit.MICROSECONDS.sleep(1500);
                if (i == count / 3) {
                    killed = leader(admin, partition);
                    if (new ProcessBuilder("sh", "-c", KILL, "kill", "" + killed).redirectError(ProcessBuilder.Redirect.DISCARD).start().waitFor() != 0)
                        throw new AssertionError("the kill command failed");
                }
            }
            for (var future : sent) future.get(60, TimeUnit.SECONDS);
        }
        var values = read(partition, count, r -> true).stream().map(r -> Integer.parseInt(r.value())).toList();
        if (!values.equals(IntStream.range(0, count).boxed().toList())) {
            var distinct = new HashSet<>(values).size();
            throw new AssertionError((count - distinct) + " lost, " + (values.size() - distinct) + " duplicates, or out of order, in " + values.size() + " records");
        }
        return "node " + killed + " killed, " + count + " records once and in order, longest gap between acks " + gap.get() / 1_000_000 + " ms";
    }

    /** Sends process << 32 | 1, 2, 3 ... to partition 0 at {@code rate} per second; one line of JSON each when its fate is known. */
    static void load(String bootstrap, String topic, double seconds, double rate, long process) throws Exception {
        try (var producer = producer(bootstrap, Map.of("linger.ms", 0))) {
            var began = System.nanoTime(); // CLOCK_MONOTONIC
            for (long counter = 0; System.nanoTime() - began < seconds * 1e9; Thread.sleep(1)) {
                while (counter < (System.nanoTime() - began) / 1e9 * rate) {
                    counter++;
                    long value = process << 32 | counter, sent = System.nanoTime();
                    producer.send(new ProducerRecord<>(topic, 0, null, "" + value), (metadata, error) -> System.out.println(
                        "{\"value\":" + value + ",\"sent_ns\":" + sent + ",\"t_ns\":" + System.nanoTime()
                            + (error == null ? ",\"offset\":" + metadata.offset() : ",\"error\":\"" + error.getClass().getSimpleName() + "\"") + "}"));
                }
            }
        }
    }
}
