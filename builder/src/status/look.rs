//! The process that looks: prints facts as it finds them.

use super::facts::{Fact, Pool, System};
use super::images::Now;
use crate::cli::InitramfsArgs;
use crate::explain::facts::{block_devices, is_root};
use crate::hooks::behind::Behind;
use crate::initramfs::root;
use crate::initramfs::tree::{self, Tree};
use crate::initramfs::trial::trial;
use crate::loader;
use crate::output::free;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use taproot_init::devices::known::{Device, Hardware, Zfs, ZfsLabel};
use taproot_init::devices::probe::Wanted;
use taproot_init::plan::fstab::{self, FstabEntry};
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::label::PoolState;
use taproot_init::zfs::nvlist::NvList;

/// The word that this process is started with.
pub const WORD: &str = "look";
/// Where kernels, images and boot loaders are.
const BOOT: [&str; 3] = ["/boot", "/boot/efi", "/efi"];

/// Looks for what was asked: `QUESTION ROOT [MORE]`.
pub fn look(args: &[String]) -> Result<()> {
    let [question, root, more @ ..] = args else { bail!("expected a question and a tree") };
    let tree = Tree::open(Path::new(root)).with_context(|| format!("{root}: expected a directory"))?;
    match (question.as_str(), more) {
        ("files", []) => files(&tree),
        ("pool", devices) => pool(&tree, devices),
        ("trial", [kernel]) => {
            let args =
                InitramfsArgs { root: Some(root.into()), kernel: Some(kernel.clone()), ..InitramfsArgs::default() };
            tell(&Fact::Trial(trial(&Settings::new(&args)?)?))
        }
        _ => bail!("{question} is no question"),
    }
}

fn tell(fact: &Fact) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(fact)?)?;
    Ok(out.flush()?)
}

/// Everything that files tell: what is most needed comes first.
fn files(tree: &Tree) -> Result<()> {
    let next = loader::next(tree);
    tell(&Fact::Next(Box::new(next.clone())))?;
    let mut now = Now::read(tree);
    let kernels = now.kernels();
    if kernels.is_empty() && now.unknown.is_empty() {
        let modules = tree.shown("/lib/modules");
        now.unknown.push(format!("{}: no kernel was found, expected RELEASE/modules.dep in it", modules.display()));
    }
    for kernel in kernels {
        tell(&Fact::Kernel(kernel))?;
    }
    let running = tree.read("/proc/sys/kernel/osrelease", tree::TEXT).unwrap_or_default();
    let running = String::from_utf8_lossy(&running).trim().to_owned();
    let place = now.output(&running).parent().map_or_else(|| PathBuf::from("/boot"), Path::to_owned);
    let room = tree.place(&place).ok().and_then(|here| free(&here).ok()).map(|bytes| (place, bytes));
    let behind = match Behind::of(tree) {
        Ok(behind) => behind.places().map(|place| place.display().to_string()).collect(),
        Err(e) => {
            now.unknown.push(format!("{e:#}"));
            Vec::new()
        }
    };
    tell(&Fact::System(System { running, unmounted: unmounted(tree), behind, room }))?;
    for path in now.paths(&next) {
        tell(&Fact::Image(Box::new(now.image(&path))))?;
    }
    for unknown in now.unknown {
        tell(&Fact::Unknown(unknown))?;
    }
    Ok(())
}

fn mounts(tree: &Tree) -> Vec<FstabEntry> {
    fstab::parse(&tree.read("/proc/self/mounts", tree::TEXT).unwrap_or_default())
}

/// Lines of fstab for the boot loader's directories that are not mounted.
fn unmounted(tree: &Tree) -> Vec<String> {
    let wanted = fstab::parse(&tree.read("/etc/fstab", tree::TEXT).unwrap_or_default());
    let mounted = mounts(tree);
    // Without a list of mounts nothing is known of them.
    let wanted = wanted.into_iter().filter(|entry| BOOT.contains(&entry.target.as_str()) && !mounted.is_empty());
    let absent = wanted.filter(|entry| !entry.has("noauto") && !mounted.iter().any(|m| m.target == entry.target));
    absent.map(|entry| entry.target).collect()
}

