//! What follows when an attempt fails: a fallback root, a person's choice, or - where nobody is to be asked - another
//! attempt, a restart or the end.

use super::facts::Facts;
use super::{Moment, Next, next};
use crate::cmdline::{self, Decided, OnFailure, Request};
use crate::plan::failure::Failure;
use std::time::Duration;

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Try this root.
    Fallback(Decided<cmdline::Fallback>),
    /// Explain, and ask a person.
    Ask,
    /// Explain; nobody is to be asked: count the failure, then restart, switch off, or try again, after this time.
    Headless {
        /// Before whatever follows.
        delay: Duration,
        /// Whether the policy is to switch off.
        power_off: bool,
    },
}

/// The same request with all the time there is.
pub fn patient(request: &Request) -> Request {
    let mut request = request.clone();
    for wait in [&mut request.wait, &mut request.resume.wait, &mut request.keys.file_wait] {
        wait.value = Duration::MAX;
    }
    request
}

/// What a patient request still waits for, whatever failed meanwhile; `None`: waiting does not help.
pub fn awaited(moment: Moment<'_>) -> Option<String> {
    match next(moment) {
        Next::Wait(wait) => Some(wait.what),
        _ => None,
    }
}

/// Whether a patient request would go on with what is there. A failure that has become certain is none.
pub fn arrived(moment: Moment<'_>) -> bool {
    !matches!(next(moment), Next::Wait(_) | Next::Fail(_))
}

/// What follows this failure.
pub fn recover(request: &Request, facts: &Facts, failure: &Failure) -> Recovery {
    if failure.code.another_root_may_help()
        && let Some(next) = request.fallback.get(facts.fallbacks_taken)
    {
        return Recovery::Fallback(next.clone());
    }
    match request.rescue.on_failure.value {
        OnFailure::Reboot(delay) => Recovery::Headless { delay, power_off: false },
        OnFailure::PowerOff(delay) => Recovery::Headless { delay, power_off: true },
        OnFailure::Menu | OnFailure::Shell | OnFailure::Locked => Recovery::Ask,
    }
}
