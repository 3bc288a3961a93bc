use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn tables_are_sorted_and_their_defaults_are_legal() {
    for table in [TOPIC_OPTIONS, CLUSTER_OPTIONS] {
        assert!(table.windows(2).all(|pair| pair[0].key < pair[1].key));
        for option in table {
            // Lists that only Kafka's tools write may be empty.
            assert_eq!(option.validate(option.default), Ok(()), "{}", option.key);
            assert!(!option.documentation.is_empty());
        }
    }
    for option in TOPIC_OPTIONS {
        if let Some(key) = option.cluster_key.and_then(cluster_option) {
            assert_eq!(key.default, option.default, "{}", option.key);
        }
    }
}

#[test]
fn bad_values_are_refused_with_their_bounds() {
    for (key, bad) in [
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("max.message.bytes", "1e9"),
        ("cleanup.policy", "delete,burn"),
        ("cleanup.policy", ""),
        ("weir.flush", "never"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("preallocate", "TRUE"),
        ("unclean.leader.election.enable", "true"),
        ("weir.queue.capacity", "-2"),
        ("weir.queue.on.full", "burn"),
        ("weir.queue.on.full", "redirect"),
        ("weir.queue.redirect", "a/b"),
        ("no.such.key", "1"),
    ] {
        let error = validate_topic(&map(&[(key, bad)])).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
    assert_eq!(
        validate_topic(&map(&[("cleanup.policy", "compact,delete")])),
        Ok(())
    );
}

#[test]
fn queue_limits_are_read_as_they_are_set() {
    let limit = |pairs: &[(&str, &str)]| {
        assert_eq!(validate_topic(&map(pairs)), Ok(()));
        let topic = TopicRecord {
            id: weir_base::TopicId::ZERO,
            name: "t".into(),
            internal: false,
            configs: map(pairs),
            partitions: Vec::new(),
        };
        queue_limit(&ClusterImage::default(), &topic)
            .map(|limit| (limit.messages_max, limit.policy))
    };
    let capacity = ("weir.queue.capacity", "5");
    assert_eq!(limit(&[]), None);
    assert_eq!(limit(&[capacity]), Some((5, OnFullPolicy::Reject)));
    let drops = ("weir.queue.on.full", "drop-oldest");
    assert_eq!(
        limit(&[capacity, drops]),
        Some((5, OnFullPolicy::DropOldest))
    );
    assert_eq!(limit(&[drops]), None);
    let elsewhere = [
        capacity,
        ("weir.queue.on.full", "redirect"),
        ("weir.queue.redirect", "overflow"),
    ];
    let redirects = OnFullPolicy::Redirect("overflow".to_owned());
    assert_eq!(limit(&elsewhere), Some((5, redirects)));
}

#[test]
fn a_topic_wins_over_the_cluster_and_that_over_the_default() {
    let cluster = map(&[("log.retention.ms", "5"), ("min.insync.replicas", "3")]);
    let option = topic_option("retention.ms").unwrap();
    assert_eq!(value(option, &map(&[]), &map(&[])), "604800000");
    assert_eq!(value(option, &cluster, &map(&[])), "5");
    assert_eq!(value(option, &cluster, &map(&[("retention.ms", "7")])), "7");
    assert_eq!(min_isr(&cluster, false, &map(&[])), 3);
}

#[test]
fn durability_follows_weirs_keys_then_kafkas() {
    let none = map(&[]);
    let flush = |pairs: &[(&str, &str)]| durability(&none, false, &map(pairs)).flush;
    assert_eq!(flush(&[]), FlushMode::Sync);
    assert_eq!(flush(&[("weir.flush", "async")]), FlushMode::Async);
    assert_eq!(
        flush(&[("weir.flush", "async"), ("flush.messages", "1")]),
        FlushMode::Async
    );
    let cluster = map(&[("weir.flush", "async")]);
    assert_eq!(
        durability(&cluster, false, &map(&[("flush.messages", "1")])).flush,
        FlushMode::Sync
    );
    assert_eq!(
        durability(&cluster, true, &none),
        Durability::default(),
        "internal topics are always sync"
    );
}

#[test]
fn async_replication_lowers_min_isr_unless_the_topic_says() {
    let none = map(&[]);
    assert_eq!(min_isr(&none, false, &none), 2);
    assert_eq!(
        min_isr(&none, false, &map(&[("weir.replication", "async")])),
        1
    );
    assert_eq!(
        min_isr(
            &none,
            false,
            &map(&[("weir.replication", "async"), ("min.insync.replicas", "2")])
        ),
        2
    );
}
