import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.*;
import org.apache.rocketmq.client.apis.consumer.*;
import org.apache.rocketmq.client.apis.message.*;
import org.apache.rocketmq.client.apis.producer.*;

/** Apache RocketMQ's own Java client against a cluster: `Check HOST:PORT,...` (see ../README.md). */
public class Check {
    static final String CLIENT = System.getenv().getOrDefault("CLIENT", "rocketmq-java");
    static final boolean TLS = "1".equals(System.getenv("TLS"));
    static final String TOPIC = CLIENT + "-mixed", FIFO = CLIENT + "-fifo";
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    static ClientConfiguration configuration;
    static boolean failed;

    interface Action { String run() throws Exception; }

    /** Those to run; empty: all. */
    static final List<String> ONLY = List.of(System.getenv().getOrDefault("CHECKS", "").split(" "));

    static void check(String name, Action action) {
        if (!ONLY.contains("") && !ONLY.contains(name)) return;
        try {
            System.out.println(CLIENT + " " + name + " PASS " + action.run());
        } catch (Throwable error) {
            failed = true;
            error.printStackTrace();
            System.out.println(CLIENT + " " + name + " FAIL " + error);
        }
    }

    static void require(boolean holds, Object detail) {
        if (!holds) throw new AssertionError(String.valueOf(detail));
    }

    static Producer producer(String topic) throws ClientException {
        return PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build();
    }

    static SimpleConsumer simple(String group, String expression) throws ClientException {
        return PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(configuration).setConsumerGroup(group)
            .setAwaitDuration(Duration.ofSeconds(2))
            .setSubscriptionExpressions(Map.of(TOPIC, new FilterExpression(expression))).build();
    }

    static MessageBuilder message(String topic, String body) {
        return PROVIDER.newMessageBuilder().setTopic(topic).setBody(body.getBytes(StandardCharsets.UTF_8));
    }

    static String body(MessageView view) {
        return StandardCharsets.UTF_8.decode(view.getBody()).toString();
    }

    /** `count` messages, each settled; fewer or more are an error. */
    static List<MessageView> receive(SimpleConsumer consumer, int count, int seconds) throws ClientException {
        List<MessageView> got = new ArrayList<>();
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (got.size() < count && System.nanoTime() < deadline) {
            for (MessageView view : consumer.receive(32, Duration.ofSeconds(15))) {
                consumer.ack(view);
                got.add(view);
            }
        }
        require(got.size() == count, got.size() + " of " + count + " messages");
        return got;
    }

    static class Listener implements MessageListener {
        final List<MessageView> got = new ArrayList<>();
        final Predicate<MessageView> decide;
        Listener(Predicate<MessageView> decide) { this.decide = decide; }

        public synchronized ConsumeResult consume(MessageView view) {
            got.add(view);
            notifyAll();
            return decide.test(view) ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE;
        }

        synchronized void await(int count) throws InterruptedException {
            long deadline = System.currentTimeMillis() + 30_000;
            while (got.size() < count && System.currentTimeMillis() < deadline) wait(1_000);
            require(got.size() >= count, got.size() + " of " + count + " deliveries");
        }
    }

    static final List<Thread> CLOSING = new ArrayList<>();

