//! What a row says, and how figures are put together.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A row either measures or says why it cannot.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What a goal demands of a value.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// One line of the scorecard.
#[derive(Debug)]
pub struct Row {
    value: f64,
    unit: &'static str,
    goal: Goal,
    also: bool,
    fields: Vec<(String, Value)>,
    note: String,
}

impl Row {
    /// A row whose goal speaks of `value`.
    pub fn new(value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { value, unit, goal, also: true, fields: Vec::new(), note: String::new() }
    }

    /// Adds a figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.fields.push((name.into(), json!(rounded(value))));
        self
    }

    /// Adds p50 and p99 of latencies, in microseconds.
    pub fn with_latencies(self, prefix: &str, latencies: &Latencies) -> Self {
        let (p50, p99) = (latencies.quantile(0.5), latencies.quantile(0.99));
        self.with(&format!("{prefix}p50"), p50).with(&format!("{prefix}p99"), p99)
    }

    /// Adds a demand of the same goal: the row holds only if this does, too.
    pub fn demand(mut self, holds: bool) -> Self {
        self.also &= holds;
        self
    }

    /// Says in words what was measured.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The line, as JSON, in an order that a person can read.
    pub fn json(&self, name: &str) -> String {
        let (goal, holds) = match self.goal {
            Goal::AtMost(goal) => (format!("<= {goal}"), self.value <= goal),
            Goal::AtLeast(goal) => (format!(">= {goal}"), self.value >= goal),
        };
        let mut fields = vec![
            ("row".to_owned(), json!(name)),
            ("value".to_owned(), json!(rounded(self.value))),
            ("unit".to_owned(), json!(self.unit)),
        ];
        fields.extend(self.fields.iter().cloned());
        fields.push(("goal".to_owned(), json!(goal)));
        fields.push(("holds".to_owned(), json!(holds && self.also)));
        fields.push(("note".to_owned(), json!(self.note)));
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// Four digits that count: more would only pretend.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Latencies as they are measured.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet. From a nanosecond to ten minutes, with three digits that count.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000_000, 3)?))
    }

    /// Adds one.
    pub fn push(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// The latency, in microseconds, that this share of all did not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
