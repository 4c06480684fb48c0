//! Makes git repositories: always the same one for the same number of commits.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a repository in `directory`, with so many commits on its main line. Besides plain changes
/// there are merges, commits that change nothing, deletions, moves, changes of mode only, symbolic
/// links, submodules, and paths with every byte that a path can have.
pub fn make(directory: &Path, commits: usize) -> std::io::Result<()> {
    let mut stream = tempfile::tempfile()?;
    let mut history = History::default();
    let mut text = Vec::new();
    for index in 0..commits {
        history.commit(index, &mut text);
        stream.write_all(&text)?;
        text.clear();
    }
    stream.write_all(b"done\n")?;
    stream.rewind()?;
    git(directory, &["init", "--quiet", "--initial-branch=main", "."], None)?;
    git(directory, &["fast-import", "--quiet", "--done"], Some(stream))
}

/// The history as it grows.
#[derive(Default)]
struct History {
    random: u64,
    paths: BTreeSet<Vec<u8>>,
}

impl History {
    /// Writes one commit of the main line, and now and then a side line that it merges.
    fn commit(&mut self, index: usize, text: &mut Vec<u8>) {
        let merges = index > 10 && index.is_multiple_of(37);
        if merges {
            self.header("refs/heads/side", commit_mark(index) + 1, index, text);
            line(text, format!("from :{}", commit_mark(index - 1 - self.below(9))));
            self.file(b"side.txt", "100644", text);
        }
        self.header("refs/heads/main", commit_mark(index), index, text);
        if index > 0 {
            line(text, format!("from :{}", commit_mark(index - 1)));
        }
        if merges {
            line(text, format!("merge :{}", commit_mark(index) + 1));
        }
        match index % 23 {
            22 => {}
            21 => drop(self.remove(text)),
            20 => {
                let (from, content) = (self.remove(text), self.next());
                if let Some(from) = from {
                    self.put([&from[..], b".moved"].concat(), "100644", content, text);
                }
            }
            19 => self.mode_only(text),
            18 => {
                let path = format!("odd/link {index}").into_bytes();
                self.put(path, "120000", 7, text);
            }
            17 => {
                let hash = format!("{:040x}", self.next());
                line(text, format!("M 160000 {hash} modules/m{}", index % 5));
            }
            16 => {
                // Every byte but NUL and the slash, some of them no UTF-8, and spaces at the ends.
                let byte = u8::try_from(index / 23 % 255).unwrap_or_default() + 1;
                let byte = if byte == b'/' { b' ' } else { byte };
                let path = [b"odd/ \n\t\"\\".as_slice(), &[byte, 0xff, b' ']].concat();
                self.put(path, "100644", 0, text);
            }
            _ => {
                for _ in 0..=self.below(4) {
                    let (folder, name) = (self.below(40), self.below(60));
                    let path = format!("src/d{folder}/f{name}.rs").into_bytes();
                    let content = self.next();
                    self.put(path, "100644", content, text);
                }
            }
        }
        line(text, String::new());
    }

    fn header(&mut self, branch: &str, mark: usize, index: usize, text: &mut Vec<u8>) {
        line(text, format!("commit {branch}\nmark :{mark}"));
        line(text, format!("committer A <a@example.com> {} +0000", 1_000_000_000 + index));
        line(text, "data 1\nc".into());
    }

    fn put(&mut self, path: Vec<u8>, mode: &str, content: u64, text: &mut Vec<u8>) {
        self.random ^= content;
        self.file(&path, mode, text);
        self.paths.insert(path);
    }

    fn file(&mut self, path: &[u8], mode: &str, text: &mut Vec<u8>) {
        let content = format!("{:x}", self.next());
        line(text, format!("M {mode} inline {}", quoted(path)));
        line(text, format!("data {}\n{content}", content.len()));
    }

    /// Removes a path, if there are enough.
    fn remove(&mut self, text: &mut Vec<u8>) -> Option<Vec<u8>> {
        let path = self.some_path()?;
        line(text, format!("D {}", quoted(&path)));
        self.paths.remove(&path);
        Some(path)
    }

    /// Changes the mode of a file whose content stays.
    fn mode_only(&mut self, text: &mut Vec<u8>) {
        for mode in ["100644", "100755"] {
            line(text, format!("M {mode} inline tool.sh\ndata 2\n#!"));
        }
        if self.below(2) == 0 {
            line(text, "M 100644 inline tool.sh\ndata 2\n#!".into());
        }
    }

    fn some_path(&mut self) -> Option<Vec<u8>> {
        let index = self.below(self.paths.len().max(1));
        self.paths.iter().nth(index).cloned()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// A number that looks like any other (splitmix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn commit_mark(index: usize) -> usize {
    2 * index + 1
}

fn line(text: &mut Vec<u8>, line: String) {
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
}

/// A path as fast-import takes it: in quotes, each byte as three octal digits where need be.
fn quoted(path: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' => char::from(*byte).into(),
        byte => format!("\\{byte:03o}"),
    };
    format!("\"{}\"", path.iter().map(byte).collect::<String>())
}

fn git(directory: &Path, arguments: &[&str], input: Option<File>) -> std::io::Result<()> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments);
    command.stdin(input.map_or(Stdio::null(), Stdio::from));
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("git {arguments:?}: {status}")))
}
