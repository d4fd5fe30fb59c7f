//! A root on a live medium: what the words of live-boot, casper, archiso and dracut ask for, as one set of settings.

mod places;
mod refused;

use super::layers::ToRam;
use super::upper::{Upper, ram};
use super::values::{boolean, is_off, seconds};
use super::{Decided, Note, Request, Selector, Word, known};
use crate::devices::probe::Wanted;
use places::{Path, device_and_path, dracut_root};
use std::fmt;
use std::time::Duration;

/// Whose words make a boot a live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveSystem {
    /// Debian's live-boot.
    LiveBoot,
    /// Ubuntu's casper.
    Casper,
    /// Arch's mkinitcpio-archiso.
    Archiso,
    /// dracut's dmsquash-live.
    Dracut,
}

/// A root whose layers are images on a live medium. The directory that holds them is that of the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Whose words were used.
    pub system: Decided<LiveSystem>,
    /// What the medium is called, as fstab spells a device; `None`: every file system is looked into. Where the medium is an ISO
    /// file, this is its own.
    pub tag: Option<Decided<String>>,
    /// A file that shows that this is the medium, whatever it is called.
    pub marker: Option<Decided<String>>,
    /// Only disks of this kind are looked into.
    pub kind: Option<Decided<MediumKind>>,
    /// The medium is this file.
    pub iso: Option<Decided<IsoFile>>,
    /// Which images.
    pub images: Decided<Images>,
}

/// Disks that a medium may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediumKind {
    /// USB disks, memory cards and optical drives.
    Removable,
    /// USB disks.
    Usb,
}

/// A file with a medium in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsoFile {
    /// The file system that it is on, as fstab spells a device; `None`: every one is looked into.
    pub device: Option<String>,
    /// Its path there, without a leading `/`.
    pub path: String,
}

/// Which images of a medium the root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// Those that the medium's list of this name has (`filesystem.NAME.module`, `NAME.module`), else all by their names, the last
    /// one topmost.
    Listed(String),
    /// These, the topmost first.
    Named(Vec<String>),
    /// The first of these that is there.
    FirstOf(Vec<String>),
}

impl fmt::Display for LiveSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LiveBoot => "live-boot",
            Self::Casper => "casper",
            Self::Archiso => "archiso",
            Self::Dracut => "dracut",
        })
    }
}

impl LiveSettings {
    /// What is looked for, in words.
    pub fn medium(&self) -> String {
        let named = |tag: &Option<Decided<String>>| tag.as_ref().map(|tag| tag.value.clone());
        match (&self.iso, named(&self.tag), named(&self.marker)) {
            (Some(iso), ..) => match &iso.value.device {
                Some(device) => format!("ISO file {} on {device}", iso.value.path),
                None => format!("ISO file {}", iso.value.path),
            },
            (None, Some(tag), _) => format!("live medium {tag}"),
            (None, None, Some(file)) => format!("live medium with the file {file}"),
            (None, None, None) => "live medium".to_owned(),
        }
    }

    /// The file systems to look into, as fstab spells a device; `None`: all.
    pub fn device(&self) -> Option<&str> {
        match (&self.iso, &self.marker) {
            (Some(iso), _) => iso.value.device.as_deref(),
            (None, Some(_)) => None,
            (None, None) => self.tag.as_ref().map(|tag| tag.value.as_str()),
        }
    }
}

/// What the words of a live system ask for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) live: LiveSettings,
    /// The directory that holds the images.
    pub(super) dir: Decided<String>,
    pub(super) upper: Option<Decided<Upper>>,
    pub(super) to_ram: Option<Decided<ToRam>>,
    /// How long the medium is waited for.
    pub(super) wait: Option<Decided<Duration>>,
    img_dev: Option<Decided<String>>,
    notes: Vec<Note>,
}

/// Words so far; what they mean is settled when all are known, because it depends on whether the boot is a live one.
#[derive(Debug, Default)]
pub(super) struct LiveWords {
    words: Vec<Word>,
    boot: Option<Decided<LiveSystem>>,
    /// `root=live:...`: what stands behind the colon.
    root: Option<Decided<String>>,
}