    /** Closes beside the checks that follow: a push consumer waits for its receives, which wait 20 s for messages. */
    static AutoCloseable beside(PushConsumer consumer) {
        return () -> {
            Thread closing = new Thread(() -> {
                try {
                    consumer.close();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            closing.start();
            CLOSING.add(closing);
        };
    }

    static PushConsumer push(String group, String topic, String expression, Listener listener) throws ClientException {
        return PROVIDER.newPushConsumerBuilder().setClientConfiguration(configuration).setConsumerGroup(group)
            .setSubscriptionExpressions(Map.of(topic, new FilterExpression(expression)))
            .setMessageListener(listener).build();
    }

    static String sendAndReceive() throws Exception {
        try (SimpleConsumer consumer = simple("java-simple", "*"); Producer sender = producer(TOPIC)) {
            Set<String> ids = new HashSet<>();
            for (int n = 0; n < 20; n++) {
                Message one = message(TOPIC, "body-" + n).setTag("a").setKeys("key-" + n, "all").addProperty("number", "" + n).build();
                ids.add(sender.send(one).getMessageId().toString());
            }
            List<CompletableFuture<SendReceipt>> sent = new ArrayList<>();
            for (int n = 20; n < 40; n++)
                sent.add(sender.sendAsync(message(TOPIC, "body-" + n).setTag("a").setKeys("key-" + n, "all").addProperty("number", "" + n).build()));
            for (CompletableFuture<SendReceipt> one : sent) ids.add(one.get(10, TimeUnit.SECONDS).getMessageId().toString());
            require(ids.size() == 40, ids);
            for (MessageView view : receive(consumer, 40, 20)) {
                require(ids.remove(view.getMessageId().toString()), view);
                String number = body(view).substring("body-".length());
                require(Set.copyOf(view.getKeys()).equals(Set.of("key-" + number, "all")), view);
                require(number.equals(view.getProperties().get("number")) && view.getTag().get().equals("a"), view);
                require(view.getDeliveryAttempt() == 1, view);
            }
            require(consumer.receive(32, Duration.ofSeconds(15)).isEmpty(), "a settled message came again");
            return "40 messages sent, received and settled";
        }
    }

    static String tagFilter() throws Exception {
        try (SimpleConsumer consumer = simple("java-filter", "red || blue"); Producer sender = producer(TOPIC)) {
            for (String tag : List.of("red", "green", "blue", "green", "red")) sender.send(message(TOPIC, tag).setTag(tag).build());
            for (MessageView view : receive(consumer, 3, 20)) require(!body(view).equals("green"), view);
            return "";
        }
    }

    static String pushRetry() throws Exception {
        Listener listener = new Listener(view -> !body(view).equals("fails once") || view.getDeliveryAttempt() > 1);
        try (AutoCloseable consumer = beside(push("java-push", TOPIC, "push", listener)); Producer sender = producer(TOPIC)) {
            MessageId bad = sender.send(message(TOPIC, "fails once").setTag("push").build()).getMessageId();
            for (int n = 0; n < 10; n++) sender.send(message(TOPIC, "" + n).setTag("push").build());
            listener.await(12);
            List<Integer> attempts = new ArrayList<>();
            for (MessageView view : listener.got)
                if (view.getMessageId().equals(bad)) attempts.add(view.getDeliveryAttempt());
            require(attempts.equals(List.of(1, 2)), attempts);
            return "11 messages, one of them twice";
        }
    }

    static String fifo() throws Exception {
        Listener listener = new Listener(view -> true);
        try (AutoCloseable consumer = beside(push("java-fifo", FIFO, "*", listener)); Producer sender = producer(FIFO)) {
            for (int n = 0; n < 10; n++)
                for (String group : List.of("x", "y", "z")) sender.send(message(FIFO, "" + n).setMessageGroup(group).build());
            listener.await(30);
            for (String group : List.of("x", "y", "z")) {
                List<String> order = new ArrayList<>();
                for (MessageView view : listener.got) if (view.getMessageGroup().get().equals(group)) order.add(body(view));
                require(order.equals(List.of("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")), group + order);
            }
            return "3 groups of 10 in order";
        }
    }

    static String delay() throws Exception {
        try (SimpleConsumer consumer = simple("java-delay", "later"); Producer sender = producer(TOPIC)) {
            long due = System.currentTimeMillis() + 3_000;
            sender.send(message(TOPIC, "due").setTag("later").setDeliveryTimestamp(due).build());
            SendReceipt recalled = sender.send(message(TOPIC, "recalled").setTag("later").setDeliveryTimestamp(due + 1_000).build());
            RecallReceipt receipt = sender.recallMessage(TOPIC, recalled.getRecallHandle());
            require(receipt.getMessageId().equals(recalled.getMessageId()), receipt.getMessageId());
            List<MessageView> got = List.of();
            long asked = 0;
            while (got.isEmpty() && System.currentTimeMillis() < due + 20_000) {
                asked = System.currentTimeMillis();
                got = consumer.receive(32, Duration.ofSeconds(15));
            }
            // What the broker answers for: the client polls the queues in turn, and may ask the right one last.
            long now = System.currentTimeMillis(), late = now - Math.max(due, asked);
            require(got.size() == 1 && body(got.get(0)).equals("due") && now >= due && late < 1_000, got + " " + late);
            consumer.ack(got.get(0));
            for (int n = 0; n < 3; n++) require(consumer.receive(32, Duration.ofSeconds(15)).isEmpty(), "the recalled message came");
            return late + " ms after it was due and its queue asked";
        }
    }

    static String transaction() throws Exception {
        BlockingQueue<String> asked = new LinkedBlockingQueue<>();
        TransactionChecker checker = view -> { asked.add(body(view)); return TransactionResolution.COMMIT; };
        try (SimpleConsumer consumer = simple("java-half", "half")) {
            try (Producer first = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC)
                     .setTransactionChecker(view -> TransactionResolution.UNKNOWN).build()) {
                for (String body : List.of("committed", "rolled back", "forgotten")) {
                    Transaction open = first.beginTransaction();
                    first.send(message(TOPIC, body).setTag("half").build(), open);
                    if (body.equals("committed")) open.commit();
                    if (body.equals("rolled back")) open.rollback();
                }
            }
            try (Producer second = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC)
                     .setTransactionChecker(checker).build()) {
                Set<String> bodies = new TreeSet<>();
                for (MessageView view : receive(consumer, 2, 45)) bodies.add(body(view));
                require(bodies.equals(Set.of("committed", "forgotten")), bodies);
                require(List.copyOf(asked).equals(List.of("forgotten")), asked);
            }
        }
        return "commit, rollback, and a check-back answered by another producer";
    }

    static void kill(int node) throws Exception {
        Process process = new ProcessBuilder("sh", "-c", System.getenv("KILL"), "kill", "" + node).inheritIO().start();
        require(process.waitFor() == 0, "node " + node + " not killed");
    }

    /** Every node is killed in turn while three message groups are produced and consumed. */
    static String leaderKill() throws Exception {
        Listener listener = new Listener(view -> true);
        AtomicBoolean ended = new AtomicBoolean();
        Map<String, Integer> sent = new ConcurrentHashMap<>();
        List<Thread> senders = new ArrayList<>();
        try (AutoCloseable consumer = beside(push("java-kill", FIFO, "kill", listener)); Producer sender = producer(FIFO)) {
            for (String group : List.of("r", "s", "t")) {
                Thread thread = new Thread(() -> {
                    for (int n = 0; !ended.get(); ) {
                        try {
                            sender.send(message(FIFO, "" + n).setTag("kill").setMessageGroup(group).build());
                            sent.put(group, ++n);
                            Thread.sleep(20);
                        } catch (Exception error) { /* a node is gone: again, until it is stored */ }
                    }
                });
                thread.start();
                senders.add(thread);
            }
            try {
                for (int node = 1; node <= 3; node++) {
                    Thread.sleep(6_000);
                    kill(node);
                }
                Thread.sleep(3_000);
            } finally {
                ended.set(true);
                for (Thread thread : senders) thread.join();
            }
            Map<String, Integer> came = new TreeMap<>();
            long deadline = System.currentTimeMillis() + 45_000;
            for (int seen = 0; !came.equals(new TreeMap<>(sent)) && System.currentTimeMillis() < deadline; Thread.sleep(100)) {
                List<MessageView> views;
                synchronized (listener) { views = List.copyOf(listener.got.subList(seen, listener.got.size())); }
                seen += views.size();
                for (MessageView view : views) {
                    String group = view.getMessageGroup().get();
                    int number = Integer.parseInt(body(view)), next = came.getOrDefault(group, 0);
                    // What came before may come again: a settlement can be lost with the leader that was told.
                    require(number <= next, "number " + number + " of group " + group + " before number " + next);
                    if (number == next) came.put(group, next + 1);
                }
            }
            require(came.equals(new TreeMap<>(sent)), "came: " + came + ", sent: " + sent);
            return sent.values().stream().mapToInt(n -> n).sum() + " messages in order through three kills";
        }
    }

    /** What the killed producer does: one half message, and no word on it. */
    static void prepareAndHang() throws Exception {
        Producer first = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC)
            .setTransactionChecker(view -> TransactionResolution.UNKNOWN).build();
        Transaction open = first.beginTransaction();
        first.send(message(TOPIC, "orphaned").setTag("orphan").build(), open);
        System.out.println("prepared");
        Thread.sleep(Long.MAX_VALUE);
    }

