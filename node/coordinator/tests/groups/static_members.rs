//! Static membership (KIP-345, KIP-814).

use crate::harness::{Coordinator, SECOND, subscription};
use weir_coordinator::{GroupError, GroupState, JoinGroup, MemberId};

/// A stable group of two static members, `a` leading: ids and generation.
fn static_pair(c: &mut Coordinator) -> (MemberId, MemberId, i32) {
    let first = c.static_newcomer("g", "a");
    let a = c.join(first.clone());
    let a = c.joined(a).unwrap().member;
    let join = c.static_newcomer("g", "b");
    let b = c.join(join);
    let again = c.join(JoinGroup {
        member: Some(a.clone()),
        ..first
    });
    let generation = c.joined(again).unwrap().generation;
    let b = c.joined(b).unwrap().member;
    let token = c.sync("g", &a, generation, &[(&a, "A"), (&b, "B")]);
    c.synced(token).unwrap();
    let token = c.sync("g", &b, generation, &[]);
    c.synced(token).unwrap();
    (a, b, generation)
}

#[test]
fn a_restarted_follower_gets_its_share_back_without_a_rebalance() {
    let mut c = Coordinator::prompt();
    let (a, b, generation) = static_pair(&mut c);
    let back = c.static_newcomer("g", "b");
    let token = c.join(back);
    let joined = c.joined(token).unwrap();
    assert_ne!(joined.member, b);
    assert_eq!((joined.generation, &joined.leader), (generation, &a));
    assert!(!joined.skip_assignment);
    let token = c.sync("g", &joined.member, generation, &[]);
    assert_eq!(c.synced(token).unwrap(), "B");
    assert_eq!(c.heartbeat("g", &a, generation), Ok(()));
    assert_eq!(
        c.heartbeat_as("g", &b, Some("b"), generation),
        Err(GroupError::FencedInstance)
    );
    assert_eq!(
        c.heartbeat("g", &b, generation),
        Err(GroupError::UnknownMember)
    );
    // The replacement is on record: a new coordinator knows it too.
    c.fail_over();
    assert_eq!(
        c.heartbeat_as("g", &joined.member, Some("b"), generation),
        Ok(())
    );
}

#[test]
fn a_restarted_leader_is_told_to_keep_the_assignment() {
    let mut c = Coordinator::prompt();
    let (old, _, generation) = static_pair(&mut c);
    let back = c.static_newcomer("g", "a");
    let token = c.join(back);
    let joined = c.joined(token).unwrap();
    assert!(joined.skip_assignment);
    assert_eq!(joined.leader, joined.member);
    assert_eq!(
        joined.members.len(),
        2,
        "it goes on watching the topics of all"
    );
    // One that does not understand the hint must not think that it leads.
    let older = JoinGroup {
        skip_assignment_understood: false,
        ..c.static_newcomer("g", "a")
    };
    let token = c.join(older);
    let again = c.joined(token).unwrap();
    assert_eq!(again.generation, generation);
    assert_eq!(again.leader, joined.member);
    assert_ne!(again.leader, again.member);
    assert!(again.members.is_empty() && !again.skip_assignment);
    assert_ne!(again.leader, old);
}

#[test]
fn other_topics_are_a_rebalance_other_owned_partitions_are_not() {
    let mut c = Coordinator::prompt();
    let (_, _, generation) = static_pair(&mut c);
    let mut owning = subscription(&["t"]).to_vec();
    owning.extend([1, 2, 3]);
    let back = JoinGroup {
        protocols: vec![("range".into(), owning.into())],
        ..c.static_newcomer("g", "b")
    };
    let token = c.join(back);
    assert_eq!(c.joined(token).unwrap().generation, generation);
    let back = JoinGroup {
        protocols: vec![("range".into(), subscription(&["t", "u"]))],
        ..c.static_newcomer("g", "b")
    };
    let token = c.join(back);
    assert!(!c.answered(token));
    assert_eq!(c.state("g"), GroupState::PreparingRebalance);
}

#[test]
fn the_old_member_at_a_barrier_is_fenced_when_it_is_replaced() {
    let mut c = Coordinator::prompt();
    let (a, b, generation) = static_pair(&mut c);
    let again = JoinGroup {
        member: Some(b),
        protocols: vec![("range".into(), subscription(&["u"]))],
        ..c.static_newcomer("g", "b")
    };
    let waiting = c.join(again);
    let back = c.static_newcomer("g", "b");
    let token = c.join(back);
    assert_eq!(c.joined(waiting).unwrap_err(), GroupError::FencedInstance);
    let again = JoinGroup {
        member: Some(a),
        ..c.static_newcomer("g", "a")
    };
    let leader = c.join(again);
    assert_eq!(c.joined(token).unwrap().generation, generation + 1);
    assert_eq!(c.joined(leader).unwrap().members.len(), 2);
}

#[test]
fn an_absent_static_member_keeps_its_place_until_its_session_ends() {
    let mut c = Coordinator::prompt();
    let patient = JoinGroup {
        session_timeout: 300 * SECOND,
        ..c.static_newcomer("g", "a")
    };
    let a = c.join(patient);
    let a = c.joined(a).unwrap().member;
    let join = c.newcomer("g");
    let b = c.join(join);
    for _ in 0..11 {
        c.pass(5 * SECOND);
        assert!(!c.answered(b));
    }
    c.pass(5 * SECOND);
    let joined = c.joined(b).unwrap();
    let ids: Vec<_> = joined.members.iter().map(|(id, ..)| id.clone()).collect();
    assert!(ids.contains(&a), "still a member: {ids:?}");
    assert_eq!(joined.leader, joined.member);
    let token = c.sync("g", &joined.member, joined.generation, &[(&a, "A")]);
    c.synced(token).unwrap();
    assert_eq!(c.describe("g").unwrap().members.len(), 2);
}

#[test]
fn an_admin_removes_by_instance_id() {
    let mut c = Coordinator::prompt();
    let (a, b, generation) = static_pair(&mut c);
    assert_eq!(
        c.leave(
            "g",
            &[(None, Some("b")), (None, Some("c")), (Some(&b), Some("a"))]
        ),
        [
            Ok(()),
            Err(GroupError::UnknownMember),
            Err(GroupError::FencedInstance)
        ]
    );
    assert_eq!(
        c.heartbeat("g", &a, generation),
        Err(GroupError::RebalanceInProgress)
    );
}
