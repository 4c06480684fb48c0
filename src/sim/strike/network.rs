//! What strikes the network: links cut, slow, flapping; messages late, old, or damaged.

use std::time::Duration;

use crate::sim::faults::Kind;
use crate::sim::links::Link;
use crate::sim::network::{Fate, links_among};
use crate::sim::rng::Rng;
use crate::sim::simulation::Simulation;
use crate::transport::wire;
use crate::types::ids::{ClusterId, ReplicaId};
use crate::types::message::Message;
use crate::types::time::Moment;

use super::{Strikes, Undo};

impl Strikes {
    pub(super) fn strike_network(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        let links = links_among(&self.ids);
        if links.is_empty() {
            return;
        }
        let link = *rng.pick(&links);
        let in_part = |id: ReplicaId, part: u64| part >> id.0 & 1 == 1;
        let part = rng.next_u64();
        let cut = |chosen: &dyn Fn(&Link) -> bool| {
            let chosen = links.iter().copied().filter(|link| chosen(link));
            chosen.filter(|link| sim.lock().network.cut(*link)).collect::<Vec<_>>()
        };
        let cut = match kind {
            Kind::CutLink => cut(&|it| *it == link),
            Kind::Isolate => cut(&|it| it.from == id || it.to == id),
            Kind::Deafen => cut(&|it| it.to == id),
            Kind::Mute => cut(&|it| it.from == id),
            Kind::Partition => cut(&|it| in_part(it.from, part) != in_part(it.to, part)),
            Kind::Clog => {
                let delay = rng.time(Duration::from_millis(500)..=Duration::from_secs(8));
                sim.lock().network.clog(link, delay);
                vec![link]
            }
            Kind::Flap => {
                self.later(sim.now(), Undo::Flap(link.from, link.to, 2 * rng.within(5..=30)));
                return self.count(kind);
            }
            Kind::Reorder => {
                let name = *rng.pick(&["Accept", "Accepted", "Promise", "Chosen", "Heartbeat"]);
                let rule = sim.rule(Fate::Hold, move |parcel| {
                    parcel.message.name() == name && parcel.link == link
                });
                self.later(end, Undo::Release(rule.0, rng.next_u64()));
                return self.count(kind);
            }
            Kind::Replay => return self.replay(sim, rng),
            _ => return self.corrupt_frame(sim, link, rng),
        };
        if !cut.is_empty() {
            self.count(kind);
            let pairs = cut.into_iter().map(|link| (link.from, link.to)).collect();
            self.later(end, Undo::Mend(pairs));
        }
    }

    /// Old messages come again.
    fn replay(&mut self, sim: &Simulation, rng: &mut Rng) {
        for _ in 0..rng.within(1..=10) {
            let mut world = sim.lock();
            let Some(parcel) = world.network.recall(rng) else { return };
            let delay = rng.time(Duration::ZERO..=Duration::from_millis(500));
            world.deliver_after(parcel, delay);
            drop(world);
            self.count(Kind::Replay);
        }
    }

    /// A frame is damaged: it must be refused, and so the connection ends.
    fn corrupt_frame(&mut self, sim: &Simulation, link: Link, rng: &mut Rng) {
        let view = sim.report(link.from).and_then(|report| report.view);
        let Some(view) = view else { return };
        let message = Message::Fetch { from: view.slot_chosen };
        let cluster = ClusterId(1);
        let mut bytes = Vec::new();
        wire::encode_message(&message, cluster, &mut bytes).expect("it is small");
        let place = rng.below(bytes.len() as u64) as usize;
        bytes[place] ^= 1 << rng.below(8);
        let mut decoder = wire::Decoder::new();
        decoder.expect_messages(cluster);
        decoder.feed(&bytes);
        let frame = decoder.next_frame();
        assert!(!matches!(frame, Ok(Some(_))), "a damaged frame was taken for a whole one");
        sim.lock().hang_up(link);
        self.count(Kind::CorruptFrame);
    }
}
