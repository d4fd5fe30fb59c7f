//! A plan written as an image, and proven before it gets its name.
//!
//! `mksquashfs` reads the plan as a tar stream, so that nothing is copied; `mkfs.erofs` reads a copy of it, because versions in use read no
//! stream. What they wrote is not trusted: size by the superblock, every byte read for the checksum, the image mounted and compared with
//! the plan entry by entry. Only then it is renamed, never over something else.

use super::compare::compare;
use super::copy::{As, Written, copy};
use super::fit::fit;
use super::format::{Compression, Format};
use super::merge::{Plan, Totals};
use super::room::{Estimate, estimate};
use super::tree::Source;
use super::workshop::Workshop;
use super::{image, squashfs, tar};
use crate::output::{directory, free};
use crate::progress::{Progress, megabytes};
use crate::uuid;
use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{AT_FDCWD, FcntlArg, RenameFlags, fcntl, renameat2};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is to be written, and how.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is allowed or not
pub struct Order {
    /// The image's file; nothing is there yet.
    pub target: PathBuf,
    /// Its type.
    pub format: Format,
    /// How data are compressed.
    pub compression: Compression,
    /// Processors to use; all without.
    pub jobs: Option<usize>,
    /// No time in it is later (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<u64>,
    /// Access control lists may be lost.
    pub drop_acls: bool,
    /// It is tried although there may not be room.
    pub tight: bool,
    /// Files may change while they are read: the source is a running system.
    pub live: bool,
    /// There may be nothing to put into it: a stack waits for it all the same.
    pub empty: bool,
}

/// There is not enough room for an image.
#[derive(Debug, thiserror::Error)]
#[error(
    "{target}: about {needed} may be needed and {free} are free in {place}; make room there, compress more, or try it all the same \
     (--force)", target = .target.display(), needed = megabytes(*.needed), free = megabytes(*.free), place = .place.display()
)]
pub struct NoRoom {
    /// The image.
    pub target: PathBuf,
    /// Bytes, at most.
    pub needed: u64,
    /// Bytes.
    pub free: u64,
    /// Where.
    pub place: PathBuf,
}

/// What is known before anything is written.
#[derive(Debug, Clone, Serialize)]
pub struct Outlook {
    /// The image.
    pub path: PathBuf,
    /// Its type.
    pub format: Format,
    /// How its data are compressed.
    pub compression: String,
    /// What goes in.
    pub totals: Totals,
    /// How much room that may take.
    pub estimate: Estimate,
    /// Room that there is.
    pub free: u64,
    /// What was left out because it belongs to one machine or one boot.
    pub excluded: Vec<PathBuf>,
    /// Directories with other file systems in them, which were left out.
    pub foreign: Vec<PathBuf>,
    /// What the format cannot hold.
    pub notes: Vec<String>,
}

/// A layer that is there.
#[derive(Debug, Clone, Serialize)]
pub struct Sealed {
    /// What was known before.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// Bytes of the image.
    pub bytes: u64,
    /// Its checksum, which also stands beside it.
    pub sha256: String,
    /// Files that changed while they were read.
    pub changed: Vec<PathBuf>,
}

/// A plan that is ready to be written.
#[derive(Debug)]
pub struct Prepared<'a> {
    plan: Plan,
    sources: &'a [Source],
    order: Order,
    /// Of mksquashfs.
    version: squashfs::Version,
    /// What can be said of it.
    pub outlook: Outlook,
}

