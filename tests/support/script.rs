//! Runs text scripts: blocks of commands, each block with the output that it must have.
//!
//! ```text
//! # The first line is a comment: the claim that this script shows.
//! put 1 "a value" ttl=5        words, quoted words, options
//! get 1
//! ---
//! 1 = a value
//!
//! !get 2                       must fail: its output begins with `error`
//! ---
//! error: no such key
//! ```
//!
//! * A line that starts with `#` is a comment. A block is one command a line, a line `---`, and the
//!   output up to the next blank line. The outputs of its commands are put one below the other.
//! * In quotes, `\"`, `\\` and `\n` stand for what they mean in Rust. A word with a `=` outside
//!   quotes is an option.
//! * A command has failed if its output begins with `error`. It must fail if it is marked with `!`,
//!   and must not fail otherwise.
//! * Trailing whitespace is dropped, a blank line of output is shown as `.`, and no output at all
//!   is shown as `ok`.
//!
//! With `UPDATE_SCRIPTS=1` in the environment, the outputs found are written into the scripts:
//! write the commands, run, and read what it says before you commit it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One line of a script.
#[derive(Clone, Debug)]
pub struct Command {
    /// The first word.
    pub name: String,
    /// The other words that are no options.
    pub args: Vec<String>,
    /// The words `key=value`.
    pub options: BTreeMap<String, String>,
    /// The script that it stands in.
    pub file: String,
    /// The line of the script, from 1.
    pub line: usize,
    /// Whether it is marked with `!`: it must fail.
    pub fails: bool,
}

impl Command {
    /// The argument at `index`, from 0, as a `T`. Panics where there is none.
    #[track_caller]
    pub fn arg<T: FromStr<Err: Display>>(&self, index: usize) -> T {
        match self.args.get(index) {
            Some(text) => self.parse(&format!("argument {index}"), text),
            None => self.reject(format!("argument {index} is missing")),
        }
    }

    /// All arguments from `index` on, each as a `T`.
    #[track_caller]
    pub fn args_from<T: FromStr<Err: Display>>(&self, index: usize) -> Vec<T> {
        (index..self.args.len()).map(|index| self.arg(index)).collect()
    }

    /// The option `key` as a `T`, where it is given.
    #[track_caller]
    pub fn option<T: FromStr<Err: Display>>(&self, key: &str) -> Option<T> {
        self.options.get(key).map(|text| self.parse(&format!("option {key}"), text))
    }

    /// The option `key` as a `T`, or `default`.
    #[track_caller]
    pub fn option_or<T: FromStr<Err: Display>>(&self, key: &str, default: T) -> T {
        self.option(key).unwrap_or(default)
    }

    /// The option `key` as a `T`. Panics where it is not given.
    #[track_caller]
    pub fn required<T: FromStr<Err: Display>>(&self, key: &str) -> T {
        self.option(key).unwrap_or_else(|| self.reject(format!("option {key} is missing")))
    }

    /// The option `key`, whose value is a comma-separated list. Empty where it is not given.
    #[track_caller]
    pub fn list<T: FromStr<Err: Display>>(&self, key: &str) -> Vec<T> {
        let text = self.options.get(key).map_or("", String::as_str);
        let items = text.split(',').filter(|item| !item.is_empty());
        items.map(|item| self.parse(&format!("option {key}"), item)).collect()
    }

    /// Panics where there are more than `args` arguments, or an option that is not in `options`:
    /// what a script misspells must not be ignored.
    #[track_caller]
    pub fn expect(&self, args: usize, options: &[&str]) {
        if self.args.len() > args {
            self.reject(format!("{} arguments where at most {args} are known", self.args.len()))
        }
        if let Some(key) = self.options.keys().find(|key| !options.contains(&key.as_str())) {
            self.reject(format!("option {key} is unknown; there are {options:?}"))
        }
    }

    /// Panics: the script is wrong.
    #[track_caller]
    pub fn reject(&self, why: impl Display) -> ! {
        panic!("{}:{}: {}: {why}", self.file, self.line, self.name)
    }

    #[track_caller]
    fn parse<T: FromStr<Err: Display>>(&self, what: &str, text: &str) -> T {
        text.parse().unwrap_or_else(|err| self.reject(format!("{what} {text:?}: {err}")))
    }
}

/// The scripts in `dir`, which is relative to the crate, in order of their names.
pub fn scripts(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let entries = or_panic(&dir, std::fs::read_dir(&dir));
    let mut paths: Vec<_> = entries.map(|entry| or_panic(&dir, entry).path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "{}: no scripts", dir.display());
    paths
}

/// The script of that name in `dir`.
pub fn named(dir: &str, name: &str) -> PathBuf {
    let path = scripts(dir).into_iter().find(|path| path.ends_with(format!("{name}.txt")));
    path.unwrap_or_else(|| panic!("{dir} has no script {name}"))
}

/// Runs a script; `interpret` carries out one command and says its output. Panics at the first
/// block whose output is not the expected one.
#[track_caller]
pub fn run(path: &Path, interpret: &mut dyn FnMut(&Command) -> String) {
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some_and(|value| value == "1");
    if let Err(why) = check(path, update, interpret) {
        panic!("{why}")
    }
}

