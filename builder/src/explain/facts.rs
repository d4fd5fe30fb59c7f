//! Facts to decide from: of a recorded boot, or of the running system.

#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use taproot_init::devices::known::{Hardware, Reading};
use taproot_init::image::{ExpectedPool, ExpectedRoot};
use taproot_init::plan::candidates::NOT_OPENED;
use taproot_init::plan::facts::{CanMount, Dataset, Doubt, Health, Kind, Mountpoint, PoolFact};
use taproot_init::plan::fstab::{self, FstabEntry};
use taproot_init::plan::rehearsal::{Known, KnownRoot};
use taproot_init::plan::{from_zfs, names};
use taproot_init::pools::Pools;
use taproot_init::report::log::Log;
use taproot_init::report::phases::Phases;
use taproot_init::scout::Scout;
use taproot_init::sys::System;
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;

/// How long the devices of the running system may take to be read.
const DEVICES_PATIENCE: Duration = Duration::from_secs(3);

/// What is known, and where from.
#[derive(Debug, Default)]
pub struct Facts {
    /// Where from.
    pub source: String,
    /// Words of the recorded boot.
    pub words: Option<String>,
    /// What a boot is rehearsed with.
    pub known: Known,
    /// The file system that the image was packed for.
    pub packed: Option<ExpectedRoot>,
    /// Of a record, the root that was booted.
    pub root: Option<String>,
    /// What is to be said about the facts themselves.
    pub remarks: Vec<String>,
    /// The running system, where it can be asked for more; and the pools already asked for.
    pub(super) system: Option<(Arc<Linux>, BTreeSet<String>)>,
}

/// `boot.json`, as far as it is read. Fields are added to it over time, so what is missing has a default.
#[derive(Debug, Deserialize)]
struct Document {
    format: u64,
    #[serde(default)]
    version: String,
    zfs: Option<String>,
    request: Option<RequestRecord>,
    root: Option<String>,
    init: Option<String>,
    #[serde(default)]
    mounts: Vec<MountRecord>,
    #[serde(default)]
    pools: Vec<PoolRecord>,
    #[serde(default)]
    expected: Vec<ExpectedRecord>,
    expected_root: Option<ExpectedRootRecord>,
    #[serde(default)]
    datasets: Vec<DatasetRecord>,
    #[serde(default)]
    datasets_left_out: u64,
    #[serde(default)]
    fstab: Vec<FstabRecord>,
    #[serde(default)]
    places: Vec<PlaceRecord>,
}

#[derive(Debug, Deserialize)]
struct PlaceRecord {
    target: String,
    place: String,
}

