//! What the feature `tracing` emits: the changes that an operator asks about, and never a value.
//!
//! One subscriber collects the events of all replicas of this process; each test gives its replicas
//! ids of their own, and looks at those.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use indelible::sim::Simulation;
use indelible::{Config, Network, RawTable, Replica, Restore, Restored};
use parking_lot::{Condvar, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber, span};

const SECRETS: RawTable<String> = RawTable::new("secrets");
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps every event as a line: level, message, fields.
#[derive(Default)]
struct Collector {
    lines: Mutex<Vec<(u64, String)>>,
    added: Condvar,
}

#[derive(Default)]
struct Line {
    replica: u64,
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "replica" => self.replica = format!("{value:?}").parse().unwrap(),
            name => self.fields += &format!(" {name}={value:?}"),
        }
    }
}

impl Subscriber for &'static Collector {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Line { replica, message, fields } = line;
        let level: &Level = event.metadata().level();
        self.lines.lock().push((replica, format!("{level} {message}{fields}")));
        self.added.notify_all();
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

fn collector() -> &'static Collector {
    static COLLECTOR: OnceLock<&Collector> = OnceLock::new();
    COLLECTOR.get_or_init(|| {
        let collector: &'static Collector = Box::leak(Box::default());
        tracing::subscriber::set_global_default(collector).unwrap();
        collector
    })
}

/// The events of a replica so far.
fn told(replica: u64) -> Vec<String> {
    let lines = collector().lines.lock();
    lines.iter().filter(|(of, _)| *of == replica).map(|(_, line)| line.clone()).collect()
}

/// Waits until a replica told something that begins like this.
fn wait_for(replica: u64, beginning: &str) -> String {
    let collector = collector();
    let mut lines = collector.lines.lock();
    loop {
        let found = lines.iter().find(|(of, line)| *of == replica && line.starts_with(beginning));
        if let Some((_, line)) = found {
            return line.clone();
        }
        let timeout = collector.added.wait_for(&mut lines, PATIENCE);
        assert!(!timeout.timed_out(), "{replica} never told {beginning:?}: {lines:#?}");
    }
}

fn count(replica: u64, beginning: &str) -> usize {
    told(replica).iter().filter(|line| line.starts_with(beginning)).count()
}

#[test]
fn a_life_is_told_and_no_value_is() {
    collector();
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let replica = Replica::builder(directory.path()).id(11).open().unwrap();
        replica.put(SECRETS, "the key", b"the value").wait().unwrap();
        let mut refused = replica.transaction();
        refused.absent(SECRETS, "the key").put(SECRETS, "the key", b"the value");
        assert!(refused.commit().wait().unwrap_err().is_refused());
        replica.close().unwrap();
    }
    assert_eq!(count(11, "INFO opened"), 2);
    assert_eq!(count(11, "INFO cluster formed"), 1, "the second time it was formed already");
    assert!(count(11, "INFO role changed role=Leader") == 2, "{:#?}", told(11));
    assert_eq!(count(11, "INFO leader known leader=11"), 2);
    assert_eq!(count(11, "INFO closed"), 2);
    for line in told(11) {
        assert!(!line.contains("the value") && !line.contains("the key"), "{line}");
        assert!(!line.contains("74686520"), "in hexadecimal: {line}");
    }
}

#[test]
fn a_lost_leader_and_a_wiped_replica_are_told() {
    collector();
    let directory = tempfile::tempdir().unwrap();
    let network = Network::new();
    let path = |id: u64| directory.path().join(id.to_string());
    let open = |id: u64| {
        let peers = [(21, "one"), (22, "two"), (23, "three")];
        Replica::builder(path(id)).id(id).peers(peers).network(&network).open().unwrap()
    };
    let mut replicas = [21, 22, 23].map(|id| (id, open(id))).to_vec();
    for (id, replica) in &replicas {
        replica.wait_ready(PATIENCE).unwrap();
        wait_for(*id, "INFO cluster formed");
    }
    let leader = replicas[0].1.status().leader.unwrap().0;
    let place = replicas.iter().position(|(id, _)| *id == leader).unwrap();
    replicas.remove(place).1.close().unwrap();
    let follower = replicas[0].0;
    wait_for(follower, "WARN leader lost");
    replicas[0].1.wait_ready(PATIENCE).unwrap();

    std::fs::remove_dir_all(path(leader)).unwrap();
    assert!(!Path::exists(&path(leader)));
    let wiped = open(leader);
    let refused = wait_for(follower, "WARN peer refused");
    let wanted = format!("WARN peer refused peer={leader} reason=its directory is not the one");
    assert!(refused.starts_with(&wanted), "{refused}");
    wiped.close().unwrap();
    replicas.into_iter().for_each(|(_, replica)| replica.close().unwrap());
}

