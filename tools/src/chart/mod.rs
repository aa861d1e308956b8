//! Measurements told: a table for people, JSON for programs, a picture for both.
//!
//! ```text
//!     testbed/bench ──► samples ──► Sheet ──► table    medians, quartiles, ratios first
//!                      (a text)           ├─► report   every value, as JSON
//!                                         └─► plot     bars with their ratios, as SVG
//! ```
//!
//! What is compared took turns while it was measured, so the *n*th values of two series belong
//! together: a ratio's spread is that of the rounds' own ratios, and a machine that slows down in
//! the middle slows both.

mod plot;
mod report;
mod samples;
mod stats;
mod table;

#[cfg(test)]
mod tests;

pub use samples::{Better, Case, Panel, SampleError, Series, Sheet};
pub use stats::Spread;

impl Sheet {
    /// The sheet as a table, ratios first.
    #[must_use]
    pub fn table(&self) -> String {
        table::write(self)
    }

    /// The same as Markdown, for a document.
    #[must_use]
    pub fn markdown(&self) -> String {
        table::write_markdown(self)
    }

    /// Everything, as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        report::json(self)
    }

    /// A picture, as SVG.
    ///
    /// # Errors
    /// What the drawing library said.
    pub fn svg(&self) -> Result<String, String> {
        plot::draw(self)
    }
}
