//! A virtual machine: what it is made of.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use super::accel::{Accel, accel};
use super::disk::{Bus, Disk};
use super::firmware;
use super::qmp::Qmp;
use super::running::{Guard, Running};
use super::stream::Stream;
use super::warm;
use crate::kit::{self, System};

/// How many entries of a machine's words every machine has.
const COMMON_WORDS: usize = 1;

/// Where a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With its kernel.
    Cold,
    /// At the prompt of another one's kept state, if it may.
    Warm,
}

/// What a virtual machine is made of.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // one a switch
pub struct Vm {
    name: String,
    kernel: PathBuf,
    initrd: PathBuf,
    own_loader: bool,
    append: Vec<String>,
    disks: Vec<Disk>,
    memory: u32,
    cpus: u32,
    files: Vec<(String, Vec<u8>)>,
    reboots: bool,
    uefi: bool,
    secure_boot: bool,
    variables: Option<PathBuf>,
    second_console: bool,
    pcie: bool,
    extra: Vec<String>,
    start: Start,
}

impl Vm {
    /// A machine with the kernel of `system`; `name` names its logs (`out/vm-logs/NAME.*`).
    pub fn new(name: &str, system: &System, initrd: &Path) -> Self {
        Self {
            name: format!("{}.{name}", system.name),
            kernel: system.vmlinuz(),
            initrd: initrd.to_owned(),
            own_loader: false,
            // On a busy host without KVM the timer's interrupts come too late for the kernel's test of them, and it panics.
            append: vec!["console=ttyS0 no_timer_check".to_owned()],
            disks: Vec::new(),
            memory: 1024,
            cpus: 1,
            files: Vec::new(),
            reboots: false,
            uefi: false,
            secure_boot: false,
            variables: None,
            second_console: false,
            pcie: false,
            extra: Vec::new(),
            start: Start::Cold,
        }
    }

    /// The helper: the kit's own system from squashfs, in which `script` (bash) runs with the stock zpool and zfs.
    /// Appending `helper.hostid=0xdeadbeef` and `helper.hostname=elsewhere` makes it another host than the kit systems.
    pub fn helper(name: &str, system: &System, script: &str) -> Self {
        // `zpool import` without a place to look waits half a minute for udev, which is not there.
        let script = format!("export ZPOOL_IMPORT_PATH=/dev/disk/by-id\n{script}");
        Self::new(name, system, &system.helper_initrd())
            .append("quiet")
            .disk(Disk::read_only(&system.squashfs(), "kit-system"))
            .file("opt/taproot/script", script.as_bytes())
    }

    /// A machine whose firmware starts what is on its disk: nothing is given to it from outside. The disk's boot loader says the words.
    pub fn from_disk(name: &str, system: &System, disk: Disk) -> Self {
        Self { own_loader: true, ..Self::new(name, system, Path::new("/")) }.disk(disk)
    }

    /// Lets the kernel find no console, so that `/init` starts with closed standard streams.
    #[must_use]
    pub fn without_console(mut self) -> Self {
        // The kernel then enables none at all, because a console was named.
        if let Some(console) = self.append.first_mut() {
            "console=ttyS9 no_timer_check".clone_into(console);
        }
        self
    }

