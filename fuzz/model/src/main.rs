//! `indelible-model small|full|deep|must-fail`: explores, and prints one line of JSON for each
//! configuration, then one for all. `full` is what must hold, explored to its end; `deep` what is
//! too large for that, as far as is affordable. `small` is what fits into every change: the smaller
//! ones of `full`, and everything that must fail. With a second word, only what has this name, or
//! else whose names contain it, and the steps to each violation. Ends with status 1 where anything
//! is not as expected.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use indelible_model::runs::{self, Report, Unsound};
use indelible_model::{sound, turn, unsound};
use serde_json::{Value, json};

const THREADS: usize = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, only) = (arguments.next(), arguments.next());
    let (mut sound, mut unsound) = match what.as_deref() {
        Some("small") => (sound::small(), unsound::all()),
        Some("full") => (sound::full(), Vec::new()),
        Some("deep") => (sound::deep(), Vec::new()),
        Some("must-fail") => (Vec::new(), unsound::all()),
        _ => {
            eprintln!("usage: indelible-model small|full|deep|must-fail [NAME, OR PART OF NAMES]");
            return ExitCode::from(2);
        }
    };
    if let Some(only) = &only {
        let exact = sound.iter().any(|sound| sound.settings.name == only)
            || unsound.iter().any(|unsound| unsound.settings.name == only);
        let meant = |name: &str| if exact { name == only } else { name.contains(only.as_str()) };
        sound.retain(|sound| meant(sound.settings.name));
        unsound.retain(|unsound| meant(unsound.settings.name));
    }
    let mut tally = Tally { steps_told: only.is_some(), ..Tally::default() };
    turn::silence_cores();
    let began = Instant::now();
    for sound in &sound {
        tally.add(&runs::explore(sound, THREADS));
    }
    let mut tally = refute(&unsound, tally);
    tally.seconds = began.elapsed().as_secs_f64();
    if tally.tell() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Refutes them side by side: what looks for the shortest way is one thread.
fn refute(unsound: &[Unsound], tally: Tally) -> Tally {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(tally));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(unsound) = unsound.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = runs::refute(unsound);
                    tally.lock().expect("nobody panics while holding the lock").add(&report);
                }
            });
        }
    });
    tally.into_inner().expect("nobody panics while holding the lock")
}

/// What was run.
#[derive(Debug, Default)]
struct Tally {
    /// Whether the steps to a violation are printed.
    steps_told: bool,
    configurations: usize,
    unique_states: usize,
    seconds: f64,
    unexpected: Vec<Value>,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        println!("{}", report.line);
        for (property, steps) in report.violations.iter().filter(|_| self.steps_told) {
            println!("{property}:");
            steps.iter().for_each(|step| println!("    {step}"));
        }
        self.configurations += 1;
        self.unique_states += report.unique_states;
        if !report.passed {
            self.unexpected.push(report.line["name"].clone());
        }
    }

    /// The last line. Returns whether all was as expected, and something was run at all.
    fn tell(&self) -> bool {
        let Self { configurations, unique_states, seconds, unexpected, .. } = self;
        let line = json!({
            "configurations": configurations,
            "unique_states": unique_states,
            "seconds": seconds,
            "unexpected": unexpected,
        });
        println!("{line}");
        *configurations > 0 && unexpected.is_empty()
    }
}
