//! What the machine is, and whether it can be taken over. Everything that stands against it is said at once.

use std::fs;
use std::path::{Path, PathBuf};

use super::disk::Identity;
use super::image::Shape;
use super::orders::Measure;
use crate::progress::megabytes;

/// Memory that the system in memory works with, beside what is packed.
const WORK: u64 = 256 << 20;

/// Whether this kernel starts others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kexec {
    /// It can.
    There,
    /// It was built without.
    Absent,
    /// It was told not to, until it restarts.
    Disabled,
}

/// What is known of the running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether we may do everything here.
    pub(super) root: bool,
    /// What kind of container this is.
    pub(super) container: Option<String>,
    /// A Xen guest without hardware virtualisation, whose kernel cannot start another.
    pub(super) paravirtual: bool,
    /// Processor, as `uname -m` has it.
    pub(super) machine: &'static str,
    /// It was started by UEFI firmware.
    pub(super) uefi: bool,
    /// Whether it starts other kernels.
    pub(super) kexec: Kexec,
    /// What the kernel is locked down to.
    pub(super) lockdown: Option<String>,
    /// Bytes of memory, and those that are free.
    pub(super) memory: (u64, u64),
    /// The running kernel's file.
    pub(super) kernel: Option<PathBuf>,
    /// Release of the running kernel.
    pub(super) release: String,
    /// The kernel's consoles, of which one must be in reach.
    pub(super) consoles: Vec<String>,
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

/// What systemd, Docker, Podman and `OpenVZ` leave in their containers.
fn container(root: &Path) -> Option<String> {
    let environment = fs::read(root.join("proc/1/environ")).unwrap_or_default();
    let named = environment.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(b"container="));
    if let Some(name) = named {
        return Some(String::from_utf8_lossy(name).into_owned());
    }
    let told = text(&root.join("run/systemd/container"));
    let there = |path: &str| root.join(path).exists();
    match () {
        () if !told.is_empty() => Some(told),
        () if there(".dockerenv") => Some("docker".to_owned()),
        () if there("run/.containerenv") => Some("podman".to_owned()),
        () if there("proc/vz") && !there("proc/bc") => Some("openvz".to_owned()),
        () => None,
    }
}

