//! Gaps in another program's output: what a user of curl sees while a server dies.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use super::report::{Gap, Longest, Report, Tally};
use crate::clock;

/// Copies standard input to standard output and reports the times without a byte. Whether the
/// bytes are right is for others to say.
///
/// # Errors
/// Those of reading, writing, and of creating the `ready` file, which is done at the first byte.
pub fn measure(ready: Option<&Path>) -> io::Result<Report> {
    copy(&mut io::stdin().lock(), &mut io::stdout().lock(), ready)
}

fn copy(from: &mut impl Read, to: &mut impl Write, ready: Option<&Path>) -> io::Result<Report> {
    let mut buffer = vec![0; 256 * 1024];
    let start = clock::now();
    let started_unix_ms = clock::unix_millis();
    let mut tally = Tally::new().map_err(io::Error::other)?;
    let mut longest = Longest::default();
    let (mut received, mut last, mut most) = (0, None, 0.0_f64);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let now = clock::now();
        match last.replace(now) {
            Some(before) => {
                let ms = now.saturating_duration_since(before).as_secs_f64() * 1e3;
                let at_s = now.saturating_duration_since(start).as_secs_f64();
                longest.note(Gap { ms, at_s, connection: 0, workload: "pipe" });
                most = most.max(ms);
            }
            None => {
                if let Some(path) = ready {
                    std::fs::write(path, format!("{}\n", std::process::id()))?;
                }
            }
        }
        received += count as u64;
        to.write_all(&buffer[..count])?;
    }
    to.flush()?;
    tally.opened();
    tally.ended(0, received, 0, std::time::Duration::from_secs_f64(most / 1e3));
    tally.verdict(None);
    let elapsed = clock::now().saturating_duration_since(start);
    let total = tally.summary(elapsed, false);
    Ok(Report {
        ok: true,
        elapsed_s: elapsed.as_secs_f64(),
        started_unix_ms,
        workloads: BTreeMap::from([("pipe", total.clone())]),
        total,
        longest: longest.into_inner(),
        failures: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Two bytes with a pause between them.
    struct Halting(u8);

    impl Read for Halting {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 == 2 {
                std::thread::sleep(Duration::from_millis(30));
            }
            into[0] = self.0;
            Ok(usize::from(self.0 <= 2))
        }
    }

    #[test]
    fn pause_is_a_gap_and_bytes_pass() {
        let mut out = Vec::new();
        let report = copy(&mut Halting(0), &mut out, None).unwrap();
        assert_eq!(out, [1, 2]);
        assert_eq!((report.total.received, report.longest.len()), (2, 1));
        assert!(report.longest[0].ms >= 30.0, "{:?}", report.longest);
    }
}
