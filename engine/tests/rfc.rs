//! `docs/rfc.md` against the sources: a test that the table names exists, and every numbered
//! requirement of RFC 9293 has its row.
//!
//! A row's last cell names its proofs as `path::name` in backticks, the path below `engine/src`
//! or, for integration tests, `engine/tests`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows that claim to be done must prove it.
const STATES: [&str; 5] = ["yes", "partly", "untested", "no", "n/a"];

struct Row {
    id: String,
    state: String,
    proof: String,
    line: usize,
}

fn table() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/rfc.md")).expect("the table is there");
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let cells: Vec<_> = text.split('|').map(str::trim).collect();
        let [_, id, _, state, proof, _] = cells[..] else { continue };
        if id == "number" || id.starts_with("--") {
            continue;
        }
        rows.push(Row { id: id.into(), state: state.into(), proof: proof.into(), line });
    }
    rows
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The `path::name` in backticks within `text`.
fn proofs(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once(".rs::")).collect()
}

/// Whether the source has a function `name` that is a test.
fn has_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.rsplit(['}', ';']).next().unwrap_or_default();
    attributes.contains("#[test]")
}

fn missing(path: &str, name: &str) -> Option<String> {
    let places = ["src", "."].map(|place| root().join(place).join(format!("{path}.rs")));
    let Some(source) = places.iter().find_map(|place| fs::read_to_string(place).ok()) else {
        return Some(format!("there is no {path}.rs"));
    };
    (!has_test(&source, name)).then(|| format!("{path}.rs has no test {name}"))
}

#[test]
fn every_test_in_the_table_exists() {
    let mut wrong = Vec::new();
    for row in table() {
        if !STATES.contains(&row.state.as_str()) {
            wrong.push(format!("line {}: no such state: {}", row.line, row.state));
        }
        let proofs = proofs(&row.proof);
        if row.state == "yes" && proofs.is_empty() {
            wrong.push(format!("line {}: {} is done and names no test", row.line, row.id));
        }
        for (path, name) in proofs {
            wrong.extend(missing(path, name).map(|what| format!("line {}: {what}", row.line)));
        }
    }
    assert!(wrong.is_empty(), "docs/rfc.md:\n{}", wrong.join("\n"));
}

/// Appendix B numbers MUST-1 to MUST-69, SHLD-1 to SHLD-31, MAY-1 to MAY-18, and REC-1.
#[test]
fn every_numbered_requirement_of_rfc_9293_has_a_row() {
    let rows: BTreeSet<String> = table().into_iter().map(|row| row.id).collect();
    let wanted = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];
    let wanted = wanted
        .iter()
        .flat_map(|(kind, last)| (1..=*last).map(move |number: u32| format!("{kind}-{number}")));
    let absent: Vec<_> = wanted.filter(|id| !rows.contains(id)).collect();
    assert!(absent.is_empty(), "no row for {absent:?}");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    assert_eq!(
        proofs("as `a/b.rs::c` and `tests/d.rs::e` show, `f` not"),
        [("a/b", "c"), ("tests/d", "e")]
    );
    assert!(has_test("#[test]\nfn good() {}", "good"));
    assert!(!has_test("#[test]\nfn good() {}\nfn helper() {}", "helper"));
    assert!(!has_test("#[test]\nfn good() {}", "goo"));
    assert!(missing("tcp/tests/steps", "no_such_test").is_some());
    assert!(missing("tcp/nowhere", "no_such_test").is_some());
}
