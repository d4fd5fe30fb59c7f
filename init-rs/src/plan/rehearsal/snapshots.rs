//! What is asked to be done with snapshots. Which there are is not known: what would be done is said, and the mounts are
//! those of the dataset.

use super::Play;
use crate::cmdline::Decided;
use crate::plan::failure::{Code, Failure};
use crate::plan::next::Snapshots;
use crate::plan::next::facts::StandIns;
use crate::plan::snapshots::{clone_name, kernel_name};

impl Play<'_> {
    pub(super) fn settle_snapshots(&mut self, asked: &Snapshots) -> Result<(), Failure> {
        self.told.snapshots = true;
        self.facts.attempt.stand_ins = Some(StandIns::default());
        let read_only = self.request.import.read_only.value;
        let mounted = match &asked.snapshot {
            None => asked.root.name.clone(),
            Some(snapshot) => self.at_snapshot(&asked.root.name, &snapshot.value)?,
        };
        let release = match self.facts.kernel.release.as_str() {
            "" => "KERNEL-RELEASE".to_owned(),
            release => kernel_name(release),
        };
        let name = |word: &Decided<Option<String>>| word.value.clone().unwrap_or_else(|| release.clone());
        let not = if read_only { "not " } else { "" };
        let words = self.request.snapshots.clone();
        if let Some(to) = &words.rollback_to {
            self.remark(format!("{mounted} is {not}rolled back to @{} ({})", name(to), to.why));
        }
        if let Some(take) = &words.take {
            self.remark(format!("the snapshot {mounted}@{} is {not}taken ({})", name(take), take.why));
        }
        if read_only && (words.rollback_to.is_some() || words.take.is_some()) {
            self.remark(format!("nothing is written to the pool ({})", self.request.import.read_only.why));
        }
        Ok(())
    }

    /// The name of what is mounted for the root as it was at a snapshot.
    fn at_snapshot(&mut self, root: &str, snapshot: &str) -> Result<String, Failure> {
        let words = &self.request.snapshots;
        if self.request.import.read_only.value {
            self.remark(format!("{root}@{snapshot} itself is mounted, read-only"));
            return Ok(root.to_owned());
        }
        if words.rollback.value {
            let why = words.rollback.why.clone();
            self.remark(format!("{root} is rolled back to @{snapshot} before it is mounted ({why})"));
            return Ok(root.to_owned());
        }
        let asked = words.clone.as_ref().map(|name| name.value.as_str());
        let clone = clone_name(root, snapshot, asked).map_err(|refusal| Failure::refused(Code::Snapshot, refusal))?;
        self.remark(format!("the root is {clone}, a clone of {root}@{snapshot}; the mounts below are those of {root}"));
        Ok(clone)
    }

    /// Words that say how to boot a snapshot, where none is named.
    pub(super) fn idle_snapshot_words(&mut self) {
        if self.moment().snapshot().is_some() {
            return;
        }
        let words = &self.request.snapshots;
        let rollback = Some(&words.rollback).filter(|word| word.value).map(|word| &word.why);
        let idle: Vec<String> =
            rollback.into_iter().chain(words.clone.as_ref().map(|word| &word.why)).cloned().collect();
        for word in idle {
            self.remark(format!("{word} has no effect: no snapshot is named behind the root (...@SNAPSHOT)"));
        }
    }
}