#[derive(Debug, Deserialize)]
struct RequestRecord {
    words: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct MountRecord {
    #[serde(default)]
    dataset: String,
    #[serde(default)]
    target: String,
    #[serde(rename = "type")]
    fstype: Option<String>,
    #[serde(default)]
    write_protected: bool,
}

#[derive(Debug, Deserialize)]
struct ExpectedRecord {
    name: String,
    guid: String,
    #[serde(default)]
    vdevs: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ExpectedRootRecord {
    source: String,
    fstype: String,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "what was seen of a pool, each for itself")]
struct PoolRecord {
    name: String,
    guid: String,
    bootfs: Option<String>,
    #[serde(default)]
    bootfs_unknown: bool,
    health: String,
    problem: Option<String>,
    #[serde(default)]
    exported: bool,
    #[serde(default)]
    hostid: u32,
    hostname: Option<String>,
    #[serde(default)]
    destroyed: bool,
    foreign: Option<String>,
    missing_log: Option<String>,
    unwritable: Option<String>,
    #[serde(default)]
    devices: Vec<String>,
    doubt: Option<DoubtRecord>,
    #[serde(default)]
    started: bool,
}

#[derive(Debug, Deserialize)]
struct DoubtRecord {
    text: String,
    grave: bool,
}

#[derive(Debug, Deserialize)]
struct DatasetRecord {
    name: String,
    kind: Option<String>,
    canmount: Option<String>,
    mountpoint: Option<String>,
    zol_mountpoint: Option<String>,
    mountpoint_of: Option<String>,
    #[serde(default)]
    received: bool,
    overlay: Option<bool>,
    readonly: Option<bool>,
    atime: Option<bool>,
    relatime: Option<bool>,
    devices: Option<bool>,
    exec: Option<bool>,
    setuid: Option<bool>,
    nbmand: Option<bool>,
    zoned: Option<bool>,
    key_available: Option<bool>,
    encryption_root: Option<String>,
    key_location: Option<String>,
    #[serde(default)]
    contexts: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct FstabRecord {
    line: usize,
    source: String,
    target: String,
    #[serde(rename = "type")]
    fstype: String,
    #[serde(default)]
    options: Vec<String>,
}

impl Facts {
    /// Reads the text of a `boot.json`; `name` is for messages.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        let doc: Document =
            serde_json::from_str(text).with_context(|| format!("{name}: expected the boot.json of a boot"))?;
        if doc.format != 1 {
            bail!("{name}: format {} is not known here (expected 1); use the taproot of that boot", doc.format);
        }
        let zfs = doc.zfs.as_ref().map(|v| format!(", OpenZFS {v}")).unwrap_or_default();
        let mut remarks = Vec::new();
        if doc.datasets_left_out > 0 {
            remarks.push(format!("{} datasets were left out of the record", doc.datasets_left_out));
        }
        let mut pools = doc.pools.into_iter().map(pool).collect::<Result<Vec<_>>>().with_context(|| name.to_owned())?;
        for pool in pools.iter_mut().filter(|p| p.problem.as_deref() == Some(NOT_OPENED)) {
            // The boot that is explained might open it, and its labels say that it is complete.
            (pool.health, pool.problem, pool.bootfs_unknown) = (Health::Online, None, true);
            remarks.push(format!(
                "that boot did not open pool {}, so its bootfs is not known, and that it is in order is assumed",
                pool.name
            ));
        }
        let lines = doc.fstab.into_iter().map(|l| FstabEntry {
            source: l.source,
            target: l.target,
            fstype: l.fstype,
            options: l.options,
            line: l.line,
        });
        let fstype = doc.mounts.first().and_then(|mount| mount.fstype.clone());
        let write_protected =
            doc.mounts.iter().filter(|mount| mount.write_protected).map(|mount| mount.dataset.clone());
        let write_protected = write_protected.collect();
        // What a layered root lies on is mounted outside of it.
        let parts = doc.mounts.into_iter().filter(|mount| mount.target.starts_with("/run/taproot/"));
        let mut roots: BTreeMap<String, KnownRoot> =
            parts.map(|part| (part.dataset, KnownRoot { fstype: part.fstype, ..KnownRoot::default() })).collect();
        let places = doc.places.into_iter().map(|record| (record.target, record.place)).collect();
        let root = KnownRoot { fstab: Some(lines.collect()), places, init: doc.init, fstype };
        roots.extend(doc.root.iter().map(|name| (name.clone(), root.clone())));
        let known = Known {
            zfs: doc.zfs.unwrap_or_default(),
            pools,
            expected: doc.expected.into_iter().map(expected).collect::<Result<_>>().with_context(|| name.to_owned())?,
            datasets: doc.datasets.into_iter().map(dataset).collect(),
            roots,
            write_protected,
            ..Known::default()
        };
        Ok(Self {
            source: format!("{name} (taproot-init {}{zfs})", doc.version),
            words: doc.request.map(|r| r.words.join(" ")),
            known,
            packed: doc.expected_root.map(|root| ExpectedRoot { source: root.source, fstype: root.fstype }),
            root: doc.root,
            remarks,
            system: None,
        })
    }

    /// What the running system's zfs module knows; needs no privileges where /dev/zfs is open to all, as it is by default.
    pub fn of_system() -> Result<Self> {
        let linux = Arc::new(Linux::new());
        let mut facts = Self {
            source: "the running system".to_owned(),
            known: Known { complete: true, ..Known::default() },
            system: Some((Arc::clone(&linux), BTreeSet::new())),
            ..Self::default()
        };
        if !system_has_zfs() {
            facts.remarks.push("the zfs module is not loaded here, so no pool is known".to_owned());
            return Ok(facts);
        }
        Zfs::new(linux.as_ref()).imported_pools().context(
            "the running system: asking /dev/zfs for its pools; expected a loaded zfs module and read-write access to it",
        )?;
        let system: Arc<dyn System> = linux.clone();
        let log = Log::new(Arc::clone(&system));
        facts.known.pools = Pools::new(linux.as_ref(), &log, &Phases::new(system)).imported();
        facts.remarks.push("only imported pools are known here; a boot looks at every disk".to_owned());
        Ok(facts)
    }

    /// Asks the running system for the datasets of a root's pool and for that root's fstab; whether there was anything to
    /// ask. A record stays as it is.
    pub(super) fn complete(&mut self, root: &str) -> bool {
        let Some((system, asked)) = &mut self.system else { return false };
        if !asked.insert(root.to_owned()) {
            return false;
        }
        let pool = names::pool_of(root);
        if asked.insert(pool.to_owned()) || !self.known.datasets.iter().any(|d| names::is_within(&d.name, pool)) {
            match Zfs::new(system.as_ref()).datasets(pool) {
                // relatime is on by default since OpenZFS 2.2, which is what is current.
                Ok(all) => {
                    let mut all: Vec<Dataset> = all.iter().map(|o| from_zfs::dataset(o, true)).collect();
                    from_zfs::share_key_locations(&mut all);
                    self.known.datasets.extend(all);
                }
                Err(e) => self.remarks.push(e.to_string()),
            }
        }
        let mounted = fs::read("/proc/self/mounts").unwrap_or_default();
        let at = fstab::parse(&mounted).into_iter().find(|m| m.fstype == "zfs" && m.source == root).map(|m| m.target);
        let text = at.and_then(|at| fs::read(PathBuf::from(at).join("etc/fstab")).ok());
        let known = KnownRoot { fstab: text.map(|text| fstab::parse(&text)), ..KnownRoot::default() };
        self.known.roots.insert(root.to_owned(), known);
        true
    }

