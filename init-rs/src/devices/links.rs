//! What a disk is called: its model, serial number and world-wide name, and from them the names that udev's
//! `60-persistent-storage.rules` would make below `/dev/disk/by-id` and `by-path`. All of it stands in sysfs, where the
//! driver has put it when it found the disk, so nothing here waits for one.
//!
//! Made for virtio, SCSI, ATA, USB, NVMe, MMC and device-mapper. What udev asks the disk itself for (SAS addresses, the
//! identity behind some USB bridges) is not known here, and such a link is missing.

mod scsi;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Component, Path};

/// Longest attribute that is read: sysfs has pages.
const ATTRIBUTE_MAX: usize = 4096;

/// What a disk is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// World-wide identifier.
    pub wwid: Option<String>,
    /// Model and serial number, for people.
    pub identity: String,
    /// Below `/dev/disk`, without those of partitions; those of device-mapper also below `/dev`, as its own tools make them.
    pub links: Vec<String>,
}

/// An attribute without white space around it; `None` if it is not there or empty.
fn text(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..ATTRIBUTE_MAX).unwrap_or(&bytes)).into_owned();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// As udev writes a value in a link: runs of blanks, and what is not allowed in one, become `_`.
fn plain(value: &str) -> String {
    let words: Vec<&str> = value.split_whitespace().collect();
    let allowed = |c: char| c.is_alphanumeric() || "#+-.:=@_".contains(c);
    words.join("_").chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// The names of the disk with this directory in `/sys/devices` (links followed); `name` is the kernel's.
pub fn names(dir: &Path, name: &str) -> Names {
    let attribute = |file: &str| text(&dir.join(file));
    let pages = scsi::Pages::read(dir);
    let wwid = ["wwid", "device/wwid"].into_iter().find_map(attribute);
    let mut names = Names { wwid, identity: identity(dir, &pages), links: Vec::new() };
    let mut ids: Vec<String> = Vec::new();
    if name.starts_with("vd") {
        ids.extend(attribute("serial").map(|serial| format!("virtio-{}", plain(&serial))));
    } else if name.starts_with("nvme") {
        ids.extend(names.wwid.as_ref().map(|wwid| format!("nvme-{}", plain(wwid))));
        if let (Some(model), Some(serial)) = (attribute("device/model"), attribute("device/serial")) {
            let id = format!("nvme-{}_{}", plain(&model), plain(&serial));
            ids.extend(attribute("nsid").map(|nsid| format!("{id}_{nsid}")));
            ids.push(id);
        }
    } else if name.starts_with("mmcblk") {
        let (name, serial) = (attribute("device/name"), attribute("device/serial"));
        ids.extend(name.zip(serial).map(|(name, serial)| format!("mmc-{}_{}", plain(&name), plain(&serial))));
    } else if name.starts_with("dm-") {
        ids.extend(attribute("dm/name").map(|name| format!("dm-name-{}", plain(&name))));
        ids.extend(attribute("dm/uuid").map(|uuid| format!("dm-uuid-{}", plain(&uuid))));
    } else if name.starts_with("sd") || name.starts_with("sr") {
        ids.extend(scsi_ids(dir, &pages));
    }
    names.links.extend(ids.into_iter().map(|id| format!("by-id/{id}")));
    if let (true, Some(mapped)) = (name.starts_with("dm-"), attribute("dm/name")) {
        names.links.extend(volume(&mapped, attribute("dm/uuid").as_deref()));
        names.links.push(format!("mapper/{mapped}"));
    }
    names.links.extend(paths(dir, name).into_iter().map(|path| format!("by-path/{path}")));
    names
}

/// `GROUP/VOLUME` of a logical volume, whose two names are joined by a dash, and their own dashes doubled (lvm(8)).
fn volume(mapped: &str, uuid: Option<&str>) -> Option<String> {
    uuid.filter(|uuid| uuid.starts_with("LVM-"))?;
    let (group, volume) = mapped.replace("--", "\0").split_once('-').map(|(g, v)| (g.to_owned(), v.to_owned()))?;
    Some(format!("{group}/{volume}").replace('\0', "-"))
}

/// Model and serial number as the disk's driver tells them.
fn identity(dir: &Path, pages: &scsi::Pages) -> String {
    let serial = ["serial", "device/serial"].iter().find_map(|name| text(&dir.join(name)));
    let serial = serial.or_else(|| pages.serial()).map(|serial| format!("serial {serial}"));
    let parts: Vec<String> = text(&dir.join("device/model")).into_iter().chain(serial).collect();
    parts.join(", ")
}

fn scsi_ids(dir: &Path, pages: &scsi::Pages) -> Vec<String> {
    let attribute = |file: &str| text(&dir.join(file)).unwrap_or_default();
    let (vendor, model) = (attribute("device/vendor"), attribute("device/model"));
    let mut ids = Vec::new();
    if let Some((serial, at)) = usb_serial(dir) {
        let parts = [&vendor, &model, &serial].map(|part| plain(part));
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        ids.push(format!("usb-{}-{at}", parts.join("_")));
    } else if component(dir, "ata").is_some() {
        ids.extend(pages.ata().map(|(model, serial)| format!("ata-{}_{}", plain(&model), plain(&serial))));
    } else {
        ids.extend(pages.scsi_id(&vendor, &model).map(|id| format!("scsi-{}", plain(&id))));
    }
    ids.extend(pages.naa().map(|naa| format!("wwn-0x{naa}")));
    ids
}

/// The directory of the path whose name is this prefix and a number, with the number.
fn component(dir: &Path, prefix: &str) -> Option<String> {
    let number = |name: &str| {
        let digits = name.strip_prefix(prefix)?;
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.to_owned())
    };
    dir.components().find_map(|part| match part {
        Component::Normal(name) => number(name.to_str()?),
        _ => None,
    })
}

