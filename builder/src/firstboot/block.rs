//! Disks and partitions of the running system that are in use. They are opened by a node of their own: udev watches its own nodes, and
//! would announce the device anew as soon as one that was written to is closed - and systemd takes a mount away whose device goes
//! by another name from then on.

use super::table::{Disk, Span};
use anyhow::{Context, Result, bail};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_EXCL;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What the kernel says of its block devices.
const CLASS: &str = "/sys/class/block";
/// Its unit of sizes, whatever a sector has.
const UNIT: u64 = 512;

/// An open device.
#[derive(Debug)]
pub struct Block {
    /// The kernel's name.
    pub name: String,
    /// The device.
    pub file: File,
    size: u64,
    sector: u64,
}

impl Block {
    /// Opens a device by the kernel's name.
    pub fn open(name: &str, write: bool) -> Result<Self> {
        let dir = Path::new(CLASS).join(name);
        let size = number(&dir.join("size"))?.saturating_mul(UNIT);
        // A partition's sectors are those of its disk.
        let queue = [dir.join("queue"), dir.join("../queue")].into_iter().find(|queue| queue.exists());
        let sector = number(&queue.context("no queue").with_context(|| name.to_owned())?.join("logical_block_size"))?;
        let file =
            open(name, File::options().read(true).write(write))?.with_context(|| format!("{name}: opening it"))?;
        Ok(Self { name: name.to_owned(), file, size, sector })
    }

    /// Has the kernel read it anew: what was written by way of its disk is not in its own cache.
    fn forget(&self) -> Result<()> {
        posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .with_context(|| format!("{}: having it read anew", self.name))
    }
}

/// Opens a device by a node that nobody else knows.
fn open(name: &str, options: &OpenOptions) -> Result<io::Result<File>> {
    let number = Path::new(CLASS).join(name).join("dev");
    let text = fs::read_to_string(number).with_context(|| format!("{name}: asking for its number"))?;
    let device = text.trim().split_once(':').and_then(|(a, b)| Some(makedev(a.parse().ok()?, b.parse().ok()?)));
    let device = device.with_context(|| format!("{name}: its number is {text:?}"))?;
    let node = PathBuf::from(format!("/dev/.taproot-{}-{}", std::process::id(), text.trim().replace(':', "-")));
    mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device)
        .with_context(|| format!("{}: making it", node.display()))?;
    let file = options.open(&node);
    fs::remove_file(&node).with_context(|| format!("{}: removing", node.display()))?;
    Ok(file)
}

/// Whether a pool, a mount or the like has a device for itself.
pub fn is_held(name: &str) -> Result<bool> {
    match open(name, File::options().read(true).custom_flags(O_EXCL))? {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(true),
        file => file.map(|_| false).with_context(|| format!("{name}: opening it")),
    }
}

/// A partition that is reached by way of its disk: the kernel lets nobody write to one that is swapped to.
#[derive(Debug)]
pub struct Within<'a> {
    /// The disk.
    pub disk: &'a Block,
    /// The partition.
    pub partition: &'a Block,
    /// Where it lies.
    pub span: Span,
}

impl Disk for Within<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(self.span.start + offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(self.span.start + offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()?;
        self.partition.forget().map_err(io::Error::other)
    }

    fn size(&self) -> u64 {
        self.span.size
    }

    fn sector(&self) -> u64 {
        self.disk.sector
    }
}

impl Disk for Block {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u64 {
        self.sector
    }
}

/// A partition as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name.
    pub name: String,
    /// That of its disk.
    pub disk: String,
    /// Its number, from 1.
    pub number: u32,
    /// Where it lies.
    pub span: Span,
}

/// The partition that a path leads to.
pub fn partition(path: &Path) -> Result<Partition> {
    let node = path.canonicalize().with_context(|| format!("{}: looking for it", path.display()))?;
    let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
    of_name(&name)?.with_context(|| {
        format!(
            "{} is no partition of a disk (but {name}); expected one, which can be enlarged with its table",
            path.display()
        )
    })
}

fn of_name(name: &str) -> Result<Option<Partition>> {
    let link = Path::new(CLASS).join(name);
    let dir = link.canonicalize().with_context(|| format!("{name}: the kernel has no such block device"))?;
    if !dir.join("partition").exists() {
        return Ok(None);
    }
    let disk = dir.parent().and_then(Path::file_name).context("a partition without a disk")?;
    let span = Span {
        start: number(&dir.join("start"))?.saturating_mul(UNIT),
        size: number(&dir.join("size"))?.saturating_mul(UNIT),
    };
    let count = u32::try_from(number(&dir.join("partition"))?).unwrap_or(0);
    Ok(Some(Partition { name: name.to_owned(), disk: disk.to_string_lossy().into_owned(), number: count, span }))
}

/// The partition with this device number (`254:1`), if it is one.
pub fn by_number(number: &str) -> Result<Option<Partition>> {
    let Ok(dir) = Path::new("/sys/dev/block").join(number).canonicalize() else { return Ok(None) };
    of_name(&dir.file_name().unwrap_or_default().to_string_lossy())
}

/// All partitions that the kernel has.
pub fn partitions() -> Result<Vec<Partition>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(CLASS).with_context(|| format!("{CLASS}: listing"))?.flatten() {
        all.extend(of_name(&entry.file_name().to_string_lossy())?);
    }
    Ok(all)
}

/// The partition of this number on a disk.
pub fn numbered(disk: &str, wanted: u32) -> Result<Partition> {
    let dir = Path::new(CLASS).join(disk);
    for entry in fs::read_dir(&dir).with_context(|| format!("{disk}: listing its partitions"))?.flatten() {
        if entry.path().join("partition").exists()
            && let Some(found) = of_name(&entry.file_name().to_string_lossy())?
            && found.number == wanted
        {
            return Ok(found);
        }
    }
    bail!("{disk}: the kernel has no partition {wanted}, which the table has: restart the machine first")
}

fn number(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: reading", path.display()))?;
    text.trim().parse().with_context(|| format!("{}: expected a number, found {text:?}", path.display()))
}
