//! The tables: ratios, then medians; for a terminal, and for a document.

use std::fmt::Write;

use super::samples::{Better, Case, Panel, Sheet};
use super::stats::{Ratio, Spread};

/// Least width of a column of values.
const COLUMN: usize = 22;

/// One table.
struct Grid {
    title: String,
    head: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// For a terminal.
pub(super) fn write(sheet: &Sheet) -> String {
    let mut text = format!("{}\n", sheet.title);
    for grid in grids(sheet) {
        let names = grid.rows.iter().map(|(name, _)| name.chars().count());
        let width = names.max().unwrap_or(0) + 2;
        let _ = writeln!(text, "\n{}", grid.title);
        let head = ("", &grid.head);
        for (name, cells) in
            std::iter::once(head).chain(grid.rows.iter().map(|(name, cells)| (&name[..], cells)))
        {
            let _ = write!(text, "{name:<width$}");
            for (cell, head) in cells.iter().zip(&grid.head) {
                let width = COLUMN.max(head.chars().count() + 2);
                let _ = write!(text, "{cell:>width$}");
            }
            text.push('\n');
        }
    }
    text
}

/// For a document, in Markdown.
pub(super) fn write_markdown(sheet: &Sheet) -> String {
    let mut text = format!("## {}\n", sheet.title);
    for grid in grids(sheet) {
        let _ = writeln!(text, "\n{}\n", grid.title);
        let _ = writeln!(text, "| | {} |", grid.head.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(grid.head.len()));
        for (name, cells) in &grid.rows {
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
    }
    text
}

fn grids(sheet: &Sheet) -> Vec<Grid> {
    let of_panel = |panel: &Panel| {
        let values = match panel.better {
            Better::Spread => spreads(panel),
            Better::Higher | Better::Lower => medians(panel),
        };
        ratios(panel).into_iter().chain([values])
    };
    sheet.panels.iter().flat_map(of_panel).collect()
}

/// None where nothing is compared.
fn ratios(panel: &Panel) -> Option<Grid> {
    let ratios = panel.ratios();
    let good = if panel.better == Better::Higher { "more" } else { "less" };
    let row = |case: &Case| {
        let cell = |(first, second): &(&str, &str)| {
            let ratio = Ratio::of(case.values(first), case.values(second));
            ratio.map_or("-".to_owned(), |ratio| match ratio.quartiles {
                Some((q1, q3)) => format!("{:.2} ({q1:.2} {q3:.2})", ratio.of_medians),
                None => format!("{:.2}", ratio.of_medians),
            })
        };
        (case.name.clone(), ratios.iter().map(cell).collect())
    };
    (!ratios.is_empty()).then(|| Grid {
        title: format!("{}: ratios, {good} is better (quartiles of the rounds)", panel.name),
        head: ratios.iter().map(|(first, second)| format!("{first}/{second}")).collect(),
        rows: panel.cases.iter().map(row).collect(),
    })
}

fn medians(panel: &Panel) -> Grid {
    let series = panel.series();
    let row = |case: &Case| {
        let cell = |name: &&str| {
            Spread::of(case.values(name)).map_or("-".to_owned(), |spread| {
                let [median, q1, q3] = [spread.median, spread.q1, spread.q3].map(number);
                format!("{median} ({q1} {q3})")
            })
        };
        (case.name.clone(), series.iter().map(cell).collect())
    };
    Grid {
        title: format!("{}: {}, median (quartiles)", panel.name, panel.unit),
        head: series.iter().map(|name| (*name).to_owned()).collect(),
        rows: panel.cases.iter().map(row).collect(),
    }
}

fn spreads(panel: &Panel) -> Grid {
    let mut rows = Vec::new();
    for case in &panel.cases {
        for series in &case.series {
            let Some(spread) = Spread::of(&series.values) else { continue };
            let values = [spread.median, spread.p99, spread.max].map(number);
            let cells = [series.values.len().to_string()].into_iter().chain(values).collect();
            rows.push((of(case, panel, &series.name), cells));
        }
    }
    Grid {
        title: format!("{}: {}", panel.name, panel.unit),
        head: ["count", "p50", "p99", "max"].map(str::to_owned).to_vec(),
        rows,
    }
}

/// The case alone, where there is one series.
fn of(case: &Case, panel: &Panel, series: &str) -> String {
    if panel.series().len() == 1 { case.name.clone() } else { format!("{}, {series}", case.name) }
}

/// Three digits that say something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..0.1 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        ..10_000.0 => format!("{value:.0}"),
        ..10_000_000.0 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.1}M", value / 1e6),
    }
}
