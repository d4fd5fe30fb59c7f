//! Writing the log to a disk, so that it can be read on another machine.

use super::desk::Desk;
use super::{STATUS_FILE, WHY_FILE, devices, drivers};
use crate::devices::filesystems;
use crate::report::boot::REPORT_PATH;
use crate::report::log::LOG_PATH;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the disk is mounted meanwhile.
const DIR: &str = "/run/taproot/disk";

/// The word `save-log [DEVICE]`.
pub(super) fn run(desk: &mut Desk<'_>, device: Option<&str>) -> Result<(), String> {
    let all = devices::all(desk.system);
    let fit: Vec<_> = all.into_iter().filter(|d| devices::WRITABLE.contains(&d.kind.as_str())).collect();
    if fit.is_empty() {
        return Err(format!("no disk with one of {} was found; plug one in", devices::WRITABLE.join(", ")));
    }
    let typed = device.map(str::to_owned).or_else(|| {
        desk.talk.say(&devices::list(&fit));
        desk.talk.ask("Which device? Enter for none: ").filter(|typed| !typed.is_empty())
    });
    let Some(typed) = typed else { return Ok(()) };
    // An absolute path stays what it is.
    let node = Path::new("/dev").join(typed);
    let kind = fit.iter().find(|d| d.node == node).map(|d| d.kind.clone()).ok_or_else(|| {
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
    drivers::load(&filesystems::modules(&kind));
    let dir = Path::new(DIR);
    fs::create_dir_all(dir).map_err(|e| format!("{DIR}: {e}"))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let source = node.to_string_lossy();
    desk.system
        .mount(&source, dir, &kind, flags, "")
        .map_err(|e| format!("{source} could not be mounted as {kind}: {e}"))?;
    let written = write(dir);
    // What was written is on the disk only after this.
    let unmounted = desk.system.unmount(dir, false);
    let name = written.map_err(|e| format!("{source}: {e}"))?;
    unmounted.map_err(|e| format!("{source}: unmounting: {e}"))?;
    desk.talk.say(&format!("{name}.log and {name}.json are on {source}; it is unmounted\n"));
    Ok(())
}

fn write(dir: &Path) -> io::Result<String> {
    let name = file_name(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()));
    let mut text = String::new();
    for (title, path) in [("why", WHY_FILE), ("status", STATUS_FILE), ("log", LOG_PATH)] {
        let content = fs::read_to_string(path).unwrap_or_else(|e| format!("{path}: {e}\n"));
        let _ = writeln!(text, "=== {title}\n{content}");
    }
    let _ = writeln!(text, "=== devices\n{}", fs::read_to_string("/proc/partitions").unwrap_or_default());
    let _ = writeln!(text, "=== kernel\n{}", kernel_log());
    put(&dir.join(format!("{name}.log")), text.as_bytes())?;
    put(&dir.join(format!("{name}.json")), &fs::read(REPORT_PATH).unwrap_or_default())?;
    Ok(name)
}

/// There whole or not at all: a disk that is full must not look like one that has the log.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let result = written.and_then(|()| fs::rename(&part, path));
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Every record that the kernel still has (Documentation/ABI/testing/dev-kmsg): one read, one record.
fn kernel_log() -> String {
    let mut out = String::new();
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg") else {
        return out;
    };
    let mut record = vec![0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => return out,
            Ok(n) => out.push_str(&kernel_line(&String::from_utf8_lossy(record.get(..n).unwrap_or_default()))),
            // Records were overwritten before they were read: the next read goes on with what is there.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return out,
        }
    }
}

/// `prio,seq,microseconds,flags;text` and lines of a dictionary, as dmesg shows it.
fn kernel_line(record: &str) -> String {
    let (head, text) = record.split_once(';').unwrap_or(("", record));
    let time = head.split(',').nth(2).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    format!("[{:>5}.{:06}] {}\n", time / 1_000_000, time % 1_000_000, text.lines().next().unwrap_or(""))
}

/// `taproot-20261121-074512`: date and time, UTC, by the machine's clock.
fn file_name(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("taproot-{year:04}{month:02}{day:02}-{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60)
}

/// Gregorian date of a day since 1970-01-01 (years begin in March, so that the leap day is the last).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
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

    #[test]
    fn names_carry_the_date() {
        assert_eq!(file_name(0), "taproot-19700101-000000");
        assert_eq!(file_name(951_782_400 + 86_399), "taproot-20000229-235959");
        assert_eq!(file_name(1_795_247_112), "taproot-20261121-074512");
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("x.log"), b"text").unwrap();
        assert_eq!(fs::read(dir.path().join("x.log")).unwrap(), b"text");
        fs::create_dir_all(dir.path().join("y.log/taken")).unwrap();
        assert!(put(&dir.path().join("y.log"), b"text").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn kernel_records() {
        assert_eq!(kernel_line("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n"), "[    5.140900] NET: Registered\n");
    }
}
