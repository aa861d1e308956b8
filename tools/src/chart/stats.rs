//! Medians, quartiles, ratios.

use serde::Serialize;

/// How values lie, by the nearest rank: each is one that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// A quarter lies at or below it.
    pub q1: f64,
    /// The median.
    pub median: f64,
    /// Three quarters lie at or below it.
    pub q3: f64,
    /// 99 of 100 lie at or below it.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// That of some values; none of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied()
        };
        Some(Self {
            min: rank(0.0)?,
            q1: rank(0.25)?,
            median: rank(0.5)?,
            q3: rank(0.75)?,
            p99: rank(0.99)?,
            max: rank(1.0)?,
        })
    }
}

/// How two series compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    /// Of the medians.
    pub(super) of_medians: f64,
    /// Of each round, where both series have as many; their quartiles.
    pub(super) quartiles: Option<(f64, f64)>,
}

impl Ratio {
    /// First by second; none where there are no values, or the second's median is zero.
    pub(super) fn of(first: &[f64], second: &[f64]) -> Option<Self> {
        let (above, below) = (Spread::of(first)?.median, Spread::of(second)?.median);
        if below == 0.0 {
            return None;
        }
        let paired = first.len() == second.len() && second.iter().all(|value| *value != 0.0);
        let rounds: Vec<f64> = first.iter().zip(second).map(|(a, b)| a / b).collect();
        let quartiles = Spread::of(&rounds).filter(|_| paired).map(|spread| (spread.q1, spread.q3));
        Some(Self { of_medians: above / below, quartiles })
    }
}
