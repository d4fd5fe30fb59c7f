//! From a plan and a stream of entries to a disk: in which order things are written, and what stays of a run that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use taproot_init::hex::hex;

use super::boot::grub::Grub;
use super::config::Config;
use super::disk::device::{self, Device};
use super::disk::layout::{Layout, Role};
use super::disk::window::Window;
use super::disk::{fat, formats, swap, table};
use super::edit::{Added, Report};
use super::extract::Keeping;
use super::stages::Stages;
use super::system;
use super::work::Work;
use super::{Disk, Format, Loader, Output, Plan, boot};
use crate::esp::config::PATH as LOADER;
use crate::output::{Cleanup, directory};
use crate::pool::{self, Compatibility, State};
use crate::progress::Progress;
use crate::tar::Entries;

/// The raw disk, in the directory of the work.
const DISK: &str = "disk";
/// An archive of what was kept of the tree, beside it.
const TREE: &str = "tree";
/// What hooks have for themselves.
const HOOKS: &str = "hooks";
/// GRUB's core.
const CORE: &str = "core.img";

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

/// Earlier states, and the last one.
type Input<'a, 'i> = (&'a mut [State<'i>], &'a mut dyn Entries);

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
        ensure!((9..=13).contains(&plan.pool.ashift), "pool.ashift: 9 to 13 expected, {} found", plan.pool.ashift);
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

    /// What its stages are run with.
    pub fn stages<'p>(&self, config: &Config, progress: &'p Progress) -> Result<Stages<'p>> {
        let output = self.plan.outputs.first().context("something to write")?;
        Stages::of(config, &self.work.file(HOOKS), &output.path, progress)
    }

    /// Writes the pool with its earlier states, and keeps what the boot needs of the last one.
    pub fn fill(&self, earlier: &mut [State<'_>], input: &mut dyn Entries, stages: &Stages<'_>) -> Result<Filled> {
        stages.stage("layout", || Ok(()))?;
        stages.run("pool", "before")?;
        let clock = Instant::now();
        let file = self.target()?;
        let tree = self.work.file(TREE);
        stages.progress.step("writing the pool");
        let pool = self.pool(&file, &tree, (earlier, input), stages.progress)?;
        let seconds = rounded(clock);
        self.with_disk(stages)?.run("pool", "after")?;
        Ok(Filled { file, pool, seconds })
    }

    /// Writes the rest. The partition table comes last, and files get their names then.
    pub fn complete(self, filled: Filled, stages: &Stages<'_>) -> Result<Summary> {
        let progress = stages.progress;
        let Filled { file, pool: written, seconds } = filled;
        let mut seconds = BTreeMap::from([("pool", seconds)]);
        let mut clock = Instant::now();
        let mut lap = |name: &'static str| {
            seconds.insert(name, rounded(clock));
            clock = Instant::now();
        };
        let tree = self.work.file(TREE);
        let esp = self.layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
        let made = boot::make(&self.plan.boot, &tree, esp.size, stages)?;
        lap("boot");

        let of_disk = self.with_disk(stages)?;
        of_disk.run("assemble", "before")?;
        progress.step("writing the boot loader's partition");
        fat::write(&file, &self.layout, &esp, &made.files.files)?;
        if let Some(place) = self.layout.find(Role::Swap) {
            swap::write(&file, place.start, place.size, self.layout.uuid("swap space"))
                .context("writing swap space")?;
        }
        if matches!(self.plan.boot.loader, Loader::Grub | Loader::GrubPool) {
            let pool = self.plan.boot.loader == Loader::GrubPool;
            Grub::make(&self.layout, pool, &self.work.file(CORE))?.write(&file, &self.layout)?;
        }
        file.sync_all().context("syncing the disk")?;
        table::write(&file, &self.layout)?;
        of_disk.run("assemble", "after")?;
        lap("partitions");

        self.finish(&file, &of_disk)?;
        lap("outputs");
        stages.run("done", "after")?;
        let mut notes = made.notes;
        if self.plan.boot.sign.is_some() {
            notes.push(format!(
                "kernels that are installed later are not signed, as the image does not have the key: name one there (sign-key and \
                 sign-certificate in {LOADER}), or the firmware refuses them under Secure Boot"
            ));
        }
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
            kernel: made.kernel,
            zfs: made.zfs,
            esp: made.files.files.into_keys().collect(),
            notes,
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

    /// The stages with what is said of the disk.
    fn with_disk<'p>(&self, stages: &Stages<'p>) -> Result<Stages<'p>> {
        let pool = self.layout.find(Role::Pool).context("a plan with a pool expected")?;
        let disk = self.device.as_ref().and(self.plan.outputs.first()).map(|output| output.path.clone());
        let disk =
            std::path::absolute(disk.unwrap_or_else(|| self.work.file(DISK))).context("the current directory")?;
        let stages = stages.with("TAPROOT_DISK", disk).with("TAPROOT_POOL_OFFSET", pool.start.to_string());
        Ok(stages.with("TAPROOT_POOL_SIZE", pool.size.to_string()))
    }

    fn pool(&self, file: &File, tree: &Path, input: Input<'_, '_>, progress: &Progress) -> Result<pool::Summary> {
        let place = self.layout.find(Role::Pool).context("a plan with a pool expected")?;
        let options = pool::Options {
            size: place.size,
            offset: place.start,
            seed: self.seed.clone(),
            verify: self.plan.verify,
            ..self.plan.pool.clone()
        };
        let (earlier, last) = input;
        let mut keeping = Keeping::new(last, tree).context("making an archive of what the boot needs")?;
        let written = pool::write_states(&[file], &options, earlier, &mut keeping).context("writing the pool")?;
        if self.plan.verify {
            progress.step("reading the pool back");
            pool::verify(&Window::new(file, place.start, place.size), place.size, &written)
                .context("reading the pool back")?;
        }
        Ok(written)
    }

    /// Writes the other formats, and gives every file its name.
    fn finish(&self, file: &File, stages: &Stages<'_>) -> Result<()> {
        stages.run("convert", "before")?;
        let mut names = Vec::new();
        for (number, output) in self.plan.outputs.iter().enumerate() {
            let whole = matches!(output.format, Format::Raw | Format::Device);
            let name = if whole { DISK.to_owned() } else { format!("{DISK}.{number}") };
            if !whole {
                stages.progress.step(&format!("writing {}", output.path.display()));
                self.convert(output, &self.work.file(&name), stages)?;
            }
            names.push(name);
        }
        stages.run("convert", "after")?;
        stages.run("done", "before")?;
        if !stages.hooks.0.is_empty() {
            // They may have changed it.
            file.sync_all().context("syncing the disk")?;
        }
        if self.device.is_none() {
            for (name, output) in names.iter().zip(&self.plan.outputs) {
                self.work.place(name, &output.path)?;
            }
        }
        Ok(())
    }

    /// Writes one of the other formats, or has a hook write it.
    fn convert(&self, output: &Output, to: &Path, stages: &Stages<'_>) -> Result<()> {
        let place = std::path::absolute(to).context("the current directory")?;
        let mut stages = stages.with("TAPROOT_FORMAT", output.format.word());
        stages.around.output = Some(place);
        if !stages.run("convert", "replace")? {
            return formats::convert(&self.work.file(DISK), output.format, to);
        }
        let made = File::open(to).and_then(|file| file.sync_all().and_then(|()| file.metadata()));
        let made = made.context("convert.replace: expected a disk in TAPROOT_OUTPUT")?;
        ensure!(
            made.is_file() && made.len() > 0,
            "convert.replace: expected a disk in TAPROOT_OUTPUT, found an empty one"
        );
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

/// Refuses to replace what is no file, and what would be found only when the work is done.
fn check_outputs(plan: &Plan) -> Result<()> {
    let mut names = BTreeSet::new();
    for output in plan.outputs.iter().filter(|output| output.format != Format::Device) {
        let above = directory(&output.path);
        let real = above.canonicalize().with_context(|| format!("{}: its directory", output.path.display()))?;
        let name = output.path.file_name().with_context(|| format!("{}: a name expected", output.path.display()))?;
        ensure!(names.insert(real.join(name)), "{}: two outputs of this name, expected one", output.path.display());
        let there = fs::symlink_metadata(&output.path);
        ensure!(
            there.is_err() || there.is_ok_and(|meta| meta.is_file()),
            "{}: expected the name of a file to write, found something else there; devices are written by --device",
            output.path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::tar::{Made, archive};
    use crate::tar::Archive;

    fn plan(outputs: &[PathBuf], verify: bool) -> Plan {
        let root = pool::Dataset { tree: Some("/".into()), ..pool::Dataset::default() };
        let pool = pool::Options { name: "tank".into(), datasets: vec![root], ..pool::Options::default() };
        let outputs = outputs.iter().map(|path| Output { format: Format::Raw, path: path.clone() }).collect();
        let disk = Disk { size: Some(512 << 20), esp: 64 << 20, ..Disk::default() };
        Plan { pool, disk, boot: super::super::Boot::default(), outputs, verify }
    }

    #[test]
    fn the_pool_is_read_back_if_that_was_asked_for_and_nothing_stays_of_half_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(&[Made::file("etc/hostname", "box\n")]);
        let stages = Stages::none(&Progress::Quiet);
        for verify in [false, true] {
            let plan = plan(&[dir.path().join("disk.raw")], verify);
            let job = Job::open(&plan, false, &Cleanup::default()).unwrap();
            let filled = job.fill(&mut [], &mut Archive::new(&*bytes), &stages).unwrap();
            assert_eq!(filled.pool.contents.is_empty(), !verify, "what is read is remembered only to be compared");
            // The tree has no kernel.
            assert!(job.complete(filled, &stages).unwrap_err().to_string().contains("no kernel"));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn outputs_that_cannot_be_are_refused_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let said = |outputs: &[PathBuf]| {
            format!("{:#}", Job::open(&plan(outputs, false), false, &Cleanup::default()).unwrap_err())
        };
        assert!(said(&[]).contains("nothing to write"));
        let (file, same) = (dir.path().join("a"), dir.path().join("./a"));
        assert!(said(&[file.clone(), same]).contains("two outputs"));
        assert!(said(&[file, dir.path().join("none/b")]).contains("its directory"));
        assert!(said(&[dir.path().to_owned()]).contains("expected the name of a file"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
