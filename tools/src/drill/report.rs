//! What a drill found, for a person and for a script.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::failure::Failure;

/// At most so many failures are told one by one; all are counted.
const FAILURES_TOLD: usize = 50;
/// At most so many of the longest gaps are told one by one.
pub const GAPS_TOLD: usize = 16;

/// The result of a drill.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every byte was right and every connection ended in order.
    pub ok: bool,
    /// From the first connection's opening to the last one's end, in seconds.
    pub elapsed_s: f64,
    /// UNIX time of the start, in milliseconds.
    pub started_unix_ms: u64,
    /// All workloads together.
    pub total: Summary,
    /// Each workload, by its name.
    pub workloads: BTreeMap<&'static str, Summary>,
    /// The longest gaps of the drill, longest first.
    pub longest: Vec<Gap>,
    /// The first failures.
    pub failures: Vec<FailureReport>,
}

/// Figures of one workload, or of all.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Connections tried.
    pub opened: u64,
    /// Connections that ended in order, every byte right.
    pub completed: u64,
    /// Connections that did not.
    pub lost: u64,
    /// Those among the lost that showed wrong bytes.
    pub wrong: u64,
    /// Bytes that the peer has acknowledged.
    pub sent: u64,
    /// Bytes received and checked.
    pub received: u64,
    /// HTTP replies received whole, echoes of requests.
    pub exchanges: u64,
    /// Bytes received, or for uploads acknowledged, per second of the drill.
    pub bytes_per_s: f64,
    /// Time from the call of connect to its success.
    pub connect_ms: Spread,
    /// Each connection's longest gap.
    pub gap_ms: Spread,
}

/// A distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Values in it.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

/// A time without progress.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gap {
    /// Its length, in milliseconds.
    pub ms: f64,
    /// Its end, in seconds after the drill's start.
    pub at_s: f64,
    /// The connection's number.
    pub connection: u64,
    /// The connection's workload.
    pub workload: &'static str,
}

/// One connection's failure.
#[derive(Debug, Serialize)]
pub struct FailureReport {
    /// The connection's number.
    pub connection: u64,
    /// The connection's workload.
    pub workload: &'static str,
    /// Its own address, where it had one.
    pub source: Option<String>,
    /// The service's address.
    pub target: String,
    /// Seconds after the drill's start.
    pub at_s: f64,
    /// What happened.
    pub cause: String,
}

/// Collects a [`Summary`].
#[derive(Debug)]
pub(super) struct Tally {
    summary: Summary,
    connect: Histogram<u64>,
    gap: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        // Microseconds, up to an hour, three digits.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Self { summary: Summary::default(), connect: histogram()?, gap: histogram()? })
    }

    pub(super) fn opened(&mut self) {
        self.summary.opened += 1;
    }

    pub(super) fn established(&mut self, took: Duration) {
        self.connect.saturating_record(micros(took));
    }

    pub(super) fn ended(&mut self, sent: u64, received: u64, exchanges: u64, gap: Duration) {
        self.summary.sent += sent;
        self.summary.received += received;
        self.summary.exchanges += exchanges;
        self.gap.saturating_record(micros(gap));
    }

    pub(super) fn verdict(&mut self, failure: Option<&Failure>) {
        match failure {
            None => self.summary.completed += 1,
            Some(failure) => {
                self.summary.lost += 1;
                self.summary.wrong += u64::from(failure.is_wrong_content());
            }
        }
    }

    /// The figures, with the rate over `elapsed`.
    pub(super) fn summary(&self, elapsed: Duration, upload: bool) -> Summary {
        let bytes = if upload { self.summary.sent } else { self.summary.received };
        Summary {
            bytes_per_s: bytes as f64 / elapsed.as_secs_f64().max(1e-9),
            connect_ms: spread(&self.connect),
            gap_ms: spread(&self.gap),
            ..self.summary.clone()
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.summary.lost
    }
}

/// Keeps the longest gaps seen.
#[derive(Debug, Default)]
pub(super) struct Longest(Vec<Gap>);