/// As [`run`], but returns what is wrong; with `update`, a different output is written down.
pub fn check(
    path: &Path,
    update: bool,
    interpret: &mut dyn FnMut(&Command) -> String,
) -> Result<(), String> {
    let file = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string();
    let text = or_panic(path, std::fs::read_to_string(path));
    if !text.starts_with("# ") {
        return Err(format!("{file}:1: the first line must be a comment: what the script shows"));
    }
    let mut rewritten = String::new();
    for part in parts(&text) {
        rewritten.push_str(&part.source);
        if part.commands.is_empty() {
            continue;
        }
        let found = run_block(&file, &part.commands, interpret)?;
        if !update && part.expected.as_ref() != Some(&found) {
            let expected = part.expected.unwrap_or_default();
            return Err(difference(&file, &part.source, part.commands[0].0, &expected, &found));
        }
        rewritten.push_str(&format!("---\n{found}"));
    }
    if update && rewritten != text {
        or_panic(path, std::fs::write(path, rewritten));
    }
    Ok(())
}

/// A block, or comments and blank lines between blocks.
#[derive(Default)]
struct Part {
    /// Its lines up to the line `---`.
    source: String,
    /// The commands among them, with their line numbers.
    commands: Vec<(usize, String)>,
    /// The output that the script expects; `None` where there is no line `---`.
    expected: Option<String>,
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    for (index, line) in text.lines().map(str::trim_end).enumerate() {
        let part = parts.last_mut().expect("there is always a last part");
        if line.is_empty() {
            // The blank line ends a block, and begins what stands before the next one.
            parts.push(Part { source: "\n".into(), ..Part::default() });
        } else if let Some(expected) = &mut part.expected {
            expected.push_str(&format!("{line}\n"));
        } else if line == "---" {
            part.expected = Some(String::new());
        } else {
            part.source.push_str(&format!("{line}\n"));
            if !line.starts_with('#') {
                part.commands.push((index + 1, line.to_owned()));
            }
        }
    }
    parts
}

fn run_block(
    file: &str,
    commands: &[(usize, String)],
    interpret: &mut dyn FnMut(&Command) -> String,
) -> Result<String, String> {
    let mut found = String::new();
    for (line, text) in commands {
        let at = format!("{file}:{line}");
        let command = command(file, *line, text).map_err(|why| format!("{at}: {why}"))?;
        let told = TellWhere(&at);
        let output = interpret(&command);
        drop(told);
        match (command.fails, output.starts_with("error")) {
            (true, false) => return Err(format!("{at}: did not fail: {text}\n{output}")),
            (false, true) => return Err(format!("{at}: failed: {text}\n{output}")),
            _ => {}
        }
        for line in output.trim_end().lines().map(str::trim_end) {
            found.push_str(if line.is_empty() { "." } else { line });
            found.push('\n');
        }
    }
    Ok(if found.is_empty() { "ok\n".into() } else { found })
}

/// Says at which line of a script the test was when it panicked.
struct TellWhere<'a>(&'a str);

impl Drop for TellWhere<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the panic came at {}", self.0);
        }
    }
}

fn command(file: &str, line: usize, text: &str) -> Result<Command, String> {
    let (fails, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let mut words = words(text)?.into_iter();
    let (name, file) = (words.next().ok_or("no command")?.1, file.to_owned());
    let (args, options) = (Vec::new(), BTreeMap::new());
    let mut command = Command { name, args, options, file, line, fails };
    for (key, value) in words {
        match key {
            None => command.args.push(value),
            Some(key) if command.options.contains_key(&key) => {
                return Err(format!("option {key} is given twice"));
            }
            Some(key) => drop(command.options.insert(key, value)),
        }
    }
    Ok(command)
}

/// The words of a line, each with the key before its first `=` outside quotes.
fn words(text: &str) -> Result<Vec<(Option<String>, String)>, String> {
    let mut words = Vec::new();
    let mut word: Option<(Option<String>, String)> = None;
    let (mut quoted, mut chars) = (false, text.chars());
    while let Some(char) = chars.next() {
        if !quoted && char.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let (key, value) = word.get_or_insert_default();
        match char {
            '"' => quoted = !quoted,
            '\\' if quoted => value.push(match chars.next() {
                Some('n') => '\n',
                Some(char @ ('"' | '\\')) => char,
                other => return Err(format!("unknown escape {other:?}")),
            }),
            '=' if !quoted && key.is_none() && !value.is_empty() => {
                *key = Some(std::mem::take(value));
            }
            char => value.push(char),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// The block with its output, lines that are only expected with `-`, lines only found with `+`.
fn difference(file: &str, source: &str, line: usize, expected: &str, found: &str) -> String {
    let mut text = format!("{file}:{line}: the output differs (- expected, + found)\n");
    for line in source.trim().lines() {
        let _ = writeln!(text, "  {line}");
    }
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let first = expected.iter().zip(&found).take_while(same).count();
    let rest = expected[first..].iter().rev().zip(found[first..].iter().rev());
    let last = rest.take_while(same).count();
    let mut show = |mark: &str, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(text, "{mark} {line}");
        }
    };
    show(" ", &["---"]);
    show(" ", &expected[..first]);
    show("-", &expected[first..expected.len() - last]);
    show("+", &found[first..found.len() - last]);
    show(" ", &expected[expected.len() - last..]);
    text + "  (UPDATE_SCRIPTS=1 writes down what was found)"
}

fn or_panic<T, E: Debug>(path: &Path, result: Result<T, E>) -> T {
    result.unwrap_or_else(|err| panic!("{}: {err:?}", path.display()))
}
