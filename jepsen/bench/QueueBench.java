import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.rocketmq.client.apis.*;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.*;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * The client of `queues`: RocketMQ's own Java client (gRPC) and, to fill and to look on, Kafka's.
 *
 *   receive  endpoints= topic= group= fill= drain= [consumers=16 size=100 kafka=]  fill, then receive and ack
 *   delayed  endpoints= topic= kafka= rate= seconds= lead=                         send with delivery times, look on
 *   pending  endpoints= topic= fill=                                               send messages for tomorrow
 *   kafka-pending endpoints= topic= group= kafka= fill= soon= lead= seconds=      the same by Kafka's client, and some that are due soon
 *   paced    endpoints= topic= group= early= seconds=                              the pace of what others send
 *   groups   endpoints= topic= group= kafka= groups= rate= seconds= rounds=        latency without and with failing groups
 *
 * "ready" is printed, and a line awaited, where the caller reads what the brokers used. Latencies are
 * open loop: they count from when a message was due.
 */
public class QueueBench {
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    static final Map<String, String> ARGUMENTS = new HashMap<>();

    static String text(String name) { return Objects.requireNonNull(ARGUMENTS.get(name), name + "= is missing"); }
    static int number(String name, int otherwise) { return Integer.parseInt(ARGUMENTS.getOrDefault(name, "" + otherwise)); }

    static ClientConfiguration client() {
        return ClientConfiguration.newBuilder().setEndpoints(text("endpoints")).setRequestTimeout(Duration.ofSeconds(10)).enableSsl(false).build();
    }

    static SimpleConsumer consumer(Duration wait) throws ClientException {
        return PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(client()).setConsumerGroup(text("group"))
            .setAwaitDuration(wait).setSubscriptionExpressions(Map.of(text("topic"), FilterExpression.SUB_ALL)).build();
    }

