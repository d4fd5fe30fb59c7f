//! Walking vdev trees, to a bounded depth.

use super::super::nvlist::{MAX_DEPTH, NvList, Value};
use super::Leaf;
use std::collections::BTreeMap;

/// Deepest nesting of a label's tree that still decodes when it hangs below a pool's configuration and root.
const TREE_DEPTH: u32 = MAX_DEPTH - 4;

/// True if nothing in `tree` is nested deeper than a candidate can carry.
pub(super) fn is_shallow(tree: &NvList) -> bool {
    fn fits(list: &NvList, left: u32) -> bool {
        list.iter().all(|(_, value)| match value {
            Value::List(inner) => left > 0 && fits(inner, left - 1),
            Value::ListArray(inner) => left > 0 && inner.iter().all(|l| fits(l, left - 1)),
            _ => true,
        })
    }
    fits(tree, TREE_DEPTH)
}

/// The devices below (or at) the top-level vdev `top`, in order.
pub(super) fn leaves(top: &NvList) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect(top, top.u64("id").unwrap_or(0), TREE_DEPTH, &mut found);
    found
}

fn collect(node: &NvList, top_id: u64, left: u32, found: &mut Vec<Leaf>) {
    if let Some(children) = node.lists("children") {
        if left > 0 {
            for child in children {
                collect(child, top_id, left - 1, found);
            }
        }
        return;
    }
    let kind = node.text("type").unwrap_or_default();
    // These stand for no device: empty slots, removed vdevs, and draid's spare space.
    if matches!(&*kind, "hole" | "missing" | "indirect" | "dspare") {
        return;
    }
    if let Some(guid) = node.u64("guid") {
        // One that would steer a terminal is not kept.
        let recorded_path = node.text("path").filter(|path| !path.contains(char::is_control));
        let recorded_path = recorded_path.map(std::borrow::Cow::into_owned);
        found.push(Leaf { guid, recorded_path, device: None, top_id, kind: kind.into_owned() });
    }
}

/// Has every vdev `guid` in `tree` (children, spares and caches, as TRYIMPORT returns them) opened at `path`; false if
/// there is none. When that changes the path, the strings that described the old place (`devid`, `phys_path`,
/// `vdev_enc_sysfs_path`) go.
pub fn set_leaf_path(tree: &mut NvList, guid: u64, path: &str) -> bool {
    set_leaf_paths(tree, &BTreeMap::from([(guid, path.to_owned())]))
}

/// [`set_leaf_path`] of several in one walk; false if none is there.
pub fn set_leaf_paths(tree: &mut NvList, paths: &BTreeMap<u64, String>) -> bool {
    descend(tree, paths, MAX_DEPTH)
}

fn descend(node: &mut NvList, paths: &BTreeMap<u64, String>, left: u32) -> bool {
    let mut found = false;
    for key in ["children", "spares", "l2cache"] {
        for child in node.lists_mut(key).into_iter().flatten() {
            found |= left > 0 && descend(child, paths, left - 1);
        }
    }
    let path = node.u64("guid").filter(|_| node.get("children").is_none()).and_then(|guid| paths.get(&guid));
    if let Some(path) = path {
        found = true;
        if node.string("path") != Some(path.as_bytes()) {
            node.set("path", Value::text(path.as_str()));
            for stale in ["devid", "phys_path", "vdev_enc_sysfs_path"] {
                node.remove(stale);
            }
        }
    }
    found
}