impl LiveWords {
    /// Notes a `boot=` or `root=`; whether it is the word of a live system, and of nobody else.
    pub(super) fn take_root(&mut self, key: &str, value: &str, why: &str) -> bool {
        match key {
            "boot" => {
                let system = match value {
                    "live" => Some(LiveSystem::LiveBoot),
                    "casper" => Some(LiveSystem::Casper),
                    _ => None,
                };
                self.boot = system.map(|system| Decided::new(system, why));
                false
            }
            "root" => {
                self.root = value.strip_prefix("live:").map(|spec| Decided::new(spec.to_owned(), why));
                self.root.is_some()
            }
            _ => false,
        }
    }

    /// Takes a word if it is one of these.
    pub(super) fn take(&mut self, word: &Word) -> bool {
        let known = known::LIVE.iter().any(|known| known.word == word.key);
        if known {
            self.words.push(word.clone());
        }
        known
    }

    fn system(&self) -> Option<Decided<LiveSystem>> {
        let on = |word: &&Word| !is_off(word.value.as_deref());
        let first = |of: &dyn Fn(&str) -> bool, system: LiveSystem| {
            let word = self.words.iter().filter(on).find(|word| of(&word.key))?;
            Some(Decided::new(system, word.text.as_str()))
        };
        let root = self.root.as_ref().map(|root| Decided::new(LiveSystem::Dracut, root.why.as_str()));
        let medium = |key: &str| MEDIA_OF_ARCHISO.contains(&key);
        self.boot
            .clone()
            .or(root)
            .or_else(|| first(&|key| key == "rd.live.image", LiveSystem::Dracut))
            .or_else(|| first(&medium, LiveSystem::Archiso))
            .or_else(|| first(&|key| key == "layerfs-path", LiveSystem::Casper))
    }

    /// What they ask for, if the boot is a live one; an error if that cannot be done. `request`: with its root, which is
    /// replaced by the medium.
    pub(super) fn settle(self, request: &mut Request) -> Option<Result<Asked, Note>> {
        let Some(system) = self.system() else {
            let empty = |word: &&Word| word.value.as_deref() == Some("") || OF_OTHERS.contains(&word.key.as_str());
            let alone = self.words.iter().filter(|word| !empty(word));
            let message = "means nothing without boot=live, boot=casper, root=live:... or archisobasedir=; ignored";
            request.notes.extend(alone.map(|word| note(&word.text, message)));
            return None;
        };
        // Where another initramfs asks for a hook of ours, it has its own way to the medium.
        request.ours = false;
        let root = request.root.why.clone();
        request.problems.retain(|problem| problem.word != root);
        let result = self.asked(system, request);
        if let Ok(asked) = &result {
            let live = &asked.live;
            let why = [live.iso.as_ref().map(|iso| &iso.why), live.tag.as_ref().map(|tag| &tag.why)];
            let why = why.into_iter().flatten().next().unwrap_or(&live.system.why).clone();
            let device = live.device().map(|device| Selector::Device(device.to_owned()));
            request.root = Decided::new(device.unwrap_or(Selector::Medium), why);
            request.notes.extend(asked.notes.iter().cloned());
        }
        Some(result)
    }

    fn asked(self, system: Decided<LiveSystem>, request: &Request) -> Result<Asked, Note> {
        let mut asked = Asked::new(system);
        // A menu that passes on what its boot loader set has words without a value where nothing was set.
        for word in self.words.iter().filter(|word| word.value.as_deref() != Some("")) {
            refused::check(word, asked.live.system.value)?;
            asked.take(word)?;
        }
        if let Some(root) = self.root {
            let tag = dracut_root(&root.value).map_err(|why| note(&root.why, &why))?;
            asked.live.tag = Some(Decided::new(tag, root.why));
        } else {
            asked.take_root(request)?;
        }
        asked.finish();
        Ok(asked)
    }
}

/// The machine's architecture, as the kernel calls it.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
/// Words of archiso that say which medium is meant, and nothing else.
const MEDIA_OF_ARCHISO: [&str; 5] =
    ["archisobasedir", "archisodevice", "archisolabel", "archisosearchuuid", "archisosearchfilename"];
