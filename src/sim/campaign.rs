//! Many seeds of the swarm: what they add up to, and how a failure is cut down.
//!
//! Not here: what a campaign must have seen (`floors`), the hunt for seeded mistakes (`arena`), and
//! threads and time, which belong to whoever runs a campaign.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::faults::Planned;
use super::swarm::{self, Limits, Outcome};

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Committed transactions.
    pub commits: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Times that somebody began to lead.
    pub leaders: u64,
    /// Faults that acted, by kind, and the number of runs in which they did.
    pub faults: BTreeMap<&'static str, (u64, u64)>,
    /// Marks that were reached, each with how often, and in how many of the runs.
    pub marks: BTreeMap<&'static str, (u64, u64)>,
    /// Memberships that were chosen behind the first ones, and the number of runs in which there
    /// were any.
    pub memberships: (u64, u64),
    /// Runs in which the leader changed.
    pub led_anew: u64,
    /// Runs that proved nothing.
    pub vacuous: u64,
    /// Runs that ended with a cluster that damage had blocked.
    pub blocked: u64,
    /// Histories that a checker could not judge.
    pub inconclusive: u64,
    /// Runs in which an invariant was broken.
    pub violations: u64,
    /// The hashes of all traces, added up: it does not depend on the order in which the runs ended.
    pub trace_hash: u64,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.commits += outcome.commits;
        self.calls += outcome.calls;
        self.leaders += outcome.leaders;
        add(&mut self.faults, &outcome.faults);
        add(&mut self.marks, &outcome.marks);
        self.memberships.0 += outcome.memberships;
        self.memberships.1 += u64::from(outcome.memberships > 0);
        self.led_anew += u64::from(outcome.leaders > 1);
        self.vacuous += u64::from(outcome.vacuous);
        self.blocked += u64::from(outcome.blocked);
        self.inconclusive += outcome.inconclusive;
        self.violations += u64::from(outcome.violation.is_some());
        self.trace_hash = self.trace_hash.wrapping_add(outcome.trace_hash);
    }

    /// Faults that acted.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.faults.values().map(|(times, _)| times).sum()
    }

    /// All of it on one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let hours = self.simulated.as_secs() / 3600;
        format!(
            "{{\"seeds\":{},\"sim_hours\":{hours},\"commits\":{},\"faults_fired\":{},\
             \"fault_kinds\":{},\"marks\":{},\"memberships\":{},\"vacuous\":{},\
             \"blocked\":{},\"inconclusive\":{},\"violations\":{},\
             \"trace_hash\":\"{:016x}\"}}",
            self.seeds,
            self.commits,
            self.faults_fired(),
            self.faults.len(),
            self.marks.len(),
            self.memberships.0,
            self.vacuous,
            self.blocked,
            self.inconclusive,
            self.violations,
            self.trace_hash,
        )
    }

    /// The kinds of faults, a line each: how often each acted, and in how many of the runs.
    #[must_use]
    pub fn fault_table(&self) -> String {
        self.table(&self.faults)
    }

    /// The marks, a line each: how often each was reached, and in how many of the runs.
    #[must_use]
    pub fn mark_table(&self) -> String {
        self.table(&self.marks)
    }

    fn table(&self, counts: &BTreeMap<&'static str, (u64, u64)>) -> String {
        let mut table = String::new();
        for (name, (times, runs)) in counts {
            let per_mille = runs * 1000 / self.seeds.max(1);
            let share = format!("{}.{} %", per_mille / 10, per_mille % 10);
            writeln!(table, "{name:<24} {times:>10} {share:>8} of seeds").expect("it is a string");
        }
        table
    }
}

fn add(counts: &mut BTreeMap<&'static str, (u64, u64)>, run: &BTreeMap<&'static str, u64>) {
    for (name, count) in run {
        let (times, runs) = counts.entry(name).or_default();
        *times += count;
        *runs += 1;
    }
}

/// Cuts the faults of a failed run down to those without which it does not break the invariant.
/// Takes as many runs as it needs, `runs_max` at most.
#[must_use]
pub fn shrink(seed: u64, limits: &Limits, invariant: &str, runs_max: usize) -> Vec<Planned> {
    let mut runs = 0;
    let mut plan = swarm::planned(seed, limits);
    let mut size = plan.len().div_ceil(2);
    // Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*, 2002; without the
    // step that tries the parts by themselves, which here hardly ever fail.
    while size > 0 {
        let mut at = 0;
        while at < plan.len() && runs < runs_max {
            let end = plan.len().min(at + size);
            let rest = [&plan[..at], &plan[end..]].concat();
            runs += 1;
            let violation = swarm::run_plan(seed, limits, &rest).violation;
            match violation.is_some_and(|violation| violation.invariant == invariant) {
                true => plan = rest,
                false => at = end,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    plan
}
