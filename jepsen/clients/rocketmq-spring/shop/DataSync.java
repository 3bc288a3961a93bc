package shop;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.rocketmq.client.annotation.RocketMQMessageListener;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.common.Pair;
import org.apache.rocketmq.client.core.RocketMQClientTemplate;
import org.apache.rocketmq.client.core.RocketMQListener;
import org.apache.rocketmq.client.support.RocketMQHeaders;
import org.springframework.messaging.support.MessageBuilder;
import org.springframework.stereotype.Component;

/**
 * Scenario 4, data synchronisation: a change of the user table and the message that tells of it are one transaction;
 * the search index applies each change once, however often it is told. The key is set by its prefixed name: the starter
 * passes the plain one on as a property too, and RocketMQ refuses that.
 */
@Component
class DataSync implements Scenario {
    record User(String id, int version, String name) {}

    private static final int USERS = 10, CHANGES = 4;
    private final RocketMQClientTemplate template;
    private final SearchIndex index;
    private final Map<String, User> table = new ConcurrentHashMap<>();

    DataSync(RocketMQClientTemplate template, SearchIndex index) {
        this.template = template;
        this.index = index;
    }

    public String name() {
        return "data-sync";
    }

    private void change(User user, boolean databaseTakesIt) throws Exception {
        Pair<SendReceipt, Transaction> told = template.sendTransactionMessage("user-changes:changed",
            MessageBuilder.withPayload(user).setHeader(RocketMQHeaders.PREFIX + RocketMQHeaders.KEYS, user.id() + "/" + user.version()).build());
        if (databaseTakesIt) {
            table.put(user.id(), user);
            told.getTransaction().commit();
        } else {
            told.getTransaction().rollback();
        }
    }

    public String run() throws Exception {
        for (int version = 1; version <= CHANGES; version++)
            for (int n = 0; n < USERS; n++) change(new User("user-" + n, version, "name " + version), true);
        change(new User("user-0", 99, "the database refused this"), false);
        Scenario.await(Duration.ofSeconds(40), () -> index.applied.size() == USERS * CHANGES, () -> index.applied.size() + " changes applied");
        Scenario.require(index.users.equals(table), index.users);
        // One change was applied, and its listener died before it could say so.
        Scenario.await(Duration.ofSeconds(30), () -> index.again.get() == 1, () -> "the change was not told again");
        Scenario.require(index.applied.size() == USERS * CHANGES, "a change that was rolled back came");
        return USERS * CHANGES + " changes in transactions, each applied once, one told twice, one rolled back";
    }

    @Component
    @RocketMQMessageListener(topic = "user-changes", tag = "*", consumerGroup = "search-index")
    static class SearchIndex implements RocketMQListener {
        final Map<String, User> users = new ConcurrentHashMap<>();
        final Set<String> applied = ConcurrentHashMap.newKeySet();
        final java.util.concurrent.atomic.AtomicInteger again = new java.util.concurrent.atomic.AtomicInteger();

        public ConsumeResult consume(MessageView view) {
            User user = Shop.read(view, User.class);
            String key = view.getKeys().iterator().next();
            if (!applied.add(key)) {
                again.incrementAndGet();
                return ConsumeResult.SUCCESS;
            }
            users.merge(user.id(), user, (old, now) -> now.version() > old.version() ? now : old);
            if (key.equals("user-3/2")) throw new IllegalStateException("the index was restarted after it had written");
            return ConsumeResult.SUCCESS;
        }
    }
}
