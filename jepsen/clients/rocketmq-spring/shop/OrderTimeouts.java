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

/** Scenario 8, delayed messages: an order that is not paid when its time is up is cancelled then, not earlier. */
@Component
class OrderTimeouts implements Scenario {
    record Order(String id, long madeAt, long timeoutMs) {}

    private static final int ORDERS = 30;
    private final RocketMQClientTemplate template;
    private final Canceller canceller;

    OrderTimeouts(RocketMQClientTemplate template, Canceller canceller) {
        this.template = template;
        this.canceller = canceller;
    }

    public String name() {
        return "delayed";
    }

    public String run() throws Exception {
        Set<String> unpaid = new TreeSet<>();
        for (int n = 0; n < ORDERS; n++) {
            Duration timeout = Duration.ofMillis(2_000 + 200L * n);
            Order order = new Order("order-" + n, System.currentTimeMillis(), timeout.toMillis());
            template.syncSendDelayMessage("order-timeouts", order, timeout);
            if (n % 3 == 0) canceller.paid.add(order.id()); else unpaid.add(order.id());
        }
        Scenario.await(Duration.ofSeconds(30), () -> canceller.late.size() == ORDERS, () -> canceller.late.size() + " timeouts came");
        Scenario.require(new TreeSet<>(canceller.cancelled).equals(unpaid), canceller.cancelled);
        List<Long> late = new ArrayList<>(canceller.late);
        Collections.sort(late);
        Scenario.require(late.get(0) >= 0, -late.get(0) + " ms too early");
        long most = late.get(ORDERS - 1);
        Scenario.require(most < 1_000, most + " ms late");
        return ORDERS + " timeouts, none early, median " + late.get(ORDERS / 2) + " ms late, the latest " + most + " ms";
    }

    @Component
    @RocketMQMessageListener(topic = "order-timeouts", tag = "*", consumerGroup = "canceller")
    static class Canceller implements RocketMQListener {
        final Set<String> paid = ConcurrentHashMap.newKeySet();
        final Queue<String> cancelled = new ConcurrentLinkedQueue<>();
        final Queue<Long> late = new ConcurrentLinkedQueue<>();

        public ConsumeResult consume(MessageView view) {
            Order order = Shop.read(view, Order.class);
            if (!paid.contains(order.id())) cancelled.add(order.id());
            late.add(System.currentTimeMillis() - order.madeAt() - order.timeoutMs());
            return ConsumeResult.SUCCESS;
        }
    }
}
