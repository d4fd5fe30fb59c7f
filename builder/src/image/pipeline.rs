//! From a plan and a stream of entries to a disk: in which order things are written, and what stays of a run that fails.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::boot::grub::Grub;
use super::config::Config;
use super::disk::layout::{Layout, Role};
use super::disk::window::Window;
use super::disk::{fat, formats, swap, table};
use super::edit::{Added, Report};
use super::extract::Keeping;
use super::members::{DISK, Members, raw_name};
use super::stages::Stages;
use super::system;
use super::work::Work;
use super::{Format, Loader, Output, Plan, boot};
use crate::esp::config::PATH as LOADER;
use crate::output::Cleanup;
use crate::pool::{self, State};
use crate::progress::Progress;
use crate::tar::Entries;

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
    files: Vec<File>,
    pool: pool::Summary,
    seconds: f64,
}

/// A plan whose outputs are open and whose layout is known.
#[derive(Debug)]
pub struct Job<'a> {
    plan: &'a Plan,
    members: Members,
    work: Work,
}

impl<'a> Job<'a> {
    /// Opens what is to be written, and asks before a device is (`yes`: it may go).
    pub fn open(plan: &'a Plan, yes: bool, cleanup: &Cleanup) -> Result<Self> {
        let members = Members::open(plan, yes)?;
        let first = plan.outputs.first().context("something to write")?;
        let work = if members.are_devices() {
            let name = format!("taproot-image.{}", std::process::id());
            Work::at(std::env::temp_dir().join(name), cleanup)?
        } else {
            Work::beside(&first.path, cleanup)?
        };
        Ok(Self { plan, members, work })
    }

    /// Lines of fstab for the partitions beside the pool.
    pub fn fstab(&self) -> Vec<String> {
        system::fstab(&self.layouts().collect::<Vec<_>>())
    }

    fn layouts(&self) -> impl Iterator<Item = &Layout> {
        self.members.all.iter().map(|member| &member.layout)
    }

    /// That of the first disk; the others differ in what has to be unlike.
    fn layout(&self) -> Result<&Layout> {
        self.layouts().next().context("a disk to write expected")
    }

    /// Files that the tree is to have.
    pub fn additions(&self) -> Result<Vec<Added>> {
        system::files(&self.plan.boot, self.members.all.len())
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
        let files = self.members.targets(&self.work)?;
        let tree = self.work.file(TREE);
        stages.progress.step("writing the pool");
        let pool = self.pool(&files, &tree, (earlier, input), stages.progress)?;
        let seconds = rounded(clock);
        self.with_disk(stages)?.run("pool", "after")?;
        Ok(Filled { files, pool, seconds })
    }

    /// Writes the rest. The partition table comes last, and files get their names then.
    pub fn complete(self, filled: Filled, stages: &Stages<'_>) -> Result<Summary> {
        let progress = stages.progress;
        let Filled { files, pool: written, seconds } = filled;
        let mut seconds = BTreeMap::from([("pool", seconds)]);
        let mut clock = Instant::now();
        let mut lap = |name: &'static str| {
            seconds.insert(name, rounded(clock));
            clock = Instant::now();
        };
        let tree = self.work.file(TREE);
        let layout = self.layout()?;
        let esp = layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
        let made = boot::make(&self.plan.boot, &tree, esp.size, stages)?;
        lap("boot");

        let of_disk = self.with_disk(stages)?;
        of_disk.run("assemble", "before")?;
        progress.step("writing the boot loader's partition");
        self.partitions(&files, &made.files.files)?;
        of_disk.run("assemble", "after")?;
        lap("partitions");

        self.finish(&files, &of_disk)?;
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
            size: layout.size,
            sector: layout.sector,
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

    /// Everything on the disks but the pool. The tables come last: without one nothing on a disk counts.
    fn partitions(&self, files: &[File], boot: &fat::Files) -> Result<()> {
        let loader = self.plan.boot.loader;
        let grub = matches!(loader, Loader::Grub | Loader::GrubPool);
        let grub = grub.then(|| Grub::make(self.layout()?, loader == Loader::GrubPool, &self.work.file(CORE)));
        let grub = grub.transpose()?;
        for (file, layout) in files.iter().zip(self.layouts()) {
            let esp = layout.find(Role::Esp).context("a plan with an EFI system partition expected")?;
            fat::write(file, layout, &esp, boot)?;
            if let Some(place) = layout.find(Role::Swap) {
                swap::write(file, place.start, place.size, layout.swap_uuid()).context("writing swap space")?;
            }
            if let Some(grub) = &grub {
                grub.write(file, layout)?;
            }
            file.sync_all().context("syncing the disk")?;
        }
        files.iter().zip(self.layouts()).try_for_each(|(file, layout)| table::write(file, layout))
    }

