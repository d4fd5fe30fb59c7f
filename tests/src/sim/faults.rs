//! What goes wrong, and when: decided before the run, applied at the calls.

use std::time::Duration;

/// Where something goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// At the call with this number, counted from 0 over all that can fail.
    Call(usize),
    /// At this call of a kind, counted from 0; a kind is a method of the seam, or `zfs IMPORT` and the like.
    Kind(String, usize),
    /// At this call that reaches an imported pool, counted from 0.
    Reaching(usize),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The call fails with this errno, without an effect.
    Errno(i32),
    /// The call never comes back.
    Never,
    /// The call comes back later.
    Late(Duration),
    /// Before the call this device goes away.
    Gone(String),
    /// Before the call the scout dies, and after it the next ones as soon as they are started: so many in all.
    NoScouts(usize),
    /// The pool that the call reaches loses its disks, and the call never comes back.
    Lost,
    /// The power fails before the call.
    PowerCut,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub when: When,
    /// What.
    pub effect: Effect,
}

impl Fault {
    /// At the `nth` call of a kind.
    pub fn at(kind: &str, nth: usize, effect: Effect) -> Self {
        Self { when: When::Kind(kind.to_owned(), nth), effect }
    }
}

/// The faults of a run, and how far the calls are counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    calls: usize,
    reaching: usize,
    kinds: std::collections::BTreeMap<String, usize>,
}

impl Faults {
    pub(super) fn new(list: Vec<Fault>) -> Self {
        Self { list, ..Self::default() }
    }

    /// Whether it matters what calls reach.
    pub(super) fn ask_for_reach(&self) -> bool {
        self.list.iter().any(|fault| matches!(fault.when, When::Reaching(_)))
    }

    /// Counts a call, and takes out what happens to it.
    pub(super) fn due(&mut self, kind: &str, reaches: bool) -> Vec<Effect> {
        let reaching = reaches.then_some(self.reaching);
        self.reaching += usize::from(reaches);
        let call = self.calls;
        self.calls += 1;
        let nth = self.kinds.entry(kind.to_owned()).or_default();
        let of_kind = *nth;
        *nth += 1;
        let mut effects = Vec::new();
        self.list.retain(|fault| {
            let hit = match &fault.when {
                When::Call(at) => *at == call,
                When::Kind(name, at) => name == kind && *at == of_kind,
                When::Reaching(at) => Some(*at) == reaching,
            };
            if hit {
                effects.push(fault.effect.clone());
            }
            !hit
        });
        effects
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Faults that have not happened.
    pub(super) fn left(&self) -> &[Fault] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_happens_once_and_at_its_place() {
        let second_mount = Fault::at("mount", 1, Effect::Errno(5));
        let third_call = Fault { when: When::Call(2), effect: Effect::Never };
        let mut faults = Faults::new(vec![second_mount, third_call]);
        assert_eq!(faults.due("mount", false), []);
        assert_eq!(faults.due("read", false), []);
        assert_eq!(faults.due("mount", false), [Effect::Errno(5), Effect::Never]);
        assert_eq!(faults.due("mount", false), []);
        assert_eq!((faults.calls(), faults.left().len()), (4, 0));
    }
}
