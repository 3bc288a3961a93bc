package shop;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.rocketmq.client.annotation.RocketMQMessageListener;
import org.apache.rocketmq.client.annotation.RocketMQTransactionListener;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;
import org.apache.rocketmq.client.common.Pair;
import org.apache.rocketmq.client.core.RocketMQClientTemplate;
import org.apache.rocketmq.client.core.RocketMQListener;
import org.apache.rocketmq.client.core.RocketMQTransactionChecker;
import org.springframework.messaging.support.MessageBuilder;
import org.springframework.stereotype.Component;

/**
 * Scenario 10, distributed transactions: an account is charged, and the order learns of exactly the payments that were
 * made, also of one whose decision never reached the broker.
 */
@Component
class Payments implements Scenario {
    record Payment(String order, int cents) {}

    private final RocketMQClientTemplate template;
    private final Accounts accounts;
    private final Orders orders;

    Payments(RocketMQClientTemplate template, Accounts accounts, Orders orders) {
        this.template = template;
        this.accounts = accounts;
        this.orders = orders;
    }

    public String name() {
        return "transactions";
    }

    private void pay(Payment payment, boolean tellsTheBroker) throws Exception {
        Pair<SendReceipt, Transaction> half = template.sendTransactionMessage("payments",
            MessageBuilder.withPayload(payment).setHeader("order_id", payment.order()).build());
        boolean charged = accounts.charge(payment);
        if (!tellsTheBroker) return;
        if (charged) half.getTransaction().commit(); else half.getTransaction().rollback();
    }

    public String run() throws Exception {
        pay(new Payment("forgotten-paid", 100), false);
        pay(new Payment("forgotten-refused", 9_999), false);
        for (int n = 0; n < 10; n++) pay(new Payment("order-" + n, 100), true);
        pay(new Payment("too-much", 9_999), true);
        Scenario.await(Duration.ofSeconds(60), () -> orders.paid.size() == 11 && accounts.asked.size() == 2,
            () -> "paid " + orders.paid + ", asked about " + accounts.asked);
        Scenario.require(orders.paid.containsAll(accounts.charged) && orders.paid.size() == accounts.charged.size(), orders.paid);
        Scenario.require(accounts.asked.equals(Set.of("forgotten-paid", "forgotten-refused")), accounts.asked);
        return "10 committed, 1 rolled back, and 2 that were asked back about: 1 committed, 1 rolled back";
    }

    /** The local transaction, and what it says when asked what became of it. */
    @RocketMQTransactionListener
    static class Accounts implements RocketMQTransactionChecker {
        final Set<String> charged = ConcurrentHashMap.newKeySet(), asked = ConcurrentHashMap.newKeySet();

        boolean charge(Payment payment) {
            return payment.cents() <= 1_000 && charged.add(payment.order());
        }

        public TransactionResolution check(MessageView view) {
            String order = view.getProperties().get("order_id");
            if (order == null) return TransactionResolution.UNKNOWN;
            asked.add(order);
            return charged.contains(order) ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
        }
    }

    @Component
    @RocketMQMessageListener(topic = "payments", tag = "*", consumerGroup = "orders")
    static class Orders implements RocketMQListener {
        final Queue<String> paid = new ConcurrentLinkedQueue<>();

        public ConsumeResult consume(MessageView view) {
            paid.add(Shop.read(view, Payment.class).order());
            return ConsumeResult.SUCCESS;
        }
    }
}
