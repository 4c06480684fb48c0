//! Rust source as tokens: enough to tell what a file names, without comments and strings.
//!
//! Not a parser: it knows identifiers, literals, `::`, braces, attributes, modules and functions.
//! What a macro expands to is not seen.

/// An identifier, a number, `::`, or one other character. A string is `"`, a character `'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it says.
    pub text: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// The tokens of `text`.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut line, mut at) = (Vec::new(), 1, 0);
    while at < chars.len() {
        let end = at + length(&chars[at..]);
        let piece: String = chars[at..end].iter().collect();
        let token = match chars[at] {
            char if char.is_whitespace() => None,
            '/' if piece.len() > 1 => None,
            _ if piece.ends_with('"') || piece.ends_with("\"#") => Some("\"".to_owned()),
            _ if piece.len() > 1 && piece.ends_with('\'') => Some("'".to_owned()),
            _ => Some(piece.trim_start_matches("r#").to_owned()),
        };
        tokens.extend(token.map(|text| Token { text, line, test: false }));
        line += piece.matches('\n').count();
        at = end;
    }
    mark_tests(&mut tokens);
    tokens
}

/// How many characters the first piece of `rest` has.
fn length(rest: &[char]) -> usize {
    let word = |from: usize| {
        from + rest[from..]
            .iter()
            .take_while(|char| char.is_alphanumeric() || **char == '_')
            .count()
    };
    let until = |from: usize, end: &[char]| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |found| from + found + end.len())
    };
    let next = |index: usize| rest.get(index).copied().unwrap_or(' ');
    match rest[0] {
        '/' if next(1) == '/' => until(2, &['\n']) - 1,
        '/' if next(1) == '*' => block_comment(rest),
        ':' if next(1) == ':' => 2,
        '"' => quoted(rest, 1),
        'b' | 'c' if next(1) == '"' => quoted(rest, 2),
        'b' if next(1) == '\'' => character(rest, 2),
        '\'' if next(1) == '\\' || next(2) == '\'' => character(rest, 1),
        '\'' => word(1),
        'r' | 'b' | 'c' => {
            let prefix = if next(1) == 'r' { 2 } else { 1 };
            let hashes = rest[prefix..].iter().take_while(|char| **char == '#').count();
            match next(prefix + hashes) {
                '"' if rest[0] == 'r' || prefix == 2 => {
                    let mut end = vec!['"'];
                    end.resize(hashes + 1, '#');
                    until(prefix + hashes + 1, &end)
                }
                _ if rest[0] == 'r' && hashes == 1 && prefix == 1 => word(2),
                _ => word(0),
            }
        }
        char if char.is_ascii_digit() => match word(0) {
            end if next(end) == '.' && next(end + 1).is_ascii_digit() => word(end + 1),
            end => end,
        },
        char if char.is_alphabetic() || char == '_' => word(0),
        _ => 1,
    }
}

fn quoted(rest: &[char], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn character(rest: &[char], from: usize) -> usize {
    let escaped = usize::from(rest.get(from) == Some(&'\\'));
    let end = rest[from + 1 + escaped..].iter().position(|char| *char == '\'');
    end.map_or(rest.len(), |end| from + escaped + end + 2)
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Marks what stands under `#[cfg(test)]` or `#[test]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let gated = [&["#", "[", "test", "]"][..], &["#", "[", "cfg", "(", "test", ")", "]"]];
        if gated.iter().any(|attribute| says(&tokens[at..], attribute)) {
            let end = item_end(tokens, at);
            tokens[at..end].iter_mut().for_each(|token| token.test = true);
            at = end;
        } else {
            at += 1;
        }
    }
}

/// Behind the item that begins at `at`: behind its braces, or its semicolon if that comes first.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" if depth == 1 => return index + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Whether `tokens` begin with `texts`.
pub fn says(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && texts.iter().zip(tokens).all(|(text, token)| token.text == *text)
}

/// A path as it is meant from the crate's root, or from another crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its names: `crate::a::b` is `[crate, a, b]`, and so is `super::b` in module `a`.
    pub names: Vec<String>,
    /// Where it stands.
    pub line: usize,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// All paths that begin with `crate`, `super` or `std`, in a file that is the module `module`.
pub fn paths(tokens: &[Token], module: &[&str]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut depth = 0;
    let mut inline: Vec<(usize, &str)> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let inside = index > 0 && tokens[index - 1].text == "::";
        let opens = says(&tokens[(index + 1).min(tokens.len())..], &["::"]);
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if index >= 2 && tokens[index - 2].text == "mod" {
                    inline.push((depth, &tokens[index - 1].text));
                }
            }
            "}" => {
                inline.retain(|(at, _)| *at < depth);
                depth -= 1;
            }
            "crate" | "super" | "std" if opens && !inside => {
                let mut here: Vec<String> = vec!["crate".into()];
                here.extend(module.iter().map(|name| name.to_string()));
                here.extend(inline.iter().map(|(_, name)| name.to_string()));
                let first = match token.text.as_str() {
                    "super" => here[..here.len().max(2) - 1].to_vec(),
                    name => vec![name.to_owned()],
                };
                let mut at = index + 2;
                for names in tree(tokens, &mut at, &first) {
                    paths.push(Path { names, line: token.line, test: token.test });
                }
            }
            _ => {}
        }
    }
    paths
}

/// The paths of the tree at `at`, such as `a::{b, c::d}`, each behind `before`.
fn tree(tokens: &[Token], at: &mut usize, before: &[String]) -> Vec<Vec<String>> {
    let mut names = before.to_vec();
    loop {
        match tokens.get(*at).map(|token| token.text.as_str()) {
            Some("{") => {
                let mut found = Vec::new();
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    let from = *at;
                    found.extend(tree(tokens, at, &names));
                    while tokens.get(*at).is_some_and(|token| token.text == ",")
                        || (*at == from && *at < tokens.len())
                        || says(&tokens[(*at).min(tokens.len())..], &["as"])
                    {
                        *at += if tokens[*at].text == "as" { 2 } else { 1 };
                    }
                }
                *at += 1;
                return found;
            }
            Some("super") if names.len() > 1 => drop(names.pop()),
            Some("self") => {}
            Some(name) => names.push(name.to_owned()),
            None => return vec![names],
        }
        *at += 1;
        if !says(&tokens[(*at).min(tokens.len())..], &["::"]) {
            return vec![names];
        }
        *at += 1;
    }
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// How many lines it has.
    pub lines: usize,
}

/// The functions with a body.
pub fn functions(tokens: &[Token]) -> Vec<Function> {
    let starts = tokens.windows(2).enumerate().filter(|(_, pair)| {
        pair[0].text == "fn" && pair[1].text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    });
    starts
        .map(|(index, pair)| {
            let last = &tokens[item_end(tokens, index) - 1];
            let (name, line) = (pair[1].text.clone(), pair[0].line);
            Function { name, line, lines: last.line - line + 1 }
        })
        .collect()
}