    /// Boots another kernel than the system's own.
    #[must_use]
    pub fn kernel(mut self, kernel: &Path) -> Self {
        kernel.clone_into(&mut self.kernel);
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

    /// Processors (default 1: emulated, a second one costs a third more; what goes on side by side is tested with two).
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

    /// Boots under UEFI (OVMF) with a variable store of its own, which a reboot of the guest does not change. The kernel
    /// and the initramfs are given as ever; the firmware says a few lines on the console first.
    #[must_use]
    pub fn uefi(mut self) -> Self {
        self.uefi = true;
        self
    }

    /// As [`Vm::uefi`], with the variable store in this file, for several machines one after the other.
    #[must_use]
    pub fn uefi_with(mut self, variables: &Path) -> Self {
        self.variables = Some(variables.to_owned());
        self.uefi()
    }

    /// As [`Vm::uefi`], with Secure Boot: what nobody signed by [`firmware::KEY`] is not started.
    #[must_use]
    pub fn secure_boot(mut self) -> Self {
        self.secure_boot = true;
        self.uefi()
    }

    /// Adds a virtio console, `hvc0`: [`Running::console2`]. `/dev/console` stays the serial line. Not another serial line,
    /// because the kernel takes one console of each kind (`admin-guide/serial-console.rst`). Kernel 6.1 has its driver,
    /// `virtio_console`, as a module.
    #[must_use]
    pub fn second_console(mut self) -> Self {
        self.second_console = true;
        self
    }

    /// A machine with PCI Express (q35), each virtio or NVMe disk and each controller of disks behind a root port of its own.
    #[must_use]
    pub fn pcie(mut self) -> Self {
        self.pcie = true;
        self
    }

    /// Further arguments for QEMU.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// The words of the test: those that every machine gets are left out.
    pub(super) fn words(&self) -> String {
        self.append.get(COMMON_WORDS..).unwrap_or_default().join(" ")
    }

    /// The same machine with other words and without its disks; and those.
    pub(super) fn stripped(&self, words: &str) -> (Self, Vec<Disk>) {
        let mut vm = self.clone();
        vm.append.truncate(COMMON_WORDS);
        vm.append.push(words.to_owned());
        (Self { disks: Vec::new(), ..vm }, self.disks.clone())
    }

    /// What tells a state of this machine, with these words and without its disks, from others.
    pub(super) fn key(&self, words: &str) -> Result<String> {
        let (mut vm, _) = self.stripped(words);
        vm.files.clear();
        let mut key = DefaultHasher::new();
        for argument in vm.arguments(accel()?, Path::new("/"))? {
            argument.hash(&mut key);
        }
        for file in [&self.kernel, &self.initrd] {
            let meta = fs::metadata(file).with_context(|| format!("{}", file.display()))?;
            (meta.len(), meta.modified().context("time of a file")?).hash(&mut key);
        }
        kit::run(Command::new("qemu-system-x86_64").arg("--version"))?.hash(&mut key);
        Ok(format!("{:016x}", key.finish()))
    }

    /// Lets it go on from the kept state of another one, if that makes no difference to what it is told here
    /// (`vm/warm.rs`). For machines whose initramfs is ours.
    #[must_use]
    pub fn warm(mut self) -> Self {
        self.start = Start::Warm;
        self
    }

    /// Lets it start from the beginning: for what happens before the prompt.
    #[must_use]
    pub fn cold(mut self) -> Self {
        self.start = Start::Cold;
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Running> {
        let plain = !(self.uefi || self.reboots || self.second_console || self.pcie) && self.extra.is_empty();
        if self.start == Start::Warm && plain && warm::fits(&self.words(), &self.disks) && warm::is_possible() {
            return self.start_warm();
        }
        self.launch(&[])
    }

    /// Starts QEMU with further arguments.
    pub(super) fn launch(self, more: &[&str]) -> Result<Running> {
        let accel = accel()?;
        crate::scenario::starts(&self.name);
        // Socket names are limited to 108 bytes, so they are not in the kit's cache.
        let sockets = tempfile::Builder::new().prefix("taproot-vm.").tempdir().context("a directory for sockets")?;
        let logs = crate::checkout().join("out/vm-logs");
        fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
        let listen = |name: &str| {
            let path = sockets.path().join(name);
            UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))
        };
        let (console, report, qmp) = (listen("console")?, listen("report")?, listen("qmp")?);
        let console2 = self.second_console.then(|| listen("console2")).transpose()?;

        let qemu_log = logs.join(format!("{}.qemu.log", self.name));
        let output = fs::File::create(&qemu_log).with_context(|| format!("creating {}", qemu_log.display()))?;
        let errors = output.try_clone().context("cloning a file handle")?;
        let started = Instant::now();
        let child = Command::new("qemu-system-x86_64")
            .args(self.arguments(accel, sockets.path())?)
            .args(more)
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
        let console2 = match console2 {
            Some(listener) => {
                Some(Stream::new(connect(&listener)?, &logs.join(format!("{}.console2.log", self.name)))?)
            }
            None => None,
        };
        Ok(Running { console, console2, report, qmp, accel, started, name: self.name, guard })
    }

