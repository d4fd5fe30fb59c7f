//! How long each phase of the boot took.

use crate::sys::System;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One phase; times since the kernel started (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Name.
    pub name: String,
    /// When it began.
    pub start: Duration,
    /// How long it took; `None` while it runs.
    pub took: Option<Duration>,
}

/// The phases so far. Usable from several threads; phases may overlap.
pub struct Phases {
    system: Arc<dyn System>,
    list: Mutex<Vec<Phase>>,
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phases").finish_non_exhaustive()
    }
}

impl Phases {
    /// No phase yet; times are those of this system's clock.
    pub fn new(system: Arc<dyn System>) -> Self {
        Self { system, list: Mutex::default() }
    }

    /// Begins a phase; it ends when the returned guard is dropped.
    #[must_use = "the phase ends when the guard is dropped"]
    pub fn start(&self, name: &str) -> Running<'_> {
        let start = self.system.now();
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Phase { name: name.to_owned(), start, took: None });
        Running { phases: self, index: list.len() - 1 }
    }

    /// Runs `work` as a phase.
    pub fn time<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let _running = self.start(name);
        work()
    }

    /// A copy of the phases, in the order they began.
    pub fn list(&self) -> Vec<Phase> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A phase under way.
#[derive(Debug)]
pub struct Running<'a> {
    phases: &'a Phases,
    index: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let now = self.phases.system.now();
        let mut list = self.phases.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(phase) = list.get_mut(self.index) {
            phase.took = Some(now.saturating_sub(phase.start));
        }
    }
}

/// Seconds to three places.
pub fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_nest_and_end() {
        let phases = Phases::new(Arc::new(crate::sys::linux::Linux::new()));
        let outer = phases.start("outer");
        assert_eq!(phases.time("inner", || 7), 7);
        assert!(phases.list()[0].took.is_none());
        drop(outer);
        let list = phases.list();
        assert_eq!(list.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["outer", "inner"]);
        assert!(list[0].start <= list[1].start);
        assert!(list[0].took >= list[1].took);
    }
}
