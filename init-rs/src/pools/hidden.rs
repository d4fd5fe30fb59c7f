//! Keeping the kernel from disks that do not answer, and from those whose labels are left over: of these it would write all
//! labels anew.
//!
//! To open a pool the kernel opens the recorded path of each vdev (`vdev_disk_open`), whether or not we found the vdev there.
//! If the path leads to a disk that does not answer, that open, or the read of the label behind it, does not come back, and
//! with it hangs the ioctl, its caller, and everybody else who asks for a pool. The pool could do without the disk: its
//! mirror is there. So for as long as the kernel opens a pool, the nodes of such disks have another name; a path that leads
//! nowhere counts as a missing disk, as it should.

use super::Pools;
use crate::report::log::Log;
use crate::sys::{FileKind, System};
use crate::zfs::nvlist::{MAX_DEPTH, NvList};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where the nodes are meanwhile: on the same file system as they belong to.
const HIDING_PLACE: &str = "/dev/.taproot-silent";

/// Nodes that are out of the way until this is dropped.
pub(super) struct Hidden<'a> {
    system: &'a dyn System,
    log: &'a Log,
}

impl<'a> Pools<'a> {
    /// Takes the disks out of the way that the kernel would come upon when it opens the pool of this configuration, and must not.
    /// `None`: there are none. If one stays where it is the pool is not opened: nothing might come back from that.
    pub(super) fn hide(&self, config: &NvList) -> Result<Option<Hidden<'a>>, String> {
        let nodes = in_the_way(self.system, self.silent, config, self.system.is_init());
        if nodes.is_empty() {
            return Ok(None);
        }
        let hidden = Hidden { system: self.system, log: self.log };
        // Nodes that an earlier process left there, if it was killed.
        hidden.put_back();
        for node in &nodes {
            match move_away(self.system, node) {
                Ok(()) => self.log.info(format!("{node} is kept from the kernel: the pool is opened without it")),
                // It has gone by itself.
                Err(_) if matches!(self.system.stat(Path::new(node)), Err(e) if e.kind() == io::ErrorKind::NotFound) => {
                }
                Err(e) => {
                    return Err(format!("{node} could not be kept from the kernel, which would open it: {e}"));
                }
            }
        }
        Ok(Some(hidden))
    }
}

/// The silent nodes that the kernel would open.
///
/// Those that the recorded paths lead to are not all: it takes the spares and caches, and top-level vdevs of which no label was
/// found, from the pool itself, with paths that nobody knows before. While /dev is ours alone that means every silent node. In
/// the initramfs of another tool the nodes of others are left alone: its udev has to find them.
fn in_the_way(system: &dyn System, silent: &[String], config: &NvList, dev_is_ours: bool) -> Vec<String> {
    if silent.is_empty() || dev_is_ours {
        return silent.to_vec();
    }
    let mut recorded = BTreeSet::new();
    if let Some(tree) = config.list("vdev_tree") {
        recorded_paths(tree, MAX_DEPTH, &mut recorded);
    }
    let leads: BTreeSet<PathBuf> = recorded.iter().filter_map(|path| system.canonical(path).ok()).collect();
    let reached = |node: &&String| system.canonical(Path::new(node)).is_ok_and(|real| leads.contains(&real));
    silent.iter().filter(reached).cloned().collect()
}

/// The paths of all vdevs in a tree.
fn recorded_paths(node: &NvList, left: u32, found: &mut BTreeSet<PathBuf>) {
    if let Some(path) = node.text("path") {
        found.insert(PathBuf::from(path.into_owned()));
    }
    let below = ["children", "spares", "l2cache"].into_iter().filter_map(|key| node.lists(key)).flatten();
    for child in below.filter(|_| left > 0) {
        recorded_paths(child, left - 1, found);
    }
}

/// Gives a node below /dev its other name.
fn move_away(system: &dyn System, node: &str) -> io::Result<()> {
    let name = node.strip_prefix("/dev/").ok_or(io::ErrorKind::InvalidInput)?;
    system.make_dirs(Path::new(HIDING_PLACE))?;
    // As the kernel does in /sys: what is in a directory has a name without one.
    system.rename(Path::new(node), &Path::new(HIDING_PLACE).join(name.replace('/', "!")))
}

