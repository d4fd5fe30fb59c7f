//! The log of the boot: every line to the kernel's log, and all of them kept for `/run/taproot/boot.log`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::phases::since_boot;

/// Where the log is kept for the booted system.
pub const LOG_PATH: &str = "/run/taproot/boot.log";
/// Longest record written to the kernel, bytes: it must fit a printk record with the kernel's own prefix.
const MAX_RECORD: usize = 900;

/// How much a line matters; the numbers are the kernel's (syslog(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The boot cannot go on as asked.
    Error = 3,
    /// Something the user should look at.
    Warn = 4,
    /// What happens.
    Info = 6,
    /// Details.
    Debug = 7,
}

/// The log. Share it by reference; it locks inside.
#[derive(Debug)]
pub struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    kmsg: Option<File>,
    lines: Vec<(Duration, Level, String)>,
}

impl Log {
    /// A log that keeps its lines and writes nothing until [`Log::attach`].
    pub fn new() -> Self {
        Self { inner: Mutex::new(Inner { kmsg: None, lines: Vec::new() }) }
    }

    /// Opens `path` (`/dev/kmsg`) and writes the lines kept so far to it, then each line as it comes.
    pub fn attach(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, level, text) in &inner.lines {
            let _ = file.write_all(record(*level, text).as_bytes());
        }
        inner.kmsg = Some(file);
        Ok(())
    }

    /// Writes a line.
    pub fn line(&self, level: Level, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A kernel log that cannot be written must not stop the boot; the line is kept anyway.
        if let Some(kmsg) = &mut inner.kmsg {
            let _ = kmsg.write_all(record(level, text).as_bytes());
        }
        inner.lines.push((since_boot(), level, text.to_owned()));
    }

    /// An error.
    pub fn error(&self, text: impl AsRef<str>) {
        self.line(Level::Error, text.as_ref());
    }

    /// A warning.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.line(Level::Warn, text.as_ref());
    }

    /// What happens.
    pub fn info(&self, text: impl AsRef<str>) {
        self.line(Level::Info, text.as_ref());
    }

    /// Details.
    pub fn debug(&self, text: impl AsRef<str>) {
        self.line(Level::Debug, text.as_ref());
    }

    /// Everything so far, a line each: seconds since the kernel started, level, text.
    pub fn text(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        for (when, level, text) in &inner.lines {
            out.push_str(&log_line(*when, *level, text));
        }
        out
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// Lifts the kernel's limit of ten records in five seconds, which would swallow most of a fast boot's lines. systemd does
/// the same when it takes over; `printk.devkmsg=` on the kernel command line forbids it, which is an error here.
pub fn lift_rate_limit() -> io::Result<()> {
    std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n")
}

/// One line of the log, with its end.
pub fn log_line(when: Duration, level: Level, text: &str) -> String {
    let name = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    format!("[{:>4}.{:06}] {name:<5} {}\n", when.as_secs(), when.subsec_micros(), one_line(text))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}

/// One record for `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): one write, one record, cut on a character boundary.
fn record(level: Level, text: &str) -> String {
    let mut record = format!("<{}>taproot: {}", level as u8, one_line(text));
    let cut = (0..=MAX_RECORD.min(record.len())).rev().find(|at| record.is_char_boundary(*at));
    record.truncate(cut.unwrap_or(0));
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_lines_reach_the_kernel_log_once_attached() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Log::new();
        log.info("first");
        log.attach(file.path()).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| log.warn("second\nhalf"));
        });
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "<6>taproot: first<4>taproot: second | half");
        let text = log.text();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|l| l.starts_with('[')), "{text}");
        assert!(text.contains("info  first"), "{text}");
    }

    #[test]
    fn records_are_cut_between_characters() {
        let record = record(Level::Error, &"ü".repeat(1000));
        assert!(record.len() <= MAX_RECORD && record.len() >= MAX_RECORD - 3);
        assert!(record.starts_with("<3>taproot: ü"));
    }
}
