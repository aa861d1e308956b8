//! The text that a bench writes, and the sheet that it means.
//!
//! Lines of words between tabs, in the order in which they should appear:
//!
//! ```text
//! title    TEXT                                      once
//! machine  KEY  VALUE                                the same key again: the later holds
//! panel    NAME  UNIT  higher|lower|spread  BASELINE  [log]
//! compare  NAME  SERIES  SERIES                      one more ratio: first by second
//! sample   NAME  CASE  SERIES  VALUE
//! ```
//!
//! A panel is one table and one picture: cases side by side, and for each case the series. With a
//! baseline that is not `-`, every other series is compared with the one of that name.

use thiserror::Error;

/// More samples would be no table any more; a bench that runs wild ends here.
const SAMPLES_MAX: usize = 1_000_000;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and costs.
    Lower,
    /// Lower, and it is the whole distribution that counts.
    Spread,
}

/// Values of one series in one case, in the order of the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// One a round.
    pub values: Vec<f64>,
}

/// What was measured of every series.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// By whom.
    pub series: Vec<Series>,
}

impl Case {
    /// The values of a series; none where it has none here.
    #[must_use]
    pub fn values(&self, series: &str) -> &[f64] {
        self.series.iter().find(|s| s.name == series).map_or(&[], |s| &s.values)
    }
}

/// One table, one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is measured.
    pub name: String,
    /// In what.
    pub unit: String,
    /// Which way is good.
    pub better: Better,
    /// With whom the others are compared.
    pub baseline: Option<String>,
    /// Whether the picture's axis is logarithmic.
    pub log: bool,
    /// More comparisons: first by second.
    pub compare: Vec<(String, String)>,
    /// The cases, in the order in which they came.
    pub cases: Vec<Case>,
}

impl Panel {
    /// Every series that some case has, in the order in which they came.
    #[must_use]
    pub fn series(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for series in self.cases.iter().flat_map(|case| &case.series) {
            if !names.contains(&series.name.as_str()) {
                names.push(&series.name);
            }
        }
        names
    }

    /// Every comparison, those with the baseline first.
    #[must_use]
    pub fn ratios(&self) -> Vec<(&str, &str)> {
        let baseline = self.baseline.iter().flat_map(|baseline| {
            let others = self.series().into_iter().filter(move |name| name != baseline);
            others.map(|name| (name, baseline.as_str()))
        });
        baseline.chain(self.compare.iter().map(|(a, b)| (a.as_str(), b.as_str()))).collect()
    }

    fn add(&mut self, case: &str, series: &str, value: f64) {
        let at = self.cases.iter().position(|c| c.name == case).unwrap_or_else(|| {
            self.cases.push(Case { name: case.to_owned(), series: Vec::new() });
            self.cases.len() - 1
        });
        let all = &mut self.cases[at].series;
        match all.iter_mut().find(|s| s.name == series) {
            Some(series) => series.values.push(value),
            None => all.push(Series { name: series.to_owned(), values: vec![value] }),
        }
    }
}

/// Everything that one section of a bench found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sheet {
    /// What it is about.
    pub title: String,
    /// On what it was measured.
    pub machine: Vec<(String, String)>,
    /// Its panels.
    pub panels: Vec<Panel>,
}

/// A text that is no sheet.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {why}")]
pub struct SampleError {
    /// Counted from 1.
    line: usize,
    why: String,
}

impl Sheet {
    /// Reads a text.
    ///
    /// # Errors
    /// The first line that says nothing known, names a panel that was not declared, or holds a
    /// value that is no finite number.
    pub fn parse(text: &str) -> Result<Self, SampleError> {
        let mut sheet = Self::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            if at >= SAMPLES_MAX {
                return Err(SampleError { line: at + 1, why: "too many lines".to_owned() });
            }
            sheet.read(line).map_err(|why| SampleError { line: at + 1, why })?;
        }
        Ok(sheet)
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["title", title] => title.clone_into(&mut self.title),
            ["machine", key, value] => {
                self.machine.retain(|(known, _)| known != key);
                self.machine.push((key.to_owned(), value.to_owned()));
            }
            ["panel", name, unit, better, baseline] => {
                self.declare(name, unit, better, baseline, false)?;
            }
            ["panel", name, unit, better, baseline, "log"] => {
                self.declare(name, unit, better, baseline, true)?;
            }
            ["compare", panel, first, second] => {
                self.panel(panel)?.compare.push((first.to_owned(), second.to_owned()));
            }
            ["sample", panel, case, series, value] => {
                let number = value.trim().parse().ok().filter(|number: &f64| number.is_finite());
                let number = number.ok_or_else(|| format!("'{value}' is not a number"))?;
                self.panel(panel)?.add(case, series, number);
            }
            [word, ..] => return Err(format!("'{word}' with {} words", words.len())),
            [] => {}
        }
        Ok(())
    }

    fn declare(
        &mut self,
        name: &str,
        unit: &str,
        better: &str,
        baseline: &str,
        log: bool,
    ) -> Result<(), String> {
        if self.panel(name).is_ok() {
            return Err(format!("panel '{name}' twice"));
        }
        let better = match better {
            "higher" => Better::Higher,
            "lower" => Better::Lower,
            "spread" => Better::Spread,
            _ => return Err(format!("'{better}' is not higher, lower or spread")),
        };
        self.panels.push(Panel {
            name: name.to_owned(),
            unit: unit.to_owned(),
            better,
            baseline: (baseline != "-").then(|| baseline.to_owned()),
            log,
            compare: Vec::new(),
            cases: Vec::new(),
        });
        Ok(())
    }

    fn panel(&mut self, name: &str) -> Result<&mut Panel, String> {
        let found = self.panels.iter_mut().find(|panel| panel.name == name);
        found.ok_or_else(|| format!("no panel '{name}'"))
    }
}
