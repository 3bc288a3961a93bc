//! Decisions reviewed as prose: `testdata/<subject>.txt`, `input / ---- / output` a case.
//!
//! Every reply is a line, under the command that it follows; what happened by the passing
//! of time stands under `pass`. `WEIR_WRITE_TABLES=1` writes the outputs anew.
#![expect(clippy::unwrap_used, reason = "a table that is wrong should panic")]

#[path = "tables/script.rs"]
mod script;

use script::Script;

fn check(subject: &str) {
    let path = format!("{}/testdata/{subject}.txt", env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    for case in table.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (input, _) = case.trim().split_once("\n----").expect(case);
        written += &format!(
            "{}\n----\n{}\n\n",
            input.trim(),
            Script::run(input).trim_end()
        );
    }
    let written = format!("{}\n", written.trim_end());
    if std::env::var_os("WEIR_WRITE_TABLES").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(written, table, "{subject}");
}

#[test]
fn delivery() {
    check("delivery");
}

#[test]
fn fifo() {
    check("fifo");
}

#[test]
fn retry_and_dead_letters() {
    check("retry");
}

#[test]
fn delay() {
    check("delay");
}

#[test]
fn half_messages() {
    check("half");
}

#[test]
fn pacing_and_capacity() {
    check("pacing");
}

#[test]
fn broadcast_and_versions() {
    check("broadcast");
}

#[test]
fn replays() {
    check("replay");
}

#[test]
fn what_is_refused_elsewhere() {
    check("aside");
}

#[test]
fn operators() {
    check("operators");
}

#[test]
fn settings_that_change() {
    check("settings");
}