    /** The process of a transaction's producer is killed, and another of the topic's producers is asked. */
    static String producerKill(String endpoints) throws Exception {
        BlockingQueue<String> asked = new LinkedBlockingQueue<>();
        try (SimpleConsumer consumer = simple("java-orphan", "orphan")) {
            Process first = new ProcessBuilder(ProcessHandle.current().info().command().get(), "-Xmx128m", "-cp",
                System.getProperty("java.class.path"), "Check", "prepare", endpoints).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            String said;
            try {
                said = first.inputReader().readLine();
            } finally {
                first.destroyForcibly().waitFor();
            }
            require("prepared".equals(said), said);
            try (Producer second = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC)
                     .setTransactionChecker(view -> { asked.add(body(view)); return TransactionResolution.COMMIT; }).build()) {
                receive(consumer, 1, 45);
                require(List.copyOf(asked).equals(List.of("orphaned")), asked);
            }
        }
        return "kill -9 of the producer, and the check-back answered by another";
    }

    static void kcat(List<String> bodies, String... options) throws Exception {
        List<String> command = new ArrayList<>(List.of("kcat", "-b", System.getenv("KAFKA"), "-P", "-t", System.getenv("DELAYED"), "-p", "0", "-X", "acks=all"));
        command.addAll(List.of(options));
        Process sender = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try (var in = sender.getOutputStream()) {
            in.write((String.join("\n", bodies) + "\n").getBytes(StandardCharsets.UTF_8));
        }
        require(sender.waitFor() == 0, "kcat ended with " + sender.exitValue());
    }

    /** What a Kafka client asks to come later comes so, and only so, also compressed; what else it sends comes at once. */
    static String kafkaDelayed() throws Exception {
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(configuration).setConsumerGroup("later")
                 .setAwaitDuration(Duration.ofSeconds(2)).setSubscriptionExpressions(Map.of(System.getenv("DELAYED"), FilterExpression.SUB_ALL)).build()) {
            Map<String, Long> due = new HashMap<>();
            long now = System.currentTimeMillis();
            for (int kind = 0; kind < 4; kind++) {
                long at = now + 4_000 + 1_000 * kind;
                List<String> bodies = new ArrayList<>();
                for (int n = 0; n < 20; n++) bodies.add(kind + "-" + n);
                for (String body : bodies) due.put(body, kind == 3 ? 0 : at);
                // "after" counts from a moment that is not before this one.
                switch (kind) {
                    case 0 -> kcat(bodies, "-H", "weir.deliver.after=" + (at - now));
                    case 1 -> kcat(bodies, "-H", "weir.deliver.at=" + at, "-z", "gzip");
                    case 2 -> kcat(bodies, "-H", "weir.deliver.at=" + at);
                    default -> kcat(bodies);
                }
            }
            long late = 0, end = now + 60_000;
            for (int left = due.size(); left > 0; ) {
                require(System.currentTimeMillis() < end, left + " messages did not come: " + due.keySet());
                for (MessageView view : consumer.receive(32, Duration.ofSeconds(60))) {
                    long came = System.currentTimeMillis();
                    Long at = due.remove(body(view));
                    require(at != null, "came again: " + body(view));
                    require(came >= at, body(view) + " came " + (at - came) + " ms early");
                    require(view.getDeliveryAttempt() == 1, view);
                    if (at > 0) late = Math.max(late, came - at);
                    consumer.ack(view);
                    left--;
                }
            }
            require(consumer.receive(32, Duration.ofSeconds(15)).isEmpty(), "a message came again");
            return "60 of 80 records of kcat delayed, each once, none early, at most " + late + " ms late";
        }
    }

    public static void main(String[] arguments) throws Exception {
        String endpoints = arguments[arguments.length - 1];
        var builder = ClientConfiguration.newBuilder().setEndpoints(endpoints.replace(',', ';')).setRequestTimeout(Duration.ofSeconds(5));
        // "default": as the client does when nobody says anything.
        configuration = ("default".equals(System.getenv("TLS")) ? builder : builder.enableSsl(TLS)).build();
        if (arguments[0].equals("prepare")) prepareAndHang();
        check("send-receive", Check::sendAndReceive);
        check("tag-filter", Check::tagFilter);
        check("push-retry", Check::pushRetry);
        check("fifo", Check::fifo);
        check("delay-recall", Check::delay);
        if (!System.getenv().getOrDefault("KAFKA", "").isEmpty()) check("kafka-delayed", Check::kafkaDelayed);
        check("transaction", Check::transaction);
        if (!TLS) check("producer-kill", () -> producerKill(endpoints));
        if (!ONLY.contains("")) System.err.println("only " + ONLY);
        else if (TLS) System.out.println(CLIENT + " leader-kill SKIP done without TLS");
        else if (System.getenv().getOrDefault("KILL", "").isEmpty()) System.out.println(CLIENT + " leader-kill SKIP no way to kill a node was given");
        else check("leader-kill", Check::leaderKill);
        for (Thread closing : CLOSING) closing.join();
        System.exit(failed ? 1 : 0);
    }
}
