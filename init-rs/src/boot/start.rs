//! The first milliseconds: pseudo file systems, console, what the kernel and the image tell us.

use crate::cmdline::{self, Decided, Request, Selector};
use crate::image::{CONFIG_PATH, ImageConfig};
use crate::plan::next::facts::Kernel;
use crate::plan::roots;
use crate::pools;
use crate::report::log::{self, Log};
use crate::sys::System;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Where the builder puts programs that check file systems.
const FSCK_DIRS: [&str; 2] = ["/sbin", "/usr/sbin"];
/// Bytes of a configuration or command line that are read.
const TEXT_MAX: usize = 1 << 20;

/// Mounts what every program expects. The kernel may have mounted devtmpfs itself.
pub(super) fn mount_pseudo(system: &dyn System) -> Vec<String> {
    let nosuid_noexec = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
    let table = [
        ("dev", "/dev", "devtmpfs", libc::MS_NOSUID, "mode=0755"),
        ("proc", "/proc", "proc", nosuid_noexec, ""),
        ("sysfs", "/sys", "sysfs", nosuid_noexec, ""),
        ("run", "/run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=0755"),
    ];
    let mut problems = Vec::new();
    for (source, target, fstype, flags, data) in table {
        let target = Path::new(target);
        let _ = system.make_dirs(target);
        if let Err(e) = system.mount(source, target, fstype, flags, data) {
            // EBUSY: already there.
            if e.raw_os_error() != Some(libc::EBUSY) {
                problems.push(format!("mounting {fstype} on {} failed: {e}", target.display()));
            }
        }
    }
    problems
}

/// Standard streams on the console.
pub(super) fn attach_console(system: &dyn System, log: &Log) {
    if let Err(e) = system.attach_console() {
        log.warn(format!("no console: {e}"));
    }
}

/// The kernel's log, and the directory for what the booted system finds of us.
pub(super) fn attach_log(system: &dyn System, log: &Log) {
    let limit = log::lift_rate_limit(system);
    if let Err(e) = log.attach() {
        log.warn(format!("/dev/kmsg: {e}; the log is in memory only"));
    }
    if let Err(e) = limit {
        log.debug(format!("the kernel keeps its limit on our log lines: {e}"));
    }
    let _ = system.make_dirs(Path::new("/run/taproot"));
}

/// The words: those packed into the image first, then the kernel's command line, which wins.
pub(super) fn words(system: &dyn System, image: &ImageConfig) -> io::Result<String> {
    let line = system.read(Path::new("/proc/cmdline"), TEXT_MAX)?;
    Ok(format!("{} {}", image.cmdline, String::from_utf8_lossy(&line)))
}

/// The request that the words make. Where the kernel's command line cannot be read nothing is booted: it could say that nothing is
/// to be written.
pub(super) fn request(image: &ImageConfig, words: &io::Result<String>) -> Request {
    let mut request = cmdline::parse(words.as_ref().unwrap_or(&image.cmdline).as_bytes());
    roots::prefer_packed(&mut request, image.root.as_ref());
    if let Err(e) = words {
        let why = format!("the kernel's command line cannot be read ({e}), so it is not known which root is asked for");
        request.root = Decided::new(Selector::Unusable(why), "/proc/cmdline");
    }
    request
}

/// What the builder knew.
pub(super) fn image_config(system: &dyn System) -> ImageConfig {
    ImageConfig::parse(&system.text(CONFIG_PATH))
}

/// What is known of the running kernel, and of the programs that come with the image.
pub(super) fn kernel(system: &dyn System) -> Kernel {
    Kernel {
        release: system.text("/proc/sys/kernel/osrelease"),
        resumes: system.exists(Path::new("/sys/power/resume")),
        efi: system.exists(Path::new("/sys/firmware/efi")),
        page: page_size(system),
        filesystems: filesystems(system),
        fsck: checkers(system),
    }
}

/// Bytes of a page, from the vector that the kernel gives every program.
fn page_size(system: &dyn System) -> usize {
    const AT_PAGESZ: u64 = 6;
    let auxv = system.read(Path::new("/proc/self/auxv"), 4096).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let entry = |pair: &[u8]| {
        let (key, value) = pair.split_at_checked(8)?;
        (word(key) == AT_PAGESZ).then(|| usize::try_from(word(value)).ok()).flatten()
    };
    auxv.chunks_exact(16).find_map(entry).filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

/// The file systems that the kernel knows now.
pub(super) fn filesystems(system: &dyn System) -> BTreeSet<String> {
    let text = system.text("/proc/filesystems");
    text.lines().filter_map(|line| line.split_whitespace().next_back()).map(str::to_owned).collect()
}

fn checkers(system: &dyn System) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for dir in FSCK_DIRS {
        for name in system.list(Path::new(dir)).unwrap_or_default() {
            if let Some(fstype) = name.strip_prefix("fsck.") {
                found.entry(fstype.to_owned()).or_insert(format!("{dir}/{name}"));
            }
        }
    }
    found
}

/// Makes the hostid that the command line gives this system's, before any pool is opened. The module is given it as an option
/// by whoever loads it (`Request::options_for_modules`); the file is for what else asks for a hostid, and for 0.
pub(super) fn hostid(system: &dyn System, request: &mut Request, log: &Log) {
    let Some(hostid) = &request.import.hostid else { return };
    match pools::set_hostid(system, hostid.value) {
        Ok(()) => log.info(format!("hostid {:08x} ({})", hostid.value, hostid.why)),
        Err(e) => log.error(format!("{}: hostid {:08x} could not be set: {e}", hostid.why, hostid.value)),
    }
}

/// The kernel's level for its consoles: the first of four numbers.
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Tells the kernel the console level: it knows neither our word for it, nor words packed into the image. Returns what to put
/// back at the hand-over: `taproot.log=` is about our own part of the boot.
pub(super) fn console_level(system: &dyn System, request: &Request, log: &Log) -> Option<String> {
    let level = request.console_level.as_ref()?;
    let before = system.text(PRINTK);
    if let Err(e) = system.write(Path::new(PRINTK), format!("{}\n", level.value).as_bytes()) {
        log.debug(format!("{}: the console level could not be set: {e}", level.why));
        return None;
    }
    before.split_whitespace().next().filter(|_| level.why.starts_with("taproot.")).map(str::to_owned)
}

/// Puts the kernel's console level back.
pub(super) fn restore_console_level(system: &dyn System, before: Option<&str>) {
    if let Some(level) = before {
        let _ = system.write(Path::new(PRINTK), level.as_bytes());
    }
}
