//! Does it hold on real input? The history of a git repository, told to three replicas at once.
//!
//! ```text
//! cargo run --release --example git_history [REPOSITORY]
//! ```
//!
//! Three durable replicas run over loopback TCP in a temporary directory. Each has a writer that
//! commits the next git commit, as one conditional transaction: every changed path must be at the
//! version at which it was last written, the record of the parent commit must be there, and that of
//! the commit itself must not. The writers know of each other only through the ledger, so most of
//! the time two of three are refused, and an outcome that is unknown is settled by whether the
//! record is there. In the middle the leader is closed, and later opened again.
//!
//! At the end, on each replica: the state is what `git ls-tree` says of `HEAD`, and at 20 commits
//! spread over the history, a replay of the ledger up to that commit is what it says of that one.
//! The last line is
//! `verified: commits=.. keys=.. replicas=3 refused=.. failovers=.. differences=0`.

#[path = "git_history/git.rs"]
mod git;

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use git::{Commit, Tree};
use indelible::{ErrorKind, RawTable, Replica, ReplicaId, Snapshot, Transaction, TxId};
use indicatif::{ProgressBar, ProgressStyle};

/// Each path of the tree, with its mode and the hash of its content.
const PATHS: RawTable<Vec<u8>> = RawTable::new("paths");
/// Each git commit that was committed here, with the one before it.
const COMMITS: RawTable<String> = RawTable::new("commits");

const REPLICAS: usize = 3;
const SAMPLES: usize = 20;
const DIFFERENCES_SHOWN: usize = 20;
/// How long nothing may go forward before a writer gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let repository = std::env::args_os().nth(1).map_or(".".into(), PathBuf::from);
    match run(&repository) {
        Ok(report) => {
            for difference in report.differences.iter().take(DIFFERENCES_SHOWN) {
                println!("{difference}");
            }
            println!("{report}");
            ExitCode::from(u8::from(!report.differences.is_empty()))
        }
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}

/// What happened, and what was found in the end.
#[derive(Debug)]
pub struct Report {
    /// Git commits in the ledger.
    pub commits: usize,
    /// Paths in the final state.
    pub keys: usize,
    /// Transactions that were refused, because another writer was faster.
    pub refused: u64,
    /// Times that another replica took over as the leader after the old one was closed.
    pub failovers: u64,
    /// Where a replica and git do not say the same.
    pub differences: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, keys, refused, failovers, differences } = self;
        write!(
            f,
            "verified: commits={commits} keys={keys} replicas={REPLICAS} refused={refused} \
             failovers={failovers} differences={}",
            differences.len()
        )
    }
}

/// Tells the history of a repository to three replicas, and compares.
pub fn run(repository: &Path) -> Result<Report> {
    let commits = git::history(repository)?;
    if git::is_shallow(repository)? {
        println!("this is a shallow clone: its history begins at {}", commits[0].id);
    }
    let scratch = tempfile::tempdir()?;
    let cluster = Cluster::open(scratch.path())?;
    let progress = Progress::new(commits.len());
    let failovers = thread::scope(|scope| {
        let (cluster, progress, commits) = (&cluster, &progress, &commits);
        let writers: Vec<_> = (0..REPLICAS)
            .map(|index| {
                scope.spawn(move || {
                    let result = write(cluster, index, commits, progress);
                    progress.failed.fetch_or(result.is_err(), SeqCst);
                    result
                })
            })
            .collect();
        let failovers = close_and_reopen_the_leader(cluster, commits.len(), progress);
        progress.failed.fetch_or(failovers.is_err(), SeqCst);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        failovers
    })?;
    progress.bar.set_message("comparing");
    let mut report = verify(repository, &commits, &cluster)?;
    progress.bar.finish_and_clear();
    report.refused = progress.refused.load(SeqCst);
    report.failovers = failovers;
    cluster.close()?;
    Ok(report)
}

/// The replicas of this process. One is missing while it is closed.
struct Cluster {
    directory: PathBuf,
    peers: Vec<(u64, String)>,
    replicas: Vec<RwLock<Option<Replica>>>,
}

