//! `indelible-model small|full|must-fail`: explores, and prints one line of JSON for each
//! configuration. With a second word, only those whose name contains it, and the steps to each
//! violation. Ends with status 1 where anything is not as expected.

use std::process::ExitCode;

use indelible_model::runs::{self, Report};
use indelible_model::turn;

const THREADS: usize = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, only) = (arguments.next(), arguments.next());
    let meant = |name: &str| only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let tell = |report: Report| {
        println!("{}", report.line);
        for (property, steps) in report.violations.iter().filter(|_| only.is_some()) {
            println!("{property}:");
            steps.iter().for_each(|step| println!("    {step}"));
        }
        report.passed
    };
    let mut passed = true;
    match what.as_deref() {
        Some("small") | Some("full") => {
            let sound = if what.as_deref() == Some("small") { runs::small() } else { runs::full() };
            for sound in sound.iter().filter(|sound| meant(sound.settings.name)) {
                passed &= tell(runs::explore(sound, THREADS));
            }
        }
        Some("must-fail") => {
            turn::silence_cores();
            for unsound in runs::must_fail().iter().filter(|bug| meant(bug.settings.name)) {
                passed &= tell(runs::refute(unsound));
            }
        }
        _ => {
            eprintln!("usage: indelible-model small|full|must-fail [PART OF A NAME]");
            return ExitCode::from(2);
        }
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
