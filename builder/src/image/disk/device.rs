//! A block device of this machine as the place for an image: only one that nobody uses, and a person is told what is on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use taproot_init::devices::probe::{PartitionTable, superblock};

use crate::output::printable;
use crate::progress::megabytes;

/// A device that is ours while it is open.
#[derive(Debug)]
pub struct Device {
    /// Opened so that nobody else can mount or import it.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u64,
    /// What it is and what is on it, for a person.
    pub description: String,
}

impl Device {
    /// Opens a device that nobody uses.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let meta = fs::metadata(path).with_context(|| format!("{shown}: looking at it"))?;
        ensure!(meta.file_type().is_block_device(), "{shown}: expected a block device; a file is written by --raw");
        let mut file = match OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_EXCL).open(path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => bail!(
                "{shown}: it is in use: mounted, swap, or part of a pool, an array or a mapping (lsblk {shown} shows \
                 of what); give it free, or choose another"
            ),
            file => file.with_context(|| format!("{shown}: opening"))?,
        };
        let size = file.seek(SeekFrom::End(0)).with_context(|| format!("{shown}: asking for its size"))?;
        let dev = meta.rdev();
        let sys = format!("/sys/dev/block/{}:{}", nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
        let sys = fs::canonicalize(&sys).with_context(|| format!("{sys}: expected this device"))?;
        ensure!(
            !sys.join("partition").exists(),
            "{shown}: it is a partition, and an image has a table of its own: name the whole disk"
        );
        let value = |name: &str| {
            let text = fs::read_to_string(sys.join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        let sector = value("queue/logical_block_size").parse().unwrap_or(512);
        let description = describe(path, &file, size, sector, &value);
        Ok(Device { file, size, sector, description })
    }
}

fn describe(path: &Path, file: &File, size: u64, sector: u64, value: &dyn Fn(&str) -> String) -> String {
    let mut words = vec![format!("{}: {}", path.display(), megabytes(size))];
    words
        .extend([value("device/model"), value("device/serial"), value("serial")].into_iter().filter(|w| !w.is_empty()));
    words.push(format!("sectors of {sector} bytes"));
    let found = superblock(&mut |at, buffer| file.read_exact_at(buffer, at), size);
    let table = PartitionTable::read(&mut |at, buffer| file.read_exact_at(buffer, at), sector);
    words.push(match (table, found) {
        (Ok(Some(PartitionTable::Gpt(entries))), _) => {
            let names: Vec<&str> = entries.values().map(|(_, name)| name.as_str()).collect();
            format!("{} partitions on it ({})", names.len(), names.join(", "))
        }
        (_, Ok(Some(found))) => format!("{} on it {}", found.kind, found.label.unwrap_or_default()).trim().to_owned(),
        (Ok(Some(PartitionTable::Mbr(_))), _) => "a partition table on it".to_owned(),
        _ => "nothing that is known on it".to_owned(),
    });
    words.join(", ")
}

/// Asks whether all that is on these devices may go.
pub fn ask<'a>(devices: impl Iterator<Item = &'a Device>) -> Result<()> {
    for device in devices {
        // The names on it are others'.
        eprintln!("{}", printable(&device.description));
    }
    ensure!(
        io::stdin().is_terminal(),
        "all that is there would be gone: say --yes if that is meant, there is no terminal to ask at"
    );
    eprint!("All that is there will be gone. Type yes to go on: ");
    io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    ensure!(answer.trim() == "yes", "nothing was written");
    Ok(())
}
