//! Joining, syncing, leaving and dying, as Kafka's clients see it.

use std::time::Duration;

use crate::harness::{Coordinator, SECOND, options, subscription};
use weir_coordinator::{GroupError, GroupOptions, GroupState, JoinGroup};

#[test]
fn a_newcomer_must_come_again_with_the_id_it_is_given() {
    let mut c = Coordinator::prompt();
    let first = JoinGroup {
        member_id_required: true,
        ..c.newcomer("g")
    };
    let id = first.fresh_member_id.clone();
    let token = c.join(first.clone());
    assert_eq!(
        c.joined(token).unwrap_err(),
        GroupError::MemberIdRequired(id.clone())
    );
    assert_eq!(
        c.state("g"),
        GroupState::Dead,
        "an id handed out makes no group"
    );
    let token = c.join(JoinGroup {
        member: Some(id.clone()),
        ..first
    });
    let joined = c.joined(token).unwrap();
    assert_eq!(
        (joined.generation, &joined.member, &joined.leader),
        (1, &id, &id)
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(&*joined.protocol, "range");
}

#[test]
fn an_id_that_was_not_used_in_time_is_forgotten() {
    let mut c = Coordinator::prompt();
    let first = JoinGroup {
        member_id_required: true,
        ..c.newcomer("g")
    };
    let token = c.join(first.clone());
    assert!(c.joined(token).is_err());
    c.pass(11 * SECOND);
    let token = c.join(JoinGroup {
        member: Some(first.fresh_member_id.clone()),
        ..first
    });
    assert_eq!(c.joined(token).unwrap_err(), GroupError::UnknownMember);
    assert!(c.log.is_empty());
}

#[test]
fn ids_handed_out_hold_the_barrier_open() {
    let mut c = Coordinator::prompt();
    let (leader, generation) = c.stable("g");
    let pending = JoinGroup {
        member_id_required: true,
        ..c.newcomer("g")
    };
    let token = c.join(pending.clone());
    assert!(c.joined(token).is_err());
    assert_eq!(c.heartbeat("g", &leader, generation), Ok(()));
    let again = c.rejoin("g", &leader);
    let waiting = c.join(again);
    assert!(!c.answered(waiting));
    let token = c.join(JoinGroup {
        member: Some(pending.fresh_member_id.clone()),
        ..pending
    });
    assert_eq!(c.joined(waiting).unwrap().members.len(), 2);
    assert_eq!(c.joined(token).unwrap().generation, generation + 1);
}

#[test]
fn the_first_rebalance_waits_for_company_and_no_longer_than_the_rebalance_timeout() {
    let mut c = Coordinator::new(options(3 * SECOND));
    let mut waiting = Vec::new();
    // One more every two seconds: each prolongs the wait, up to the limit of 60 s.
    for _ in 0..29 {
        let join = c.newcomer("g");
        waiting.push(c.join(join));
        c.pass(2 * SECOND);
        assert!(!c.answered(waiting[0]));
    }
    c.pass(3 * SECOND);
    let generations: Vec<i32> = waiting
        .iter()
        .map(|token| c.joined(*token).unwrap().generation)
        .collect();
    assert_eq!(generations, vec![1; 29]);
}

#[test]
fn a_lone_member_waits_for_the_initial_delay_only() {
    let mut c = Coordinator::new(options(3 * SECOND));
    let join = c.newcomer("g");
    let token = c.join(join);
    c.pass(Duration::from_millis(2_999));
    assert!(!c.answered(token));
    c.pass(Duration::from_millis(1));
    assert_eq!(c.joined(token).unwrap().generation, 1);
}

#[test]
fn heartbeats_tell_members_to_rejoin_and_the_barrier_ends_with_the_last() {
    let mut c = Coordinator::prompt();
    let (first, generation) = c.stable("g");
    let join = c.newcomer("g");
    let second = c.join(join);
    assert_eq!(c.state("g"), GroupState::PreparingRebalance);
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let again = c.rejoin("g", &first);
    let again = c.join(again);
    let (one, two) = (c.joined(again).unwrap(), c.joined(second).unwrap());
    assert_eq!((one.generation, two.generation), (2, 2));
    assert_eq!(one.leader, first, "the leader stays");
    assert_eq!((one.members.len(), two.members.len()), (2, 0));
    assert_eq!(c.state("g"), GroupState::CompletingRebalance);
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(c.heartbeat("g", &first, 2), Ok(()));
}

#[test]
fn everybody_waits_for_the_leaders_assignment() {
    let mut c = Coordinator::prompt();
    let (first, _) = c.stable("g");
    let join = c.newcomer("g");
    let second = c.join(join);
    let again = c.rejoin("g", &first);
    let again = c.join(again);
    c.joined(again).unwrap();
    let two = c.joined(second).unwrap().member;
    let follower = c.sync("g", &two, 2, &[]);
    assert!(!c.answered(follower));
    let repeated = c.sync("g", &two, 2, &[]);
    assert_eq!(c.synced(follower), Err(GroupError::RebalanceInProgress));
    // A share for a stranger is dropped; a member without one gets an empty one.
    let stranger = c.fresh_id();
    let leader = c.sync("g", &first, 2, &[(&stranger, "x"), (&first, "mine")]);
    assert_eq!(c.synced(leader).unwrap(), "mine");
    assert_eq!(c.synced(repeated).unwrap(), "");
    assert_eq!(c.state("g"), GroupState::Stable);
    let late = c.sync("g", &first, 2, &[(&first, "other")]);
    assert_eq!(
        c.synced(late).unwrap(),
        "mine",
        "a stable group keeps its assignment"
    );
}

#[test]
fn sync_is_fenced() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let stranger = c.fresh_id();
    for (member, generation, error) in [
        (&stranger, generation, GroupError::UnknownMember),
        (&first, generation - 1, GroupError::IllegalGeneration),
        (&first, generation + 1, GroupError::IllegalGeneration),
    ] {
        let token = c.sync("g", member, generation, &[]);
        assert_eq!(c.synced(token), Err(error));
    }
    let token = c.sync("nowhere", &first, generation, &[]);
    assert_eq!(c.synced(token), Err(GroupError::UnknownMember));
    let again = c.rejoin("g", &first);
    c.join(again);
    let token = c.sync("g", &second, generation, &[]);
    assert_eq!(c.synced(token), Err(GroupError::RebalanceInProgress));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let again = c.rejoin("g", &first);
    let waiting = c.join(again);
    for _ in 0..12 {
        // Heartbeats keep the session but do not replace the join.
        assert_eq!(
            c.heartbeat("g", &second, generation),
            Err(GroupError::RebalanceInProgress)
        );
        c.pass(5 * SECOND);
    }
    let joined = c.joined(waiting).unwrap();
    assert_eq!(joined.generation, generation + 1);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(
        c.heartbeat("g", &second, generation),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_silent_member_dies_with_its_session_and_the_others_rebalance() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    c.pass(6 * SECOND);
    assert_eq!(c.heartbeat("g", &first, generation), Ok(()));
    c.pass(Duration::from_millis(3_999));
    assert_eq!(
        c.heartbeat("g", &second, generation),
        Ok(()),
        "alive to the end"
    );
    c.pass(6 * SECOND);
    assert_eq!(c.state("g"), GroupState::Stable);
    c.pass(Duration::from_millis(1));
    assert_eq!(
        c.heartbeat("g", &second, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let again = c.rejoin("g", &second);
    let token = c.join(again);
    let joined = c.joined(token).unwrap();
    assert_eq!(joined.leader, second, "the leader is dead: another leads");
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn who_waits_at_a_barrier_does_not_die_of_silence() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let again = c.rejoin("g", &first);
    let waiting = c.join(again);
    for _ in 0..10 {
        c.pass(5 * SECOND);
        assert!(c.heartbeat("g", &second, generation).is_err());
    }
    assert!(!c.answered(waiting));
    let again = c.rejoin("g", &second);
    let token = c.join(again);
    assert_eq!(c.joined(waiting).unwrap().members.len(), 2);
    c.joined(token).unwrap();
}

#[test]
fn who_joins_and_never_syncs_is_out_after_the_rebalance_timeout() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let tokens = [&first, &second].map(|id| {
        let again = c.rejoin("g", id);
        c.join(again)
    });
    for token in tokens {
        c.joined(token).unwrap();
    }
    let generation = generation + 1;
    let token = c.sync("g", &first, generation, &[]);
    c.synced(token).unwrap();
    for _ in 0..12 {
        assert_eq!(c.heartbeat("g", &first, generation), Ok(()));
        assert_eq!(c.heartbeat("g", &second, generation), Ok(()));
        c.pass(5 * SECOND);
    }
    assert_eq!(
        c.heartbeat("g", &second, generation),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn a_new_rebalance_sends_waiting_followers_back() {
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    let tokens = [&first, &second].map(|id| {
        let again = c.rejoin("g", id);
        c.join(again)
    });
    let generation = tokens.map(|t| c.joined(t).unwrap().generation)[0];
    let waiting = c.sync("g", &second, generation, &[]);
    let join = c.newcomer("g");
    c.join(join);
    assert_eq!(c.synced(waiting), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_repeated_join_gets_the_generation_it_missed() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let again = c.rejoin("g", &second);
    let token = c.join(again);
    let joined = c.joined(token).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (generation, 0));
    let changed = JoinGroup {
        protocols: vec![("range".into(), subscription(&["t", "u"]))],
        ..c.rejoin("g", &second)
    };
    let token = c.join(changed);
    assert!(!c.answered(token), "another subscription is a rebalance");
    let again = c.rejoin("g", &first);
    let leader = c.join(again);
    assert_eq!(c.joined(token).unwrap().generation, generation + 1);
    // Completing: the leader asks again and gets all members again.
    let missed = c.joined(leader).unwrap();
    let again = c.rejoin("g", &first);
    let token = c.join(again);
    let repeated = c.joined(token).unwrap();
    assert_eq!(repeated.members, missed.members);
    assert_eq!(repeated.generation, missed.generation);
}

#[test]
fn leaving_in_a_batch_answers_each_and_empties_the_group() {
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    let stranger = c.fresh_id();
    let results = c.leave("g", &[(Some(&stranger), None), (Some(&second), None)]);
    assert_eq!(results, [Err(GroupError::UnknownMember), Ok(())]);
    assert_eq!(c.state("g"), GroupState::PreparingRebalance);
    assert_eq!(c.leave("g", &[(Some(&first), None)]), [Ok(())]);
    assert_eq!(c.state("g"), GroupState::Empty);
    assert_eq!(
        c.leave(
            "g",
            &[(Some(&first), None), (None, Some("i")), (None, None)]
        ),
        vec![Err(GroupError::UnknownMember); 3]
    );
    let (_, generation) = c.stable("g");
    assert!(generation > 2, "generations go on: {generation}");
}

#[test]
fn leaving_while_others_wait_completes_the_barrier() {
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    let again = c.rejoin("g", &first);
    let waiting = c.join(again);
    assert_eq!(c.leave("g", &[(Some(&second), None)]), [Ok(())]);
    assert_eq!(c.joined(waiting).unwrap().members.len(), 1);
}

#[test]
fn the_protocol_is_chosen_by_vote_among_those_in_common() {
    let mut c = Coordinator::prompt();
    let offers = |c: &mut Coordinator, names: &[&str]| JoinGroup {
        protocols: names
            .iter()
            .map(|name| ((*name).into(), subscription(&["t"])))
            .collect(),
        ..c.newcomer("g")
    };
    let first = offers(&mut c, &["range", "sticky", "only-mine"]);
    let first_id = first.fresh_member_id.clone();
    let token = c.join(first.clone());
    assert_eq!(&*c.joined(token).unwrap().protocol, "range");
    let others = [&["sticky", "range"][..], &["sticky", "range"]].map(|names| {
        let join = offers(&mut c, names);
        c.join(join)
    });
    let again = c.join(JoinGroup {
        member: Some(first_id),
        ..first
    });
    assert_eq!(&*c.joined(again).unwrap().protocol, "sticky");
    for token in others {
        c.joined(token).unwrap();
    }
    for bad in [
        offers(&mut c, &["only-mine"]),
        JoinGroup {
            protocol_type: "connect".into(),
            ..offers(&mut c, &["sticky"])
        },
        offers(&mut c, &[]),
    ] {
        let token = c.join(bad);
        assert_eq!(
            c.joined(token).unwrap_err(),
            GroupError::InconsistentProtocol
        );
    }
}

#[test]
fn joins_out_of_bounds_are_refused() {
    let mut c = Coordinator::new(GroupOptions {
        members_max: 1,
        ..options(Duration::ZERO)
    });
    for timeout in [
        Duration::from_millis(5_999),
        Duration::from_millis(1_800_001),
    ] {
        let token = c.join(JoinGroup {
            session_timeout: timeout,
            ..Coordinator::prompt().newcomer("g")
        });
        assert!(matches!(
            c.joined(token),
            Err(GroupError::InvalidSessionTimeout { .. })
        ));
    }
    for group in [String::new(), "x".repeat(1025)] {
        let join = JoinGroup {
            group: group.into(),
            ..c.newcomer("g")
        };
        let token = c.join(join);
        assert_eq!(c.joined(token).unwrap_err(), GroupError::InvalidGroupId);
    }
    c.stable("g");
    let join = c.newcomer("g");
    let token = c.join(join);
    assert_eq!(c.joined(token).unwrap_err(), GroupError::GroupFull);
    let join = JoinGroup {
        member: Some("client-unheard-of".into()),
        ..c.newcomer("other")
    };
    let token = c.join(join);
    assert_eq!(c.joined(token).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn cooperative_members_rejoin_at_once_with_new_metadata() {
    // KIP-429: after a first generation that only revokes, the member that gave something
    // up joins again with other metadata, and the coordinator starts another generation.
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let owning = |c: &mut Coordinator, id| JoinGroup {
        protocols: vec![
            ("cooperative-sticky".into(), subscription(&["t"])),
            ("range".into(), subscription(&["t"])),
        ],
        ..c.rejoin("g", id)
    };
    let join = owning(&mut c, &second);
    let two = c.join(join);
    assert_eq!(
        c.heartbeat("g", &first, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let join = owning(&mut c, &first);
    let one = c.join(join);
    assert_eq!(c.joined(one).unwrap().generation, generation + 1);
    assert_eq!(&*c.joined(two).unwrap().protocol, "cooperative-sticky");
}

#[test]
fn members_and_assignments_are_bounded_in_bytes() {
    let mut c = Coordinator::prompt();
    let heavy = |c: &mut Coordinator, bytes: usize| JoinGroup {
        protocols: vec![("range".into(), vec![0; bytes].into())],
        ..c.newcomer("g")
    };
    let join = heavy(&mut c, 1024 * 1024);
    let token = c.join(join);
    assert_eq!(c.joined(token).unwrap_err(), GroupError::GroupFull);
    let first = heavy(&mut c, 1_000_000);
    let id = first.fresh_member_id.clone();
    let token = c.join(first);
    let generation = c.joined(token).unwrap().generation;
    let share = "x".repeat(16 * 1024 * 1024 + 1);
    let token = c.sync("g", &id, generation, &[(&id, &share)]);
    assert_eq!(c.synced(token), Err(GroupError::GroupFull));
    for _ in 0..15 {
        let join = heavy(&mut c, 1_000_000);
        c.join(join);
    }
    let join = heavy(&mut c, 1_000_000);
    let token = c.join(join);
    assert_eq!(c.joined(token).unwrap_err(), GroupError::GroupFull);
    assert_eq!(c.state("g"), GroupState::PreparingRebalance);
}
