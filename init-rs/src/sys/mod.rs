//! The one seam to the world: everything that a boot does outside its own memory goes through the trait [`System`]. Linux is
//! behind it here; the simulation puts a machine of its own there. The only room with `unsafe`.

pub mod allocator;
pub mod beneath;
pub mod consoles;
mod delegate;
pub mod detached;
pub mod device;
pub mod entry;
#[cfg(test)]
pub(crate) mod fake;
mod files;
pub mod keeping;
pub mod kexec;
pub mod keymap;
pub mod kmod;
mod layering;
pub mod linux;
mod loops;
mod mapper;
mod mount_api;
mod mounting;
pub mod netlink;
mod panics;
pub mod partition;
mod pinning;
mod power;
mod programs;
pub mod scouting;
pub mod switch_root;
mod terminal;
pub mod xattrs;

pub use pinning::Kept;
pub use scouting::MESSAGE_MAX as SCOUT_MESSAGE_MAX;

use consoles::{Consoles, Secret};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use switch_root::SwitchError;

/// One `/dev/zfs` ioctl, without pointers. Field names follow `zfs_cmd_t` (`include/sys/zfs_ioctl.h`).
#[derive(Debug, Clone, Default)]
pub struct ZfsCall<'a> {
    /// Request number without the `'Z' << 8` part, e.g. 0x02 for `ZFS_IOC_POOL_IMPORT`.
    pub number: u32,
    /// `zc_name`: pool or dataset.
    pub name: &'a [u8],
    /// `zc_nvlist_src`: packed nvlist, empty for none.
    pub src: &'a [u8],
    /// `zc_nvlist_conf`: packed nvlist, empty for none.
    pub conf: &'a [u8],
    /// `zc_cookie`.
    pub cookie: u64,
    /// `zc_guid`.
    pub guid: u64,
    /// `zc_obj`.
    pub object: u64,
    /// Bytes to offer for the reply list; 0 for none.
    pub dst_capacity: usize,
}

/// What came back, also when the kernel reported an error: some ioctls fill the reply even then.
#[derive(Debug, Clone, Default)]
pub struct ZfsReply {
    /// 0 or the errno. ZFS uses numbers above 1023 too.
    pub errno: i32,
    /// `zc_name` afterwards, up to the NUL.
    pub name: Vec<u8>,
    /// `zc_cookie` afterwards.
    pub cookie: u64,
    /// Reply list, at most the offered bytes; empty on ENOMEM.
    pub dst: Vec<u8>,
    /// `zc_nvlist_dst_size`: bytes used, or needed when `errno` is ENOMEM.
    pub dst_size: u64,
    /// `zc_objset_stats.dds_type`: 2 filesystem, 3 volume.
    pub objset_type: i32,
}

/// What a path is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device, by its number.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A character device, pipe or socket.
    Other,
}

/// A loop device with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its node.
    pub node: PathBuf,
    /// Its number.
    pub number: (u32, u32),
}

/// A read-only device-mapper device of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What it is called, which no other one is; at most 127 bytes.
    pub name: String,
    /// Said by programs that look at it; no other one has the same. At most 128 bytes.
    pub uuid: String,
    /// Type of the target, such as `verity`; its module is loaded.
    pub target: &'static str,
    /// Its size, of 512 bytes each.
    pub sectors: u64,
    /// What the target is told.
    pub parameters: String,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Bytes; 0 for many files of /proc and /sys whatever is in them.
    pub size: u64,
}

/// Which terminals a person is talked to on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminals {
    /// Every active console of the kernel.
    All,
    /// The terminal of the process that called us: questions stand on `/dev/tty`, what is printed goes to the standard output,
    /// which can be redirected.
    Own,
}

/// A program to execute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// `argv[0]` if it is not the path.
    pub name: Option<String>,
    /// Arguments behind the program's own name.
    pub args: Vec<String>,
    /// Environment besides what we have ourselves.
    pub env: Vec<(String, String)>,
}

/// An overlay to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayMount {
    /// Directories, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// Upper and work directory; `None`: nothing can be written.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Options and their values; one without a value is a flag.
    pub options: Vec<(String, String)>,
    /// Options that are left out where the kernel does not know them.
    pub if_known: Vec<(String, String)>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// Not in time; it was killed, and may still sit in the kernel.
    Late,
    /// The caller did not want it any longer; it was killed.
    Stopped,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub ended: Ended,
    /// The beginning of its standard output, at most what was asked for. Overwritten when dropped: it can be a passphrase.
    pub output: Secret,
}

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It starts again.
    Restart,
    /// It is switched off.
    PowerOff,
    /// It stops, and stays on.
    Halt,
    /// It becomes the kernel that was loaded for that.
    Kexec,
}

/// What the scout's socket brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// One message.
    Message(Vec<u8>),
    /// Nothing within the time.
    Nothing,
    /// There is no scout (any more): why.
    Ended(String),
}

/// A panic of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// Its message and place.
    pub message: String,
    /// The calls that led there, a line or two each.
    pub backtrace: String,
}

