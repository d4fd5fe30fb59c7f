//! What is kept on media of its own: which media there are, and what each of them keeps. They are known before the root's upper
//! is settled, because one of them may hold it; directories are kept once the root is mounted.

use super::kept_step::KeptStep;
use super::{PartDevice, part_of};
use crate::cmdline::{LayerSettings, MediaKind, Persistence, Upper, UpperFallback};
use crate::devices::filesystems::{never_written, without_replay};
use crate::devices::known::{Device, Reading};
use crate::devices::probe::Wanted;
use crate::plan::failure::{Code, Failure};
use crate::plan::kept::{self, Keep, MediumFile, host_place, place_of};
use crate::plan::layers::{BASE, below};
use crate::plan::live::HOST;
use crate::plan::next::{FRESH, LayerStep, MODULE_LIMIT, Moment, Next, Settled, Step, Wait, end_of, fail};
use crate::plan::root::{DeviceRoot, LayeredRoot, Root};
use std::time::Duration;

/// How long no device has come when a medium is taken to be missing, if no word says how long to wait. Live systems are started
/// with `persistence` from sticks that have none.
const GRACE: Duration = Duration::from_secs(5);
/// File systems that are searched for files: what people have on disks, and nothing that is part of something else.
const SEARCHED: [&str; 10] = ["vfat", "exfat", "ntfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "udf"];

impl Moment<'_> {
    /// The media are mounted, and what they keep is known; or that it cannot be.
    pub(super) fn persistence(self, settings: &LayerSettings, base: &Root) -> Settled<()> {
        let known = &self.facts.attempt.layers.media;
        let Some(asked) = settings.persistence.as_ref().filter(|_| known.keeping.is_none()) else { return Ok(()) };
        let root = settings.upper.is_default();
        let found = match self.media(asked, settings, base)? {
            Ok(()) if known.media.values().flatten().any(|medium| !medium.conf.kept.is_empty()) => {
                return Err(step(KeptStep::Settle { root }));
            }
            // Media were found, and none of them is of use: each says why.
            Ok(()) => known.media.iter().map(|(key, medium)| of_no_use(key, medium.as_ref().err())).collect(),
            Err(why) => vec![why],
        };
        if asked.fallback.value == UpperFallback::Fail {
            return fail(no_persistence(asked, &found));
        }
        Err(step(KeptStep::DoWithout { why: found.join("; "), upper: root }))
    }

    /// Each medium, mounted or known not to be usable; the inner error says why there is none.
    fn media(self, asked: &Persistence, settings: &LayerSettings, base: &Root) -> Settled<Result<(), String>> {
        if let Some(why) = &asked.impossible {
            return Ok(Err(format!("{} ({})", why.value, why.why)));
        }
        if let Some(zvol) = &asked.zvol {
            if !self.facts.attempt.layers.media.media.contains_key(&zvol.value) {
                match self.zvol(&zvol.value, &zvol.why, false)? {
                    Ok(device) => return Err(self.mount_medium(asked, &zvol.value, device)),
                    Err(why) => return Ok(Err(format!("{}: {why}", zvol.value))),
                }
            }
            return Ok(Ok(()));
        }
        let taken = self.taken(settings, base);
        let devices = if asked.storage.value.filesystem { self.labelled(asked, &taken)? } else { Vec::new() };
        for device in &devices {
            self.labelled_medium(asked, device)?;
        }
        if devices.is_empty() && asked.storage.value.file {
            self.files(asked, base, &taken)?;
        }
        if self.facts.attempt.layers.media.media.is_empty() {
            return Ok(Err(nothing_found(asked)));
        }
        Ok(Ok(()))
    }

    /// What is mounted already and can hold files, and where: the base, and what holds the ISO file of a live medium; not what
    /// was given back because the layers are in memory.
    fn own_places<'a>(&'a self, base: &'a Root) -> Vec<(&'a DeviceRoot, &'static str)> {
        let known = &self.facts.attempt.layers;
        let base = match base {
            Root::Device(device) => Some((device, BASE)),
            _ => None,
        };
        let host = known.live.host.as_ref().map(|host| (host, HOST));
        base.into_iter().chain(host).filter(|(_, place)| !known.released.contains(*place)).collect()
    }

    /// Whether the ISO file of the live medium is on this device.
    fn holds_iso(self, device: &Device) -> bool {
        let known = &self.facts.attempt.layers;
        !known.released.contains(HOST) && known.live.host.as_ref().is_some_and(|host| host.node == device.node)
    }

    /// Nodes of what holds layers: no second mount is made of it.
    fn taken(self, settings: &LayerSettings, base: &Root) -> Vec<String> {
        let mut taken: Vec<String> = self.own_places(base).iter().map(|(device, _)| device.node.clone()).collect();
        let specs = [
            settings.device.as_ref().map(|device| device.value.to_string()),
            match &settings.upper.value {
                Upper::Device(spec) => Some(spec.clone()),
                _ => None,
            },
        ];
        for wanted in specs.iter().flatten().filter_map(|spec| Wanted::parse(spec)) {
            taken.extend(self.hardware.find(&wanted).ok().flatten().map(|device| device.node.clone()));
        }
        taken
    }

    /// Devices with one of the labels, on them or in their partition table; waited for until none comes any more.
    fn labelled(&self, asked: &Persistence, taken: &[String]) -> Settled<Vec<&Device>> {
        let wanted: Vec<Wanted> = asked
            .labels
            .value
            .iter()
            .flat_map(|label| [Wanted::Label(label.clone()), Wanted::PartLabel(label.clone())])
            .collect();
        let mut found: Vec<&Device> = Vec::new();
        for device in wanted.iter().flat_map(|wanted| self.hardware.all(wanted)) {
            let known = found.iter().any(|other| other.is_another_path_of(device));
            let free = !taken.contains(&device.node) || self.holds_iso(device);
            if !known && free && is_on(device, asked.media.value) {
                found.push(device);
            }
        }
        let until = self.patience();
        if self.is_over(until) {
            return Ok(found);
        }
        let unread = wanted.iter().flat_map(|wanted| self.hardware.may_be(wanted));
        let again = unread.map(|device| device.since.saturating_add(FRESH)).filter(|end| *end > self.now).max();
        let silent = found.iter().any(|device| device.content == Reading::Waiting);
        if found.is_empty() || again.is_some() || silent {
            let what = format!("a medium called {}", asked.labels.value.join(" or "));
            return Err(Next::Wait(Wait { what, until, again }));
        }
        Ok(found)
    }

    /// Until when media are awaited.
    fn patience(self) -> Option<Duration> {
        let wait = &self.request.wait;
        let began = self.facts.attempt.began;
        if wait.is_default() {
            return end_of(began.max(self.hardware.last_change), GRACE);
        }
        end_of(began, wait.value)
    }

    /// Mounts the medium on a device, or says why it cannot be one.
    fn labelled_medium(self, asked: &Persistence, device: &Device) -> Settled<()> {
        let known = &self.facts.attempt.layers.media;
        if known.media.contains_key(&device.node) {
            return Ok(());
        }
        let kind = device.superblock().map(|superblock| superblock.kind.clone());
        let usable = match (&device.content, kind) {
            _ if self.holds_iso(device) => Err("the ISO file of the live medium is on it, and for that it is mounted \
                                                read-only; expected another partition"
                .to_owned()),
            (Reading::Waiting, _) => Err("it does not answer".to_owned()),
            (Reading::Failed(why), _) => Err(format!("it cannot be read: {why}")),
            (_, Some(kind)) if kind.contains("LUKS") => {
                Err("it is encrypted, and taproot-init opens no LUKS".to_owned())
            }
            (_, Some(kind)) => Ok(kind),
            _ => Err("it holds no known file system; mkfs.ext4 makes one".to_owned()),
        };
        let node = device.node.clone();
        let fstype = match usable {
            Ok(fstype) => fstype,
            Err(why) => return Err(refused(&node, &why)),
        };
        self.filesystem(&fstype, self.facts.attempt.last_step)?;
        match self.check(&node, &fstype)? {
            Ok(()) => Err(self.mount_medium(asked, &node.clone(), PartDevice { node, fstype })),
            Err(why) => Err(refused(&node, &why)),
        }
    }

    fn mount_medium(self, asked: &Persistence, key: &str, device: PartDevice) -> Next {
        let place = place_of(&device.node);
        let mount = self.device_mount(device, part_of(key, &place, &asked.why), asked.read_only.is_some());
        step(KeptStep::Mount { key: key.to_owned(), mount: Box::new(mount) })
    }

    /// Searches file systems for files that are media: the base first, then what else can be read.
    fn files(self, asked: &Persistence, base: &Root, taken: &[String]) -> Settled<()> {
        let paths: Vec<String> = asked.labels.value.iter().map(|label| below(&asked.path.value, label)).collect();
        let paths: Vec<String> = paths.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
        for (device, place) in self.own_places(base) {
            self.files_on(asked, (&device.node, &device.fstype), Some(place), &paths)?;
        }
        for device in self.hardware.devices.values().filter(|device| is_on(device, asked.media.value)) {
            let kind = device.superblock().map(|superblock| superblock.kind.as_str());
            let Some(kind) = kind.filter(|kind| SEARCHED.contains(kind)) else { continue };
            if !self.hardware.is_divided(device) && !taken.contains(&device.node) && !device.is_member() {
                self.files_on(asked, (&device.node, kind), None, &paths)?;
            }
        }
        Ok(())
    }

    /// `mounted`: where it is mounted already.
    fn files_on(self, asked: &Persistence, on: (&str, &str), mounted: Option<&str>, paths: &[String]) -> Settled<()> {
        let known = &self.facts.attempt.layers.media;
        let (node, fstype) = on;
        let place = mounted.map_or_else(|| host_place(node), str::to_owned);
        let mount = |read_only: bool| {
            let device = PartDevice { node: node.to_owned(), fstype: fstype.to_owned() };
            let mut mount = self.device_mount(device, part_of(node, &place, &asked.why), read_only);
            if read_only {
                // Looking writes nothing, not even what a journal holds.
                without_replay(fstype).clone_into(&mut mount.step.options.data);
            } else if mounted.is_some() {
                mount.step.options.flags |= libc::MS_REMOUNT;
            }
            Box::new(mount)
        };
        let Some(files) = known.searched.get(node) else {
            if mounted.is_none() {
                self.filesystem(fstype, self.facts.attempt.last_step)?;
            }
            let mount = mounted.is_none().then(|| mount(true));
            return Err(step(KeptStep::Search { node: node.to_owned(), mount, place, files: paths.to_vec() }));
        };
        for file in files {
            let MediumFile { path, fstype: within } = file;
            let key = format!("{node}:{path}");
            if known.media.contains_key(&key) {
                continue;
            }
            let writable = asked.read_only.is_none() && !self.request.import.read_only.value && !never_written(fstype);
            match known.hosts.get(node) {
                Some(Err(why)) => return Err(refused(&key, why)),
                None if writable && mounted.is_some() && self.is_without_journal(fstype) => {
                    return Err(refused(&key, &on_medium(fstype)));
                }
                None if writable || mounted.is_none() => {
                    if !writable {
                        return Err(step(KeptStep::Host { node: node.to_owned(), mount: mount(true) }));
                    }
                    if let Err(why) = self.check_host(node, fstype, mounted.is_some())? {
                        return Err(refused(&key, &why));
                    }
                    return Err(step(KeptStep::Host { node: node.to_owned(), mount: mount(false) }));
                }
                _ => {}
            }
            let within = match within {
                Ok(within) => within.clone(),
                Err(why) => return Err(refused(&key, why)),
            };
            let since = self.facts.attempt.last_step;
            let _ = self.module("loop", since, MODULE_LIMIT)?;
            self.filesystem(&within, since)?;
            let file = format!("{place}/{path}");
            let device = PartDevice { node: node.to_owned(), fstype: within };
            let at = format!("{}.file", place_of(node));
            let mount = Box::new(self.device_mount(device, part_of(&key, &at, &asked.why), !writable));
            return Err(step(KeptStep::MountFile { key, file, mount }));
        }
        Ok(())
    }

    /// Whether parts of this type are mounted in such a way that no journal is replayed: those of a live medium.
    fn is_without_journal(self, fstype: &str) -> bool {
        let live = self.request.layers.as_ref().is_some_and(|layers| layers.live.is_some());
        live && !without_replay(fstype).is_empty()
    }

    /// What is mounted is not checked any more.
    fn check_host(self, node: &str, fstype: &str, mounted: bool) -> Settled<Result<(), String>> {
        if mounted { Ok(Ok(())) } else { self.check(node, fstype) }
    }

    /// What is kept of the mounted root.
    pub(in crate::plan::next) fn keep(self, root: &Root) -> Settled<()> {
        let (Some(settings), Root::Layers(layers)) = (&self.request.layers, root) else { return Ok(()) };
        let LayeredRoot { overlay, .. } = layers.as_ref();
        let known = &self.facts.attempt.layers;
        let memory = self.upper_is_memory(settings);
        let keeps = kept::list(settings, overlay, &known.media, memory);
        match keeps.into_iter().find(|keep| !known.media.done.contains(&keep.placed.kept.dir)) {
            Some(keep) => Err(step(KeptStep::Keep(Box::new(keep)))),
            None => Ok(()),
        }
    }
}

