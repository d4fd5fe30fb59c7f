//! Failures of a machine that nobody watches: counted, so that it does not restart for ever.

use super::{Decision, print};
use crate::firmware::Variables;
use crate::sys::System;
use std::io;
use std::time::Duration;

/// The variable: one byte with the number of failed boots in a row.
const VARIABLE: &str = "TaprootFailedBoots-d183a6f0-858f-4934-8896-38511ede5805";

/// What follows a failure when nobody is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Restart; the number to store first, if the machine has a place for it.
    Restart(Option<u32>),
    /// Try again without a restart.
    TryAgain,
    /// Switch off, because the policy says so.
    PowerOff,
    /// Switch off, because the attempts are used up; a stored number is removed, so that the next start has all of them.
    GiveUp,
}

/// The situation of a headless failure.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Whether the policy is to switch off.
    pub power_off: bool,
    /// Whether the restart was asked for by `panic=`, the kernel's own word.
    pub kernel_word: bool,
    /// `taproot.attempts`; 0: no limit.
    pub limit: u32,
    /// Failed boots before this one, if the machine can remember them over a restart.
    pub stored: Option<u32>,
    /// The stored number that was removed before a hand-over which then failed.
    pub forgotten: u32,
    /// Failures since this start, with this one.
    pub here: u32,
}

/// What follows.
pub fn next(failed: &Failed) -> Next {
    // One byte is stored, so no limit above it could be reached.
    let limit = failed.limit.min(u8::MAX.into());
    match failed.stored.map(|stored| stored.max(failed.forgotten)) {
        _ if failed.power_off => Next::PowerOff,
        _ if limit == 0 => Next::Restart(None),
        Some(before) if before + 1 >= limit => Next::GiveUp,
        Some(before) => Next::Restart(Some(before + 1)),
        // The kernel restarts after every panic, and so do we where nothing can be counted.
        None if failed.kernel_word => Next::Restart(None),
        None if failed.here < limit => Next::TryAgain,
        None => Next::GiveUp,
    }
}

/// Between two lines that say what is waited for.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Says on every console what happens in how long, and waits.
pub fn count_down(system: &dyn System, what: &str, delay: Duration, then: Decision) -> Decision {
    let mut left = delay;
    loop {
        print(system, &format!("taproot: nobody is to be asked: {what} in {} s\n", left.as_secs()));
        let turn = left.min(STATUS_EVERY);
        system.sleep(turn);
        left = left.saturating_sub(turn);
        if left.is_zero() {
            return then;
        }
    }
}

/// The firmware variable that counts.
#[derive(Debug)]
pub struct Counter<'a>(Variables<'a>);

impl<'a> Counter<'a> {
    /// Among these variables.
    pub fn new(variables: Variables<'a>) -> Self {
        Self(variables)
    }

    /// Failed boots in a row so far.
    pub fn read(&self) -> u32 {
        self.0.read(VARIABLE).ok().flatten().and_then(|data| data.first().copied()).unwrap_or_default().into()
    }

    /// Stores a number.
    pub fn write(&self, count: u32) -> io::Result<()> {
        self.0.write(VARIABLE, &[u8::try_from(count).unwrap_or(u8::MAX)])
    }

    /// Removes the number, if there is one; says whether there was.
    pub fn remove(&self) -> io::Result<bool> {
        self.0.remove(VARIABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REBOOT: Failed =
        Failed { power_off: false, kernel_word: false, limit: 3, stored: None, forgotten: 0, here: 1 };

    #[test]
    fn with_a_place_to_count_restarts_are_counted() {
        let stored = |before| next(&Failed { stored: Some(before), ..REBOOT });
        assert_eq!(stored(0), Next::Restart(Some(1)));
        assert_eq!(stored(1), Next::Restart(Some(2)));
        assert_eq!(stored(2), Next::GiveUp);
        assert_eq!(stored(255), Next::GiveUp);
        assert_eq!(next(&Failed { stored: Some(2), kernel_word: true, ..REBOOT }), Next::GiveUp);
    }

    #[test]
    fn a_number_removed_for_a_hand_over_that_failed_still_counts() {
        let failed = |forgotten| next(&Failed { stored: Some(0), forgotten, ..REBOOT });
        assert_eq!([failed(0), failed(1), failed(2)], [Next::Restart(Some(1)), Next::Restart(Some(2)), Next::GiveUp]);
    }

    #[test]
    fn every_limit_can_be_reached() {
        let full = next(&Failed { stored: Some(u8::MAX.into()), limit: 1000, ..REBOOT });
        assert_eq!(full, Next::GiveUp);
    }

    #[test]
    fn without_one_the_attempts_are_made_here() {
        let here = |here| next(&Failed { here, ..REBOOT });
        assert_eq!([here(1), here(2), here(3)], [Next::TryAgain, Next::TryAgain, Next::GiveUp]);
        assert_eq!(next(&Failed { limit: 1, ..REBOOT }), Next::GiveUp);
        assert_eq!(next(&Failed { kernel_word: true, here: 9, ..REBOOT }), Next::Restart(None));
    }

    #[test]
    fn no_limit_and_power_off() {
        assert_eq!(next(&Failed { limit: 0, stored: Some(200), ..REBOOT }), Next::Restart(None));
        assert_eq!(next(&Failed { limit: 0, here: 200, ..REBOOT }), Next::Restart(None));
        assert_eq!(next(&Failed { power_off: true, ..REBOOT }), Next::PowerOff);
    }
}
