//! Processes that are killed, again and again.

use anyhow::{Result, ensure};

use weir_base::NodeId;

use super::theatre::{Setting, TOPIC, Theatre, play};

/// Two of them have no part in the metadata group: they start with an empty image.
const REPLICAS: [NodeId; 3] = [NodeId(4), NodeId(5), NodeId(1)];

/// S-13 (NATS 6888): a few `kill -9`, of all and of each, and every topic is still there.
fn a_few_kills(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    for node in REPLICAS {
        theatre.kill(node)?;
    }
    theatre.run(300)?;
    for node in REPLICAS {
        theatre.start(node)?;
    }
    theatre.write(10, 20_000)?;
    for node in REPLICAS {
        theatre.kill(node)?;
        theatre.run(200)?;
        theatre.start(node)?;
        // Once in the midst of its start, too.
        theatre.run(20)?;
        theatre.kill(node)?;
        theatre.start(node)?;
        theatre.write(10, 20_000)?;
    }
    theatre.recover()?;
    for node in REPLICAS {
        let disk = theatre.disk(node)?;
        let trash = disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with("trash/"));
        ensure!(trash.count() == 0, "node {node} threw a log away");
    }
    ensure!(
        theatre.seen.newest.topics.contains_key(TOPIC),
        "the topic is gone"
    );
    Ok(())
}

/// Voters die, the controller among them, and no leader elsewhere is the worse for it: who
/// takes office gives everybody time to report.
fn voters_die(theatre: &mut Theatre) -> Result<()> {
    theatre.write(20, 10_000)?;
    let was = (theatre.leader()?, theatre.record()?.leader_epoch);
    for node in [NodeId(1), NodeId(2), NodeId(3)] {
        theatre.kill(node)?;
        theatre.write(10, 8_000)?;
        theatre.run(3_000)?;
        theatre.start(node)?;
        theatre.run(4_000)?;
    }
    let is = (theatre.leader()?, theatre.record()?.leader_epoch);
    theatre.recover()?;
    ensure!(is == was, "leader and epoch were {was:?}, are {is:?}");
    Ok(())
}

fn with_observers() -> Setting {
    Setting {
        nodes: 5,
        replicas: &[4, 5, 1],
        ..Setting::default()
    }
}

#[test]
fn s13_no_log_goes_for_a_few_kills() {
    play(with_observers(), a_few_kills).unwrap();
}

#[test]
fn a_new_controller_fences_nobody_who_lives() {
    play(with_observers(), voters_die).unwrap();
}

#[cfg(feature = "mutants")]
#[test]
fn a_controller_in_a_hurry_is_noticed() {
    use weir_base::mutant::Mutant;
    let why = super::theatre::objection(Mutant::M30, with_observers(), voters_die);
    assert!(why.contains("leader and epoch were"), "{why}");
}

#[cfg(feature = "mutants")]
#[test]
fn s13_finds_logs_taken_for_orphans() {
    use weir_base::mutant::Mutant;
    let why = super::theatre::objection(Mutant::M24, with_observers(), a_few_kills);
    assert!(why.contains("I3") || why.contains("I4"), "{why}");
}
