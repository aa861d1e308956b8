//! The rules of `ARCHITECTURE.md` that a compiler does not know, held against the sources.
//!
//! * Which module may name which: [`EDGES`]. What is not in the table is a new dependency, and a
//!   change of the table is something that a reviewer sees.
//! * What of the core the runtime may name: [`RUNTIME_USES`]. It drives the engine and translates
//!   the configuration; it decides nothing about connections or roles.
//! * The core has no clock, socket, file or thread.
//! * Nobody unwraps outside of tests.
//!
//! Tests are exempt, and so is text: comments and literals are blanked, then everything behind
//! `#[cfg(test)]`, before anything is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom. Read a line as "`tcp` may know `wire`, `ids` and `time`".
const EDGES: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("ids", &[]),
    ("limiter", &["time"]),
    ("slots", &[]),
    ("codec", &[]),
    ("http", &["codec"]),
    ("sources", &["slots", "time", "wire"]),
    ("wire", &["ids", "time"]),
    ("tcp", &["ids", "slots", "time", "wire"]),
    ("service", &["codec", "http", "ids", "time"]),
    ("session", &["codec", "defects", "http", "ids", "service", "time"]),
    ("replica", &["ids", "slots", "time", "wire"]),
    ("role", &["ids", "time"]),
    ("relay", &["http", "ids", "slots", "sources", "time", "wire"]),
    ("neighbour", &["time", "wire"]),
    // Behind the feature of the same name.
    ("defects", &[]),
    (
        "engine",
        &[
            "defects",
            "ids",
            "limiter",
            "neighbour",
            "relay",
            "replica",
            "role",
            "service",
            "session",
            "slots",
            "sources",
            "tcp",
            "time",
            "wire",
        ],
    ),
    (
        "runtime",
        &["engine", "ids", "limiter", "relay", "replica", "role", "service", "tcp", "time", "wire"],
    ),
    ("main", &["runtime"]),
];

/// What the runtime may name of the modules that `engine` composes, and why. `engine`, `ids` and
/// `time` are open to it.
const RUNTIME_USES: &[(&str, &[&str])] = &[
    // The heartbeats' two ways; the configured policy and times; the role, to report it; what is
    // asked of the arbiter and answered.
    (
        "role",
        &[
            "ArbiterPolicy",
            "ArbiterStatus",
            "Ask",
            "Inquiry",
            "LostArbiter",
            "LostPeer",
            "Path",
            "Policy",
            "ArbiterRecord",
            "Reply",
            "Role",
            "Timing",
        ],
    ),
    // The content store is implemented on the disk, and the services are configured.
    (
        "service",
        &[
            "Again",
            "ContentId",
            "Difference",
            "Facts",
            "HttpPatience",
            "JoinPatience",
            "Kind",
            "Limits",
            "Lookup",
            "Masking",
            "MirrorRules",
            "OnDifference",
            "Oversize",
            "Patience",
            "Question",
            "Read",
            "Rules",
            "Store",
            "Verified",
            "is_hidden",
            "store",
        ],
    ),
    // The relays are configured, what they count is shown, and operators say what backends are there for.
    (
        "relay",
        &[
            "Admin",
            "Backend",
            "CLIENT_MAX",
            "Check",
            "Counts",
            "HttpCheck",
            "IDLE",
            "Mode",
            "OnDeath",
            "Order",
            "Settings",
            "State",
            "WEIGHT_MAX",
        ],
    ),
    // TCP's settings, and nothing else of it.
    ("tcp", &["Algorithm", "Ecn", "Keepalive", "Settings"]),
    // Progress, to report it; frames, to sum them up in a capture.
    ("replica", &["Frame", "MAX_FRAME", "Record", "SnapshotProgress"]),
    // What the devices speak, and the packet with which a node tries the peer's forwarding.
    (
        "wire",
        &[
            "Endpoint",
            "Flags",
            "FourTuple",
            "MacAddr",
            "Offload",
            "SeqNum",
            "TcpHeader",
            "TcpOptions",
            "VnetHeader",
            "solicited_node",
        ],
    ),
];

