//! What operators set about queue groups, and how they see it.

use std::time::Duration;

use serde_json::json;
use weir_api::queues::{Backoff, Capacity, GroupSettings, OnFull, Target};
use weir_base::TopicPartition;

use crate::Node;

impl Node {
    fn settings(&self, topic: &str, partition: u32) -> GroupSettings {
        let at = TopicPartition::new(self.topic(topic).topic, partition);
        let groups = self.broker.api().queues.list_groups(at);
        self.runtime.block_on(groups).unwrap()[0].settings.clone()
    }
}

#[test]
fn a_queue_group_is_made_and_set() {
    let node = Node::attached();
    node.weir("topic create jobs --partitions 2").unwrap();
    let refused = node.weir("queue set none g --attempts 3").unwrap_err();
    assert!(refused.contains("none"), "{refused}");
    let set = "queue set jobs g --attempts 3 --backoff 1000,3000 --rate 101 --fifo true";
    assert!(node.weir(set).unwrap().contains("on 2 partitions"));
    node.weir("queue set jobs g --attempts 4").unwrap();
    let [first, second] = [0, 1].map(|index| node.settings("jobs", index));
    assert_eq!((first.attempts_max, first.fifo), (4, true));
    let steps = [1, 3].map(Duration::from_secs).to_vec();
    assert_eq!(first.backoff, Backoff::List(steps));
    let rates = [first.pacing.rate, second.pacing.rate];
    assert_eq!(rates, [weir_api::queues::Rate::Topic(101); 2]);
    node.weir("queue set jobs g --rate 0").unwrap();
    let rate = node.settings("jobs", 0).pacing.rate;
    assert_eq!(rate, weir_api::queues::Rate::Unlimited);
}