/// Looks whether the plan can be written: what the format cannot hold, the place, the room.
pub fn prepare(mut plan: Plan, sources: &[Source], order: Order) -> Result<Prepared<'_>> {
    let shown = order.target.display();
    order.compression.words(order.format).map_err(anyhow::Error::msg)?;
    ensure!(
        fs::symlink_metadata(&order.target).is_err(),
        "{shown}: is there already; a layer is never written over: remove it, or choose another name"
    );
    let mut notes = fit(&mut plan, order.format, order.drop_acls, order.epoch)?;
    let version = if order.format == Format::Squashfs { squashfs::version()? } else { (0, 0) };
    if order.format == Format::Squashfs {
        squashfs::restrict(&mut plan, version, &mut notes);
    }
    ensure!(
        order.empty || plan.items.len() > 1,
        "{shown}: there is nothing to put into it: no entry differs from what lies below, or all were left out"
    );
    let place = directory(&order.target);
    ensure!(place.is_dir(), "{shown}: expected the directory {} to be there", place.display());
    let (estimate, free) = (estimate(&plan, sources, order.format, &order.compression), free(place)?);
    if !order.tight && estimate.needed > free {
        let (target, place) = (order.target.clone(), place.to_owned());
        return Err(NoRoom { target, needed: estimate.needed, free, place }.into());
    }
    let outlook = Outlook {
        path: order.target.clone(),
        format: order.format,
        compression: order.compression.to_string(),
        totals: plan.totals(),
        estimate,
        free,
        excluded: std::mem::take(&mut plan.excluded),
        foreign: std::mem::take(&mut plan.foreign),
        notes,
    };
    Ok(Prepared { plan, sources, order, version, outlook })
}

/// An image without a name.
#[derive(Debug)]
pub struct Built<'a> {
    prepared: Prepared<'a>,
    workshop: Workshop,
    written: Written,
}

/// An image that was proven.
#[derive(Debug)]
pub struct Proven {
    workshop: Workshop,
    sealed: Sealed,
}

impl<'a> Prepared<'a> {
    /// Writes the image, in the workshop of its target.
    pub fn build(self, workshop: Workshop, progress: &Progress) -> Result<Built<'a>> {
        progress.step(&format!("writing {}", self.order.target.display()));
        let written = match self.order.format {
            Format::Squashfs => self.squashfs(&workshop, progress)?,
            Format::Erofs => self.erofs(&workshop, progress)?,
        };
        ensure!(
            self.order.live || written.changed.is_empty(),
            "{}: changed while it was read; a layer is sealed of what nobody writes to",
            written.changed.first().map(|path| path.display().to_string()).unwrap_or_default()
        );
        let path = workshop.place(IMAGE);
        let failed = || format!("{}: syncing it", path.display());
        fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(failed)?;
        File::open(&path).and_then(|file| file.sync_all()).with_context(failed)?;
        Ok(Built { prepared: self, workshop, written })
    }

    /// When the image says that it was made: the newest time in it, so that the same plan gives the same bytes.
    fn made(&self) -> u64 {
        let newest = self.plan.newest();
        let newest = u64::try_from(newest.seconds).unwrap_or(0) + u64::from(newest.nanoseconds > 0);
        self.order.epoch.unwrap_or(newest)
    }

    fn squashfs(&self, workshop: &Workshop, progress: &Progress) -> Result<Written> {
        let Order { compression, jobs, .. } = &self.order;
        let top = self.plan.items.first().context("a plan without a top directory")?;
        let mut command = tool(Format::Squashfs);
        command.arg("-").arg(workshop.place(IMAGE));
        command.args(["-tar", "-noappend", "-no-progress", "-quiet", "-exports", "-xattrs", "-exit-on-error"]);
        command.args(compression.words(Format::Squashfs).map_err(anyhow::Error::msg)?);
        let numbers = [
            ("-mkfs-time", self.made().min(u32::MAX.into()).to_string()),
            ("-root-time", top.node.mtime.seconds.to_string()),
            ("-root-mode", format!("{:o}", top.node.mode)),
            ("-root-uid", top.node.uid.to_string()),
            ("-root-gid", top.node.gid.to_string()),
        ];
        for (word, value) in numbers {
            command.args([word, &value]);
        }
        let top_time = squashfs::needs_top_time(self.version);
        command.args(top_time.then_some("-noI"));
        command.args(jobs.map(|jobs| ["-processors".to_owned(), jobs.to_string()]).into_iter().flatten());
        let log = workshop.place(LOG);
        let mut child = start(command.stdin(Stdio::piped()), &log, Format::Squashfs)?;
        let input = child.stdin.take().context("no way to mksquashfs")?;
        // Only a wish: with the usual 64 KiB both programs wait for each other more often.
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(1 << 20));
        let mut input = BufWriter::with_capacity(image::CHUNK, input);
        let written = tar::write(&self.plan, self.sources, &mut input, As::Layer, false, progress);
        // It ends when its input does.
        let flushed = written.and_then(|written| input.into_inner().map(drop).map(|()| written).map_err(Into::into));
        let ended = finished(child, &log, Format::Squashfs);
        let written = match flushed {
            // The program ended first: what it said is the reason.
            Err(error) if is_pipe(&error) => ended.and(Err(error)),
            Err(error) => Err(error),
            Ok(written) => ended.map(|()| written),
        }?;
        if top_time {
            squashfs::set_top_time(&workshop.place(IMAGE), u32::try_from(top.node.mtime.seconds).unwrap_or(u32::MAX))?;
        }
        Ok(written)
    }

    fn erofs(&self, workshop: &Workshop, progress: &Progress) -> Result<Written> {
        let tree = workshop.place("tree");
        fs::create_dir(&tree).with_context(|| format!("{}: making it", tree.display()))?;
        let written = copy(&self.plan, self.sources, &tree, As::Layer, progress)?;
        let mut command = tool(Format::Erofs);
        command.args(["--quiet", "--preserve-mtime"]).arg(format!("-U{}", uuid(&self.plan, &written)));
        command.args(self.order.compression.words(Format::Erofs).map_err(anyhow::Error::msg)?);
        command.env("SOURCE_DATE_EPOCH", self.made().to_string());
        command.arg(workshop.place(IMAGE)).arg(&tree).stdin(Stdio::null());
        let log = workshop.place(LOG);
        finished(start(&mut command, &log, Format::Erofs)?, &log, Format::Erofs)?;
        fs::remove_dir_all(&tree).with_context(|| format!("{}: removing it", tree.display()))?;
        Ok(written)
    }
}

