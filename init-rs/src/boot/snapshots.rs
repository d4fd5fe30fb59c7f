//! Carrying out what `plan/snapshots.rs` decides: clones, rollbacks and snapshots of the root before it is mounted.

use super::Boot;
use crate::cmdline::Decided;
use crate::plan::facts::{Dataset, Kind};
use crate::plan::failure::{Code, Failure};
use crate::plan::next::Snapshots;
use crate::plan::next::facts::StandIns;
use crate::plan::root::Root;
use crate::plan::snapshots::{self as plan, Existing, SnapshotPlan, Source, Step};
use crate::plan::{Refusal, from_zfs};
use crate::zfs::ioctl::{Objset, Zfs, ZfsError};
use crate::zfs::nvlist::Value;
use crate::zfs::snapshots::ActError;

impl Boot<'_> {
    /// All that the command line asks to be done with snapshots before the root is mounted.
    pub(super) fn settle_snapshots(&mut self, asked: Snapshots) -> Result<(), Failure> {
        let Snapshots { root, snapshot } = asked;
        let phase = self.phases.start("snapshots");
        self.facts.attempt.stand_ins = Some(StandIns::default());
        // What an earlier attempt left mounted.
        let _ = self.system.unmount(&self.new_root, true);
        let read_only = self.request.import.read_only.value;
        let root = match snapshot {
            None => root,
            Some(snapshot) => self.at_snapshot(root, &snapshot, read_only)?,
        };
        if read_only {
            if self.request.snapshots.take.is_some() || self.request.snapshots.rollback_to.is_some() {
                self.trouble(
                    "no snapshot is taken and nothing is rolled back: the pool is imported read-only".to_owned(),
                );
            }
        } else {
            // In this order: a snapshot of the same name taken first would make the rollback one to this very moment.
            if let Some(word) = self.request.snapshots.rollback_to.clone() {
                let name = word.value.unwrap_or_else(|| plan::kernel_name(&self.facts.kernel.release));
                self.roll_back(&root.name, &Decided::new(name, word.why), false)?;
            }
            if let Some(word) = self.request.snapshots.take.clone() {
                let name = word.value.unwrap_or_else(|| plan::kernel_name(&self.facts.kernel.release));
                self.take_snapshot(&format!("{}@{name}", root.name));
            }
        }
        drop(phase);
        self.facts.attempt.root = Some(Root::Dataset(root));
        Ok(())
    }

    /// The root as it was at a snapshot.
    fn at_snapshot(&mut self, root: Dataset, snapshot: &Decided<String>, read_only: bool) -> Result<Dataset, Failure> {
        let zfs = Zfs::new(self.system);
        if read_only {
            let sources = self.sources(&root.name, snapshot)?;
            let view = plan::view(&root.name, &snapshot.value, &sources);
            self.tell(&view);
            let mounted = Dataset { name: view.root, readonly: true, ..root.clone() };
            self.facts.attempt.stand_ins = Some(StandIns { viewed: Some(root), names: view.stands_for });
            return Ok(mounted);
        }
        if self.request.snapshots.rollback.value {
            let why = format!("{} {}", self.request.snapshots.rollback.why, snapshot.why);
            self.roll_back(&root.name, &Decided::new(snapshot.value.clone(), why), true)?;
            return Ok(root);
        }
        let asked = self.request.snapshots.clone.as_ref().map(|c| c.value.as_str());
        let name = plan::clone_name(&root.name, &snapshot.value, asked).map_err(refused)?;
        let sources = self.sources(&root.name, snapshot)?;
        let existing = existing(zfs, &name).map_err(|e| Failure::zfs(&e))?;
        let plan = plan::clone(&root.name, &snapshot.value, &name, &sources, &existing).map_err(refused)?;
        self.tell(&plan);
        self.carry_out(&plan)?;
        self.facts.attempt.stand_ins = Some(StandIns { viewed: None, names: plan.stands_for.clone() });
        let objset = zfs.objset(&plan.root).map_err(|e| Failure::zfs(&e))?;
        Ok(from_zfs::dataset(&objset, self.relatime_default()))
    }

    /// Rolls a dataset back, and those below it if `all`.
    fn roll_back(&mut self, root: &str, snapshot: &Decided<String>, all: bool) -> Result<(), Failure> {
        let mut sources = self.sources(root, snapshot)?;
        if !all {
            sources.retain(|s| s.name == root);
        }
        let zfs = Zfs::new(self.system);
        for source in sources.iter_mut().filter(|s| s.has_snapshot && s.kind == Kind::Filesystem) {
            let at = zfs.snapshot(&format!("{}@{}", source.name, snapshot.value)).map_err(|e| Failure::zfs(&e))?;
            if let Some(at) = at {
                source.newer = zfs.snapshots(&source.name, at.createtxg).map_err(|e| Failure::zfs(&e))?;
            }
        }
        let destroy = self.request.snapshots.destroy_newer.value;
        let plan = plan::roll_back(root, &snapshot.value, &snapshot.why, destroy, &sources).map_err(refused)?;
        self.tell(&plan);
        self.carry_out(&plan)
    }

    /// The root and what lies below it; an explanation if the root has no such snapshot.
    fn sources(&self, root: &str, snapshot: &Decided<String>) -> Result<Vec<Source>, Failure> {
        let zfs = Zfs::new(self.system);
        let mut sources = Vec::new();
        for objset in zfs.datasets(root).map_err(|e| Failure::zfs(&e))? {
            let facts = from_zfs::dataset(&objset, true);
            sources.push(Source {
                has_snapshot: zfs
                    .snapshot(&format!("{}@{}", objset.name, snapshot.value))
                    .map_err(|e| Failure::zfs(&e))?
                    .is_some(),
                own: plan::own_properties(&objset),
                kind: objset.kind,
                mountpoint: facts.mountpoint,
                key_available: facts.key_available.filter(|_| objset.name != root),
                name: objset.name,
                newer: Vec::new(),
            });
        }
        if sources.iter().any(|s| s.name == root && s.has_snapshot) {
            return Ok(sources);
        }
        let have = zfs.snapshots(root, 0).map_err(|e| Failure::zfs(&e))?;
        Err(refused(plan::missing(root, &snapshot.value, &snapshot.why, &have)))
    }

    fn tell(&mut self, plan: &SnapshotPlan) {
        self.log.info(format!("root: {}", plan.why));
        for left in &plan.left_out {
            self.trouble(format!("{} is not part of it: {}", left.dataset, left.why));
        }
    }

    /// Does the steps. If one fails, the clones made so far are destroyed again; nothing is in them yet.
    fn carry_out(&mut self, plan: &SnapshotPlan) -> Result<(), Failure> {
        let zfs = Zfs::new(self.system);
        let mut made: Vec<&str> = Vec::new();
        let mut rolled_back: Vec<String> = Vec::new();
        for step in &plan.steps {
            let (done, result) = match step {
                Step::Clone { from, to, properties } => {
                    let result = zfs.clone_snapshot(from, to, properties);
                    if result.is_ok() {
                        made.push(to);
                    }
                    (format!("cloned {from} as {to}"), result)
                }
                Step::Complete(name) => {
                    let result = zfs.set_property(name, plan::STATE_PROPERTY, Value::text(plan::COMPLETE));
                    (format!("{name} is complete"), result)
                }
                Step::Destroy(names) => (format!("destroyed {}", names.join(", ")), zfs.destroy_snapshots(names)),
                Step::RollBack(name) => {
                    let result = zfs.roll_back(name);
                    if result.is_ok() {
                        rolled_back.push(format!("{name}: rolled back"));
                    }
                    (format!("rolled back to {name}"), result)
                }
            };
            match result {
                Ok(()) => self.log.info(done),
                Err(error) => {
                    let mut found = rolled_back;
                    for name in made.into_iter().rev() {
                        found.push(match zfs.destroy(name) {
                            Ok(()) => format!("{name}: made, and destroyed again"),
                            Err(e) => format!("{name}: made, and not destroyed: {e}"),
                        });
                    }
                    return Err(refused(failed(step, &error, found)));
                }
            }
        }
        Ok(())
    }

    /// A snapshot that cannot be taken does not stop the boot.
    fn take_snapshot(&mut self, name: &str) {
        match Zfs::new(self.system).take_snapshot(name) {
            Ok(()) => self.log.info(format!("took the snapshot {name}")),
            Err(e) if e.error.errno == libc::EEXIST => {
                self.log.info(format!("the snapshot {name} exists already and is left as it is"));
            }
            Err(e) => self.trouble(format!("the snapshot {name} was not taken: {e}")),
        }
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::refused(Code::Snapshot, refusal)
}

