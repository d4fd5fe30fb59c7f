//! The machine we run on: what drives its disks and keyboards, and its processor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use taproot_init::devices::block;
use taproot_init::devices::table::canonical_name;

/// What stands between a disk and the processor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The kernel's name of the disk.
    pub disk: String,
    /// Modaliases of the disk's device and of those above it.
    pub modaliases: BTreeSet<String>,
    /// Modules of their drivers, as far as these are modules in the running kernel.
    pub modules: BTreeSet<String>,
}

/// Follows a block device upwards in `sys` (`/sys`), a partition to its disk first. Disks made of others (device mapper,
/// md) are followed into their parts.
pub fn chain(sys: &Path, name: &str) -> Chain {
    let mut chain = Chain { disk: name.to_owned(), ..Chain::default() };
    let mut queue = vec![name.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Ok(start) = sys.join("class/block").join(&name).canonicalize() else { continue };
        let disk = if start.join("partition").exists() { start.parent().unwrap_or(&start) } else { &start };
        for slaves in [start.join("slaves"), disk.join("slaves")] {
            let below = fs::read_dir(slaves).into_iter().flatten().flatten();
            queue.extend(below.filter_map(|e| e.file_name().into_string().ok()));
        }
        chain.climb(sys, disk);
        for controller in controllers(disk) {
            chain.climb(sys, &controller);
        }
    }
    chain
}

/// The controllers of an NVMe disk of several paths, which itself lies below `devices/virtual/nvme-subsystem`.
fn controllers(disk: &Path) -> Vec<PathBuf> {
    let Some(subsystem) = disk.parent().filter(|dir| dir.parent().is_some_and(|dir| dir.ends_with("nvme-subsystem")))
    else {
        return Vec::new();
    };
    let links = fs::read_dir(subsystem).into_iter().flatten().flatten().filter(|entry| entry.path().is_symlink());
    links
        .filter(|link| link.file_name().to_string_lossy().starts_with("nvme"))
        .filter_map(|l| l.path().canonicalize().ok())
        .collect()
}

impl Chain {
    /// Takes what drives a device and those above it.
    fn climb(&mut self, sys: &Path, device: &Path) {
        for dir in device.ancestors().take_while(|dir| dir.starts_with(sys)) {
            if let Ok(modalias) = fs::read_to_string(dir.join("modalias"))
                && !modalias.trim().is_empty()
            {
                self.modaliases.insert(modalias.trim().to_owned());
            }
            // Kernels show this link for built-in drivers too, some of which (pcieport's) modules.builtin does not name
            // because they can never be modules. Only what was loaded has a state.
            if let Ok(module) = dir.join("driver/module").canonicalize()
                && module.join("initstate").exists()
                && let Some(module) = module.file_name().and_then(|n| n.to_str())
            {
                self.modules.insert(canonical_name(module));
            }
        }
    }
}

/// What drives this machine's keyboards: everything that sends letters (`class/input`), with the buses it hangs on, and the USB
/// controllers (`usb1` and so on).
pub fn inputs(sys: &Path) -> Vec<Chain> {
    let sys = &sys.canonicalize().unwrap_or_else(|_| sys.to_owned());
    let mut chains = Vec::new();
    for entry in fs::read_dir(sys.join("class/input")).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(device) = entry.path().canonicalize() else { continue };
        // Its handlers (event0, mouse0) lie below it.
        if name.starts_with("input") && !device.starts_with(sys.join("devices/virtual")) && has_keys(&device) {
            let mut chain = Chain { disk: name, ..Chain::default() };
            chain.climb(sys, &device);
            chains.push(chain);
        }
    }
    // A keyboard may be plugged in later, wherever there is a socket.
    for entry in fs::read_dir(sys.join("bus/usb/devices")).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(device) = entry.path().canonicalize() else { continue };
        if name.starts_with("usb") {
            let mut chain = Chain { disk: name, ..Chain::default() };
            chain.climb(sys, &device);
            chains.push(chain);
        }
    }
    chains.sort_by(|a, b| a.disk.cmp(&b.disk));
    chains
}

