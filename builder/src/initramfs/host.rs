//! The machine we run on: what drives its disks, and what its root pool lies on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use taproot_init::devices::block;
use taproot_init::devices::table::canonical_name;
use taproot_init::image::ExpectedPool;
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;
use taproot_init::zfs::label::{PoolState, read_labels};

/// What stands between a disk and the processor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The kernel's name of the disk.
    pub disk: String,
    /// Modaliases of the disk's device and of those above it.
    pub modaliases: BTreeSet<String>,
    /// Modules of their drivers, as far as these are modules in the running kernel.
    pub modules: BTreeSet<String>,
}

/// Follows a block device upwards in `sys` (`/sys`), a partition to its disk first. Disks made of others (device mapper,
/// md) are followed into their parts.
pub fn chain(sys: &Path, name: &str) -> Chain {
    let mut chain = Chain { disk: name.to_owned(), ..Chain::default() };
    let mut queue = vec![name.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Ok(start) = sys.join("class/block").join(&name).canonicalize() else { continue };
        let disk = if start.join("partition").exists() { start.parent().unwrap_or(&start) } else { &start };
        for slaves in [start.join("slaves"), disk.join("slaves")] {
            let below = fs::read_dir(slaves).into_iter().flatten().flatten();
            queue.extend(below.filter_map(|e| e.file_name().into_string().ok()));
        }
        for dir in disk.ancestors().take_while(|dir| dir.starts_with(sys)) {
            if let Ok(modalias) = fs::read_to_string(dir.join("modalias"))
                && !modalias.trim().is_empty()
            {
                chain.modaliases.insert(modalias.trim().to_owned());
            }
            // Kernels show this link for built-in drivers too, some of which (pcieport's) modules.builtin does not name
            // because they can never be modules. Only what was loaded has a state.
            if let Ok(module) = dir.join("driver/module").canonicalize()
                && module.join("initstate").exists()
                && let Some(module) = module.file_name().and_then(|n| n.to_str())
            {
                chain.modules.insert(canonical_name(module));
            }
        }
    }
    chain
}

/// The vendor string of the processor, e.g. `GenuineIntel`.
pub fn cpu_vendor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("vendor_id"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The chains of all disks, in order of their names.
pub fn disks(sys: &Path) -> Vec<Chain> {
    let sys = &sys.canonicalize().unwrap_or_else(|_| sys.to_owned());
    block::names(sys).iter().filter(|name| !is_virtual(sys, name)).map(|name| chain(sys, name)).collect()
}

fn is_virtual(sys: &Path, name: &str) -> bool {
    let target = sys.join("class/block").join(name).canonicalize();
    target.map_or(true, |target| target.starts_with(sys.join("devices/virtual")) || target.join("partition").exists())
}

/// The guid by which the kernel knows an imported pool.
pub fn imported_guid(name: &str) -> Option<u64> {
    let system = Linux::new();
    let pools = Zfs::new(&system).imported_pools().ok()?;
    pools.into_iter().find(|(known, guid)| known == name && *guid != 0).map(|(_, guid)| guid)
}

/// A disk or partition with the label of a pool in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The kernel's name.
    pub device: String,
    /// A path that stays.
    pub path: String,
    /// Guid of the pool.
    pub pool: u64,
}

/// The disks and partitions whose labels say that they belong to a pool in use that has this name.
pub fn members(sys: &Path, dev: &Path, name: &str) -> Vec<Member> {
    let mut members = Vec::new();
    for device in block::enumerate(sys, dev).devices {
        let Ok(file) = File::open(&device.node) else { continue };
        let mut read = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
        let Ok(label) = read_labels(&mut read, device.size_bytes) else { continue };
        if label.state() == PoolState::Active && label.pool_name().as_deref() == Some(name) {
            let path = stable_path(dev, &device.node).to_string_lossy().into_owned();
            members.push(Member { device: device.name, path, pool: label.pool_guid().unwrap_or(0) });
        }
    }
    members
}

