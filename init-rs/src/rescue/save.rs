//! Writing the log to a disk, so that it can be read on another machine.

use super::apart::Part;
use super::desk::Desk;
use super::{STATUS_FILE, WHY_FILE, apart, devices, hands};
use crate::devices::filesystems;
use crate::report::boot::REPORT_PATH;
use crate::report::log::{LOG_PATH, Log};
use crate::sys::System;
use crate::sys::consoles::Secret;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where the disk is mounted meanwhile.
const DIR: &str = "/run/taproot/disk";
/// Of each record of the boot at most this much is saved.
const LONGEST: usize = 16 << 20;
/// How long that may take; sticks are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The word `save-log [DEVICE]`.
pub(super) fn run(desk: &mut Desk<'_>, device: Option<&str>) -> Result<(), String> {
    hands::read_all(desk.system, desk.hands);
    let fit = devices::writable(desk.hands.borrow().hardware());
    if fit.is_empty() {
        return Err(format!("no disk with one of {} was found; plug one in", devices::WRITABLE.join(", ")));
    }
    let typed = device.map(str::to_owned).or_else(|| {
        desk.talk.say(&devices::list(desk.hands.borrow().hardware(), &fit));
        desk.talk.ask("Which device? Enter for none: ").filter(|typed| !typed.is_empty())
    });
    let Some(typed) = typed else { return Ok(()) };
    // An absolute path stays what it is.
    let node = Path::new("/dev").join(typed);
    let found = fit.iter().find(|device| Path::new(&device.node) == node);
    let kind = found.and_then(|device| device.superblock()).map(|found| found.kind.clone()).ok_or_else(|| {
        format!("{}: expected a block device with one of {}", node.display(), devices::WRITABLE.join(", "))
    })?;
    if let Some(word) = desk.may_resume()
        && !desk.talk.confirm(&format!(
            "If a hibernated system waits at {word} and has {} mounted, writing to it now damages it.",
            node.display()
        ))
    {
        return Err("nothing was done".to_owned());
    }
    hands::load(desk.hands, &filesystems::modules(&kind));
    let node = node.to_string_lossy();
    let name = apart::do_part(desk.system, desk.log, &SAVE, &[&node, &kind])?;
    let name = String::from_utf8_lossy(&name);
    desk.talk.say(&format!("{name}.log and {name}.json are on {node}; it is unmounted\n"));
    Ok(())
}

/// Writes all that is known to a device with this file system; the beginning of the names of the files.
pub(super) const SAVE: Part = Part { name: "save-to", work: save, mounts: Some(DIR), patience: PATIENCE };

fn save(system: &dyn System, _: &Log, args: &[&str]) -> Result<Secret, String> {
    let &[node, kind] = args else { return Err("expected a device and what is on it".to_owned()) };
    let dir = Path::new(DIR);
    system.make_dirs(dir).map_err(|e| format!("{DIR}: {e}"))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    system.mount(node, dir, kind, flags, "").map_err(|e| format!("{node} could not be mounted as {kind}: {e}"))?;
    let written = write(system, dir);
    // What was written is on the disk only after this.
    let unmounted = system.unmount(dir, false);
    let name = written.map_err(|e| format!("{node}: {e}"))?;
    unmounted.map_err(|e| format!("{node}: unmounting: {e}"))?;
    Ok(name.into_bytes().into())
}

fn write(system: &dyn System, dir: &Path) -> io::Result<String> {
    let name = file_name(system.wall_clock());
    let read = |path: &str| system.read(Path::new(path), LONGEST);
    let text_of = |path: &str| match read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => format!("{path}: {e}\n"),
    };
    let mut text = String::new();
    for (title, path) in
        [("why", WHY_FILE), ("status", STATUS_FILE), ("log", LOG_PATH), ("devices", "/proc/partitions")]
    {
        let _ = writeln!(text, "=== {title}\n{}", text_of(path));
    }
    let _ = writeln!(text, "=== kernel\n{}", kernel_log(system));
    // Each is there whole or not at all: a disk that is full must not look like one that has the log.
    system.save(&dir.join(format!("{name}.log")), text.as_bytes())?;
    system.save(&dir.join(format!("{name}.json")), &read(REPORT_PATH).unwrap_or_default())?;
    Ok(name)
}

/// The kernel's log as text.
pub(super) fn kernel_log(system: &dyn System) -> String {
    system.kernel_log().iter().map(|record| kernel_line(record)).collect()
}

/// `prio,seq,microseconds,flags;text` and lines of a dictionary, as dmesg shows it.
fn kernel_line(record: &str) -> String {
    let (head, text) = record.split_once(';').unwrap_or(("", record));
    let time = head.split(',').nth(2).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    format!("[{:>5}.{:06}] {}\n", time / 1_000_000, time % 1_000_000, text.lines().next().unwrap_or(""))
}

/// `2026-11-21 07:45:12 UTC`.
pub(super) fn moment(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", time / 3600, time / 60 % 60, time % 60)
}

/// `taproot-20261121-074512`: date and time, UTC, by the machine's clock.
fn file_name(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("taproot-{year:04}{month:02}{day:02}-{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60)
}

/// Gregorian date of a day since 1970-01-01 (years begin in March, so that the leap day is the last).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn names_carry_the_date() {
        assert_eq!(file_name(0), "taproot-19700101-000000");
        assert_eq!(file_name(951_782_400 + 86_399), "taproot-20000229-235959");
        assert_eq!(file_name(1_795_247_112), "taproot-20261121-074512");
    }

    #[test]
    fn everything_that_is_known_is_written() {
        let tree = Tree::new().with(WHY_FILE, "because\n").with(REPORT_PATH, "{}").with("/disk/old", "");
        let name = write(&tree, Path::new("/disk")).unwrap();
        let log = tree.text(&format!("/disk/{name}.log"));
        assert!(log.contains("=== why\nbecause\n") && log.contains("=== kernel\n"), "{log}");
        assert!(log.contains("=== log\n/run/taproot/boot.log: "), "what is not there is told: {log}");
        assert_eq!(tree.text(&format!("/disk/{name}.json")), "{}");
    }

    #[test]
    fn kernel_records() {
        assert_eq!(kernel_line("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n"), "[    5.140900] NET: Registered\n");
    }
}
