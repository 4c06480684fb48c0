//! Three protocol cores in memory, with syncs and messages that take no time: how many entries a
//! second the protocol itself can do.
//!
//! Every entry holds one command, encoded as a caller would. Nothing is checked here but the
//! result; the checking harness is the crate's module `sim`, which must not be measured.

use std::time::Duration;

use indelible::ReplicaId;
use indelible::paxos::Paxos;
use indelible::paxos::step::{Input, Options};
use indelible::types::codec;
use indelible::types::command::{Command, Key, KeyKind, Operation, TableUse, ValueCodec};
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Boot, Chain, Incarnation, Lsn, RequestId, SessionId, Slot};
use indelible::types::membership::{Member, Membership};
use indelible::types::message::Message;
use indelible::types::record::{DurableFrontier, Held, Recovered};
use indelible::types::time::{Moment, Time};

/// A transaction that puts a small value.
fn command() -> Command<'static> {
    let name = "accounts";
    let key = Key { table: 0, bytes: b"key-0001" };
    Command {
        tables: vec![TableUse { name, key_kind: KeyKind("u64"), codec: ValueCodec::Raw }],
        operations: vec![Operation::Put(key, b"sixteen bytes...")],
        ..Command::of(RequestId { session: SessionId(1), sequence: 0 })
    }
}

/// The cluster.
pub struct Pump {
    cores: Vec<Paxos>,
    /// Messages on their way: to whom, from whom.
    messages: Vec<(ReplicaId, ReplicaId, Message)>,
    arriving: Vec<(ReplicaId, ReplicaId, Message)>,
    lsn: Lsn,
    now: Moment,
    /// How many entries each core learned.
    learned: Vec<u64>,
    proposed: u64,
    encoded: Vec<u8>,
}

impl Pump {
    /// Three cores, of which the first leads.
    pub fn new() -> Self {
        let voters = (1..=3).map(|id| Member {
            id: ReplicaId(id),
            incarnation: Incarnation(u128::from(id)),
            address: format!("replica-{id}"),
        });
        let membership = Membership::majority(voters.collect()).expect("three voters");
        let chain = Chain::EMPTY.extend(Entry::membership(&membership).hash());
        let core = |id| {
            let options = Options {
                id: ReplicaId(id),
                incarnation: Incarnation(u128::from(id)),
                boot: Boot { sequence: 1, nonce: id },
                membership: membership.clone(),
                seed: id,
                heartbeat_interval: Duration::from_millis(50),
                election_timeout: Duration::from_millis(500),
                retransmit_interval: Duration::from_millis(100),
                priority: 0,
                knows: Edition::KNOWN,
                lease: Default::default(),
                inflight_slots_max: 4000,
                inflight_bytes_max: usize::MAX,
                message_bytes_max: 1 << 20,
            };
            let recovered = Recovered { slot_chosen: Slot(1), chain, ..Recovered::default() };
            Paxos::new(options, recovered, Moment::ZERO)
        };
        let mut pump = Self {
            cores: (1..=3).map(core).collect(),
            messages: Vec::new(),
            arriving: Vec::new(),
            lsn: Lsn::ZERO,
            now: Moment::ZERO,
            learned: vec![0; 3],
            proposed: 0,
            encoded: Vec::new(),
        };
        pump.cores[0].step(pump.now, Input::Campaign);
        pump.take_outputs();
        pump.settle();
        assert!(pump.cores[0].is_ready(), "the first core leads");
        pump
    }

    /// Proposes `count` entries, `outstanding` at a time, until all three cores learned them all.
    pub fn run(&mut self, count: u64, outstanding: u64) {
        let mut command = command();
        let end = self.proposed + count;
        while self.proposed < end {
            for _ in 0..outstanding.min(end - self.proposed) {
                let entry = self.encode(&mut command);
                self.cores[0].step(self.now, Input::Propose(entry));
            }
            self.take_outputs();
            self.settle();
        }
        assert_eq!(self.learned, [end; 3], "every core learned every entry");
    }

    /// An entry with one small command, as its caller encodes it.
    fn encode(&mut self, command: &mut Command<'_>) -> Entry {
        self.proposed += 1;
        command.request.sequence = self.proposed;
        self.encoded.clear();
        codec::encode_into(command, &mut self.encoded).expect("plain data always encodes");
        let bytes = EntryBuilder::bytes_for(1, self.encoded.len());
        let mut builder = EntryBuilder::new(Time(1), bytes);
        builder.push(&self.encoded);
        builder.finish()
    }

    /// Delivers until nothing is on its way; a core takes in all that waits before it gives out.
    fn settle(&mut self) {
        while !self.messages.is_empty() {
            self.now = Moment(self.now.0 + 1000);
            std::mem::swap(&mut self.messages, &mut self.arriving);
            for (to, from, message) in self.arriving.drain(..) {
                let input = Input::Message { from, message };
                self.cores[to.0 as usize - 1].step(self.now, input);
            }
            self.take_outputs();
        }
    }

    fn take_outputs(&mut self) {
        for (index, core) in self.cores.iter_mut().enumerate() {
            let from = ReplicaId(index as u64 + 1);
            let output = core.take_output();
            self.learned[index] += output.chosen.len() as u64;
            // The sync takes no time.
            self.lsn = Lsn(self.lsn.0 + output.records.len() as u64);
            let frontier = DurableFrontier::mint(self.lsn);
            let release = |held: Held| held.release(frontier);
            let held = output.send_when_durable.into_iter().map(release);
            let sent = output.send_now.into_iter().chain(held);
            self.messages.extend(sent.map(|envelope| (envelope.to, from, envelope.message)));
        }
    }
}