/// Whether an input device has a letter: `KEY_A` is 30 (`input-event-codes.h`), a bit of the last word that is shown.
fn has_keys(device: &Path) -> bool {
    let text = fs::read_to_string(device.join("capabilities/key")).unwrap_or_default();
    let last = text.split_whitespace().last().and_then(|word| u64::from_str_radix(word, 16).ok());
    last.is_some_and(|word| word & (1 << 30) != 0)
}

/// The release of the running kernel.
pub fn kernel() -> std::io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned())
}

/// A processor, as its microcode is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// Family.
    pub family: u32,
    /// Model.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

impl Processor {
    /// The one that this runs on.
    pub fn of_this_machine() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/cpuinfo").ok()?)
    }

    /// From the text of /proc/cpuinfo.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            fields.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let number = |name: &str| field(name)?.parse().ok();
        Some(Self {
            vendor: field("vendor_id")?.to_owned(),
            family: number("cpu family")?,
            model: number("model")?,
            stepping: number("stepping")?,
        })
    }

    /// Whether a file of its maker's directory is for it (`intel.c`, `amd.c` in `arch/x86/kernel/cpu/microcode`).
    pub fn has_microcode(&self, name: &str) -> bool {
        let name = super::decompress::strip_suffix(name);
        let Self { family, model, stepping, .. } = self;
        match self.vendor.as_str() {
            "GenuineIntel" => {
                let own = format!("{family:02x}-{model:02x}-{stepping:02x}");
                name == own || name.strip_suffix(".initramfs") == Some(&own)
            }
            _ if *family < 0x15 => name == "microcode_amd.bin",
            _ => name == format!("microcode_amd_fam{family:02x}h.bin"),
        }
    }
}

/// The chains of all disks, in order of their names.
pub fn disks(sys: &Path) -> Vec<Chain> {
    let sys = &sys.canonicalize().unwrap_or_else(|_| sys.to_owned());
    block::names(sys).iter().filter(|name| !is_virtual(sys, name)).map(|name| chain(sys, name)).collect()
}

