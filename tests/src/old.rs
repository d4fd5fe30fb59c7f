//! A machine with a system of its own: a small one on an ext4, whose disk starts by UEFI. It is what a takeover replaces.
//!
//! Its PID 1 is a shell that takes commands from the second serial line, so that a test types them without a login.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taproot::uki::write::{Parts, write};

use crate::image;
use crate::kit::{self, System};
use crate::small::{put, tree};
use crate::vm::{Disk, Running, Scratch, Vm};

/// The serial number of its disk.
pub const SERIAL: &str = "old0";
/// What it says when it is up.
pub const UP: &str = "@@OLD-SYSTEM-UP";
/// What it says behind the output of a command, before its status.
const STATUS: &str = "@@STATUS ";

/// PID 1 of such a system. The line is not echoed, so that what is typed is not taken for an answer.
pub const INIT: &str = r#"#!/bin/sh
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty -echo -opost
mount -t tmpfs tmpfs /var/tmp
echo "@@OLD-SYSTEM"-UP
while :; do
    read -r line || continue
    sh -c "$line"
    echo "@@STATUS $?"
done
"#;

/// The GUID of the root's partition.
const PARTUUID: &str = "01d01d01-1111-4000-8000-000000000001";
/// Bytes of the boot loader's partition and of the root.
const ESP: u64 = 96 << 20;
const ROOT: u64 = 512 << 20;
const MIB: u64 = 1 << 20;

/// Makes the disk: this program and these files are in the system, which does not write to it.
pub fn disk(system: &System, scratch: &Scratch, files: &[(&str, &Path)]) -> Result<Disk> {
    let dir = scratch.path().join("old");
    tree(system, &dir, files)?;
    let program = image::builder();
    fs::copy(&program, dir.join("usr/bin/taproot")).with_context(|| format!("copying {}", program.display()))?;
    put(&dir, "usr/bin/init", INIT, 0o755)?;
    put(&dir, "etc/hostname", "old\n", 0o644)?;
    put(&dir, "etc/fstab", &format!("PARTUUID={PARTUUID} / ext4 ro 0 0\n"), 0o644)?;

    let [root, esp, path] = ["root.img", "esp.img", "old.img"].map(|name| scratch.path().join(name));
    let blank = |path: &Path, bytes: u64| {
        let file = fs::File::create(path).and_then(|file| file.set_len(bytes));
        file.with_context(|| format!("creating {}", path.display()))
    };
    for (path, bytes) in [(&root, ROOT), (&esp, ESP), (&path, ESP + ROOT + 4 * MIB)] {
        blank(path, bytes)?;
    }
    kit::run(Command::new("mkfs.ext4").args(["-q", "-L", "OLD", "-d"]).arg(&dir).arg(&root))?;
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;

    let loader = scratch.path().join("boot.efi");
    fs::write(&loader, unified(system)?).with_context(|| format!("writing {}", loader.display()))?;
    kit::run(Command::new("mkfs.vfat").args(["-F", "32"]).arg(&esp))?;
    kit::run(Command::new("mmd").arg("-i").arg(&esp).args(["::EFI", "::EFI/BOOT"]))?;
    kit::run(Command::new("mcopy").arg("-i").arg(&esp).arg(&loader).arg("::EFI/BOOT/BOOTX64.EFI"))?;

    let sectors = |at: u64, bytes: u64| format!("{}:{}", at / 512, (at + bytes) / 512 - 1);
    let (esp_at, root_at) = (MIB, MIB + ESP);
    let mut table = Command::new("sgdisk");
    table.arg("--clear").arg(format!("--new=1:{}", sectors(esp_at, ESP))).arg("--typecode=1:ef00");
    table.arg(format!("--new=2:{}", sectors(root_at, ROOT))).arg(format!("--partition-guid=2:{PARTUUID}"));
    kit::run(table.arg(&path))?;
    for (from, at) in [(&esp, esp_at), (&root, root_at)] {
        let seek = format!("seek={}", at / MIB);
        let (from, to) = (format!("if={}", from.display()), format!("of={}", path.display()));
        kit::run(Command::new("dd").args([&from, &to, &seek, "bs=1M", "conv=notrunc,sparse", "status=none"]))?;
    }
    for done in [&root, &esp, &loader] {
        fs::remove_file(done).with_context(|| format!("removing {}", done.display()))?;
    }
    Ok(Disk::writable(&path, "raw", SERIAL))
}

/// What the firmware starts: the kernel, and an image that mounts the root.
fn unified(system: &System) -> Result<Vec<u8>> {
    const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let image = image::cached(system, &["--modules", "generic", "--rescue", "none", "--fsck", "none"])?;
    let cmdline = format!("console=ttyS0 no_timer_check root=PARTUUID={PARTUUID} ro");
    Ok(write(
        &read(Path::new(STUB))?,
        Parts {
            os_release: "ID=old\nNAME=old\n",
            cmdline: &cmdline,
            release: &system.kernel,
            kernel: read(&system.vmlinuz())?.into(),
            initrd: read(&image)?.into(),
        },
    )?)
}

/// The machine; what restarts in it starts by its firmware again.
pub fn machine(name: &str, system: &System, disk: &Disk) -> Vm {
    Vm::from_disk(name, system, disk.clone()).uefi().reboots().memory(1024)
}

/// Waits until the system is up.
pub fn up(vm: &Running, seconds: u64) -> Result<()> {
    vm.wait_report(UP, seconds)?;
    vm.wait_report("\n", seconds)
}

/// Types a command; what it printed, once it has ended well.
pub fn command(vm: &Running, line: &str, seconds: u64) -> Result<String> {
    let (printed, status) = tried(vm, line, seconds)?;
    ensure!(status == "0", "{line}: status {status}\n{printed}");
    Ok(printed)
}

/// Types a command; what it printed, and its status.
pub fn tried(vm: &Running, line: &str, seconds: u64) -> Result<(String, String)> {
    let begin = vm.report.cursor();
    vm.report.send(&format!("{line}\n"))?;
    vm.wait_report(STATUS, seconds)?;
    vm.wait_report("\n", seconds)?;
    let text = vm.report.text();
    let said = text.get(begin..vm.report.cursor()).unwrap_or_default();
    let (printed, status) = said.rsplit_once(STATUS).context("no status")?;
    Ok((printed.to_owned(), status.trim().to_owned()))
}
