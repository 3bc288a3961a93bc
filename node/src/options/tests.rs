use super::*;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    load(Some(("weir.toml", text)), &environment).map_err(|error| error.to_string())
}

#[test]
fn a_bad_file_gives_one_line_with_place_key_value_and_remedy() {
    let table = [
        (
            "[kafka]\nlissten = \"x\"",
            "weir.toml:2: kafka.lissten: no such option; did you mean kafka.listen?",
        ),
        (
            "[kafak]\n",
            "weir.toml:1: kafak: no such section; did you mean kafka?",
        ),
        (
            "[zzz]\n",
            "weir.toml:1: zzz: no such section; known are node, log, kafka, rocketmq, admin, peer, metadata, storage, replication, groups, queues",
        ),
        (
            "kafka = 3",
            "weir.toml:1: kafka = 3: this is a section: write [kafka] and its keys below",
        ),
        (
            "[node]\nid = 0",
            "weir.toml:2: node.id = 0: out of bounds: 1 to 2147483647 is allowed",
        ),
        (
            "[node]\nid = \"1\"",
            "weir.toml:2: node.id = \"1\": not a whole number: write it without quotes",
        ),
        (
            "[node]\nid = -1",
            "weir.toml:2: node.id = -1: not a whole number up to 4294967295",
        ),
        (
            "\n[kafka]\nauto_create_topics = \"yes\"",
            "weir.toml:3: kafka.auto_create_topics = \"yes\": neither true nor false; write it without quotes",
        ),
        (
            "[node]\nstop_timeout = 30",
            "weir.toml:2: node.stop_timeout = 30: not a duration: write it in quotes",
        ),
        (
            "[node]\nstop_timeout = \"30\"",
            "weir.toml:2: node.stop_timeout = \"30\": not a duration: write a whole number and a unit (ms, s, m, h, d), such as \"250ms\" or \"7d\"",
        ),
        (
            "[node]\nstop_timeout = \"1d\"",
            "weir.toml:2: node.stop_timeout = \"1d\": out of bounds: 100ms to 10m is allowed",
        ),
        (
            "[storage]\nasync_flush_bytes = \"1GB\"",
            "weir.toml:2: storage.async_flush_bytes = \"1GB\": not a size: write a whole number and a unit (B, KiB, MiB, GiB, TiB), such as \"64MiB\"",
        ),
        (
            "[peer]\nmtu = 9000",
            "weir.toml:2: peer.mtu = 9000: out of bounds: 1200 to 6000 is allowed",
        ),
        (
            "[peer]\nmtu = 99999",
            "weir.toml:2: peer.mtu = 99999: not a whole number up to 65535",
        ),
        (
            "[queues]\nin_flight_max = 0",
            "weir.toml:2: queues.in_flight_max = 0: out of bounds: 1 to 10000000 is allowed",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "weir.toml:2: log.level = \"loud\": 'loud' is none of: error, warn, info, debug, trace",
        ),
        (
            "[metadata]\nvoters = [\"1@a:1\",\n  \"2\"]",
            "weir.toml:2: metadata.voters = [\"1@a:1\", \"2\"]: item 2 is not id@host:port: write one such as \"1@10.0.0.5:19092\"",
        ),
        (
            "[kafka]\nlisten = \"127.0.0.1:8080\"",
            "admin.listen = \"127.0.0.1:8080\": the same port as kafka.listen: choose another",
        ),
        (
            "[peer]\nlisten = \"127.0.0.1:8080\"",
            "weir.toml:2: peer.listen = \"127.0.0.1:8080\": the same port as admin.listen: choose another",
        ),
        (
            "[kafka]\nlisten = \"127.0.0.1:0\"",
            "weir.toml:2: kafka.listen = \"127.0.0.1:0\": port 0: write the port that others are to use",
        ),
        (
            "[kafka]\nlisten = \"0.0.0.0:9092\"",
            "weir.toml:2: kafka.listen = \"0.0.0.0:9092\": listens on every interface, so others must be told one address: set kafka.advertised",
        ),
        (
            "[metadata]\nvoters = [\"1@a:1\", \"2@b:1\", \"3@c:1\"]",
            "peer.tls_cert: nodes only talk over mutual TLS: set peer.tls_cert, peer.tls_key and peer.tls_ca",
        ),
        (
            "[metadata]\nvoters = [\"1@a:1\", \"2@b:1\"]\n[peer]\ntls_cert = \"a\"\ntls_key = \"b\"\ntls_ca = \"c\"",
            "weir.toml:2: metadata.voters = [\"1@a:1\", \"2@b:1\"]: 2 voters: write 1, 3 or 5",
        ),
        (
            "[metadata]\nvoters = [\"1@a:1\", \"2@b:1\", \"3@c:1\", \"4@d:1\", \"5@e:1\", \"6@f:1\", \"7@g:1\"]\n[peer]\ntls_cert = \"a\"\ntls_key = \"b\"\ntls_ca = \"c\"",
            "weir.toml:2: metadata.voters = [\"1@a:1\", \"2@b:1\", \"3@c:1\", \"4@d:1\", \"5@e:1\", \"6@f:1\", \"7@g:1\"]: 7 voters: write 1, 3 or 5",
        ),
        (
            "[peer]\ntls_cert = \"a\"",
            "weir.toml:2: peer.tls_cert = \"a\": peer.tls_cert, peer.tls_key and peer.tls_ca go together: set all three or none",
        ),
        (
            "[metadata]\nsession_timeout = \"300ms\"",
            "weir.toml:2: metadata.session_timeout = \"300ms\": less than three times metadata.heartbeat_interval: one late heartbeat would fence the node",
        ),
    ];
    for (text, line) in table {
        assert_eq!(read(text, &[]).unwrap_err(), line, "{text}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_one_line_too() {
    let error = read("[node]\nid = \n", &[]).unwrap_err();
    assert!(error.starts_with("weir.toml:2: not TOML: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let twice = read("[node]\nid = 1\nid = 2\n", &[]).unwrap_err();
    assert!(twice.starts_with("weir.toml:3: not TOML: "), "{twice}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "[kafka]\nlisten = \"127.0.0.1:1000\"\n[node]\nid = 7\nrack = \"a\"\n";
    let variables = [
        ("WEIR_KAFKA_LISTEN", "127.0.0.1:2000"),
        ("WEIR_METADATA_VOTERS", "7@10.0.0.7:19092"),
        ("WEIR_NODE_RACK", ""),
    ];
    let options = read(file, &variables).unwrap().options;
    assert_eq!(options.kafka.listen.port(), 2000);
    assert_eq!(options.node.id, 7);
    assert_eq!(options.node.rack, None);
    assert_eq!(options.metadata.voters.len(), 1);

    assert_eq!(
        read("", &[("WEIR_NODE_WORKER_THREADS", "many")]).unwrap_err(),
        "environment variable WEIR_NODE_WORKER_THREADS: node.worker_threads = \"many\": not a whole number up to 4294967295"
    );
}

#[test]
fn a_variable_that_is_nearly_an_option_is_refused() {
    for (name, line) in [
        (
            "WEIR_KAFKA_LISTN",
            "environment variable WEIR_KAFKA_LISTN: no such option; did you mean WEIR_KAFKA_LISTEN?",
        ),
        (
            "WEIR_LOG_SOMETHING_QUITE_DIFFERENT",
            "environment variable WEIR_LOG_SOMETHING_QUITE_DIFFERENT: no such option; unset it, or see `weir config docs`",
        ),
    ] {
        assert_eq!(read("", &[(name, "x")]).unwrap_err(), line);
    }
    // Not options, and not meant to be any.
    for name in ["WEIR_ADMIN", "WEIR_CONFIG", "PATH"] {
        assert_eq!(read("", &[(name, "x")]).unwrap().warnings, [""; 0]);
    }
    // What an orchestrator sets for services called `weir-kafka` and `weir-admin`.
    for name in [
        "WEIR_KAFKA_PORT",
        "WEIR_KAFKA_PORT_9092_TCP",
        "WEIR_KAFKA_PORT_9092_TCP_ADDR",
        "WEIR_KAFKA_SERVICE_HOST",
        "WEIR_ADMIN_SERVICE_PORT_HTTP",
    ] {
        assert_eq!(
            read("", &[(name, "tcp://10.0.0.1:9092")]).unwrap().warnings,
            [format!(
                "environment variable {name} is no option and is ignored"
            )]
        );
    }
}

#[test]
fn every_option_has_a_variable_of_its_own_that_the_reference_names() {
    let reference = reference();
    let mut variables = std::collections::BTreeSet::new();
    // Options that are refused without each other.
    let whole = [
        ("WEIR_PEER_TLS_CERT", "a"),
        ("WEIR_PEER_TLS_KEY", "a"),
        ("WEIR_PEER_TLS_CA", "a"),
        ("WEIR_ROCKETMQ_TLS_CERT", "a"),
        ("WEIR_ROCKETMQ_TLS_KEY", "a"),
    ];
    for section in NodeOptions::default().sections() {
        for field in section.fields() {
            let path = format!("{}.{}", section.name(), field.key);
            let name = variable(section.name(), field.key);
            assert!(
                reference.contains(&format!("### {path}\n"))
                    && reference.contains(&format!("\n- `{name}`; at restart\n")),
                "{path} and {name}"
            );
            // It sets this option: what it cannot be is refused in its name, else it shows.
            let mut set = whole.to_vec();
            set.push((&name, "?"));
            match read("", &set) {
                Ok(loaded) => assert_eq!(loaded.options.show(&path), r#""?""#, "{path}"),
                Err(line) => {
                    let begins = format!("environment variable {name}: {path} = ");
                    assert!(line.starts_with(&begins), "{line}");
                }
            }
            assert!(variables.insert(name), "{path} shares its variable");
        }
    }
    // And so has what is said on the command line.
    use clap::Args;
    for command in [
        crate::serve::ServeArgs::augment_args(clap::Command::new("serve")),
        crate::dev::DevArgs::augment_args(clap::Command::new("dev")),
    ] {
        for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
            let id = argument.get_id();
            let name = argument.get_env().and_then(|name| name.to_str());
            let name = name.unwrap_or_else(|| panic!("--{id} has no variable"));
            assert!(reference.contains(&format!("| `{name}` |")), "{name}");
            assert!(variables.insert(name.to_owned()), "--{id} shares {name}");
        }
    }
    // The number in the text is the number of options: nothing is named twice.
    assert_eq!(
        reference.matches("; at restart\n").count() + reference.matches("| `WEIR_").count(),
        variables.len()
    );
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut options = NodeOptions::default();
    assert_eq!(options.to_toml(&[]), "");
    assert_eq!(
        options.to_toml(&["node.id", "node.rack"]),
        "[node]\nid = 1\n"
    );
    options.node.id = 3;
    options.node.data = "a \"quoted\" dir".into();
    options.kafka.advertised = Some(HostPort {
        host: "::1".into(),
        port: 5,
    });
    options.peer.mtu = Some(6000);
    options.peer.tls_cert = Some("c".into());
    options.peer.tls_key = Some("k".into());
    options.peer.tls_ca = Some("a".into());
    options.groups.initial_rebalance_delay = std::time::Duration::ZERO;
    options.log.level = LogLevel::Debug;
    let text = options.to_toml(&[]);
    assert_eq!(read(&text, &[]).unwrap().options, options, "{text}");
}

#[test]
fn every_option_has_a_default_within_bounds_and_says_when_to_change_it() {
    let mut options = NodeOptions::default();
    options.validate().unwrap();
    for section in options.sections_mut() {
        for field in section.fields() {
            assert!(!field.about.trim().is_empty() && !field.change.is_empty());
            // Bounds that read as a range are one: both ends can be set, nothing outside.
            if let Some((low, high)) = field.bounds.split_once(" to ") {
                let path = format!("{}.{}", section.name(), field.key);
                section.set(field.key, Input::Text(low)).expect(&path);
                section.set(field.key, Input::Text(high)).expect(&path);
            }
        }
    }
}

#[test]
fn listening_beyond_loopback_is_noticed() {
    let options = read("[kafka]\nlisten = \"10.0.0.1:9092\"", &[])
        .unwrap()
        .options;
    assert_eq!(
        options.beyond_loopback(),
        [("kafka.listen", "10.0.0.1:9092".parse().unwrap())]
    );
    assert_eq!(NodeOptions::default().beyond_loopback(), []);
}

#[test]
fn the_committed_reference_is_the_current_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIG.md");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == reference(),
        "CONFIG.md is not what `weir config docs` prints: run this test with WEIR_BLESS=1"
    );
}
