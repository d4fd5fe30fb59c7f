//! Which disk of a mirror is gone, and which are there.

use crate::firstboot::pool::{Leaf, below};
use anyhow::{Context as _, Result, bail, ensure};
use taproot_init::zfs::nvlist::NvList;

/// A mirror that lacks a disk.
#[derive(Debug)]
pub(super) struct Mirror {
    /// The disk that is gone, or was given up.
    pub(super) gone: Leaf,
    /// Disks that the pool has open.
    pub(super) left: Vec<Leaf>,
    /// Bytes that the pool uses of each (`asize`).
    pub(super) used: u64,
}

impl Mirror {
    /// Of a pool, by its configuration (`POOL_STATS`). `named`: guid or path of the disk that is gone, where several are.
    pub(super) fn of(config: &NvList, pool: &str, named: Option<&str>) -> Result<Self> {
        let tree = config.list("vdev_tree").context("the pool's configuration has no vdev_tree")?;
        let (mut all, mut busy) = (Vec::new(), false);
        for top in tree.lists("children").unwrap_or_default().iter().filter(|top| is(top, b"mirror")) {
            let children = top.lists("children").unwrap_or_default();
            busy |= children.iter().any(|child| is(child, b"replacing"));
            let left: Vec<Leaf> = below(top).into_iter().filter(|leaf| leaf.present).collect();
            for gone in children.iter().filter(|child| is(child, b"disk")).flat_map(below).filter(|leaf| !leaf.present)
            {
                all.push(Self { gone, left: left.clone(), used: top.u64("asize").unwrap_or(0) });
            }
        }
        if let Some(named) = named {
            let is_it = |mirror: &Self| mirror.gone.guid.to_string() == named || mirror.gone.path.as_os_str() == named;
            let list = list(&all);
            return all.into_iter().find(is_it).with_context(|| {
                format!(
                    "--for {named}: expected guid or path of a disk that a mirror of {pool} lacks, which are: {list}"
                )
            });
        }
        ensure!(
            !all.is_empty() || !busy,
            "pool {pool}: a disk is being replaced already: zpool status {pool} says how far"
        );
        let list = list(&all);
        match (all.pop(), all.pop()) {
            (Some(mirror), None) => Ok(mirror),
            (None, _) => bail!(
                "pool {pool}: expected a mirror that lacks a disk, found none; one that fails is given up by: zpool offline {pool} DISK"
            ),
            _ => bail!("pool {pool}: several disks are missing; say which one is replaced, by --for GUID: {list}"),
        }
    }
}

fn is(vdev: &NvList, kind: &[u8]) -> bool {
    vdev.string("type") == Some(kind)
}

fn list(all: &[Mirror]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    let shown = |mirror: &Mirror| format!("{} ({})", mirror.gone.guid, mirror.gone.path.display());
    all.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::zfs::nvlist::Value;

    fn vdev(kind: &str, more: Vec<(&str, Value)>) -> NvList {
        let mut list = NvList::new();
        list.set("type", Value::text(kind));
        for (name, value) in more {
            list.set(name, value);
        }
        list
    }

    fn disk(guid: u64, state: u64) -> NvList {
        let counts = Value::U64Array(vec![0, state, 0]);
        let path = Value::text(format!("/dev/d{guid}"));
        vdev("disk", vec![("guid", Value::U64(guid)), ("path", path), ("vdev_stats", counts)])
    }

    fn with(kind: &str, children: Vec<NvList>) -> NvList {
        vdev(kind, vec![("asize", Value::U64(9)), ("children", Value::ListArray(children))])
    }

    fn of(tops: Vec<NvList>, named: Option<&str>) -> Result<Mirror> {
        let config = vdev("", vec![("vdev_tree", Value::List(with("root", tops)))]);
        Mirror::of(&config, "tank", named)
    }

    #[test]
    fn the_disk_that_is_gone_is_the_only_one_or_is_named() {
        let one = of(vec![with("mirror", vec![disk(1, 7), disk(2, 4), disk(3, 7)]), disk(4, 7)], None).unwrap();
        let left: Vec<u64> = one.left.iter().map(|leaf| leaf.guid).collect();
        assert_eq!((one.gone.guid, left, one.used), (2, vec![1, 3], 9));

        let two = || vec![with("mirror", vec![disk(1, 7), disk(2, 4)]), with("mirror", vec![disk(3, 2), disk(4, 7)])];
        let said = of(two(), None).unwrap_err().to_string();
        assert!(said.contains("--for GUID: 2 (/dev/d2), 3 (/dev/d3)"), "{said}");
        for named in ["3", "/dev/d3"] {
            let found = of(two(), Some(named)).unwrap();
            assert_eq!((found.gone.guid, found.left[0].guid), (3, 4));
        }
        assert!(of(two(), Some("4")).unwrap_err().to_string().contains("--for 4"));
        assert!(
            of(vec![with("mirror", vec![disk(1, 7), disk(2, 7)])], None).unwrap_err().to_string().contains("offline")
        );
        let busy = with("mirror", vec![disk(1, 7), with("replacing", vec![disk(2, 4), disk(3, 7)])]);
        assert!(of(vec![busy], None).unwrap_err().to_string().contains("being replaced already"));
        // The disks of a raidz have no copy of the boot loader's partition that is known here.
        assert!(of(vec![with("raidz", vec![disk(1, 7), disk(2, 4)])], None).is_err());
    }
}