/// The pool as an image expects it, and its disks. `imported`: its guid, if the kernel told it; without, disks of two pools
/// of one name (another machine's disk is attached) give none, because an image takes what it expects for its own.
pub fn expected(name: &str, members: &[Member], imported: Option<u64>) -> Result<(ExpectedPool, Vec<String>), String> {
    let guids: BTreeSet<u64> = members.iter().map(|member| member.pool).collect();
    let guid = match (imported, guids.len()) {
        (Some(guid), _) if guids.contains(&guid) => guid,
        (None, 1) => guids.first().copied().unwrap_or(0),
        (None, 2..) => {
            let list: Vec<String> = guids.iter().map(ToString::to_string).collect();
            return Err(format!("several pools on the disks are called {name} (guids {})", list.join(", ")));
        }
        _ => return Err("no label of it could be read (are you root?)".to_owned()),
    };
    let (vdevs, devices) = members
        .iter()
        .filter(|member| member.pool == guid)
        .map(|member| (member.path.clone(), member.device.clone()))
        .unzip();
    Ok((ExpectedPool { name: name.to_owned(), guid, vdevs }, devices))
}

/// A name of a device that survives another order of disks: the first below `by-id`, else its node.
fn stable_path(dev: &Path, node: &Path) -> PathBuf {
    let entries = fs::read_dir(dev.join("disk/by-id")).into_iter().flatten().flatten();
    let mut links: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    links.sort();
    links.into_iter().find(|link| link.canonicalize().is_ok_and(|to| to == node)).unwrap_or_else(|| node.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn another_machines_disk_with_a_pool_of_the_same_name_is_not_expected() {
        let member = |device: &str, pool| Member { device: device.into(), path: format!("/dev/{device}"), pool };
        let disks = [member("sda3", 7), member("sdb3", 9), member("sdc3", 9)];
        let (pool, devices) = expected("rpool", &disks, Some(9)).unwrap();
        assert_eq!((pool.guid, devices), (9, vec!["sdb3".to_owned(), "sdc3".to_owned()]));
        assert_eq!(pool.vdevs, ["/dev/sdb3", "/dev/sdc3"]);
        assert!(expected("rpool", &disks, None).unwrap_err().contains("guids 7, 9"));
        assert_eq!(expected("rpool", &disks[1..], None).unwrap().0.guid, 9);
        assert!(expected("rpool", &disks, Some(8)).unwrap_err().contains("no label"));
        assert!(expected("rpool", &[], None).is_err());
    }

    #[test]
    fn chain_of_a_partition() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().canonicalize().unwrap();
        let disk = sys.join("devices/pci0000:00/0000:00:04.0/virtio1/block/vda");
        let part = disk.join("vda1");
        fs::create_dir_all(&part).unwrap();
        for module in ["virtio_blk", "pcieportdrv"] {
            fs::create_dir_all(sys.join("module").join(module)).unwrap();
        }
        fs::write(sys.join("module/virtio_blk/initstate"), "live\n").unwrap();
        // A driver that is built in, as newer kernels show it.
        fs::create_dir_all(sys.join("devices/pci0000:00/driver")).unwrap();
        symlink(sys.join("module/pcieportdrv"), sys.join("devices/pci0000:00/driver/module")).unwrap();
        fs::create_dir_all(sys.join("devices/virtual/block/loop0")).unwrap();
        fs::create_dir_all(sys.join("bus/virtio/drivers/virtio_blk")).unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        fs::write(part.join("partition"), "1\n").unwrap();
        fs::write(sys.join("devices/pci0000:00/0000:00:04.0/modalias"), "pci:v1AF4\n").unwrap();
        fs::write(sys.join("devices/pci0000:00/0000:00:04.0/virtio1/modalias"), "virtio:d2v1\n").unwrap();
        symlink(sys.join("module/virtio_blk"), sys.join("bus/virtio/drivers/virtio_blk/module")).unwrap();
        symlink(sys.join("bus/virtio/drivers/virtio_blk"), sys.join("devices/pci0000:00/0000:00:04.0/virtio1/driver"))
            .unwrap();
        for (name, target) in [("vda", &disk), ("vda1", &part), ("loop0", &sys.join("devices/virtual/block/loop0"))] {
            symlink(target, sys.join("class/block").join(name)).unwrap();
        }
        let found = chain(&sys, "vda1");
        assert_eq!(found.modules.into_iter().collect::<Vec<_>>(), ["virtio_blk"]);
        assert_eq!(found.modaliases.into_iter().collect::<Vec<_>>(), ["pci:v1AF4", "virtio:d2v1"]);
        assert_eq!(disks(&sys).iter().map(|c| c.disk.as_str()).collect::<Vec<_>>(), ["vda"]);
        assert!(chain(&sys, "absent").modules.is_empty());
    }
}
