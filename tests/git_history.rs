//! The example on a history of 5,000 commits, which has what real ones have and more.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "../examples/git_history.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;
#[path = "support/repository.rs"]
mod repository;

const COMMITS: usize = 5_000;

#[test]
fn three_replicas_agree_with_git() {
    let directory = tempfile::tempdir().unwrap();
    repository::make(directory.path(), COMMITS).unwrap();
    let report = example::run(directory.path()).unwrap();
    assert!(report.differences.is_empty(), "{:#?}", report.differences);
    assert!(report.keys > 1_000, "too small a tree: {report}");
    assert!(report.refused > 0, "no writer was ever refused: {report}");
    let (keys, refused) = (report.keys, report.refused);
    assert_eq!(
        report.to_string(),
        format!(
            "verified: commits=5000 keys={keys} replicas=3 refused={refused} failovers=1 \
             differences=0"
        )
    );
}

#[test]
fn a_history_of_one_commit_is_told_and_no_repository_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let err = example::run(directory.path()).unwrap_err();
    assert!(err.to_string().contains("not a git repository"), "{err}");
    repository::make(directory.path(), 1).unwrap();
    let report = example::run(directory.path()).unwrap();
    assert_eq!((report.commits, report.differences.len()), (1, 0), "{report}");
}
