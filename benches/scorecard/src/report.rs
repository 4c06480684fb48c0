//! What a row says, and how figures are put together.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

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
    fields: Map<String, Value>,
    note: String,
}

impl Row {
    /// A row whose goal speaks of `value`.
    pub fn new(value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { value, unit, goal, also: true, fields: Map::new(), note: String::new() }
    }

    /// Adds a figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.fields.insert(name.into(), json!(rounded(value)));
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

    /// The line.
    pub fn json(&self, name: &str) -> Value {
        let (goal, holds) = match self.goal {
            Goal::AtMost(goal) => (format!("<= {goal}"), self.value <= goal),
            Goal::AtLeast(goal) => (format!(">= {goal}"), self.value >= goal),
        };
        let mut line = Map::new();
        line.insert("row".into(), json!(name));
        line.insert("value".into(), json!(rounded(self.value)));
        line.insert("unit".into(), json!(self.unit));
        line.extend(self.fields.clone());
        line.insert("goal".into(), json!(goal));
        line.insert("holds".into(), json!(holds && self.also));
        line.insert("note".into(), json!(self.note));
        Value::Object(line)
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
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
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