impl Hidden<'_> {
    /// Gives every node its name back that still stands for a device.
    fn put_back(&self) {
        let place = Path::new(HIDING_PLACE);
        for name in self.system.list(place).unwrap_or_default() {
            let (hidden, node) = (place.join(&name), Path::new("/dev").join(name.replace('!', "/")));
            // The kernel removes and makes nodes by their names: meanwhile the disk may have gone, or come again.
            let stale =
                !is_there(self.system, &hidden) || self.system.read_link(&node).is_ok() || self.system.exists(&node);
            let done = if stale { self.system.remove(&hidden) } else { self.system.rename(&hidden, &node) };
            if let Err(e) = done {
                self.log.error(format!("{}: it cannot be given its name back: {e}", hidden.display()));
            }
        }
        let _ = self.system.remove(place);
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// Whether the kernel has the device of a node.
fn is_there(system: &dyn System, node: &Path) -> bool {
    match system.stat(node).map(|info| info.kind) {
        Ok(FileKind::Block { major, minor }) => system.exists(Path::new(&format!("/sys/dev/block/{major}:{minor}"))),
        Ok(_) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::phases::Phases;
    use crate::sys::ZfsReply;
    use crate::sys::fake::Tree;
    use crate::zfs::nvlist::Value;
    use std::sync::{Arc, Mutex};

    fn leaf(path: &str) -> NvList {
        [("type", Value::text("disk")), ("path", Value::text(path))].into_iter().collect()
    }

    /// A mirror of /dev/sda, by a link, and /dev/sdb; a spare /dev/cciss/c0d0.
    fn config() -> NvList {
        let mirror = [("children", Value::ListArray(vec![leaf("/dev/disk/by-id/a"), leaf("/dev/sdb")]))];
        let mirror = Value::ListArray(vec![mirror.into_iter().collect()]);
        let root = [("children", mirror), ("spares", Value::ListArray(vec![leaf("/dev/cciss/c0d0")]))];
        [("vdev_tree", Value::List(root.into_iter().collect()))].into_iter().collect()
    }

    /// Node names below /dev, without directories.
    fn nodes(tree: &Tree) -> Vec<String> {
        let there = |name: &&&str| tree.exists(&format!("/dev/{name}"));
        ["sda", "sdb", "sdc", "cciss/c0d0"].iter().filter(there).map(|name| (*name).to_owned()).collect()
    }

    /// What the kernel saw during the call, and what there was afterwards.
    fn seen_by_the_kernel(silent: &[&str], during: fn(&Tree)) -> (Vec<String>, Vec<String>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let saw = Arc::clone(&seen);
        let tree = Tree::answering(move |tree, _| {
            saw.lock().unwrap().extend(nodes(tree));
            during(tree);
            ZfsReply { errno: libc::ENXIO, ..ZfsReply::default() }
        });
        let tree = ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/cciss/c0d0"].iter().fold(tree, |t, n| t.with(n, n));
        let tree = Arc::new(tree.with_link("../../sda", "/dev/disk/by-id/a"));
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let silent: Vec<String> = silent.iter().map(|node| (*node).to_owned()).collect();
        let config = config();
        let request = super::super::ImportRequest {
            pool: "tank",
            guid: 7,
            config: &config,
            read_only: false,
            missing_log: false,
            checkpoint: false,
            rewind: None,
        };
        // It fails: nodes come back then as well.
        Pools::new(&*tree, &log, &phases).without(&silent).import(&request).unwrap_err();
        assert!(!tree.exists(HIDING_PLACE), "nothing is left behind");
        let seen = seen.lock().unwrap().clone();
        (seen, nodes(&tree))
    }

    const ALL: [&str; 4] = ["sda", "sdb", "sdc", "cciss/c0d0"];

    #[test]
    fn the_kernel_does_not_come_upon_silent_disks() {
        assert_eq!(seen_by_the_kernel(&[], |_| {}).0, ALL);
        let silent = ["/dev/sda", "/dev/cciss/c0d0", "/dev/gone"];
        let (during, after) = seen_by_the_kernel(&silent, |_| {});
        assert_eq!((during, after), (vec!["sdb".to_owned(), "sdc".to_owned()], ALL.map(str::to_owned).to_vec()));
    }

    #[test]
    fn nodes_of_others_are_left_alone() {
        assert_eq!(seen_by_the_kernel(&["/dev/sdc"], |_| {}).0, ALL);
        let silent = ["/dev/sdb".to_owned(), "/dev/sdc".to_owned()];
        let tree = Tree::new().with("/dev/sdb", "").with("/dev/sdc", "");
        assert_eq!(in_the_way(&tree, &silent, &config(), false), ["/dev/sdb"]);
        assert_eq!(
            in_the_way(&tree, &silent, &config(), true),
            silent,
            "what the pool itself records is not known before"
        );
    }

    #[test]
    fn a_node_that_the_kernel_made_anew_meanwhile_is_kept() {
        let again = |tree: &Tree| tree.write(Path::new("/dev/sdb"), b"new").unwrap();
        let tree = Tree::new().with("/dev/.taproot-silent/sdb", "old").with("/dev/sdb", "new");
        again(&tree);
        let tree = Arc::new(tree);
        let log = Log::new(Arc::<Tree>::clone(&tree));
        drop(Hidden { system: &*tree, log: &log });
        assert_eq!((tree.text("/dev/sdb").as_str(), tree.exists(HIDING_PLACE)), ("new", false));
        let (during, after) = seen_by_the_kernel(&["/dev/sdb"], again);
        assert_eq!((during.len(), after.len()), (3, 4));
    }

    #[test]
    fn what_a_killed_process_left_comes_back() {
        let tree = Arc::new(Tree::new().with("/dev/.taproot-silent/cciss!c0d0", "c").with("/dev/cciss/c0d1", ""));
        let log = Log::new(Arc::<Tree>::clone(&tree));
        drop(Hidden { system: &*tree, log: &log });
        assert_eq!(tree.text("/dev/cciss/c0d0"), "c");
    }
}
