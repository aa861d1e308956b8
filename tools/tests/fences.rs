//! What the tools' own rules are, held against the sources: whoever judges an engine shares nothing with
//! it that could be wrong in both.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// What judges, and what of this crate it may name beside itself.
const JUDGES: &[(&str, &[&str])] = &[
    ("oracle", &["drill::chargen_difference", "drill::chargen_byte"]),
    ("drill", &["clock", "sys"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a line, without what is said about it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// What stands behind each `start` in the line, up to the end of the path.
fn named<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(start).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        let rest = &line[at + start.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        whole.then_some(&rest[..end.unwrap_or(rest.len())])
    })
}

#[test]
fn who_judges_an_engine_knows_nothing_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked = 0;
    for (judge, allowed) in JUDGES {
        for file in sources(&root.join(judge)) {
            looked += 1;
            for (number, line) in (1..).zip(fs::read_to_string(&file).unwrap().lines()) {
                let line = code(line);
                let place = format!("{}:{number}: {line}", file.display());
                assert!(named(line, "standin::").next().is_none(), "the engine: {place}");
                for path in named(line, "crate::") {
                    let own = path.split("::").next() == Some(judge);
                    let known = allowed.iter().any(|known| path.starts_with(known));
                    assert!(own || known, "another module: {place}");
                }
            }
        }
    }
    assert!(looked > 20, "{looked} files only: it does not look where it should");
}

#[test]
fn what_is_forbidden_would_be_seen() {
    assert_eq!(named("use standin::wire::X;", "standin::").next(), Some("wire::X"));
    assert_eq!(named("let x = standin::time::Instant::ZERO;", "standin::").count(), 1);
    assert_eq!(named("use not_standin::wire;", "standin::").count(), 0);
    assert_eq!(named(code("x // standin::wire"), "standin::").count(), 0);
    assert_eq!(named("fn a(b: crate::sim::World) {}", "crate::").next(), Some("sim::World"));
}
