//! Committed offsets: who may commit, what is kept, what is forgotten (G1).

use crate::harness::{Coordinator, SECOND, committed, key};
use weir_base::Uuid;
use weir_coordinator::{CommitOffsets, GroupCommand, GroupError, GroupState, OffsetKey};

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

#[test]
fn members_of_the_generation_commit_and_nobody_else() {
    let mut c = Coordinator::prompt();
    let (first, second, generation) = c.stable_pair("g");
    let t0 = key("t", 0);
    assert_eq!(c.fetch("g", &t0), None);
    assert_eq!(
        c.commit("g", Some(&second), generation, &[(t0.clone(), 5)]),
        Ok(())
    );
    let stranger = c.fresh_id();
    for (member, generation, error) in [
        (None, -1, GroupError::UnknownMember),
        (Some(&stranger), generation, GroupError::UnknownMember),
        (Some(&first), generation - 1, GroupError::IllegalGeneration),
        (Some(&first), generation + 1, GroupError::IllegalGeneration),
        (Some(&first), -1, GroupError::IllegalGeneration),
    ] {
        assert_eq!(
            c.commit("g", member, generation, &[(t0.clone(), 9)]),
            Err(error)
        );
    }
    assert_eq!(c.fetch("g", &t0), Some(5));
    // A rebalance begins: the old generation may still store what it consumed, until the
    // new one is there.
    let join = c.newcomer("g");
    c.join(join);
    assert_eq!(
        c.commit("g", Some(&first), generation, &[(t0.clone(), 6)]),
        Ok(())
    );
    for id in [&first, &second] {
        let again = c.rejoin("g", id);
        c.join(again);
    }
    assert_eq!(
        c.commit("g", Some(&first), generation, &[(t0.clone(), 7)]),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        c.commit("g", Some(&first), generation + 1, &[(t0.clone(), 7)]),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(c.fetch("g", &t0), Some(6));
}

#[test]
fn a_group_may_only_store_offsets() {
    let mut c = Coordinator::prompt();
    assert_eq!(c.commit("simple", None, -1, &[(key("t", 1), 8)]), Ok(()));
    assert_eq!(c.fetch("simple", &key("t", 1)), Some(8));
    assert_eq!(c.fetch("simple", &key("t", 2)), None);
    assert_eq!(c.state("simple"), GroupState::Empty);
    assert_eq!(c.commit("", None, -1, &[(key("t", 1), 8)]), Ok(()));
    let ghost = c.fresh_id();
    assert_eq!(
        c.commit("new", Some(&ghost), 3, &[]),
        Err(GroupError::IllegalGeneration)
    );
    let all = c.fetch_all("simple");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1.as_ref().unwrap().at, c.now);
    // An emptied group, too, takes commits from outside.
    let (member, generation) = c.stable("g");
    c.leave("g", &[(Some(&member), None)]);
    assert_eq!(
        c.commit("g", Some(&member), generation, &[]),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(c.commit("g", None, -1, &[(key("t", 0), 1)]), Ok(()));
}

#[test]
fn a_topic_made_anew_does_not_inherit_offsets() {
    let mut c = Coordinator::prompt();
    let old = key("t", 0);
    let new = OffsetKey {
        topic_id: Uuid([8; 16]),
        ..old.clone()
    };
    c.commit("g", None, -1, &[(old.clone(), 100)]).unwrap();
    assert_eq!(c.fetch("g", &new), None);
    c.commit("g", None, -1, &[(new.clone(), 2)]).unwrap();
    assert_eq!((c.fetch("g", &new), c.fetch("g", &old)), (Some(2), None));
    assert_eq!(c.fetch_all("g").len(), 1);
}

#[test]
fn notes_are_bounded() {
    let mut c = Coordinator::prompt();
    for (len, result) in [(4096, Ok(())), (4097, Err(GroupError::MetadataTooLong))] {
        let records = c.log.len();
        let token = c.send(GroupCommand::CommitOffsets(CommitOffsets {
            group: "g".into(),
            member: None,
            instance: None,
            generation: -1,
            offsets: vec![
                (key("t", 0), committed(1, "")),
                (key("t", 1), committed(1, &"n".repeat(len))),
            ],
        }));
        assert!(c.answered(token));
        assert_eq!(c.log.len() - records, if result.is_ok() { 2 } else { 0 });
    }
}

#[test]
fn offsets_are_kept_seven_days_after_the_group_became_empty() {
    let mut c = Coordinator::prompt();
    let (member, generation) = c.stable("g");
    c.commit("g", Some(&member), generation, &[(key("t", 0), 5)])
        .unwrap();
    for _ in 0..(8 * 24 * 60 * 12) {
        c.heartbeat("g", &member, generation).unwrap();
        c.pass(5 * SECOND);
    }
    assert_eq!(
        c.fetch("g", &key("t", 0)),
        Some(5),
        "consumed topics never expire"
    );
    c.leave("g", &[(Some(&member), None)]);
    c.pass(6 * DAY);
    assert_eq!(c.fetch("g", &key("t", 0)), Some(5));
    c.fail_over();
    c.pass(DAY + 700 * SECOND);
    assert_eq!(c.fetch("g", &key("t", 0)), None);
    assert_eq!(c.describe("g").unwrap_err(), GroupError::NoSuchGroup);
    assert!(c.durable.is_empty());
}

#[test]
fn offsets_of_topics_no_longer_consumed_expire_alone() {
    let mut c = Coordinator::prompt();
    let (member, generation) = c.stable("g");
    let offsets = [(key("t", 0), 5), (key("gone", 0), 5)];
    c.commit("g", Some(&member), generation, &offsets).unwrap();
    c.commit("simple", None, -1, &[(key("t", 0), 5)]).unwrap();
    for _ in 0..(8 * 24 * 60 * 12) {
        c.heartbeat("g", &member, generation).unwrap();
        c.pass(5 * SECOND);
    }
    assert_eq!(c.fetch("g", &key("t", 0)), Some(5));
    assert_eq!(c.fetch("g", &key("gone", 0)), None);
    assert_eq!(c.fetch("simple", &key("t", 0)), None);
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut c = Coordinator::prompt();
    assert_eq!(c.delete("g"), Err(GroupError::NoSuchGroup));
    let (member, generation) = c.stable("g");
    c.commit("g", Some(&member), generation, &[(key("t", 0), 5)])
        .unwrap();
    assert_eq!(c.delete("g"), Err(GroupError::NotEmpty));
    c.leave("g", &[(Some(&member), None)]);
    assert_eq!(c.delete("g"), Ok(()));
    assert_eq!(c.fetch("g", &key("t", 0)), None);
    assert!(c.list().is_empty() && c.durable.is_empty());
    c.fail_over();
    assert!(c.durable.is_empty());
}

#[test]
fn offsets_of_consumed_topics_cannot_be_deleted() {
    let mut c = Coordinator::prompt();
    assert_eq!(c.delete_offsets("g", &[]), Err(GroupError::NoSuchGroup));
    let (member, generation) = c.stable("g");
    let keys = [key("t", 0), key("u", 0), key("u", 1)];
    let offsets = keys.clone().map(|key| (key, 5));
    c.commit("g", Some(&member), generation, &offsets[..2])
        .unwrap();
    assert_eq!(
        c.delete_offsets("g", &keys).unwrap(),
        [Err(GroupError::Subscribed), Ok(()), Ok(())]
    );
    assert_eq!(c.fetch("g", &keys[0]), Some(5));
    assert_eq!(c.fetch("g", &keys[1]), None);
    c.leave("g", &[(Some(&member), None)]);
    assert_eq!(c.delete_offsets("g", &keys[..1]).unwrap(), [Ok(())]);
    assert_eq!(c.fetch("g", &keys[0]), None);
    assert_eq!(c.state("g"), GroupState::Empty);
}

#[test]
fn other_kinds_of_group_delete_offsets_only_when_empty() {
    let mut c = Coordinator::prompt();
    let mut join = c.newcomer("g");
    join.protocol_type = "connect".into();
    let token = c.join(join);
    c.joined(token).unwrap();
    assert_eq!(
        c.delete_offsets("g", &[key("t", 0)]),
        Err(GroupError::NotEmpty)
    );
}

#[test]
fn groups_are_listed_and_described() {
    let mut c = Coordinator::prompt();
    let (first, second, _) = c.stable_pair("g");
    c.commit("simple", None, -1, &[(key("t", 0), 5)]).unwrap();
    let listed: Vec<_> = c
        .list()
        .into_iter()
        .map(|line| {
            (
                line.group.to_string(),
                line.protocol_type.to_string(),
                line.state,
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("g".into(), "consumer".into(), GroupState::Stable),
            ("simple".into(), String::new(), GroupState::Empty)
        ]
    );
    let described = c.describe("g").unwrap();
    assert_eq!(&*described.protocol, "range");
    let shares: Vec<_> = described
        .members
        .iter()
        .map(|m| (m.member.clone(), m.assignment.clone()))
        .collect();
    assert_eq!(shares, [(first.clone(), "a".into()), (second, "b".into())]);
    assert_eq!(
        described.members[0].metadata,
        crate::harness::subscription(&["t"])
    );
    assert_eq!(&*described.members[0].client_host, "/127.0.0.1");
    let again = c.rejoin("g", &first);
    c.join(again);
    let described = c.describe("g").unwrap();
    assert_eq!(described.state, GroupState::PreparingRebalance);
    assert!(
        described
            .members
            .iter()
            .all(|m| m.assignment.is_empty() && m.metadata.is_empty())
    );
}

#[test]
fn a_commit_of_nothing_writes_nothing() {
    let mut c = Coordinator::prompt();
    assert_eq!(c.commit("g", None, -1, &[]), Ok(()));
    assert!(c.log.is_empty() && c.durable.is_empty());
}