/// What is done about a panic. The system is one of its own: whatever the panicking thread has locked stays locked.
pub type PanicAnswer = Box<dyn Fn(&Arc<dyn System>, &Panic) + Send + Sync>;

/// The world, as far as a boot touches it. Paths are those of the running process: the image's, and what is mounted in it.
///
/// No method but [`System::read_image`] reads or writes a block device: that is the scout's work, which is a process of its own,
/// because such a call can take for ever. What can take long all the same is said with each.
pub trait System: Send + Sync {
    // Pools and mounts.

    /// Issues one ioctl on `/dev/zfs`. `Err` only when the device cannot be opened. Takes as long as the pool's disks take.
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply>;
    /// `mount(2)`; flags are `MS_*`. Takes as long as the disk takes.
    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()>;
    /// Shows a mount, or a directory, elsewhere as well.
    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()>;
    /// Mounts a file with a file system in it, read-only, by a loop device that goes with the mount; gives its node.
    fn mount_image(&self, image: &Path, target: &Path, fstype: &str) -> io::Result<String>;
    /// Mounts an overlay.
    fn mount_overlay(&self, overlay: &OverlayMount, target: &Path) -> io::Result<()>;
    /// Whether a rename in this directory can leave a whiteout, which an upper needs; it is tried.
    fn probe_whiteout(&self, dir: &Path) -> io::Result<()>;
    /// The dataset whose device this is. Opening a zvol reads from its pool, whose disks have answered before.
    fn zvol_name(&self, node: &Path) -> io::Result<String>;
    /// Mounts a file with a file system in it by a loop device that goes with the mount, writable unless the flags say otherwise;
    /// gives its node. Takes as long as the disk takes.
    fn mount_file(&self, file: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String>;
    /// Makes a directory like another, with what is in that if `content`, whole or not at all. Takes as long as the disks take.
    fn copy_dir(&self, from: &Path, to: &Path, content: bool) -> io::Result<()>;
    /// Gives a file or directory to this user and group.
    fn give(&self, path: &Path, owner: u32, group: u32) -> io::Result<()>;
    /// Whether a directory of a layer hides what layers below it have of it.
    fn is_opaque(&self, dir: &Path) -> bool;
    /// `umount2(2)`, lazily when asked.
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()>;
    /// Takes the file from a loop device; one that is in use loses it with its last user. A simulated machine has none.
    fn detach_loop(&self, device: &Path) -> io::Result<()> {
        let _ = device;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Writes to the disks what is not written yet. Never ends where a disk is gone. A simulated machine has nothing to write.
    fn sync_all(&self) {}

    /// Attaches a file to a loop device, read-only, until [`System::detach_loop`].
    fn attach_image(&self, image: &Path) -> io::Result<Attached> {
        let _ = image;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Reads such a device, or what is mapped over one, from its beginning, piece by piece, until `take` says that it is enough.
    /// What the file lies on is mounted: it has answered before, and can take as long as it takes.
    fn read_image(&self, node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        let _ = (node, take);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes a device-mapper device and gives its node, which is there then. Takes as long as opening the devices below takes;
    /// nothing of them is read. A simulated machine has none.
    fn map(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        let _ = mapping;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes the device-mapper device of this name; `EBUSY` while it is mounted or open. A simulated machine has none.
    fn unmap(&self, name: &str) -> io::Result<()> {
        let _ = name;
        Err(io::ErrorKind::Unsupported.into())
    }

    // Files.

    /// The first `limit` bytes of a regular file; anything else is `InvalidInput`, because it can have no end.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// As [`System::read`], in memory that is overwritten when it is dropped and of which no copies are left.
    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<Secret>;
    /// Bytes of a regular file at an offset; fewer than asked for at its end.
    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Makes the file, or empties it, and writes all in one write(2), as files of /proc, /sys and efivarfs want it.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes behind the file's end.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes a file that is there whole or not at all, also after a power cut: temporary name, fsync, rename, fsync of the
    /// directory.
    fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Waits until a file's content, or the names in a directory, are durable (`fsync(2)`). Takes as long as the disk takes.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// What a path leads to.
    fn stat(&self, path: &Path) -> io::Result<FileInfo>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Where a symbolic link points.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// The path without links and dots.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// A directory with its parents; one that is there is fine.
    fn make_dirs(&self, path: &Path) -> io::Result<()>;
    /// A symbolic link at `path` that points to `target`.
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()>;
    /// Renames within a file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, a link or an empty directory.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Copies this program to a place where others can execute it.
    fn keep_program(&self, place: &Path) -> io::Result<()>;
    /// Whether nothing on the file system of `path` may be executed, however it is mounted.
    fn noexec(&self, path: &Path) -> bool;
    /// Takes the immutable flag that efivarfs gives variables which the kernel does not know.
    fn make_mutable(&self, path: &Path) -> io::Result<()>;
    /// Overwrites a file with zeros if it lies in RAM; others are left alone.
    fn wipe(&self, path: &Path) -> io::Result<()>;

    // Time.

    /// Time since the kernel started, sleep included (`CLOCK_BOOTTIME`).
    fn now(&self) -> Duration;
    /// Seconds since 1970 by the machine's clock.
    fn wall_clock(&self) -> u64;
    /// Sleeps.
    fn sleep(&self, time: Duration);
    /// Does `work` in a thread of its own and waits for it, at most for `limit`; whether it was done. Work that was not stays
    /// where it sits. A simulated machine does it and is always done.
    fn within(&self, limit: Duration, work: Box<dyn FnOnce() + Send>) -> bool {
        let _ = limit;
        work();
        true
    }
    /// Does `work`, and calls `tell` with the time so far at every `tick` of it.
    fn watched(&self, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut());
    /// The same for a question to the kernel, `what`, that is answered in no time unless a disk is gone.
    fn questioned(&self, what: &str, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        let _ = what;
        self.watched(tick, tell, work);
    }
    /// Has two threads do `work`, which shares it out between them, and comes back when both have ended. Where there is one thread
    /// that does all of it.
    fn together(&self, work: &(dyn Fn() + Sync));

    // People.

    /// Opens terminals; those that cannot be opened are left out.
    fn consoles(&self, which: Terminals) -> Box<dyn Consoles>;
    /// One record for the kernel's log, with its priority (`<6>text\n`); an empty one only tells whether it can be written.
    fn kmsg(&self, record: &str) -> io::Result<()>;
    /// The kernel's log as `/dev/kmsg` has it, a record each.
    fn kernel_log(&self) -> Vec<String>;
    /// Standard streams on the console, made if it is not there.
    fn attach_console(&self) -> io::Result<()>;

    // Programs.

    /// Runs a program without input, for at most `limit`, until it ends or `stop` (asked a few times a second) says so, and
    /// gives the first `output` bytes that it prints.
    fn run(
        &self,
        program: &Program,
        limit: Option<Duration>,
        output: usize,
        stop: &mut dyn FnMut() -> bool,
    ) -> io::Result<Finished>;
    /// Runs a program with the terminal for its own until it ends.
    fn run_on_terminal(&self, program: &Program, terminal: &Path) -> io::Result<()>;
    /// Our own program, as others can execute it.
    fn own_program(&self) -> PathBuf;
    /// Whether this process is PID 1.
    fn is_init(&self) -> bool;
    /// Keeps this process out of core dumps.
    fn guard_memory(&self);
    /// Becomes another program; comes back only if that cannot be executed. A simulated machine has none.
    fn become_program(&self, program: &Program) -> io::Error {
        let _ = program;
        io::ErrorKind::Unsupported.into()
    }
    /// From now on mounts of this process are seen by it alone, and by the program that it becomes. A simulated machine has none.
    fn own_mounts(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Ends the shell that called us, by a hang-up. A simulated machine has none.
    fn hang_up_caller(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// From now on a panic of this program is answered by `then`, once at a time, in a thread of its own, instead of what was
    /// said before. A simulated machine leaves panics to the test that runs it.
    fn on_panic(&self, then: PanicAnswer) {
        drop(then);
    }

    /// Keeps a file in memory, so that whoever executes it needs no medium for that. Takes as long as reading it. A simulated
    /// machine keeps nothing.
    fn keep_in_memory(&self, path: &Path) -> io::Result<Kept> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Reads a block of a device, from the device itself. Takes as long as that takes. A simulated machine has no such device.
    fn answers(&self, node: &Path) -> io::Result<()> {
        let _ = node;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Waits until this process is told to stop, which then is for the caller to do, and at most so long; whether it was told. A
    /// simulated machine tells nobody.
    fn await_stop(&self, patience: Option<Duration>) -> io::Result<bool> {
        let _ = patience;
        Err(io::ErrorKind::Unsupported.into())
    }

    // The scout.

    /// Starts the scout with these arguments; one that runs is ended first.
    fn start_scout(&self, args: &[String]) -> io::Result<()>;
    /// Sends the scout a message.
    fn tell_scout(&self, message: &[u8]) -> io::Result<()>;
    /// The scout's next message, waited for at most `patience`.
    fn hear_scout(&self, patience: Duration) -> Heard;
    /// Kills the scout and does not wait for its end.
    fn end_scout(&self);

    // The end.

    /// Restarts the machine. `Ok` only where the machine is a simulated one.
    fn restart(&self) -> io::Result<()>;
    /// Switches the machine off. `Ok` only where the machine is a simulated one.
    fn power_off(&self) -> io::Result<()>;
    /// Ends the run of the kernel at once: nothing is written, and no disk waited for. A simulated machine is ended by
    /// [`System::restart`] and [`System::power_off`] alone.
    fn end_now(&self, how: End) -> io::Result<()> {
        let _ = how;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes `new_root` the root and executes `init` there. `Ok` only where the machine is a simulated one.
    fn hand_over(&self, new_root: &Path, init: &Path, args: &[OsString]) -> Result<(), SwitchError>;
}

impl dyn System + '_ {
    /// Whether a path leads to anything.
    pub fn exists(&self, path: &Path) -> bool {
        self.stat(path).is_ok()
    }

    /// A small text file, such as those of /proc and /sys, without white space around it; empty if it cannot be read.
    pub fn text(&self, path: &str) -> String {
        let bytes = self.read(Path::new(path), 1 << 20).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}