/// Words that mean something to others, too.
const OF_OTHERS: [&str; 13] = [
    "module",
    "union",
    "fetch",
    "verify",
    "checksum",
    "read-only",
    "url",
    "netboot",
    "nfsroot",
    "nfsopts",
    "iscsi",
    "swap",
    "rd.minmem",
];

fn note(word: &str, message: &str) -> Note {
    Note { word: word.to_owned(), message: message.to_owned() }
}

/// What a word should have looked like; it is not passed over.
fn expected(word: &Word) -> Note {
    let form = known::find(&word.key).map_or("", |known| known.form);
    note(&word.text, &format!("{} is not understood; expected {}{form}", word.text, word.key))
}

impl Asked {
    fn new(system: Decided<LiveSystem>) -> Self {
        let (dir, images) = match system.value {
            LiveSystem::LiveBoot => ("live", Images::Listed("filesystem".to_owned())),
            LiveSystem::Casper => ("casper", Images::Listed("filesystem".to_owned())),
            LiveSystem::Archiso => {
                ("arch", Images::FirstOf(["airootfs.sfs", "airootfs.erofs"].map(str::to_owned).into()))
            }
            LiveSystem::Dracut => ("LiveOS", Images::FirstOf(vec!["squashfs.img".to_owned()])),
        };
        let images = Decided::new(images, format!("default ({})", system.value));
        let live = LiveSettings { system, tag: None, marker: None, kind: None, iso: None, images };
        let dir = Decided::new(dir.to_owned(), format!("default ({dir})"));
        Self { live, dir, upper: None, to_ram: None, wait: None, img_dev: None, notes: Vec::new() }
    }

    fn take(&mut self, word: &Word) -> Result<(), Note> {
        let why = word.text.as_str();
        let expected = || expected(word);
        match (word.key.as_str(), word.value.as_deref()) {
            _ if self.take_medium(word)? => {}
            ("live-media-path" | "archisobasedir" | "rd.live.dir", Some(v)) => {
                self.dir = Decided::new(Path::parse(v).ok_or_else(expected)?.0, why);
            }
            ("live-media-timeout", Some(v)) => {
                self.wait = Some(Decided::new(seconds(v).ok_or_else(expected)?, why));
            }
            ("module", Some(v)) => self.live.images = Decided::new(Images::Listed(v.to_owned()), why),
            ("layerfs-path", Some(v)) => self.live.images = Decided::new(layerfs(v).ok_or_else(expected)?, why),
            ("rd.live.squashimg", Some(v)) => {
                self.live.images = Decided::new(Images::FirstOf(vec![v.to_owned()]), why);
            }
            // live-boot and casper go on from the medium where there is too little memory.
            ("toram", Some(v)) if boolean(Some(v)).is_none() => {
                self.live.images = Decided::new(Images::Named(vec![v.to_owned()]), why);
                self.to_ram = Some(Decided::new(ToRam::IfItFits, why));
            }
            ("copytoram", Some("auto")) => self.to_ram = Some(Decided::new(ToRam::IfItFits, why)),
            (key @ ("toram" | "copytoram" | "rd.live.ram"), v) => {
                let how = if key == "toram" { ToRam::IfItFits } else { ToRam::Must };
                self.to_ram = boolean(v).ok_or_else(expected)?.then(|| Decided::new(how, why));
            }
            ("overlay-size" | "cow_spacesize", Some(v)) => {
                self.upper = Some(Decided::new(ram(v).ok_or_else(expected)?, why));
            }
            ("plainroot", None) => self.upper = Some(Decided::new(Upper::None, why)),
            ("rd.live.overlay.persistent", v) if !is_off(v) => {
                self.notes.push(note(why, "no partition is made for what is written, which goes to memory"));
            }
            ("persistent", None) => {
                self.notes.push(note(
                    why,
                    "casper's way to keep things is not known here: what is written goes to memory; persistence keeps it \
                     on a medium with a persistence.conf, taproot.upper=label:NAME on a partition",
                ));
            }
            ("union", Some(v)) if v != "overlay" && v != "overlayfs" => {
                self.notes.push(note(why, "the union is always an overlay"));
            }
            (key, None) if known::LIVE.iter().any(|known| known.word == key && known.form.starts_with('=')) => {
                return Err(expected());
            }
            _ => {}
        }
        Ok(())
    }

