//! `indelible sim hunt`: how many tries it takes to notice each seeded mistake.
//!
//! Every mistake is hunted in all arenas, try by try (`indelible::sim::arena`). What is told is the
//! lowest try that notices it, however many threads there are; and the same seed, without the
//! mistake, must find nothing.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::sim::arena::{Arena, Try};
use indelible::sim::checkers::Violation;
use indelible::types::bugs::{self, Bug};

/// How a hunt is made.
pub struct Hunt {
    /// The number of the first try.
    pub base: u64,
    pub threads: usize,
    /// For each bug.
    pub time: Duration,
    /// The only arena, where one was asked for.
    pub arena: Option<Arena>,
}

/// A try that found something, by its number.
type Found = (u64, Violation);

impl Hunt {
    /// Hunts the bug of that name, or all; with `none`, makes no mistake, and must find nothing.
    pub fn run(&self, name: &str) -> Result<ExitCode, String> {
        let bugs = match name {
            "all" => Bug::ALL.to_vec(),
            "none" => return Ok(self.hunt_nothing()),
            name => vec![named(name)?],
        };
        let mut all = true;
        for bug in bugs {
            all &= self.hunt(bug);
        }
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn hunt(&self, bug: Bug) -> bool {
        let (tries, found) = self.seek(Some(bug));
        let Some((number, violation)) = found else {
            println!("{}", line(bug.name(), false, tries, "", ""));
            return false;
        };
        let Try { arena, seed } = self.numbered(number);
        let place = format!(",\"arena\":\"{}\",\"seed\":{seed}", arena.name());
        bugs::switch(None);
        let alarm = self.numbered(number).run();
        let caught = alarm.is_none();
        println!("{}", line(bug.name(), caught, tries, violation.invariant, &place));
        if let Some(violation) = alarm {
            println!("{} {seed} finds this without any mistake: {violation}", arena.name());
        }
        caught
    }

    fn hunt_nothing(&self) -> ExitCode {
        let (tries, found) = self.seek(None);
        let Some((number, violation)) = found else {
            println!("{}", line("none", false, tries, "", ""));
            return ExitCode::SUCCESS;
        };
        let Try { arena, seed } = self.numbered(number);
        let place = format!(",\"arena\":\"{}\",\"seed\":{seed}", arena.name());
        println!("{violation}");
        println!("{}", line("none", true, tries, violation.invariant, &place));
        ExitCode::FAILURE
    }

    fn numbered(&self, number: u64) -> Try {
        self.arena.map_or_else(|| Try::numbered(number), |arena| Try { arena, seed: number })
    }

    /// Makes tries until the time is over or one finds something. Returns how many it took.
    fn seek(&self, bug: Option<Bug>) -> (u64, Option<Found>) {
        let next = AtomicU64::new(self.base);
        let over = AtomicBool::new(false);
        let lowest = Mutex::new(None::<Found>);
        let began = Instant::now();
        let work = || {
            bugs::switch(bug);
            while !over.load(Ordering::Relaxed) && began.elapsed() < self.time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if let Some(violation) = self.numbered(number).run()
                    && let Ok(mut lowest) = lowest.lock()
                {
                    over.store(true, Ordering::Relaxed);
                    if lowest.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                        *lowest = Some((number, violation));
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let found = lowest.into_inner().unwrap_or_default();
        let last = found.as_ref().map(|(number, _)| number + 1);
        (last.unwrap_or(next.into_inner()) - self.base, found)
    }
}

/// The bug of this name; or which there are.
pub fn named(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| {
        let names = Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join("\n  ");
        format!("there is no bug {name}; there are\n  {names}")
    })
}

fn line(bug: &str, caught: bool, tries: u64, invariant: &str, place: &str) -> String {
    format!(
        "{{\"bug\":\"{bug}\",\"caught\":{caught},\"seeds\":{tries},\
         \"invariant\":\"{invariant}\"{place}}}"
    )
}