impl Longest {
    pub(super) fn note(&mut self, gap: Gap) {
        if self.0.len() == GAPS_TOLD && self.0.last().is_some_and(|least| gap.ms <= least.ms) {
            return;
        }
        let place = self.0.partition_point(|other| other.ms >= gap.ms);
        self.0.insert(place, gap);
        self.0.truncate(GAPS_TOLD);
    }

    pub(super) fn into_inner(self) -> Vec<Gap> {
        self.0
    }
}

/// Adds to the told failures, as long as there are few.
pub(super) fn tell(failures: &mut Vec<FailureReport>, failure: FailureReport) {
    if failures.len() < FAILURES_TOLD {
        failures.push(failure);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn spread(histogram: &Histogram<u64>) -> Spread {
    if histogram.is_empty() {
        return Spread::default();
    }
    let ms = |micros: u64| micros as f64 / 1e3;
    Spread {
        count: histogram.len(),
        p50: ms(histogram.value_at_quantile(0.50)),
        p90: ms(histogram.value_at_quantile(0.90)),
        p99: ms(histogram.value_at_quantile(0.99)),
        max: ms(histogram.max()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<9}{:>8}{:>10}{:>6}{:>7}{:>11}{:>11}{:>11}{:>10}{:>10}{:>10}",
            "",
            "opened",
            "completed",
            "lost",
            "wrong",
            "sent",
            "received",
            "rate",
            "gap p50",
            "gap p99",
            "gap max"
        )?;
        for (name, summary) in &self.workloads {
            line(f, name, summary)?;
        }
        if self.workloads.len() > 1 {
            line(f, "total", &self.total)?;
        }
        for failure in &self.failures {
            let FailureReport { connection, workload, target, at_s, cause, .. } = failure;
            writeln!(f, "connection {connection} ({workload} {target}) at {at_s:.3} s: {cause}")?;
        }
        let told = self.failures.len() as u64;
        if self.total.lost > told {
            writeln!(f, "… and {} more", self.total.lost - told)?;
        }
        let verdict = if self.ok { "every byte right, no connection lost" } else { "FAILED" };
        write!(f, "{verdict} ({:.1} s)", self.elapsed_s)
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, summary: &Summary) -> fmt::Result {
    let Summary { opened, completed, lost, wrong, sent, received, gap_ms, bytes_per_s, .. } =
        summary;
    writeln!(
        f,
        "{name:<9}{opened:>8}{completed:>10}{lost:>6}{wrong:>7}{:>11}{:>11}{:>11}{:>10}{:>10}{:>10}",
        size(*sent as f64),
        size(*received as f64),
        size(*bytes_per_s) + "/s",
        format!("{:.1} ms", gap_ms.p50),
        format!("{:.1} ms", gap_ms.p99),
        format!("{:.1} ms", gap_ms.max),
    )
}

fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_gaps_come_first_and_few_are_kept() {
        let mut longest = Longest::default();
        for ms in 0..100 {
            let ms = f64::from(ms * 7 % 100);
            longest.note(Gap { ms, at_s: 0.0, connection: 0, workload: "echo" });
        }
        let kept: Vec<f64> = longest.into_inner().iter().map(|gap| gap.ms).collect();
        let expected: Vec<f64> = (84..100).rev().map(f64::from).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn wrong_bytes_count_as_lost_and_as_wrong() {
        let mut tally = Tally::new().unwrap();
        for _ in 0..3 {
            tally.opened();
            tally.ended(10, 20, 1, Duration::from_millis(4));
        }
        tally.verdict(None);
        tally.verdict(Some(&Failure::Interrupted));
        tally.verdict(Some(&Failure::Excess(7)));
        let Summary { opened, completed, lost, wrong, sent, received, exchanges, .. } =
            tally.summary(Duration::from_secs(1), false);
        assert_eq!((opened, completed, lost, wrong), (3, 1, 2, 1));
        assert_eq!((sent, received, exchanges), (30, 60, 3));
        let gap = tally.summary(Duration::from_secs(2), true).gap_ms;
        assert_eq!(gap.count, 3);
        assert!((gap.p50 - 4.0).abs() < 0.01 && (gap.max - 4.0).abs() < 0.01, "{gap:?}");
    }
}
