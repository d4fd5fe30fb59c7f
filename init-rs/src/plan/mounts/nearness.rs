//! Which of two datasets a directory belongs to: the one that is nearer to the root in the tree of names, and of two that are
//! equally near the one whose mount point was set here.

use std::collections::BTreeMap;

use crate::plan::facts::Dataset;

/// How near a dataset is; the smallest wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nearness {
    /// Steps in the tree of names, up from the root and down again.
    steps: usize,
    /// Whether its mount point came with a stream: that is how it was mounted elsewhere.
    received: bool,
    /// Nothing else distinguishes them.
    name: String,
}

impl Nearness {
    /// Of a dataset, as seen from the root.
    pub(super) fn of(dataset: &Dataset, root: &str, all: &BTreeMap<&str, &Dataset>) -> Self {
        let parts = |name: &str| name.split('/').count();
        let common = root.split('/').zip(dataset.name.split('/')).take_while(|(a, b)| a == b).count();
        let above = dataset.mountpoint_of.as_deref().and_then(|name| all.get(name));
        Self {
            steps: parts(root) + parts(&dataset.name) - 2 * common,
            received: above.map_or(dataset.received, |above| above.received),
            name: dataset.name.clone(),
        }
    }

    /// Whether this one's mount counts for the other, which lies below it in the tree of directories: the booted system would
    /// mount this one first.
    pub(super) fn precedes(&self, other: &Self) -> bool {
        (self.steps, self.received) <= (other.steps, other.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_and_down() {
        let steps = |name: &str| Nearness::of(&Dataset::with_defaults(name), "p/ROOT/a", &BTreeMap::new()).steps;
        let table = [("p/ROOT/a", 0), ("p/ROOT/a/usr", 1), ("p/ROOT", 1), ("p", 2), ("p/ROOT/ab", 2), ("p/home", 3)];
        for (name, expected) in table {
            assert_eq!(steps(name), expected, "{name}");
        }
        assert_eq!(steps("p/archive/old/home"), 5);
    }

    #[test]
    fn what_was_set_here_goes_before_what_was_received() {
        let mut received = Dataset::with_defaults("p/copy");
        received.received = true;
        let mut child = Dataset::with_defaults("p/copy/x");
        child.mountpoint_of = Some("p/copy".into());
        let own = Dataset::with_defaults("p/home/x");
        let all: BTreeMap<&str, &Dataset> = [("p/copy", &received)].into();
        let of = |dataset: &Dataset| Nearness::of(dataset, "p/ROOT/a", &all);
        assert!(of(&own) < of(&child) && of(&received).received, "although its name comes later");
        assert!(of(&own).precedes(&of(&child)) && !of(&child).precedes(&of(&own)));
    }
}