fn is_virtual(sys: &Path, name: &str) -> bool {
    let target = sys.join("class/block").join(name).canonicalize();
    target.map_or(true, |target| target.starts_with(sys.join("devices/virtual")) || target.join("partition").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn chain_of_a_partition() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().canonicalize().unwrap();
        let disk = sys.join("devices/pci0000:00/0000:00:04.0/virtio1/block/vda");
        let part = disk.join("vda1");
        fs::create_dir_all(&part).unwrap();
        for module in ["virtio_blk", "pcieportdrv"] {
            fs::create_dir_all(sys.join("module").join(module)).unwrap();
        }
        fs::write(sys.join("module/virtio_blk/initstate"), "live\n").unwrap();
        // A driver that is built in, as newer kernels show it.
        fs::create_dir_all(sys.join("devices/pci0000:00/driver")).unwrap();
        symlink(sys.join("module/pcieportdrv"), sys.join("devices/pci0000:00/driver/module")).unwrap();
        fs::create_dir_all(sys.join("devices/virtual/block/loop0")).unwrap();
        fs::create_dir_all(sys.join("bus/virtio/drivers/virtio_blk")).unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        fs::write(part.join("partition"), "1\n").unwrap();
        fs::write(sys.join("devices/pci0000:00/0000:00:04.0/modalias"), "pci:v1AF4\n").unwrap();
        fs::write(sys.join("devices/pci0000:00/0000:00:04.0/virtio1/modalias"), "virtio:d2v1\n").unwrap();
        symlink(sys.join("module/virtio_blk"), sys.join("bus/virtio/drivers/virtio_blk/module")).unwrap();
        symlink(sys.join("bus/virtio/drivers/virtio_blk"), sys.join("devices/pci0000:00/0000:00:04.0/virtio1/driver"))
            .unwrap();
        for (name, target) in [("vda", &disk), ("vda1", &part), ("loop0", &sys.join("devices/virtual/block/loop0"))] {
            symlink(target, sys.join("class/block").join(name)).unwrap();
        }
        let found = chain(&sys, "vda1");
        assert_eq!(found.modules.into_iter().collect::<Vec<_>>(), ["virtio_blk"]);
        assert_eq!(found.modaliases.into_iter().collect::<Vec<_>>(), ["pci:v1AF4", "virtio:d2v1"]);
        assert_eq!(disks(&sys).iter().map(|c| c.disk.as_str()).collect::<Vec<_>>(), ["vda"]);
        assert!(chain(&sys, "absent").modules.is_empty());
        // NVMe with several paths: the disk hangs on no controller, its subsystem does.
        let subsystem = sys.join("devices/virtual/nvme-subsystem/nvme-subsys0");
        let controller = sys.join("devices/pci0000:00/0000:00:05.0/nvme/nvme0");
        fs::create_dir_all(subsystem.join("nvme0n1")).unwrap();
        fs::create_dir_all(&controller).unwrap();
        fs::write(sys.join("devices/pci0000:00/0000:00:05.0/modalias"), "pci:nvme\n").unwrap();
        symlink(&controller, subsystem.join("nvme0")).unwrap();
        symlink(subsystem.join("nvme0n1"), sys.join("class/block/nvme0n1")).unwrap();
        assert!(chain(&sys, "nvme0n1").modaliases.contains("pci:nvme"));
    }

    #[test]
    fn keyboards_and_what_they_hang_on() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().canonicalize().unwrap();
        fs::create_dir_all(sys.join("class/input")).unwrap();
        for (name, at, keys) in [
            ("input3", "devices/pci0/i2c-1/0018:04F3.0001/input/input3", "10000 3 fffffffffffffffe"),
            ("input4", "devices/platform/mouse/input/input4", "1f0000 0 0 0 0"),
            ("input5", "devices/virtual/input/input5", "fffffffffffffffe"),
        ] {
            let device = sys.join(at);
            fs::create_dir_all(device.join("capabilities")).unwrap();
            fs::write(device.join("capabilities/key"), format!("{keys}\n")).unwrap();
            symlink(&device, sys.join("class/input").join(name)).unwrap();
        }
        fs::write(sys.join("devices/pci0/i2c-1/0018:04F3.0001/modalias"), "hid:b0018g0001\n").unwrap();
        fs::create_dir_all(sys.join("devices/pci1/usb1")).unwrap();
        fs::create_dir_all(sys.join("bus/usb/devices")).unwrap();
        fs::write(sys.join("devices/pci1/modalias"), "pci:ehci\n").unwrap();
        symlink(sys.join("devices/pci1/usb1"), sys.join("bus/usb/devices/usb1")).unwrap();
        let found = inputs(&sys);
        assert_eq!(found.iter().map(|c| c.disk.as_str()).collect::<Vec<_>>(), ["input3", "usb1"]);
        assert_eq!(found[1].modaliases.iter().collect::<Vec<_>>(), ["pci:ehci"]);
        assert_eq!(found[0].modaliases.iter().collect::<Vec<_>>(), ["hid:b0018g0001"]);
    }

    #[test]
    fn microcode_is_of_one_processor() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 158\nmodel name\t: x\nstepping\t: 10\n";
        let intel = Processor::parse(text).unwrap();
        assert!(intel.has_microcode("06-9e-0a") && intel.has_microcode("06-9e-0a.xz"));
        assert!(!intel.has_microcode("06-9e-0b") && !intel.has_microcode("06-9e"));
        let amd = |family| Processor { vendor: "AuthenticAMD".into(), family, model: 1, stepping: 1 };
        assert!(amd(0x17).has_microcode("microcode_amd_fam17h.bin") && amd(0x10).has_microcode("microcode_amd.bin"));
        assert!(!amd(0x19).has_microcode("microcode_amd.bin"));
    }
}
