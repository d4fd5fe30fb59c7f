//! `taproot grow`: makes use of a disk that has become larger. The partition table's copy moves to the disk's end, the pool's partition
//! grows if it is the last one, the kernel is told, and then the pool. It is a cheap look when there is nothing to do, so a unit has it
//! at each boot.

use super::block::Block;
use super::pool::{self, Leaf};
use super::table::{Disk, Table};
use crate::progress::megabytes;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use taproot_init::sys::{self, System};
use taproot_init::zfs::ioctl::Zfs;

/// While it is there, the unit looks at each boot; an image has it.
pub const MARKER: &str = "/etc/taproot/grow";
/// What is mounted.
pub(super) const MOUNTS: &str = "/proc/self/mountinfo";

/// What came of it, for people and as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// The pool.
    pub pool: String,
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// Its disks.
    pub disks: Vec<Row>,
}

/// A disk of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// As the pool has it.
    pub path: String,
    /// The disk and the number of its partition.
    pub disk: Option<String>,
    /// Bytes that the partition had.
    pub bytes: u64,
    /// Bytes that it has.
    pub now: u64,
    /// Whether the partition table was written.
    pub table: bool,
    /// Whether the pool was told to use all of it.
    pub expanded: bool,
    /// Why it was left alone.
    pub refused: Option<String>,
}

impl Report {
    /// Lines for people; nothing if there was nothing to do.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let would = if self.dry_run { " (not done: --dry-run)" } else { "" };
        for row in &self.disks {
            let place = row.disk.as_deref().unwrap_or(&row.path);
            if let Some(why) = &row.refused {
                let _ = writeln!(out, "taproot: pool {}: {place} is left as it is: {why}", self.pool);
                continue;
            }
            if row.now > row.bytes {
                let (before, now) = (megabytes(row.bytes), megabytes(row.now));
                let _ = writeln!(out, "taproot: pool {}: {place} grows from {before} to {now}{would}", self.pool);
            } else if row.table {
                let _ = writeln!(out, "taproot: {place}: the partition table's copy moves to the disk's end{would}");
            }
            if row.expanded {
                let _ = writeln!(out, "taproot: pool {}: uses all of {place}{would}", self.pool);
            }
        }
        out
    }

    /// Whether a disk was left alone.
    pub fn refused(&self) -> bool {
        self.disks.iter().any(|row| row.refused.is_some())
    }
}

/// The pool that was named, or the root's.
pub(crate) fn pool(named: Option<&str>) -> Result<String> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let mounts = fs::read_to_string(MOUNTS).with_context(|| format!("{MOUNTS}: reading"))?;
    pool::of_root(&mounts).context("the root lies in no pool; name the pool that is to grow: taproot grow POOL")
}

/// Looks at a pool's disks, and grows what can grow.
pub fn grow(system: &dyn System, named: Option<&str>, dry_run: bool) -> Result<Report> {
    let (pool, zfs) = (pool(named)?, Zfs::new(system));
    let config = zfs.pool_stats(&pool).with_context(|| format!("asking the kernel for the pool {pool}"))?;
    let leaves = pool::leaves(&config)?;
    if leaves.is_empty() {
        bail!("the pool {pool} has no disks");
    }
    let mut report = Report { format: 1, pool, dry_run, disks: Vec::new() };
    // One that is missing is looked at when it is back.
    for leaf in leaves.iter().filter(|leaf| leaf.present) {
        let mut row = Row { path: leaf.path.display().to_string(), ..Row::default() };
        let done = one(leaf, &mut row, dry_run).and_then(|()| {
            row.expanded = leaf.grows(row.now > row.bytes);
            if row.expanded && !dry_run {
                zfs.expand(&report.pool, leaf.guid)?;
            }
            Ok(())
        });
        row.refused = done.err().map(|error| format!("{error:#}"));
        report.disks.push(row);
    }
    Ok(report)
}

/// Partition table and partition of a disk.
fn one(leaf: &Leaf, row: &mut Row, dry_run: bool) -> Result<()> {
    if leaf.whole_disk {
        bail!("ZFS has made its partitions by itself, and enlarges them by itself (zpool online -e)");
    }
    let partition = pool::place(leaf)?;
    row.disk = Some(format!("{} partition {}", partition.disk, partition.number));
    (row.bytes, row.now) = (partition.span.size, partition.span.size);
    let disk = Block::open(&partition.disk, !dry_run)?;
    let table = Table::read(&disk)?;
    let grown = table.grown(&disk, partition.number, partition.span)?;
    let wanted = grown.as_ref().unwrap_or(&table).span(partition.number).unwrap_or(partition.span);
    if let Some(grown) = &grown {
        if !dry_run {
            grown.write(&disk).with_context(|| disk.name.clone())?;
        }
        row.table = true;
    }
    if wanted.size > partition.span.size {
        if !dry_run {
            let number = i32::try_from(partition.number).unwrap_or(0);
            sys::partition::resize(&disk.file, number, wanted.start, wanted.size).with_context(|| {
                format!("{}: the table is written, but the kernel does not take it before the next boot", disk.name)
            })?;
        }
        row.now = wanted.size;
    }
    debug_assert!(disk.size() >= wanted.start + wanted.size);
    Ok(())
}
