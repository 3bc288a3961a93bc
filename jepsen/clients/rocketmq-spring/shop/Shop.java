package shop;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ConfigurableApplicationContext;

/** A Spring Boot application on Apache RocketMQ's own starter: `Shop HOST:PORT,...` (see ../../README.md). */
@SpringBootApplication
public class Shop {
    private static final String CLIENT = System.getenv().getOrDefault("CLIENT", "rocketmq-spring");
    private static final ObjectMapper JSON = new ObjectMapper();

    static <T> T read(MessageView view, Class<T> type) {
        try {
            return JSON.readValue(StandardCharsets.UTF_8.decode(view.getBody()).toString(), type);
        } catch (IOException error) {
            throw new IllegalArgumentException(view.toString(), error);
        }
    }

    private static boolean passes(Scenario scenario) {
        try {
            System.out.println(CLIENT + " " + scenario.name() + " PASS " + scenario.run());
            return true;
        } catch (Throwable error) {
            error.printStackTrace();
            System.out.println(CLIENT + " " + scenario.name() + " FAIL " + error);
            return false;
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("ENDPOINTS", arguments[arguments.length - 1].replace(',', ';'));
        ConfigurableApplicationContext shop = SpringApplication.run(Shop.class);
        System.out.println(CLIENT + " start PASS");
        // All at once, as in a shop: what waits for time in one is no reason for the others to wait.
        Collection<Scenario> scenarios = shop.getBeansOfType(Scenario.class).values();
        ExecutorService threads = Executors.newFixedThreadPool(scenarios.size());
        List<Future<Boolean>> runs = new ArrayList<>();
        for (Scenario scenario : scenarios) runs.add(threads.submit(() -> passes(scenario)));
        boolean passed = true;
        for (Future<Boolean> run : runs) passed &= run.get();
        // Closed in order, each listener in turn waits for its last poll to end, 20 seconds long.
        Runtime.getRuntime().halt(passed ? 0 : 1);
    }
}