    fn arguments(&self, accel: Accel, dir: &Path) -> Result<Vec<OsString>> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["-accel", accel.argument(), "-nodefaults", "-display", "none"]);
        if self.secure_boot {
            add(&firmware::GUARDED);
        } else if self.pcie {
            add(&["-machine", "q35"]);
        }
        add(&["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        if !self.reboots {
            add(&["-no-reboot"]);
        }
        let socket = |name: &str| format!("socket,id={name},path={}/{name}", dir.display());
        for name in ["console", "report"] {
            add(&["-chardev", &socket(name), "-serial", &format!("chardev:{name}")]);
        }
        add(&["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
        let mut append = self.append.join(" ");
        if self.second_console {
            add(&["-chardev", &socket("console2"), "-device", "virtio-serial-pci"]);
            add(&["-device", "virtconsole,chardev=console2"]);
            // The last console named is /dev/console.
            append.insert_str(0, "console=hvc0 ");
        }
        if !self.own_loader {
            add(&["-kernel", utf8(&self.kernel)?, "-initrd", utf8(&self.initrd)?, "-append", &append]);
        }
        if self.uefi {
            let own = dir.join("uefi-variables");
            for drive in firmware::drives(self.variables.as_ref().unwrap_or(&own), self.secure_boot)? {
                add(&["-drive", &drive]);
            }
        }
        for (number, (name, content)) in self.files.iter().enumerate() {
            let path = dir.join(format!("fw{number}"));
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            add(&["-fw_cfg", &format!("name={name},file={}", path.display())]);
        }
        for word in self.disk_arguments() {
            add(&[&word]);
        }
        args.extend(self.extra.iter().map(OsString::from));
        Ok(args)
    }

    /// The disks and what they hang on.
    fn disk_arguments(&self) -> Vec<String> {
        let controllers = [
            (Bus::Scsi, "virtio-scsi-pci,id=scsi"),
            (Bus::Ahci, "ahci,id=ahci"),
            (Bus::Usb, "qemu-xhci,id=xhci"),
            (Bus::Sas, "megasas-gen2,id=sas"),
        ];
        let there = controllers.into_iter().filter(|(bus, _)| self.disks.iter().any(|disk| disk.bus == *bus));
        let mut devices: Vec<(bool, String)> = there.map(|(_, device)| (true, device.to_owned())).collect();
        let mut ahci_ports = 0..;
        for disk in &self.disks {
            let device = match disk.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Scsi => "scsi-hd,bus=scsi.0".to_owned(),
                Bus::Nvme => "nvme".to_owned(),
                Bus::Ahci => format!("ide-hd,bus=ahci.{}", ahci_ports.next().unwrap_or(0)),
                Bus::Usb => "usb-storage,bus=xhci.0".to_owned(),
                Bus::Sas => "scsi-hd,bus=sas.0".to_owned(),
            };
            let serial = &disk.serial;
            let device = format!("{device},drive={},serial={serial},id=disk-{serial}", disk.node());
            devices.push((matches!(disk.bus, Bus::Virtio | Bus::Nvme), device));
        }
        let nodes = self.disks.iter().flat_map(|disk| ["-blockdev".to_owned(), disk.blockdev().to_string()]);
        let mut args: Vec<String> = nodes.collect();
        for (number, (on_pci, device)) in devices.into_iter().enumerate() {
            if self.pcie && on_pci {
                args.extend(["-device".to_owned(), format!("pcie-root-port,id=port{number},chassis={number}")]);
                args.extend(["-device".to_owned(), format!("{device},bus=port{number}")]);
            } else {
                args.extend(["-device".to_owned(), device]);
            }
        }
        args
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| anyhow!("{}: not UTF-8", path.display()))
}
