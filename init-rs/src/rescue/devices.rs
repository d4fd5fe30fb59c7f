//! The block devices, and what is on each.

use crate::devices::known::{Device, Hardware, Reading, Zfs};
use std::fmt::Write as _;

/// The file systems that a log can be written to.
pub(super) const WRITABLE: [&str; 7] = ["ext4", "vfat", "exfat", "ntfs3", "xfs", "btrfs", "f2fs"];

/// What is on a device; empty if nothing known is.
fn content(hardware: &Hardware, device: &Device) -> String {
    let content = match &device.content {
        Reading::Waiting => return "has not answered yet".to_owned(),
        Reading::Failed(why) => return format!("cannot be read: {why}"),
        Reading::Never => return String::new(),
        Reading::Done(content) => content,
    };
    match (&content.zfs, &content.superblock) {
        (Zfs::Member(member), _) => {
            format!("zfs, pool {}", member.label.config.text("name").unwrap_or_default())
        }
        (_, Some(superblock)) if superblock.label.is_empty() => superblock.kind.clone(),
        (_, Some(superblock)) => format!("{}, label {}", superblock.kind, superblock.label),
        (Zfs::Damaged(_), None) => "zfs, labels damaged".to_owned(),
        (Zfs::Nothing, None) => {
            let parts = hardware.devices.values().filter(|other| other.disk.as_ref() == Some(&device.name)).count();
            if parts == 0 { String::new() } else { format!("{parts} partition(s)") }
        }
    }
}

/// All that hold something: no empty drives, RAM disks or unused loop devices.
fn all(hardware: &Hardware) -> impl Iterator<Item = &Device> {
    hardware.devices.values().filter(|device| device.size > 0 && !device.name.starts_with("ram"))
}

/// The devices that a log can be written to.
pub(super) fn writable(hardware: &Hardware) -> Vec<Device> {
    let fits = |device: &&Device| device.superblock().is_some_and(|s| WRITABLE.contains(&s.kind.as_str()));
    all(hardware).filter(fits).cloned().collect()
}

/// Size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// A list of these devices.
pub(super) fn list<'d>(hardware: &Hardware, devices: impl IntoIterator<Item = &'d Device>) -> String {
    let mut out = String::new();
    for device in devices {
        let content = content(hardware, device);
        let parts: Vec<&str> = [content.as_str(), &device.identity].into_iter().filter(|p| !p.is_empty()).collect();
        let _ = writeln!(out, "{:<16} {:>9}  {}", device.node, size(device.size), parts.join("  "));
    }
    out
}

/// The list of all devices.
pub(super) fn text(hardware: &Hardware) -> String {
    let text = list(hardware, all(hardware));
    if text.is_empty() {
        return "no block device at all: is the driver of the disk controller in the image?\n".to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::hands::tests::device;
    use super::*;

    fn hardware(devices: Vec<Device>) -> Hardware {
        let devices = devices.into_iter().map(|device| (device.name.clone(), device)).collect();
        Hardware { devices, ..Hardware::default() }
    }

    #[test]
    fn each_with_what_is_on_it() {
        assert!(text(&hardware(vec![])).starts_with("no block device at all"));
        let part = Device { disk: Some("sda".into()), identity: String::new(), ..device("sda1", "ext4", "ROOT") };
        let hardware = hardware(vec![
            device("sda", "", ""),
            part,
            Device { content: Reading::Waiting, size: 5 << 20, ..device("sdb", "", "") },
            Device { content: Reading::Failed("input/output error".into()), ..device("sdc", "", "") },
            device("sdd", "LUKS", ""),
            Device { size: 0, ..device("sr0", "", "") },
            device("ram0", "vfat", ""),
        ]);
        let text = text(&hardware);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "/dev/sda             8 GiB  1 partition(s)  QEMU DISK, serial 7",
                "/dev/sda1            8 GiB  ext4, label ROOT",
                "/dev/sdb             5 MiB  has not answered yet  QEMU DISK, serial 7",
                "/dev/sdc             8 GiB  cannot be read: input/output error  QEMU DISK, serial 7",
                "/dev/sdd             8 GiB  LUKS  QEMU DISK, serial 7",
            ]
        );
        assert_eq!(writable(&hardware).iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["sda1"]);
    }
}
