//! Heartbeat detector: how long each path has been silent.
//!
//! Silence is counted from the later of the last beat and the *baseline*, the moment from which
//! this process was surely awake: what one sleeps through one cannot call silence. A beat counts
//! once per path; copies and stragglers (not above the highest sequence of that path) do not.

use super::super::types::{Path, Report, Timing};
use crate::time::{Duration, Instant};

/// What one path has delivered.
#[derive(Clone, Copy, Debug, Default)]
struct Ear {
    /// Highest sequence of the current boot.
    sequence: u64,
    /// When the last new beat came; `None` if none ever did.
    heard: Option<Instant>,
    /// Whether its silence has been reported.
    reported: bool,
}

/// Both paths to the peer.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Detector {
    ears: [Ear; 2],
    baseline: Instant,
    detection: Duration,
}

/// Whether a beat was new on its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum Arrival {
    /// The first with its sequence or later on this path.
    New,
    /// A copy or a straggler.
    Old,
}

impl Detector {
    /// A detector that starts to listen at `now`.
    pub(in crate::role) fn new(now: Instant, timing: &Timing) -> Self {
        Self { ears: [Ear::default(); 2], baseline: now, detection: timing.detection }
    }

    /// A beat came. Returns the report that a silent path is back, too.
    pub(in crate::role) fn hear(
        &mut self,
        now: Instant,
        path: Path,
        sequence: u64,
    ) -> (Arrival, Option<Report>) {
        let ear = &mut self.ears[index(path)];
        if sequence <= ear.sequence {
            return (Arrival::Old, None);
        }
        let silent_for = ear.heard.map_or(Duration::ZERO, |heard| now.since(heard));
        let report = ear.reported.then_some(Report::PathBack { path, silent_for });
        *ear = Ear { sequence, heard: Some(now), reported: false };
        (Arrival::New, report)
    }

    /// The peer is another process now: its sequence begins anew.
    pub(in crate::role) fn forget_sequences(&mut self) {
        for ear in &mut self.ears {
            ear.sequence = 0;
        }
    }

    /// This process stood still until `now`: silence counts from here.
    pub(in crate::role) fn restart(&mut self, now: Instant) {
        self.baseline = now;
    }

    /// Since when this process has surely been awake and able to hear.
    pub(in crate::role) const fn awake_since(&self) -> Instant {
        self.baseline
    }

    /// How long `path` has been silent while this process was awake.
    pub(in crate::role) fn silence(&self, now: Instant, path: Path) -> Duration {
        let heard = self.ears[index(path)].heard.unwrap_or(Instant::ZERO);
        now.since(heard.max(self.baseline))
    }

    /// How long both paths have been silent while this process was awake.
    pub(in crate::role) fn silence_on_both(&self, now: Instant) -> Duration {
        self.silence(now, Path::Replication).min(self.silence(now, Path::Lan))
    }

    /// Whether `path` alone has been silent for the detection time.
    pub(in crate::role) fn is_silent(&self, now: Instant, path: Path) -> bool {
        self.silence(now, path) >= self.detection
    }

    /// Whether both have: the peer's host, or everything between, is gone.
    pub(in crate::role) fn is_silent_on_both(&self, now: Instant) -> bool {
        self.silence_on_both(now) >= self.detection
    }

    /// Whether a beat on `path` came within the detection time. Unlike `!is_silent`, a beat is
    /// needed: to have just woken up is no sign of life.
    pub(in crate::role) fn is_heard(&self, now: Instant, path: Path) -> bool {
        self.ears[index(path)].heard.is_some_and(|heard| now.since(heard) < self.detection)
    }

    /// Whether a beat came within the detection time on either path.
    pub(in crate::role) fn is_heard_on_any(&self, now: Instant) -> bool {
        self.is_heard(now, Path::Replication) || self.is_heard(now, Path::Lan)
    }

    /// Whether a beat ever came.
    pub(in crate::role) fn was_heard(&self) -> bool {
        self.ears.iter().any(|ear| ear.heard.is_some())
    }

    /// Time since the last beat on any path, awake or not; zero if none ever came.
    pub(in crate::role) fn since_heard(&self, now: Instant) -> Duration {
        let heard = self.ears.iter().filter_map(|ear| ear.heard).max();
        heard.map_or(Duration::ZERO, |heard| now.since(heard))
    }

    /// The report of a path that has fallen silent since the last call.
    pub(in crate::role) fn poll_report(&mut self, now: Instant) -> Option<Report> {
        for path in [Path::Replication, Path::Lan] {
            let silent_for = self.silence(now, path);
            let ear = &mut self.ears[index(path)];
            if ear.heard.is_some() && !ear.reported && silent_for >= self.detection {
                ear.reported = true;
                return Some(Report::PathSilent { path, silent_for });
            }
        }
        None
    }
}

/// Replication first.
const fn index(path: Path) -> usize {
    match path {
        Path::Replication => 0,
        Path::Lan => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn one_path_alone_keeps_the_peer_alive_and_the_other_is_reported_once() {
        let mut detector = Detector::new(at(0), &Timing::default());
        detector.hear(at(0), Path::Replication, 1);
        detector.hear(at(0), Path::Lan, 1);
        detector.hear(at(50), Path::Lan, 6);
        assert!(detector.is_silent(at(50), Path::Replication));
        assert!(!detector.is_silent_on_both(at(50)));
        let silent_for = Duration::from_millis(50);
        let report = Report::PathSilent { path: Path::Replication, silent_for };
        assert_eq!(detector.poll_report(at(50)), Some(report));
        assert_eq!(detector.poll_report(at(51)), None);
        let (_, back) = detector.hear(at(70), Path::Replication, 8);
        let silent_for = Duration::from_millis(70);
        assert_eq!(back, Some(Report::PathBack { path: Path::Replication, silent_for }));
    }

    #[test]
    fn the_peer_was_heard_when_either_path_last_brought_anything() {
        for (replication, lan) in [(10, 40), (40, 10)] {
            let mut detector = Detector::new(at(0), &Timing::default());
            detector.hear(at(replication), Path::Replication, 1);
            detector.hear(at(lan), Path::Lan, 1);
            assert_eq!(detector.since_heard(at(50)), Duration::from_millis(10));
        }
    }

    #[test]
    fn copies_and_stragglers_are_no_sign_of_life() {
        let mut detector = Detector::new(at(0), &Timing::default());
        assert_eq!(detector.hear(at(10), Path::Lan, 7).0, Arrival::New);
        assert_eq!(detector.hear(at(40), Path::Lan, 7).0, Arrival::Old);
        assert_eq!(detector.hear(at(45), Path::Lan, 3).0, Arrival::Old);
        assert!(detector.is_silent_on_both(at(60)));
    }

    #[test]
    fn what_was_slept_through_is_no_silence_of_either_path() {
        for path in [Path::Replication, Path::Lan] {
            let mut detector = Detector::new(at(0), &Timing::default());
            detector.hear(at(10), path, 1);
            detector.restart(at(500));
            assert_eq!(detector.silence(at(540), path), Duration::from_millis(40));
            assert_eq!(detector.poll_report(at(549)), None, "{path}");
            assert!(detector.is_silent(at(550), path));
        }
    }

    #[test]
    fn what_was_slept_through_is_not_silence() {
        let mut detector = Detector::new(at(0), &Timing::default());
        detector.hear(at(0), Path::Lan, 1);
        detector.restart(at(500));
        assert!(!detector.is_silent_on_both(at(549)));
        assert!(!detector.is_heard_on_any(at(501)), "waking up is no sign of the peer's life");
        assert!(detector.is_silent_on_both(at(550)));
    }
}
