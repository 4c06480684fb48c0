//! Probe.
use indelible_model::{cluster::Cluster, settings::*, turn};
use stateright::{Checker, Model};
fn main() {
    turn::silence_cores();
    let a: Vec<u64> = std::env::args().skip(1).filter_map(|x| x.parse().ok()).collect();
    let mut s = Settings::new("x", a[0]);
    s.campaigns = [a[1] as u8, a[2] as u8, 0];
    s.campaigns_max = a[3] as u8;
    s.crashes = [a[4] as u8; 3];
    s.crashes_max = a[4] as u8;
    s.syncs = a[5] > 0;
    s.heartbeats = [Heartbeats::None, Heartbeats::OfLeaders, Heartbeats::All][a[6] as usize];
    s.retransmits = a[7] > 0;
    s.reads = [a[8] as u8, 0, 0];
    let t = std::time::Instant::now();
    let c = Cluster::new(s).checker().threads(2).target_state_count(60_000_000).timeout(std::time::Duration::from_secs(200)).spawn_bfs().join();
    println!("unique {} total {} depth {} met {:?} {:?}", c.unique_state_count(), c.state_count(), c.max_depth(), c.model().met(), t.elapsed());
    for (name, path) in c.discoveries() {
        println!("FAIL {name}");
        for (_, action) in path.into_vec() { if let Some(a) = action { println!("   {}", c.model().describe(&a)); } }
    }
}
