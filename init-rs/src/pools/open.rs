//! Opening a candidate: recorded paths made to work, TRYIMPORT, its verdict. Nothing is written to any disk.

use super::Pools;
use super::progress::Work;
use crate::sys::System;
use crate::zfs::assemble::{Candidate, Seen, aux_devices, set_leaf_path};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::{Judgement, judge};
use crate::zfs::nvlist::NvList;
use crate::zfs::paths::{self, LeafPath};

/// What the kernel said of a candidate.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The devices it was opened with, sorted: with the same ones the answer would be the same.
    pub devices: Vec<String>,
    /// The verdict.
    pub judgement: Judgement,
    /// The kernel's reply with the label's hostid, to be handed to [`Pools::import`]; `None` if the call failed.
    pub reply: Option<NvList>,
}

/// The devices found for a candidate, sorted.
pub(super) fn devices(candidate: &Candidate) -> Vec<String> {
    let mut devices: Vec<String> = candidate.leaves.iter().filter_map(|l| l.device.clone()).collect();
    devices.sort();
    devices
}

impl Tried {
    /// Whether opening the candidate again could tell anything new.
    pub fn is_current(&self, candidate: &Candidate) -> bool {
        self.devices == devices(candidate)
    }
}

impl Pools<'_> {
    /// Has the kernel open a candidate. With multihost protection this takes 25 s, which the log tells.
    pub fn open(&self, candidate: &mut Candidate, seen: &[Seen]) -> Tried {
        for (guid, path) in self.leaf_paths(candidate) {
            candidate.set_path(guid, &path);
        }
        let (name, devices) = (candidate.name.clone(), devices(candidate));
        let work = Work { what: "opening", pool: &name, guid: candidate.guid };
        let result = self.phases.time("tryimport", || {
            work.watched(self.system, self.log, || Zfs::new(self.system).try_import(&name, &candidate.config))
        });
        let tried = match result {
            Ok(mut reply) => {
                // The reply carries this system's hostid; the label's belongs into the import.
                for key in ["hostid", "hostname"] {
                    if let Some(value) = candidate.config.get(key) {
                        reply.set(key, value.clone());
                    }
                }
                fix_aux_paths(self.system, &mut reply, &aux_devices(seen));
                Tried { devices, judgement: judge(&reply), reply: Some(reply) }
            }
            Err(e) => Tried { devices, judgement: Judgement::failed(e.to_string()), reply: None },
        };
        self.log.info(format!("pool {name} ({}): {}", candidate.guid, tried.judgement));
        tried
    }

    /// The path to import each found leaf with, for those where the recorded one does not do.
    fn leaf_paths(&self, candidate: &Candidate) -> Vec<(u64, String)> {
        let mut changes = Vec::new();
        for leaf in &candidate.leaves {
            let Some(device) = &leaf.device else { continue };
            if let LeafPath::Use(path) = paths::ensure(self.system, leaf.recorded_path.as_deref(), device) {
                let recorded = leaf.recorded_path.as_deref().unwrap_or("no path");
                self.log.info(format!("{recorded} cannot be kept for pool {}: using {path}", candidate.name));
                changes.push((leaf.guid, path));
            }
        }
        changes
    }
}

/// Spares and cache devices are in no label of the pool: the kernel lists them by guid, with the paths they once had.
fn fix_aux_paths(system: &dyn System, reply: &mut NvList, aux: &[(u64, String)]) {
    let Some(tree) = reply.list_mut("vdev_tree") else { return };
    for (guid, device) in aux {
        let recorded = ["spares", "l2cache"]
            .iter()
            .filter_map(|kind| tree.lists(kind))
            .flatten()
            .find(|vdev| vdev.u64("guid") == Some(*guid))
            .map(|vdev| vdev.text("path").unwrap_or_default().into_owned());
        let Some(recorded) = recorded else { continue };
        if let LeafPath::Use(path) = paths::ensure(system, Some(&recorded), device) {
            set_leaf_path(tree, *guid, &path);
        }
    }
}
