//! The configuration file.

use std::path::Path;

use standin::ids::Node;
use standin::runtime::config::Config;

/// The input is the file. What is refused is refused with a place in the text; what is accepted
/// keeps the promises of [`Config`].
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Config::parse("pair.toml", Path::new("/etc/standin"), text) {
        Err(error) => assert_places(&error.to_string(), text),
        Ok(config) => assert_promises(&config, text),
    }
}

/// Every line of a complaint begins with a line and a column that are in the file.
fn assert_places(complaint: &str, text: &str) {
    let lines = text.matches('\n').count() + 1;
    let first = complaint.lines().next().expect("something is said");
    let mut fields = first.strip_prefix("pair.toml:").expect("the file's name").splitn(3, ':');
    let mut number = || fields.next().and_then(|field| field.parse::<usize>().ok());
    let (line, column) = (number().expect("a line"), number().expect("a column"));
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
    let length = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
    assert!((1..=length + 1).contains(&column), "column {column} of {length}");
}

fn assert_promises(config: &Config, text: &str) {
    let again = Config::parse("pair.toml", Path::new("/etc/standin"), text).expect("as before");
    assert_eq!(again, *config);
    assert_eq!(again.parts(), config.parts(), "a pair must agree with itself");
    assert!((1..=64).contains(&config.addresses.len()));
    let mut addresses = config.addresses.clone();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), config.addresses.len(), "none twice");
    assert!(config.timing.detection >= 3 * config.timing.heartbeat);
    assert!(!config.services.is_empty());
    for node in [Node::A, Node::B] {
        let there = config.node(node).is_some();
        assert!(there || node == Node::B);
        assert_eq!(config.replication(node).is_some(), config.is_pair());
        assert_eq!(config.heartbeats(node).is_some(), config.is_pair());
    }
    assert!(config.key_file.is_some() || !config.is_pair());
}
