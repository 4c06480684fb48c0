//! How do I run a replica as a process of its own? With arguments, and a line protocol to speak.
//!
//! ```text
//! replica --dir DIR [--id N] [--peer N=HOST:PORT].. [--listen HOST:PORT] [--timeout-ms N]
//!         [--join CLUSTER] [--history-bytes N] [--restore FILE | --survivor DIR]
//! ```
//!
//! Without `--peer` it is the only replica. `--restore` makes a new ledger of a backup first, in a
//! blank directory; `--survivor` one of what is left of another replica. Each line of standard
//! input is a request:
//!
//! | request | answer |
//! |---|---|
//! | `put KEY VALUE` | `ok TXID` |
//! | `cas KEY VERSION VALUE` | `ok TXID`; VERSION 0 stands for no value |
//! | `delete KEY` | `ok TXID`, or `ok none` where there was no value |
//! | `get KEY` | `ok VERSION VALUE`, or `ok none` |
//! | `ready` | `ok ready`, once a leader is known and everything before was applied |
//! | `leader` | `ok N`, or `ok none`; at once |
//! | `status` | `ok` and the status on one line; at once |
//! | `cluster` | `ok CLUSTER`: what a replica is told that is to join; at once |
//! | `checkpoint` | `ok checkpoint`, once what is applied now is in one |
//! | `backup FILE` | `ok TXID`, once a backup of everything up to there is in the file, synced |
//! | `observe N`, `promote N`, `remove N` | `ok` and the voters, once the change counts |
//! | `close` | `ok closed`, and the process ends; so it does, silently, at the end of input |
//!
//! Every request has one answer line. It begins with `ok`, or with `refused` (a condition did not
//! hold), `unknown` (it may have happened) or `error`, and says why. A value is the rest of the
//! line; a key has no spaces. Requests do not wait for each other; answers come in their order, but
//! for those that are given at once, and those of `checkpoint` and `backup`. A request may begin
//! with `@TAG`: then its answer begins with the same tag.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, Write};
use std::sync::mpsc;
use std::time::Duration;

use indelible::{Backup, Committed, Config, Pending, RawTable, Replica, ReplicaId, Restore, TxId};

const TABLE: RawTable<String> = RawTable::new("lines");
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the outcome of a request, and says it.
type Job = Box<dyn FnOnce() -> indelible::Result<String> + Send>;

fn main() -> Result<(), Box<dyn Error>> {
    let replica = open(std::env::args().skip(1))?;
    let (sender, receiver) = mpsc::channel::<(String, Job)>();
    let waiter = std::thread::spawn(move || {
        for (tag, job) in receiver {
            answer(&tag, job());
        }
    });
    let mut closing = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (tag, request) = match line.split_once(' ') {
            Some((tag, request)) if tag.starts_with('@') => (format!("{tag} "), request),
            _ => (String::new(), line.as_str()),
        };
        match request.split(' ').next().unwrap_or_default() {
            "" => {}
            "close" => {
                closing = Some(tag);
                break;
            }
            "leader" => answer(&tag, Ok(number(replica.status().leader.map(|leader| leader.0)))),
            "status" => answer(&tag, Ok(replica.status().to_string())),
            // It takes long, and others are not to wait for it.
            "checkpoint" => {
                let pending = replica.checkpoint();
                let wait = move || answer(&tag, pending.wait().map(|()| "checkpoint".into()));
                std::thread::spawn(wait);
            }
            "backup" => {
                let (replica, path) =
                    (replica.clone(), request["backup".len()..].trim().to_owned());
                std::thread::spawn(move || match backup(&replica, &path) {
                    Ok(txid) => answer(&tag, Ok(number(Some(txid.get())))),
                    Err(err) => say(&format!("{tag}error {err}")),
                });
            }
            "cluster" => {
                let cluster = replica.cluster();
                answer(&tag, Ok(cluster.map_or("none".into(), |cluster| cluster.to_string())));
            }
            _ => match submit(&replica, request) {
                Some(job) => sender.send((tag, job))?,
                None => say(&format!("{tag}error not a request: {request}")),
            },
        }
    }
    drop(sender);
    waiter.join().map_err(|_| "the waiting thread panicked")?;
    let closed = replica.close();
    if let Some(tag) = closing {
        answer(&tag, closed.map(|()| "closed".into()));
    }
    Ok(())
}

