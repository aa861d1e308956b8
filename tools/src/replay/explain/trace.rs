//! What a plot needs of a connection, thinned as it grows.

use crate::replay::Side;

/// Points that one connection may have; beyond, every second plain one goes.
const POINTS_MAX: usize = 60_000;

/// What a point of the plot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dot {
    /// New data, from one offset to another.
    Data,
    /// Data again.
    Again,
    /// The acknowledgment that the receiver sent.
    Ack,
    /// The right edge of the receiver's window.
    Edge,
}

/// A point: `from` is the sender of the data that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) from: Side,
    pub(super) dot: Dot,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// The points of a connection.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) points: Vec<Point>,
    /// Takeovers and stalls: from, to.
    pub(super) takeovers: Vec<u64>,
    pub(super) stalls: Vec<(u64, u64)>,
    stride: u64,
    seen: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { points: Vec::new(), takeovers: Vec::new(), stalls: Vec::new(), stride: 1, seen: 0 }
    }
}

impl Trace {
    /// Takes a point. Retransmissions are kept as long as there is room for them at all.
    pub(super) fn push(&mut self, point: Point) {
        self.seen += 1;
        let keeps = point.dot == Dot::Again || self.seen.is_multiple_of(self.stride);
        if !keeps {
            return;
        }
        if self.points.len() >= POINTS_MAX {
            self.thin();
        }
        self.points.push(point);
    }

    fn thin(&mut self) {
        self.stride *= 2;
        let mut odd = false;
        self.points.retain(|point| {
            odd = !odd;
            odd || point.dot == Dot::Again
        });
        // Nothing but retransmissions: they are thinned as well.
        if self.points.len() > POINTS_MAX / 4 * 3 {
            self.points.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }
}
