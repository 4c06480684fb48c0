//! The rules that no compiler checks: who may import whom, what the pure middle must not touch,
//! how long a function and a file may be, and that every link in the documents leads somewhere.
//!
//! Each rule is tried on snippets that break it, so that it cannot pass by seeing nothing.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod support;

use std::path::Path;

use support::source::{self, Token, says};

/// Which layers a layer may import, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("sync", &[]),
    ("paxos", &["types"]),
    ("store", &["types"]),
    ("transport", &["types"]),
    ("journal", &["types"]),
    ("runtime", &["types", "sync", "paxos", "journal", "store", "transport"]),
    // `RawTable` and `replica`: a simulated replica is called as any other.
    ("sim", &["types", "paxos", "journal", "store", "transport", "runtime", "replica", "RawTable"]),
];

/// What the files at the top of `src/` may import of the layers.
const FACADE_IMPORTS: &[&str] = &["types", "store", "runtime", "transport", "journal"];

/// What they may name of the journal: how it is opened, not what it does.
const FACADE_OF_JOURNAL: &[&str] = &["Options"];

/// The files at the top of `src/`: each may import those with a lower rank.
const FACADE: &[(&str, usize)] = &[
    ("key", 0),
    ("leader", 0),
    ("config", 0),
    ("network", 0),
    ("status", 0),
    ("table", 1),
    ("builder", 1),
    ("transaction", 2),
    ("record", 3),
    ("snapshot", 3),
    ("history", 4),
    ("replica", 5),
    ("members", 6),
    ("backup", 6),
    ("restore", 7),
    ("resolve", 6),
    ("maintenance", 6),
];

/// The deterministic middle: what the simulator runs must be what ships.
const PURE: &[&str] =
    &["src/types/", "src/paxos/", "src/store/", "src/sim/", "src/runtime/driver.rs"];

/// The only file that spawns threads and reads clocks.
const THREADS: &str = "src/runtime/threads.rs";

/// The longest a line, a function and a file may be.
const LINE_COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Longer files, with the lines they have. A number may only become smaller.
const LONG_FILES: &[(&str, usize)] = &[];

/// Longer functions, as `file: name`, with the lines they have. A number may only become smaller.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// What is wrong with the Rust file at `path`, each with its line.
fn check_rust(path: &str, text: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    let mut wrong: Vec<(usize, String)> = Vec::new();
    if !text.starts_with("//! ") {
        wrong.push((1, "does not begin with `//!` and what it is".into()));
    }
    check_lines(text, &mut wrong);
    check_lengths(path, text, &tokens, &mut wrong);
    check_attributes(&tokens, &mut wrong);
    if path.starts_with("src/") {
        check_layers(path, &tokens, &mut wrong);
        check_calls(path, &tokens, &mut wrong);
        check_purity(path, &tokens, &mut wrong);
    }
    wrong.into_iter().map(|(line, why)| format!("{path}:{line}: {why}")).collect()
}

fn check_lines(text: &str, wrong: &mut Vec<(usize, String)>) {
    for (index, line) in text.lines().enumerate() {
        if line.chars().count() > LINE_COLUMNS_MAX {
            wrong.push((index + 1, format!("is longer than {LINE_COLUMNS_MAX} columns")));
        }
        for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
            if line.contains(mark) {
                wrong.push((index + 1, format!("says {mark}")));
            }
        }
    }
}

fn check_lengths(path: &str, text: &str, tokens: &[Token], wrong: &mut Vec<(usize, String)>) {
    let lines = text.lines().count();
    wrong.extend(ratchet(LONG_FILES, path, lines, FILE_LINES_MAX).map(|why| (1, why)));
    for function in source::functions(tokens) {
        let name = format!("{path}: {}", function.name);
        let why = ratchet(LONG_FUNCTIONS, &name, function.lines, FUNCTION_LINES_MAX);
        wrong.extend(why.map(|why| (function.line, format!("function {} {why}", function.name))));
    }
}

/// What is wrong with something of `lines` lines, where `max` is the rule and `known` the
/// exceptions.
fn ratchet(known: &[(&str, usize)], name: &str, lines: usize, max: usize) -> Option<String> {
    let exception = known.iter().find(|(known, _)| *known == name).map(|(_, lines)| *lines);
    match exception {
        None if lines > max => Some(format!("has {lines} lines, more than {max}")),
        Some(was) if lines > was => Some(format!("has grown from {was} lines to {lines}")),
        Some(was) if lines < was && lines > max => {
            Some(format!("has shrunk: lower its exception from {was} to {lines}"))
        }
        Some(_) if lines <= max => Some("needs no exception any more: remove it".into()),
        _ => None,
    }
}

