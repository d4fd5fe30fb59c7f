//! The formats of virtual disks. What they are made from is the raw disk; holes in it stay holes.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::task::{Context as Task, Poll, Waker};

use anyhow::{Context as _, Result, bail};
use imago::qcow2::{Qcow2, Qcow2CreateBuilder};
use imago::{DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder as _, FormatDriverBuilder as _, Storage as _};
use nix::unistd::{Whence, lseek};

use crate::image::Format;

/// Bytes that are copied at once: a whole number of qcow2's clusters.
const STEP: u64 = 1 << 20;

/// Writes the disk `raw` in another format; the file is synced.
pub fn convert(raw: &Path, format: Format, out: &Path) -> Result<()> {
    let failed = || format!("{}: writing", out.display());
    match format {
        Format::Qcow2 => ready(qcow2(raw, out)).with_context(failed)?,
        Format::Vdi => by_qemu(raw, "vdi", out)?,
        Format::Vmdk => by_qemu(raw, "vmdk", out)?,
        Format::Vhdx => by_qemu(raw, "vhdx", out)?,
        Format::Raw | Format::Device => bail!("{}: nothing to convert", out.display()),
    }
    File::open(out).and_then(|file| file.sync_all()).with_context(failed)
}

async fn qcow2(raw: &Path, out: &Path) -> io::Result<()> {
    let from = File::open(raw)?;
    let size = from.metadata()?.len();
    let file = imago::file::File::create_open(imago::StorageCreateOptions::new().filename(out).overwrite(true)).await?;
    let made = Qcow2CreateBuilder::<imago::file::File>::new(file).size(size);
    let image = made
        .create_open(DenyImplicitOpenGate::default(), |file| Ok(Qcow2::builder(file).write(true).backing(None)))
        .await?;
    let image = FormatAccess::new(image);
    let mut buffer = vec![0; usize::try_from(STEP).unwrap_or(0)];
    for (start, end) in data(&from, size)? {
        let mut at = start / STEP * STEP;
        while at < end {
            let here = STEP.min(size - at);
            let bytes = buffer.get_mut(..usize::try_from(here).unwrap_or(0)).unwrap_or_default();
            from.read_exact_at(bytes, at)?;
            // Blocks of the file system are smaller than clusters here.
            for (cluster, at) in bytes.chunks(65_536).zip((at..).step_by(65_536)) {
                if cluster.iter().any(|byte| *byte != 0) {
                    image.write(cluster, at).await?;
                }
            }
            at += here;
        }
    }
    image.flush().await?;
    image.sync().await
}

/// Where the file has data, in steps that do not overlap.
fn data(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        let start = match lseek(file, offset, Whence::SeekData) {
            // Nothing but a hole is left.
            Err(nix::Error::ENXIO) => break,
            start => start?,
        };
        let end = lseek(file, start, Whence::SeekHole)?;
        let (start, end) = (start.unsigned_abs(), end.unsigned_abs());
        at = end.next_multiple_of(STEP);
        parts.push((start, end));
    }
    Ok(parts)
}

/// Runs what never waits: files are read and written at once.
fn ready<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut task = Task::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut task) {
            return done;
        }
    }
}

fn by_qemu(raw: &Path, format: &str, out: &Path) -> Result<()> {
    let output = Command::new("qemu-img").args(["convert", "-f", "raw", "-O", format]).arg(raw).arg(out).output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("qemu-img is not there, and writes {format}: install qemu-utils (qemu-img), or choose raw or qcow2")
        }
        output => output.context("starting qemu-img")?,
    };
    if !output.status.success() {
        bail!("qemu-img convert: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_data_is_found_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"x", 5).unwrap();
        file.write_all_at(b"y", (3 << 20) - 1).unwrap();
        let parts = data(&file, 10 << 20).unwrap();
        assert!(parts.iter().any(|(start, end)| *start <= 5 && *end > 5));
        assert!(parts.iter().any(|(start, end)| *start < 3 << 20 && *end >= 3 << 20));
        assert!(parts.windows(2).all(|two| two[0].1.next_multiple_of(STEP) <= two[1].0), "{parts:?}");
        assert_eq!(data(&tempfile::tempfile().unwrap(), 0).unwrap(), []);
    }
}
