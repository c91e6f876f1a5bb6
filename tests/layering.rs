//! Imports look one way: a station names only those below it, and a pure file names nothing that acts.
//!
//! # Scope
//! The sources are read as tokens, comments and strings left out; tests inside the sources are held to the same rule.
//! Every way to name another station is read: `crate::x`, `crate::{x, y::z}`, and `super::` where it climbs to the top.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::{fs, path::Path};

/// The stations, lowest first: each may name itself and those before it (docs/design.md).
const ORDER: [&str; 18] = [
    "error", "config", "dialect", "call", "answer", "store", "upstream", "guard", "cache",
    "similar", "ledger", "cassette", "warm", "admin", "listen", "stack", "app", "command",
];

/// What docs/design.md marks as pure, of what there is: each file has to say so. A folder ends with a slash.
const MARKED: [&str; 24] = [
    "error.rs",
    "config/check.rs",
    "dialect/",
    "call/",
    "answer/apology.rs",
    "answer/verdict.rs",
    "store/codec.rs",
    "upstream/headers.rs",
    "upstream/credential.rs",
    "listen/cors.rs",
    "listen/origin.rs",
    "guard/budget.rs",
    "guard/circuit.rs",
    "guard/class.rs",
    "guard/pace.rs",
    "guard/pause.rs",
    "guard/retry.rs",
    "cache/freshness.rs",
    "cache/storable.rs",
    "cache/proof.rs",
    "store/totals.rs",
    "ledger/totals.rs",
    "ledger/report.rs",
    "ledger/journal/books.rs",
];

/// What lies in a marked folder and is not pure: a new secret is drawn at random, a circuit takes a leave back, and a memo
/// remembers.
const UNMARKED: [&str; 4] = [
    "call/key/secret.rs",
    "call/keying/memo.rs",
    "call/keying/memo/alike.rs",
    "call/leave.rs",
];

/// Crates that act.
const ACTING: [&str; 7] = [
    "tokio",
    "tokio_util",
    "hyper",
    "hyper_util",
    "reqwest",
    "redis",
    "axum",
];

#[test]
fn no_station_imports_one_above_it() {
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| upward(path, text))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn pure_files_only_decide() {
    let sources = sources();
    let found: Vec<_> = sources
        .iter()
        .flat_map(|(path, text)| impure(path, text))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    let pure = sources.iter().filter(|(_, text)| says_pure(text)).count();
    assert!(pure > 20, "only {pure} sources say that they are pure");
}

#[test]
fn what_is_marked_as_pure_says_so() {
    let sources = sources();
    let silent: Vec<_> = sources
        .iter()
        .filter(|(path, text)| is_marked(path) && !says_pure(text))
        .map(|(path, _)| format!("src/{path} does not say `Pure.` in the first paragraph"))
        .collect();
    assert!(silent.is_empty(), "\n{}", silent.join("\n"));
}

#[test]
fn a_file_is_pure_if_its_first_paragraph_says_so() {
    for (text, pure) in [
        ("//! Decides. Pure.\n\nuse std::fs;", true),
        (
            "//! Decides: a long\n//! sentence. Pure: in and out.\n//!\n//! # Scope",
            true,
        ),
        ("//! Pure.", true),
        ("//! Decides.\n//!\n//! Pure.", false),
        ("//! Decides.\nfn f() {} // Pure.", false),
        ("//! ImPure. Purely so. pure.", false),
        ("", false),
    ] {
        assert_eq!(says_pure(text), pure, "{text}");
    }
}