fn check_attributes(tokens: &[Token], wrong: &mut Vec<(usize, String)>) {
    for (index, token) in tokens.iter().enumerate() {
        let rest = &tokens[index..];
        if !says(rest, &["#", "["]) && !says(rest, &["#", "!", "["]) {
            continue;
        }
        let end = rest.iter().position(|token| token.text == "]").unwrap_or(rest.len());
        let silences = rest[..end]
            .windows(2)
            .any(|pair| says(pair, &["allow", "("]) || says(pair, &["expect", "("]));
        if silences && !rest[..end].iter().any(|token| token.text == "reason") {
            wrong.push((token.line, "silences a lint without a reason".into()));
        }
    }
}

/// The layer, or the name of the file at the top, that `path` belongs to.
fn module(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    inner.split('/').filter(|name| !matches!(*name, "mod" | "lib")).collect()
}

fn check_layers(path: &str, tokens: &[Token], wrong: &mut Vec<(usize, String)>) {
    let module = module(path);
    let Some(own) = module.first() else { return }; // lib.rs decides what is visible: it names all.
    if *own == "bin" {
        return;
    }
    let layer = LAYERS.iter().find(|(name, _)| name == own).map(|(_, imports)| *imports);
    let rank = FACADE.iter().find(|(name, _)| name == own).map(|(_, rank)| *rank);
    if layer.is_none() && rank.is_none() {
        wrong.push((
            1,
            format!("{own} has no place among the layers: give it one in tests/tidy.rs"),
        ));
        return;
    }
    for named in source::paths(tokens, &module) {
        let [root, target, rest @ ..] = named.names.as_slice() else { continue };
        if root != "crate" || target == own {
            continue;
        }
        let lower =
            FACADE.iter().any(|(name, of)| name == target && rank.is_some_and(|rank| *of < rank));
        let allowed = lower || layer.unwrap_or(FACADE_IMPORTS).contains(&target.as_str());
        if !allowed {
            wrong.push((named.line, format!("{own} imports {target}")));
        } else if layer.is_none()
            && target == "journal"
            && !rest.first().is_some_and(|name| FACADE_OF_JOURNAL.contains(&name.as_str()))
        {
            wrong.push((named.line, format!("{own} names more of the journal than its options")));
        }
    }
}

fn check_calls(path: &str, tokens: &[Token], wrong: &mut Vec<(usize, String)>) {
    let tested = path.ends_with("/tests.rs");
    for (index, token) in tokens.iter().enumerate() {
        let rest = &tokens[index..];
        let mut found = |rule: bool, why: &str| {
            if rule && !token.test && !tested {
                wrong.push((token.line, why.into()));
            }
        };
        found(says(rest, &[".", "unwrap", "("]), "calls unwrap(): say why it cannot fail");
        found(says(rest, &["todo", "!"]), "has a todo!");
        found(says(rest, &["unimplemented", "!"]), "has an unimplemented!");
        // A program may do what the library may not.
        if path != THREADS && !path.starts_with("src/bin/") {
            let spawns = says(rest, &["thread", "::", "spawn"])
                || says(rest, &["thread", "::", "scope"])
                || says(rest, &["thread", "::", "Builder"]);
            found(spawns, "spawns a thread: only runtime/threads.rs does");
            let reads = says(rest, &["Instant", "::", "now"])
                || says(rest, &["SystemTime", "::", "now"])
                || says(rest, &["UNIX_EPOCH", ".", "elapsed"]);
            found(reads, "reads a clock: only runtime/threads.rs does");
        }
        if path != "src/types/codec.rs" {
            found(token.text == "bincode", "names bincode: only types/codec.rs does");
        }
        if !path.starts_with("src/journal/") && !path.starts_with("src/sim/") {
            let mints = says(rest, &["DurableFrontier", "::", "mint"]);
            found(mints, "mints a durable frontier: only the journal does");
        }
    }
}

