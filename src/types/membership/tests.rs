//! Which memberships there can be, and which may follow which.

use super::*;

fn voters(count: u64) -> Vec<Member> {
    let voter = |id: u64| Member {
        id: ReplicaId(id),
        incarnation: Incarnation(id.into()),
        address: format!("host-{id}"),
    };
    (1..=count).map(voter).collect()
}

fn decode(bytes: &[u8]) -> Result<Membership, codec::DecodeError> {
    codec::decode("membership", bytes)
}

/// The encoding of a membership of three with these numbers, whatever they are.
fn forged(phase1: u32, phase2: u32, alpha: u64) -> Vec<u8> {
    let three = Membership::majority(voters(3)).unwrap();
    codec::encode(&Membership { phase1, phase2, alpha, ..three }).unwrap()
}

#[test]
fn a_forged_membership_is_refused() {
    for (phase1, phase2, alpha) in [(2, 2, 1), (3, 1, ALPHA), (1, 3, ALPHA_MAX)] {
        let decoded = decode(&forged(phase1, phase2, alpha)).unwrap();
        assert_eq!((decoded.phase1(), decoded.phase2(), decoded.alpha()), (phase1, phase2, alpha));
    }
    for alpha in [0, ALPHA_MAX + 1, 1 << 40, u64::MAX / 2, u64::MAX] {
        let text = decode(&forged(2, 2, alpha)).unwrap_err().to_string();
        assert!(text.contains(&format!("alpha is {alpha}, wanted")), "{text}");
        let err = Membership::flexible(voters(3), 2, 2, alpha).unwrap_err();
        assert_eq!(err, MembershipError::Alpha(alpha));
    }
    let three = Membership::majority(voters(3)).unwrap();
    for sessions_max in [0, SESSIONS_MAX_MAX + 1, u32::MAX] {
        let forged = Membership { sessions_max, ..three.clone() };
        let text = decode(&codec::encode(&forged).unwrap()).unwrap_err().to_string();
        assert!(text.contains(&format!("{sessions_max} sessions, wanted")), "{text}");
        let err = three.with_sessions_max(sessions_max).unwrap_err();
        assert_eq!(err, MembershipError::SessionsMax(sessions_max));
    }
    let few = three.with_sessions_max(1).unwrap();
    assert_eq!(decode(&codec::encode(&few).unwrap()).unwrap().sessions_max(), 1);
    let quorums = [0, 1, 2, 3, 4, u32::MAX / 2, u32::MAX - 1, u32::MAX];
    for (phase1, phase2) in quorums.iter().flat_map(|one| quorums.map(|two| (*one, two))) {
        let can_be = (1..=3).contains(&phase1) && (1..=3).contains(&phase2);
        let is_fine = can_be && phase1 + phase2 > 3;
        assert_eq!(decode(&forged(phase1, phase2, ALPHA)).is_ok(), is_fine);
    }
}

#[test]
fn whatever_is_decoded_keeps_the_rules() {
    // Each byte of an encoding, set to some values and cut off, and so is the one behind it.
    let bytes = codec::encode(&Membership::majority(voters(3)).unwrap()).unwrap();
    let mut decoded = 0;
    for at in 0..bytes.len() {
        for value in [0, 1, 2, 3, 0x40, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            if let Ok(membership) = decode(&bytes) {
                assert_eq!(membership.check(), Ok(()));
                assert_eq!(codec::encode(&membership).unwrap(), bytes, "another encoding");
                decoded += 1;
            }
            bytes.truncate(at);
            assert!(decode(&bytes).is_err(), "{at} bytes are a membership");
        }
    }
    assert!(decoded > 100, "{decoded} were decoded");
}

/// Whether `next` may be made of `before`.
fn follows(next: &Membership, before: &Membership) -> Result<(), MembershipError> {
    next.clone().following(before).check_successor(before)
}

fn observer(id: u64) -> Member {
    Member { id: ReplicaId(id), incarnation: Incarnation(id.into()), address: format!("o-{id}") }
}

