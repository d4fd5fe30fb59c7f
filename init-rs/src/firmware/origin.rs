//! From which disk the machine was started, as its firmware and the boot loader wrote it down. Of equal copies of a disk, that is the
//! one that is meant.

use super::Variables;
use crate::devices::known::Hardware;
use crate::devices::probe::guid;
use crate::sys::System;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// `PARTUUID` of the partition that the boot loader was read from (systemd's boot loader interface).
const PARTITION: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Number of the boot option that was taken (UEFI specification, 3.3 "Globally Defined Variables").
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Node types of a device path (UEFI specification, 10.3): PCI is (1, 1), a partition (4, 1).
const PCI: (u8, u8) = (1, 1);
const HARD_DRIVE: (u8, u8) = (4, 1);
/// Signature type of a GPT's partition.
const GUID: u8 = 2;

/// What is written down of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `PARTUUID` of a partition of it, in lower case.
    pub partition: Option<String>,
    /// Device and function of each PCI device on the way to it, from the root on; empty: not known.
    pub way: Vec<(u8, u8)>,
}

impl Origin {
    /// Asks the firmware. What cannot be read, or makes no sense, is as good as not written down.
    pub fn read(variables: &Variables<'_>) -> io::Result<Self> {
        let mut origin = Self::default();
        if let Some(number) = variables.read(&format!("BootCurrent-{GLOBAL}"))?
            && let [low, high] = *number.as_slice()
        {
            let name = format!("Boot{:04X}-{GLOBAL}", u16::from_le_bytes([low, high]));
            origin = variables.read(&name)?.and_then(|option| of_option(&option)).unwrap_or_default();
        }
        if let Some(uuid) = variables.read(PARTITION)?.as_deref().and_then(text).filter(|text| is_uuid(text)) {
            origin.partition = Some(uuid);
        }
        Ok(origin)
    }

    /// Whether anything is written down.
    pub fn is_known(&self) -> bool {
        self.partition.is_some() || !self.way.is_empty()
    }

    /// The one disk that fits, by the kernel's name.
    pub fn disk(&self, system: &dyn System, hardware: &Hardware) -> Option<String> {
        let mut disks: BTreeSet<&str> = BTreeSet::new();
        for device in hardware.devices.values() {
            match (&self.partition, &device.partition, &device.disk) {
                (Some(uuid), Some(part), Some(disk)) if part.uuid.eq_ignore_ascii_case(uuid) => {
                    disks.insert(disk);
                }
                (None, None, None) => {
                    disks.insert(&device.name);
                }
                _ => {}
            }
        }
        // The way alone is enough; a partition that is the same on several disks needs it.
        if self.partition.is_none() || disks.len() > 1 {
            disks.retain(|disk| !self.way.is_empty() && way(system, disk) == self.way);
        }
        let mut disks = disks.into_iter();
        disks.next().filter(|_| disks.next().is_none()).map(str::to_owned)
    }
}

/// Where a boot option leads: `EFI_LOAD_OPTION` (UEFI specification, 3.1.3). `None`: it is cut off.
pub fn of_option(option: &[u8]) -> Option<Origin> {
    let length = option.get(4..6).and_then(|bytes| Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?))))?;
    let description = option.get(6..)?;
    let end = description.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let path = description.get(2 * (end + 1)..)?;
    Some(of_path(path.get(..length)?))
}

fn of_path(mut path: &[u8]) -> Origin {
    let mut origin = Origin::default();
    while let [kind, subtype, low, high, ..] = *path {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let Some(data) = path.get(4..length) else { break };
        match ((kind, subtype), data) {
            (PCI, [function, device, ..]) => origin.way.push((*device, *function)),
            (HARD_DRIVE, data) if data.get(37) == Some(&GUID) => {
                origin.partition = data.get(20..36).map(guid);
            }
            _ => {}
        }
        path = path.get(length..).unwrap_or_default();
    }
    origin
}

/// UTF-16 up to its end, in lower case.
fn text(data: &[u8]) -> Option<String> {
    let units: Vec<u16> =
        data.chunks_exact(2).filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?))).collect();
    let text = String::from_utf16(units.split(|unit| *unit == 0).next()?).ok()?;
    Some(text.to_ascii_lowercase())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The PCI devices on the way to a disk, as sysfs has them: `/sys/devices/pci0000:00/0000:00:05.0/virtio2/block/vda`.
fn way(system: &dyn System, disk: &str) -> Vec<(u8, u8)> {
    let Ok(path) = system.canonical(&Path::new("/sys/class/block").join(disk)) else { return Vec::new() };
    path.iter().filter_map(|part| address(part.to_str()?)).collect()
}

