//! From a plan and a stream of entries to a medium: in which order things are made, and what stays of a run that fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::squash::{self, Order};
use super::{Plan, ext4, iso, medium, parts, prove, stick};
use crate::image::disk::fat::TOO_LARGE;
use crate::image::edit::Report;
use crate::image::extract::Keeping;
use crate::image::members::{check_names, file_to_write};
use crate::image::work::Work;
use crate::output::Cleanup;
use crate::progress::Progress;
use crate::tar::Entries;

/// What was made, for people and for `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// Files that were written.
    pub outputs: Vec<PathBuf>,
    /// Bytes of the disk.
    pub size: Option<u64>,
    /// Bytes of the ISO.
    pub iso: Option<u64>,
    /// Files and directories.
    pub entries: usize,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of the tree's image.
    pub squashfs: u64,
    /// Its SHA-256 sum.
    pub sha256: String,
    /// What tells the medium from others; also the name of the file by which it is found.
    pub id: String,
    /// Release of the kernel that boots.
    pub kernel: String,
    /// Version of its zfs module, where it has one.
    pub zfs: Option<String>,
    /// The kernel command line.
    pub cmdline: String,
    /// Files of the medium.
    pub files: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What of the tree was changed.
    pub changes: Option<Report>,
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
}

/// A plan whose outputs can be written.
#[derive(Debug)]
pub struct Job<'a> {
    plan: &'a Plan,
    work: Work,
}

/// The tree's image, which was proven.
#[derive(Debug)]
pub struct Squashed {
    path: PathBuf,
    entries: usize,
    bytes: u64,
    notes: Vec<String>,
    seconds: f64,
}

impl<'a> Job<'a> {
    /// Looks at what is to be written.
    pub fn open(plan: &'a Plan, cleanup: &Cleanup) -> Result<Self> {
        let outputs: Vec<&Path> = [&plan.raw, &plan.iso].into_iter().flatten().map(PathBuf::as_path).collect();
        let output = outputs.first().copied().or(plan.parts.as_deref());
        let output = output.context("nothing to write: say --raw FILE, --iso FILE or --squash DIR")?;
        plan.parts.as_deref().map(parts::check).transpose()?;
        check_names(&outputs.iter().map(|output| file_to_write(output, "")).collect::<Result<Vec<_>>>()?)?;
        if let Some(keep) = plan.keep {
            ensure!(
                plan.iso.is_none() && plan.parts.is_none(),
                "only a stick keeps what is written: leave --persistence away, or write that alone (--raw)"
            );
            keep.partition()?;
        }
        if plan.iso.is_some() {
            iso::ready()?;
        }
        if let Some(sealing) = &plan.sealing {
            sealing.ready()?;
        }
        Ok(Self { plan, work: Work::beside(output, cleanup)? })
    }

    /// Writes the tree's image and reads it again, and keeps what the boot needs.
    pub fn squash(&self, input: &mut dyn Entries, progress: &Progress) -> Result<Squashed> {
        let clock = Instant::now();
        let (tree, path) = (self.work.file("tree"), self.work.file("filesystem.squashfs"));
        progress.step("writing the tree's image");
        let order = Order { compression: &self.plan.compression, jobs: self.plan.jobs, time: self.plan.time };
        let mut keeping = Keeping::new(input, &tree).context("making an archive of what the boot needs")?;
        let expected = squash::write(&mut keeping, &order, &path, &self.work.file("log"))?;
        if self.plan.raw.is_some() && fs::metadata(&path).context("the image's size")?.len() >= TOO_LARGE {
            ext4::ready().context("--raw: the tree's image is too large for a FAT")?;
        }
        progress.step("reading it again");
        prove::prove(&path, &expected)?;
        let entries = expected.nodes.len() + expected.links.len();
        Ok(Squashed { path, entries, bytes: expected.bytes, notes: expected.notes, seconds: rounded(clock) })
    }

    /// Writes the medium. Files get their names when all is whole.
    pub fn complete(self, squashed: Squashed, progress: &Progress) -> Result<Summary> {
        let mut seconds = BTreeMap::from([("squashfs", squashed.seconds)]);
        let mut clock = Instant::now();
        let mut lap = |name: &'static str| {
            seconds.insert(name, rounded(clock));
            clock = Instant::now();
        };
        let made = medium::make(self.plan, &self.work.file("tree"), &squashed.path, progress)?;
        ensure!(
            made.image.zfs.is_some() || !matches!(self.plan.keep, Some(super::Keep::Zvol(_))),
            "--persistence-zvol: kernel {} of the tree has no zfs module: install one there (zfs-dkms), or choose --persistence",
            made.image.kernel
        );
        lap("boot");
        let Plan { raw, iso, .. } = self.plan;
        let size = raw.as_ref().map(|_| stick::write(self.plan, &made, &self.work, progress)).transpose()?;
        lap("disk");
        let iso_size = iso.as_ref().map(|_| iso::write(self.plan, &made, &self.work, progress)).transpose()?;
        lap("iso");
        let mut outputs = Vec::new();
        for (name, output) in [(stick::DISK, raw), (iso::NAME, iso)] {
            if let Some(output) = output {
                self.work.place(name, output)?;
                outputs.push(output.clone());
            }
        }
        if let Some(parts) = &self.plan.parts {
            progress.step("writing the directory");
            parts::write(&made, parts)?;
            outputs.push(parts.clone());
        }
        let mut notes = squashed.notes;
        notes.extend(made.image.notes.iter().cloned());
        Ok(Summary {
            format: 1,
            outputs,
            size,
            iso: iso_size,
            entries: squashed.entries,
            bytes: squashed.bytes,
            squashfs: made.bytes,
            sha256: made.sum,
            id: made.id,
            kernel: made.image.kernel,
            zfs: made.image.zfs,
            cmdline: made.entry.options,
            files: made.files.into_keys().chain(made.copies.into_keys()).collect(),
            notes,
            changes: None,
            seconds,
        })
    }
}

fn rounded(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e3).round() / 1e3
}