    static KafkaProducer<byte[], byte[]> kafkaProducer(int lingerMs) {
        return new KafkaProducer<>(Map.of("bootstrap.servers", text("kafka"), "acks", "all", "linger.ms", lingerMs, "batch.size", 65536, "buffer.memory", 67108864L),
            new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Number of the message, when it was due (ms), padding. */
    static byte[] body(int size, long id, long at) {
        return ByteBuffer.allocate(Math.max(16, size)).putLong(id).putLong(at).array();
    }

    static void meet(String line) throws Exception {
        System.out.println("ready " + line);
        if (System.in.read() < 0) throw new IllegalStateException("the driver is gone");
    }

    static String spread(double[] values, int count) {
        double[] sorted = Arrays.copyOf(values, count);
        Arrays.sort(sorted);
        if (count == 0) return "none";
        return String.format("p50=%.2f p99=%.2f p99.9=%.2f max=%.2f", sorted[count / 2], sorted[(int) (count * .99)], sorted[(int) (count * .999)], sorted[count - 1]);
    }

    static void until(long nanos) {
        for (long left; (left = nanos - System.nanoTime()) > 0; ) LockSupport.parkNanos(left);
    }

    /** At most `window` on their way; gives the seconds taken. */
    static double send(Producer producer, int count, int window, java.util.function.IntFunction<Message> message) throws Exception {
        Semaphore room = new Semaphore(window);
        AtomicReference<Throwable> failed = new AtomicReference<>();
        long began = System.nanoTime();
        for (int n = 0; n < count; n++) {
            room.acquire();
            producer.sendAsync(message.apply(n)).whenComplete((receipt, error) -> {
                if (error != null) failed.compareAndSet(null, error);
                room.release();
            });
        }
        room.acquire(window);
        if (failed.get() != null) throw new IllegalStateException(failed.get());
        return (System.nanoTime() - began) / 1e9;
    }

    static void fillByKafka(int count, int size) {
        try (KafkaProducer<byte[], byte[]> producer = kafkaProducer(5)) {
            int partitions = producer.partitionsFor(text("topic")).size();
            for (int n = 0; n < count; n++) producer.send(new ProducerRecord<>(text("topic"), n % partitions, null, body(size, n, 0)));
        }
    }

    static void receive() throws Exception {
        int fill = number("fill", 50_000), drain = number("drain", fill), size = number("size", 100), count = number("consumers", 16);
        List<SimpleConsumer> consumers = new ArrayList<>();
        for (int n = 0; n < count; n++) consumers.add(consumer(Duration.ofSeconds(2)));
        ExecutorService threads = Executors.newFixedThreadPool(count);
        List<Future<?>> first = new ArrayList<>();
        for (SimpleConsumer consumer : consumers) first.add(threads.submit(() -> consumer.receive(1, Duration.ofSeconds(60)).size()));
        for (Future<?> one : first) one.get();
        if (ARGUMENTS.containsKey("kafka")) {
            fillByKafka(fill, size);
            meet("filled by kafka");
        } else {
            try (Producer producer = PROVIDER.newProducerBuilder().setClientConfiguration(client()).setTopics(text("topic")).build()) {
                double seconds = send(producer, fill, 500, n -> PROVIDER.newMessageBuilder().setTopic(text("topic")).setBody(body(size, n, 0)).build());
                meet(String.format("sent/s=%.0f", fill / seconds));
            }
        }
        AtomicInteger acked = new AtomicInteger(), doubled = new AtomicInteger(), failed = new AtomicInteger(), taken = new AtomicInteger();
        BitSet seen = new BitSet();
        int mark = drain * 9 / 10; // the last ones are a matter of who polls where
        AtomicLong marked = new AtomicLong();
        long began = System.nanoTime();
        List<Future<?>> done = new ArrayList<>();
        for (SimpleConsumer consumer : consumers) done.add(threads.submit(() -> {
            while (taken.get() < drain && System.nanoTime() - began < 120_000_000_000L) {
                List<MessageView> got = consumer.receive(32, Duration.ofSeconds(60));
                taken.addAndGet(got.size());
                List<CompletableFuture<Void>> acks = new ArrayList<>(got.size());
                for (MessageView view : got) {
                    synchronized (seen) {
                        int id = (int) view.getBody().getLong();
                        if (seen.get(id)) doubled.incrementAndGet();
                        seen.set(id);
                    }
                    acks.add(consumer.ackAsync(view));
                }
                for (CompletableFuture<Void> ack : acks) {
                    try {
                        ack.get();
                        if (acked.incrementAndGet() == mark) marked.set(System.nanoTime());
                    } catch (ExecutionException error) {
                        failed.incrementAndGet();
                    }
                }
            }
            return null;
        }));
        for (Future<?> one : done) one.get();
        System.out.printf("receive+ack/s=%.0f acked=%d doubled=%d failed=%d%n", mark / ((marked.get() - began) / 1e9), acked.get(), doubled.get(), failed.get());
    }

    static void delayed() throws Exception {
        int rate = number("rate", 10_000), seconds = number("seconds", 5), count = rate * seconds;
        AtomicLong first = new AtomicLong(Long.MAX_VALUE);
        double[] late = new double[count], stored = new double[count];
        AtomicInteger got = new AtomicInteger(), doubled = new AtomicInteger(), early = new AtomicInteger();
        Thread tail = new Thread(() -> look(count, late, stored, got, doubled, early));
        try (Producer producer = PROVIDER.newProducerBuilder().setClientConfiguration(client()).setTopics(text("topic")).build()) {
            tail.start();
            first.set(System.currentTimeMillis() + number("lead", 20) * 1_000L);
            double took = send(producer, count, 500, n -> {
                long due = first.get() + n * 1_000L / rate;
                return PROVIDER.newMessageBuilder().setTopic(text("topic")).setBody(body(100, n, due)).setDeliveryTimestamp(due).build();
            });
            if (System.currentTimeMillis() > first.get()) throw new IllegalStateException("sending took " + took + " s: raise lead=");
            System.out.printf("sent/s=%.0f before the first was due%n", count / took);
            meet("all sent, the first is due in " + (first.get() - System.currentTimeMillis()) + " ms");
        }
        tail.join();
        System.out.printf("delayed rate=%d due=%d came=%d doubled=%d early=%d late_ms %s | in the log late_ms %s%n", rate, count, got.get(), doubled.get(), early.get(),
            spread(late, got.get()), spread(stored, got.get()));
    }

    static void pending() throws Exception {
        int fill = number("fill", 1_000_000);
        try (Producer producer = PROVIDER.newProducerBuilder().setClientConfiguration(client()).setTopics(text("topic")).build()) {
            java.util.function.LongFunction<Message> tomorrow = n -> PROVIDER.newMessageBuilder().setTopic(text("topic")).setBody(body(100, n, 0))
                .setDeliveryTimestamp(System.currentTimeMillis() + 86_400_000L + n % 3_600_000).build();
            send(producer, 20_000, 500, tomorrow::apply);
            meet("warm");
            double seconds = send(producer, fill, 500, tomorrow::apply);
            System.out.printf("sent/s=%.0f%n", fill / seconds);
        }
    }

    static ProducerRecord<byte[], byte[]> later(int partition, int id, long due) {
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(text("topic"), partition, null, body(100, id, due));
        record.headers().add("weir.deliver.at", Long.toString(due).getBytes(StandardCharsets.US_ASCII));
        return record;
    }

    /** Messages for tomorrow in batches as large as they get; then some that RocketMQ's client is to get on time. */
    static void kafkaPending() throws Exception {
        int fill = number("fill", 1_000_000), soon = number("soon", 20_000), lead = number("lead", 10), seconds = number("seconds", 10);
        Map<String, Object> large = Map.of("bootstrap.servers", text("kafka"), "acks", "all", "linger.ms", 50, "batch.size", 500_000, "buffer.memory", 67108864L, "delivery.timeout.ms", 60_000);
        AtomicReference<Throwable> failed = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(large, new ByteArraySerializer(), new ByteArraySerializer())) {
            int partitions = producer.partitionsFor(text("topic")).size();
            Callback told = (where, error) -> { if (error != null) failed.compareAndSet(null, error); };
            meet("connected");
            long began = System.nanoTime();
            for (int n = 0; n < fill; n++) producer.send(later(n % partitions, n, System.currentTimeMillis() + 86_400_000L + n % 3_600_000), told);
            producer.flush();
            if (failed.get() != null) throw new IllegalStateException(failed.get());
            System.out.printf("sent/s=%.0f%n", fill / ((System.nanoTime() - began) / 1e9));
            meet("filled");
            AtomicInteger got = new AtomicInteger(), doubled = new AtomicInteger(), early = new AtomicInteger();
            double[] late = new double[soon];
            BitSet seen = new BitSet();
            AtomicLong until = new AtomicLong(Long.MAX_VALUE);
            List<Thread> readers = new ArrayList<>();
            for (int n = 0; n < 16; n++) { // They pass over what is for tomorrow.
                SimpleConsumer consumer = consumer(Duration.ofSeconds(2));
                Thread reader = new Thread(() -> {
                    while (got.get() < soon && System.currentTimeMillis() < until.get()) {
                        try {
                            for (MessageView view : consumer.receive(32, Duration.ofSeconds(10))) { // what a dead leader had handed out comes again soon
                                long now = System.currentTimeMillis();
                                ByteBuffer body = view.getBody().duplicate();
                                int id = (int) body.getLong();
                                long due = body.getLong();
                                synchronized (seen) {
                                    if (now < due) early.incrementAndGet();
                                    if (seen.get(id)) { doubled.incrementAndGet(); } else { seen.set(id); late[got.getAndIncrement()] = now - due; }
                                }
                                consumer.ackAsync(view);
                            }
                        } catch (ClientException | RuntimeException error) {
                            LockSupport.parkNanos(20_000_000); // A leader died, which gRPC tells unchecked: it is asked again.
                        }
                    }
                });
                reader.setDaemon(true);
                reader.start();
                readers.add(reader);
            }
            meet("passed over");
            long first = System.currentTimeMillis() + lead * 1_000L;
            until.set(first + (seconds + 30) * 1_000L);
            for (int n = 0; n < soon; n++) producer.send(later(n % partitions, n, first + (long) n * seconds * 1_000 / soon), told);
            producer.flush();
            if (failed.get() != null) throw new IllegalStateException(failed.get());
            System.out.printf("soon: first due in %d ms%n", first - System.currentTimeMillis());
            for (Thread reader : readers) reader.join();
            System.out.printf("due=%d got=%d early=%d again=%d late ms %s%n", soon, got.get(), early.get(), doubled.get(), spread(late, got.get()));
            if (got.get() < soon || early.get() > 0) throw new IllegalStateException("not every message came, or one came early");
        }
    }

    /** Reads the topic as it grows until all came, or nothing did for 15 s after the last was due. */
    static void look(int count, double[] late, double[] stored, AtomicInteger got, AtomicInteger doubled, AtomicInteger early) {
        BitSet seen = new BitSet();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", text("kafka"), "auto.offset.reset", "earliest", "fetch.max.wait.ms", 500),
                new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            consumer.partitionsFor(text("topic")).forEach(p -> all.add(new TopicPartition(p.topic(), p.partition())));
            consumer.assign(all);
            long end = System.currentTimeMillis() + (number("lead", 20) + number("seconds", 5) + 15) * 1_000L;
            while (got.get() < count && System.currentTimeMillis() < end) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                long now = System.currentTimeMillis();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    ByteBuffer body = ByteBuffer.wrap(record.value());
                    int id = (int) body.getLong();
                    long due = body.getLong();
                    if (seen.get(id)) { doubled.incrementAndGet(); continue; }
                    seen.set(id);
                    if (now < due) early.incrementAndGet();
                    late[got.get()] = now - due;
                    stored[got.getAndIncrement()] = record.timestamp() - due;
                }
            }
        }
    }

    static void paced() throws Exception {
        int seconds = number("seconds", 20);
        AtomicInteger got = new AtomicInteger();
        AtomicBoolean over = new AtomicBoolean();
        List<Thread> readers = new ArrayList<>();
        for (int n = 0; n < 16; n++) { // so many that one waits at every node at every moment
            SimpleConsumer consumer = consumer(Duration.ofSeconds(5));
            Thread reader = new Thread(() -> {
                while (!over.get()) {
                    try {
                        for (MessageView view : consumer.receive(32, Duration.ofSeconds(60))) {
                            got.incrementAndGet();
                            consumer.ackAsync(view);
                        }
                    } catch (ClientException error) {
                        System.out.println("receive: " + error);
                    }
                }
            });
            reader.setDaemon(true);
            reader.start();
            readers.add(reader);
        }
        meet("for the first");
        // Consumers that have never had a message spend the burst's second compiling themselves.
        for (int early = number("early", 10_000); got.get() < early; ) Thread.sleep(100);
        meet("for all");
        Thread.sleep(4_000); // the pace, not its beginning
        for (int part = 0; part < 2; part++) {
            int before = got.get();
            long began = System.nanoTime();
            Thread.sleep(seconds * 500L);
            System.out.printf("pace=%.1f/s%n", (got.get() - before) / ((System.nanoTime() - began) / 1e9));
        }
        meet("to end");
        over.set(true);
    }

    static void groups() throws Exception {
        int groups = number("groups", 1_000_000), rate = number("rate", 1_000), seconds = number("seconds", 20);
        AtomicReference<double[]> late = new AtomicReference<>();
        AtomicInteger got = new AtomicInteger(), left = new AtomicInteger();
        AtomicBoolean failing = new AtomicBoolean();
        for (int n = 0; n < 16; n++) {
            SimpleConsumer consumer = consumer(Duration.ofSeconds(5));
            Thread reader = new Thread(() -> {
                while (true) {
                    try {
                        for (MessageView view : consumer.receive(32, Duration.ofMinutes(10))) {
                            ByteBuffer body = view.getBody();
                            long group = body.getLong(), due = body.getLong();
                            if (failing.get() && group % 100 == 0) { left.incrementAndGet(); continue; } // never settled: its group waits
                            double[] into = late.get();
                            int place = got.getAndIncrement();
                            if (into != null && place < into.length) into[place] = System.currentTimeMillis() - due;
                            consumer.ackAsync(view);
                        }
                    } catch (ClientException error) {
                        System.out.println("receive: " + error);
                    }
                }
            });
            reader.setDaemon(true);
            reader.start();
        }
        Random random = new Random(1);
        try (KafkaProducer<byte[], byte[]> producer = kafkaProducer(0)) {
            List<String> phases = new ArrayList<>(List.of("warm", "warm"));
            for (int round = 0; round < number("rounds", 3); round++) phases.addAll(round % 2 == 0 ? List.of("none", "1 %") : List.of("1 %", "none"));
            for (String phase : phases) {
                failing.set(phase.equals("1 %"));
                int count = rate * seconds;
                got.set(0);
                late.set(new double[count]);
                long began = System.nanoTime(), epoch = System.currentTimeMillis();
                for (int n = 0; n < count; n++) {
                    until(began + n * 1_000_000_000L / rate);
                    long group = random.nextInt(groups);
                    ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(text("topic"), null, ("g" + group).getBytes(), body(100, group, epoch + n * 1_000L / rate));
                    record.headers().add("weir.group", ("g" + group).getBytes(StandardCharsets.UTF_8));
                    producer.send(record);
                }
                Thread.sleep(1_000);
                int came = Math.min(count, got.get());
                System.out.printf("groups=%d failing: %s, sent=%d came=%d left=%d ms %s%n", groups, phase, count, came, left.get(), spread(late.get(), came));
            }
        }
    }

    public static void main(String[] arguments) {
        try {
            run(arguments);
            System.out.flush();
            Runtime.getRuntime().halt(0); // closing sixteen clients waits for their polls
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1); // their threads would go on
        }
    }

    static void run(String[] arguments) throws Exception {
        for (int n = 1; n < arguments.length; n++) {
            String[] pair = arguments[n].split("=", 2);
            ARGUMENTS.put(pair[0], pair[1]);
        }
        switch (arguments[0]) {
            case "receive" -> receive();
            case "delayed" -> delayed();
            case "pending" -> pending();
            case "kafka-pending" -> kafkaPending();
            case "paced" -> paced();
            case "groups" -> groups();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
