//! The root's clock: by its turns asks end that have no answer, reports are sent, and what is closed is opened again.
//!
//! A turn costs a thread of Envoy some fifty microseconds, in every VM: two of them on the main thread, where no request
//! ever comes. So the clock is quick only where somebody may wait: from the start until the line is open, after an ask, and
//! after the line has closed.

use std::time::Duration;

use crate::host::{Host, HostResult};

/// The period of a clock for which nothing waits. Reports of answers that end then are late by as much.
pub const SLOW: Duration = Duration::from_millis(100);

/// The shortest period: for asks that may wait some milliseconds only.
const QUICK_MIN: Duration = Duration::from_millis(5);

/// The period of the clock where asks wait: half of `callout_timeout`, from 5 to 100 ms. An ask without an answer ends that
/// much after its deadline at most, so it waits at most half as long again as it is told to where that is over 10 ms.
pub fn quick(callout_timeout: Duration) -> Duration {
    (callout_timeout / 2).clamp(QUICK_MIN, SLOW)
}

/// One per VM. Its calls are made for the root context.
#[derive(Default, Debug)]
pub struct Clock {
    quick: Duration,
    /// In force; zero before the first configuration.
    period: Duration,
    /// Since it was last seen whether it may go slowly.
    used: bool,
}

impl Clock {
    /// Goes quickly, by this configuration.
    ///
    /// # Errors
    /// When Envoy refuses.
    pub fn configure(&mut self, host: &dyn Host, callout_timeout: Duration) -> HostResult<()> {
        self.quick = quick(callout_timeout);
        self.quicken(host)
    }

    /// Goes quickly from now on: the first turn comes after one quick period.
    ///
    /// # Errors
    /// When Envoy refuses.
    pub fn quicken(&mut self, host: &dyn Host) -> HostResult<()> {
        self.used = true;
        self.set(host, self.quick)
    }

    /// Goes slowly if nobody has asked for a quick clock since this was called last. Not from a turn of the clock: Envoy
    /// would replace the timer whose callback is running.
    ///
    /// # Errors
    /// When Envoy refuses; the clock goes on as it did.
    pub fn rest(&mut self, host: &dyn Host) -> HostResult<()> {
        match std::mem::take(&mut self.used) {
            true => Ok(()),
            false => self.set(host, SLOW),
        }
    }

    fn set(&mut self, host: &dyn Host, period: Duration) -> HostResult<()> {
        if self.period != period {
            host.set_tick_period(period)?;
            self.period = period;
        }
        Ok(())
    }
}
