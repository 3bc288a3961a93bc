//! What keeps a node or a cluster from starting: one line that says what, where and what
//! to do, and an exit status that is not 0.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use super::{WEIR, dev, free_ports, output, refusal};

/// `weir serve` with every listener at a free port, saying nothing but errors.
fn serve(data: &Path, (kafka, admin): (u16, u16)) -> Command {
    let mut serve = Command::new(WEIR);
    serve
        .arg("serve")
        .env("WEIR_NODE_DATA", data)
        .env("WEIR_LOG_LEVEL", "error");
    for (name, port) in [
        ("WEIR_KAFKA_LISTEN", kafka),
        ("WEIR_ROCKETMQ_LISTEN", admin + 1),
        ("WEIR_ADMIN_LISTEN", admin),
        ("WEIR_PEER_LISTEN", kafka + 10_000),
    ] {
        serve.env(name, format!("127.0.0.1:{port}"));
    }
    serve
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let data = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let (kafka, admin) = ports;
    let tcp = |port| (Some(TcpListener::bind(("127.0.0.1", port)).unwrap()), None);
    let udp = |port| (None, Some(UdpSocket::bind(("127.0.0.1", port)).unwrap()));
    // Peers use both: TCP to prove that the process lives.
    for (option, of_dev, port, is_tcp) in [
        ("kafka.listen", "--port-base", kafka, true),
        ("rocketmq.listen", "--rocketmq-port-base", admin + 1, true),
        ("admin.listen", "--admin-port-base", admin, true),
        ("peer.listen", "--port-base", kafka + 10_000, true),
        ("peer.listen", "--port-base", kafka + 10_000, false),
    ] {
        let taken = if is_tcp { tcp(port) } else { udp(port) };
        let refused = refusal(&mut serve(
            &data.path().join(format!("alone-{port}")),
            ports,
        ));
        assert!(
            refused.starts_with(&format!("weir: {option} = \"127.0.0.1:{port}\": "))
                && refused.contains("; stop what uses it, or choose another port"),
            "{refused}"
        );
        let refused = refusal(&mut dev(data.path(), 1, ports));
        assert!(
            refused.contains(&format!("127.0.0.1:{port} cannot be used"))
                && refused.contains(&format!("or choose another {of_dev}\n")),
            "{refused}"
        );
        drop(taken);
    }
    // With all it usually says, it is the last that is said.
    let _taken = TcpListener::bind(("127.0.0.1", kafka)).unwrap();
    let mut talkative = serve(&data.path().join("talkative"), ports);
    let talk = output(talkative.env("WEIR_LOG_LEVEL", "info"));
    assert_eq!(talk.status.code(), Some(1), "{talk:?}");
    let talk = String::from_utf8(talk.stderr).unwrap();
    let last = talk.lines().next_back().unwrap();
    assert!(last.starts_with("weir: kafka.listen = "), "{talk}");
}

#[test]
fn a_wrong_option_is_one_clear_line_and_starts_nothing() {
    let data = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let file = data.path().join("weir.toml");
    let node = data.path().join("node");
    for (text, line) in [
        (
            "[kafka]\nlissten = \"127.0.0.1:1\"\n",
            "weir.toml:2: kafka.lissten: no such option; did you mean kafka.listen?",
        ),
        (
            "[kafak]\n",
            "weir.toml:1: kafak: no such section; did you mean kafka?",
        ),
        (
            "[node]\nstop_timeout = \"1d\"\n",
            "weir.toml:2: node.stop_timeout = \"1d\": out of bounds: 100ms to 10m is allowed",
        ),
        ("[node\n", "weir.toml:1: not TOML: "),
    ] {
        fs::write(&file, text).unwrap();
        // Named on the command line or by variable, to serve or to be checked.
        let check = || {
            let mut check = Command::new(WEIR);
            check.args(["config", "check"]);
            check
        };
        let mut by_option = serve(&node, ports);
        by_option.arg("--config").arg(&file);
        let mut by_variable = serve(&node, ports);
        by_variable.env("WEIR_CONFIG", &file);
        let (mut named, mut meant) = (check(), check());
        named.arg(&file);
        meant.env("WEIR_CONFIG", &file);
        for command in [&mut by_option, &mut by_variable, &mut named, &mut meant] {
            let refused = refusal(command);
            assert!(refused.contains(line), "{refused}");
        }
    }
    for (name, value, line) in [
        (
            "WEIR_KAFKA_LISTEN",
            "nowhere",
            "environment variable WEIR_KAFKA_LISTEN: kafka.listen = \"nowhere\": ",
        ),
        (
            "WEIR_KAFKA_LISTN",
            "127.0.0.1:1",
            "environment variable WEIR_KAFKA_LISTN: no such option; did you mean WEIR_KAFKA_LISTEN?",
        ),
        ("WEIR_CONFIG", "/nowhere.toml", "--config /nowhere.toml: "),
    ] {
        let refused = refusal(serve(&node, ports).env(name, value));
        assert!(refused.contains(line), "{refused}");
    }
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"data-\xff");
    let bytes: &std::ffi::OsStr = bytes;
    let refused = refusal(serve(&node, ports).env("WEIR_NODE_DATA", bytes));
    assert!(refused.contains("WEIR_NODE_DATA: not UTF-8"), "{refused}");
    assert!(!node.exists(), "refused before the disk was touched");
}

#[test]
fn an_open_door_needs_to_be_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let mut serve = Command::new(WEIR);
    serve
        .arg("serve")
        .env("WEIR_NODE_DATA", data.path())
        .env("WEIR_KAFKA_LISTEN", "0.0.0.0:9092")
        .env("WEIR_KAFKA_ADVERTISED", "here:9092");
    let refused = refusal(&mut serve);
    assert!(
        refused.contains("kafka.listen = \"0.0.0.0:9092\"") && refused.contains("--insecure"),
        "{refused}"
    );
}

#[test]
fn configuration_is_checked_and_documented() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("weir.toml");
    fs::write(&file, "[kafka]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let checked = output(Command::new(WEIR).args(["config", "check"]).arg(&file));
    assert!(checked.status.success(), "{checked:?}");
    let docs = output(Command::new(WEIR).args(["config", "docs"]));
    assert_eq!(
        String::from_utf8(docs.stdout).unwrap(),
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIG.md")).unwrap()
    );
    // Usage errors are told apart from refusals.
    let usage = output(Command::new(WEIR).args(["dev", "--nodes", "many"]));
    assert_eq!(usage.status.code(), Some(2));
}
