//! What keeps what is written in a live system: an ext4 with a `persistence.conf` that keeps the whole root, in a partition or in a zvol of
//! a pool of its own.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::ext4::Ext4;
use crate::image::disk::layout::{Layout, Partition, Role};
use crate::image::work::Work;
use crate::pool::{self, Dataset, Volume};
use crate::tar::Archive;
use crate::tar::write::END;
use crate::uuid;

/// The least that an ext4 with an overlay's directories is made for.
const LEAST: u64 = 32 << 20;
/// The zvol's name in its pool.
const ZVOL: &str = "live";
/// Bytes of a zvol's block: OpenZFS' own since 2.2.
const BLOCK: usize = 16 << 10;
/// What a pool needs beside a zvol that is full: what it never gives out, labels, metadata.
const POOL: u64 = 192 << 20;
/// What is kept: everything.
const CONF: &str = "/ union\n";

/// Where what is written stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// A partition of so many bytes.
    Partition(u64),
    /// A zvol of so many bytes, in a pool that it has to itself.
    Zvol(u64),
}

impl Keep {
    /// The partition for it.
    pub(super) fn partition(self) -> Result<(Role, u64)> {
        let (Keep::Partition(size) | Keep::Zvol(size)) = self;
        ensure!(size >= LEAST, "--persistence: at least 32M expected, {size} bytes found");
        Ok(match self {
            Keep::Partition(size) => (Role::Keep, size),
            Keep::Zvol(size) => (Role::Pool, size + size / 16 + POOL),
        })
    }

    /// The words that make a boot use it.
    pub(super) fn words(self, id: &str) -> String {
        match self {
            Keep::Partition(_) => format!("persistence persistence-label={}", label(id)),
            Keep::Zvol(_) => format!("persistence-zfs={}/{ZVOL}", label(id)),
        }
    }

    /// Makes it in its partition.
    pub(super) fn write(self, file: &File, layout: &Layout, place: Partition, id: &str, work: &Work) -> Result<()> {
        match self {
            Keep::Partition(_) => {
                let made = ext4(place.size, layout, id, work)?;
                copy(&made, file, place.start).context("writing the partition for persistence")?;
                fs::remove_file(&made).context("removing what was copied")
            }
            Keep::Zvol(size) => {
                let size = size.next_multiple_of(BLOCK as u64);
                let made = ext4(size, layout, id, work)?;
                let volume = Volume { size, block_size: BLOCK, content: Some(made.clone()) };
                let none = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                let top = vec![none("mountpoint", "none"), none("canmount", "off")];
                let options = pool::Options {
                    name: label(id),
                    size: place.size,
                    offset: place.start,
                    grow_to: place.size,
                    seed: id.to_owned(),
                    datasets: vec![
                        Dataset { tree: Some("/".to_owned()), properties: top, ..Dataset::default() },
                        Dataset { name: ZVOL.to_owned(), volume: Some(volume), ..Dataset::default() },
                    ],
                    ..pool::Options::default()
                };
                pool::write(file, &options, &mut Archive::new(&END[..])).context("writing the pool for persistence")?;
                fs::remove_file(&made).context("removing what was copied")
            }
        }
    }
}

/// The label of the file system and the name of the pool: what no other medium has.
fn label(id: &str) -> String {
    format!("live-{}", id.get(..8).unwrap_or(id))
}

/// Makes the file system in a file with holes.
fn ext4(size: u64, layout: &Layout, id: &str, work: &Work) -> Result<std::path::PathBuf> {
    let (path, tree) = (work.file("persistence"), work.file("persistence.tree"));
    DirBuilder::new().mode(0o755).create(&tree).context("a directory for the file system")?;
    fs::write(tree.join("persistence.conf"), CONF).context("what is kept")?;
    File::create_new(&path).and_then(|file| file.set_len(size)).context("a file for the file system")?;
    let uuid = uuid::text(layout.uuid("persistence"));
    let (label, paths) = (label(id), &["persistence.conf"]);
    Ext4 { image: &path, start: 0, size, tree: &tree, paths, uuid: &uuid, label: &label }.make(&[])?;
    fs::remove_dir_all(&tree).context("removing what was packed")?;
    Ok(path)
}

/// Copies what a file has; holes stay holes.
pub(super) fn copy(from: &Path, to: &File, start: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let from = File::open(from)?;
    let size = from.metadata()?.len();
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while at < size {
        let here = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..here).unwrap_or_default();
        from.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, start + at)?;
        }
        at += here as u64;
    }
    Ok(())
}