fn step(step: KeptStep) -> Next {
    Next::Do(Step::Layer(LayerStep::Kept(step)))
}

fn refused(key: &str, why: &str) -> Next {
    step(KeptStep::Refuse { key: key.to_owned(), why: why.to_owned() })
}

/// Whether a device is on such a disk.
fn is_on(device: &Device, media: MediaKind) -> bool {
    let usb = || device.links.iter().any(|link| link.starts_with("by-id/usb-"));
    match media {
        MediaKind::Any => true,
        MediaKind::Usb => usb(),
        MediaKind::Removable => usb() || device.name.starts_with("mmcblk"),
    }
}

fn on_medium(fstype: &str) -> String {
    format!(
        "it is on the live medium, or beside its ISO file: that is mounted without its journal ({fstype}), so that nothing is \
         written to it; expected another partition, or such a file on FAT or exFAT"
    )
}

fn of_no_use(key: &str, why: Option<&String>) -> String {
    match why {
        Some(why) => format!("{key}: {why}"),
        None => format!("{key}: its persistence.conf names no directory that can be kept"),
    }
}

fn nothing_found(asked: &Persistence) -> String {
    let labels = asked.labels.value.join(" or ");
    let storage = asked.storage.value;
    let what = match (storage.filesystem, storage.file) {
        (true, true) => "no file system and no partition is labelled, and no file called",
        (true, false) => "no file system and no partition is labelled",
        _ => "no file is called",
    };
    format!("{what} {labels}; mkfs.ext4 -L LABEL makes one, and persistence-label=LABEL names another")
}

fn no_persistence(asked: &Persistence, found: &[String]) -> Failure {
    Failure::new(
        Code::NoUpper,
        format!("nothing can be kept ({})", asked.why),
        "a medium with a persistence.conf that names directories, such as `/ union`",
        found.to_vec(),
        &[
            "attach it and type retry; taproot.wait=SECONDS waits longer",
            "retry nopersistence here keeps nothing; taproot.upper_fallback=ram on the kernel command line goes on so by itself",
        ],
    )
}

/// A directory could not be kept.
pub fn not_kept(keep: &Keep, why: &str) -> Failure {
    let dir = &keep.placed.kept.dir;
    Failure::new(
        Code::NoUpper,
        format!("{dir} cannot lie on {} ({}): {why}", keep.placed.medium, keep.why),
        "a directory on a file system that can be written",
        vec![],
        &[
            "look at the log (log), where the kernel says why",
            "retry taproot.upper_fallback=ram here goes on, with what is written to it where the root's is",
        ],
    )
}