/// Submits a request, and returns what waits for its outcome. `None` where it is no request.
fn submit(replica: &Replica, request: &str) -> Option<Job> {
    let (verb, rest) = request.split_once(' ').unwrap_or((request, ""));
    let (key, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match verb {
        "put" => written(replica.put(TABLE, key, rest)),
        "delete" => written(replica.delete(TABLE, key)),
        "cas" => {
            let (version, value) = rest.split_once(' ').unwrap_or((rest, ""));
            let version = TxId::from_number(version.parse().ok()?)?;
            let mut transaction = replica.transaction();
            match version {
                TxId::ZERO => transaction.absent(TABLE, key),
                version => transaction.version(TABLE, key, version),
            };
            transaction.put(TABLE, key, value);
            written(transaction.commit())
        }
        "get" => {
            let pending = replica.get(TABLE, key);
            Box::new(move || {
                let Some(found) = pending.wait()? else { return Ok("none".into()) };
                Ok(format!("{} {}", found.version.get(), String::from_utf8_lossy(&found.value)))
            })
        }
        "ready" => {
            let replica = replica.clone();
            Box::new(move || replica.wait_ready(READY_PATIENCE).map(|()| "ready".into()))
        }
        "observe" | "promote" | "remove" => {
            let id = ReplicaId(key.parse().ok()?);
            let pending = match verb {
                "observe" => replica.add_observer(id),
                "promote" => replica.promote(id),
                _ => replica.remove(id),
            };
            Box::new(move || pending.wait().map(|membership| membership.to_string()))
        }
        _ => return None,
    })
}

/// Writes a backup, and reads it back.
fn backup(replica: &Replica, path: &str) -> Result<TxId, Box<dyn Error>> {
    let file = File::create(path)?;
    let written = replica.backup(&file)?;
    file.sync_all()?;
    match Backup::verify(File::open(path)?)? == written {
        true => Ok(written.txid),
        false => Err("the file holds another backup".into()),
    }
}

fn written(pending: Pending<Committed>) -> Job {
    Box::new(move || Ok(number(pending.wait()?.txid.map(TxId::get))))
}

fn number(number: Option<u64>) -> String {
    number.map_or("none".into(), |number| number.to_string())
}

fn answer(tag: &str, result: indelible::Result<String>) {
    say(&match result {
        Ok(text) => format!("{tag}ok {text}"),
        Err(err) if err.is_refused() => format!("{tag}refused {err}"),
        Err(err) if err.is_outcome_unknown() => format!("{tag}unknown {err}"),
        Err(err) => format!("{tag}error {err}"),
    });
}

/// Writes one line at once. Nobody listens any more where that fails, so nothing is left to say.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

fn open(mut args: impl Iterator<Item = String>) -> Result<Replica, Box<dyn Error>> {
    let (mut directory, mut id, mut peers) = (None, 1, Vec::new());
    let (mut listen, mut join, mut config) = (None, None, Config::default());
    let (mut restore, mut survivor) = (None, None);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--dir" => directory = Some(value),
            "--id" => id = value.parse::<u64>()?,
            "--listen" => listen = Some(value),
            "--join" => join = Some(value.parse()?),
            "--restore" => restore = Some(value),
            "--survivor" => survivor = Some(value),
            "--history-bytes" => config.history_bytes_min = value.parse()?,
            "--timeout-ms" => config.request_timeout = Duration::from_millis(value.parse()?),
            "--peer" => {
                let (id, address) = value.split_once('=').ok_or("--peer is N=HOST:PORT")?;
                peers.push((id.parse::<u64>()?, address.to_owned()));
            }
            _ => return Err(format!("{name} is no option").into()),
        }
    }
    let directory = directory.ok_or("--dir is missing")?;
    let restored = match (restore, survivor) {
        (None, None) => None,
        (Some(file), None) => {
            Some(Restore::into(&directory).id(id).from_backup(File::open(file)?)?)
        }
        (None, Some(left)) => Some(Restore::into(&directory).id(id).from_survivor(left)?),
        (Some(_), Some(_)) => return Err("--restore and --survivor do not go together".into()),
    };
    if let Some(restored) = restored {
        eprintln!("restored: cluster={} at={}", restored.cluster, restored.at);
    }
    let mut builder = Replica::builder(directory).config(config);
    builder = builder.id(id);
    if !peers.is_empty() {
        builder = builder.peers(peers);
    }
    if let Some(cluster) = join {
        builder = builder.join(cluster);
    }
    if let Some(listen) = listen {
        builder = builder.listen(listen);
    }
    Ok(builder.open()?)
}
