//! A virtual machine: what it is made of, and the running one.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;
use tempfile::TempDir;

use super::accel::{Accel, accel};
use super::disk::{Bus, Disk};
use super::qmp::Qmp;
use super::report::Report;
use super::stream::Stream;
use crate::kit::System;
use crate::words;

/// What a virtual machine is made of.
#[derive(Debug)]
pub struct Vm {
    name: String,
    kernel: PathBuf,
    initrd: PathBuf,
    append: Vec<String>,
    disks: Vec<Disk>,
    memory: u32,
    cpus: u32,
    files: Vec<(String, Vec<u8>)>,
    reboots: bool,
    extra: Vec<String>,
}

impl Vm {
    /// A machine with the kernel of `system`; `name` names its logs (`out/vm-logs/NAME.*`).
    pub fn new(name: &str, system: &System, initrd: &Path) -> Self {
        Self {
            name: format!("{}.{name}", system.name),
            kernel: system.vmlinuz(),
            initrd: initrd.to_owned(),
            append: vec!["console=ttyS0".to_owned()],
            disks: Vec::new(),
            memory: 1024,
            cpus: 2,
            files: Vec::new(),
            reboots: false,
            extra: Vec::new(),
        }
    }

    /// The helper: the kit's own system from squashfs, in which `script` (bash) runs with the stock zpool and zfs.
    pub fn helper(name: &str, system: &System, script: &str) -> Self {
        Self::new(name, system, &system.helper_initrd())
            .append("quiet")
            .disk(Disk::read_only(&system.squashfs(), "kit-system"))
            .file("opt/taproot/script", script.as_bytes())
    }

    /// Lets the kernel find no console, so that `/init` starts with closed standard streams.
    #[must_use]
    pub fn without_console(mut self) -> Self {
        // The kernel then enables none at all, because a console was named.
        if let Some(console) = self.append.first_mut() {
            "console=ttyS9".clone_into(console);
        }
        self
    }

    /// Adds words to the kernel command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Self {
        self.append.push(words.to_owned());
        self
    }

    /// Attaches a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Attaches disks, in this order.
    #[must_use]
    pub fn disks(mut self, disks: impl IntoIterator<Item = Disk>) -> Self {
        self.disks.extend(disks);
        self
    }

    /// Memory in MiB (default 1024).
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Processors (default 2).
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// Gives the guest a file through `fw_cfg`; names begin with `opt/`.
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// A reboot of the guest starts it again (else it ends the machine).
    #[must_use]
    pub fn reboots(mut self) -> Self {
        self.reboots = true;
        self
    }

    /// Further arguments for QEMU.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Running> {
        let accel = accel()?;
        // Socket names are limited to 108 bytes, so they are not in the kit's cache.
        let sockets = tempfile::Builder::new().prefix("taproot-vm.").tempdir().context("a directory for sockets")?;
        let logs = crate::checkout().join("out/vm-logs");
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        let listen = |name: &str| {
            let path = sockets.path().join(name);
            UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))
        };
        let (console, report, qmp) = (listen("console")?, listen("report")?, listen("qmp")?);

        let qemu_log = logs.join(format!("{}.qemu.log", self.name));
        let output = fs::File::create(&qemu_log).with_context(|| format!("creating {}", qemu_log.display()))?;
        let errors = output.try_clone().context("cloning a file handle")?;
        let started = Instant::now();
        let child = Command::new("qemu-system-x86_64")
            .args(self.arguments(accel, sockets.path())?)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .context("starting qemu-system-x86_64")?;
        let mut guard = Guard { child, sockets };
        let mut connect = |listener: &UnixListener| guard.accept(listener, &qemu_log);
        let console = Stream::new(connect(&console)?, &logs.join(format!("{}.console.log", self.name)))?;
        let report = Stream::new(connect(&report)?, &logs.join(format!("{}.report.log", self.name)))?;
        let qmp = Qmp::new(connect(&qmp)?)?;
        Ok(Running { console, report, qmp, accel, started, name: self.name, guard })
    }

    fn arguments(&self, accel: Accel, dir: &Path) -> Result<Vec<OsString>> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["-accel", accel.argument(), "-nodefaults", "-display", "none"]);
        add(&["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        if !self.reboots {
            add(&["-no-reboot"]);
        }
        for (name, use_) in [("console", "-serial"), ("report", "-serial")] {
            add(&[
                "-chardev",
                &format!("socket,id={name},path={}/{name}", dir.display()),
                use_,
                &format!("chardev:{name}"),
            ]);
        }
        add(&["-chardev", &format!("socket,id=qmp,path={}/qmp", dir.display()), "-mon", "chardev=qmp,mode=control"]);
        add(&["-kernel", utf8(&self.kernel)?, "-initrd", utf8(&self.initrd)?, "-append", &self.append.join(" ")]);
        for (number, (name, content)) in self.files.iter().enumerate() {
            let path = dir.join(format!("fw{number}"));
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            add(&["-fw_cfg", &format!("name={name},file={}", path.display())]);
        }
        for (bus, device) in
            [(Bus::Scsi, "virtio-scsi-pci,id=scsi"), (Bus::Ahci, "ahci,id=ahci"), (Bus::Usb, "qemu-xhci,id=xhci")]
        {
            if self.disks.iter().any(|d| d.bus == bus) {
                add(&["-device", device]);
            }
        }
        let mut ahci_port = 0;
        for disk in &self.disks {
            let (node, serial) = (disk.node(), &disk.serial);
            add(&["-blockdev", &disk.blockdev().to_string()]);
            let device = match disk.bus {
                Bus::Virtio => format!("virtio-blk-pci,drive={node},serial={serial},id=disk-{serial}"),
                Bus::Scsi => format!("scsi-hd,bus=scsi.0,drive={node},serial={serial}"),
                Bus::Nvme => format!("nvme,drive={node},serial={serial}"),
                Bus::Ahci => {
                    ahci_port += 1;
                    format!("ide-hd,bus=ahci.{},drive={node},serial={serial}", ahci_port - 1)
                }
                Bus::Usb => format!("usb-storage,bus=xhci.0,drive={node},serial={serial}"),
            };
            add(&["-device", &device]);
        }
        args.extend(self.extra.iter().map(OsString::from));
        Ok(args)
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| anyhow!("{}: not UTF-8", path.display()))
}