/// Serial number of the USB device that a disk is behind (empty if it has none), and target and unit of the disk.
fn usb_serial(dir: &Path) -> Option<(String, String)> {
    let device = dir.ancestors().find(|dir| dir.join("idVendor").exists())?;
    let [_, _, target, lun] = scsi_address(dir)?;
    Some((text(&device.join("serial")).unwrap_or_default(), format!("{target}:{lun}")))
}

/// `HOST:CHANNEL:TARGET:LUN`, from the path.
fn scsi_address(dir: &Path) -> Option<[u32; 4]> {
    dir.ancestors().find_map(|dir| {
        let numbers: Result<Vec<u32>, _> = dir.file_name()?.to_str()?.split(':').map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    })
}

/// Whether a directory's name is the address of a PCI function, `0000:00:1f.2`.
fn is_pci(name: &str) -> bool {
    let shape: Vec<usize> = name.split([':', '.']).map(str::len).collect();
    shape.len() == 4
        && shape.iter().skip(1).eq(&[2, 2, 1])
        && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        && name.contains('.')
}

/// Names by the place where the disk is attached, as udev's `path_id` makes them; several where it has changed its mind.
fn paths(dir: &Path, name: &str) -> Vec<String> {
    let parts: Vec<&str> = dir.iter().filter_map(|part| part.to_str()).collect();
    let Some(at) = parts.iter().rposition(|part| is_pci(part)) else { return Vec::new() };
    let (Some(pci), behind) = (parts.get(at), parts.get(at + 1..).unwrap_or_default()) else { return Vec::new() };
    let pci = format!("pci-{pci}");
    if name.starts_with("vd") {
        return vec![pci];
    }
    if name.starts_with("nvme") {
        return text(&dir.join("nsid")).map(|nsid| format!("{pci}-nvme-{nsid}")).into_iter().collect();
    }
    if behind.iter().any(|part| part.starts_with("end_device-") || part.starts_with("rport-")) {
        return Vec::new();
    }
    if let Some(port) = component(dir, "ata") {
        let port_dir =
            dir.ancestors().find(|dir| dir.file_name().is_some_and(|n| n.to_str() == Some(&format!("ata{port}"))));
        let number = port_dir.and_then(|d| text(&d.join(format!("ata_port/ata{port}/port_no"))));
        let target = scsi_address(dir).map_or(0, |address| address[2]);
        return number.map_or_else(Vec::new, |n| vec![format!("{pci}-ata-{n}"), format!("{pci}-ata-{n}.{target}")]);
    }
    let Some([host, channel, target, lun]) = scsi_address(dir) else { return Vec::new() };
    // Hosts are numbered over the whole machine; in the name they count from the first of their controller.
    let first = dir.ancestors().find(|d| d.file_name().is_some_and(|n| n.to_str() == Some(&format!("host{host}"))));
    let hosts =
        first.and_then(Path::parent).and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let least = hosts.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("host")?.parse::<u32>().ok()).min();
    let host = host - least.unwrap_or(host).min(host);
    let usb = behind.iter().rev().find(|part| part.contains('-') && part.contains(':'));
    let usb =
        usb.and_then(|interface| interface.split_once('-')).map_or_else(String::new, |(_, at)| format!("-usb-0:{at}"));
    vec![format!("{pci}{usb}-scsi-{host}:{channel}:{target}:{lun}")]
}
