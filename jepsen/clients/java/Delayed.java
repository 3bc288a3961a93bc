import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;

/** Copies of delayed records, which are control records for queues, are passed over at the end of the log. */
final class Delayed {
    /** A topic with a queue group. */
    static final String TOPIC = Objects.requireNonNullElse(System.getenv("DELAYED"), "");
    static final TopicPartition PARTITION = new TopicPartition(TOPIC, 0);
    static final int COUNT = 200;

    static void send(Producer<String, String> producer, int from, int to) throws Exception {
        var sent = new ArrayList<Future<RecordMetadata>>();
        for (var i = from; i < to; i++) {
            var record = new ProducerRecord<String, String>(TOPIC, 0, null, "" + i);
            if (i % 2 == 1) record.headers().add("weir.deliver.after", ("" + (1000 + 5 * i)).getBytes());
            sent.add(producer.send(record));
        }
        for (var one : sent) one.get(30, TimeUnit.SECONDS);
    }

    static void take(KafkaConsumer<String, String> consumer, List<Integer> found) {
        for (var record : consumer.poll(Duration.ofMillis(200))) found.add(Integer.parseInt(record.value()));
    }

    /** Reads to the end as it is now, which is returned. */
    static long whole(KafkaConsumer<String, String> consumer) throws Exception {
        var end = consumer.endOffsets(List.of(PARTITION)).get(PARTITION);
        if (end <= COUNT) throw new AssertionError("the log ends at " + end + ": no copy is in it");
        var found = new ArrayList<Integer>();
        Check.until("position " + end, 60, () -> {
            take(consumer, found);
            return consumer.assignment().contains(PARTITION) && consumer.position(PARTITION) >= end;
        });
        if (!found.equals(IntStream.range(0, COUNT).boxed().toList()))
            throw new AssertionError(found.size() + " records, " + new HashSet<>(found).size() + " of them different, or out of order");
        return end;
    }

    static String check(Check check) throws Exception {
        var group = TOPIC + "-group";
        var consumers = new ArrayList<KafkaConsumer<String, String>>();
        try (var plain = Check.producer(check.bootstrap, Map.of())) {
            send(plain, 0, COUNT / 2);
            try (var packed = Check.producer(check.bootstrap, Map.of("compression.type", "gzip"))) { send(packed, COUNT / 2, COUNT); }
            var released = new ProcessBuilder("sh", "-c", System.getenv("RELEASED"), "released", TOPIC, "" + COUNT / 2);
            if (released.redirectError(ProcessBuilder.Redirect.INHERIT).start().waitFor() != 0) throw new AssertionError("not all was released");
            long end = 0;
            for (var level : List.of("read_uncommitted", "read_committed")) {
                var reader = check.consumer(null, Map.of("isolation.level", level));
                consumers.add(reader);
                reader.assign(List.of(PARTITION));
                reader.seekToBeginning(List.of(PARTITION));
                end = whole(reader);
            }
            try (var member = check.consumer(group)) {
                member.subscribe(List.of(TOPIC));
                whole(member);
                member.commitSync();
            }
            send(plain, COUNT, COUNT + 1);
            var again = check.consumer(group);
            consumers.add(again);
            again.subscribe(List.of(TOPIC));
            for (var consumer : consumers) {
                var more = new ArrayList<Integer>();
                Check.until("the record behind the copies", 60, () -> { take(consumer, more); return !more.isEmpty(); });
                if (!more.equals(List.of(COUNT))) throw new AssertionError("behind the copies came " + more);
            }
            return COUNT + " records read up to " + end + ", uncommitted, committed and by a group, and one sent after";
        } finally {
            consumers.forEach(KafkaConsumer::close);
        }
    }
}