/// The root's pool, as labels and `/proc` tell of it; and whether these devices are there.
fn pool(tree: &Tree, devices: &[String]) -> Result<()> {
    let hardware = if tree.is_running() && is_root() { Some(block_devices(&Arc::new(Linux::new()))) } else { None };
    if let Some(dataset) = root::dataset(&mounts(tree)) {
        let name = dataset.split(['/', '@']).next().unwrap_or_default().to_owned();
        let line = |file: &str| {
            let text = tree.read(format!("/proc/spl/kstat/zfs/{name}/{file}"), tree::TEXT).ok()?;
            Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let state = line("state");
        let mut pool = hardware.as_ref().map(|hardware| of_labels(hardware, &name)).unwrap_or_default();
        (pool.name, pool.state) = (name.clone(), state);
        tell(&Fact::Pool(pool))?;
    }
    for device in devices {
        if let Some(there) = is_there(tree, hardware.as_ref(), device) {
            tell(&Fact::Device(device.clone(), there))?;
        }
    }
    Ok(())
}

/// What the labels of disks say of a pool that is in use. Two pools of one name tell nothing.
fn of_labels(hardware: &Hardware, name: &str) -> Pool {
    let label = |device: &Device| match &device.content()?.zfs {
        Zfs::Member(ZfsLabel { label, .. }) => Some((device.node.clone(), label.clone())),
        _ => None,
    };
    let all: Vec<_> = hardware.devices.values().filter_map(label).collect();
    let own = all
        .iter()
        .filter(|(_, label)| label.state() == PoolState::Active && label.pool_name().as_deref() == Some(name));
    let own: Vec<_> = own.collect();
    let Some(newest) = own.iter().map(|(_, label)| label).max_by_key(|label| label.txg()) else {
        return Pool::default();
    };
    if own.iter().any(|(_, label)| label.pool_guid() != newest.pool_guid()) {
        return Pool::default();
    }
    let features = newest.config.list("features_for_read").into_iter().flat_map(NvList::iter);
    Pool {
        guid: newest.pool_guid().map(|guid| guid.to_string()),
        members: own.iter().filter_map(|(node, label)| Some((label.guid()?.to_string(), node.clone()))).collect(),
        features: features.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect(),
        hostid: newest.hostid().map(|hostid| format!("{hostid:08x}")),
        ..Pool::default()
    }
}

/// Whether a device that words name is there; `None` if that cannot be told.
fn is_there(tree: &Tree, hardware: Option<&Hardware>, device: &str) -> Option<bool> {
    let wanted = Wanted::parse(device)?;
    if let Some(hardware) = hardware.filter(|hardware| !hardware.devices.is_empty()) {
        return Some(!matches!(hardware.find(&wanted), Ok(None)));
    }
    let by = |dir: &str, name: &str| Some(PathBuf::from("/dev/disk").join(dir).join(name));
    let path = match &wanted {
        Wanted::Label(name) => by("by-label", name),
        Wanted::Uuid(name) => by("by-uuid", name),
        Wanted::PartLabel(name) => by("by-partlabel", name),
        Wanted::PartUuid(name) => by("by-partuuid", name),
        Wanted::Node(path) => Some(path.clone()),
        Wanted::Number(..) => None,
    }?;
    // Without links of udev nothing is known.
    tree.is_there("/dev/disk").then(|| tree.is_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::devices::known::{Content, Reading};
    use taproot_init::devices::swap;
    use taproot_init::zfs::label::Label;
    use taproot_init::zfs::nvlist::Value;

    fn member(node: &str, pool: &str, guid: u64, vdev: u64) -> Device {
        let mut config = NvList::new();
        config.set("state", Value::U64(0));
        config.set("name", Value::text(pool));
        for (name, value) in [("pool_guid", guid), ("guid", vdev), ("txg", 7), ("hostid", 0xbab)] {
            config.set(name, Value::U64(value));
        }
        let mut features = NvList::new();
        features.set("com.delphix:hole_birth", Value::Boolean);
        config.set("features_for_read", Value::List(features));
        let label = ZfsLabel { label: Label::new(config, 0), good: [true; 4], tail: None };
        let content =
            Content { superblock: None, swap: swap::Header { image: None, swap: false }, zfs: Zfs::Member(label) };
        Device::known(&format!("/dev/{node}"), Reading::Done(Box::new(content)))
    }

    fn hardware(devices: Vec<Device>) -> Hardware {
        let devices = devices.into_iter().map(|device| (device.name.clone(), device)).collect();
        Hardware { devices, ..Hardware::default() }
    }

    #[test]
    fn a_pool_by_its_labels() {
        let disks = hardware(vec![member("a", "tank", 1, 10), member("b", "tank", 1, 11), member("c", "other", 2, 12)]);
        let pool = of_labels(&disks, "tank");
        assert_eq!((pool.guid.as_deref(), pool.hostid.as_deref()), (Some("1"), Some("00000bab")));
        assert_eq!(pool.members, [("10".into(), "/dev/a".into()), ("11".into(), "/dev/b".into())]);
        assert_eq!(pool.features, ["com.delphix:hole_birth"]);
        let two = hardware(vec![member("a", "tank", 1, 10), member("b", "tank", 2, 11)]);
        assert_eq!(of_labels(&two, "tank"), Pool::default());
        let tree = Tree::open(Path::new("/")).unwrap();
        assert_eq!(is_there(&tree, Some(&disks), "/dev/a"), Some(true));
        assert_eq!(is_there(&tree, Some(&disks), "UUID=1"), Some(false));
        assert_eq!(is_there(&tree, None, "what"), None);
    }
}