/// Names in the workshop.
const IMAGE: &str = "image";
const LOG: &str = "log";

/// The program that writes such images, with what makes it the same everywhere.
pub(crate) fn tool(format: Format) -> Command {
    let mut command = Command::new(format.program().0);
    // Times are given by words.
    command.env_remove("SOURCE_DATE_EPOCH").env("LC_ALL", "C");
    // It takes and gives back a buffer for each block: kept, they are not cleared by the kernel each time (mallopt(3)).
    command.envs([("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "536870912")]);
    command.env("MALLOC_TOP_PAD_", "16777216");
    command
}

/// Starts the program with its output in a file: nobody reads it while it runs.
pub(crate) fn start(command: &mut Command, log: &Path, format: Format) -> Result<std::process::Child> {
    let (program, package) = format.program();
    let log = File::create(log).with_context(|| format!("{}: making it", log.display()))?;
    command.stdout(log.try_clone()?).stderr(log);
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow::anyhow!("{program} is not there; install {package}"),
        _ => anyhow::Error::from(error).context(format!("starting {program}")),
    })
}

/// Waits for it; an error has the last lines of what it said.
pub(crate) fn finished(mut child: std::process::Child, log: &Path, format: Format) -> Result<()> {
    let (program, _) = format.program();
    let status = child.wait().with_context(|| format!("waiting for {program}"))?;
    if status.success() {
        return Ok(());
    }
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ");
    let how = status.code().map_or_else(
        || format!("was ended by signal {}", status.signal().unwrap_or(0)),
        |code| format!("ended with {code}"),
    );
    bail!("{program} {how}: {last}")
}

/// Whether who was written to had ended.
pub(crate) fn is_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Of an erofs image: by its content, so that the same plan has the same.
fn uuid(plan: &Plan, written: &Written) -> String {
    let mut digest = Sha256::new();
    for (item, data) in plan.items.iter().zip(&written.digests) {
        digest.update(item.path.as_os_str().as_encoded_bytes());
        digest.update(format!("\n{:?} {:?}\n", item.node, item.link_to));
        digest.update(data.unwrap_or_default());
    }
    uuid::text(uuid::of_hash(&digest.finalize()))
}

impl Built<'_> {
    /// Where the image is.
    pub fn path(&self) -> PathBuf {
        self.workshop.place(IMAGE)
    }

    /// Reads the image anew and compares it with the plan.
    pub fn prove(self, progress: &Progress) -> Result<Proven> {
        let path = self.path();
        let Self { prepared, workshop, written } = self;
        let Prepared { plan, sources, order, outlook, .. } = prepared;
        let unnamed = || format!("{}: the image that was written for it is not good", order.target.display());
        let sealed = image::whole(&path).with_context(unnamed)?;
        ensure!(
            sealed.kind == order.format.word(),
            "{}: expected {}, found {}",
            order.target.display(),
            order.format.word(),
            sealed.kind
        );
        progress.step("comparing it");
        let file = image::from_disk(&path).with_context(unnamed)?;
        let namespace = sources.first().map(Source::namespace).unwrap_or_default();
        let mut images = vec![Source::open(&path, namespace).with_context(unnamed)?];
        // A mount for each thread, as far as there are loop devices.
        images.extend((1..rayon::current_num_threads()).map_while(|_| Source::open(&path, namespace).ok()));
        // Both read it all, and one waits for the disk while the other one computes.
        let (summed, differences) =
            rayon::join(|| image::sum_of(file, |_| ()), || compare(&plan, &written, &images, progress));
        let ((bytes, sum), differences) = (summed.with_context(unnamed)?, differences.with_context(unnamed)?);
        ensure!(
            differences.is_empty(),
            "{}: the image that {} wrote is not what it was given, and was thrown away: {}",
            order.target.display(),
            order.format.program().0,
            differences.join("; ")
        );
        Ok(Proven { workshop, sealed: Sealed { outlook, bytes, sha256: sum.to_string(), changed: written.changed } })
    }
}

