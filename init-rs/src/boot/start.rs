//! The first milliseconds: pseudo file systems, console, what the kernel and the image tell us.

use crate::cmdline::{self, ModuleOption, Request};
use crate::devices::table::{ModuleTable, TABLE_PATH};
use crate::image::{CONFIG_PATH, ImageConfig};
use crate::pools;
use crate::report::log::{self, Log};
use crate::sys::{System, entry};
use std::fs;
use std::path::Path;

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
        let _ = fs::create_dir_all(target);
        if let Err(e) = system.mount(source, Path::new(target), fstype, flags, data) {
            // EBUSY: already there.
            if e.raw_os_error() != Some(libc::EBUSY) {
                problems.push(format!("mounting {fstype} on {target} failed: {e}"));
            }
        }
    }
    problems
}

/// Standard streams on the console.
pub(super) fn attach_console(log: &Log) {
    if let Err(e) = entry::attach_console() {
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
    let _ = fs::create_dir_all("/run/taproot");
}

/// The request: words packed into the image first, then the kernel's command line, which wins.
pub(super) fn request(image: &ImageConfig) -> Request {
    let mut line = image.cmdline.clone().into_bytes();
    line.push(b' ');
    line.extend(fs::read("/proc/cmdline").unwrap_or_default());
    cmdline::parse(&line)
}

/// What the builder knew.
pub(super) fn image_config() -> ImageConfig {
    ImageConfig::parse(&fs::read_to_string(CONFIG_PATH).unwrap_or_default())
}

/// The packed modules. An image without a table has everything built into the kernel.
pub(super) fn module_table(log: &Log) -> ModuleTable {
    let Ok(text) = fs::read_to_string(TABLE_PATH) else {
        log.warn(format!("{TABLE_PATH} is not in the image: no modules will be loaded"));
        return ModuleTable::default();
    };
    ModuleTable::parse(&text).unwrap_or_else(|e| {
        log.error(e.to_string());
        ModuleTable::default()
    })
}

/// Release of the running kernel, as `uname -r` prints it.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Makes the hostid that the command line gives this system's, before any pool is opened; the one place that does. A parameter
/// of the module wins over the file, wherever it comes from, so the module has to be given it too: as an option if it is yet
/// to be loaded. The file is for what else asks for a hostid, and for 0: a module whose parameter is 0 reads it.
pub(super) fn hostid(system: &dyn System, request: &mut Request, log: &Log) {
    let Some(hostid) = &request.import.hostid else { return };
    give_module(&mut request.module_options, hostid.value);
    match pools::set_hostid(system, hostid.value) {
        Ok(()) => log.info(format!("hostid {:08x} ({})", hostid.value, hostid.why)),
        Err(e) => log.error(format!("{}: hostid {:08x} could not be set: {e}", hostid.why, hostid.value)),
    }
}

/// The option of the module, in a form it takes (`00bab10c`, as some boot loaders write it, is none), and as the only one.
/// Options of the command line come behind packed ones, and the last counts.
fn give_module(options: &mut Vec<ModuleOption>, hostid: u32) {
    options.retain(|o| (o.module.as_str(), o.param.as_str()) != ("spl", "spl_hostid"));
    let value = Some(format!("{hostid:#x}"));
    options.push(ModuleOption { module: "spl".to_owned(), param: "spl_hostid".to_owned(), value });
}

/// The kernel's level for its consoles: the first of four numbers.
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Tells the kernel the console level: it knows neither our word for it, nor words packed into the image. Returns what to put
/// back at the hand-over: `taproot.log=` is about our own part of the boot.
pub(super) fn console_level(request: &Request, log: &Log) -> Option<String> {
    let level = request.console_level.as_ref()?;
    let before = fs::read_to_string(PRINTK).ok();
    if let Err(e) = fs::write(PRINTK, format!("{}\n", level.value)) {
        log.debug(format!("{}: the console level could not be set: {e}", level.why));
        return None;
    }
    before?.split_whitespace().next().filter(|_| level.why.starts_with("taproot.")).map(str::to_owned)
}

/// Puts the kernel's console level back.
pub(super) fn restore_console_level(before: Option<&str>) {
    if let Some(level) = before {
        let _ = fs::write(PRINTK, level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_gets_the_hostid_once_and_last() {
        let mut request = cmdline::parse(b"spl.spl_hostid=17 spl.spl_x=1 zfs.zfs_arc_max=2 taproot.hostid=0x11");
        give_module(&mut request.module_options, 17);
        let given: Vec<_> = request.module_options.iter().map(ModuleOption::render).collect();
        assert_eq!(given, ["spl_x=1", "zfs_arc_max=2", "spl_hostid=0x11"]);
    }
}
