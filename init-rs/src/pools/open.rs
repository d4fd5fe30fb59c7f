//! Opening a candidate: recorded paths made to work, TRYIMPORT, its verdict. Nothing is written to any disk.

use super::Pools;
use super::progress::Work;
use crate::plan::candidates::{Opened, devices};
use crate::sys::System;
use crate::zfs::assemble::{Aux, Candidate, set_leaf_path};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::{Judgement, judge};
use crate::zfs::nvlist::NvList;
use crate::zfs::paths::{self, LeafPath};
use std::collections::BTreeMap;

impl Pools<'_> {
    /// Has the kernel open a candidate. With multihost protection this takes 25 s, which the log tells.
    pub fn open(&self, candidate: &mut Candidate, aux: &[Aux]) -> Opened {
        self.settle_paths(candidate);
        self.link_aux(aux);
        let (name, devices) = (candidate.name.clone(), devices(candidate));
        let work = Work { what: "opening", pool: &name, guid: candidate.guid };
        let result = self.hide(&candidate.config).and_then(|_hidden| {
            let call = || Zfs::new(self.system).try_import(&name, &candidate.config);
            let result = self.phases.time("tryimport", || work.watched(self.system, self.log, call));
            result.map_err(|e| e.to_string())
        });
        let tried = match result {
            Ok(mut reply) => {
                // The reply carries this system's hostid; the label's belongs into the import.
                for key in ["hostid", "hostname"] {
                    if let Some(value) = candidate.config.get(key) {
                        reply.set(key, value.clone());
                    }
                }
                fix_aux_paths(self.system, &mut reply, aux);
                Opened { devices, judgement: judge(&reply), reply: Some(reply) }
            }
            Err(why) => Opened { devices, judgement: Judgement::failed(why), reply: None },
        };
        self.log.info(format!("pool {name} ({}): {}", candidate.guid, tried.judgement));
        tried
    }

    /// Has each found leaf opened at its recorded path, or where it is.
    fn settle_paths(&self, candidate: &mut Candidate) {
        let changes = self.leaf_paths(candidate);
        if !changes.is_empty() {
            candidate.set_paths(&changes);
        }
    }

    /// The path to import each found leaf with, for those where the recorded one does not do.
    fn leaf_paths(&self, candidate: &Candidate) -> BTreeMap<u64, String> {
        let mut changes = BTreeMap::new();
        for leaf in &candidate.leaves {
            let Some(device) = &leaf.device else { continue };
            if let LeafPath::Use(path) = paths::ensure(self.system, leaf.recorded_path.as_deref(), device) {
                let recorded = leaf.recorded_path.as_deref().unwrap_or("no path");
                self.log.info(format!("{recorded} cannot be kept for pool {}: using {path}", candidate.name));
                changes.insert(leaf.guid, path);
            }
        }
        changes
    }

    /// Makes the recorded paths of spares and caches lead to them, where their labels tell the path: the kernel opens those
    /// that the pool itself lists, one after another, and waits for each path that leads nowhere.
    fn link_aux(&self, aux: &[Aux]) {
        for Aux { device, recorded_path, .. } in aux {
            if recorded_path.is_some() {
                let _ = paths::ensure(self.system, recorded_path.as_deref(), device);
            }
        }
    }
}

/// Spares and cache devices are in no label of the pool: the kernel lists them by guid, with the paths they once had.
fn fix_aux_paths(system: &dyn System, reply: &mut NvList, aux: &[Aux]) {
    let Some(tree) = reply.list_mut("vdev_tree") else { return };
    for Aux { guid, device, .. } in aux {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::log::Log;
    use crate::report::phases::Phases;
    use crate::sys::ZfsReply;
    use crate::sys::fake::Tree;
    use crate::zfs::label::PoolState;
    use crate::zfs::nvlist::Value;
    use std::path::Path;
    use std::sync::Arc;

    fn vdev(guid: u64, path: &str) -> NvList {
        [("type", Value::text("disk")), ("guid", Value::U64(guid)), ("path", Value::text(path))].into_iter().collect()
    }

    #[test]
    fn recorded_paths_lead_to_leaves_and_spares_before_the_kernel_looks() {
        let tree = Tree::answering(|tree, call| {
            let leads = |path: &str| tree.canonical(Path::new(path)).unwrap_or_default().display().to_string();
            assert_eq!(
                (leads("/dev/disk/by-id/leaf"), leads("/dev/disk/by-id/spare")),
                ("/dev/vda1".into(), "/dev/vdb".into())
            );
            let config = NvList::decode(call.conf).unwrap();
            let mut root = config.list("vdev_tree").unwrap().clone();
            root.set("spares", Value::ListArray(vec![vdev(2, "/dev/disk/by-id/spare"), vdev(3, "/dev/vdx")]));
            let reply: NvList = [("vdev_tree", Value::List(root)), ("hostid", Value::U64(1))].into_iter().collect();
            ZfsReply { dst: reply.encode_native(), ..ZfsReply::default() }
        });
        let tree = ["/dev/vda1", "/dev/vdb", "/dev/vdc"].iter().fold(tree, |tree, node| tree.with(node, ""));
        let tree = Arc::new(tree);
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let root = [("children", Value::ListArray(vec![vdev(1, "/dev/disk/by-id/leaf")]))].into_iter().collect();
        let leaf = crate::zfs::assemble::Leaf {
            guid: 1,
            recorded_path: Some("/dev/disk/by-id/leaf".into()),
            device: Some("/dev/vda1".into()),
            top_id: 0,
            kind: "disk".into(),
        };
        let mut candidate = Candidate {
            guid: 7,
            name: "tank".into(),
            state: PoolState::Active,
            hostid: Some(9),
            hostname: None,
            txg: 4,
            config: [("vdev_tree", Value::List(root)), ("hostid", Value::U64(9))].into_iter().collect(),
            leaves: vec![leaf],
            problems: vec![],
            doubts: vec![],
            started: false,
        };
        let aux = |guid, device: &str, path: Option<&str>| Aux {
            guid,
            device: device.into(),
            recorded_path: path.map(str::to_owned),
        };
        let aux = [aux(2, "/dev/vdb", Some("/dev/disk/by-id/spare")), aux(3, "/dev/vdc", None)];
        let reply = Pools::new(&*tree, &log, &phases).open(&mut candidate, &aux).reply.unwrap();
        assert_eq!(reply.u64("hostid"), Some(9), "the label's");
        let spares = reply.list("vdev_tree").unwrap().lists("spares").unwrap();
        assert_eq!(spares, [vdev(2, "/dev/disk/by-id/spare"), vdev(3, "/dev/vdc")]);
    }
}
