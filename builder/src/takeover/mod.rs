//! `taproot takeover`: a running system, of which there is no other way in, is replaced by the image of another.
//!
//! Everything that can go wrong goes wrong before anything is written:
//!
//! 1. In the old system: the machine, the disk and the image are looked at (`facts`, `disk`, `image`), and a system in memory is packed with
//!    the image in it (`pack`), loaded (`kexec`) and started (`leave`).
//! 2. The system in memory (`ram`) finds the disk again and reads the image through. It says a nonce that was said before, and waits to
//!    be told the same. If it is not, or cannot go on, or panics, the machine restarts, and nothing was written.
//! 3. Only then the disk is written (`write`): read back, and its partition table last.

mod bzimage;
mod disk;
mod facts;
mod image;
mod kexec;
mod leave;
mod orders;
mod pack;
mod ram;
mod write;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use taproot_init::hex::hex;
use taproot_init::sys::linux::Linux;

use crate::initramfs::archive::Archive;
use crate::progress::{Progress, megabytes};
use disk::Identity;
use facts::Facts;
use orders::Orders;

pub use kexec::Method;

/// PID 1 of the system in memory.
pub fn in_memory() -> ! {
    ram::run()
}

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// The image, raw or compressed by zstd.
    pub image: PathBuf,
    /// Its SHA-256, if it is given.
    pub sum: Option<String>,
    /// The disk, by a path or its serial number.
    pub disk: String,
    /// After so long without a confirmation the machine restarts.
    pub minutes: u64,
    /// Kernel of the system in memory, instead of the running one's file.
    pub kernel: Option<PathBuf>,
    /// Words for it.
    pub words: String,
    /// How it is loaded.
    pub method: Method,
}

/// A takeover that nothing stands against, as far as the old system can tell.
#[derive(Debug)]
pub struct Prepared {
    initramfs: File,
    kernel: PathBuf,
    words: String,
    /// What will happen, for a person.
    pub told: String,
}

fn refuse(against: &[String]) -> Result<()> {
    ensure!(against.is_empty(), "this cannot be taken over:\n  {}", against.join("\n  "));
    Ok(())
}

/// Looks at everything, and packs the system in memory. Nothing is changed but a file without a name in /var/tmp.
pub fn prepare(request: &Request, progress: &Progress) -> Result<Prepared> {
    let facts = Facts::gather(Path::new("/"));
    let facts = Facts { kernel: request.kernel.clone().or(facts.kernel.clone()), ..facts };
    refuse(&facts.against())?;
    let disks = disk::all(Path::new("/sys"), Path::new("/dev"));
    let (name, identity) = named(&request.disk, &disks)?;
    disk::find(identity, &disks).map_err(anyhow::Error::msg)?;
    let sum = image::wanted_sum(&request.image, request.sum.as_deref())?;
    progress.step(&format!("reading {}", request.image.display()));
    let place = Path::new("/var/tmp");
    let mut initramfs = tempfile::tempfile_in(place).with_context(|| format!("a file in {}", place.display()))?;
    let (measure, shape) = pack::image(&mut initramfs, &request.image, &sum)?;
    progress.step("packing the system in memory");
    let mut archive = Archive::default();
    let modules = pack::drivers(&mut archive, &facts.release)?;
    let nonce = nonce()?;
    let orders = Orders { nonce, minutes: request.minutes, disk: identity.clone(), image: measure.clone(), modules };
    let program = fs::read("/proc/self/exe").context("reading this program")?;
    pack::system(&mut initramfs, archive, program, &orders)?;
    // The one that can write is closed when this function ends, before anything is loaded.
    let initramfs = for_reading(&initramfs)?;
    let packed = initramfs.metadata().context("the packed file")?.len();
    let mut against = facts::unfit(&facts, identity, &measure, &shape, packed);
    if packed > pack::LIMIT {
        against.push(format!("the system in memory has {}, more than the 2 GiB that kernels take", megabytes(packed)));
    }
    refuse(&against)?;
    let words = kexec::words(&fs::read_to_string("/proc/cmdline").unwrap_or_default(), &request.words);
    let told = told(&facts, name, &orders, packed, &words);
    let kernel = facts.kernel.context("no kernel")?;
    Ok(Prepared { initramfs, kernel, words, told })
}

/// The same file to be read: kexec takes none that somebody can write to (`ETXTBSY`).
fn for_reading(file: &File) -> Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(&path).with_context(|| format!("opening {path} to read it"))
}

