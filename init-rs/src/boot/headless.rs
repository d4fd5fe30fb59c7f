//! A failure that nobody watches: counted, then another attempt, a restart, or the end.

use super::{Boot, person};
use crate::cmdline::OnFailure;
use crate::firmware;
use crate::rescue::Decision;
use crate::rescue::attempts::{self, Counter, Failed, Next};
use std::time::{Duration, Instant};

/// Between two tries to restart a machine that refuses.
const STUBBORN: Duration = Duration::from_secs(5);

impl Boot<'_> {
    /// After a failure that nobody watches; comes back only for another attempt.
    pub(super) fn headless(&mut self, delay: Duration, power_off: bool) {
        self.course.failed += 1;
        let limit = self.request.rescue.attempts.value;
        let (what, decision) = match self.count_failure(power_off) {
            Next::TryAgain => {
                let line =
                    format!("attempt {} of {limit} failed; the next one in {} s", self.course.failed, delay.as_secs());
                self.log.warn(&line);
                person::print(self.system, &format!("taproot: {line}\n"));
                self.system.sleep(delay);
                self.again();
                return;
            }
            Next::Restart(count) => {
                if let Some(count) = count {
                    person::print(self.system, &format!("taproot: failed boot {count} of at most {limit} in a row\n"));
                }
                ("restarting", Decision::Reboot)
            }
            Next::PowerOff => ("switching off", Decision::PowerOff),
            Next::GiveUp => {
                let why = &self.request.rescue.attempts.why;
                let line = format!("{limit} attempts failed ({why}), so the machine is not started again");
                self.log.error(&line);
                person::print(self.system, &format!("taproot: {line}\n"));
                ("switching off", Decision::PowerOff)
            }
        };
        let decision = attempts::count_down(self.system, what, delay, decision);
        loop {
            let ended = if decision == Decision::PowerOff { self.system.power_off() } else { self.system.restart() };
            if let Err(error) = ended {
                self.log.error(error.to_string());
            }
            self.system.sleep(STUBBORN);
        }
    }

    /// What follows; the count is brought up to date.
    fn count_failure(&self, power_off: bool) -> Next {
        let policy = &self.request.rescue;
        let counter = self.counter();
        let failed = Failed {
            power_off,
            kernel_word: policy.on_failure.why.starts_with("panic="),
            limit: policy.attempts.value,
            stored: counter.as_ref().map(Counter::read),
            forgotten: self.course.forgotten,
            here: self.course.failed,
        };
        let next = attempts::next(&failed);
        let Some(counter) = counter else { return next };
        let result = match next {
            Next::Restart(Some(count)) => counter.write(count),
            Next::GiveUp => counter.remove().map(drop),
            _ => Ok(()),
        };
        match result {
            Ok(()) => next,
            Err(e) => {
                self.log.error(format!("the failed boot could not be counted in the firmware: {e}"));
                attempts::next(&Failed { stored: None, ..failed })
            }
        }
    }

    /// Whether failures are counted over restarts at all.
    pub(super) fn counts(&self) -> bool {
        let policy = &self.request.rescue;
        matches!(policy.on_failure.value, OnFailure::Reboot(_))
            && policy.attempts.value != 0
            && firmware::present(self.system)
    }

    fn counter(&self) -> Option<Counter<'_>> {
        if !self.counts() {
            return None;
        }
        let variables = self.variables();
        if let Err(e) = &variables {
            self.log.warn(format!(
                "the firmware's variables are not usable ({e}); failed boots are counted in memory only"
            ));
        }
        variables.ok().map(Counter::new)
    }

    /// Before the hand-over: failures in a row end here.
    pub(super) fn forget_failures(&mut self) {
        let began = Instant::now();
        let Some(counter) = self.counter() else { return };
        let count = counter.read();
        match counter.remove() {
            Ok(true) => self.log.info("the count of failed boots is removed"),
            Ok(false) => {}
            Err(e) => self.log.warn(format!("the count of failed boots could not be removed: {e}")),
        }
        drop(counter);
        // Nothing can be removed behind the hand-over; if it fails, this boot has failed like those before it.
        self.course.forgotten = count;
        self.log.debug(format!("looked for failed boots in {:.1?}", began.elapsed()));
    }
}