#[test]
fn a_failing_disk_is_told() {
    collector();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let config = Config { segment_bytes: 64 * 1024, ..Config::default() };
    let replica = Replica::builder(&path).id(31).config(config).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    // The files that are open stay usable; the next segment cannot be made. One that is being made
    // at this moment may come between.
    while std::fs::remove_dir_all(&path).is_err() && path.exists() {
        std::thread::yield_now();
    }
    let value = [7; 8 * 1024];
    let write = |_| replica.put(SECRETS, "the key", &value).wait().is_ok();
    assert!(!(0..1000).all(write), "the journal went on without a directory");
    wait_for(31, "ERROR stopped for good error=stopped for good: cannot ");
    assert!(replica.close().unwrap_err().is_stopped());
    assert_eq!((count(31, "ERROR"), count(31, "INFO closed")), (1, 0));
}

#[test]
fn a_new_ledger_is_told_with_the_one_that_it_was_made_of() {
    collector();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let replica = Replica::builder(path("old")).id(41).open().unwrap();
    replica.put(SECRETS, "the key", b"the value").wait().unwrap();
    let mut backup = Vec::new();
    replica.backup(&mut backup).unwrap();
    let old = replica.cluster().unwrap();
    replica.close().unwrap();
    assert_eq!(count(41, "WARN new ledger"), 0);

    let survived = Restore::into(path("survived")).id(42).from_survivor(path("old")).unwrap();
    let restored = Restore::into(path("restored")).id(43).from_backup(&backup[..]).unwrap();
    let expect = |replica: u64, made: &Restored| {
        let Restored { cluster, presumed, empty, torn, .. } = made;
        let wanted = format!(
            "WARN new ledger from={old} cluster={cluster} presumed={presumed} empty={empty} \
             torn={torn}"
        );
        assert_eq!(told(replica), [wanted]);
        assert_ne!(*cluster, old);
    };
    expect(42, &survived);
    expect(43, &restored);
    // What was refused makes none.
    assert!(Restore::into(path("nothing")).id(44).from_backup(&backup[1..]).is_err());
    assert!(Restore::into(path("survived")).id(44).from_survivor(path("old")).is_err());
    assert_eq!(told(44), Vec::<String>::new());
}

#[test]
fn a_directory_that_others_can_read_is_told() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    collector();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let live = || Replica::builder(&path).id(51).open().unwrap().close().unwrap();
    live();
    assert_eq!(count(51, "WARN"), 0, "{:#?}", told(51));
    set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    live();
    let wanted = format!("WARN other users can read the directory path={}", path.display());
    assert_eq!(count(51, &wanted), 1, "{:#?}", told(51));
}

#[test]
fn what_keeps_a_cluster_from_forming_is_told() {
    collector();
    let directory = tempfile::tempdir().unwrap();
    let network = Network::new();
    let open = |id: u64, first: &str| {
        let path = directory.path().join(id.to_string());
        let peers = [(61, first), (62, "two")];
        Replica::builder(path).id(id).peers(peers).network(&network).open().unwrap()
    };
    let (one, two) = (open(61, "one"), open(62, "another"));
    for id in [61, 62] {
        let line = wait_for(id, "WARN cluster cannot form trouble=");
        assert!(line.contains("61=one") && line.contains("61=another"), "{line}");
        assert_eq!(count(id, "INFO cluster formed"), 0);
    }
    for replica in [one, two] {
        replica.close().unwrap();
    }
}

#[test]
fn a_disk_that_stands_still_is_told() {
    collector();
    // The simulated replicas are 1 to 3.
    let sim = Simulation::new(1);
    let write = |key: u64| sim.replica(1).put(RawTable::<u64>::new("notes"), key, b"the value");
    write(1).wait().unwrap();
    let leader = sim.leader().unwrap();
    assert_eq!(count(leader.0, "WARN disk stands still"), 0);
    sim.pause_disk(leader);
    drop(write(2));
    assert!(sim.run_until(Duration::from_secs(10), |sim| {
        sim.leader().is_some_and(|next| next != leader)
    }));
    let next = sim.leader().unwrap();
    assert_eq!(told_of_stalls(), [(leader.0, format!("WARN disk stands still successor={next}"))]);
}

/// Who told that its disk stands still, and how.
fn told_of_stalls() -> Vec<(u64, String)> {
    let lines = collector().lines.lock();
    lines.iter().filter(|(_, line)| line.contains("stands still")).cloned().collect()
}