/// The QEMU process; killed when dropped.
#[derive(Debug)]
struct Guard {
    child: Child,
    #[expect(dead_code, reason = "the directory lives as long as the process")]
    sockets: TempDir,
}

impl Guard {
    /// Waits until QEMU, which was just started, connects to one of our sockets.
    fn accept(&mut self, listener: &UnixListener, log: &Path) -> Result<UnixStream> {
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
    /// Second serial line: what the guest reports.
    pub report: Stream,
    /// QEMU's control connection.
    pub qmp: Qmp,
    /// What it runs on.
    pub accel: Accel,
    /// When it was started.
    pub started: Instant,
    name: String,
    guard: Guard,
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

    /// Types a line on the console.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.console.send(&format!("{line}\r"))
    }

    /// Sends a key or control character on the console (`"\x03"` is Ctrl-C).
    pub fn send_key(&self, key: &str) -> Result<()> {
        self.console.send(key)
    }

    /// Waits for the next report of the guest. Fails at once when the kernel panics.
    pub fn report(&self, seconds: u64) -> Result<Report> {
        self.wait_report("@@REPORT-BEGIN", seconds)?;
        let begin = self.report.cursor();
        self.wait_report("@@REPORT-END", seconds)?;
        let text = self.report.text();
        Report::parse(text.get(begin..self.report.cursor()).unwrap_or_default())
    }

    /// Waits for a text on the report line, with an eye on the console.
    pub fn wait_report(&self, pattern: &str, seconds: u64) -> Result<()> {
        let deadline = self.deadline(seconds);
        loop {
            if let Some(what) = self.console.panicked() {
                bail!("{what} while waiting for {pattern:?}");
            }
            // Short turns, because the panic shows on the other line.
            let turn = Instant::now() + Duration::from_millis(500);
            match self.report.expect_any(&[pattern], turn.min(deadline)) {
                Ok(_) => return Ok(()),
                Err(_) if self.console.fresh().contains(words::PROMPT) => {
                    bail!("the boot ended in the rescue prompt; expected {pattern:?} on the report line")
                }
                Err(error) if turn >= deadline || self.report_closed() => return Err(error),
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
        self.guard.child.wait().context("waiting for QEMU").map(drop)
    }

    /// Plugs a disk in while the machine runs (virtio only).
    pub fn plug(&mut self, disk: &Disk) -> Result<()> {
        self.qmp.execute("blockdev-add", &disk.blockdev())?;
        let device = json!({ "driver": "virtio-blk-pci", "drive": disk.node(), "serial": disk.serial, "id": format!("disk-{}", disk.serial) });
        self.qmp.execute("device_add", &device).map(drop)
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

    /// Pulls the plug.
    pub fn kill(mut self) -> Result<()> {
        self.guard.child.kill().context("killing QEMU")?;
        self.guard.child.wait().context("waiting for QEMU").map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}: last lines of the console ({})", self.name, self.console.log.display());
            eprintln!("{}", self.console.tail(60));
            eprintln!("--- {}: last lines of the report ({})", self.name, self.report.log.display());
            eprintln!("{}", self.report.tail(20));
        }
    }
}
