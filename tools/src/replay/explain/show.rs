//! The report as text and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::event::{Event, What, time};
use super::summary::Summary;
use super::{Report, Told};
use crate::replay::Side;

/// Rows of the table, before only the most interesting connections are in it.
const ROWS: usize = 40;
/// Exchanges of data in a row that are told one by one.
const UNFOLDED: usize = 8;
/// Of a longer row, so many at either end.
const SHOWN: usize = 2;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        for takeover in &self.takeovers {
            let at = takeover.at as f64 / 1e9;
            writeln!(f, "takeover at {at:.6} s, packet {}: {}", takeover.frame, takeover.how)?;
        }
        self.table(f)?;
        for told in &self.told {
            self.story(f, told)?;
        }
        if self.untold > 0 {
            writeln!(f, "\n{} more connections were chosen and are not told", self.untold)?;
        }
        let plain = self.summaries.len() - self.told.len();
        if plain > 0 {
            writeln!(f, "\nnot told: {plain} connections; choose with --conn")?;
        }
        Ok(())
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<usize> = (0..self.summaries.len()).collect();
        if rows.len() > ROWS {
            rows.sort_by_key(|&index| std::cmp::Reverse(self.summaries[index].interest()));
            rows.truncate(ROWS);
            rows.sort_unstable();
            writeln!(f, "\nthe {ROWS} connections with the most to tell:")?;
        } else {
            writeln!(f)?;
        }
        writeln!(
            f,
            "{:>5}  {:<46} {:>11} {:>9} {:>11} {:>11} {:>6} {:>7} {:>9}  ended",
            "#",
            "client -> server",
            "begins",
            "lasts",
            "up",
            "down",
            "again",
            "stalls",
            "takeovers"
        )?;
        for index in rows {
            row(f, index + 1, &self.summaries[index])?;
        }
        Ok(())
    }

    fn story(&self, f: &mut fmt::Formatter<'_>, told: &Told) -> fmt::Result {
        let ends = told.summary.ends.map(|ends| ends.to_string()).unwrap_or_default();
        writeln!(f, "\nconnection {}: {ends}", told.number)?;
        writeln!(f, "{:>13} {:>9}  who", "seconds", "packet")?;
        let events = &told.details.events;
        let mut index = 0;
        while index < events.len() {
            let row = events[index..].iter().take_while(|e| is_data(e)).count();
            if self.unfolded || row <= UNFOLDED {
                let count = row.max(1);
                events[index..index + count].iter().try_for_each(|event| line(f, event))?;
                index += count;
                continue;
            }
            let (head, tail) = (index + SHOWN, index + row - SHOWN);
            events[index..head].iter().try_for_each(|event| line(f, event))?;
            fold(f, &events[head..tail])?;
            events[tail..index + row].iter().try_for_each(|event| line(f, event))?;
            index += row;
        }
        if told.details.left_out > 0 {
            writeln!(f, "{:>23}  … {} further events are not told", "", told.details.left_out)?;
        }
        verdict(f, &told.summary)
    }

    /// The report for programs. Times are nanoseconds since the capture's first frame.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let told: Vec<Value> = self
            .told
            .iter()
            .map(|told| {
                json!({
                    "number": told.number,
                    "events": told.details.events,
                    "events_left_out": told.details.left_out,
                })
            })
            .collect();
        json!({
            "capture": self.counts,
            "takeovers": self.takeovers,
            "connections": self.summaries,
            "told": told,
        })
    }
}

fn row(f: &mut fmt::Formatter<'_>, number: usize, summary: &Summary) -> fmt::Result {
    let stalls: u64 = summary.stalls.values().map(|stalls| stalls.count).sum();
    writeln!(
        f,
        "{number:>5}  {:<46} {:>9.6} s {:>9} {:>11} {:>11} {:>6} {stalls:>7} {:>9}  {}",
        summary.ends.map(|ends| ends.to_string()).unwrap_or_default(),
        summary.at as f64 / 1e9,
        time(summary.length),
        summary.client_bytes,
        summary.server_bytes,
        summary.again_count(),
        summary.takeovers,
        summary.ending,
    )
}

fn is_data(event: &Event) -> bool {
    matches!(event.what, What::Data { .. })
}

fn line(f: &mut fmt::Formatter<'_>, event: &Event) -> fmt::Result {
    let who = match event.from {
        Some(Side::Client) => "client ->        ",
        Some(Side::Server) => "       <- server ",
        None => "--               ",
    };
    let frame = if event.frame == 0 { String::new() } else { event.frame.to_string() };
    writeln!(f, "{:>13.6} {frame:>9}  {who} {}", event.at as f64 / 1e9, event.what)
}

fn fold(f: &mut fmt::Formatter<'_>, events: &[Event]) -> fmt::Result {
    let mut bytes = [0_i64; 2];
    for event in events {
        if let What::Data { span, .. } = event.what {
            bytes[usize::from(event.from == Some(Side::Server))] += span.length();
        }
    }
    let [client, server] = bytes;
    writeln!(
        f,
        "{:>23}  … {} lines more of data: {client} bytes from the client, {server} from the server",
        "",
        events.len()
    )
}

fn verdict(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    let Summary { client_bytes, server_bytes, resent_bytes, ending, .. } = summary;
    write!(f, "  in short: {client_bytes} bytes up, {server_bytes} down, {ending}")?;
    if let Some(srtt) = summary.srtt {
        write!(f, "; round trip as captured {}", time(srtt))?;
    }
    if summary.again_count() > 0 {
        let kinds: Vec<String> =
            summary.again.iter().map(|(why, count)| format!("{count} {why}")).collect();
        write!(f, "\n  sent again: {resent_bytes} bytes; segments: {}", kinds.join(", "))?;
        if summary.needless > 0 {
            write!(f, "; the receiver called {} of them needless", summary.needless)?;
        }
    }
    for (cause, stalls) in &summary.stalls {
        let (count, longest) = (stalls.count, time(stalls.longest));
        write!(f, "\n  stalls: {count} x {cause}, the longest {longest}")?;
    }
    writeln!(f)
}
