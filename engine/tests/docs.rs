//! Every configuration that a document shows is one that `standin check` takes.
#![cfg(feature = "runtime")]

use std::fs;
use std::path::{Path, PathBuf};

use standin::runtime::config::Config;

/// What a part of a configuration stands behind.
const BEGIN: &str = r#"
[pair]
key-file = "/etc/standin/pair.key"
addresses = ["192.0.2.100", "2001:db8::100"]
[node.a]
lan-interface = "eth0"
lan-address = "192.0.2.1"
replication-address = "198.51.100.1"
[node.b]
lan-interface = "eth0"
lan-address = "192.0.2.2"
replication-address = "198.51.100.2"
"#;

fn documents() -> Vec<PathBuf> {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(engine.join("docs")).expect("the documents are there");
    let docs = docs.map(|entry| entry.expect("a directory entry can be read").path());
    let mut found: Vec<_> =
        docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    found.push(engine.join("../README.md"));
    found
}

/// The insides of the fences of TOML, each with the number of its first line.
fn fences(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_end(), &mut inside) {
            ("```toml", None) => inside = Some((number + 2, String::new())),
            ("```", Some(_)) => found.extend(inside.take()),
            (line, Some((_, fence))) => {
                fence.push_str(line);
                fence.push('\n');
            }
            (_, None) => {}
        }
    }
    assert!(inside.is_none(), "every fence is closed");
    found
}

#[test]
fn configurations_in_documents_are_right() {
    let (mut count, mut wrong) = (0, Vec::new());
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        for (line, fence) in fences(&text) {
            count += 1;
            let whole = if fence.contains("[pair]") { fence } else { format!("{BEGIN}{fence}") };
            if let Err(error) = Config::parse("fence", Path::new("/"), &whole) {
                wrong.push(format!("{}:{line}: {error}", document.display()));
            }
        }
    }
    assert!(count >= 2, "the fences are where this test looks for them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
