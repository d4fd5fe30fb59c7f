//! A live medium as the base: found by what it carries, whatever the order in which disks come, and looked into by a process of its
//! own before it is mounted.

use super::super::plain::{describe, several, unchecked};
use super::part_of;
use crate::cmdline::{LayerSettings, LiveSettings, MediumKind, Upper};
use crate::devices::filesystems::without_replay;
use crate::devices::known::{Ambiguous, Device, Reading};
use crate::devices::probe::Wanted;
use crate::plan::failure::{Code, Failure};
use crate::plan::live::{HOST, Listing, Sought, images, judge, lists};
use crate::plan::mounts::Foreign;
use crate::plan::next::{FRESH, LayerStep, MODULE_LIMIT, Moment, Mount, Next, Part, Settled, Step, Wait, end_of, fail};
use crate::plan::options::MountOptions;
use crate::plan::root::{DeviceRoot, Root};
use std::time::Duration;

/// Beginnings of links that only USB disks have.
const USB: &str = "by-id/usb-";

impl Moment<'_> {
    /// The live medium, ready to be mounted, and whether it is a file, or must not be opened as a whole.
    pub(super) fn medium(self, settings: &LayerSettings, live: &LiveSettings) -> Settled<(Root, bool)> {
        let what = live.medium();
        self.leave_all()?;
        self.stop(crate::cmdline::Stage::Import)?;
        self.menu(&what)?;
        self.stop(crate::cmdline::Stage::Mount)?;
        self.discard_image()?;
        let device = self.medium_device(settings, live)?;
        let node = device.node.clone();
        let fstype = kind_of(device);
        let name = live.device().unwrap_or(&node).to_owned();
        let Some(iso) = &live.iso else {
            let whole = self.hardware.is_divided(device);
            let options = match settings.upper.value {
                // Where it is written to, it is checked, and has its journal.
                Upper::Directory(_) if !whole => {
                    if let Err(why) = self.check(&node, &fstype)? {
                        return fail(unchecked(&name, &why));
                    }
                    MountOptions { flags: 0, data: String::new() }
                }
                _ => read_only(&fstype),
            };
            return Ok((Root::Device(DeviceRoot { name, node, fstype, options }), whole));
        };
        if self.facts.attempt.layers.live.host.is_none() {
            let mut step = part_of(&name, HOST, &iso.why);
            step.options = read_only(&fstype);
            let host = DeviceRoot { name, node: node.clone(), fstype: fstype.clone(), options: step.options.clone() };
            step.foreign = Some(Foreign { fstype: fstype.clone(), device: true, wait: Duration::ZERO });
            let mount = Box::new(Mount { step, source: node, fstype });
            return Err(Next::Do(Step::Layer(LayerStep::Mount { part: Part::Host(Box::new(host)), mount })));
        }
        let inside = self.facts.attempt.layers.live.sight(device).and_then(|sight| sight.iso.clone()?.1);
        let fstype = inside.map_or_else(|| "iso9660".to_owned(), |inside| inside.kind);
        self.filesystem(&fstype, self.facts.attempt.last_step)?;
        let name = format!("{} on {name}", iso.value.path);
        let node = format!("{HOST}/{}", iso.value.path);
        Ok((Root::Device(DeviceRoot { name, node, options: read_only(&fstype), fstype }), true))
    }

    /// The device that is the medium, or that holds the file with it.
    fn medium_device(&self, settings: &LayerSettings, live: &LiveSettings) -> Settled<&Device> {
        let until = end_of(self.facts.attempt.began, self.request.wait.value);
        let over = self.is_over(until);
        let (candidates, fresh) = self.candidates(live);
        for device in &candidates {
            self.look_into(settings, live, device)?;
        }
        let known = &self.facts.attempt.layers.live;
        let is_medium =
            |device: &&Device| known.sight(device).is_some_and(|sight| judge(settings, live, device, sight).is_ok());
        let found: Vec<&Device> = candidates.into_iter().filter(is_medium).collect();
        let again = fresh.filter(|_| !over);
        let wanted = live.device().and_then(Wanted::parse);
        match (found.first().copied(), again) {
            (Some(first), None) => match wanted {
                // A name that several disks answer to says nothing.
                Some(wanted) => match Ambiguous::of(&wanted, &found) {
                    Some(ambiguous) => fail(several(self, &ambiguous, &self.request.root.why)),
                    None => Ok(first),
                },
                None => Ok(first),
            },
            (None, None) if over => fail(self.no_medium(settings, live)),
            (_, again) => Err(Next::Wait(Wait { what: format!("the {}", live.medium()), until, again })),
        }
    }

    /// Devices that may be the medium, the likely ones first; and when it is known whether another one may be, if something has only
    /// just come. A disk with partitions is none of them, unless it is named itself: what stands at its beginning is also what the
    /// first of them begins with, and who mounts it keeps everybody from the others.
    fn candidates(&self, live: &LiveSettings) -> (Vec<&Device>, Option<Duration>) {
        let wanted = live.device().and_then(Wanted::parse);
        let all: Vec<&Device> = match &wanted {
            Some(wanted) => self.hardware.all(wanted),
            None => self.hardware.devices.values().filter(|device| !self.hardware.is_divided(device)).collect(),
        };
        let usable = |device: &&Device| {
            device.superblock().is_some() && self.is_no_file_system(device).is_none() && fits(live, device)
        };
        let named_itself = matches!(wanted, Some(Wanted::Node(_) | Wanted::Number(..)));
        let end = |device: &Device| device.since.saturating_add(FRESH);
        // The partitions of a disk may be told of in a moment.
        let bare = |device: &&Device| {
            device.disk.is_none() && !device.name.starts_with("sr") && !named_itself && end(device) > self.now
        };
        let (fresh, mut found): (Vec<&Device>, Vec<&Device>) = all.into_iter().filter(usable).partition(bare);
        found.sort_by_key(|device| (!is_removable(device), device.name.clone()));
        let waiting = self.hardware.devices.values().filter(|device| device.content == Reading::Waiting);
        let waiting = waiting.filter(|device| fits(live, device) && !named_itself && end(device) > self.now);
        (found, fresh.into_iter().chain(waiting).map(end).max())
    }

    /// Has a device looked into that was not yet, or holds another medium now.
    fn look_into(&self, settings: &LayerSettings, live: &LiveSettings, device: &Device) -> Settled<()> {
        if self.facts.attempt.layers.live.is_looked_into(device) {
            return Ok(());
        }
        let since = self.facts.attempt.last_step;
        let fstype = kind_of(device);
        self.filesystem(&fstype, since)?;
        if live.iso.is_some() || self.hardware.is_divided(device) {
            let _ = self.module("loop", since, MODULE_LIMIT)?;
        }
        Err(Next::Do(Step::Layer(LayerStep::LookInto {
            node: device.node.clone(),
            fstype,
            since: device.since,
            sought: Box::new(Sought::of(settings, live)),
        })))
    }

    /// The settings with the names of the images that are on the medium.
    pub(super) fn named_on_medium(self, settings: &LayerSettings, live: &LiveSettings) -> Settled<LayerSettings> {
        let dir = &settings.dir.value;
        let Some(Listing { names, lists: texts }) = &self.facts.attempt.layers.live.listing else {
            let (dir, lists) = (dir.clone(), lists(&live.images.value));
            return Err(Next::Do(Step::Layer(LayerStep::ListImages { dir, lists })));
        };
        match images(live, dir, names, texts) {
            Ok(names) => {
                let mut settings = settings.clone();
                settings.names.value = names;
                Ok(settings)
            }
            Err(why) => fail(no_images(live, dir, &why)),
        }
    }

    fn no_medium(self, settings: &LayerSettings, live: &LiveSettings) -> Failure {
        let seconds = self.request.wait.value.as_secs();
        let looked = &self.facts.attempt.layers.live.looked;
        let shown = |device: &Device| {
            let why = match looked.get(&device.node).map(|looked| &looked.result) {
                Some(Ok(sight)) => judge(settings, live, device, sight).err(),
                Some(Err(why)) => Some(why.clone()),
                None if self.hardware.is_divided(device) => Some("has partitions, which are looked into".to_owned()),
                None => None,
            };
            why.map_or_else(|| describe(device), |why| format!("{}: {why}", describe(device)))
        };
        let expected = match &live.iso {
            Some(iso) => format!("a file system with the file {}", iso.value.path),
            None => format!("a file system with an image in the directory {}", settings.dir.value),
        };
        Failure::new(
            Code::NoDevice,
            format!("no {} was found within {seconds} s ({})", live.medium(), self.request.root.why),
            expected,
            self.hardware.devices.values().map(shown).collect(),
            &[
                "attach it and type retry; taproot.wait=SECONDS or rootwait waits longer",
                "retry live-media=/dev/NAME here names another one, retry live-media-path=DIRECTORY another directory",
            ],
        )
    }
}

