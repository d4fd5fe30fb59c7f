//! The disks that an image is written to: one, or several that are a mirror. Those have one pool, and each has a boot loader of its own.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use taproot_init::hex::hex;

use super::disk::device::{self, Device};
use super::disk::layout::{Layout, Role};
use super::disk::table;
use super::work::Work;
use super::{Disk, Format, Loader, Plan};
use crate::firstboot::random;
use crate::output::directory;
use crate::pool::Compatibility;

/// The raw disk, in the directory of the work.
pub(super) const DISK: &str = "disk";

/// Name of a raw disk in the directory of the work.
pub(super) fn raw_name(nth: usize) -> String {
    if nth == 0 { DISK.to_owned() } else { format!("{DISK}-{}", nth + 1) }
}

/// A disk.
#[derive(Debug)]
pub(super) struct Member {
    /// What is where on it.
    pub(super) layout: Layout,
    /// The device, where it is one.
    device: Option<Device>,
}

/// All of them, and what guids are made from.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) all: Vec<Member>,
    pub(super) seed: String,
}

impl Members {
    /// Opens what is to be written, and asks before a device is (`yes`: it may go).
    pub(super) fn open(plan: &Plan, yes: bool) -> Result<Self> {
        let Some(first) = plan.outputs.first() else {
            bail!("nothing to write: say --raw FILE, --qcow2 FILE or --device DEVICE")
        };
        check_outputs(plan)?;
        let is_device = |format: Format| format == Format::Device;
        ensure!(
            plan.mirror || plan.outputs.len() == 1 || !plan.outputs.iter().any(|output| is_device(output.format)),
            "a device is written by itself: its sectors and guids are its own; run it once for each, or have it in a mirror (--mirror)"
        );
        ensure!(
            plan.boot.loader != Loader::GrubPool || plan.pool.compatibility == Compatibility::Grub,
            "GRUB is to read the pool: say --compression lz4 --set pool.compatibility=grub2, or choose --loader grub"
        );
        let count = if plan.mirror { plan.outputs.len() } else { 1 };
        let mut devices = Vec::new();
        for output in plan.outputs.iter().take(count) {
            devices.push(is_device(output.format).then(|| Device::open(&output.path)).transpose()?);
        }
        let mut seed = plan.pool.seed.clone();
        if is_device(first.format) {
            // Of two disks that are written from one tree both are to be usable in one machine.
            seed = hex(&random::<16>()?);
            if !yes {
                device::ask(devices.iter().flatten())?;
            }
        }
        ensure!((9..=13).contains(&plan.pool.ashift), "pool.ashift: 9 to 13 expected, {} found", plan.pool.ashift);
        let mut all = Vec::new();
        for (nth, device) in devices.into_iter().enumerate() {
            let layout = layout(plan, device.as_ref(), &seed)?.of_member(nth);
            all.push(Member { layout, device });
        }
        let pool = all.iter().filter_map(|member| member.layout.find(Role::Pool)).map(|place| place.size).min();
        for member in &mut all {
            member.layout.limit_pool(pool.unwrap_or(0));
        }
        Ok(Self { all, seed })
    }

    /// Whether they are devices.
    pub(super) fn are_devices(&self) -> bool {
        self.all.iter().any(|member| member.device.is_some())
    }

    /// The raw disks, without anything on them.
    pub(super) fn targets(&self, work: &Work) -> Result<Vec<File>> {
        self.all.iter().enumerate().map(|(nth, member)| member.target(&work.file(&raw_name(nth)))).collect()
    }

    /// Where the disks are while they are written.
    pub(super) fn paths(&self, plan: &Plan, work: &Work) -> Vec<PathBuf> {
        let path = |(nth, member): (usize, &Member)| match plan.outputs.get(nth) {
            Some(output) if member.device.is_some() => output.path.clone(),
            _ => work.file(&raw_name(nth)),
        };
        self.all.iter().enumerate().map(path).collect()
    }
}

impl Member {
    fn target(&self, path: &Path) -> Result<File> {
        if let Some(device) = &self.device {
            let file = device.file.try_clone().context("opening the device once more")?;
            table::wipe(&file, &self.layout).context("wiping the ends of the device")?;
            return Ok(file);
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("{}: making", path.display()))?;
        file.set_len(self.layout.size).with_context(|| {
            format!("{}: a file of {} bytes; does its file system hold such?", path.display(), self.layout.size)
        })?;
        Ok(file)
    }
}

/// What is where on a device, or on a file.
fn layout(plan: &Plan, device: Option<&Device>, seed: &str) -> Result<Layout> {
    let mut disk: Disk = plan.disk;
    let mut size = plan.disk.size.unwrap_or(Disk::DEFAULT);
    if let Some(device) = device {
        let given = plan.disk.size.unwrap_or(device.size);
        ensure!(given <= device.size, "--size: the device has {} bytes, {given} were asked for", device.size);
        (disk.sector, size) = (device.sector, device.size);
    }
    ensure!(size.is_multiple_of(disk.sector), "--size: a multiple of {} bytes expected, {size} found", disk.sector);
    ensure!(
        1 << plan.pool.ashift >= disk.sector,
        "ashift {} is for sectors of {} bytes, and these have {}: choose 12",
        plan.pool.ashift,
        1 << plan.pool.ashift,
        disk.sector
    );
    Layout::new(&disk, size, plan.boot.loader, &format!("{}\0{seed}", plan.pool.name))
}

/// Refuses what would be found only when the work is done.
fn check_outputs(plan: &Plan) -> Result<()> {
    let places = plan.outputs.iter().map(|output| {
        if output.format == Format::Device {
            output.path.canonicalize().with_context(|| format!("{}: looking for it", output.path.display()))
        } else {
            file_to_write(&output.path, "; devices are written by --device")
        }
    });
    check_names(&places.collect::<Result<Vec<_>>>()?)
}

/// The place of a file that is to be written. Refuses to replace what is none; `instead` is what to do then.
pub(super) fn file_to_write(output: &Path, instead: &str) -> Result<PathBuf> {
    let shown = output.display();
    let above = directory(output).canonicalize().with_context(|| format!("{shown}: its directory"))?;
    let there = std::fs::symlink_metadata(output);
    ensure!(
        there.is_err() || there.is_ok_and(|meta| meta.is_file()),
        "{shown}: expected the name of a file to write, found something else there{instead}"
    );
    Ok(above.join(output.file_name().with_context(|| format!("{shown}: a name expected"))?))
}

/// Refuses to write two outputs to one place.
pub(super) fn check_names(places: &[PathBuf]) -> Result<()> {
    let mut names = BTreeSet::new();
    for place in places {
        ensure!(names.insert(place), "{}: two outputs of this name, expected one", place.display());
    }
    Ok(())
}
