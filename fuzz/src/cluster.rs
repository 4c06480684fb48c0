//! Bytes as a schedule of protocol cores.
//!
//! The first bytes shape the cluster; each step is one byte for what happens, and more for where.
//! Every step is checked by `indelible::sim::checks`, which sees all journals at once. In the end
//! the faults are taken back: the cluster must then agree, commit something new and answer every
//! read within ten election timeouts.

use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::cluster::Cluster;
use indelible::sim::cores::Cores;
use indelible::sim::healing;
use indelible::sim::links::Link;
use indelible::types::message::Message;

use crate::input::Input;

/// How many messages are kept, to be delivered once more much later.
const OLD_MAX: usize = 64;
/// Longer inputs say nothing that shorter ones do not.
const STEPS_MAX: usize = 2000;

const SHAPES: [(u64, u32, u32); 8] =
    [(3, 2, 2), (5, 3, 3), (4, 3, 2), (3, 3, 1), (5, 4, 2), (1, 1, 1), (2, 2, 1), (3, 1, 3)];

struct Schedule<'a> {
    input: Input<'a>,
    cores: Cores,
    ids: Vec<ReplicaId>,
    proposed: u64,
    old: Vec<(Link, Message)>,
}

/// Takes `data` as a schedule.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let cores = Cores::new(shape(&mut input));
    let ids = cores.ids();
    let mut schedule = Schedule { input, cores, ids, proposed: 0, old: Vec::new() };
    let mut steps = 0;
    while !schedule.input.is_empty() && steps < STEPS_MAX {
        schedule.step();
        steps += 1;
    }
    assert!(healing::heal(&mut schedule.cores), "nothing was damaged");
}

fn shape(input: &mut Input<'_>) -> Cluster {
    let (count, phase1, phase2) = SHAPES[input.below(SHAPES.len())];
    let how = input.byte();
    let alpha = [2, 4, 64, 16][usize::from(how % 4)];
    let mut cluster = Cluster::flexible(count, phase1, phase2, alpha);
    cluster.inflight_slots_max = alpha.min([2, 16][usize::from(how >> 2) % 2]);
    cluster.message_bytes_max = [20, 64, 4096, 64][usize::from(how >> 3) % 4];
    cluster.remembers_chosen = how & 0x20 == 0;
    cluster.seed = u64::from(input.byte());
    cluster.traces = false;
    cluster
}

impl Schedule<'_> {
    fn step(&mut self) {
        let what = self.input.byte();
        match what {
            // Half of all steps are the progress that a network makes.
            0..0x80 => {
                if let Some((link, _)) = self.message(true) {
                    self.cores.deliver_at(link, 0);
                }
            }
            0x80..0x98 => {
                if let Some((link, index)) = self.message(false) {
                    self.cores.deliver_at(link, index);
                }
            }
            0x98..0xa0 => {
                if let Some((link, index)) = self.message(false) {
                    drop(self.cores.links().take_at(link, index));
                }
            }
            0xa0..0xa8 => self.duplicate(),
            0xa8..0xb0 => self.replay(),
            0xb0..0xc8 => {
                let (id, how) = (self.replica(), self.input.byte());
                match how % 4 {
                    3 => self.cores.sync_some(id, usize::from(how >> 2) + 1),
                    _ => self.cores.sync(id),
                }
            }
            0xc8..0xd8 => self.propose(),
            0xd8..0xdc => {
                let id = self.replica();
                assert!(self.cores.read(id) > 0);
            }
            0xdc..0xe8 => {
                let time = u64::from(self.input.byte());
                self.cores.advance(Duration::from_millis(time * if what < 0xe6 { 1 } else { 8 }));
            }
            _ => self.fault(what),
        }
    }

    fn fault(&mut self, what: u8) {
        let id = self.replica();
        match what {
            0xe8..0xec => self.cores.crash(id),
            0xec..0xf0 => self.cores.restart(id),
            0xf0..0xf2 => {
                let to = self.replica();
                self.cores.links().cut(Link { from: id, to });
            }
            0xf2..0xf4 => {
                for other in self.ids.clone() {
                    self.cores.links().cut(Link { from: id, to: other });
                    self.cores.links().cut(Link { from: other, to: id });
                }
            }
            0xf4..0xf6 => {
                let to = self.replica();
                self.cores.links().mend(Link { from: id, to });
            }
            0xf6..0xf8 => self.cores.links().heal(),
            0xf8..0xfb => self.cores.campaign(id),
            0xfb => {
                let (to, how) = (self.replica(), self.input.byte());
                self.cores.hand_over(id, to, how & 1 == 1);
            }
            0xfc..0xfe => {
                let peer = self.replica();
                self.cores.peer_down(id, peer);
            }
            0xfe => self.cores.links().clear(),
            _ => self.cores.stabilize(),
        }
    }

    fn replica(&mut self) -> ReplicaId {
        self.ids[self.input.below(self.ids.len())]
    }

    /// A message that waits: the oldest of a link, or any.
    fn message(&mut self, oldest: bool) -> Option<(Link, usize)> {
        let waiting = self.cores.links().waiting().collect::<Vec<_>>();
        let (link, count) = *waiting.get(self.input.below(waiting.len()))?;
        Some((link, if oldest { 0 } else { self.input.below(count) }))
    }

    /// Sends a message twice, and keeps it.
    fn duplicate(&mut self) {
        let Some((link, index)) = self.message(false) else { return };
        self.cores.links().copy_at(link, index);
        let copy = self.cores.links().peek_at(link, index).cloned();
        if self.old.len() < OLD_MAX {
            self.old.extend(copy.map(|message| (link, message)));
        }
    }

    /// A message of long ago arrives once more, perhaps at another opening.
    fn replay(&mut self) {
        let at = self.input.below(self.old.len());
        if let Some((link, message)) = self.old.get(at).cloned() {
            self.cores.inject(link, message);
        }
    }

    fn propose(&mut self) {
        let leaders = self.ids.iter().copied().filter(|id| self.cores.has_room(*id));
        let leaders = leaders.collect::<Vec<_>>();
        if let Some(leader) = leaders.get(self.input.below(leaders.len())) {
            self.proposed += 1;
            assert!(self.cores.propose(*leader, &format!("v{}", self.proposed)));
        }
    }
}
