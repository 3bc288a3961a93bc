//! The leader of a queue dies at every step by which it moves what it keeps: before the step is
//! written, right behind that, and once it is committed, each followed to the end by the clients
//! of a random run and judged like one.
//!
//! Runs that never came to some step prove nothing of it and fail for that.

use crate::cluster::on_fresh_thread;
use crate::nemesis::process::ProcessFault;
use crate::nemesis::{Event, Fault};
use crate::outcome::Outcome;
use crate::plan::{Plan, VOTERS};
use crate::queue_steps::{Moment, Step};
use crate::simulation::simulate;
use crate::trace::Trace;

/// When the first one is waited for, and how much later each of the others, in milliseconds:
/// about as long as it takes until the next leader works.
const FIRST: u64 = 3_000;
const PACE: u64 = 1_500;
/// How long a leader stays down that was killed.
const DOWN: u64 = 400;
/// How long the last ones are waited for.
const PATIENCE: u64 = 20_000;
/// In how many runs every step must have been met: whether a half message is parked, and who is
/// asked before, is a matter of the seed.
const SEEDS_MAX: u64 = 8;

/// Three nodes, queues with clients, and no fault but a kill at each of these steps.
fn plan(seed: u64, steps: &[Step]) -> Plan {
    let mut plan = Plan::of(seed, None);
    (plan.nodes, plan.spares) = (VOTERS.to_vec(), Vec::new());
    plan.victim = VOTERS[0];
    (plan.has_queues, plan.victim_stays_away) = (true, false);
    let moments = |step: Step| Moment::ALL.iter().map(move |moment| (step, *moment));
    let kills: Vec<(Step, Moment)> = steps.iter().copied().flat_map(moments).collect();
    plan.end = FIRST + PACE * kills.len() as u64 + PATIENCE;
    let end = plan.end;
    let events = (0..).zip(kills).map(|(number, (step, moment))| {
        let fault = ProcessFault::KillAtStep {
            step,
            moment,
            down: DOWN,
        };
        let event = Event {
            at: FIRST + PACE * number as u64,
            until: end,
            fault: Fault::Process(fault),
        };
        (number, event)
    });
    plan.events = events.collect();
    plan
}

/// What is wrong with a run: also that it did not come to some step.
fn objections(outcome: &Outcome, steps: &[Step]) -> Vec<String> {
    let mut wrong = outcome.violations.clone();
    for step in steps {
        let moments = Moment::ALL.iter().map(|moment| step.point(*moment));
        let never = moments.filter(|point| !outcome.points.contains_key(*point));
        wrong.extend(never.map(|point| format!("rejected, it never happened: {point}")));
    }
    wrong
}

/// Runs one seed after the other until each step was met at each moment.
fn walk(steps: &'static [Step]) {
    let mut met = Outcome::default();
    for seed in 1..=SEEDS_MAX {
        let outcome = on_fresh_thread(move || simulate(&plan(seed, steps), &Trace::new()));
        let wrong = &outcome.violations;
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        met.points.extend(outcome.points);
        if objections(&met, steps).is_empty() {
            return;
        }
    }
    panic!("{:#?}", objections(&met, steps));
}

#[test]
fn a_leader_may_die_at_every_step_of_a_half_message() {
    walk(Step::HALF);
}

#[test]
fn a_leader_may_die_at_every_step_of_a_delayed_message() {
    walk(Step::DELAY);
}

#[test]
fn a_leader_may_die_at_every_step_of_a_move_to_the_dead_letters() {
    walk(Step::LETTER);
}

#[test]
fn a_run_that_never_came_to_a_step_is_rejected() {
    let mut outcome = Outcome::default();
    for point in crate::queue_steps::POINTS {
        outcome.points.insert((*point).to_owned(), 1);
    }
    assert!(objections(&outcome, Step::ALL).is_empty());
    let missed = Step::LetterWritten.point(Moment::Behind);
    outcome.points.remove(missed);
    assert_eq!(objections(&outcome, Step::HALF), Vec::<String>::new());
    let wrong = objections(&outcome, Step::LETTER);
    assert!(wrong.len() == 1 && wrong[0].ends_with(missed), "{wrong:?}");
}
