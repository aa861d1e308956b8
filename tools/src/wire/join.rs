//! Moves frames between two ports until told to stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::path::{Counts, Impairments, Path};
use super::port::Port;
use super::sys::{self, BATCH};
use crate::clock;

/// The longest sleep: a request to stop is noticed no later.
const NAP: Duration = Duration::from_millis(200);

/// The way of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first interface to the second.
    Forth,
    /// From the second to the first.
    Back,
}

/// What became of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// From the first interface to the second.
    pub forth: Counts,
    /// From the second to the first.
    pub back: Counts,
    /// Frames that no wire carries: too long, or without a checksum.
    pub unfit: u64,
    /// Frames that an interface did not take.
    pub refused: u64,
}

/// Joins two ports, `impairments` for each direction, until `stop` is set.
///
/// # Errors
/// When an interface is gone.
pub fn join(
    ports: [Port; 2],
    impairments: impl Fn(Direction) -> Impairments,
    seed: u64,
    stop: &AtomicBool,
) -> io::Result<Report> {
    let mut link = Link {
        start: clock::now(),
        ports,
        paths: [
            Path::new(impairments(Direction::Forth), seed),
            // Another sequence, so that the two directions do not lose the same frames.
            Path::new(impairments(Direction::Back), !seed),
        ],
        batch: Vec::with_capacity(BATCH),
    };
    let mut more = false;
    while !stop.load(Ordering::Relaxed) {
        if !more {
            link.wait()?;
        }
        more = link.turn()?;
    }
    Ok(link.report())
}

struct Link {
    start: Instant,
    ports: [Port; 2],
    /// `paths[0]` leads from `ports[0]` to `ports[1]`.
    paths: [Path; 2],
    batch: Vec<Vec<u8>>,
}

impl Link {
    fn now(&self) -> Duration {
        clock::now() - self.start
    }

    fn wait(&self) -> io::Result<()> {
        let deadline = self.paths.iter().filter_map(Path::deadline).min();
        let timeout = deadline.map_or(NAP, |at| at.saturating_sub(self.now()).min(NAP));
        if timeout.is_zero() {
            return Ok(());
        }
        sys::wait([self.ports[0].socket(), self.ports[1].socket()], Some(timeout))
    }

    /// Takes what has arrived and sends what is due. Returns whether there may be more at once.
    fn turn(&mut self) -> io::Result<bool> {
        let mut more = false;
        for side in 0..2 {
            let now = self.now();
            let Self { ports, paths, .. } = self;
            more |= ports[side].receive(&mut |frame| paths[side].offer(now, frame))?;
            more |= self.deliver(side)?;
        }
        Ok(more)
    }

    fn deliver(&mut self, side: usize) -> io::Result<bool> {
        let now = self.now();
        let Self { ports, paths, batch, .. } = self;
        while batch.len() < BATCH
            && let Some(frame) = paths[side].poll(now)
        {
            batch.push(frame);
        }
        let full = batch.len() == BATCH;
        ports[1 - side].send(batch)?;
        for frame in batch.drain(..) {
            paths[side].reuse(frame);
        }
        Ok(full)
    }

    fn report(&self) -> Report {
        Report {
            forth: self.paths[0].counts(),
            back: self.paths[1].counts(),
            unfit: self.ports.iter().map(|port| port.unfit).sum(),
            refused: self.ports.iter().map(|port| port.refused).sum(),
        }
    }
}
