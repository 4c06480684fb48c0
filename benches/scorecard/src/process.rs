//! Replicas in processes of their own, as a drill starts them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Result;

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions.
pub const PAUSE: Duration = Duration::from_millis(2);

/// A replica in a process of its own. It is killed when it is dropped.
pub struct Process {
    /// The replica.
    pub id: u64,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts `examples/replica.rs` with default settings.
    pub fn start(
        program: &Path,
        directory: &Path,
        id: u64,
        peers: &[(u64, String)],
    ) -> Result<Self> {
        Self::start_with(program, directory, id, peers, &[])
    }

    /// Starts it with further arguments.
    pub fn start_with(
        program: &Path,
        directory: &Path,
        id: u64,
        peers: &[(u64, String)],
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.arg("--dir").arg(directory.join(id.to_string())).args(["--id", &id.to_string()]);
        for (id, address) in peers {
            command.args(["--peer", &format!("{id}={address}")]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { id, child, input, output })
    }

    /// The answer to a request.
    pub fn ask(&mut self, request: &str) -> Result<String> {
        self.tell(request)?;
        self.hear()
    }

    /// Makes a request; its answer comes behind those of the requests before.
    pub fn tell(&mut self, request: &str) -> Result<()> {
        Ok(writeln!(self.input, "{request}")?)
    }

    /// The next answer.
    pub fn hear(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(format!("replica {} ended", self.id).into());
        }
        Ok(answer.trim_end().to_owned())
    }

    /// A number that the status shows.
    pub fn field(&mut self, name: &str) -> Result<u64> {
        let status = self.ask("status")?;
        let mut words = status.split(' ');
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Ok(value.ok_or_else(|| format!("no {name} in {status}"))?.parse()?)
    }

    /// How many bytes of memory it has.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Stands still from now on (SIGSTOP), or goes on again (SIGCONT).
    pub fn signal(&self, signal: &str) -> Result<()> {
        self::signal(self.number(), signal)
    }

    /// The number that the system gave it.
    pub fn number(&self) -> u32 {
        self.child.id()
    }

    /// Asks until the answer is `ok`.
    pub fn expect(&mut self, request: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(request)?;
            if answer.starts_with("ok ") {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("replica {}: {request}: {answer}", self.id).into());
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stops the process of this number (SIGSTOP), or lets it go on (SIGCONT).
pub fn signal(number: u32, signal: &str) -> Result<()> {
    let sent = Command::new("kill").args([signal, &number.to_string()]).status()?;
    sent.success().then_some(()).ok_or_else(|| format!("no {signal}: {sent}").into())
}

/// The leader that all of them agree on.
pub fn leader(processes: &mut [Process]) -> Result<u64> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let answers = processes
            .iter_mut()
            .map(|process| process.ask("leader"))
            .collect::<Result<Vec<_>>>()?;
        let first = answers[0].strip_prefix("ok ").and_then(|leader| leader.parse().ok());
        match first {
            Some(leader) if answers.iter().all(|answer| *answer == answers[0]) => {
                return Ok(leader);
            }
            _ => thread::sleep(PAUSE),
        }
    }
    Err("no leader that all agree on".into())
}