/// The disk that is meant.
fn named<'a>(wanted: &str, disks: &'a [(String, Identity)]) -> Result<(&'a str, &'a Identity)> {
    let list = || {
        let lines: Vec<String> = disks.iter().map(|(name, disk)| format!("\n  /dev/{name}: {disk}")).collect();
        lines.concat()
    };
    let by_path = Path::new(wanted).is_absolute();
    let name = if by_path {
        let path =
            fs::canonicalize(wanted).with_context(|| format!("{wanted}: expected a disk; there are{}", list()))?;
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    } else {
        wanted.to_owned()
    };
    let is_it = |disk: &&(String, Identity)| {
        if by_path { disk.0 == name } else { disk.1.serial.as_deref() == Some(wanted) }
    };
    let found: Vec<&(String, Identity)> = disks.iter().filter(is_it).collect();
    match found.as_slice() {
        [(name, identity)] => Ok((name, identity)),
        [] => bail!("expected a whole disk, by its path or serial number, found {wanted}; there are{}", list()),
        _ => bail!("several disks have the serial number {wanted}; name one by its path:{}", list()),
    }
}

/// Told before, and shown by the system in memory alone.
fn nonce() -> Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(hex(&bytes))
}

/// Mounts of a disk and its partitions, by `/proc/mounts`.
fn mounted(name: &str, mounts: &str) -> Vec<String> {
    let device = format!("/dev/{name}");
    // Behind a name that ends in a digit partitions have a p before their number.
    let digits = name.ends_with(|c: char| c.is_ascii_digit());
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |rest: &str| {
        rest.is_empty() || if digits { rest.strip_prefix('p').is_some_and(is_number) } else { is_number(rest) }
    };
    let of_disk =
        |line: &&str| line.split(' ').next().and_then(|source| source.strip_prefix(&device)).is_some_and(is_part);
    let shown = |line: &str| {
        let mut fields = line.split(' ');
        Some(format!("{} on {}", fields.next()?, fields.next()?))
    };
    mounts.lines().filter(of_disk).filter_map(shown).collect()
}

fn told(facts: &Facts, name: &str, orders: &Orders, packed: u64, words: &str) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key:<11}{value}");
    };
    line("disk", &format!("/dev/{name}: {}", orders.disk));
    let mounts = mounted(name, &fs::read_to_string("/proc/mounts").unwrap_or_default());
    line(
        "lost",
        &if mounts.is_empty() {
            "everything on it".to_owned()
        } else {
            format!("everything on it: {}", mounts.join(", "))
        },
    );
    line("image", &format!("{} bytes, as its sum says", orders.image.bytes));
    line("memory", &format!("{} packed, of {}", megabytes(packed), megabytes(facts.memory.0)));
    line("firmware", if facts.uefi { "UEFI" } else { "BIOS" });
    line("kernel", &format!("{} with: {words}", facts.kernel.as_deref().unwrap_or(Path::new("?")).display()));
    if let Some(lockdown) = &facts.lockdown {
        line("lockdown", &format!("{lockdown}: the kernel takes a signed kernel only"));
    }
    line("console", &format!("{}: the takeover is confirmed there", facts.consoles.join(", ")));
    line("rehearsal", &format!("{}; the system in memory shows this number, the old one does not", orders.nonce));
    line(
        "return",
        &format!("into the old system after {} min, unless confirm {} is typed", orders.minutes, orders.nonce),
    );
    text
}

impl Prepared {
    /// Loads the system in memory; by which call.
    pub fn load(&self, method: Method) -> Result<String> {
        kexec::load(method, &self.kernel, &self.initramfs, &self.words)
    }

    /// Leaves the old system.
    pub fn leave(&self) -> Result<()> {
        leave::leave(&Linux::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_its_path_or_serial_number() {
        let disk = |serial: &str| Identity { serial: Some(serial.into()), bytes: 1 << 20, ..Identity::default() };
        let disks = [("null".to_owned(), disk("A")), ("vdb".to_owned(), disk("B")), ("vdc".to_owned(), disk("B"))];
        assert_eq!(named("A", &disks).unwrap().0, "null");
        assert_eq!(named("/dev/null", &disks).unwrap().0, "null");
        for (wanted, why) in [
            ("B", "name one by its path:\n  /dev/null: 1048576 bytes, serial A"),
            ("C", "expected a whole disk, by its path or serial number, found C"),
            ("/dev/zero", "found /dev/zero; there are\n  /dev/null"),
            ("/nowhere", "/nowhere: expected a disk"),
        ] {
            let error = format!("{:#}", named(wanted, &disks).unwrap_err());
            assert!(error.contains(why), "{wanted}: {error}");
        }
    }

    #[test]
    fn what_is_packed_has_no_writer_left() {
        use std::io::{Seek as _, Write as _};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"packed").unwrap();
        let mut file = for_reading(&file).unwrap();
        assert!(file.write_all(b"more").is_err());
        file.rewind().unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), "packed");
    }

    #[test]
    fn mounts_of_the_disk_and_no_other() {
        let mounts =
            "/dev/sda1 / ext4 rw 0 0\n/dev/sdaa1 /x ext4 rw 0 0\n/dev/sda /y ext4 rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(mounted("sda", mounts), ["/dev/sda1 on /", "/dev/sda on /y"]);
        assert_eq!(mounted("nvme0n1", "/dev/nvme0n1p2 / xfs rw 0 0\n/dev/nvme0n10 /x xfs\n"), ["/dev/nvme0n1p2 on /"]);
    }
}
