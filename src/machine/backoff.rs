//! How long to wait before the next restart, and when to give up (contract, section 7).

use std::time::Duration;

use crate::config::{Restart, RestartLimit};
use crate::facts::Time;

/// The restarts of the past, as far as they decide on the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Backoff {
    /// Consecutive restarts that nobody asked for, and failed starts.
    pub(super) consecutive: u32,
    /// When there were some lately, for a limit within a time.
    pub(super) recent: Vec<Time>,
    /// The state of a small generator of random numbers.
    pub(super) seed: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { consecutive: 0, recent: Vec::new(), seed: seed | 1 }
    }

    /// Begins a new series.
    pub(super) fn reset(&mut self) {
        self.consecutive = 0;
    }

    /// Counts a restart, and returns the delay before it. `None` where there were too many; `limited` says whether the
    /// limit counts at all.
    pub(super) fn next(&mut self, now: Time, restart: &Restart, limited: bool) -> Option<Duration> {
        match restart.limit.filter(|_| limited) {
            Some(RestartLimit { count, within: None }) if self.consecutive >= count => return None,
            Some(RestartLimit { count, within: Some(within) }) => {
                self.recent.retain(|at| now.saturating_sub(*at) < within);
                if self.recent.len() >= usize::try_from(count).unwrap_or(usize::MAX) {
                    return None;
                }
                self.recent.push(now);
            }
            _ => {}
        }
        // If the factor overflows, the delay is the longest one.
        let factor = 1u32.checked_shl(self.consecutive).unwrap_or(u32::MAX);
        let delay = restart.delay.saturating_mul(factor).min(restart.max_delay);
        self.consecutive = self.consecutive.saturating_add(1);
        Some(self.spread(delay, 0.25))
    }

    /// A time, and up to `share` of it more, at random.
    pub(super) fn spread(&mut self, time: Duration, share: f64) -> Duration {
        // Marsaglia, "Xorshift RNGs", 2003.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let random = f64::from(u16::try_from(self.seed >> 48).unwrap_or(0)) / f64::from(u16::MAX);
        time.saturating_add(time.mul_f64(random * share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::When;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(limit: Option<RestartLimit>) -> Restart {
        Restart {
            when: When::Always,
            delay: Duration::from_millis(100),
            max_delay: SECOND,
            reset: SECOND,
            limit,
            never_on: Vec::new(),
        }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(7);
        for wanted in [100, 200, 400, 800, 1000, 1000] {
            let (delay, wanted) = (backoff.next(SECOND, &policy(None), true).unwrap(), Duration::from_millis(wanted));
            assert!(delay >= wanted && delay <= wanted + wanted / 4, "{delay:?} {wanted:?}");
        }
        backoff.reset();
        assert!(backoff.next(SECOND, &policy(None), true).unwrap() < Duration::from_millis(126));
        backoff.consecutive = u32::MAX;
        assert!(backoff.next(SECOND, &policy(None), true).unwrap() >= SECOND);
        assert_eq!(backoff.consecutive, u32::MAX);
    }

    #[test]
    fn limits() {
        let mut backoff = Backoff::new(7);
        let consecutive = policy(Some(RestartLimit { count: 2, within: None }));
        let next = |backoff: &mut Backoff, limited| backoff.next(SECOND, &consecutive, limited).is_some();
        assert_eq!([(); 3].map(|()| next(&mut backoff, true)), [true, true, false]);
        assert!(next(&mut backoff, false));
        let mut backoff = Backoff::new(7);
        let within = policy(Some(RestartLimit { count: 1, within: Some(10 * SECOND) }));
        let mut at = |seconds: u32| backoff.next(seconds * SECOND, &within, true).is_some();
        assert_eq!((at(1), at(10), at(11), at(20), at(21)), (true, false, true, false, true));
    }

    #[test]
    fn delays_differ_and_never_overflow() {
        let mut backoff = Backoff::new(0);
        let seen: std::collections::HashSet<_> = (0..100).map(|_| backoff.spread(SECOND, 0.25)).collect();
        assert!(seen.len() > 90 && seen.iter().all(|time| *time <= SECOND + SECOND / 4));
        assert_eq!(backoff.spread(Duration::MAX, 0.0), Duration::MAX);
    }
}