    /// The stages with what is said of the disk.
    fn with_disk<'p>(&self, stages: &Stages<'p>) -> Result<Stages<'p>> {
        let pool = self.layout()?.find(Role::Pool).context("a plan with a pool expected")?;
        let paths = self.members.paths(self.plan, &self.work);
        let paths: Vec<PathBuf> =
            paths.iter().map(std::path::absolute).collect::<Result<_, _>>().context("the current directory")?;
        let all: Vec<&OsStr> = paths.iter().map(|path| path.as_os_str()).collect();
        let stages = stages.with("TAPROOT_DISK", paths.first().context("a disk to write expected")?);
        let stages = stages.with("TAPROOT_DISKS", all.join(OsStr::new("\n")));
        let stages = stages.with("TAPROOT_POOL_OFFSET", pool.start.to_string());
        Ok(stages.with("TAPROOT_POOL_SIZE", pool.size.to_string()))
    }

    fn pool(&self, files: &[File], tree: &Path, input: Input<'_, '_>, progress: &Progress) -> Result<pool::Summary> {
        let place = self.layout()?.find(Role::Pool).context("a plan with a pool expected")?;
        let options = pool::Options {
            size: place.size,
            offset: place.start,
            seed: self.members.seed.clone(),
            verify: self.plan.verify,
            ..self.plan.pool.clone()
        };
        let (earlier, last) = input;
        let mut keeping = Keeping::new(last, tree).context("making an archive of what the boot needs")?;
        let disks: Vec<&File> = files.iter().collect();
        let written = pool::write_states(&disks, &options, earlier, &mut keeping).context("writing the pool")?;
        for file in files.iter().filter(|_| self.plan.verify) {
            progress.step("reading the pool back");
            pool::verify(&Window::new(file, place.start, place.size), place.size, &written)
                .context("reading the pool back")?;
        }
        Ok(written)
    }

    /// Writes the other formats, and gives every file its name.
    fn finish(&self, files: &[File], stages: &Stages<'_>) -> Result<()> {
        stages.run("convert", "before")?;
        let mut names = Vec::new();
        for (number, output) in self.plan.outputs.iter().enumerate() {
            let whole = matches!(output.format, Format::Raw | Format::Device);
            let nth = if self.plan.mirror { number } else { 0 };
            let name = if whole { raw_name(nth) } else { format!("{DISK}.{number}") };
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
            files.iter().try_for_each(File::sync_all).context("syncing the disk")?;
        }
        if !self.members.are_devices() {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::image::Disk;
    use crate::made::tar::{Made, archive};
    use crate::tar::Archive;

    fn plan(outputs: &[PathBuf], verify: bool) -> Plan {
        let root = pool::Dataset { tree: Some("/".into()), ..pool::Dataset::default() };
        let pool = pool::Options { name: "tank".into(), datasets: vec![root], ..pool::Options::default() };
        let outputs = outputs.iter().map(|path| Output { format: Format::Raw, path: path.clone() }).collect();
        let disk = Disk { size: Some(512 << 20), esp: 64 << 20, ..Disk::default() };
        Plan { pool, disk, boot: super::super::Boot::default(), outputs, mirror: false, verify }
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

    /// Both have the pool, and nothing else that could be taken for that of the other.
    #[test]
    fn each_disk_of_a_mirror_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.raw", "b.raw"].map(|name| dir.path().join(name));
        let plan = Plan { mirror: true, ..plan(&paths, true) };
        let stages = Stages::none(&Progress::Quiet);
        let job = Job::open(&plan, false, &Cleanup::default()).unwrap();
        assert!(job.fstab()[1].contains(" /efi2 vfat umask=0077,nofail "), "{:?}", job.fstab());
        let bytes = archive(&[Made::file("etc/hostname", "box\n")]);
        let filled = job.fill(&mut [], &mut Archive::new(&*bytes), &stages).unwrap();
        let boot = fat::Files::from([("EFI/BOOT/BOOTX64.EFI".to_owned(), b"program".to_vec())]);
        job.partitions(&filled.files, &boot).unwrap();
        job.finish(&filled.files, &stages).unwrap();
        drop(job);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);

        let mut seen = Vec::new();
        for (path, name) in paths.iter().zip(["zfs", "zfs-2"]) {
            let mut file = File::open(path).unwrap();
            let table = gptman::GPT::read_from(&mut file, 512).unwrap();
            let mut guids = vec![table.header.disk_guid];
            guids.extend(
                table.iter().filter(|(_, place)| place.is_used()).map(|(_, place)| place.unique_partition_guid),
            );
            let (esp, pool) = (&table[1], &table[2]);
            assert_eq!(pool.partition_name.as_str(), name);
            let bytes = |lba: u64| lba * 512;
            let size = bytes(pool.ending_lba + 1 - pool.starting_lba);
            pool::verify(&Window::new(&file, bytes(pool.starting_lba), size), size, &filled.pool).unwrap();
            let mut serial = [0; 4];
            file.read_exact_at(&mut serial, bytes(esp.starting_lba) + 67).unwrap();
            seen.push((guids, serial));
        }
        assert!(seen[0].0.iter().all(|guid| !seen[1].0.contains(guid)) && seen[0].1 != seen[1].1, "{seen:?}");
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