/// What the core does without, and what it has instead.
const BANNED_IN_CORE: &[(&str, &str)] = &[
    ("std::fs", "contents come through `service::Store`"),
    ("std::io", "bytes are handed in and out"),
    ("std::net::TcpStream", "the runtime has the sockets"),
    ("std::net::TcpListener", "the runtime has the sockets"),
    ("std::net::UdpSocket", "the runtime has the sockets"),
    ("std::net::ToSocketAddrs", "nothing is resolved"),
    ("std::os", "the runtime has the system"),
    ("std::env", "the runtime has the environment"),
    ("std::process", "the runtime has the process"),
    ("std::thread", "one caller, no threads"),
    ("std::sync::mpsc", "one caller, no threads"),
    ("std::sync::Mutex", "one caller, no threads"),
    ("std::time::Instant", "`crate::time::Instant` is handed in"),
    ("std::time::SystemTime", "the wall clock is handed in, in seconds"),
    ("SystemTime::now", "the wall clock is handed in, in seconds"),
    ("Instant::now", "`now` is an argument"),
];

/// Exceptions to [`BANNED_IN_CORE`].
const EXCEPTIONS: &[(&str, &str)] = &[
    // HTTP dates are written by a crate that takes this type, built from seconds. Nobody asks the
    // clock: `SystemTime::now` stays banned.
    ("service/files/condition.rs", "std::time::SystemTime"),
];

/// One source file, reduced to code that runs outside of tests.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    code: String,
}

impl Source {
    /// The module of the crate that it belongs to: `tcp`, or `main`.
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a path has a first component");
        let name = first.to_str().expect("our names are text");
        name.strip_suffix(".rs").unwrap_or(name).to_owned()
    }

    /// How many modules lie between it and the crate: 1 for `tcp/mod.rs`, 2 for `tcp/ack.rs`.
    fn depth(&self) -> usize {
        let parts = self.path.iter().count();
        if self.path.ends_with("mod.rs") { parts - 1 } else { parts }
    }

    fn is_core(&self) -> bool {
        !matches!(self.module().as_str(), "runtime" | "main" | "lib")
    }

    /// Every path that starts at the crate, as module and what is named of it (none for the module
    /// itself): `crate::tcp::{Tcb, State}` gives `tcp Tcb` and `tcp State`.
    fn crate_paths(&self) -> Vec<(String, Option<String>)> {
        let mut paths = Vec::new();
        // `super` repeated up to the crate is the crate, too.
        let climb = "super::".repeat(self.depth());
        for start in ["crate::", "standin::", climb.as_str()] {
            for rest in after_each(&self.code, start) {
                for module in heads(rest) {
                    let items = module.rest.strip_prefix("::").map(heads).unwrap_or_default();
                    if items.is_empty() {
                        paths.push((module.name.clone(), None));
                    }
                    for item in items {
                        paths.push((module.name.clone(), Some(item.name)));
                    }
                }
            }
        }
        paths
    }
}

/// The first component of a path, and what follows it.
struct Head<'a> {
    name: String,
    rest: &'a str,
}

/// What `text` begins with: one identifier, or each that a group in braces begins with.
fn heads(text: &str) -> Vec<Head<'_>> {
    let Some(group) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
        let name = text[..end].to_owned();
        return if name.is_empty() { Vec::new() } else { vec![Head { name, rest: &text[end..] }] };
    };
    let mut found = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if depth == 0 && begins && is_name(c) => {
                found.extend(heads(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The text after each place where `word` begins a path or a name.
fn after_each<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let starts = before.is_none_or(|c| !is_name(c) && c != ':');
        starts.then(|| &code[at + word.len()..])
    })
}

