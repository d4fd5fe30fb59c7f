//! Opening a candidate pool: recorded paths made to work, TRYIMPORT, its verdict.

use super::Boot;
use crate::zfs::assemble::{Candidate, Seen, aux_devices, set_leaf_path};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::{Health, Judgement, judge};
use crate::zfs::nvlist::NvList;
use crate::zfs::paths::{self, LeafPath};
use std::path::Path;
use std::time::Instant;

/// One candidate over time.
pub(super) struct Watched {
    pub(super) since: Instant,
    /// The last TRYIMPORT; another one needs other devices.
    pub(super) tried: Option<Tried>,
}

/// The last TRYIMPORT of a candidate.
pub(super) struct Tried {
    devices: Vec<String>,
    pub(super) judgement: Judgement,
    /// The kernel's reply, to be handed to IMPORT; `None` if the call failed.
    pub(super) reply: Option<NvList>,
}

impl Boot<'_> {
    /// TRYIMPORT, if there is anything new to learn from it: all leaves are there, or the grace time for them is over.
    pub(super) fn try_candidate(
        &self,
        candidate: &mut Candidate,
        seen: &[Seen],
        watched: &mut Watched,
        late: bool,
        quiet: bool,
    ) {
        let leaves_there = candidate.missing().next().is_none();
        // A vdev that was removed from the pool leaves a gap that labels cannot tell from a missing disk: only the kernel
        // knows, so it is asked as soon as no more disks are on their way.
        let complete = leaves_there && (candidate.missing_tops() == 0 || quiet);
        let grace_over = late || self.grace_over(watched);
        if !complete && !grace_over {
            return;
        }
        let mut devices: Vec<String> = candidate.leaves.iter().filter_map(|l| l.device.clone()).collect();
        devices.sort();
        if watched.tried.as_ref().is_some_and(|t| t.devices == devices) {
            return;
        }
        for (guid, path) in self.leaf_paths(candidate) {
            candidate.set_path(guid, &path);
        }
        let name = candidate.name.clone();
        let result = self.phases.time("tryimport", || {
            super::progress::watch(&self.log, &format!("opening pool {name}"), || {
                Zfs::new(self.system).try_import(&name, &candidate.config)
            })
        });
        let tried = match result {
            Ok(mut reply) => {
                // The reply carries this system's hostid; the label's belongs into the import.
                for key in ["hostid", "hostname"] {
                    if let Some(value) = candidate.config.get(key) {
                        reply.set(key, value.clone());
                    }
                }
                fix_aux_paths(&mut reply, &aux_devices(seen));
                Tried { devices, judgement: judge(&reply), reply: Some(reply) }
            }
            Err(e) => {
                let judgement = Judgement {
                    health: Health::Unavailable,
                    reason: e.to_string(),
                    bootfs: None,
                    bad: vec![],
                    wait_helps: true,
                };
                Tried { devices, judgement, reply: None }
            }
        };
        self.log.info(format!("pool {name} ({}): {}", candidate.guid, tried.judgement));
        if tried.judgement.health != Health::Unavailable
            && !self.automatic()
            && let Some(whose) = self.foreign(candidate)
        {
            self.log.warn(format!("pool {name} was {whose}; it is named on the command line, so it is imported"));
        }
        watched.tried = Some(tried);
    }

    /// The path to import each found leaf with, for those where the recorded one does not do.
    fn leaf_paths(&self, candidate: &Candidate) -> Vec<(u64, String)> {
        let mut changes = Vec::new();
        for leaf in &candidate.leaves {
            let Some(device) = &leaf.device else { continue };
            if let LeafPath::Use(path) = paths::ensure(Path::new("/dev"), leaf.recorded_path.as_deref(), device) {
                let recorded = leaf.recorded_path.as_deref().unwrap_or("no path");
                self.log.info(format!("{recorded} cannot be kept for pool {}: using {path}", candidate.name));
                changes.push((leaf.guid, path));
            }
        }
        changes
    }
}

/// Spares and cache devices are in no label of the pool: the kernel lists them by guid, with the paths they once had.
fn fix_aux_paths(reply: &mut NvList, aux: &[(u64, String)]) {
    let Some(tree) = reply.list_mut("vdev_tree") else { return };
    for (guid, device) in aux {
        let recorded = ["spares", "l2cache"]
            .iter()
            .filter_map(|kind| tree.lists(kind))
            .flatten()
            .find(|vdev| vdev.u64("guid") == Some(*guid))
            .map(|vdev| vdev.text("path").unwrap_or_default().into_owned());
        let Some(recorded) = recorded else { continue };
        if let LeafPath::Use(path) = paths::ensure(Path::new("/dev"), Some(&recorded), device) {
            set_leaf_path(tree, *guid, &path);
        }
    }
}
