//! Whom this replica talks to: its peers, and strangers that dialed it and were let in.
//!
//! ```text
//! set_peers --> peer ------------------------> retired     it is missing in the next set_peers
//!                ^ |
//!      set_peers | | (it is missing, and dials again)
//!                | v
//! let_in ---> stranger ---> gone --- linger --> retired    or another one needs its place
//!                 ^           |
//!                 +-----------+  it dials again
//! ```
//!
//! Invariants:
//! * Who is in the map has a dial task, from the start of the transport on. Who is taken out of it
//!   is retired, and nobody else is.
//! * At most [`STRANGERS_MAX`] in the map are strangers. Only the accept task adds them and takes
//!   them out; whoever sets the peers may make a peer of one.
//! * Lock order: `peers`, then `link`, then what a [`Peer`] has. No task is spawned under them.

use std::sync::Arc;

use super::Shared;
use super::dialer;
use super::peer::Peer;
use crate::transport::{Link, Refusal, Task};
use crate::types::hello::Hello;
use crate::types::ids::ReplicaId;
use crate::types::limits::STRANGERS_MAX;
use crate::types::time::Moment;

impl Shared {
    /// The peer or stranger with this id.
    pub fn peer(&self, id: ReplicaId) -> Option<Arc<Peer>> {
        self.peers.read().get(&id).cloned()
    }

    /// From now on these are the peers.
    pub fn set_peers(self: &Arc<Self>, peers: Vec<(ReplicaId, String)>) {
        let mut current = self.peers.write();
        let mut others = std::mem::take(&mut *current);
        let mut added = Vec::new();
        for (id, address) in peers {
            if id == self.replica || current.contains_key(&id) {
                continue;
            }
            let peer = match others.remove(&id) {
                Some(peer) => {
                    peer.become_peer();
                    peer.set_address(address);
                    peer
                }
                None => {
                    let bytes_max = self.options.peer_queue_bytes_max;
                    let peer = Arc::new(Peer::new(id, address, bytes_max));
                    added.push(Arc::clone(&peer));
                    peer
                }
            };
            current.insert(id, peer);
        }
        let (strangers, removed): (Vec<_>, Vec<_>) =
            others.into_values().partition(|peer| peer.is_stranger());
        current.extend(strangers.into_iter().map(|peer| (peer.id, peer)));
        // Under the lock under which starting and closing look at the peers. Where there is no
        // link, starting will spawn, or it is all over.
        let link = self.link.lock().clone();
        drop(current);
        removed.iter().for_each(|peer| peer.remove());
        if let Some(link) = link {
            for peer in added {
                let _ = spawn_dialer(self, &link, &peer, true);
            }
        }
    }

    /// Who says this hello, where it is let in: a peer, or a stranger.
    pub fn let_in(self: &Arc<Self>, hello: &Hello, now: Moment) -> Result<Arc<Peer>, Refusal> {
        self.check_ends(hello)?;
        // Before it is judged: who admits somebody remembers it, and has no more room.
        if self.peer(hello.replica).is_none() && !self.has_room(now) {
            return Err(Refusal::TooManyStrangers);
        }
        self.judge(hello)?;
        let mut peers = self.peers.write();
        if let Some(peer) = peers.get(&hello.replica).cloned() {
            drop(peers);
            // Where a peer listens, the membership says.
            if peer.is_stranger() {
                peer.set_address(hello.address.clone());
            }
            return Ok(peer);
        }
        let strangers = peers.values().filter(|peer| peer.is_stranger());
        let gone = strangers.clone().filter_map(|peer| Some((peer.gone_since(now)?, peer.id)));
        let gone = gone.min().filter(|_| strangers.count() >= STRANGERS_MAX);
        let gone = gone.and_then(|(_, id)| peers.remove(&id));
        let bytes_max = self.options.peer_queue_bytes_max;
        let stranger = Peer::stranger(hello.replica, hello.address.clone(), bytes_max);
        let stranger = Arc::new(stranger);
        let link = self.link.lock().clone();
        if link.is_some() {
            peers.insert(stranger.id, Arc::clone(&stranger));
        }
        drop(peers);
        if let Some(gone) = gone {
            gone.retire();
        }
        // Where there is no link, everything is ending.
        let dial = |is_vital| {
            link.as_ref().is_some_and(|link| spawn_dialer(self, link, &stranger, is_vital))
        };
        if !dial(false) {
            let mut peers = self.peers.write();
            if !stranger.is_stranger() {
                // It became a peer meanwhile.
                drop(peers);
                let _ = dial(true);
                return Ok(stranger);
            }
            peers.retain(|_, peer| !Arc::ptr_eq(peer, &stranger));
            drop(peers);
            stranger.retire();
        }
        Ok(stranger)
    }

    /// Retires strangers that are gone for long, and tells when to look again.
    pub fn retire_gone(&self, now: Moment) -> Option<Moment> {
        let linger = self.options.stranger_linger;
        let until = |peer: &Arc<Peer>| {
            let since = if peer.is_stranger() { peer.gone_since(now) } else { None };
            since.map(|since| since + linger)
        };
        let next = self.peers.read().values().filter_map(until).min()?;
        if now < next {
            return Some(next);
        }
        let mut retired = Vec::new();
        let mut peers = self.peers.write();
        peers.retain(|_, peer| {
            let stays = until(peer).is_none_or(|until| now < until);
            if !stays {
                retired.push(Arc::clone(peer));
            }
            stays
        });
        let next = peers.values().filter_map(until).min();
        drop(peers);
        retired.iter().for_each(|peer| peer.retire());
        next
    }

    /// Whether one more stranger could be let in.
    fn has_room(&self, now: Moment) -> bool {
        let peers = self.peers.read();
        let strangers = || peers.values().filter(|peer| peer.is_stranger());
        strangers().count() < STRANGERS_MAX
            || strangers().any(|stranger| stranger.gone_since(now).is_some())
    }
}

/// Has a peer connected from now on; `false` where there is no thread for that.
pub fn spawn_dialer(shared: &Arc<Shared>, link: &Link, peer: &Arc<Peer>, is_vital: bool) -> bool {
    let (shared, peer) = (Arc::clone(shared), Arc::clone(peer));
    let clock = Arc::clone(&link.clock);
    let name = format!("to-{}", peer.id);
    let run = Box::new(move || dialer::run(&shared, &peer, &*clock));
    (link.spawn)(Task { name, is_vital, run })
}
