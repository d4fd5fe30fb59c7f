//! The pool that the running root lies in, and its disks.

use super::block::{self, Block, Partition};
use super::table::Disk as _;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use taproot_init::zfs::label::read_labels;
use taproot_init::zfs::nvlist::NvList;

/// Place of `vs_state` among a vdev's statistics, and the first state in which a disk is in use (`VDEV_STATE_DEGRADED`).
const STATE: usize = 1;
const IN_USE: u64 = 6;
/// Place of `vs_esize` among a vdev's statistics (`vdev_stat_t`): room that it could have and does not use.
const EXPANDABLE: usize = 7;

/// A disk of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one a fact
pub struct Leaf {
    /// Its guid.
    pub guid: u64,
    /// Its path, as the pool has it.
    pub path: PathBuf,
    /// Whether the pool has it open: not one that is missing, or that it has given up.
    pub present: bool,
    /// Whether ZFS made the partition by itself, for a disk that it was given whole.
    pub whole_disk: bool,
    /// Whether the vdev that it belongs to could be larger by now.
    pub expandable: bool,
    /// Whether that has all its disks: one that is away may be smaller, and would not be taken back by a vdev that grew meanwhile.
    pub complete: bool,
}

impl Leaf {
    /// Whether its vdev is to be told to use what there is; `larger`: whether its partition has just become so, which is no news to a pool
    /// by itself, whatever its autoexpand is.
    pub fn grows(&self, larger: bool) -> bool {
        self.complete && (self.expandable || larger)
    }
}

/// The pool of the root, by what is mounted (`/proc/self/mountinfo`).
pub fn of_root(mounts: &str) -> Option<String> {
    let line = mounts.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (fstype, source) = (right.next()?, right.next()?);
        (left.split(' ').nth(4)? == "/").then_some((fstype, source))
    })?;
    let (fstype, source) = line;
    (fstype == "zfs").then(|| source.split('/').next().unwrap_or(source).to_owned())
}

/// Fails if a disk is away: under the pool's new guid it would be a stranger when it is back.
pub fn all_there(pool: &str, leaves: &[Leaf]) -> Result<()> {
    let gone: Vec<String> = leaves
        .iter()
        .filter(|leaf| !leaf.present)
        .map(|leaf| format!("{} ({})", leaf.path.display(), leaf.guid))
        .collect();
    ensure!(
        gone.is_empty(),
        "pool {pool}: expected all its disks, and {} missing. With other identities what is missing would not belong to this machine \
         any more when it is back, so disks and pool stay copies of the image, and the next boot tries again. If it is back before: taproot \
         first-boot. If it is gone for good: taproot replace NEW-DISK, or zpool detach {pool} GUID",
        match gone.as_slice() {
            [one] => format!("{one} is"),
            several => format!("{} are", several.join(", ")),
        }
    );
    Ok(())
}

/// The partition that the pool has open. The path may lead to another copy of the image, which has the same labels: the pool has
/// only one of them for itself.
pub fn place(leaf: &Leaf) -> Result<Partition> {
    ensure!(leaf.present, "{}: the pool does not have it: expected all its disks to be there", leaf.path.display());
    let by_path = block::partition(&leaf.path)?;
    // Where a disk was that is gone there may be another one of the same pool.
    if block::is_held(&by_path.name)? && guid(&by_path.name).is_none_or(|guid| guid == leaf.guid) {
        return Ok(by_path);
    }
    let mut held = Vec::new();
    for partition in block::partitions()? {
        if guid(&partition.name) == Some(leaf.guid) && block::is_held(&partition.name)? {
            held.push(partition);
        }
    }
    match (held.pop(), held.pop()) {
        (Some(partition), None) => Ok(partition),
        _ => bail!(
            "{} leads to {}, which the pool does not use, and it cannot be told which one it does: expected one partition in use whose \
             label says {}; take the other copy out of the machine",
            leaf.path.display(),
            by_path.name,
            leaf.guid
        ),
    }
}

/// What the label of a partition says that it is.
fn guid(name: &str) -> Option<u64> {
    let device = Block::open(name, false).ok()?;
    read_labels(&mut |offset, buffer| device.read_at(offset, buffer), device.size()).ok()?.guid()
}