fn check_purity(path: &str, tokens: &[Token], wrong: &mut Vec<(usize, String)>) {
    let pure = PURE.iter().any(|prefix| path.starts_with(prefix));
    let runtime = path.starts_with("src/runtime/") && path != THREADS;
    if !pure && !runtime {
        return;
    }
    let worlds: &[&str] =
        if pure { &["thread", "fs", "net", "process", "env"] } else { &["fs", "net"] };
    let own = module(path);
    for named in source::paths(tokens, &own).iter().filter(|named| !named.test) {
        let [root, target, ..] = named.names.as_slice() else { continue };
        if root == "std" && worlds.contains(&target.as_str()) {
            wrong.push((named.line, format!("names std::{target}")));
        }
    }
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| !token.test) {
        let text = token.text.as_str();
        let forbidden = matches!(text, "SystemTime")
            || pure && matches!(text, "HashMap" | "HashSet" | "getrandom" | "RandomState");
        let before = |count: usize| index >= count && tokens[index - count].text == ".";
        let field = before(1) && !before(2); // The `0.1` of `pair.0.1`.
        let digits = !field && text.starts_with(|char: char| char.is_ascii_digit());
        let float = matches!(text, "f32" | "f64")
            || digits && (text.contains('.') || text.ends_with("f32") || text.ends_with("f64"));
        if forbidden || float && path.starts_with("src/store/") {
            wrong.push((token.line, format!("names {text}: the same on every replica, always")));
        }
    }
}

/// Which links of the document at `path` lead nowhere; `exists` knows the files of the project.
fn check_links(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere =
                target.is_empty() || target.contains("://") || target.contains("mailto:");
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !elsewhere && !exists(&format!("{folder}/{target}")) {
                wrong.push(format!("{path}:{}: the link to {target} leads nowhere", index + 1));
            }
        }
    }
    wrong
}

