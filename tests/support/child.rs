//! This test program again, as another process that a test talks to, and may kill.

#![allow(dead_code, reason = "no test program uses all of this")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Says to the test named `child` what it shall do; without it, that test does nothing.
const ROLE: &str = "INDELIBLE_TEST_CHILD";

/// Another process. Killed when dropped.
pub struct Process {
    pub child: Child,
    pub input: ChildStdin,
    pub output: BufReader<ChildStdout>,
}

/// What this process shall do as a child.
pub fn role() -> Option<Vec<String>> {
    let role = std::env::var(ROLE).ok()?;
    Some(role.split('\n').map(str::to_owned).collect())
}

/// Says a line to the parent, past the test harness. Nobody may listen any more.
pub fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(format!("{MARK}{line}\n").as_bytes()).and_then(|()| output.flush());
}

impl Process {
    /// Starts the test `child` of this program, with a role.
    pub fn start(role: &[&str]) -> Self {
        Self::start_in(std::env::current_dir().unwrap(), role)
    }

    /// The same in another working directory.
    pub fn start_in(directory: impl AsRef<Path>, role: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role.join("\n"))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// The next line that the child said; `None` where it ended. Half a line was never said.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).ok().filter(|count| *count > 0)?;
            let whole = line.strip_suffix('\n')?;
            // The harness begins a line and does not end it.
            if let Some(place) = whole.find(MARK) {
                return Some(whole[place + MARK.len()..].to_owned());
            }
        }
    }

    /// Says a line to the child.
    pub fn tell(&mut self, line: &str) {
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
    }

    /// SIGKILL, and everything that it said before and was not read.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const MARK: &str = "@> ";
