//! The script runner itself: it must not accept what it should refuse.

mod support;

use support::script::{self, Command};

fn interpret(command: &Command) -> String {
    match command.name.as_str() {
        "show" => {
            let args = command.args.iter().map(|arg| format!(" {arg:?}"));
            let options = command.options.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("show{}", args.chain(options).collect::<String>())
        }
        "nothing" => String::new(),
        "lines" => command.arg(0),
        "fail" => format!("error: {}", command.arg::<String>(0)),
        "add" => (command.arg::<u8>(0) + command.required::<u8>("to")).to_string(),
        "panic" => panic!("as asked"),
        _ => command.reject("unknown command"),
    }
}

/// What the runner says of `text`, and the text as it stands afterwards.
fn check(text: &str, update: bool) -> (String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let result = script::check(file.path(), update, &mut |command| interpret(command));
    let after = std::fs::read_to_string(file.path()).unwrap();
    (result.err().unwrap_or_default(), after)
}

#[test]
fn scripts_run() {
    for path in script::scripts("tests/script") {
        script::run(&path, &mut |command| interpret(command));
    }
}

#[test]
fn a_different_output_is_shown_with_its_place() {
    let (told, after) =
        check("# Claim.\nshow a\nlines \"1\\n2\\n3\"\n---\nshow \"a\"\n1\n3\n", false);
    let (first, rest) = told.split_once('\n').unwrap();
    assert!(first.contains(":2: the output differs"), "{first}");
    let lines = "  # Claim.\n  show a\n  lines \"1\\n2\\n3\"\n  ---\n  show \"a\"\n  1\n+ 2\n  3\n";
    assert!(rest.starts_with(lines), "{rest}");
    assert!(after.ends_with("1\n3\n"), "nothing is written down unasked: {after}");
}

#[test]
fn an_update_writes_the_output_and_nothing_else() {
    let text = "# Claim.\n\n# Why.\nshow a\n\nnothing\n---\nold\n\nshow b\n";
    let want = "# Claim.\n\n# Why.\nshow a\n---\nshow \"a\"\n\nnothing\n---\nok\n\nshow b\n---\nshow \"b\"\n";
    let (told, after) = check(text, true);
    assert_eq!((told.as_str(), after.as_str()), ("", want));
    assert_eq!(check(want, false).0, "", "what was written down is what is expected");
    assert_eq!(check(want, true).1, want, "a second update changes nothing");
}

#[test]
fn what_is_wrong_with_a_script_is_said() {
    let cases = [
        ("show a\n---\nshow \"a\"\n", ":1: the first line must be a comment"),
        ("# Claim.\nshow a\n", ":2: the output differs"),
        ("# Claim.\nshow a\n---\n", ":2: the output differs"),
        ("# Claim.\n!show a\n---\nshow \"a\"\n", ":2: did not fail"),
        ("# Claim.\nfail a\n---\nerror: a\n", ":2: failed"),
        ("# Claim.\nshow \"a\n---\n", ":2: a quote is not closed"),
        ("# Claim.\nshow a=1 a=2\n---\n", ":2: option a is given twice"),
        ("# Claim.\n!\n---\n", ":2: no command"),
    ];
    for (text, why) in cases {
        let (told, _) = check(text, false);
        assert!(told.contains(why), "{text:?} gives {told:?}, not {why:?}");
    }
}

#[test]
fn a_wrong_argument_is_told_with_file_and_line() {
    let cases = [
        ("add", "add: argument 0 is missing"),
        ("add 300", "add: argument 0 \"300\": number too large"),
        ("add 3", "add: option to is missing"),
        ("add 3 to=x", "add: option to \"x\": invalid digit"),
        ("what", "what: unknown command"),
    ];
    for (line, why) in cases {
        let text = format!("# Claim.\n{line}\n---\nok\n");
        let panic = std::panic::catch_unwind(|| check(&text, false)).unwrap_err();
        let told = panic.downcast_ref::<String>().unwrap();
        assert!(told.contains(":2: ") && told.contains(why), "{line}: {told}");
    }
}

#[test]
fn lists_and_unknown_words() {
    let command = Command {
        name: "drop".into(),
        args: vec!["1".into(), "2".into()],
        options: [("to".to_owned(), "2,3".to_owned())].into(),
        file: "a.txt".into(),
        line: 7,
        fails: false,
    };
    assert_eq!(command.list::<u64>("to"), [2, 3]);
    assert_eq!(command.list::<u64>("from"), []);
    assert_eq!(command.args_from::<u64>(1), [2]);
    assert_eq!(command.option_or("from", 9_u64), 9);
    command.expect(2, &["to"]);
    assert!(std::panic::catch_unwind(|| command.expect(1, &["to"])).is_err());
    assert!(std::panic::catch_unwind(|| command.expect(2, &["from"])).is_err());
}