impl Cluster {
    fn open(directory: &Path) -> Result<Self> {
        // Addresses that nobody listens on: taken all at once, so that they differ, and let go.
        let listeners: Vec<_> =
            (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let mut peers = Vec::new();
        for (id, listener) in (1..).zip(&listeners) {
            peers.push((id, listener.local_addr()?.to_string()));
        }
        drop(listeners);
        let replicas = (0..REPLICAS).map(|_| RwLock::new(None)).collect();
        let cluster = Self { directory: directory.to_path_buf(), peers, replicas };
        (0..REPLICAS).try_for_each(|index| cluster.reopen(index))?;
        for index in 0..REPLICAS {
            cluster.replica(index).ok_or("a replica is missing")?.wait_ready(PATIENCE)?;
        }
        Ok(cluster)
    }

    fn reopen(&self, index: usize) -> Result<()> {
        let (id, _) = self.peers[index];
        let builder = Replica::builder(self.directory.join(id.to_string()));
        let replica = builder.id(id).peers(self.peers.clone()).open()?;
        *self.replicas[index].write().map_err(|_| "a writer panicked")? = Some(replica);
        Ok(())
    }

    /// The replica, unless it is closed at present.
    fn replica(&self, index: usize) -> Option<Replica> {
        self.replicas[index].read().ok()?.clone()
    }

    fn take(&self, index: usize) -> Option<Replica> {
        self.replicas[index].write().ok()?.take()
    }

    /// Which replica leads, as one of those says that are open and are not `except`.
    fn leader(&self, except: Option<usize>) -> Option<usize> {
        let told = (0..REPLICAS).filter(|index| Some(*index) != except).find_map(|index| {
            let ReplicaId(leader) = self.replica(index)?.status().leader?;
            self.peers.iter().position(|(id, _)| *id == leader)
        });
        told.filter(|leader| Some(*leader) != except)
    }

    fn close(self) -> Result<()> {
        (0..REPLICAS)
            .filter_map(|index| self.take(index))
            .try_for_each(|replica| replica.close())?;
        Ok(())
    }
}

/// How far the writers are, all together.
struct Progress {
    bar: ProgressBar,
    /// How many git commits are known to be in the ledger.
    committed: AtomicUsize,
    refused: AtomicU64,
    failed: AtomicBool,
}

impl Progress {
    fn new(commits: usize) -> Self {
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} commits {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
        Self {
            bar: ProgressBar::new(commits as u64).with_style(style),
            committed: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }

    fn reached(&self, commits: usize) {
        if self.committed.fetch_max(commits, SeqCst) < commits {
            self.bar.set_position(commits as u64);
        }
    }

    /// Waits until so many are committed. `false` where that will not happen.
    fn wait_for(&self, commits: usize) -> bool {
        while self.committed.load(SeqCst) < commits && !self.failed.load(SeqCst) {
            thread::sleep(PAUSE);
        }
        !self.failed.load(SeqCst)
    }
}

/// Commits, through one replica, whatever git commit comes next, until all are in the ledger.
fn write(cluster: &Cluster, index: usize, commits: &[Commit], progress: &Progress) -> Result<()> {
    let mut next = 0;
    let mut forward = Instant::now();
    // Where the last attempt did not succeed, the view of this replica may be too old to tell why.
    let mut unsettled = false;
    while next < commits.len() && !progress.failed.load(SeqCst) {
        let attempt = cluster.replica(index).map(|replica| {
            let view = match unsettled {
                true => replica.snapshot().wait()?,
                false => replica.stale_snapshot(),
            };
            let before = next;
            while next < commits.len() && view.get(COMMITS, &commits[next].id)?.is_some() {
                next += 1;
            }
            progress.reached(next);
            if before < next {
                (forward, unsettled) = (Instant::now(), false);
            }
            if next == commits.len() {
                return Ok(());
            }
            let mut transaction = replica.transaction();
            require_and_change(&mut transaction, &view, commits, next)?;
            transaction.commit().wait().map(|_| ())
        });
        unsettled = !matches!(attempt, Some(Ok(())));
        match attempt {
            Some(Ok(())) => {}
            Some(Err(err)) if err.is_refused() => {
                progress.refused.fetch_add(1, SeqCst);
            }
            Some(Err(err)) if err.kind() == ErrorKind::TooLarge => {
                let Commit { id, changes } = &commits[next];
                let told = format!("commit {id} changes {} paths, too much for one", changes.len());
                return Err(format!("{told} transaction: {err}").into());
            }
            // The replica is closed, has no leader, or does not know the outcome. The next view is
            // taken from all replicas, and has the record of the commit or has it not.
            Some(Err(err))
                if err.is_stopped() || err.is_retryable() || err.is_outcome_unknown() =>
            {
                if forward.elapsed() > PATIENCE {
                    return Err(format!("replica {}: no way forward: {err}", index + 1).into());
                }
                thread::sleep(PAUSE);
            }
            Some(Err(err)) => return Err(err.into()),
            None => {
                forward = Instant::now();
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// Puts a git commit into a transaction, which holds if the ledger still is as the view says.
fn require_and_change(
    transaction: &mut Transaction,
    view: &Snapshot,
    commits: &[Commit],
    index: usize,
) -> indelible::Result<()> {
    let Commit { id, changes } = &commits[index];
    let parent = index.checked_sub(1).map_or("", |parent| &commits[parent].id);
    if !parent.is_empty() {
        transaction.present(COMMITS, parent);
    }
    transaction.absent(COMMITS, id).put(COMMITS, id, parent);
    for (path, blob) in changes {
        match view.get(PATHS, path)? {
            Some(found) => transaction.version(PATHS, path, found.version),
            None => transaction.absent(PATHS, path),
        };
        match blob {
            Some(blob) => transaction.put(PATHS, path, blob),
            None => transaction.delete(PATHS, path),
        };
    }
    Ok(())
}

/// Closes the leader when half is committed, and opens it again when three quarters are. Returns
/// how often another replica took over.
fn close_and_reopen_the_leader(
    cluster: &Cluster,
    commits: usize,
    progress: &Progress,
) -> Result<u64> {
    if !progress.wait_for(commits / 2) {
        return Ok(0);
    }
    let until = Instant::now() + PATIENCE;
    let wait_for_leader = |except| loop {
        match cluster.leader(except) {
            Some(leader) => return Some(leader),
            None if Instant::now() < until => thread::sleep(PAUSE),
            None => return None,
        }
    };
    let leader = wait_for_leader(None).ok_or("no replica leads")?;
    if let Some(replica) = cluster.take(leader) {
        replica.close()?;
    }
    let took_over = wait_for_leader(Some(leader)).ok_or("no replica took over")?;
    progress.bar.set_message(format!("(replica {} took over)", took_over + 1));
    progress.wait_for(commits - commits / 4);
    cluster.reopen(leader)?;
    Ok(1)
}

/// Compares what each replica holds with what git says.
fn verify(repository: &Path, commits: &[Commit], cluster: &Cluster) -> Result<Report> {
    let last = commits.len() - 1;
    let mut samples: BTreeMap<&str, Tree> = BTreeMap::new();
    for sample in 0..SAMPLES {
        let id = commits[last * sample / (SAMPLES - 1)].id.as_str();
        if !samples.contains_key(id) {
            samples.insert(id, git::tree(repository, id)?);
        }
    }
    let head = &samples[commits[last].id.as_str()];
    let mut report = Report {
        commits: commits.len(),
        keys: head.len(),
        refused: 0,
        failovers: 0,
        differences: Vec::new(),
    };
    for index in 0..REPLICAS {
        let replica = cluster.replica(index).ok_or("a replica is missing")?;
        replica.wait_ready(PATIENCE)?;
        let name = format!("replica {}", index + 1);
        let view = replica.snapshot().wait()?;
        let mut state = Tree::new();
        for entry in view.range(PATHS, ..) {
            let (path, blob) = entry?;
            state.insert(path, blob.value.to_vec());
        }
        compare(&format!("{name}, state"), &state, head, &mut report.differences);
        replay(&name, &replica, view.txid(), commits, &samples, &mut report.differences)?;
    }
    Ok(report)
}

/// Adds up the ledger of a replica, and compares at each sample.
fn replay(
    name: &str,
    replica: &Replica,
    until: TxId,
    commits: &[Commit],
    samples: &BTreeMap<&str, Tree>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let mut state = Tree::new();
    let mut ids = commits.iter().map(|commit| commit.id.as_str());
    let (mut newest, mut compared) = (TxId::ZERO, 0);
    for record in replica.transactions(TxId::ZERO) {
        let record = record?;
        if record.txid() <= newest || record.txid() > until {
            differences.push(format!("{name}: {} comes after {newest}", record.txid()));
        }
        newest = record.txid();
        for change in record.changes().of(PATHS) {
            let change = change?;
            match change.value {
                Some(blob) => drop(state.insert(change.key, blob.to_vec())),
                None => drop(state.remove(&change.key)),
            }
        }
        for change in record.changes().of(COMMITS) {
            let id = change?.key;
            if ids.next() != Some(&id) {
                differences.push(format!("{name}: {id} is in the wrong place, at {newest}"));
            }
            if let Some(tree) = samples.get(id.as_str()) {
                compared += 1;
                compare(&format!("{name}, ledger up to {id}"), &state, tree, differences);
            }
        }
    }
    if let Some(id) = ids.next() {
        differences.push(format!("{name}: {id} is not in the ledger"));
    }
    if compared != samples.len() {
        differences.push(format!("{name}: {compared} samples of {} compared", samples.len()));
    }
    Ok(())
}

fn compare(what: &str, ours: &Tree, theirs: &Tree, differences: &mut Vec<String>) {
    let show = |blob: Option<&Vec<u8>>| {
        blob.map_or("nothing".into(), |blob| String::from_utf8_lossy(blob).into_owned())
    };
    let also_ours = ours.iter().filter(|(path, _)| !theirs.contains_key(*path));
    for (path, _) in theirs.iter().chain(also_ours) {
        let (our, their) = (ours.get(path), theirs.get(path));
        if our != their {
            let path = String::from_utf8_lossy(path);
            let (our, their) = (show(our), show(their));
            differences.push(format!("{what}: {path:?}: found {our}, git has {their}"));
        }
    }
}
