//! From text to values, past what is wrong: every mistake is told, and not the first alone.
//!
//! `serde` stops at the first thing that it cannot read. So that thing is noted, taken out of the tree,
//! and the rest read again, until all of it can be read or something is missing that cannot be done
//! without.

use core::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::Problem;
use super::raw::File;

/// Mistakes of one file that are looked for: each costs a reading.
const MISTAKES_MAX: usize = 100;

/// What can be read of `text`, and what cannot.
pub(super) fn read(text: &str) -> (Option<File>, Vec<Problem>) {
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    if !problems.is_empty() {
        return (None, problems);
    }
    let mut taken = Vec::new();
    while problems.len() < MISTAKES_MAX {
        let error = match File::deserialize(Deserializer::from(tree.clone())) {
            Ok(file) => return (Some(file), problems),
            Err(error) => error,
        };
        let problem = problem(&error);
        let place = problem.span.clone();
        // What was taken out is not missing.
        if !missing_field(&problem.message).is_some_and(|field| taken.iter().any(|t| t == field)) {
            problems.push(problem);
        }
        if place.is_empty() || !take_out(tree.get_mut(), &place, &mut taken) {
            break;
        }
    }
    (None, problems)
}

/// The field that a complaint calls missing.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn problem(error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    // The parser's words go on over several lines; a complaint has one.
    let message = error.message().trim().replace('\n', ", ");
    Problem { span, message }
}

/// Takes the key or the value at `place` out of `table`, with what belongs to it, and adds its name to
/// `taken`. Returns whether there was one.
fn take_out(table: &mut DeTable<'_>, place: &Range<usize>, taken: &mut Vec<String>) -> bool {
    let found = table.iter().find(|(key, value)| key.span() == *place || value.span() == *place);
    if let Some(key) = found.map(|(key, _)| key.clone()) {
        taken.push(key.get_ref().to_string());
        return table.remove(&key).is_some();
    }
    table.iter_mut().any(|(_, value)| take_out_below(value, place, taken))
}

fn take_out_below(
    value: &mut Spanned<DeValue<'_>>,
    place: &Range<usize>,
    taken: &mut Vec<String>,
) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, place, taken),
        DeValue::Array(array) => {
            if array.iter().any(|value| value.span() == *place) {
                let mut rest = DeArray::new();
                let others = array.iter().filter(|value| value.span() != *place);
                others.for_each(|value| rest.push(value.clone()));
                *array = rest;
                return true;
            }
            array.iter_mut().any(|value| take_out_below(value, place, taken))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}
