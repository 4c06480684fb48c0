//! The program: runs the simulator.
//!
//! ```text
//! indelible sim [--seconds N] [--base N] [--threads N]   fresh seeds; last, a line of JSON
//! indelible sim --seeds N [...]                          so many of them, if there is time
//! indelible sim --seed N                                 one seed, with its trace
//! indelible sim hunt --bug NAME|all [--seconds N]        shows that a mistake is noticed
//! indelible sim hunt --bug none [--seconds N]            that nothing is, where there is none
//! ```
//!
//! With `--arena swarm|schedule|lives`, a seed is one of that arena, and a hunt stays in it. With
//! `--base N` a hunt begins at that try; with `--threads N` it finds the same, sooner.
//!
//! Exits with 1 where an invariant was broken, or a mistake was not noticed; with 2 where it was
//! called wrongly; with 4 where a campaign lacks something: a mark, a kind of fault, changes of the
//! leader, seeds that prove something (`sim::floors`); else with 3 where more than a fifth of them
//! prove nothing. `-h` tells how it is called.

use std::process::ExitCode;

#[cfg(feature = "sim")]
#[path = "indelible/sim.rs"]
mod sim;

const USAGE: &str = "\
usage: indelible sim [--seconds N] [--seeds N] [--base N] [--threads N]
       indelible sim --seed N [--arena NAME] [--bug NAME]
       indelible sim hunt --bug NAME|all|none [--seconds N] [--base N] [--threads N]
                          [--arena NAME]";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help" | "help")) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let result = match arguments.split_first() {
        Some((command, rest)) if command == "sim" => simulate(rest),
        _ => Err(USAGE.to_owned()),
    };
    result.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::from(2)
    })
}

#[cfg(feature = "sim")]
fn simulate(arguments: &[String]) -> Result<ExitCode, String> {
    sim::main(arguments).map_err(|why| format!("{why}\n{USAGE}"))
}

#[cfg(not(feature = "sim"))]
fn simulate(_: &[String]) -> Result<ExitCode, String> {
    Err("built without the simulator: use --features cli,sim".to_owned())
}
