import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;

/** Groups whose members keep their partitions: static members through a restart, cooperative ones through a join. */
final class Members {
    /** A consumer that remembers every change of what it owns. */
    static final class Member implements ConsumerRebalanceListener, AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final Set<TopicPartition> revoked = new HashSet<>();
        int changes;

        Member(Check check, String group, Map<String, Object> more) {
            consumer = check.consumer(group, more);
            consumer.subscribe(List.of(check.topic), this);
        }

        @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) { changes++; }
        @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) { changes++; revoked.addAll(partitions); }
        @Override public void onPartitionsLost(Collection<TopicPartition> partitions) { onPartitionsRevoked(partitions); }
        @Override public void close() { consumer.close(); }

        Set<TopicPartition> owns() { return Set.copyOf(consumer.assignment()); }
        int generation() { return consumer.groupMetadata().generationId(); }
    }

    static boolean share(Member... members) {
        var owned = 0;
        for (var member : members) member.consumer.poll(Duration.ofMillis(100));
        for (var member : members) {
            if (member.owns().isEmpty() || member.generation() != members[0].generation()) return false;
            owned += member.owns().size();
        }
        return owned == Check.PARTITIONS;
    }

    /** A member that restarts under its own name within its session gets its partitions back, and the other notices nothing. */
    static String staticMember(Check check) throws Exception {
        var group = check.topic + "-static";
        var members = new Member[2];
        try {
            for (var i = 0; i < 2; i++) members[i] = named(check, group, i);
            Check.until("two members share", 60, () -> share(members));
            var generation = members[0].generation();
            for (var i = 0; i < 2; i++) { // one of the two leads the group
                Member other = members[1 - i];
                var owned = members[i].owns();
                var changes = other.changes;
                members[i].close(); // a static member says no farewell
                var restarted = members[i] = named(check, group, i);
                Check.until("the restarted member owns " + owned, 60, () -> {
                    other.consumer.poll(Duration.ofMillis(100));
                    restarted.consumer.poll(Duration.ofMillis(100));
                    return restarted.owns().equals(owned);
                });
                if (other.changes != changes || other.generation() != generation || restarted.generation() != generation)
                    throw new AssertionError("restart of member " + i + ": generation " + generation + " became " + restarted.generation()
                        + " and " + other.generation() + ", the other member's partitions changed " + (other.changes - changes) + " times");
            }
        } finally {
            for (var member : members) if (member != null) member.close();
        }
        return "each of two members restarted and had its partitions back, without a rebalance";
    }

    static Member named(Check check, String group, int i) {
        return new Member(check, group, Map.of("group.instance.id", "member-" + i, "session.timeout.ms", 45000));
    }

    /** Partitions that do not move to the second member, or back, are never taken from the first. */
    static String cooperative(Check check) throws Exception {
        var group = check.topic + "-cooperative";
        var sticky = Map.<String, Object>of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        try (var first = new Member(check, group, sticky)) {
            Check.until("the first member owns everything", 60, () -> share(first));
            Set<TopicPartition> moved;
            try (var second = new Member(check, group, sticky)) {
                Check.until("two members share", 60, () -> share(first, second));
                moved = second.owns();
                if (!second.revoked.isEmpty()) throw new AssertionError("the second member lost " + second.revoked + " again");
            }
            Check.until("the first member takes over", 60, () -> share(first));
            if (moved.size() != 1 || !first.revoked.equals(moved))
                throw new AssertionError("moved " + moved + ", but the first member lost " + first.revoked);
            return "one of " + Check.PARTITIONS + " partitions moved and came back, the others were never revoked";
        }
    }
}
