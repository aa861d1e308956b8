//! The table: ratios, then medians.

use std::fmt::Write;

use super::samples::{Better, Case, Panel, Sheet};
use super::stats::{Ratio, Spread};

/// Width of a column of values.
const COLUMN: usize = 22;

pub(super) fn write(sheet: &Sheet) -> String {
    let mut text = format!("{}\n", sheet.title);
    for panel in &sheet.panels {
        let width = panel.cases.iter().map(|case| case.name.chars().count()).max().unwrap_or(0) + 2;
        ratios(&mut text, panel, width);
        match panel.better {
            Better::Spread => spreads(&mut text, panel, width),
            Better::Higher | Better::Lower => medians(&mut text, panel, width),
        }
    }
    text
}

fn row(text: &mut String, width: usize, name: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "{name:<width$}");
    for cell in cells {
        let _ = write!(text, "{cell:>COLUMN$}");
    }
    text.push('\n');
}

fn ratios(text: &mut String, panel: &Panel, width: usize) {
    let ratios = panel.ratios();
    if ratios.is_empty() {
        return;
    }
    let good = if panel.better == Better::Higher { "more" } else { "less" };
    let _ = writeln!(text, "\n{}: ratios, {good} is better (quartiles of the rounds)", panel.name);
    row(text, width, "", ratios.iter().map(|(first, second)| format!("{first}/{second}")));
    for case in &panel.cases {
        let cell = |(first, second): &(&str, &str)| {
            let ratio = Ratio::of(case.values(first), case.values(second));
            ratio.map_or("-".to_owned(), |ratio| match ratio.quartiles {
                Some((q1, q3)) => format!("{:.2} ({q1:.2} {q3:.2})", ratio.of_medians),
                None => format!("{:.2}", ratio.of_medians),
            })
        };
        row(text, width, &case.name, ratios.iter().map(cell));
    }
}

fn medians(text: &mut String, panel: &Panel, width: usize) {
    let _ = writeln!(text, "\n{}: {}, median (quartiles)", panel.name, panel.unit);
    let series = panel.series();
    row(text, width, "", series.iter().map(|name| (*name).to_owned()));
    for case in &panel.cases {
        let cell = |name: &&str| {
            Spread::of(case.values(name)).map_or("-".to_owned(), |spread| {
                let [median, q1, q3] = [spread.median, spread.q1, spread.q3].map(number);
                format!("{median} ({q1} {q3})")
            })
        };
        row(text, width, &case.name, series.iter().map(cell));
    }
}

fn spreads(text: &mut String, panel: &Panel, width: usize) {
    let _ = writeln!(text, "\n{}: {}", panel.name, panel.unit);
    let heads = ["count", "p50", "p99", "max"];
    row(text, width, "", heads.iter().map(|head| (*head).to_owned()));
    for case in &panel.cases {
        for series in &case.series {
            let Some(spread) = Spread::of(&series.values) else { continue };
            let count = series.values.len().to_string();
            let values = [spread.median, spread.p99, spread.max].map(number);
            row(text, width, &of(case, panel, &series.name), [count].into_iter().chain(values));
        }
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