/// The sources without tests, by path.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut sources = Vec::new();
    let mut tests = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let mut code = blank_text(&text);
        for name in cut_tests(&mut code) {
            let directory = file.parent().expect("a source lies in a directory");
            let own = match file.file_stem().and_then(|stem| stem.to_str()) {
                Some("mod" | "lib" | "main") | None => directory.to_owned(),
                Some(stem) => directory.join(stem),
            };
            // Where `#[path]` may put it as well.
            let stem = own.file_name().and_then(|stem| stem.to_str()).unwrap_or_default();
            tests.insert(directory.join(format!("{stem}_{name}.rs")));
            tests.insert(own.join(format!("{name}.rs")));
            tests.insert(own.join(name));
        }
        let path = file.strip_prefix(&root).expect("it was found below").to_owned();
        sources.push((file, Source { path, code }));
    }
    sources.retain(|(file, _)| !file.ancestors().any(|above| tests.contains(above)));
    let sources: Vec<Source> = sources.into_iter().map(|(_, source)| source).collect();
    assert!(sources.len() > 50, "the sources are where this test looks for them");
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources can be read") {
        let path = entry.expect("a directory entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `text` with comments and the insides of literals blanked; line ends stay.
fn blank_text(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '"' => string_length(rest),
            'r' if raw_hashes(rest).is_some() && !code.ends_with(is_name) => raw_length(rest),
            '\'' => char_length(rest),
            c => {
                code.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        let (blanked, after) = rest.split_at(length);
        code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    code
}

/// A block comment; they nest.
fn comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The number of `#` of a raw string that begins here.
fn raw_hashes(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn raw_length(text: &str) -> usize {
    let hashes = raw_hashes(text).unwrap_or_default();
    let begin = 1 + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// A character literal; 1 for the quote of a lifetime.
fn char_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            text[from..].find('\'').map_or(1, |at| from + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Blanks every item behind `#[cfg(test)]`; returns the modules among them that have files.
fn cut_tests(code: &mut String) -> Vec<String> {
    const MARK: &str = "#[cfg(test)]";
    let mut modules = Vec::new();
    while let Some(start) = code.find(MARK) {
        let body = start + MARK.len();
        let stop = code[body..].find(['{', ';']).map_or(code.len(), |at| body + at);
        if code[stop..].starts_with(';') {
            let words = code[body..stop].split_whitespace().collect::<Vec<_>>();
            if let [.., "mod", name] = words[..] {
                modules.push(name.to_owned());
            }
        }
        let end = if code[stop..].starts_with('{') { matching(code, stop) } else { stop + 1 };
        let end = end.min(code.len());
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    modules
}

/// Just past the brace that closes the one at `open`.
fn matching(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// Where `what` is found in `source`, for an editor to jump to.
fn places(source: &Source, what: &str) -> Vec<String> {
    let lines = source.code.lines().enumerate();
    let hits = lines.filter(|(_, line)| {
        line.match_indices(what).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + what.len()..]);
            !before.ends_with(is_name) && !after.starts_with(is_name)
        })
    });
    hits.map(|(number, _)| format!("src/{}:{}", source.path.display(), number + 1)).collect()
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_name_only_whom_they_may() {
    let table: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut complaints = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        seen.insert(module.clone());
        let Some(allowed) = table.get(module.as_str()) else {
            complaints.push(format!("module {module} is not in the table"));
            continue;
        };
        for (named, _) in source.crate_paths() {
            let known = table.contains_key(named.as_str());
            if known && named != module && !allowed.contains(&named.as_str()) {
                complaints.push(format!("src/{}: {module} -> {named}", source.path.display()));
            }
        }
    }
    for module in table.keys() {
        if !seen.contains(*module) {
            complaints.push(format!("the table has {module}, which does not exist"));
        }
    }
    none(complaints);
}

#[test]
fn the_runtime_sees_the_engine_and_little_else() {
    let table: BTreeMap<_, _> = RUNTIME_USES.iter().copied().collect();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "runtime") {
        let imported: Vec<_> = source.crate_paths();
        // `use crate::tcp;` makes `tcp::Settings` a path of its own.
        let bare = imported.iter().filter(|(_, item)| item.is_none()).map(|(module, _)| module);
        let mut named: Vec<(String, String)> = bare
            .flat_map(|module| {
                let prefix = format!("{module}::");
                let items = after_each(&source.code, &prefix).flat_map(heads);
                items.map(|item| (module.clone(), item.name)).collect::<Vec<_>>()
            })
            .collect();
        named.extend(
            imported.iter().filter_map(|(module, item)| Some((module.clone(), item.clone()?))),
        );
        for (module, item) in named {
            let Some(allowed) = table.get(module.as_str()) else { continue };
            if !allowed.contains(&item.as_str()) {
                complaints.push(format!("src/{}: {module}::{item}", source.path.display()));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_core_has_no_clock_socket_file_or_thread() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.is_core()) {
        // `use std::{fs, time::Instant}` and `use std::time::{Instant}` name the same things.
        let mut paths = BTreeSet::new();
        for rest in after_each(&source.code, "std::") {
            spell_out("std", rest, &mut paths);
        }
        for (banned, instead) in BANNED_IN_CORE {
            if EXCEPTIONS.iter().any(|(path, what)| source.path.ends_with(path) && what == banned) {
                continue;
            }
            let below = format!("{banned}::");
            let named = paths.iter().any(|path| path == banned || path.starts_with(&below));
            if named || !places(source, banned).is_empty() {
                let path = source.path.display();
                complaints.push(format!("src/{path} names {banned}: {instead}"));
            }
        }
    }
    none(complaints);
}

/// Every path that `text` continues `prefix` to, groups in braces taken apart.
fn spell_out(prefix: &str, text: &str, paths: &mut BTreeSet<String>) {
    for head in heads(text) {
        let path = format!("{prefix}::{}", head.name);
        if let Some(rest) = head.rest.strip_prefix("::") {
            spell_out(&path, rest, paths);
        }
        paths.insert(path);
    }
}

/// A pair may own several groups of addresses one day: who is there does not depend on what is owned.
#[test]
fn the_peer_knows_nothing_of_ownership() {
    let peer = sources().into_iter().filter(|source| source.path.starts_with("role/peer"));
    let found: Vec<Vec<String>> = peer.map(|source| places(&source, "ownership")).collect();
    assert!(found.len() > 3, "the folder is where it was");
    none(found.concat());
}

#[test]
fn nobody_unwraps_outside_of_tests() {
    let found = sources();
    none(found.iter().flat_map(|source| places(source, ".unwrap()")).collect());
}

#[test]
fn this_test_reads_sources_as_the_compiler_does() {
    let text = r##"
//! crate::comment
use crate::tcp::{self, State, wire::{A, B}};
use crate::{ids::{Lsn}, time};
const QUOTE: char = '"';
const TEXT: &str = "crate::text \" { std::fs";
const RAW: &str = r#"crate::raw " {"#;
fn life<'a>(x: &'a str) -> char { super::super::role::f(x); '\'' }
#[cfg(test)]
mod tests { use crate::engine::Engine; fn f() { x.unwrap() } }
#[cfg(test)]
#[path = "odd.rs"]
mod golden;
/* crate::block /* nested */ crate::block */
fn after() { crate::service::run() }
"##;
    let mut code = blank_text(text);
    assert_eq!(cut_tests(&mut code), ["golden"]);
    assert_eq!(code.lines().count(), text.lines().count(), "lines keep their numbers");
    let source = Source { path: "replica/log.rs".into(), code };
    let paths: Vec<String> = source
        .crate_paths()
        .into_iter()
        .map(|(module, item)| item.map_or(module.clone(), |item| format!("{module} {item}")))
        .collect();
    assert_eq!(
        paths,
        ["tcp self", "tcp State", "tcp wire", "ids Lsn", "time", "service run", "role f"]
    );
    assert!(places(&source, ".unwrap()").is_empty());
    let mut spelt = BTreeSet::new();
    spell_out("std", "{fs, time::{Duration, Instant}}", &mut spelt);
    let spelt: Vec<_> = spelt.iter().map(String::as_str).collect();
    assert_eq!(spelt, ["std::fs", "std::time", "std::time::Duration", "std::time::Instant"]);
}
