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

/** Scenario 7, ordered messages: the steps of an order in order; an order that fails holds up itself alone. */
@Component
class OrderSteps implements Scenario {
    record Step(String order, String step) {}

    private static final List<String> STEPS = List.of("created", "paid", "shipped", "completed");
    private static final String STUCK = "order-stuck";
    private final RocketMQClientTemplate template;
    private final Fulfilment fulfilment;

    OrderSteps(RocketMQClientTemplate template, Fulfilment fulfilment) {
        this.template = template;
        this.fulfilment = fulfilment;
    }

    public String name() {
        return "ordered";
    }

    private void send(String order) {
        for (String step : STEPS) template.syncSendFifoMessage("order-steps", new Step(order, step), order);
    }

    public String run() throws Exception {
        send(STUCK);
        Scenario.await(Duration.ofSeconds(20), () -> fulfilment.failures.get() == 2, () -> fulfilment.done);
        // It now waits for its third attempt, five seconds away.
        List<String> others = new ArrayList<>();
        for (int n = 0; n < 10; n++) others.add("order-" + n);
        for (String order : others) send(order);
        long sent = System.nanoTime();
        Scenario.await(Duration.ofSeconds(20), () -> others.stream().allMatch(order -> STEPS.equals(fulfilment.stepsOf(order))), () -> fulfilment.done);
        long others_ms = (System.nanoTime() - sent) / 1_000_000;
        Scenario.require(fulfilment.stepsOf(STUCK).equals(List.of("created")), "the other orders waited for the stuck one");
        Scenario.await(Duration.ofSeconds(20), () -> STEPS.equals(fulfilment.stepsOf(STUCK)), () -> fulfilment.done);
        return "10 orders in order within " + others_ms + " ms of sending, while one was stuck for 6 s, which then went on in order";
    }

    @Component
    @RocketMQMessageListener(topic = "order-steps", tag = "*", consumerGroup = "fulfilment")
    static class Fulfilment implements RocketMQListener {
        final Map<String, List<String>> done = new ConcurrentHashMap<>();
        final java.util.concurrent.atomic.AtomicInteger failures = new java.util.concurrent.atomic.AtomicInteger();

        List<String> stepsOf(String order) {
            return done.getOrDefault(order, List.of());
        }

        public ConsumeResult consume(MessageView view) {
            Step step = Shop.read(view, Step.class);
            if (step.equals(new Step(STUCK, "paid")) && failures.get() < 2) {
                failures.incrementAndGet();
                return ConsumeResult.FAILURE;
            }
            done.computeIfAbsent(step.order(), order -> new CopyOnWriteArrayList<>()).add(step.step());
            return ConsumeResult.SUCCESS;
        }
    }
}
