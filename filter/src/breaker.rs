//! Stops asking a sidecar that does not answer: without it, every request would wait the full callout timeout while
//! the sidecar hangs. Refused connections do not count: they cost no time.

use std::time::Duration;

use crate::config::BreakerConfig;

/// Counts timeouts in a row; one breaker per VM.
#[derive(Default, Debug)]
pub struct Breaker {
    timeouts: usize,
    /// Set while open: no call is made before this time.
    shut_until: Option<Duration>,
}

impl Breaker {
    /// Whether the sidecar may be asked now. While open, it lets one request through every `open_for`: its answer
    /// closes the breaker. A trial whose answer never comes (its client left) needs no clean-up, the next one follows.
    pub fn allow(&mut self, config: &BreakerConfig, now: Duration) -> bool {
        match self.shut_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.shut_until = Some(now + config.open_for);
                true
            }
        }
    }

    /// Whether the sidecar counts as gone.
    pub fn is_open(&self) -> bool {
        self.shut_until.is_some()
    }

    /// The sidecar answered, or refused at once.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// The sidecar let the time run out. True if this opened the breaker.
    pub fn timed_out(&mut self, config: &BreakerConfig, now: Duration) -> bool {
        self.timeouts = self.timeouts.saturating_add(1);
        if self.timeouts < config.consecutive_timeouts {
            return false;
        }
        self.shut_until.replace(now + config.open_for).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { consecutive_timeouts: 3, open_for: Duration::from_secs(2) };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn opens_after_timeouts_in_a_row_only() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert!(!breaker.timed_out(&CONFIG, at(0)));
            assert!(!breaker.timed_out(&CONFIG, at(0)));
            breaker.answered();
        }
        assert!(breaker.allow(&CONFIG, at(1)));
    }

    #[test]
    fn open_lets_one_trial_through_per_period_and_closes_on_an_answer() {
        let mut breaker = Breaker::default();
        let opened: Vec<_> = (0..4).map(|_| breaker.timed_out(&CONFIG, at(0))).collect();
        assert_eq!(opened, [false, false, true, false]);
        assert!(!breaker.allow(&CONFIG, at(1999)));
        assert!(breaker.allow(&CONFIG, at(2000)));
        assert!(!breaker.allow(&CONFIG, at(2001)), "one trial at a time");
        assert!(breaker.allow(&CONFIG, at(4000)), "a lost trial does not keep it shut");
        assert!(!breaker.timed_out(&CONFIG, at(4050)));
        assert!(!breaker.allow(&CONFIG, at(6000)));
        assert!(breaker.allow(&CONFIG, at(6050)));
        breaker.answered();
        assert!(breaker.allow(&CONFIG, at(6051)));
        assert!(!breaker.timed_out(&CONFIG, at(6052)), "counting starts anew");
    }
}
