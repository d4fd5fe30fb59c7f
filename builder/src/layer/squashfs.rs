//! What differs between versions of mksquashfs. Debian 12 has 4.5.1, Debian 13 has 4.6.1.

use super::format::Format;
use super::merge::Plan;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Major and minor number.
pub type Version = (u32, u32);

/// The first that reads tar streams.
const STREAMS: Version = (4, 5);
/// The first that obeys `-root-uid`, `-root-gid` and `-root-time` when it reads one; before, the top directory belongs to root and has
/// the time of day.
const TOP: Version = (4, 6);

/// Bytes of a metadata block (`SQUASHFS_METADATA_SIZE`), behind a header of two.
const METADATA: u64 = 8192;

/// The installed version; an error if there is none that can be used.
pub fn version() -> Result<Version> {
    let (program, package) = Format::Squashfs.program();
    let output = Command::new(program).arg("-version").stdin(Stdio::null()).output();
    let output = match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!("{program} is not there; install {package}"),
        other => other.with_context(|| format!("starting {program}"))?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse(&text).with_context(|| {
        format!("{program} -version: expected a number, found {:?}", text.lines().next().unwrap_or_default())
    })?;
    ensure!(version >= STREAMS, "{program} {}.{}: expected {package} 4.5 or newer", version.0, version.1);
    Ok(version)
}

/// Of `mksquashfs version 4.6.1 (2023/03/25)`.
fn parse(text: &str) -> Option<Version> {
    let mut numbers = text.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the top directory's time is set by [`set_top_time`]: the table of inodes is not compressed then.
pub fn needs_top_time(version: Version) -> bool {
    version < TOP
}

/// Makes of the plan what this version can be told.
pub fn restrict(plan: &mut Plan, version: Version, notes: &mut Vec<String>) {
    let Some(top) = plan.items.first_mut().map(|item| &mut item.node) else { return };
    if version < TOP && (top.uid, top.gid) != (0, 0) {
        notes.push("the top directory will belong to root: mksquashfs before 4.6 cannot be told otherwise".to_owned());
        (top.uid, top.gid) = (0, 0);
    }
}

/// Sets the time of the top directory in an image whose inodes are not compressed. Layout: `fs/squashfs/squashfs_fs.h`.
pub fn set_top_time(image: &Path, seconds: u32) -> Result<()> {
    let failed = || format!("{}: setting the time of its top directory", image.display());
    let file = File::options().read(true).write(true).open(image).with_context(failed)?;
    let number = |at: u64| -> io::Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let (top, inodes, end) = (number(32)?, number(64)?, fs::metadata(image)?.len());
    // The time stands behind type, mode, owner and group.
    let (block, offset) = (top >> 16, (top & 0xffff) + 8);
    let start = inodes.checked_add(block).filter(|start| *start < end).with_context(failed)?;
    let mut first = [0; 2];
    file.read_exact_at(&mut first, start).with_context(failed)?;
    let length = u64::from(u16::from_le_bytes(first) & 0x7fff);
    ensure!(u16::from_le_bytes(first) & 0x8000 != 0 && length <= METADATA, "{}: its inodes are compressed", failed());
    for (at, byte) in (offset..).zip(seconds.to_le_bytes()) {
        // What does not fit into a block goes on behind the header of the next.
        let place = if at < METADATA { start + 2 + at } else { start + 2 + METADATA + 2 + (at - METADATA) };
        file.write_all_at(&[byte], place).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("mksquashfs version 4.5.1 (2022/03/17)\ncopyright"), Some((4, 5)));
        assert_eq!(parse("mksquashfs version 4.6-e4d0ac8"), Some((4, 6)));
        assert_eq!(parse("unknown"), None);
        assert!(needs_top_time((4, 5)) && !needs_top_time((4, 6)) && !needs_top_time((5, 0)));
    }
}
