//! What a new coordinator knows, from the journal alone.

use std::time::Duration;

use crate::harness::{Coordinator, SECOND, key};
use weir_coordinator::{GroupError, GroupState};

#[test]
fn a_stable_group_goes_on_without_a_rebalance() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    c.commit("g", Some(&first), generation, &[(key("t", 0), 5)])
        .unwrap();
    c.pass(9 * SECOND);
    c.fail_over();
    // Sessions are counted anew, from the load on.
    c.pass(Duration::from_millis(9_999));
    assert_eq!(c.heartbeat("g", &first, generation), Ok(()));
    assert_eq!(
        c.commit("g", Some(&second), generation, &[(key("t", 1), 7)]),
        Ok(())
    );
    assert_eq!(c.fetch("g", &key("t", 0)), Some(5));
    assert_eq!(c.state("g"), GroupState::Stable);
    let token = c.sync("g", &second, generation, &[]);
    assert_eq!(c.synced(token).unwrap(), "b");
}

#[test]
fn members_that_do_not_come_to_the_new_coordinator_die() {
    let mut c = Coordinator::prompt();
    let (first, _, generation) = c.stable_pair("g");
    c.fail_over();
    c.pass(5 * SECOND);
    assert_eq!(c.heartbeat("g", &first, generation), Ok(()));
    c.pass(5 * SECOND);
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn a_generation_without_assignment_is_completed_at_the_new_coordinator() {
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    let tokens = [&first, &second].map(|id| {
        let again = c.rejoin("g", id);
        c.join(again)
    });
    let generation = tokens.map(|t| c.joined(t).unwrap().generation)[0];
    c.sync("g", &second, generation, &[]);
    c.fail_over();
    assert_eq!(c.state("g"), GroupState::CompletingRebalance);
    let follower = c.sync("g", &second, generation, &[]);
    let again = c.rejoin("g", &first);
    let leader = c.join(again);
    let joined = c.joined(leader).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (generation, 2));
    let leader = c.sync("g", &first, generation, &[(&second, "b")]);
    c.synced(leader).unwrap();
    assert_eq!(c.synced(follower).unwrap(), "b");
}

#[test]
fn a_generation_number_is_never_given_out_twice() {
    // G2: the old coordinator formed a generation and died before its assignment. Had it
    // not been recorded, the new one would form another of the same number.
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    let tokens = [&first, &second].map(|id| {
        let again = c.rejoin("g", id);
        c.join(again)
    });
    let generation = tokens.map(|t| c.joined(t).unwrap().generation)[0];
    c.fail_over();
    c.leave("g", &[(Some(&first), None)]);
    let again = c.rejoin("g", &second);
    let token = c.join(again);
    assert_eq!(c.joined(token).unwrap().generation, generation + 1);
}

#[test]
fn a_rebalance_under_way_is_started_again_by_its_members() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let join = c.newcomer("g");
    c.join(join.clone());
    c.fail_over();
    assert_eq!(c.heartbeat("g", &second, generation), Ok(()));
    let newcomer = c.join(join);
    let tokens = [&first, &second].map(|id| {
        assert_eq!(
            c.heartbeat("g", id, generation),
            Err(GroupError::RebalanceInProgress)
        );
        let again = c.rejoin("g", id);
        c.join(again)
    });
    assert_eq!(c.joined(newcomer).unwrap().generation, generation + 1);
    for token in tokens {
        c.joined(token).unwrap();
    }
}