impl Proven {
    /// Gives the image another name, which a state notes, and no checksum beside it: how long it is, and its checksum.
    pub fn place(self, to: &Path) -> Result<(u64, String)> {
        publish(&self.workshop.place(IMAGE), to)?;
        Ok((self.sealed.bytes, self.sealed.sha256))
    }

    /// Gives the image its name, and writes its checksum beside it. What has that name by now stays.
    pub fn publish(self) -> Result<Sealed> {
        let target = &self.sealed.outlook.path;
        publish(&self.workshop.place(IMAGE), target)?;
        let sum = self.workshop.place("sha256");
        let beside = image::checksum_file(target);
        let failed = || format!("{}: writing it", beside.display());
        let mut file = File::create(&sum).with_context(failed)?;
        file.write_all(image::checksum_text(target, &self.sealed.sha256).as_bytes()).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&sum, &beside).with_context(failed)?;
        sync_directory(target)?;
        Ok(self.sealed)
    }
}

/// Renames, never over what is there.
pub fn publish(from: &Path, target: &Path) -> Result<()> {
    let failed = || format!("{}: giving it this name", target.display());
    match renameat2(AT_FDCWD, from, AT_FDCWD, target, RenameFlags::RENAME_NOREPLACE) {
        // The file system knows no such rename (ZFS before 2.2): a second name is not written over either.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            fs::hard_link(from, target).and_then(|()| fs::remove_file(from)).with_context(failed)?;
        }
        other => other.with_context(failed)?,
    }
    sync_directory(target)
}

fn sync_directory(target: &Path) -> Result<()> {
    match File::open(directory(target)).and_then(|dir| dir.sync_all()) {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        other => other.with_context(|| format!("{}: syncing the directory", target.display())),
    }
}
