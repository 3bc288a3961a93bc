//! The replication core against a hostile world: after every step of every history the
//! invariants hold, and once the faults end the partition heals with all it acknowledged.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

#[path = "model/bad_histories.rs"]
mod bad_histories;
#[path = "model/checks.rs"]
mod checks;
#[path = "model/world.rs"]
mod world;

use proptest::prelude::*;
use weir_base::Entropy;
use weir_base::image::{Durability, FlushMode, ReplicationMode};
use world::{Action, Setup, World};

fn setups() -> Vec<Setup> {
    let modes = [FlushMode::Sync, FlushMode::Async];
    let replications = [ReplicationMode::Sync, ReplicationMode::Async];
    let mut setups = vec![];
    for (nodes, min_isr) in [(1, 1), (2, 1), (3, 2), (3, 1), (4, 2), (4, 3)] {
        for flush in modes {
            for replication in replications {
                let durability = Durability { flush, replication };
                setups.push(Setup {
                    nodes,
                    min_isr,
                    durability,
                });
            }
        }
    }
    setups
}

const DEFAULT: Setup = Setup {
    nodes: 3,
    min_isr: 2,
    durability: Durability {
        flush: FlushMode::Sync,
        replication: ReplicationMode::Sync,
    },
};

/// Some kinds of faults are left out of a run (swarm testing), the rest are rarer than work.
fn pick(world: &World, entropy: &Entropy, swarm: u64) -> Action {
    let weight = |action: &Action| -> u64 {
        let allowed = |bit: u32, weight: u64| if swarm >> bit & 1 == 1 { weight } else { 0 };
        match action {
            Action::Deliver(_) => 40,
            Action::Publish(_) => 30,
            Action::Append(_) | Action::Flush(_) | Action::Push(..) => 30,
            Action::Start(_) => 15,
            Action::Double(_) => allowed(0, 5),
            Action::Lose(_) => allowed(1, 5),
            Action::Break(_) => allowed(2, 3),
            Action::Kill(_) => allowed(3, 3),
            Action::PowerLoss(..) => allowed(4, 3),
            Action::Fence(_) => allowed(5, 5),
            Action::Elect(_) => allowed(6, 4),
            Action::SetDurability(_) => allowed(7, 2),
            Action::Resign(_) => allowed(8, 3),
            Action::Renew(_) => allowed(9, 3),
            Action::Wait(_) => 6,
        }
    };
    let actions = world.actions();
    let total: u64 = actions.iter().map(weight).sum();
    let mut at = entropy.below(total);
    for action in actions {
        let weight = weight(&action);
        if at < weight {
            return action;
        }
        at -= weight;
    }
    unreachable!("the weights cover every draw")
}

/// One history; says what broke.
fn run(setup: Setup, seed: u64, steps: usize) -> Result<World, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let entropy = Entropy::from_seed(bytes);
    let swarm = entropy.next_u64();
    let mut world = World::new(setup);
    let mut trace = vec![];
    for _ in 0..steps {
        let action = pick(&world, &entropy, swarm);
        trace.push(action);
        if let Err(violation) = world.step(action) {
            let tail = &trace[trace.len().saturating_sub(40)..];
            let view = world.view();
            return Err(format!(
                "{violation:?}\n{setup:?} seed {seed}\n{tail:#?}\n{view:#?}"
            ));
        }
    }
    Ok(world)
}

fn heals(mut world: World, seed: u64) -> Result<(), String> {
    let before = world.history.committed.clone();
    let setup = world.record().clone();
    world
        .heal()
        .map_err(|violation| format!("healing: {violation:?} seed {seed} {setup:?}"))?;
    if !world.is_recoverable() {
        return Ok(());
    }
    if !world.is_healthy() {
        return Err(format!(
            "does not heal: seed {seed} {:#?} {:#?}",
            world.view(),
            world
        ));
    }
    let after = &world.history.committed;
    if after.len() <= before.len() || after[..before.len()] != before[..] {
        return Err(format!(
            "committed entries changed or none were added: seed {seed}"
        ));
    }
    Ok(())
}

#[test]
fn random_histories_keep_every_invariant_and_heal() {
    // More in a nightly run.
    let seeds = std::env::var("WEIR_MODEL_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    for setup in setups() {
        for seed in 0..seeds {
            let outcome = run(setup, seed, 250).and_then(|world| heals(world, seed));
            assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        }
    }
}

/// Every history of a few steps from states where one step decides: right after an
/// election, with a member behind, below min ISR.
#[test]
fn all_short_histories_keep_every_invariant() {
    let mut worlds = vec![World::new(DEFAULT)];
    for seed in [3, 11, 27] {
        worlds.push(run(DEFAULT, seed, 40).expect("checked above"));
    }
    let mut steps = 0;
    for world in worlds {
        steps += explore(&world, 3);
    }
    assert!(steps > 10_000, "{steps}");
}

fn explore(world: &World, depth: u32) -> u64 {
    if depth == 0 {
        return 0;
    }
    let mut steps = 0;
    for action in world.actions() {
        let mut next = world.clone();
        if let Err(violation) = next.step(action) {
            panic!("{violation:?} by {action:?} from {:#?}", world.view());
        }
        steps += 1 + explore(&next, depth - 1);
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// As the random histories, but shrinking to the fewest steps when one fails.
    #[test]
    fn chosen_histories_keep_every_invariant(
        setup in 0..setups().len(),
        choices in proptest::collection::vec(any::<u16>(), 0..150),
    ) {
        let mut world = World::new(setups()[setup]);
        for choice in choices {
            let actions = world.actions();
            let action = actions[usize::from(choice) % actions.len()];
            prop_assert_eq!(world.step(action), Ok(()));
        }
    }
}

/// Each planted bug must be found within a bounded number of histories.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_found() {
    use Mutant::{M1, M2, M3, M4, M5, M9, M10, M26};
    use weir_base::mutant::{Mutant, plant};
    for mutant in [M1, M2, M3, M4, M5, M9, M10, M26] {
        plant(Some(mutant));
        let found = (0..2_000u64).find(|seed| {
            let setups = setups();
            let setup = setups[usize::try_from(*seed).unwrap() % setups.len()];
            run(setup, *seed, 250).is_err()
        });
        plant(None);
        assert!(found.is_some(), "{mutant:?} survives");
        println!("{mutant:?} found in history {}", found.unwrap());
    }
}