/// The files of the project whose names end with `suffix`, relative to it, with their text.
fn files(suffix: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(suffix) {
                let relative = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.push((relative, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn source_is_tidy() {
    let files = files(".rs");
    for (layer, _) in LAYERS {
        let within = format!("src/{layer}/");
        assert!(files.iter().any(|(path, _)| path.starts_with(&within)), "no file in {within}");
    }
    let wrong: Vec<_> = files.iter().flat_map(|(path, text)| check_rust(path, text)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    for (name, _) in LONG_FILES.iter().chain(LONG_FUNCTIONS) {
        let path = name.split(": ").next().unwrap();
        assert!(
            files.iter().any(|(known, _)| known == path),
            "exception for {name}, which is gone"
        );
    }
}

#[test]
fn scripts_begin_with_their_claim() {
    let scripts = files(".txt").into_iter().filter(|(path, _)| path.starts_with("tests/"));
    let (mut seen, mut silent) = (0, Vec::new());
    for (path, text) in scripts {
        seen += 1;
        silent.extend((!text.starts_with("# ")).then_some(path));
    }
    assert!(seen > 0, "no scripts found");
    assert!(silent.is_empty(), "no claim in the first line of {silent:?}");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = |path: &str| root.join(path.trim_start_matches('/')).exists();
    let documents = files(".md");
    let wrong: Vec<_> =
        documents.iter().flat_map(|(path, text)| check_links(path, text, &exists)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The public fields of a struct in `text`.
fn fields(text: &str, name: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    let begins = |at: &usize| says(&tokens[*at..], &["pub", "struct", name, "{"]);
    let begin = (0..tokens.len()).find(begins).expect("the struct is there");
    let end = tokens[begin..].iter().position(|token| token.text == "}").unwrap();
    let fields = tokens[begin..begin + end].windows(3).filter(|it| says(it, &["pub"]));
    fields.filter(|it| it[2].text == ":").map(|it| it[1].text.clone()).collect()
}

#[test]
fn operators_are_told_of_each_field_of_the_status() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let (source, document) = (read("src/status.rs"), read("docs/operations.md"));
    let (_, table) = document.split_once("## What `status()` says\n").unwrap();
    let rows = table.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let (mut own, mut of_peers) = (Vec::new(), Vec::new());
    for cell in rows.map(|row| row.split('|').nth(1).unwrap()) {
        let (here, peers) = cell.split_once("peer: ").unwrap_or((cell, ""));
        own.extend(here.split('`').skip(1).step_by(2));
        of_peers.extend(peers.split('`').skip(1).step_by(2));
    }
    // Which peer it is needs no row.
    of_peers.push("id");
    for (name, mut told) in [("Status", own), ("PeerStatus", of_peers)] {
        let mut fields = fields(&source, name);
        fields.sort();
        told.sort_unstable();
        assert!(fields.len() > 9, "{name}: {fields:?}");
        assert_eq!(told, fields, "the table of docs/operations.md, and the fields of {name}");
    }
}

/// What the rules say of a file that begins well and goes on with `text`.
fn told(path: &str, text: &str) -> String {
    check_rust(path, &format!("//! What it is.\n{text}")).join("\n")
}

#[test]
fn every_rule_sees_its_breach() {
    let long_function = format!("fn f() {{\n{}}}", "    g();\n".repeat(FUNCTION_LINES_MAX));
    let long_file = "// Line.\n".repeat(FILE_LINES_MAX);
    let wide = format!("// {}", "x".repeat(LINE_COLUMNS_MAX));
    let mark = concat!("// FIX", "ME: later");
    let cases = [
        // Layers.
        ("src/types/ids.rs", "use crate::paxos::Slot;", "types imports paxos"),
        ("src/paxos/log.rs", "use super::super::store::Store;", "paxos imports store"),
        ("src/paxos/mod.rs", "use super::journal;", "paxos imports journal"),
        ("src/store/mod.rs", "fn f(x: crate::runtime::X) {}", "store imports runtime"),
        ("src/store/mod.rs", "mod a { use super::super::runtime::X; }", "store imports runtime"),
        ("src/journal/mod.rs", "use crate::{types::ids, store};", "journal imports store"),
        ("src/transport/tcp.rs", "use crate::{self as me, runtime::{A, B}};", "imports runtime"),
        ("src/transport/tcp.rs", "type A = crate :: runtime :: B;", "imports runtime"),
        ("src/sim/mod.rs", "use crate::builder::Builder;", "sim imports builder"),
        ("src/runtime/mod.rs", "use crate::replica::Replica;", "runtime imports replica"),
        ("src/paxos/mod.rs", "use crate::config::Config;", "paxos imports config"),
        ("src/key.rs", "use crate::table::Table;", "key imports table"),
        ("src/transaction.rs", "use crate::snapshot::T;", "transaction imports snapshot"),
        ("src/replica.rs", "use crate::paxos::Paxos;", "replica imports paxos"),
        ("src/replica.rs", "use super::sim::Cluster;", "replica imports sim"),
        ("src/replica.rs", "use crate::journal::{Options, Journal};", "more of the journal"),
        ("src/replica.rs", "use crate::journal;", "more of the journal"),
        ("src/extra.rs", "", "extra has no place among the layers"),
        ("src/extra/mod.rs", "", "extra has no place among the layers"),
        // The pure middle.
        ("src/paxos/mod.rs", "fn f() { std::time::Instant::now(); }", "reads a clock"),
        ("src/store/mod.rs", "use std::time::{Duration, SystemTime};", "names SystemTime"),
        ("src/types/time.rs", "use std::{fmt, thread};", "names std::thread"),
        ("src/sim/mod.rs", "use std::fs::File;", "names std::fs"),
        ("src/paxos/mod.rs", "use std::net::TcpStream;", "names std::net"),
        ("src/runtime/driver.rs", "use std::collections::HashMap;", "names HashMap"),
        ("src/paxos/log.rs", "use std::collections::{BTreeMap, HashSet};", "names HashSet"),
        ("src/types/ids.rs", "fn f() { getrandom::fill(b); }", "names getrandom"),
        ("src/runtime/batcher.rs", "use std::fs;", "names std::fs"),
        ("src/store/apply.rs", "fn f(x: f64) {}", "names f64"),
        ("src/store/apply.rs", "const X: u8 = (2.5) as u8;", "names 2.5"),
        ("src/store/apply.rs", "const X: u8 = 2f32 as u8;", "names 2f32"),
        // Clocks and threads elsewhere.
        ("src/transport/tcp.rs", "fn f() { std::thread::spawn(g); }", "spawns a thread"),
        ("src/runtime/mod.rs", "fn f() { thread::Builder::new(); }", "spawns a thread"),
        ("src/journal/mod.rs", "fn f() { thread::scope(|_| ()); }", "spawns a thread"),
        ("src/journal/mod.rs", "fn f() { SystemTime::now(); }", "reads a clock"),
        // Names that belong to one file.
        ("src/table.rs", "use bincode::Options;", "names bincode"),
        ("src/runtime/driver.rs", "fn f() { DurableFrontier::mint(l); }", "mints"),
        // What stops a process, or puts off.
        ("src/table.rs", "fn f() { g().unwrap(); }", "calls unwrap()"),
        ("src/table.rs", "fn f() { g()\n.unwrap (); }", "calls unwrap()"),
        ("src/table.rs", "#[test]\nfn t() {}\nfn f() { g().unwrap(); }", "table.rs:4: calls"),
        ("src/table.rs", "fn f() { todo!() }", "has a todo!"),
        ("src/table.rs", "fn f() { unimplemented!() }", "has an unimplemented!"),
        ("tests/api.rs", mark, "tests/api.rs:2: says"),
        // Form.
        ("tests/api.rs", "#[allow(dead_code)]\nfn f() {}", "without a reason"),
        ("tests/api.rs", "#![expect(dead_code)]", "without a reason"),
        ("tests/api.rs", "#[cfg_attr(x, allow(unused))]\nfn f() {}", "without a reason"),
        ("examples/a.rs", &long_function, "function f has 72 lines"),
        ("examples/a.rs", &long_file, "has 501 lines"),
        ("examples/a.rs", &wide, "is longer than 100 columns"),
    ];
    for (path, text, why) in cases {
        let told = told(path, text);
        assert!(told.contains(why), "{path}: {text}\nis told {told:?}, not {why:?}");
        let last = told.lines().last().unwrap_or_default();
        assert!(told.lines().all(|line| line == last) || why == "names SystemTime", "{told}");
    }
    assert!(check_rust("src/types/a.rs", "// No header.\n")[0].contains("does not begin"));
}

#[test]
fn what_is_allowed_is_not_told() {
    let cases = [
        ("src/lib.rs", "mod paxos; pub use replica::Replica; pub use crate::store::X;"),
        ("src/paxos/log.rs", "use super::quorum::Quorum; use crate::types::ids::Slot;"),
        ("src/paxos/log.rs", "mod a { use super::B; mod c { use super::super::super::X; } }"),
        ("src/paxos/mod.rs", "pub(in crate::paxos) fn f() {} pub(crate) fn g() {}"),
        ("src/paxos/mod.rs", "// crate::store\n/* std::fs /* HashMap */ f() */\nfn f() {}"),
        ("src/paxos/mod.rs", "/// crate::store\nconst A: &str = \"crate::store \\\" HashMap\";"),
        ("src/paxos/mod.rs", "const A: &str = r#\"crate::store \" .unwrap()\"#; fn f<'a>() {}"),
        ("src/paxos/mod.rs", "const A: [char; 3] = ['\"', '\\'', '{']; const B: u8 = b'\"';"),
        ("src/replica.rs", "use crate::journal::{Options}; use crate::snapshot::Snapshot;"),
        ("src/replica.rs", "use crate::journal::Options as JournalOptions;"),
        ("src/runtime/threads.rs", "fn f() { std::thread::spawn(g); Instant::now(); }"),
        ("src/types/codec.rs", "use bincode::Options;"),
        ("src/journal/writer.rs", "fn f() { DurableFrontier::mint(lsn); }"),
        ("src/store/mod.rs", "#[cfg(test)]\nmod tests { use std::collections::HashSet; }"),
        ("src/store/mod.rs", "#[test]\nfn t() { g().unwrap(); }\n"),
        ("src/store/mod.rs", "fn f(x: (u8, u8)) { x.0.1; 1..2; }"),
        ("src/journal/frame.rs", "const X: f64 = 1.5;"),
        ("tests/api.rs", "#[allow(dead_code, reason = \"shared\")]\nfn f() { g().unwrap(); }"),
        ("src/bin/cli.rs", "use indelible::Replica;"),
    ];
    for (path, text) in cases {
        assert_eq!(told(path, text), "", "{path}: {text}");
    }
}

#[test]
fn exceptions_may_only_shrink() {
    let said = |lines, max| ratchet(&[("a", 90)], "a", lines, max).unwrap_or_default();
    assert!(said(91, 70).contains("has grown from 90"));
    assert!(said(80, 70).contains("lower its exception from 90 to 80"));
    assert!(said(70, 70).contains("remove it"));
    assert_eq!(said(90, 70), "");
    assert!(ratchet(&[], "a", 71, 70).is_some());
    assert!(ratchet(&[], "a", 70, 70).is_none());
}

#[test]
fn dead_links_are_seen() {
    let exists = |path: &str| path == "docs/a.md" || path == "/b.md";
    let good = "[a](a.md#part) [x](https://example.com) [y](#here)\n```\n[z](none.md)\n```\n";
    assert_eq!(check_links("docs/index.md", good, &exists), Vec::<String>::new());
    assert_eq!(check_links("README.md", "[b](b.md)", &exists), Vec::<String>::new());
    let wrong = check_links("docs/index.md", "ok\n[b](b.md) [a](a.md)\n", &exists);
    assert_eq!(wrong, ["docs/index.md:2: the link to b.md leads nowhere"]);
}
