//! What a failed attempt waited for in vain: while a person may be asked, it is looked whether it comes.

use super::Boot;
use super::pools::look_at_labels;
use crate::cmdline::Request;
use crate::devices::known::{Hardware, Module};
use crate::plan::next::facts::Facts;
use crate::plan::next::{Moment, Next, Step, arrived, awaited, next, patient};
use crate::rescue::Awaited;
use crate::sys::System;
use std::time::Duration;

/// How long after some news it is looked: a device that came is about to be read.
const NEWS: Duration = Duration::from_secs(5);
/// At most so many modules are asked for until it is seen what is waited for.
const MODULES: usize = 16;

/// The attempt as it would still wait.
pub(super) struct Hope<'a> {
    system: &'a dyn System,
    request: Request,
    facts: Facts,
    what: String,
    /// State of devices and modules, and when it was another one last.
    seen: (u64, usize),
    changed: Duration,
}

impl<'a> Boot<'a> {
    /// What waiting longer could have brought.
    pub(super) fn hope(&mut self) -> Option<Hope<'a>> {
        let request = patient(&self.request);
        let mut facts = self.facts.clone();
        facts.attempt.failure = None;
        let now = self.system.now();
        // With whoever loaded modules is gone what became of those that were not there.
        for _ in 0..MODULES {
            let moment = Moment { request: &request, hardware: &self.scout.hardware, facts: &facts, now };
            let Next::Do(Step::LoadModule(name)) = next(moment) else { break };
            self.scout.load(&name);
        }
        let hardware = &self.scout.hardware;
        let what = awaited(Moment { request: &request, hardware, facts: &facts, now })?;
        Some(Hope { system: self.system, request, facts, what, seen: state(hardware), changed: now })
    }
}

fn state(hardware: &Hardware) -> (u64, usize) {
    (hardware.generation, hardware.modules.values().filter(|module| **module == Module::Ready).count())
}

impl Awaited for Hope<'_> {
    fn what(&self) -> &str {
        &self.what
    }

    fn arrived(&mut self, hardware: &Hardware, now: Duration) -> bool {
        if state(hardware) != self.seen {
            (self.seen, self.changed) = (state(hardware), now);
            look_at_labels(self.system, &self.request, hardware, &mut self.facts);
        }
        let fresh = now.saturating_sub(self.changed) < NEWS;
        fresh && arrived(Moment { request: &self.request, hardware, facts: &self.facts, now })
    }
}