    /// Looks at the block devices of the running system, as far as they may be read.
    pub(super) fn look_at_devices(&mut self) {
        let Some((system, _)) = &self.system else { return };
        if self.known.hardware.is_some() || !is_root() {
            return;
        }
        let mut hardware = block_devices(system);
        // A rehearsal begins at 0, with everything that is there.
        (hardware.settled, hardware.last_change) = (true, Duration::ZERO);
        for device in hardware.devices.values_mut() {
            device.since = Duration::ZERO;
        }
        if !hardware.devices.is_empty() {
            self.known.hardware = Some(hardware);
        }
    }

    /// Whether these are of a recorded boot.
    pub(super) fn is_record(&self) -> bool {
        self.system.is_none()
    }
}

/// The block devices of this machine, and what is on those that answer in time.
pub fn block_devices(system: &Arc<Linux>) -> Hardware {
    let log = Log::new(system.clone());
    let mut scout = Scout::start(system.as_ref(), false, &log);
    let end = system.now() + DEVICES_PATIENCE;
    while system.now() < end {
        scout.hear(Duration::from_millis(50));
        let Hardware { devices, settled, .. } = &scout.hardware;
        if *settled && devices.values().all(|device| device.content != Reading::Waiting) {
            break;
        }
    }
    let hardware = scout.hardware.clone();
    scout.stop();
    hardware
}

/// Whether disks may be read.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether the running system can be asked.
pub fn system_has_zfs() -> bool {
    Path::new("/dev/zfs").exists()
}

fn guid(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("`{text}` is not a guid: expected a number as text"))
}

fn expected(record: ExpectedRecord) -> Result<ExpectedPool> {
    Ok(ExpectedPool { guid: guid(&record.guid)?, name: record.name, vdevs: record.vdevs })
}

fn pool(record: PoolRecord) -> Result<PoolFact> {
    Ok(PoolFact {
        guid: guid(&record.guid)?,
        health: match record.health.as_str() {
            "online" => Health::Online,
            "degraded" => Health::Degraded,
            "unavailable" => Health::Unavailable,
            other => bail!("`{other}` is no state of a pool: expected online, degraded or unavailable"),
        },
        name: record.name,
        bootfs: record.bootfs,
        bootfs_unknown: record.bootfs_unknown,
        problem: record.problem,
        // Only how long a boot waits depends on it.
        hopeless: false,
        exported: record.exported,
        hostid: record.hostid,
        hostname: record.hostname,
        destroyed: record.destroyed,
        foreign: record.foreign,
        missing_log: record.missing_log,
        unwritable: record.unwritable,
        devices: record.devices,
        doubt: record.doubt.map(|doubt| Doubt { text: doubt.text, grave: doubt.grave }),
        started: record.started,
    })
}

fn dataset(record: DatasetRecord) -> Dataset {
    let usual = Dataset::with_defaults(&record.name);
    Dataset {
        kind: match record.kind.as_deref() {
            None => Kind::Filesystem,
            Some("volume") => Kind::Volume,
            Some(_) => Kind::Other,
        },
        canmount: match record.canmount.as_deref() {
            Some("off") => CanMount::Off,
            Some("noauto") => CanMount::NoAuto,
            _ => CanMount::On,
        },
        mountpoint: match record.mountpoint {
            None => usual.mountpoint,
            Some(text) => match text.as_str() {
                "legacy" => Mountpoint::Legacy,
                "none" => Mountpoint::None,
                _ => Mountpoint::Path(text),
            },
        },
        zol_mountpoint: record.zol_mountpoint,
        mountpoint_of: record.mountpoint_of,
        received: record.received,
        overlay: record.overlay.unwrap_or(usual.overlay),
        readonly: record.readonly.unwrap_or(usual.readonly),
        atime: record.atime.unwrap_or(usual.atime),
        relatime: record.relatime.unwrap_or(usual.relatime),
        devices: record.devices.unwrap_or(usual.devices),
        exec: record.exec.unwrap_or(usual.exec),
        setuid: record.setuid.unwrap_or(usual.setuid),
        nbmand: record.nbmand.unwrap_or(usual.nbmand),
        zoned: record.zoned.unwrap_or(usual.zoned),
        key_available: record.key_available,
        encryption_root: record.encryption_root,
        key_location: record.key_location,
        contexts: record.contexts,
        name: record.name,
    }
}
