//! From a plan and a stream of entries to a disk: in which order things are written, and what stays of a run that fails.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use taproot_init::hex::hex;

use super::boot::grub::Grub;
use super::disk::device::{self, Device};
use super::disk::layout::{Layout, Role};
use super::disk::{fat, formats, swap, table};
use super::edit::{Added, Report};
use super::extract::Keeping;
use super::system;
use super::work::Work;
use super::{Disk, Format, Loader, Plan, boot};
use crate::output::Cleanup;
use crate::pool::{self, Compatibility};
use crate::progress::Progress;
use crate::tar::Entries;

/// The raw disk, in the directory of the work.
const DISK: &str = "disk";
/// What was kept of the tree, beside it.
const TREE: &str = "tree";

/// What was made, for people and for `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// Files and devices that were written.
    pub outputs: Vec<PathBuf>,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of its sectors.
    pub sector: u64,
    /// Name of the pool.
    pub pool: String,
    /// Its guid, in decimal digits as zpool has it.
    pub guid: String,
    /// Bytes allocated in it.
    pub allocated: u64,
    /// Files and directories.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Release of the kernel that boots.
    pub kernel: String,
    /// Version of its zfs module.
    pub zfs: Option<String>,
    /// Files of the boot loader's partition.
    pub esp: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What of the tree was changed.
    pub changes: Option<Report>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// A disk with its pool, and nothing else yet.
#[derive(Debug)]
pub struct Filled {
    file: File,
    pool: pool::Summary,
    seconds: f64,
}

/// A plan whose outputs are open and whose layout is known.
#[derive(Debug)]
pub struct Job<'a> {
    plan: &'a Plan,
    layout: Layout,
    seed: String,
    device: Option<Device>,
    work: Work,
}

impl<'a> Job<'a> {
    /// Opens what is to be written, and asks before a device is (`yes`: it may go).
    pub fn open(plan: &'a Plan, yes: bool, cleanup: &Cleanup) -> Result<Self> {
        let Some(first) = plan.outputs.first() else {
            bail!("nothing to write: say --raw FILE, --qcow2 FILE or --device DEVICE")
        };
        check_outputs(plan)?;
        let devices = plan.outputs.iter().filter(|output| output.format == Format::Device).count();
        ensure!(
            devices == 0 || plan.outputs.len() == 1,
            "a device is written by itself: its sectors and guids are its own; run it once for each"
        );
        let device = (devices == 1).then(|| Device::open(&first.path)).transpose()?;
        ensure!(
            plan.boot.loader != Loader::GrubPool || plan.pool.compatibility == Compatibility::Grub,
            "GRUB is to read the pool: say --compression lz4 --set pool.compatibility=grub2, or choose --loader grub"
        );
        let mut disk = plan.disk;
        let mut size = plan.disk.size.unwrap_or(Disk::DEFAULT);
        let mut seed = plan.pool.seed.clone();
        if let Some(device) = &device {
            let given = plan.disk.size.unwrap_or(device.size);
            ensure!(given <= device.size, "--size: the device has {} bytes, {given} were asked for", device.size);
            (disk.sector, size) = (device.sector, device.size);
            // Of two disks that are written from one tree both are to be usable in one machine.
            seed = random()?;
            if !yes {
                device::ask(&device.description)?;
            }
        }
        ensure!(size.is_multiple_of(disk.sector), "--size: a multiple of {} bytes expected, {size} found", disk.sector);
        let layout = Layout::new(&disk, size, plan.boot.loader, &format!("{}\0{seed}", plan.pool.name))?;
        ensure!(
            1 << plan.pool.ashift >= disk.sector,
            "ashift {} is for sectors of {} bytes, and these have {}: choose 12",
            plan.pool.ashift,
            1 << plan.pool.ashift,
            disk.sector
        );
        let work = match &device {
            Some(_) => {
                let name = format!("taproot-image.{}", std::process::id());
                Work::at(std::env::temp_dir().join(name), cleanup)?
            }
            None => Work::beside(&first.path, cleanup)?,
        };
        Ok(Self { plan, layout, seed, device, work })
    }

    /// Lines of fstab for the partitions beside the pool.
    pub fn fstab(&self) -> Vec<String> {
        system::fstab(&self.layout)
    }

    /// Files that the tree is to have.
    pub fn additions(&self) -> Result<Vec<Added>> {
        system::files(&self.plan.boot)
    }