#[test]
fn every_source_belongs_to_a_station() {
    let sources = sources();
    assert!(sources.len() > 5, "only {} sources found", sources.len());
    for (path, _) in sources {
        let top = ["main.rs", "lib.rs"].contains(&path.as_str());
        assert!(
            top || rank(station(&path)).is_some(),
            "src/{path} belongs to no station"
        );
    }
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for text in [
        "use crate::listen::Edge;",
        "use crate::{error::Error, listen};",
        "use crate::{\n    error::{self, Error},\n    call::{key::{Key}, Call},\n    listen::edge,\n};",
        "fn f() -> crate::listen::Edge { todo() }",
        "use super::super::listen::Edge;",
        "use super::{super::listen::Edge, freshness};",
        "mod tests { use super::super::super::listen::Edge; }",
        "use crate :: listen;",
        "pub use crate::listen as door;",
        "fn a<'a>(x: &'a str) -> char { '\"' } use crate::listen;",
        "const A: &str = r#\"\"#; use crate::listen;",
    ] {
        assert_eq!(upward("cache/freshness.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn what_only_looks_like_an_upward_import_is_none() {
    for text in [
        "// use crate::listen;",
        "/* use crate::listen; /* nested */ use crate::listen; */",
        "/// See [`crate::listen`].",
        "const A: &str = \"use crate::listen;\";",
        "const A: &str = r##\"use \"# crate::listen;\"##;",
        "const A: &[u8] = b\"\\\" use crate::listen;\";",
        "use crate::cache::listen;",
        "use crate::{error::listen, cache::{listen}};",
        "use super::listen;",
        "use super::{super::cache, listen};",
        "use super::{self, storable};",
        "mod tests { use super::super::listen; }",
        "use other_crate::listen;",
        "pub(in crate::cache) fn listen() {}",
        "pub(crate) fn listen() {}",
    ] {
        assert_eq!(
            upward("cache/freshness.rs", text),
            Vec::<String>::new(),
            "{text}"
        );
    }
}

#[test]
fn a_station_that_nobody_knows_is_an_error() {
    assert_eq!(
        upward("command/serve.rs", "use crate::utils::helper;").len(),
        1
    );
}

#[test]
fn the_top_may_name_every_station() {
    assert_eq!(
        upward("main.rs", "use crate::command;"),
        Vec::<String>::new()
    );
}

#[test]
fn a_pure_file_that_acts_is_found() {
    for text in [
        "use tokio::time::sleep;",
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "let now = std::time::Instant::now();",
        "let now = SystemTime::now();",
        "let age = made.elapsed();",
        "let age = made\n    .elapsed ( );",
        "fn f(body: hyper::body::Incoming) {}",
        "use crate::dialect; use redis as r;",
    ] {
        let found = |text: &str| impure("store/codec.rs", text).len();
        assert_eq!(found(&format!("//! Pure.\n{text}")), 1, "{text}");
        assert_eq!(found(&format!("//! Acts.\n{text}")), 0, "{text}");
    }
}

#[test]
fn a_pure_file_may_speak_of_time_and_have_fields_called_as_it_likes() {
    for text in [
        "use std::time::{Duration, Instant, SystemTime}; fn f(now: Instant) {}",
        "// tokio is far from here",
        "struct A { fs: u8, elapsed: u8 } fn f(a: A) -> u8 { a.elapsed }",
        "const A: &str = \"hyper\";",
    ] {
        let found = impure("dialect/sse.rs", &format!("//! Pure.\n{text}"));
        assert_eq!(found, Vec::<String>::new(), "{text}");
    }
}

/// Returns every source under `src`, as its path from there and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push((name(&path, &root), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

fn name(path: &Path, root: &Path) -> String {
    path.strip_prefix(root)
        .unwrap()
        .to_str()
        .unwrap()
        .replace('\\', "/")
}

/// Returns the station that the file at `path` belongs to.
fn station(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn rank(station: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == station)
}

/// Returns a complaint for each import of the source `text` at `path` that does not look down.
fn upward(path: &str, text: &str) -> Vec<String> {
    let Some(here) = rank(station(path)) else {
        return Vec::new();
    };
    let tokens = tokens(text);
    let mut named = under(&tokens, "crate");
    named.extend(climbs(&tokens, depth(path)));
    let wrong = named.into_iter().filter_map(|name| match rank(&name) {
        Some(there) if there <= here => None,
        Some(_) => Some(format!("src/{path} looks up to `{name}`")),
        None => Some(format!("src/{path} names `{name}`, which is no station")),
    });
    wrong.collect()
}

/// Returns a complaint for each thing that the source `text` at `path` names although it says that it is pure.
fn impure(path: &str, text: &str) -> Vec<String> {
    if !says_pure(text) {
        return Vec::new();
    }
    let tokens = tokens(text);
    let crates = crates(&tokens).filter(|name| ACTING.contains(&name.as_str()));
    let files = under(&tokens, "std")
        .into_iter()
        .filter(|name| name == "fs");
    let named = crates.chain(files).chain(clocks(&tokens));
    named
        .map(|name| format!("src/{path} is pure and names `{name}`"))
        .collect()
}

/// Returns what paths begin with, or are: every name that is used, or goes on with `::`, and is not behind one itself.
fn crates(tokens: &[String]) -> impl Iterator<Item = String> {
    let is_path = |pair: &[String]| *pair == [":", ":"];
    let begins = move |at: &usize| {
        let (before, after) = tokens.split_at(*at);
        let is_used = before.last().is_some_and(|token| token == "use");
        let goes_on = after.get(1..3).is_some_and(is_path);
        let is_behind = before.len() > 1 && is_path(&before[before.len() - 2..]);
        (is_used || goes_on) && !is_behind
    };
    let starts = (0..tokens.len()).filter(begins);
    starts.map(|at| tokens[at].clone())
}

/// Returns every look at a clock.
fn clocks(tokens: &[String]) -> Vec<String> {
    let now = |window: &&[String]| {
        let [clock, path @ .., now] = window else {
            return false;
        };
        ["Instant", "SystemTime"].contains(&clock.as_str()) && path == [":", ":"] && now == "now"
    };
    let elapsed = |window: &&[String]| *window == [".", "elapsed", "("];
    let looks = tokens.windows(4).filter(now);
    let looks = looks.chain(tokens.windows(3).filter(elapsed));
    looks.map(<[String]>::concat).collect()
}

/// Returns whether the first paragraph of a module's doc says that it is pure.
fn says_pure(text: &str) -> bool {
    let doc = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut words = doc
        .take_while(|line| !line.trim().is_empty())
        .flat_map(str::split_whitespace);
    words.any(|word| ["Pure.", "Pure:"].contains(&word))
}

/// Returns whether the source at `path` has to be pure. Tests need not.
fn is_marked(path: &str) -> bool {
    let covers =
        |marked: &str| path == marked || (marked.ends_with('/') && path.starts_with(marked));
    let is_test = path
        .split('/')
        .any(|name| ["tests", "tests.rs"].contains(&name));
    MARKED.into_iter().any(covers) && !UNMARKED.contains(&path) && !is_test
}

/// Returns how many `super` lead from the module in the file at `path` to the crate's top.
fn depth(path: &str) -> usize {
    let segments = path.split('/').count();
    segments - usize::from(path.ends_with("/mod.rs"))
}

/// Returns the names that stand directly under `root`: `x` in `root::x::y` and in `root::{x::y, ..}`.
fn under(tokens: &[String], root: &str) -> Vec<String> {
    let roots = (0..tokens.len()).filter(|at| tokens[*at] == root && !follows_path(tokens, *at));
    let heads = roots.flat_map(|at| heads(tokens, at + 1));
    heads.map(|at| tokens[at].clone()).collect()
}

/// Returns the names that `super::super::…` reaches at the crate's top, from a module that lies `depth` below it.
fn climbs(tokens: &[String], depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    // Each open brace, and whether it opened a module: those count as depth.
    let mut braces: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => drop(braces.pop()),
            "super" if !follows_path(tokens, at) => {
                let inline = braces.iter().filter(|module| **module).count();
                names.extend(climb(tokens, at, depth + inline));
            }
            _ => {}
        }
    }
    names
}

/// Returns what the `super` at `at` reaches at the crate's top, `depth` levels above.
fn climb(tokens: &[String], at: usize, depth: usize) -> Vec<String> {
    let heads = heads(tokens, at + 1).into_iter();
    if depth == 1 {
        return heads.map(|at| tokens[at].clone()).collect();
    }
    let supers = heads.filter(|at| tokens[*at] == "super");
    supers.flat_map(|at| climb(tokens, at, depth - 1)).collect()
}

/// Returns whether the token at `at` goes on a path that began before it.
fn follows_path(tokens: &[String], at: usize) -> bool {
    at >= 2 && tokens[at - 2..at].iter().all(|token| token == ":")
}

/// Returns where the names after the `::` at `at` stand: the one that follows, or those of the group that follows.
fn heads(tokens: &[String], at: usize) -> Vec<usize> {
    let text = |at: usize| tokens.get(at).map(String::as_str);
    if (text(at), text(at + 1)) != (Some(":"), Some(":")) {
        return Vec::new();
    }
    let first = at + 2;
    if text(first) != Some("{") {
        return (first..tokens.len()).take(1).collect();
    }
    let mut heads = Vec::new();
    let mut nesting = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(first) {
        match token.as_str() {
            "{" => nesting += 1,
            "}" => nesting -= 1,
            _ => {}
        }
        if nesting == 0 {
            break;
        }
        let starts = nesting == 1 && ["{", ","].contains(&token.as_str());
        heads.extend((starts && text(at + 1) != Some("}")).then_some(at + 1));
    }
    heads
}

/// Returns the words and signs of a source, without comments, literals, lifetimes and blanks.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = next(rest, first);
        tokens.extend(token.then(|| rest[..length].to_owned()));
        rest = &rest[length..];
    }
    tokens
}

