//! A plan written as a directory: a layer unpacked, or the root that a stack of them shows.

use super::merge::{Item, Plan};
use super::node::{Kind, shown};
use super::tree::Source;
use crate::progress::Progress;
use anyhow::{Context as _, Result};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use taproot_init::sys::xattrs;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Checksum of each file's data, as the plan's items are numbered; none of anything else and of further names.
    pub digests: Vec<Option<[u8; 32]>>,
    /// Files that were no longer as planned when they were read.
    pub changed: Vec<PathBuf>,
}

/// How attributes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// For an overlay: with its marks.
    Layer,
    /// As an overlay shows it.
    Root,
}

/// Writes into `target`, an empty directory that nobody else writes to.
pub fn copy(plan: &Plan, sources: &[Source], target: &Path, what: As, progress: &Progress) -> Result<Written> {
    let (total, mut done) = (plan.totals().bytes, 0);
    let mut written = Written::default();
    for item in &plan.items {
        let path = target.join(&item.path);
        let digest = create(plan, sources, item, target, &path, &mut written)
            .with_context(|| format!("{}: writing it", path.display()))?;
        done += digest.map_or(0, |_| item.node.size());
        progress.part("copying", done, total);
        written.digests.push(digest);
        // A directory's time changes with what comes into it, and its list of rights would be handed down.
        if !item.node.is_dir() && item.link_to.is_none() {
            attributes(sources, item, &path, what)?;
        }
    }
    for item in plan.items.iter().rev().filter(|item| item.node.is_dir()) {
        attributes(sources, item, &target.join(&item.path), what)?;
    }
    Ok(written)
}

fn create(
    plan: &Plan,
    sources: &[Source],
    item: &Item,
    target: &Path,
    path: &Path,
    written: &mut Written,
) -> Result<Option<[u8; 32]>> {
    if let Some(first) = item.link_to.and_then(|first| plan.items.get(first)) {
        fs::hard_link(target.join(&first.path), path)?;
        return Ok(None);
    }
    let node = |kind, number| mknod(path, kind, Mode::S_IRUSR, number);
    match &item.node.kind {
        Kind::Directory if item.path.as_os_str().is_empty() => {}
        Kind::Directory => DirBuilder::new().mode(0o700).create(path)?,
        Kind::Link(to) => symlink(to, path)?,
        Kind::Character(number) => node(SFlag::S_IFCHR, *number)?,
        Kind::Block(number) => node(SFlag::S_IFBLK, *number)?,
        Kind::Pipe => node(SFlag::S_IFIFO, 0)?,
        Kind::Socket => node(SFlag::S_IFSOCK, 0)?,
        Kind::Whiteout => node(SFlag::S_IFCHR, 0)?,
        Kind::File(size) => {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            let source = sources.get(item.source).context("a layer that is not there")?;
            let (digest, changed) = source.pour(&item.path, *size, |bytes| {
                // Holes stay holes.
                if bytes.iter().all(|byte| *byte == 0) {
                    return file.seek(SeekFrom::Current(i64::try_from(bytes.len()).unwrap_or(0))).map(drop);
                }
                file.write_all(bytes)
            })?;
            file.set_len(*size)?;
            if changed {
                written.changed.push(item.path.clone());
            }
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

/// Owner first: it takes away set-user-ID bits and capabilities.
fn attributes(sources: &[Source], item: &Item, path: &Path, what: As) -> Result<()> {
    let failed = || format!("{}: setting its attributes", path.display());
    let node = &item.node;
    let namespace = sources.get(item.source).map(Source::namespace).unwrap_or_default();
    lchown(path, Some(node.uid), Some(node.gid)).with_context(failed)?;
    let is_link = matches!(node.kind, Kind::Link(_));
    if !is_link {
        fs::set_permissions(path, Permissions::from_mode(node.mode)).with_context(failed)?;
    }
    let open = File::options().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_NOFOLLOW).open(path);
    let open = open.with_context(failed)?;
    let all = if what == As::Root { shown(&node.xattrs, namespace) } else { node.xattrs.clone() };
    for (name, value) in &all {
        xattrs::set(&open, name, value).with_context(|| {
            format!(
                "{}: setting its attribute {}; expected a file system that has such (ext4, xfs, btrfs, tmpfs)",
                path.display(),
                String::from_utf8_lossy(name)
            )
        })?;
    }
    if node.marks.opaque && what == As::Layer {
        xattrs::set(&open, &namespace.opaque(), b"y").with_context(failed)?;
    }
    let time = TimeSpec::new(node.mtime.seconds, i64::from(node.mtime.nanoseconds));
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).with_context(failed)
}