/// What lies where a clone would.
fn existing(zfs: Zfs<'_>, name: &str) -> Result<Vec<Existing>, ZfsError> {
    let objsets = match zfs.datasets(name) {
        Ok(objsets) => objsets,
        Err(e) if e.errno == libc::ENOENT => Vec::new(),
        Err(e) => return Err(e),
    };
    let value = |o: &Objset, property: &str| -> Option<String> {
        Some(o.properties.list(property)?.text("value")?.into_owned()).filter(|v| !v.is_empty())
    };
    let one = |o: Objset| Existing {
        origin: value(&o, "origin"),
        unfinished: value(&o, plan::STATE_PROPERTY).as_deref() == Some(plan::UNFINISHED),
        name: o.name,
    };
    Ok(objsets.into_iter().map(one).collect())
}

fn failed(step: &Step, error: &ActError, found: Vec<String>) -> Refusal {
    let (what, expected, advice) = match step {
        Step::Clone { from, to, .. } => (
            format!("{from} could not be cloned as {to}"),
            "a clone: its parent exists, the key of an encrypted origin is loaded, and the pool has space",
            "name a place for it: taproot.clone=POOL/NAME; or boot another root",
        ),
        Step::Complete(name) => {
            (format!("{name} could not be marked as complete"), "a writable pool", "look at the log (log)")
        }
        Step::Destroy(names) => (
            format!("{} newer snapshot(s) could not be destroyed, so nothing was", names.len()),
            "snapshots without clones and holds",
            "boot a clone instead: without rollback words, @ and the snapshot behind the root",
        ),
        Step::RollBack(name) => (
            format!(
                "rolling back to {name} failed; the root is not booted as it is now, because a rollback was asked for"
            ),
            "no snapshot, bookmark or mount that is newer",
            "boot a clone instead, or boot without the word that asks for the rollback",
        ),
    };
    Refusal {
        problem: format!("{what}: {error}"),
        expected: expected.to_owned(),
        found,
        advice: vec![advice.to_owned()],
    }
}
