//! `indelible sim`: campaigns of seeds, and one seed again, with its trace.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::sim::arena::Arena;
use indelible::sim::campaign::{Totals, shrink};
use indelible::sim::floors;
use indelible::sim::swarm::{self, Limits, Outcome};
use indelible::sim::{lives, schedule};
use indelible::types::bugs::{self, Bug};

#[path = "hunt.rs"]
mod hunt;

use hunt::Hunt;

/// What the command line says.
struct Arguments {
    hunt: bool,
    seconds: u64,
    seeds: Option<u64>,
    seed: Option<u64>,
    base: u64,
    threads: usize,
    bug: Option<String>,
    arena: Option<Arena>,
}

/// What the threads of a campaign share.
struct Campaign {
    limits: Limits,
    bug: Option<Bug>,
    next: AtomicU64,
    /// The first seed that is run no more.
    end: u64,
    over: AtomicBool,
    began: Instant,
    time: Duration,
    totals: Mutex<Totals>,
    /// The first seed, by number, in which an invariant was broken.
    failed: Mutex<Option<(u64, Outcome)>>,
}

/// The command, without its first word.
pub fn main(arguments: &[String]) -> Result<ExitCode, String> {
    let arguments = parse(arguments)?;
    // A broken invariant inside the product is a panic; it is told as a violation.
    std::panic::set_hook(Box::new(|_| {}));
    match (&arguments.bug, arguments.seed) {
        (Some(name), _) if arguments.hunt => {
            let Arguments { base, threads, arena, .. } = arguments;
            let time = Duration::from_secs(arguments.seconds);
            Hunt { base, threads, time, arena }.run(name)
        }
        (None, _) if arguments.hunt => Err("hunt: which --bug".to_owned()),
        (_, None) if arguments.arena.is_some() => Err("--arena: with --seed, or hunt".to_owned()),
        (bug, seed) => {
            let bug = bug.as_deref().map(hunt::named).transpose()?;
            bugs::switch(bug);
            Ok(seed.map_or_else(|| campaign(bug, &arguments), |seed| replay(seed, arguments.arena)))
        }
    }
}

fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments {
        hunt: false,
        seconds: 60,
        seeds: None,
        seed: None,
        base: 0,
        threads: cores,
        bug: None,
        arena: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "hunt" {
            parsed.hunt = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word}: what?"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} {value}: no number"));
        match word.as_str() {
            "--seconds" => parsed.seconds = number()?,
            "--seeds" => parsed.seeds = Some(number()?),
            "--seed" => parsed.seed = Some(number()?),
            "--base" => parsed.base = number()?,
            "--threads" => parsed.threads = number()?.clamp(1, 256) as usize,
            "--arena" => {
                let names = Arena::ROUND.map(|(arena, _)| arena.name()).join(", ");
                let unknown = || format!("there is no arena {value}; there are {names}");
                parsed.arena = Some(Arena::named(value).ok_or_else(unknown)?);
            }
            "--bug" => parsed.bug = Some(value.clone()),
            _ => return Err(format!("{word}: not known")),
        }
    }
    Ok(parsed)
}

/// Runs one seed, with its trace.
fn replay(seed: u64, arena: Option<Arena>) -> ExitCode {
    let arena = arena.unwrap_or(Arena::Swarm);
    let violation = match arena {
        Arena::Swarm => {
            let limits = Limits { trace_lines: TRACE_LINES, ..Limits::default() };
            let outcome = swarm::run(seed, &limits);
            outcome.trace.iter().for_each(|line| println!("{line}"));
            let mut totals = Totals::default();
            totals.add(&outcome);
            println!("{}", totals.json());
            outcome.violation
        }
        Arena::Schedule => {
            let ended = schedule::run(seed, TRACE_LINES);
            ended.trace.iter().for_each(|line| println!("{line}"));
            ended.violation
        }
        Arena::Lives => {
            let (violation, trace) = lives::run(seed, true);
            trace.iter().for_each(|line| println!("{line}"));
            violation
        }
    };
    match violation {
        Some(violation) => {
            println!("{} seed {seed}: {violation}", arena.name());
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn campaign(bug: Option<Bug>, arguments: &Arguments) -> ExitCode {
    let campaign = Campaign::run(bug, arguments);
    let totals = campaign.totals.into_inner().unwrap_or_default();
    let failed = campaign.failed.into_inner().unwrap_or_default();
    print!("{}", totals.fault_table());
    print!("{}", totals.mark_table());
    if let Some((seed, outcome)) = &failed {
        tell_failure(*seed, outcome, &campaign.limits);
    }
    let lacking = if failed.is_none() { floors::lacking(&totals) } else { Vec::new() };
    lacking.iter().for_each(|what| println!("{what}"));
    println!("{}", totals.json());
    if failed.is_some() {
        return ExitCode::FAILURE;
    }
    if !lacking.is_empty() {
        return ExitCode::from(4);
    }
    // A few seeds are unlucky: a cluster of which most is down most of the time.
    if totals.vacuous * 5 > totals.seeds { ExitCode::from(3) } else { ExitCode::SUCCESS }
}

fn tell_failure(seed: u64, outcome: &Outcome, limits: &Limits) {
    let Some(violation) = &outcome.violation else { return };
    println!("seed {seed}: {violation}");
    println!("  again, with its trace: indelible sim --seed {seed}");
    let plan = shrink(seed, limits, violation.invariant, 60);
    println!("  of its faults, these {} are needed:", plan.len());
    for fault in plan {
        println!("  {:>10.3?} {} ({:016x})", fault.at, fault.kind.name(), fault.seed);
    }
}

impl Campaign {
    /// Runs seeds from the base on, until the time is over, all asked for were run, or one fails.
    fn run(bug: Option<Bug>, arguments: &Arguments) -> Self {
        let campaign = Self {
            limits: Limits::default(),
            bug,
            next: AtomicU64::new(arguments.base),
            end: arguments.seeds.map_or(u64::MAX, |seeds| arguments.base.saturating_add(seeds)),
            over: AtomicBool::new(false),
            began: Instant::now(),
            time: Duration::from_secs(arguments.seconds),
            totals: Mutex::default(),
            failed: Mutex::default(),
        };
        std::thread::scope(|scope| {
            for _ in 0..arguments.threads {
                scope.spawn(|| campaign.work());
            }
            scope.spawn(|| campaign.tell_progress());
        });
        campaign
    }

    fn work(&self) {
        bugs::switch(self.bug);
        while !self.over.load(Ordering::Relaxed) && self.began.elapsed() < self.time {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if self.end <= seed {
                break;
            }
            let outcome = swarm::run(seed, &self.limits);
            if let Ok(mut totals) = self.totals.lock() {
                totals.add(&outcome);
            }
            if outcome.violation.is_some()
                && let Ok(mut failed) = self.failed.lock()
            {
                self.over.store(true, Ordering::Relaxed);
                if failed.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                    *failed = Some((seed, outcome));
                }
            }
        }
        self.over.store(true, Ordering::Relaxed);
    }

    fn tell_progress(&self) {
        let mut told = 0;
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            let seconds = self.began.elapsed().as_secs();
            if seconds >= told + 10
                && let Ok(totals) = self.totals.lock()
            {
                told = seconds;
                eprintln!(
                    "{seconds:>6} s  {} seeds, {} commits, {} faults",
                    totals.seeds,
                    totals.commits,
                    totals.faults_fired()
                );
            }
        }
    }
}

const TRACE_LINES: usize = 1_000_000;
