//! How a driver comes to serve: the cluster forms, or a formed one is read back from the journal.
//!
//! The rules of formation are in `paxos/formation.rs`; here they meet the disk. An agreement is
//! durable before it is spoken of. When all have agreed, slot 0 is journaled as chosen, and the
//! protocol core begins behind it.

use crate::journal::disk::Disk;
use crate::journal::identity::Identity;
use crate::paxos::Paxos;
use crate::paxos::formation::{Agreement, Formation};
use crate::paxos::step::{self, Input};
use crate::types::entry::Entry;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ClusterId, ReplicaId, Slot};
use crate::types::membership::{Membership, majority_of};
use crate::types::message::{Envelope, Introduce, Message};
use crate::types::record::{Record, Recovered};

use super::driver::Driver;
use super::turn::Options;

/// Checks the voters and quorums given against those that the directory knows, and fills them in
/// where none were given. `is_shared`: others have, or are to have, what is in it.
pub(super) fn begin(
    identity: &Identity,
    is_shared: bool,
    options: &mut Options,
) -> Result<Formation> {
    options.voters.sort();
    check_joined(identity, options)?;
    go_on_joining(identity, options)?;
    if is_shared && identity.membership.is_none() && !is_one_of_several(options) {
        return Err(one_of_several(options.id));
    }
    if let Some(membership) = &identity.membership {
        let known = membership.voters().iter().map(|voter| (voter.id, voter.address.clone()));
        let known = known.collect::<Vec<_>>();
        // Who joined was told of some members.
        let joined = membership.voter(options.id).is_none();
        if options.voters.is_empty() {
            options.voters = known;
        } else if options.voters != known && !joined && !gives_address(&known, &options.voters) {
            return Err(membership_mismatch(membership, &options.voters));
        }
        let known = (membership.phase1(), membership.phase2());
        if let Some(given) = options.quorums.filter(|given| *given != known) {
            return Err(quorums_mismatch(known, given));
        }
        options.quorums = Some(known);
    } else if options.voters.is_empty() {
        options.voters = vec![(options.id, String::new())];
        if let Some((phase1, phase2)) = options.quorums.filter(|given| *given != (1, 1)) {
            let message = format!(
                "quorums: {phase1} and {phase2} for a replica that is alone, wanted 1 and 1"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    }
    let address = options.voters.iter().find(|(id, _)| *id == options.id);
    let address = address.map(|(_, address)| address.clone());
    let joined = identity.membership.as_ref().is_some_and(|it| it.voter(options.id).is_none());
    let Some(address) = address.or_else(|| joined.then(String::new)) else {
        let message = format!("peers: replica {} itself is not among them", options.id);
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    };
    let (phase1, phase2) = options.quorums.unwrap_or_else(|| {
        let majority = majority_of(options.voters.len());
        (majority, majority)
    });
    let own = Introduce {
        phase1,
        phase2,
        incarnation: identity.incarnation,
        address,
        voters: options.voters.iter().map(|(id, _)| *id).collect(),
        addresses: options.voters.iter().map(|(_, address)| address.clone()).collect(),
    };
    let formation = Formation::new(options.id, own, identity.membership.clone());
    let formation = formation.with_sessions_max(options.sessions_max);
    let joins = options.join.or_else(|| joined.then_some(identity.cluster));
    Ok(match joins {
        Some(cluster) => formation.joining(cluster),
        None => formation,
    })
}

/// Whether this replica is to form a cluster together with others, or to join one.
pub(super) fn is_one_of_several(options: &Options) -> bool {
    options.join.is_some() || names_others(options)
}

fn names_others(options: &Options) -> bool {
    options.voters.iter().any(|(id, _)| *id != options.id)
}

/// Where a cluster to join is given, the directory is none of another cluster, and somebody can be
/// asked about it.
fn check_joined(identity: &Identity, options: &Options) -> Result<()> {
    let Some(cluster) = options.join else { return Ok(()) };
    let found = identity.cluster;
    if identity.membership.is_some() && found != cluster {
        let message = format!("the directory belongs to cluster {found}, wanted {cluster}");
        return Err(Error::new(ErrorKind::WrongCluster, message));
    }
    if identity.membership.is_none() && !names_others(options) {
        return Err(joins_nobody(cluster));
    }
    Ok(())
}

/// A directory that was opened to join before, and was not told yet who belongs, joins.
fn go_on_joining(identity: &Identity, options: &mut Options) -> Result<()> {
    if identity.membership.is_some() || !identity.cluster.is_formed() {
        return Ok(());
    }
    if options.voters.is_empty() {
        return Err(joins_nobody(identity.cluster));
    }
    options.join = options.join.or(Some(identity.cluster));
    Ok(())
}

/// Whether a replica that began alone is given an address, or another one: nobody else had to be
/// told.
fn gives_address(known: &[(ReplicaId, String)], given: &[(ReplicaId, String)]) -> bool {
    matches!((known, given), ([(known, _)], [(given, _)]) if known == given)
}

impl<D: Disk> Driver<D> {
    /// A replica that began alone may be given any address until others were told of one.
    fn check_given_address(&self, formed: &Membership, governing: &Membership) -> Result<()> {
        let id = self.options.id;
        let (Some(formed), Some(own)) = (formed.voter(id), governing.member(id)) else {
            return Ok(());
        };
        let given = self.given_address().filter(|given| {
            *given != formed.address && *given != own.address && !formed.address.is_empty()
        });
        match given.filter(|_| governing.members().count() > 1) {
            Some(given) => Err(elsewhere(id, &own.address, given)),
            None => Ok(()),
        }
    }

    /// Formation messages while this replica forms; afterwards, the answer that it has formed.
    pub(super) fn on_formation_message(&mut self, from: ReplicaId, message: Message) -> Result<()> {
        if !self.is_forming() {
            let is_forming = !matches!(message, Message::Agreed { formed: true, .. });
            if is_forming && let Some(membership) = self.journal.identity().membership.clone() {
                let message = Message::Agreed { membership, formed: true };
                self.effects.sends.push(Envelope { to: from, message });
            }
            return Ok(());
        }
        match self.formation.on_message(from, message) {
            Some(agreement) => self.agree(agreement),
            None => Ok(()),
        }
    }

    /// Makes agreements durable until somebody else has to be waited for.
    pub(super) fn agree(&mut self, agreement: Agreement) -> Result<()> {
        let mut next = Some(agreement);
        while let Some(agreement) = next {
            self.journal.agree(&agreement.membership, agreement.formed)?;
            self.formation.agreed(agreement);
            next = self.formation.next_agreement();
        }
        self.tell_standing();
        self.announce();
        match self.formation.is_formed() {
            true => self.begin_serving(),
            false => Ok(()),
        }
    }

    /// Whether the cluster is not known to be formed.
    pub(super) fn is_forming(&self) -> bool {
        self.paxos.is_none() && !self.repair.is_opening()
    }

    /// Tells everyone how far this replica has come, now and then, until it is formed.
    pub(super) fn announce_when_forming(&mut self) {
        if self.is_forming() && self.now >= self.announce_at {
            self.announce();
        }
    }

    /// A replica that does not belong asks those that it was told of for what it lacks, now and
    /// then: nobody else knows that it is there.
    pub(super) fn knock_when_outside(&mut self) {
        let Some(paxos) = self.paxos.as_ref().filter(|_| self.now >= self.announce_at) else {
            return;
        };
        let own = paxos.membership().member(self.options.id);
        let incarnation = self.journal.identity().incarnation;
        if paxos.is_removed() || own.is_some_and(|own| own.incarnation == incarnation) {
            return;
        }
        self.announce_at = self.now + self.options.election_timeout;
        let from = paxos.view().slot_chosen;
        for (to, _) in self.options.voters.iter().filter(|(id, _)| *id != self.options.id) {
            self.effects.sends.push(Envelope { to: *to, message: Message::Fetch { from } });
        }
    }

    fn announce(&mut self) {
        self.announce_at = self.now + self.options.heartbeat_interval;
        let message = self.formation.announcement();
        for (to, _) in self.options.voters.iter().filter(|(id, _)| *id != self.options.id) {
            self.effects.sends.push(Envelope { to: *to, message: message.clone() });
        }
    }

    /// Serves, or first fetches what the journal lost.
    pub(super) fn begin_serving(&mut self) -> Result<()> {
        let mut recovered = self.journal.recovered();
        self.fence.recover(std::mem::take(&mut recovered.sightings));
        self.load_checkpoint()?;
        if recovered.missing.is_empty() {
            return self.start_core(recovered);
        }
        self.repair_before_serving(recovered);
        Ok(())
    }

    /// Applies what the journal knows to be chosen, and starts the protocol core behind it.
    pub(super) fn start_core(&mut self, recovered: Recovered) -> Result<()> {
        let identity = self.journal.identity().clone();
        let membership =
            identity.membership.ok_or_else(|| not_formed("there is no membership in it"))?;
        self.check_edition(membership.edition())?;
        let first = Entry::membership(&membership);
        let Recovered { promised, slot_chosen, slot_checkpointed, mut chain, votes, .. } =
            recovered;
        let Recovered { doubts, unreadable, .. } = recovered;
        for entry in self.reader.entries(slot_checkpointed, slot_chosen) {
            let (slot, entry) = entry?;
            if slot == Slot::ZERO && entry != first {
                return Err(not_formed("it differs from slot 0 of the journal"));
            }
            chain = chain.extend(entry.hash());
            self.apply(slot, &entry)?;
        }
        self.verdicts_journaled = slot_chosen;
        let nothing = Recovered { slot_checkpointed, ..Recovered::default() };
        let mut recovered = Recovered { promised, slot_chosen, chain, votes, doubts, ..nothing };
        if slot_chosen == Slot::ZERO {
            recovered.slot_chosen = Slot::ZERO.next();
            recovered.chain = chain.extend(first.hash());
            self.apply(Slot::ZERO, &first)?;
            self.verdicts_journaled = recovered.slot_chosen;
            let record = Record::Chosen { slot: Slot::ZERO, entry: first };
            self.journal.append(&[record], recovered.slot_chosen)?;
            self.appended_at = self.now;
        }
        // That of the checkpoint, and what came behind it: what was before may be trimmed.
        let governing = self.store.membership().expect("slot 0 holds a membership");
        self.check_edition(governing.edition())?;
        self.check_given_address(&membership, &governing)?;
        self.note_own_address(&governing);
        let lease = self.begin_leases(&governing)?;
        let options = step::Options {
            id: self.options.id,
            incarnation: identity.incarnation,
            boot: identity.boot,
            membership: governing,
            seed: identity.boot.nonce,
            heartbeat_interval: self.options.heartbeat_interval,
            election_timeout: self.options.election_timeout,
            retransmit_interval: self.options.retransmit_interval,
            priority: self.options.priority,
            knows: self.options.knows,
            lease,
            inflight_slots_max: self.options.inflight_slots_max,
            inflight_bytes_max: self.options.inflight_bytes_max,
            message_bytes_max: self.options.message_bytes_max,
        };
        self.paxos = Some(Paxos::new(options, recovered, self.now));
        self.core_begins_leases();
        if !self.others().is_empty() {
            unreadable.ranges().iter().for_each(|range| self.repair.want(*range, self.now));
        }
        self.space.core_begins();
        self.tell_standing();
        self.say_who_shares_at_opening()?;
        if self.fence.told_by().is_some() {
            self.step(Input::Fenced);
        }
        if let Some(read) = self.requests.newest_read() {
            self.step(Input::Read(read));
        }
        Ok(())
    }
}

fn elsewhere(id: ReplicaId, known: &str, given: &str) -> Error {
    let message = format!(
        "the ledger says that replica {id} is at {known}, and it was opened at {given}, where the \
         others do not look for it: wanted the same, or no peers"
    );
    Error::new(ErrorKind::MembershipMismatch, message)
}

fn not_formed(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("file identity: the membership cannot be used: {why}"))
}

fn quorums_mismatch(known: (u32, u32), given: (u32, u32)) -> Error {
    let message = format!(
        "the ledger has quorums of {} and {}, but the replica was opened with {} and {}",
        known.0, known.1, given.0, given.1
    );
    Error::new(ErrorKind::MembershipMismatch, message)
}

fn joins_nobody(cluster: ClusterId) -> Error {
    let message = format!(
        "peers: nobody else is named, and the replica is opened to join cluster {cluster}, of \
         which nobody has answered yet: wanted itself and one or more of its members"
    );
    Error::new(ErrorKind::InvalidArgument, message)
}

fn one_of_several(id: ReplicaId) -> Error {
    let message = format!(
        "replica {id} was opened as one of several before, and their cluster is not formed yet, as \
         far as is known here: wanted all of them as peers"
    );
    Error::new(ErrorKind::MembershipMismatch, message)
}

fn membership_mismatch(membership: &Membership, given: &[(ReplicaId, String)]) -> Error {
    let given = given.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>();
    let given = given.join(", ");
    let message = match membership.voters() {
        [only] => format!(
            "the ledger began with replica {} alone, but was opened with [{given}]: wanted no \
             peers, or that one only; others join it (Builder::join)",
            only.id
        ),
        _ => format!(
            "the cluster was formed by the voters {membership}, but the replica was opened with \
             [{given}]: wanted the same, or none; none where members or addresses changed since"
        ),
    };
    Error::new(ErrorKind::MembershipMismatch, message)
}
