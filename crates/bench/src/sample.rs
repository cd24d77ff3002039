// SPDX-License-Identifier: Apache-2.0
//! Many durations of one thing, and what is said about them.

use std::time::Duration;

/// Durations, in the order they were measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest that is not smaller than half of them; zero if there is none.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The smallest that is not smaller than this share of them, in percent (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// Median by median; not a number if the other has none.
    pub fn median_ratio(&self, other: &Self) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }

    /// The sums of pairs measured together.
    #[must_use]
    pub fn sums(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(one, two)| *one + *two)
                .collect(),
        )
    }
}

impl Extend<Duration> for Sample {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, durations: I) {
        self.0.extend(durations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: impl IntoIterator<Item = u64>) -> Sample {
        let mut sample = Sample::default();
        sample.extend(millis.into_iter().map(Duration::from_millis));
        sample
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let hundred = sample((1..=100).rev());
        assert_eq!(hundred.median(), Duration::from_millis(50));
        assert_eq!(hundred.percentile(95), Duration::from_millis(95));
        assert_eq!(hundred.max(), Duration::from_millis(100));
        assert_eq!(sample([7]).percentile(95), Duration::from_millis(7));
        assert_eq!(sample([]).median(), Duration::ZERO);
        assert_eq!(sample([1, 9]).median(), Duration::from_millis(1));
        assert_eq!(sample([1, 2]).sums(&sample([10, 20])), sample([11, 22]));
        assert!((sample([3]).median_ratio(&sample([6])) - 0.5).abs() < 1e-9);
    }
}