#[test]
fn members_come_and_go() {
    let three = Membership::majority(voters(3)).unwrap();
    let observed = three.with_observer(observer(4)).unwrap();
    assert_eq!((observed.voters(), observed.phase2()), (three.voters(), 2));
    let four = observed.with_voter(ReplicaId(4)).unwrap();
    assert_eq!((four.voters().len(), four.phase1(), four.phase2()), (4, 3, 3));
    let other = four.without(ReplicaId(1)).unwrap();
    assert_eq!((other.voters().len(), other.phase1(), other.phase2()), (3, 2, 2));
    assert_eq!(other.removed(), [ReplicaId(1)]);
    for (next, before) in [(&observed, &three), (&four, &observed), (&other, &four)] {
        assert_eq!(follows(next, before), Ok(()));
        assert_eq!(decode(&codec::encode(next).unwrap()).unwrap(), *next);
    }
    // Several at once: who was observed, and who is gone.
    assert_eq!(follows(&other, &observed), Ok(()));
    let err = other.with_observer(observer(1)).unwrap_err();
    assert_eq!(err, MembershipError::RemovedId(ReplicaId(1)));
    let err = other.with_observer(observer(2)).unwrap_err();
    assert_eq!(err, MembershipError::DuplicateId(ReplicaId(2)));
    assert_eq!(other.with_voter(ReplicaId(2)).unwrap(), other, "it votes already");
    let err = other.with_voter(ReplicaId(7)).unwrap_err();
    assert_eq!(err, MembershipError::NoObserver(ReplicaId(7)));
    assert_eq!(other.without(ReplicaId(7)), Err(MembershipError::NoMember(ReplicaId(7))));
    let alone = Membership::majority(voters(1)).unwrap();
    assert_eq!(alone.without(ReplicaId(1)), Err(MembershipError::VoterCount(0)));
}

#[test]
fn quorums_that_are_no_majorities_keep_their_votes() {
    let five = Membership::flexible(voters(5), 4, 2, ALPHA).unwrap();
    let four = five.without(ReplicaId(5)).unwrap();
    assert_eq!((four.phase1(), four.phase2()), (3, 2));
    let two = Membership::flexible(voters(2), 1, 2, ALPHA).unwrap();
    let quorums = MembershipError::Quorums { phase1: 0, phase2: 2, voters: 1 };
    assert_eq!(two.without(ReplicaId(2)), Err(quorums));
    assert_eq!(five.with_quorums(3, 3).map(|next| next.phase1()), Ok(3));
    let quorums = MembershipError::Quorums { phase1: 3, phase2: 2, voters: 5 };
    assert_eq!(five.with_quorums(3, 2), Err(quorums));
}

#[test]
fn what_may_not_follow_is_refused() {
    let three = Membership::majority(voters(3)).unwrap();
    let observed = three.with_observer(observer(4)).unwrap();
    let less = three.without(ReplicaId(3)).unwrap();
    let stranger = observed.with_voter(ReplicaId(4)).unwrap();
    let err = follows(&stranger, &three).unwrap_err();
    assert_eq!(err, MembershipError::NoObserver(ReplicaId(4)));
    let err = follows(&three, &less).unwrap_err();
    assert_eq!(err, MembershipError::NoObserver(ReplicaId(3)));
    let err = follows(&three, &observed).unwrap_err();
    assert_eq!(err, MembershipError::Forgotten(ReplicaId(4)));
    let mut wiped = voters(3);
    wiped[1].incarnation = Incarnation(77);
    let err = follows(&Membership::majority(wiped).unwrap(), &three).unwrap_err();
    assert_eq!(err, MembershipError::OtherIncarnation(ReplicaId(2)));
    let alpha = Membership::flexible(voters(3), 2, 2, 7).unwrap();
    assert_eq!(follows(&alpha, &three), Err(MembershipError::Alpha(7)));
    let again = less.with_address(ReplicaId(2), "elsewhere").unwrap();
    assert_eq!(follows(&again, &less), Ok(()));
    let err = less.with_address(ReplicaId(2), "host-1").unwrap_err();
    assert_eq!(err, MembershipError::DuplicateAddress("host-1".into()));
}

#[test]
fn what_was_made_of_another_one_does_not_follow() {
    let three = Membership::majority(voters(3)).unwrap().with_observer(observer(4)).unwrap();
    let moved = three.with_address(ReplicaId(2), "elsewhere").unwrap().following(&three);
    let four = three.with_voter(ReplicaId(4)).unwrap().following(&three);
    assert_eq!((moved.check_successor(&three), four.check_successor(&three)), (Ok(()), Ok(())));
    // It would make the fourth an observer again.
    let overtaken = MembershipError::Overtaken { changes: 1, before: 1 };
    assert_eq!(moved.check_successor(&four), Err(overtaken));
    let last = Membership { changes: u64::MAX, ..four };
    assert!(follows(&last, &last).is_err(), "there is none behind the last one");
}

#[test]
fn who_replaces_another_changes_no_quorum() {
    let three = Membership::flexible(voters(3), 3, 3, 64).unwrap();
    let other = Member { id: ReplicaId(9), incarnation: Incarnation(9), address: "host-9".into() };
    let next = three.with_observer(other).unwrap().with_replaced(2, 9).unwrap();
    assert_eq!((next.phase1(), next.phase2()), (3, 3));
    assert_eq!(next.voters().iter().map(|voter| voter.id.0).collect::<Vec<_>>(), [1, 3, 9]);
    assert_eq!((next.observers().len(), next.removed()), (0, &[ReplicaId(2)][..]));
    assert_eq!(next.with_replaced(1, 8), Err(MembershipError::NoObserver(ReplicaId(8))));
}