    /// A word that says which medium is meant; whether it is one.
    fn take_medium(&mut self, word: &Word) -> Result<bool, Note> {
        let why = word.text.as_str();
        let Some(value) = word.value.as_deref() else { return Ok(false) };
        let path = || Path::parse(value).ok_or_else(|| expected(word));
        let device = |spec: String| match Wanted::parse(&spec) {
            Some(_) => Ok(Some(Decided::new(spec, why))),
            None => Err(expected(word)),
        };
        match (word.key.as_str(), value) {
            ("live-media" | "bootfrom", "removable") => {
                self.live.kind = Some(Decided::new(MediumKind::Removable, why));
            }
            ("live-media" | "bootfrom", "removable-usb") => self.live.kind = Some(Decided::new(MediumKind::Usb, why)),
            ("live-media" | "bootfrom" | "archisodevice", _) => self.live.tag = device(value.to_owned())?,
            ("archisolabel", _) => self.live.tag = device(format!("LABEL={value}"))?,
            ("archisosearchuuid", _) => {
                self.live.tag = device(format!("UUID={value}"))?;
                let file = Path::parse(&format!("boot/{value}.uuid")).ok_or_else(|| expected(word))?;
                self.live.marker = Some(Decided::new(file.0, why));
            }
            ("archisosearchfilename", _) => self.live.marker = Some(Decided::new(path()?.0, why)),
            ("findiso" | "iso-scan/filename" | "img_loop", _) => {
                self.iso(IsoFile { device: None, path: path()?.0 }, why);
            }
            ("fromiso" | "isofrom", _) => {
                let (device, path) = device_and_path(value).ok_or_else(|| expected(word))?;
                self.iso(IsoFile { device, path: path.0 }, why);
            }
            ("img_dev", _) => self.img_dev = device(value.to_owned())?,
            ("img_label", _) => self.img_dev = device(format!("LABEL={value}"))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn iso(&mut self, iso: IsoFile, why: &str) {
        self.live.iso = Some(Decided::new(iso, why));
    }

    /// `root=` of another kind names the medium, if it names a device.
    fn take_root(&mut self, request: &Request) -> Result<(), Note> {
        let root = &request.root;
        match &root.value {
            Selector::Device(spec) if self.live.tag.is_none() => {
                self.live.tag = Some(Decided::new(spec.clone(), root.why.as_str()));
                Ok(())
            }
            Selector::Dataset { .. } | Selector::Pool(_) => Err(note(
                &root.why,
                &format!(
                    "{} looks for a live medium, and {} names a root on ZFS; without one of them it is clear which is meant, and \
                     taproot.layers=NAME:... boots images that lie in a dataset",
                    self.live.system.why, root.why
                ),
            )),
            _ => Ok(()),
        }
    }

    /// What depends on several words.
    fn finish(&mut self) {
        let Self { live, img_dev, notes, .. } = self;
        if live.system.value == LiveSystem::Archiso {
            // The images of each architecture have a directory of their own.
            self.dir.value = format!("{}/{}", self.dir.value, ARCH);
        }
        match (&mut live.iso, img_dev.take()) {
            (Some(iso), Some(device)) => iso.value.device = Some(device.value),
            (None, Some(device)) => notes.push(note(&device.why, "means nothing without img_loop=PATH; ignored")),
            (Some(iso), None) if matches!(live.system.value, LiveSystem::LiveBoot | LiveSystem::Casper) => {
                // Their words for the medium are about the file system that the file is on.
                if let Some(tag) = live.tag.take() {
                    iso.value.device.get_or_insert(tag.value);
                }
            }
            (_, None) => {}
        }
    }
}

/// `a.b.c.squashfs` lies over `a.b.squashfs`, and that over `a.squashfs`.
fn layerfs(value: &str) -> Option<Images> {
    let (stem, ending) = value.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    let stems =
        std::iter::successors(Some(stem), |stem| Some(stem.rsplit_once('.')?.0)).filter(|stem| !stem.is_empty());
    Some(Images::Named(stems.map(|stem| format!("{stem}.{ending}")).collect()))
}
