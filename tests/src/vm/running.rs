//! A running virtual machine.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::accel::Accel;
use super::disk::Disk;
use super::memory;
use super::qmp::Qmp;
use super::report::Report;
use super::stream::Stream;
use crate::{agreement, scenario, words};

/// Seconds (of KVM) for what the kernel says of a disk.
const CONSOLE_LIMIT: u64 = 60;

/// The QEMU process; killed when dropped.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) child: Child,
    #[expect(dead_code, reason = "the directory lives as long as the process")]
    pub(super) sockets: TempDir,
}

impl Guard {
    /// Waits until QEMU, which was just started, connects to one of our sockets.
    pub(super) fn accept(&mut self, listener: &UnixListener, log: &Path) -> Result<UnixStream> {
        listener.set_nonblocking(true).context("socket")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).context("socket")?;
                    return Ok(stream);
                }
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(e).context("accepting QEMU"),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait().context("waiting for QEMU")? {
                bail!("QEMU left at once ({status}): {}", fs::read_to_string(log).unwrap_or_default());
            }
            if Instant::now() > deadline {
                bail!("QEMU did not open its sockets within 60 s; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether QEMU ended by a signal that is not ours: an assertion of its own, usually.
fn is_crash(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| signal != libc::SIGKILL)
}

impl Guard {
    /// Whether QEMU, whose sockets are closed, crashed.
    fn crashed(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return is_crash(status),
                // It may still be writing its core.
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => break,
            }
        }
        false
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running machine. Dropping it ends the process; during a failing test the end of its console is shown.
#[derive(Debug)]
pub struct Running {
    /// First serial line: kernel messages, our output, login prompt.
    pub console: Stream,
    /// `hvc0` of machines built with `second_console`: kernel messages and whatever is said on all consoles.
    pub console2: Option<Stream>,
    /// Second serial line: what the guest reports.
    pub report: Stream,
    /// QEMU's control connection.
    pub qmp: Qmp,
    /// What it runs on.
    pub accel: Accel,
    /// When it was started.
    pub started: Instant,
    pub(super) name: String,
    pub(super) guard: Guard,
}

impl Running {
    fn deadline(&self, seconds: u64) -> Instant {
        Instant::now() + self.accel.limit(seconds)
    }

    /// Waits for a text on the console; `seconds` are those of KVM (see [`Accel::limit`]).
    pub fn expect(&self, pattern: &str, seconds: u64) -> Result<()> {
        self.expect_any(&[pattern], seconds).map(drop)
    }

    /// Waits for one of several texts on the console; returns which.
    pub fn expect_any(&self, patterns: &[&str], seconds: u64) -> Result<usize> {
        self.console.expect_any(patterns, self.deadline(seconds))
    }

    /// The second console; fails for a machine that was built without.
    pub fn second(&self) -> Result<&Stream> {
        self.console2.as_ref().context("this machine was built without second_console()")
    }

    /// Waits for a text on the second console.
    pub fn expect_second(&self, pattern: &str, seconds: u64) -> Result<()> {
        self.second()?.expect_any(&[pattern], self.deadline(seconds)).map(drop)
    }

    /// Types a line on the second console.
    pub fn type_line_second(&self, line: &str) -> Result<()> {
        self.second()?.send(&format!("{line}\r"))
    }

    /// Types a line on the console.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.console.send(&format!("{line}\r"))
    }

    /// Sends a key or control character on the console (`"\x03"` is Ctrl-C).
    pub fn send_key(&self, key: &str) -> Result<()> {
        self.console.send(key)
    }

    /// Waits for the next report of the guest. Fails at once when the kernel panics, and when `taproot explain` would say another
    /// thing of this boot than it did.
    pub fn report(&self, seconds: u64) -> Result<Report> {
        self.wait_report("@@REPORT-BEGIN", seconds)?;
        let begin = self.report.cursor();
        self.wait_report("@@REPORT-END", seconds)?;
        let text = self.report.text();
        let report = Report::parse(text.get(begin..self.report.cursor()).unwrap_or_default())?;
        let wrong = report.json.as_ref().map(agreement::disagreements).unwrap_or_default();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(report)
    }

    /// Waits for a text on the report line, with an eye on the console.
    pub fn wait_report(&self, pattern: &str, seconds: u64) -> Result<()> {
        let deadline = self.deadline(seconds);
        loop {
            if let Some(what) = self.console.dead() {
                bail!("{what} while waiting for {pattern:?}");
            }
            // Short turns, because what the kernel dies of shows on the other line.
            let turn = Instant::now() + Duration::from_millis(500);
            match self.report.expect_any(&[pattern], turn.min(deadline)) {
                Ok(_) => return Ok(()),
                Err(_) if self.console.shows_anew(words::PROMPT) => {
                    bail!("the boot ended in the rescue prompt; expected {pattern:?} on the report line")
                }
                Err(error) if self.report_closed() => return Err(error),
                Err(error) if turn >= deadline => return Err(error.context(self.console.late())),
                Err(_) => {}
            }
        }
    }

    fn report_closed(&self) -> bool {
        self.report.expect_end(Instant::now()).is_ok()
    }

    /// Waits until the script passed as `opt/taproot/script` is through and fails unless it succeeded.
    /// Returns all that it printed.
    pub fn script(&self, seconds: u64) -> Result<String> {
        let begin = self.report.cursor();
        self.wait_report("@@SCRIPT-EXIT ", seconds)?;
        self.wait_report("\n", seconds)?;
        let text = self.report.text();
        let said = text.get(begin..self.report.cursor()).unwrap_or_default();
        let (printed, status) = said.rsplit_once("@@SCRIPT-EXIT ").unwrap_or((said, ""));
        if status.trim() != "0" {
            bail!("the script in the guest ended with {}:\n{printed}", status.trim());
        }
        Ok(printed.to_owned())
    }

    /// Waits until the machine powers off (or reboots, unless it was built with `reboots`).
    pub fn wait_exit(&mut self, seconds: u64) -> Result<()> {
        self.console.expect_end(self.deadline(seconds))?;
        let status = self.guard.child.wait().context("waiting for QEMU")?;
        if is_crash(status) {
            bail!("{}: QEMU ended with {status}", words::EMULATOR_FAULT);
        }
        Ok(())
    }

    /// Plugs a disk in while the machine runs (virtio only).
    pub fn plug(&mut self, disk: &Disk) -> Result<()> {
        self.qmp.execute("blockdev-add", &disk.blockdev())?;
        let device = json!({ "driver": "virtio-blk-pci", "drive": disk.node(), "serial": disk.serial, "id": format!("disk-{}", disk.serial) });
        self.qmp.execute("device_add", &device).map(drop)
    }

    /// As [`Self::plug`], and waits until the kernel tells of it: what looks for it for a short time then finds it. The console must
    /// show what the kernel says.
    pub fn plug_in(&mut self, disk: &Disk) -> Result<()> {
        let found = |vm: &Self| vm.console.text().matches(words::DISK).count();
        let before = found(self);
        self.plug(disk)?;
        self.await_console(|vm| found(vm) > before, "that the kernel finds the disk")
    }

    /// Waits for something that the console shows wherever it stands.
    pub(super) fn await_console(&self, there: impl Fn(&Self) -> bool, what: &str) -> Result<()> {
        let deadline = self.deadline(CONSOLE_LIMIT);
        while !there(self) {
            if let Some(died) = self.console.dead() {
                bail!("{died} while waiting for {what}");
            }
            ensure!(Instant::now() < deadline, "{}; expected {what}", self.console.late());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Unplugs a disk while the machine runs and waits until it is gone. A guest has to agree to lose a PCI device, so its
    /// kernel must be up; USB disks are just gone.
    pub fn unplug(&mut self, disk: &Disk) -> Result<()> {
        self.qmp.execute("device_del", &json!({ "id": format!("disk-{}", disk.serial) }))?;
        let deadline = self.deadline(10);
        // The image cannot be let go as long as the device is there.
        while let Err(error) = self.qmp.execute("blockdev-del", &json!({ "node-name": disk.node() })) {
            let ended = self.guard.child.try_wait().context("waiting for QEMU")?.is_some();
            if ended || Instant::now() > deadline {
                return Err(error.context(format!("the guest did not let go of the disk {}", disk.serial)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Gives a disk another size while the machine runs.
    pub fn resize(&mut self, disk: &Disk, bytes: u64) -> Result<()> {
        self.qmp.execute("block_resize", &json!({ "node-name": disk.node(), "size": bytes })).map(drop)
    }

    /// How many writes the guest has sent to a disk so far.
    pub fn writes(&mut self, disk: &Disk) -> Result<u64> {
        let stats = self.qmp.execute("query-blockstats", &json!({}))?;
        let node = disk.node();
        let of_disk = stats.as_array().and_then(|all| {
            all.iter().find(|entry| entry.get("node-name").and_then(|name| name.as_str()) == Some(&node))
        });
        let writes = of_disk.and_then(|entry| entry.get("stats")?.get("wr_operations")?.as_u64());
        writes.with_context(|| format!("QEMU counts no writes to {node}: {stats}"))
    }

    /// True if these bytes are anywhere in the guest's memory.
    pub fn memory_contains(&mut self, needle: &[u8]) -> Result<bool> {
        self.memory_count(needle).map(|count| count > 0)
    }

    /// How often these bytes are in the guest's memory, which stands still while it is written to a file and searched.
    /// It is physical memory: what lies across two pages that are not neighbours is not found. A test that expects
    /// nothing shows with [`Self::memory_contains`] and a word of the command line that the search finds things.
    pub fn memory_count(&mut self, needle: &[u8]) -> Result<usize> {
        let dir = tempfile::tempdir_in(crate::kit::cache_of_tests("run")?).context("a directory for guest memory")?;
        let path = dir.path().join("memory");
        let arguments = json!({ "paging": false, "protocol": format!("file:{}", path.display()) });
        self.qmp.execute("dump-guest-memory", &arguments)?;
        let file = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        memory::count(file, needle).with_context(|| format!("reading {}", path.display()))
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", &json!({})).map(drop)
    }

    /// `running`, `paused`, `shutdown`...
    pub fn status(&mut self) -> Result<String> {
        let answer = self.qmp.execute("query-status", &json!({}))?;
        Ok(answer.get("status").and_then(|s| s.as_str()).unwrap_or("?").to_owned())
    }

    /// Waits until the guest has switched itself off, in a machine that stays all the same (`-no-shutdown`).
    pub fn wait_off(&mut self, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + self.accel.limit(seconds);
        loop {
            match self.status()? {
                off if off == "shutdown" => return Ok(()),
                other if Instant::now() >= deadline => bail!("the guest is still {other}"),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Pulls the plug; all that was said on the second serial line until then.
    pub fn pulled(mut self) -> Result<String> {
        self.guard.child.kill().context("killing QEMU")?;
        self.guard.child.wait().context("waiting for QEMU")?;
        self.report.expect_end(self.deadline(10))?;
        Ok(self.report.text())
    }

    /// Pulls the plug.
    pub fn kill(mut self) -> Result<()> {
        self.guard.child.kill().context("killing QEMU")?;
        self.guard.child.wait().context("waiting for QEMU").map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.console.expect_end(Instant::now()).is_ok() && self.guard.crashed() {
                eprintln!("--- {}: QEMU crashed (its words are in out/vm-logs/{}.qemu.log)", self.name, self.name);
                scenario::blame_emulator();
            }
            eprintln!("--- {}: last lines of the console ({})", self.name, self.console.log.display());
            eprintln!("{}", self.console.tail(60));
            eprintln!("--- {}: last lines of the report ({})", self.name, self.report.log.display());
            eprintln!("{}", self.report.tail(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_crash_is_told_from_an_exit() {
        let ends = |script: &str| {
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            Guard { child, sockets: TempDir::new().unwrap() }.crashed()
        };
        assert!(ends("ulimit -c 0; kill -ABRT $$"));
        assert!(!ends("exit 1"));
        assert!(!ends("kill -KILL $$"));
    }
}