/// `0000:00:05.0`: device and function.
fn address(text: &str) -> Option<(u8, u8)> {
    let mut parts = text.split(':');
    let (domain, bus, last) = (parts.next()?, parts.next()?, parts.next()?);
    let (device, function) = last.split_once('.')?;
    let hex = |digits: &str| u8::from_str_radix(digits, 16).ok();
    let whole = parts.next().is_none() && domain.len() >= 4 && bus.len() == 2 && device.len() == 2;
    Some((hex(device)?, hex(function)?)).filter(|_| whole && hex(bus).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::known::{Device, Partition, Reading};
    use crate::sys::fake::{Machine, Tree};

    const UUID: &str = "0011aabb-2233-4455-6677-8899aabbccdd";

    /// A boot option that leads over these PCI devices to a partition, if it is of one.
    fn option(way: &[(u8, u8)], partition: bool) -> Vec<u8> {
        let mut path = vec![2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0];
        for (device, function) in way {
            path.extend([1, 1, 6, 0, *function, *device]);
        }
        if partition {
            path.extend([4, 1, 42, 0]);
            path.extend([0; 20]);
            path.extend([0xbb, 0xaa, 0x11, 0, 0x33, 0x22, 0x55, 0x44, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd]);
            path.extend([2, 2]);
        }
        path.extend([0x7f, 0xff, 4, 0]);
        let length = u16::try_from(path.len()).unwrap();
        [&[1, 0, 0, 0][..], &length.to_le_bytes(), b"d\0i\0s\0k\0\0\0", &path, b"more"].concat()
    }

    fn hardware(disks: &[&str]) -> Hardware {
        let mut hardware = Hardware::default();
        for name in disks {
            let disk = Device::known(&format!("/dev/{name}"), Reading::Never);
            let partition = Partition { number: 1, uuid: UUID.to_uppercase(), ..Partition::default() };
            let part = Device {
                partition: Some(partition),
                disk: Some((*name).to_owned()),
                ..Device::known(&format!("/dev/{name}1"), Reading::Never)
            };
            hardware.devices.extend([disk, part].map(|device| (device.name.clone(), device)));
        }
        hardware
    }

    #[test]
    fn a_boot_option_tells_the_way_and_the_partition() {
        let origin = of_option(&option(&[(2, 0), (0x1f, 3)], true)).unwrap();
        assert_eq!(origin, Origin { partition: Some(UUID.to_owned()), way: vec![(2, 0), (0x1f, 3)] });
        assert_eq!(of_option(&option(&[], false)), Some(Origin::default()));
    }

    #[test]
    fn what_is_cut_or_senseless_is_no_panic() {
        let whole = option(&[(2, 0)], true);
        for length in 0..whole.len() {
            let _ = of_option(&whole[..length]);
        }
        assert_eq!(of_path(&[1, 1, 0, 0, 5, 5]), Origin::default());
        assert_eq!(of_path(&[1, 1, 255, 255, 5, 5]), Origin::default());
        assert_eq!([address("0000:00:05.0"), address("0000:00:05"), address("pci0000:00")], [Some((5, 0)), None, None]);
    }

    #[test]
    fn the_loaders_word_goes_before_the_firmwares() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let other = "99999999-2233-4455-6677-8899aabbccdd";
        let variable = |data: &[u8]| [&[6, 0, 0, 0], data].concat();
        let dir = "/sys/firmware/efi/efivars";
        let machine = Machine::new(
            Tree::new()
                .with_bytes(&format!("{dir}/BootCurrent-{GLOBAL}"), &variable(&[0x0a, 0]))
                .with_bytes(&format!("{dir}/Boot000A-{GLOBAL}"), &variable(&option(&[(5, 0)], true)))
                .with_bytes(&format!("{dir}/{PARTITION}"), &variable(&wide(&format!("{}\0", other.to_uppercase())))),
        );
        let origin = Origin::read(&Variables::open(&machine).unwrap()).unwrap();
        assert_eq!(origin, Origin { partition: Some(other.to_owned()), way: vec![(5, 0)] });
        assert_eq!(Origin::read(&Variables::open(&Machine::new(Tree::new())).unwrap()).unwrap(), Origin::default());
    }

    #[test]
    fn of_equal_disks_the_one_on_the_way() {
        let at = |disk: &str, pci: &str| {
            (format!("/sys/class/block/{disk}"), format!("/sys/devices/pci0000:00/{pci}/virtio1/block/{disk}"))
        };
        let links = [at("vda", "0000:00:05.0"), at("vdb", "0000:00:06.0")];
        let tree = links
            .iter()
            .fold(Tree::new(), |tree, (link, path)| tree.with(&format!("{path}/size"), "").with_link(path, link));
        let machine = Machine::new(tree);
        let origin = |partition: bool, way: &[(u8, u8)]| Origin {
            partition: partition.then(|| UUID.to_owned()),
            way: way.to_vec(),
        };
        let disk = |origin: &Origin, disks: &[&str]| origin.disk(&machine, &hardware(disks));
        assert_eq!(disk(&origin(true, &[(6, 0)]), &["vda", "vdb"]).as_deref(), Some("vdb"));
        assert_eq!(disk(&origin(true, &[]), &["vda", "vdb"]), None);
        // A short boot option names the partition alone.
        assert_eq!(disk(&origin(true, &[]), &["vda"]).as_deref(), Some("vda"));
        assert_eq!(disk(&origin(false, &[(5, 0)]), &["vda", "vdb"]).as_deref(), Some("vda"));
        assert_eq!(disk(&origin(true, &[(7, 0)]), &["vda", "vdb"]), None);
        assert_eq!(disk(&Origin::default(), &["vda"]), None);
    }
}
