package shop;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.rocketmq.client.annotation.RocketMQMessageListener;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.core.RocketMQClientTemplate;
import org.apache.rocketmq.client.core.RocketMQListener;
import org.springframework.stereotype.Component;

/**
 * Scenario 9, retries and dead letters: what fails is tried again after one second and three, what fails for good is
 * put aside after the third attempt. The group's attempts and pauses are the operator's: `weir queue set` (../../run).
 */
@Component
class Notifications implements Scenario {
    record Mail(String to, String text) {}

    private static final int ATTEMPTS = 3;
    private final RocketMQClientTemplate template;
    private final Mailer mailer;
    private final Postmaster postmaster;

    Notifications(RocketMQClientTemplate template, Mailer mailer, Postmaster postmaster) {
        this.template = template;
        this.mailer = mailer;
        this.postmaster = postmaster;
    }

    public String name() {
        return "retry-dead-letter";
    }

    public String run() throws Exception {
        for (int n = 0; n < 10; n++) template.syncSendNormalMessage("notifications", new Mail("customer-" + n, "thank you"));
        template.syncSendNormalMessage("notifications", new Mail("busy", "the server answers at the third attempt"));
        template.syncSendNormalMessage("notifications", new Mail("unknown", "there is no such customer"));
        Scenario.await(Duration.ofSeconds(20), () -> mailer.attemptsFor("busy").size() == ATTEMPTS, () -> mailer.attempts);
        Scenario.await(Duration.ofSeconds(20), () -> postmaster.undeliverable.size() == 1, () -> mailer.attempts);
        Mail dead = postmaster.undeliverable.peek();
        Scenario.require(dead.equals(new Mail("unknown", "there is no such customer")), dead);
        for (String to : List.of("busy", "unknown")) {
            List<Long> at = mailer.attemptsFor(to);
            long first = at.get(1) - at.get(0), second = at.get(2) - at.get(1);
            Scenario.require(at.size() == ATTEMPTS && first >= 1_000 && first < 2_500 && second >= 3_000 && second < 4_500, to + " after " + first + " and " + second + " ms");
        }
        for (int n = 0; n < 10; n++) Scenario.require(mailer.attemptsFor("customer-" + n).size() == 1, mailer.attempts);
        Scenario.require(mailer.numbers.get("unknown").equals(List.of(1, 2, 3)), mailer.numbers);
        return "12 mails; two tried again after 1 s and 3 s, one of them a dead letter after 3 attempts";
    }

    @Component
    @RocketMQMessageListener(topic = "notifications", tag = "*", consumerGroup = "mailer")
    static class Mailer implements RocketMQListener {
        final Map<String, List<Long>> attempts = new ConcurrentHashMap<>();
        final Map<String, List<Integer>> numbers = new ConcurrentHashMap<>();

        List<Long> attemptsFor(String to) {
            return attempts.getOrDefault(to, List.of());
        }

        public ConsumeResult consume(MessageView view) {
            Mail mail = Shop.read(view, Mail.class);
            numbers.computeIfAbsent(mail.to(), to -> new CopyOnWriteArrayList<>()).add(view.getDeliveryAttempt());
            attempts.computeIfAbsent(mail.to(), to -> new CopyOnWriteArrayList<>()).add(System.currentTimeMillis());
            if (mail.to().equals("unknown")) throw new IllegalArgumentException("no customer " + mail.to());
            boolean refused = mail.to().equals("busy") && view.getDeliveryAttempt() < ATTEMPTS;
            return refused ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        }
    }

    @Component
    @RocketMQMessageListener(topic = "%DLQ%mailer", tag = "*", consumerGroup = "postmaster")
    static class Postmaster implements RocketMQListener {
        final Queue<Mail> undeliverable = new ConcurrentLinkedQueue<>();

        public ConsumeResult consume(MessageView view) {
            undeliverable.add(Shop.read(view, Mail.class));
            return ConsumeResult.SUCCESS;
        }
    }
}
