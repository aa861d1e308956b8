//! What is wrong with a configuration, and where.

use core::fmt;
use core::ops::Range;

/// One thing wrong, at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// A sentence without its full stop.
    pub message: String,
}

/// Everything wrong with one file. Prints as `file:line:column: message`, one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    /// Places `problems` in `text`, in the order of the text.
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        let lines = problems.iter().map(|problem| {
            let (line, column) = position(text, problem.span.start);
            format!("{name}:{line}:{column}: {}", problem.message)
        });
        Self { lines: lines.collect() }
    }

    /// The file as a whole cannot be used.
    pub(super) fn whole(name: &str, message: impl fmt::Display) -> Self {
        Self { lines: vec![format!("{name}: {message}")] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl core::error::Error for ConfigError {}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a\nüb = 1\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 4), (2, 2));
        assert_eq!(position(text, 3), (2, 1), "inside a character");
        assert_eq!(position(text, 99), (3, 1));
    }
}