/// Returns whether `rest` begins with a token that counts, and how many bytes to go on.
fn next(rest: &str, first: char) -> (bool, usize) {
    if rest.starts_with("//") {
        return (false, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (false, block_comment(rest));
    }
    if let Some(length) = raw_string(rest) {
        return (false, length);
    }
    match first {
        '"' => (false, quoted(rest, '"')),
        '\'' => (false, character_or_lifetime(rest)),
        word if is_word(word) => (true, rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        sign => (!sign.is_whitespace(), sign.len_utf8()),
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment(rest: &str) -> usize {
    let mut nesting = 0_usize;
    for (at, pair) in rest.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => nesting += 1,
            b"*/" if nesting == 1 => return at + 2,
            b"*/" => nesting -= 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of the raw string (`r"…"`, `br#"…"#`) that `rest` begins with.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or(rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len() + hashes + 1;
    Some(
        rest[start..]
            .find(&end)
            .map_or(rest.len(), |at| start + at + end.len()),
    )
}

/// Returns the length of the literal that `rest` begins with, up to its closing `quote`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if !escaped && character == quote {
            return at + 1;
        }
        escaped = !escaped && character == '\\';
    }
    rest.len()
}

/// Returns the length of the character literal or lifetime that `rest` begins with.
fn character_or_lifetime(rest: &str) -> usize {
    let mut characters = rest.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}
