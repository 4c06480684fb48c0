//! The main job on real input: the example, on a history of 5,000 commits.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Goal, Result, Row};

#[path = "../../../tests/support/repository.rs"]
mod repository;

const COMMITS: usize = 5_000;
const SECONDS_MAX: f64 = 60.0;

/// Runs the example, which compares every replica with git.
pub fn five_thousand() -> Result<Row> {
    let program = build_example("git_history")?;
    let directory = tempfile::tempdir()?;
    repository::make(directory.path(), COMMITS)?;
    let began = Instant::now();
    let output = Command::new(program).arg(directory.path()).stderr(Stdio::inherit()).output()?;
    let seconds = began.elapsed().as_secs_f64();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = output.trim_end().lines().last().unwrap_or_default();
    let figure = |name: &str| -> Result<f64> {
        let found = last.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Ok(found.ok_or_else(|| format!("no {name} in {last:?}"))?.parse()?)
    };
    let (commits, differences) = (figure("commits")?, figure("differences")?);
    Ok(Row::new(seconds, "s", Goal::AtMost(SECONDS_MAX))
        .with("commits", commits)
        .with("keys", figure("keys")?)
        .with("refused", figure("refused")?)
        .with("failovers", figure("failovers")?)
        .with("differences", differences)
        .demand(commits >= COMMITS as f64 && differences == 0.0)
        .note("the whole run, comparison included; also demanded: differences = 0"))
}

/// Builds an example of the crate for speed, and returns where it is.
pub fn build_example(name: &str) -> Result<PathBuf> {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let output = command
        .current_dir(crate_directory)
        .args(["build", "--release", "--quiet", "--message-format=json", "--example", name])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("cannot build the example {name}: {}", output.status).into());
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["target"]["kind"][0] == "example";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    Ok(program.ok_or_else(|| format!("cargo did not say where the example {name} is"))?)
}