fn kind_of(device: &Device) -> String {
    device.superblock().map(|superblock| superblock.kind.clone()).unwrap_or_default()
}

/// Whether a device is of the kind that was asked for.
fn fits(live: &LiveSettings, device: &Device) -> bool {
    match live.kind.as_ref().map(|kind| kind.value) {
        None => true,
        Some(MediumKind::Removable) => is_removable(device),
        Some(MediumKind::Usb) => is_usb(device),
    }
}

fn is_usb(device: &Device) -> bool {
    device.links.iter().any(|link| link.starts_with(USB))
}

fn is_removable(device: &Device) -> bool {
    is_usb(device) || ["sr", "mmcblk"].iter().any(|kind| device.name.starts_with(kind))
}

/// Nothing is written to it, not even what a journal holds: a hibernated system may count on it.
fn read_only(fstype: &str) -> MountOptions {
    MountOptions { flags: libc::MS_RDONLY, data: without_replay(fstype).to_owned() }
}

fn no_images(live: &LiveSettings, dir: &str, why: &str) -> Failure {
    Failure::new(
        Code::NoLayer,
        format!("the {} {why} ({})", live.medium(), live.system.why),
        format!("images of the root in the directory {dir}"),
        vec![],
        &[
            "retry live-media-path=DIRECTORY here says where else they are",
            "retry taproot.layers=NAME:... here names those that are there, the topmost first",
        ],
    )
}