/// The disks of a pool, from its configuration (`POOL_STATS`).
pub fn leaves(config: &NvList) -> Result<Vec<Leaf>> {
    let tree = config.list("vdev_tree").context("the pool's configuration has no vdev_tree")?;
    let mut found = Vec::new();
    for top in tree.lists("children").unwrap_or_default() {
        let expandable = top.u64s("vdev_stats").and_then(|stats| stats.get(EXPANDABLE)).is_some_and(|bytes| *bytes > 0);
        found.extend(below_top(top, expandable));
    }
    Ok(found)
}

/// The disks of a part of it.
pub fn below(vdev: &NvList) -> Vec<Leaf> {
    below_top(vdev, false)
}

fn below_top(vdev: &NvList, expandable: bool) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect(vdev, expandable, &mut found);
    let complete = found.iter().all(|leaf| leaf.present);
    for leaf in &mut found {
        leaf.complete = complete;
    }
    found
}

fn collect(vdev: &NvList, expandable: bool, found: &mut Vec<Leaf>) {
    match (vdev.lists("children"), vdev.string("type")) {
        (Some(children), _) if !children.is_empty() => {
            for child in children {
                collect(child, expandable, found);
            }
        }
        (_, Some(b"disk")) => {
            found.extend(vdev.u64("guid").zip(vdev.text("path")).map(|(guid, path)| Leaf {
                guid,
                path: PathBuf::from(path.as_ref()),
                present:
                    vdev.u64s("vdev_stats").and_then(|stats| stats.get(STATE)).is_none_or(|state| *state >= IN_USE),
                whole_disk: vdev.u64("whole_disk") == Some(1),
                expandable,
                complete: true,
            }));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::zfs::nvlist::Value;

    #[test]
    fn the_pool_of_the_root_is_that_of_the_last_mount_there() {
        let mounts = "1 0 0:1 / / rw - rootfs rootfs rw\n30 1 0:25 / / rw,relatime shared:1 - zfs zroot/ROOT/debian rw,xattr\n\
                      31 30 0:26 / /home rw - zfs other/home rw\n";
        assert_eq!(of_root(mounts).as_deref(), Some("zroot"));
        assert_eq!(of_root("30 1 0:25 / / rw - ext4 /dev/vda1 rw\n"), None);
        assert_eq!(of_root("x\n - \n"), None);
    }

    #[test]
    fn disks_below_mirrors_know_whether_the_mirror_could_be_larger() {
        let list = |pairs: Vec<(&str, Value)>| {
            let mut list = NvList::new();
            for (name, value) in pairs {
                list.set(name, value);
            }
            list
        };
        let text = |text: &str| Value::Str(text.as_bytes().to_vec());
        let disk = |guid, path, state| {
            let stats = Value::U64Array(vec![0, state, 0]);
            list(vec![("type", text("disk")), ("guid", Value::U64(guid)), ("path", text(path)), ("vdev_stats", stats)])
        };
        let stats = |room| Value::U64Array(vec![0, 7, 0, 0, 0, 0, 0, room]);
        let mirror = list(vec![
            ("type", text("mirror")),
            ("vdev_stats", stats(9)),
            ("children", Value::ListArray(vec![disk(1, "/dev/a1", 7), disk(2, "/dev/b1", 4)])),
        ]);
        let tree = list(vec![("children", Value::ListArray(vec![mirror, disk(3, "/dev/c1", 7)]))]);
        let leaves = leaves(&list(vec![("vdev_tree", Value::List(tree))])).unwrap();
        let seen: Vec<(u64, bool, bool)> =
            leaves.iter().map(|leaf| (leaf.guid, leaf.present, leaf.expandable)).collect();
        assert_eq!(seen, [(1, true, true), (2, false, true), (3, true, false)]);
        assert_eq!(leaves.iter().map(|leaf| leaf.complete).collect::<Vec<_>>(), [false, false, true]);
        let grow = |larger| leaves.iter().map(|leaf| leaf.grows(larger)).collect::<Vec<_>>();
        assert_eq!([grow(false), grow(true)], [[false; 3], [false, false, true]]);
        assert!(Leaf { complete: true, ..leaves[0].clone() }.grows(false));
        let said = all_there("tank", &leaves).unwrap_err().to_string();
        assert!(said.contains("/dev/b1 (2) is missing") && said.contains("zpool detach tank GUID"), "{said}");
        let twice = [leaves[1].clone(), leaves[1].clone()];
        assert!(all_there("tank", &twice).unwrap_err().to_string().contains("/dev/b1 (2), /dev/b1 (2) are missing"));
        all_there("tank", &leaves[..1]).unwrap();
        assert!(place(&leaves[1]).unwrap_err().to_string().contains("/dev/b1: the pool does not have it"));
    }
}
