//! `/sbin/init` of the small test roots: says what the early boot handed over, then powers off.
//!
//! It speaks the language of `kit/guest/taproot-report` on the second serial line (the console if there is none), is static
//! and needs nothing else in the root.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::time::{ClockId, clock_gettime};

fn main() {
    let mut out: Box<dyn Write> = match OpenOptions::new().write(true).open("/dev/ttyS1") {
        Ok(tty) => Box::new(Drained(tty)),
        Err(_) => Box::new(io::stdout()),
    };
    // A failed write has nobody to tell it to: the test sees the missing lines.
    let _ = report(&mut out);
    drop(out);
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

/// The serial line; closing waits until the last byte is out, since power-off does not.
struct Drained(File);

impl Write for Drained {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let _ = nix::sys::termios::tcdrain(&self.0);
    }
}

fn report(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "@@REPORT-BEGIN")?;
    writeln!(out, "@@KIND guest-init")?;
    // Microseconds since the kernel started, the same as systemd's own stamp.
    if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
        writeln!(out, "@@USERSPACE {}", Duration::from(now).as_micros())?;
    }
    for (tag, path) in
        [("HOSTNAME", "/etc/hostname"), ("KERNEL", "/proc/sys/kernel/osrelease"), ("CMDLINE", "/proc/cmdline")]
    {
        lines(out, tag, path)?;
    }
    writeln!(out, "@@PID {}", std::process::id())?;
    for argument in std::env::args_os() {
        writeln!(out, "@@ARG {}", argument.to_string_lossy())?;
    }
    for (name, value) in std::env::vars_os() {
        writeln!(out, "@@ENV {}={}", name.to_string_lossy(), value.to_string_lossy())?;
    }
    if let Ok(exe) = fs::read_link("/proc/1/exe") {
        writeln!(out, "@@EXE {}", exe.display())?;
    }
    lines(out, "MOUNT", "/proc/self/mountinfo")?;
    for line in fs::read_to_string("/proc/meminfo").unwrap_or_default().lines() {
        // The initramfs lives in these two; after the hand-over they are small.
        if line.starts_with("Shmem:") || line.starts_with("Unevictable:") {
            writeln!(out, "@@MEM {line}")?;
        }
    }
    for (tag, dir) in [("ROOT", "/"), ("RUN", "/run/taproot"), ("FD", "/proc/1/fd")] {
        list(out, tag, Path::new(dir))?;
    }
    lines(out, "JSON", "/run/taproot/boot.json")?;
    writeln!(out, "@@REPORT-END")?;
    writeln!(out, "@@DONE")
}

/// Every line of a file behind its tag; a file that is not there says nothing.
fn lines(out: &mut impl Write, tag: &str, path: &str) -> io::Result<()> {
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        writeln!(out, "@@{tag} {line}")?;
    }
    Ok(())
}

/// The names in a directory, sorted; with the target where it is a link.
fn list(out: &mut impl Write, tag: &str, dir: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match fs::read_link(&path) {
            Ok(target) => writeln!(out, "@@{tag} {name} -> {}", target.display())?,
            Err(_) => writeln!(out, "@@{tag} {name}")?,
        }
    }
    Ok(())
}
