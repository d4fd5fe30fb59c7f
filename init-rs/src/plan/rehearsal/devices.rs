//! Devices that are named, where no device is known: each is taken to be there.

use super::Play;
use crate::cmdline::{Selector, Upper};
use crate::devices::known::{Content, Device, Partition, Reading, Superblock, Zfs};
use crate::devices::probe::Wanted;
use crate::devices::swap;
use crate::plan::next::Wait;
use crate::plan::next::facts::Hibernated;

/// The type of a file system that nobody names.
pub(super) const UNKNOWN_TYPE: &str = "auto";
/// A live medium that no word names.
const MEDIUM: &str = "/dev/live-medium";

fn device_of(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Device(spec) => Some(spec.clone()),
        Selector::Medium => Some(MEDIUM.to_owned()),
        _ => None,
    }
}

impl Play<'_> {
    /// Where no devices are known, the one that is waited for comes; whether one did.
    pub(super) fn pretend_awaited(&mut self, wait: &Wait) -> bool {
        let Some((spec, fstype)) = self.awaited() else { return false };
        self.note_wait(wait);
        self.note("pretend", format!("{spec} is not known here; from here on it is taken to be there"));
        self.pretend(&spec, &fstype);
        true
    }

    /// What next waits for, in the order in which it does: the device for resuming, the root's and those of its layers, what keeps
    /// things, that of a key.
    fn awaited(&self) -> Option<(String, String)> {
        let absent =
            |spec: &str| Wanted::parse(spec).is_some_and(|wanted| matches!(self.hardware.find(&wanted), Ok(None)));
        if self.known.hardware.is_some() {
            return None;
        }
        let resume = self.request.resume.device.as_ref();
        let resume = resume
            .filter(|_| self.facts.resume.settled == Hibernated::Unknown && self.request.resume.disabled.is_none());
        if let Some(device) = resume.filter(|device| absent(&device.value)) {
            return Some((device.value.clone(), "swap".to_owned()));
        }
        let layers = self.request.layers.as_ref();
        let parts = [
            Some(&self.request.root.value),
            layers.and_then(|layers| layers.device.as_ref()).map(|device| &device.value),
        ];
        let mut devices: Vec<String> = parts.into_iter().flatten().filter_map(device_of).collect();
        devices.extend(layers.and_then(|layers| match &layers.upper.value {
            Upper::Device(spec) => Some(spec.clone()),
            _ => None,
        }));
        if let Some(spec) = devices.into_iter().find(|spec| absent(spec)) {
            let known = self.known.roots.get(&spec).and_then(|root| root.fstype.clone());
            return Some((spec, known.unwrap_or_else(|| UNKNOWN_TYPE.to_owned())));
        }
        let media = layers.and_then(|layers| layers.persistence.as_ref());
        let media = media.filter(|asked| asked.zvol.is_none() && asked.storage.value.filesystem);
        let label = media.and_then(|asked| asked.labels.value.first()).map(|label| format!("LABEL={label}"));
        if let Some(spec) = label.filter(|spec| absent(spec)) {
            return Some((spec, UNKNOWN_TYPE.to_owned()));
        }
        let attempt = &self.facts.attempt;
        let mut keys = self.request.keys.files.iter().filter_map(|file| file.device.as_ref());
        let key = keys.find(|device| attempt.root.is_some() && !attempt.mounted && absent(device))?;
        Some((key.clone(), UNKNOWN_TYPE.to_owned()))
    }

    /// A device that answers to this name.
    pub(super) fn pretend(&mut self, spec: &str, fstype: &str) {
        let Some(wanted) = Wanted::parse(spec) else { return };
        if self.known.hardware.is_some() || self.hardware.find(&wanted) != Ok(None) {
            return;
        }
        let mut superblock = Superblock { kind: fstype.to_owned(), uuid: String::new(), label: String::new() };
        let mut partition = Partition::default();
        let (mut links, mut number, mut node) = (Vec::new(), (0, 0), spec.to_owned());
        match wanted {
            Wanted::Label(label) => superblock.label = label,
            Wanted::Uuid(uuid) => superblock.uuid = uuid,
            Wanted::PartLabel(label) => partition.label = label,
            Wanted::PartUuid(uuid) => partition.uuid = uuid,
            Wanted::Number(major, minor) => number = (major, minor),
            Wanted::Node(path) => {
                links.extend(path.strip_prefix("/dev/disk").ok().map(|link| link.display().to_string()));
                node = path.display().to_string();
            }
        }
        let swap = swap::Header { image: None, swap: fstype == "swap" };
        let content = Content { superblock: Some(superblock), swap, zfs: Zfs::Nothing };
        let device = Device {
            name: spec.to_owned(),
            number,
            partition: Some(partition),
            links,
            since: self.now,
            read_only: self.known.write_protected.contains(spec),
            ..Device::known(&node, Reading::Done(Box::new(content)))
        };
        self.hardware.devices.insert(device.name.clone(), device);
    }
}
