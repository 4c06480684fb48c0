//! What git says of a repository: its commits with what each changed, and the tree of each.
//!
//! Everything is bytes: a path need not be UTF-8. Lists are separated by NUL, which no path has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::Result;

/// The paths of a tree, each with its mode and the hash of its content, as `100644 abc..`.
///
/// A symbolic link (120000) and a submodule (160000) are paths like any other.
pub type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// One commit of the main line.
#[derive(Debug)]
pub struct Commit {
    /// Its hash, in hexadecimal.
    pub id: String,
    /// The paths that differ from the commit before it, with their new mode and hash, or `None`
    /// where the path is gone. A merge differs from its first parent; a commit may change nothing.
    pub changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// The commits from the root to `HEAD`, always by the first parent.
pub fn history(repository: &Path) -> Result<Vec<Commit>> {
    let mut commits: Vec<Commit> = Vec::new();
    // What the user's configuration could change is said here: no renames, no relative paths, the
    // root as a change against nothing, and submodules like anything else.
    let listed = git(
        repository,
        &[
            &["-c", "log.showRoot=true", "-c", "log.showSignature=false", "log"][..],
            &["--reverse", "--first-parent", "-m", "--root", "--raw", "-z", "--no-abbrev"],
            &["--full-index", "--no-renames", "--no-relative", "--ignore-submodules=none"],
            &["--no-color", "--no-notes", "--no-ext-diff", "--format=commit %H %P", "HEAD", "--"],
        ]
        .concat(),
    )?;
    let mut words = listed.split(|byte| *byte == 0);
    while let Some(word) = words.next() {
        let word = word.strip_prefix(b"\n").unwrap_or(word);
        if let Some(change) = word.strip_prefix(b":") {
            // `:OLD_MODE NEW_MODE OLD_HASH NEW_HASH STATUS`, and then the path as it is.
            let path = words.next().ok_or("git named no path")?;
            let fields: Vec<_> = change.split(|byte| *byte == b' ').collect();
            let [_, mode, _, hash, _] = fields[..] else {
                return Err(unexpected(word).into());
            };
            let blob = (mode != b"000000").then(|| [mode, b" ", hash].concat());
            let commit = commits.last_mut().ok_or_else(|| unexpected(word))?;
            commit.changes.insert(path.to_vec(), blob);
        } else if let Some(header) = word.strip_prefix(b"commit ") {
            let header = std::str::from_utf8(header)?;
            let mut ids = header.split_whitespace();
            let id = ids.next().ok_or_else(|| unexpected(word))?.to_owned();
            if let (Some(before), Some(parent)) = (commits.last(), ids.next())
                && before.id != parent
            {
                return Err(format!("{id} has the parent {parent}, not {}", before.id).into());
            }
            commits.push(Commit { id, changes: BTreeMap::new() });
        } else if !word.is_empty() {
            return Err(unexpected(word).into());
        }
    }
    if commits.is_empty() {
        return Err(format!("{} has no commits", repository.display()).into());
    }
    Ok(commits)
}

/// Whether older commits than the first one are missing here. Then git shows that first one as a
/// root that adds everything, so that its tree is right all the same.
pub fn is_shallow(repository: &Path) -> Result<bool> {
    Ok(git(repository, &["rev-parse", "--is-shallow-repository"])?.trim_ascii() == b"true")
}

/// All paths of a commit.
pub fn tree(repository: &Path, commit: &str) -> Result<Tree> {
    let listed = git(repository, &["ls-tree", "-r", "-z", "--full-tree", commit])?;
    let entries = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            // `MODE TYPE HASH`, a tab, and then the path as it is.
            let tab = entry.iter().position(|byte| *byte == b'\t');
            let (facts, path) = entry.split_at(tab.ok_or_else(|| unexpected(entry))?);
            let fields: Vec<_> = facts.split(|byte| *byte == b' ').collect();
            let [mode, _, hash] = fields[..] else { return Err(unexpected(entry).into()) };
            Ok((path[1..].to_vec(), [mode, b" ", hash].concat()))
        })
        .collect()
}

fn git(repository: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(arguments);
    let output = command.output().map_err(|err| format!("cannot run git: {err}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("git in {}: {told}", repository.display()).into());
    }
    Ok(output.stdout)
}

fn unexpected(entry: &[u8]) -> String {
    format!("git said something unexpected: {:?}", String::from_utf8_lossy(entry))
}