impl Facts {
    /// Looks at the machine below `root` (`/`).
    pub(super) fn gather(root: &Path) -> Self {
        let read = |path: &str| text(&root.join(path));
        let release = read("proc/sys/kernel/osrelease");
        let kernels = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
        let lockdown = read("sys/kernel/security/lockdown");
        let chosen = lockdown.split('[').nth(1).and_then(|rest| rest.split(']').next());
        let loaded = root.join("sys/kernel/kexec_loaded").exists();
        let memory = read("proc/meminfo");
        Self {
            root: nix::unistd::geteuid().is_root(),
            container: container(root),
            paravirtual: read("sys/hypervisor/type") == "xen" && read("sys/hypervisor/guest_type") == "PV",
            machine: std::env::consts::ARCH,
            uefi: root.join("sys/firmware/efi").exists(),
            kexec: match read("proc/sys/kernel/kexec_load_disabled").as_str() {
                "1" => Kexec::Disabled,
                _ if loaded => Kexec::There,
                _ => Kexec::Absent,
            },
            lockdown: chosen.filter(|chosen| *chosen != "none").map(str::to_owned),
            memory: (meminfo(&memory, "MemTotal"), meminfo(&memory, "MemAvailable")),
            kernel: kernels.iter().map(|path| root.join(path)).find(|path| path.is_file()),
            release,
            consoles: read("sys/class/tty/console/active").split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// What stands against it, before the image is known.
    pub(super) fn against(&self) -> Vec<String> {
        let mut list = Vec::new();
        let mut add = |is: bool, what: String| list.extend(is.then_some(what));
        add(!self.root, "expected root, found an ordinary user: run it as root".to_owned());
        if let Some(kind) = &self.container {
            add(
                true,
                format!("expected a machine, found a container ({kind}), which has no kernel of its own to replace"),
            );
        }
        add(self.machine != "x86_64", format!("expected an x86_64 processor, found {}", self.machine));
        add(self.paravirtual, "expected a kernel that can start another, found a Xen PV guest; have the provider boot a rescue system, and write the image there".to_owned());
        match self.kexec {
            Kexec::There => {}
            Kexec::Absent => add(true, "expected a kernel with kexec (CONFIG_KEXEC), found none; boot the distribution's kernel".to_owned()),
            Kexec::Disabled => add(true, "kernel.kexec_load_disabled is 1, which holds until the next start: look for it in /etc/sysctl.d, and restart".to_owned()),
        }
        add(
            self.kernel.is_none(),
            format!(
                "expected the running kernel {} in /boot/vmlinuz-{0}, found none: it was removed since it was booted; restart, or give one by --kernel",
                self.release
            ),
        );
        add(
            self.consoles.is_empty(),
            "expected a console on which the takeover is confirmed (serial line or screen), found none; boot with console=ttyS0 or console=tty0".to_owned(),
        );
        list
    }
}

/// What stands against writing this image to this disk of this machine; `packed`: bytes of the system in memory, image included.
pub(super) fn unfit(facts: &Facts, disk: &Identity, image: &Measure, shape: &Shape, packed: u64) -> Vec<String> {
    let mut list = Vec::new();
    let mut add = |is: bool, what: String| list.extend(is.then_some(what));
    add(
        image.bytes > disk.bytes,
        format!("the image has {} bytes, the disk {}: make a smaller image", image.bytes, disk.bytes),
    );
    add(
        shape.sector != disk.sector,
        format!(
            "the image was made for sectors of {} bytes, the disk has {}: make it for this disk",
            shape.sector, disk.sector
        ),
    );
    add(facts.uefi && !shape.uefi, "this machine starts by UEFI, and the image has no EFI system partition".to_owned());
    add(
        !facts.uefi && !shape.bios,
        "this machine starts by BIOS, and the image has no boot code in its first sector: make it with GRUB".to_owned(),
    );
    add(
        !disk.is_known(),
        "the disk has neither a serial number nor a partition table by which another kernel could know it again"
            .to_owned(),
    );
    let (total, free) = facts.memory;
    let needs = packed.saturating_mul(2).saturating_add(WORK);
    let says = |what: &str, found: u64| {
        format!(
            "the image and what writes it are {} in memory, for which {} of memory are needed, {} are {what}: compress the image better (zstd -19), or make a smaller one; swap does not count",
            megabytes(packed),
            megabytes(needs),
            megabytes(found)
        )
    };
    add(total < needs, says("there", total));
    add(total >= needs && free < packed.saturating_mul(2), says("free", free));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.1.0-1-amd64\n"),
            ("proc/sys/kernel/kexec_load_disabled", "0\n"),
            ("sys/kernel/kexec_loaded", "0\n"),
            ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
            ("sys/class/tty/console/active", "tty0 ttyS0\n"),
            ("proc/meminfo", "MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:     800000 kB\n"),
            ("boot/vmlinuz-6.1.0-1-amd64", "kernel"),
            ("proc/1/environ", "PATH=/bin\0TERM=linux\0"),
        ] {
            put(dir.path(), path, text);
        }
        dir
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn facts(root: &Path) -> Facts {
        Facts { root: true, ..Facts::gather(root) }
    }

    #[test]
    fn a_machine_is_known() {
        let dir = machine();
        let facts = facts(dir.path());
        assert_eq!(facts.against(), Vec::<String>::new());
        assert_eq!(facts.memory, (1_024_000_000, 819_200_000));
        assert_eq!((facts.uefi, facts.lockdown, facts.kexec), (false, None, Kexec::There));
        assert_eq!(facts.consoles, ["tty0", "ttyS0"]);
    }

    #[test]
    fn everything_that_stands_against_it_is_told_at_once() {
        for (path, text, told) in [
            ("proc/1/environ", "A=b\0container=lxc\0", "a container (lxc)"),
            ("run/systemd/container", "systemd-nspawn", "a container (systemd-nspawn)"),
            (".dockerenv", "", "a container (docker)"),
            ("proc/vz", "", "a container (openvz)"),
            ("proc/sys/kernel/kexec_load_disabled", "1\n", "kexec_load_disabled is 1"),
            ("sys/class/tty/console/active", "", "expected a console"),
            ("proc/sys/kernel/osrelease", "6.2\n", "/boot/vmlinuz-6.2, found none"),
        ] {
            let dir = machine();
            put(dir.path(), path, text);
            let against = facts(dir.path()).against();
            assert!(against.len() == 1 && against.concat().contains(told), "{told}: {against:?}");
        }
        let dir = machine();
        put(dir.path(), "sys/hypervisor/type", "xen");
        put(dir.path(), "sys/hypervisor/guest_type", "PV");
        fs::remove_file(dir.path().join("sys/kernel/kexec_loaded")).unwrap();
        let against = Facts { root: false, machine: "aarch64", ..facts(dir.path()) }.against();
        for told in ["expected root", "x86_64", "Xen PV", "CONFIG_KEXEC"] {
            assert!(against.iter().any(|line| line.contains(told)), "{told}: {against:?}");
        }
        put(dir.path(), "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
        assert_eq!(facts(dir.path()).lockdown.as_deref(), Some("integrity"));
    }

    #[test]
    fn image_disk_and_memory_must_fit() {
        let dir = machine();
        let facts = facts(dir.path());
        let disk = Identity { serial: Some("A".into()), bytes: 1 << 30, sector: 512, ..Identity::default() };
        let image = Measure { bytes: 1 << 30, ..Measure::default() };
        let shape = Shape { sector: 512, bios: true, uefi: false };
        let told = |facts: &Facts, disk: &Identity, image: &Measure, shape: &Shape, packed| {
            unfit(facts, disk, image, shape, packed).join("\n")
        };
        assert_eq!(told(&facts, &disk, &image, &shape, 300 << 20), "");
        assert!(told(&facts, &disk, &image, &shape, 400 << 20).contains("are there"));
        let busy = Facts { memory: (facts.memory.0, 500 << 20), ..facts.clone() };
        assert!(told(&busy, &disk, &image, &shape, 300 << 20).contains("are free"));
        let large = Measure { bytes: (1 << 30) + 1, ..image.clone() };
        assert!(told(&facts, &disk, &large, &shape, 1).contains("make a smaller image"));
        let uefi = Facts { uefi: true, ..facts.clone() };
        assert!(told(&uefi, &disk, &image, &shape, 1).contains("no EFI system partition"));
        let other = Shape { sector: 4096, bios: false, uefi: true };
        let told = told(&facts, &Identity { serial: None, ..disk }, &image, &other, 1);
        for part in ["sectors of 4096", "no boot code", "neither a serial number"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
