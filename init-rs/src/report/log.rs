//! The log of the boot: every line to the kernel's log, and all of them kept for `/run/taproot/boot.log`.

use crate::sys::System;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
pub struct Log {
    system: Arc<dyn System>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Whether lines go to the kernel's log as they come.
    attached: bool,
    lines: Vec<(Duration, Level, String)>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// A log that keeps its lines and writes nothing until [`Log::attach`].
    pub fn new(system: Arc<dyn System>) -> Self {
        Self { system, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the lines kept so far to the kernel's log, then each line as it comes. An error if that log cannot be opened;
    /// each line is tried all the same, and kept in memory.
    pub fn attach(&self) -> io::Result<()> {
        if let Err(e) = self.system.kmsg("") {
            self.inner().attached = true;
            return Err(e);
        }
        let mut inner = self.inner();
        for (_, level, text) in &inner.lines {
            let _ = self.system.kmsg(&record(*level, text));
        }
        inner.attached = true;
        Ok(())
    }

    /// Writes a line.
    pub fn line(&self, level: Level, text: &str) {
        let now = self.system.now();
        let mut inner = self.inner();
        // A kernel log that cannot be written must not stop the boot; the line is kept anyway.
        if inner.attached {
            let _ = self.system.kmsg(&record(level, text));
        }
        inner.lines.push((now, level, text.to_owned()));
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

    /// When the last line was written; 0 before the first. A simulation tells of a watched call when its work is done, and with it
    /// lines of later.
    pub fn last(&self) -> Duration {
        let now = self.system.now();
        let written = |(when, ..): &(Duration, Level, String)| (*when <= now).then_some(*when);
        self.inner().lines.iter().rev().find_map(written).unwrap_or_default()
    }

    /// Everything so far, a line each: seconds since the kernel started, level, text.
    pub fn text(&self) -> String {
        let inner = self.inner();
        let mut out = String::new();
        for (when, level, text) in &inner.lines {
            out.push_str(&log_line(*when, *level, text));
        }
        out
    }
}

/// Lifts the kernel's limit of ten records in five seconds, which would swallow most of a fast boot's lines. systemd does
/// the same when it takes over; `printk.devkmsg=` on the kernel command line forbids it, which is an error here.
pub fn lift_rate_limit(system: &dyn System) -> io::Result<()> {
    system.write(Path::new("/proc/sys/kernel/printk_devkmsg"), b"on\n")
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
    printable(&text.replace('\n', " | "))
}

/// Text with names that others gave (labels of disks, words of a command line, files): what would steer a terminal, or a serial
/// line, becomes `?`. Newlines and tabs stay.
pub fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "?")
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
    use crate::sys::fake::Tree;

    #[test]
    fn earlier_lines_reach_the_kernel_log_once_attached() {
        let tree = Arc::new(Tree::new());
        let log = Log::new(Arc::<Tree>::clone(&tree));
        log.info("first");
        assert_eq!(tree.records(), [""; 0]);
        log.attach().unwrap();
        std::thread::scope(|s| {
            s.spawn(|| log.warn("second\nhalf"));
        });
        assert_eq!(tree.records(), ["<6>taproot: first", "<4>taproot: second | half"]);
        let text = log.text();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|l| l.starts_with('[')), "{text}");
        assert!(text.contains("info  first"), "{text}");
    }

    #[test]
    fn what_steers_a_terminal_reaches_none() {
        let tree = Arc::new(Tree::new());
        let log = Log::new(Arc::<Tree>::clone(&tree));
        log.attach().unwrap();
        log.warn("label \x1b]0;x\x07 of\tdisk \u{9b}2J\r\n");
        assert_eq!(tree.records(), ["<4>taproot: label ?]0;x? of\tdisk ?2J? | "]);
        assert!(log.text().ends_with("label ?]0;x? of\tdisk ?2J? | \n"), "{}", log.text());
    }

    #[test]
    fn records_are_cut_between_characters() {
        let record = record(Level::Error, &"ü".repeat(1000));
        assert!(record.len() <= MAX_RECORD && record.len() >= MAX_RECORD - 3);
        assert!(record.starts_with("<3>taproot: ü"));
    }
}