    /// Writes the pool, and keeps what the boot needs.
    pub fn fill(&self, input: &mut dyn Entries, progress: &Progress) -> Result<Filled> {
        let clock = Instant::now();
        let file = self.target()?;
        let tree = self.work.file(TREE);
        DirBuilder::new().mode(0o700).create(&tree).context("making a directory for what the boot needs")?;
        progress.step("writing the pool");
        let pool = self.pool(&file, &tree, input)?;
        Ok(Filled { file, pool, seconds: rounded(clock) })
    }

    /// Writes the rest. The partition table comes last, and files get their names then.
    pub fn complete(self, filled: Filled, progress: &Progress) -> Result<Summary> {
        let Filled { file, pool: written, seconds } = filled;
        let mut seconds = BTreeMap::from([("pool", seconds)]);
        let mut clock = Instant::now();
        let mut lap = |name: &'static str| {
            seconds.insert(name, rounded(clock));
            clock = Instant::now();
        };
        let tree = self.work.file(TREE);
        let esp = self.layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
        let made = boot::make(&self.plan.boot, &tree, esp.size, progress, &Cleanup::default())?;
        lap("boot");

        progress.step("writing the boot loader's partition");
        fat::write(&file, &self.layout, &esp, &made.files.files)?;
        if let Some(place) = self.layout.find(Role::Swap) {
            swap::write(&file, place.start, place.size, self.layout.uuid("swap space"))
                .context("writing swap space")?;
        }
        if matches!(self.plan.boot.loader, Loader::Grub | Loader::GrubPool) {
            let pool = self.plan.boot.loader == Loader::GrubPool;
            Grub::make(&self.layout, pool, &tree)?.write(&file, &self.layout)?;
        }
        file.sync_all().context("syncing the disk")?;
        table::write(&file, &self.layout)?;
        drop(file);
        lap("partitions");

        self.finish(progress)?;
        lap("outputs");
        Ok(Summary {
            format: 1,
            outputs: self.plan.outputs.iter().map(|output| output.path.clone()).collect(),
            size: self.layout.size,
            sector: self.layout.sector,
            pool: self.plan.pool.name.clone(),
            guid: written.guid.to_string(),
            allocated: written.allocated,
            entries: written.counts.entries,
            bytes: written.counts.bytes,
            kernel: made.image.kernel,
            zfs: made.image.zfs,
            esp: made.files.files.into_keys().collect(),
            notes: made.image.notes,
            changes: None,
            seconds,
        })
    }

    /// The raw disk, without anything on it.
    fn target(&self) -> Result<File> {
        if let Some(device) = &self.device {
            let file = device.file.try_clone().context("opening the device once more")?;
            table::wipe(&file, &self.layout).context("wiping the ends of the device")?;
            return Ok(file);
        }
        let path = self.work.file(DISK);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("{}: making", path.display()))?;
        file.set_len(self.layout.size).with_context(|| {
            format!("{}: a file of {} bytes; does its file system hold such?", path.display(), self.layout.size)
        })?;
        Ok(file)
    }

    fn pool(&self, file: &File, tree: &std::path::Path, input: &mut dyn Entries) -> Result<pool::Summary> {
        let place = self.layout.find(Role::Pool).context("a plan with a pool expected")?;
        let options =
            pool::Options { size: place.size, offset: place.start, seed: self.seed.clone(), ..self.plan.pool.clone() };
        let mut keeping = Keeping::new(input, tree);
        pool::write(file, &options, &mut keeping).context("writing the pool")
    }

    /// Writes the other formats, and gives every file its name.
    fn finish(&self, progress: &Progress) -> Result<()> {
        if self.device.is_some() {
            return Ok(());
        }
        let mut names = Vec::new();
        for (number, output) in self.plan.outputs.iter().enumerate() {
            let name = if output.format == Format::Raw { DISK.to_owned() } else { format!("{DISK}.{number}") };
            if output.format != Format::Raw {
                progress.step(&format!("writing {}", output.path.display()));
                formats::convert(&self.work.file(DISK), output.format, &self.work.file(&name))?;
            }
            names.push(name);
        }
        for (name, output) in names.iter().zip(&self.plan.outputs) {
            self.work.place(name, &output.path)?;
        }
        Ok(())
    }
}

fn rounded(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e3).round() / 1e3
}

/// A seed that no other image has.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom: reading")?;
    Ok(hex(&bytes))
}

/// Refuses to replace what is no file.
fn check_outputs(plan: &Plan) -> Result<()> {
    for output in plan.outputs.iter().filter(|output| output.format != Format::Device) {
        let there = fs::symlink_metadata(&output.path);
        ensure!(
            there.is_err() || there.is_ok_and(|meta| meta.is_file()),
            "{}: expected the name of a file to write, found something else there; devices are written by --device",
            output.path.display()
        );
    }
    Ok(())
}
