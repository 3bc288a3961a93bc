package shop;

import java.time.Duration;
import java.util.function.BooleanSupplier;

/** One thing that a shop does with messages; `run` says what was seen, or throws. */
interface Scenario {
    String name();

    String run() throws Exception;

    static void require(boolean holds, Object detail) {
        if (!holds) throw new AssertionError(String.valueOf(detail));
    }

    /** Until `holds`; gives how long that took. */
    static Duration await(Duration most, BooleanSupplier holds, java.util.function.Supplier<Object> detail) throws InterruptedException {
        long began = System.nanoTime();
        while (!holds.getAsBoolean()) {
            require(System.nanoTime() - began < most.toNanos(), "after " + most + ": " + detail.get());
            Thread.sleep(5);
        }
        return Duration.ofNanos(System.nanoTime() - began);
    }
}