#[test]
fn everything_that_a_group_has_can_be_set_and_is_shown() {
    let node = Node::attached();
    node.weir("topic create jobs --partitions 2").unwrap();
    let pauses = "exponential:initial=2s,max=1m,multiplier=1.5,jitter=10%";
    node.weir(&format!(
        "queue set jobs g --backoff {pauses} --lease 90s --concurrency 5 --key-concurrency 1 \
         --dead-letter graves:3 --capacity 1000 --on-full redirect:more --broadcast config \
         --versioned true --expires 2h --rate 7"
    ))
    .unwrap();
    let [first, second] = [0, 1].map(|index| node.settings("jobs", index));
    let target = |topic: &str, partition| Target {
        topic: topic.into(),
        partition,
    };
    let expected = GroupSettings {
        backoff: Backoff::Exponential {
            initial: Duration::from_secs(2),
            max: Duration::from_secs(60),
            multiplier_percent: 150,
            jitter_percent: 10,
        },
        invisible: Duration::from_secs(90),
        pacing: first.pacing,
        dead_letter: Some(target("graves", 3)),
        capacity: Some(Capacity {
            messages_max: 1_000,
            on_full: OnFull::Redirect(target("more", 0)),
        }),
        expires_after: Some(Duration::from_secs(7_200)),
        broadcast: Some("config".into()),
        versioned: true,
        ..GroupSettings::default()
    };
    assert_eq!(first, expected);
    let at_once = [first.pacing.concurrency, second.pacing.concurrency];
    assert_eq!(at_once, [Some(3), Some(2)]);
    assert_eq!(first.pacing.key_concurrency, Some(1));
    let shown = node.weir("queue describe jobs").unwrap();
    assert_eq!(node.weir("queue list").unwrap(), shown);
    for words in [
        "jobs g: attempts 16, backoff exponential:initial=2s,max=1m,multiplier=1.50,jitter=10%,",
        "lease 90s, filter -, rate 7/s, concurrency 5, key-concurrency 1, dead-letter graves:3,",
        "capacity 1000, on-full redirect:more, broadcast config, versioned true, expires 2h",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let told = node.json("queue describe jobs")[1]["settings"].clone();
    assert_eq!(told["backoff"]["multiplier_percent"], json!(150));
    assert_eq!(
        (&told["concurrency"], &told["lease"]),
        (&json!(2), &json!(90_000))
    );
    assert_eq!(told["on_full"], json!("redirect:more"));

    // And back again.
    node.weir(
        "queue set jobs g --backoff ladder --lease 30s --rate 0 --concurrency 0 \
         --key-concurrency 0 --dead-letter= --capacity 0 --broadcast= --versioned false --expires 0",
    )
    .unwrap();
    let ladder = GroupSettings {
        backoff: Backoff::Ladder,
        ..GroupSettings::default()
    };
    assert_eq!(node.settings("jobs", 1), ladder);
    let shown = node.weir("queue list").unwrap();
    assert!(shown.contains("backoff ladder,"), "{shown}");
    assert!(shown.contains("dead-letter dlq.g, capacity -,"), "{shown}");
    node.weir("queue set jobs g --backoff exponential").unwrap();
    assert_eq!(node.settings("jobs", 0), GroupSettings::default());
}

#[test]
fn a_bad_setting_is_named_with_its_limit_and_changes_nothing() {
    let node = Node::attached();
    node.weir("topic create jobs --partitions 2").unwrap();
    node.weir("queue set jobs g --attempts 3").unwrap();
    let before = node.json("queue describe jobs");
    for (bad, says) in [
        ("--concurrency 1", "concurrency 1 is less than one for each"),
        (
            "--attempts 0",
            "attempts_max is 0, which is outside 1..=10000",
        ),
        (
            "--lease 500ms",
            "invisible ms is 500, which is outside 1000..=43200000",
        ),
        ("--lease soon", "write a duration such as 500ms"),
        (
            "--backoff 25h",
            "backoff ms is 90000000, which is outside 0..=86400000",
        ),
        ("--backoff slow", "write a duration such as 500ms"),
        (
            "--backoff exponential:multiplier=11",
            "1100, which is outside 100..=1000",
        ),
        (
            "--backoff exponential:jitter=51",
            "51, which is outside 0..=50",
        ),
        (
            "--backoff exponential:initial=2m,max=1m",
            "outside 0..=60000",
        ),
        ("--key-concurrency 2000000", "outside 1..=1000000"),
        ("--dead-letter a/b", "1 to 249 of [a-zA-Z0-9._-]"),
        ("--dead-letter a:b", "not TOPIC or TOPIC:PARTITION"),
        ("--on-full reject", "a capacity of its own"),
        (
            "--capacity 5 --on-full explode",
            "none of reject, drop-oldest",
        ),
        (
            "--expires 10ms",
            "expires_after ms is 10, which is outside 1000..=",
        ),
    ] {
        let refused = node.weir(&format!("queue set jobs g --attempts 9 {bad}"));
        let refused = match bad.starts_with("--attempts") {
            true => node.weir(&format!("queue set jobs g {bad}")),
            false => refused,
        };
        let refused = refused.unwrap_err();
        assert!(refused.contains(says), "{bad}: {refused}");
    }
    assert_eq!(node.json("queue describe jobs"), before);
}

#[test]
fn subscribers_of_a_broadcast_are_listed() {
    let node = Node::attached();
    node.weir("topic create config").unwrap();
    node.weir("queue set config workers").unwrap();
    node.weir("queue set config cache.a --broadcast caches")
        .unwrap();
    node.append("config", &[1_000, 2_000]);
    node.weir("queue set config cache.b --broadcast caches --expires 90s")
        .unwrap();
    let listed = node.json("queue subscribers config");
    let of = |field: &str| [0, 1].map(|line: usize| listed[line][field].clone());
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(of("subscriber"), [json!("cache.a"), json!("cache.b")]);
    assert_eq!(of("lag"), [json!(2), json!(0)]);
    assert_eq!(of("expires"), [json!(86_400_000), json!(90_000)]);
    let now = node.broker.api().cluster.now().0;
    let kept = of("expires_at").map(|at| (at.as_i64().unwrap() - now) / 1_000);
    assert!((86_300..=86_400).contains(&kept[0]), "{kept:?}");
    assert!((30..=90).contains(&kept[1]), "{kept:?}");
    let shown = node.weir("queue subscribers").unwrap();
    assert!(shown.contains("caches     config  cache.a"), "{shown}");
    assert_eq!(node.json("queue subscribers none"), json!([]));
}
