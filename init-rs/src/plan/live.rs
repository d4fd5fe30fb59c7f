//! Live media: what makes a file system one, and which of its images the root is made of. Pure.

use super::names;
use super::root::DeviceRoot;
use crate::cmdline::{Images, LAYERS_MAX, LayerSettings, LiveSettings, LiveSystem};
use crate::devices::known::{Device, Superblock};
use crate::devices::probe::Wanted;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a file system is mounted that holds the ISO file with the medium.
pub const HOST: &str = "/run/taproot/medium-host";
/// Images that are in another image, as older media of Fedora have them.
pub const NESTED: [&str; 2] = ["LiveOS/rootfs.img", "LiveOS/ext3fs.img"];
/// How images are called; the first four can be layers, the others are known to live-boot.
const ENDINGS: [&str; 10] =
    [".squashfs", ".erofs", ".sqsh", ".sfs", ".dir", ".ext2", ".ext3", ".ext4", ".xfs", ".jffs2"];

/// What was seen of a file system that may be the medium, or hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Names in the directory that is to hold the images.
    pub names: Vec<String>,
    /// Whether the file is there that shows that this is the medium.
    pub marker: bool,
    /// The ISO file, if it is there: its bytes, and what its superblock says.
    pub iso: Option<(u64, Option<Superblock>)>,
}

/// What is known of a live medium.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFacts {
    /// File systems that were looked into, by their nodes.
    pub looked: BTreeMap<String, Looked>,
    /// The file system that holds the ISO file with the medium, once it is mounted.
    pub host: Option<DeviceRoot>,
    /// What is in the directory of its images, once it is mounted.
    pub listing: Option<Listing>,
    /// Where else its parts are shown.
    pub shown: Vec<String>,
}

/// A file system that was looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Since when the device was there then: what has come since holds something else.
    pub since: Duration,
    /// What was seen, or why nothing was.
    pub result: Result<Sight, String>,
}

/// What is in the directory of a medium's images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Names.
    pub names: Vec<String>,
    /// The texts of the lists of images that are there.
    pub lists: BTreeMap<String, String>,
}

impl LiveFacts {
    /// Whether a device was looked into since it came.
    pub fn is_looked_into(&self, device: &Device) -> bool {
        self.looked.get(&device.node).is_some_and(|looked| looked.since == device.since)
    }

    /// What was seen of a device since it came.
    pub fn sight(&self, device: &Device) -> Option<&Sight> {
        let looked = self.looked.get(&device.node).filter(|looked| looked.since == device.since)?;
        looked.result.as_ref().ok()
    }
}

/// What is looked for in a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// The directory with the images; empty for none.
    pub dir: String,
    /// The file that shows that this is the medium; empty for none.
    pub marker: String,
    /// The ISO file; empty for none.
    pub iso: String,
}

impl Sought {
    /// What these settings look for.
    pub fn of(settings: &LayerSettings, live: &LiveSettings) -> Self {
        let iso = live.iso.as_ref().map(|iso| iso.value.path.clone()).unwrap_or_default();
        let dir = if iso.is_empty() { settings.dir.value.clone() } else { String::new() };
        Self { dir, marker: live.marker.as_ref().map(|marker| marker.value.clone()).unwrap_or_default(), iso }
    }
}

/// Whether what was seen of a device makes it the medium, or what holds it; else why not.
pub fn judge(settings: &LayerSettings, live: &LiveSettings, device: &Device, sight: &Sight) -> Result<(), String> {
    if let Some(iso) = &live.iso {
        let path = &iso.value.path;
        return match &sight.iso {
            None => Err(format!("has no file {path}")),
            Some((_, None)) => Err(format!("{path} is no ISO file: it holds no known file system")),
            Some((_, Some(superblock))) => match &live.tag {
                Some(tag) if !carries(&tag.value, superblock) => {
                    Err(format!("{path} is not {}, but has the label {:?}", tag.value, superblock.label))
                }
                _ => Ok(()),
            },
        };
    }
    let tagged = live.tag.as_ref().and_then(|tag| Wanted::parse(&tag.value)).map(|wanted| device.is(&wanted));
    match (&live.marker, tagged) {
        (Some(marker), tagged) if tagged != Some(true) && !sight.marker => {
            return Err(format!("has no file {}", marker.value));
        }
        (None, Some(false)) => return Err("is called otherwise".to_owned()),
        _ => {}
    }
    if !settings.names.value.is_empty() {
        return Ok(());
    }
    images(live, &settings.dir.value, &sight.names, &BTreeMap::new()).map(drop)
}

fn carries(tag: &str, superblock: &Superblock) -> bool {
    match Wanted::parse(tag) {
        Some(Wanted::Label(label)) => superblock.label == label,
        Some(Wanted::Uuid(uuid)) => superblock.uuid.eq_ignore_ascii_case(&uuid),
        // A file is neither a partition nor a node.
        _ => true,
    }
}

/// Names of the lists that may say which images there are, the first that is there counts.
pub fn lists(images: &Images) -> Vec<String> {
    match images {
        Images::Listed(name) => vec![format!("filesystem.{name}.module"), format!("{name}.module")],
        Images::Named(_) | Images::FirstOf(_) => Vec::new(),
    }
}

/// The images that the root is made of, the topmost first; else why there are none. `names`: what is in their directory; `lists`: the
/// texts of those lists that are there.
pub fn images(
    live: &LiveSettings,
    dir: &str,
    names: &[String],
    lists: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let there = |name: &&String| names.contains(*name);
    let found = match &live.images.value {
        Images::Named(asked) => match asked.iter().find(|name| !there(name)) {
            Some(lacking) => return Err(format!("has no {dir}/{lacking}")),
            None => asked.clone(),
        },
        Images::FirstOf(one) => match one.iter().find(there) {
            Some(name) => vec![name.clone()],
            None => return Err(format!("has no {dir}/{}", one.join(&format!(" or {dir}/")))),
        },
        Images::Listed(_) => match self::lists(&live.images.value).iter().find_map(|list| lists.get(list)) {
            // The first one is the lowest.
            Some(list) => list.split_whitespace().rev().map(str::to_owned).collect(),
            None => by_name(live, dir, names)?,
        },
    };
    if found.is_empty() {
        return Err(format!("the list in {dir} names no image"));
    }
    if found.len() > LAYERS_MAX {
        return Err(format!("has {} images in {dir}; an overlay takes at most {LAYERS_MAX}", found.len()));
    }
    for (at, name) in found.iter().enumerate() {
        names::check_layer(name).map_err(|why| format!("{dir}/{name} is not called as a layer can be: {why}"))?;
        if found.iter().skip(at + 1).any(|other| other == name) {
            return Err(format!("the list in {dir} names {name} twice"));
        }
    }
    Ok(found)
}

/// All images, the last by its name on top.
fn by_name(live: &LiveSettings, dir: &str, names: &[String]) -> Result<Vec<String>, String> {
    let mut found: Vec<String> =
        names.iter().filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending))).cloned().collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    if found.is_empty() {
        let what = if live.system.value == LiveSystem::Casper { "casper" } else { "live-boot" };
        return Err(format!(
            "has no image in {dir} ({}, as {what} calls them)",
            ENDINGS.get(..3).unwrap_or_default().join(", ")
        ));
    }
    Ok(found)
}

/// Where the live system has its parts, and which of ours each is. What is not below `/run` is in the root.
pub fn places(system: LiveSystem) -> Vec<(&'static str, Place)> {
    let of_live_boot = [
        ("/run/live/medium", Place::Medium),
        ("/run/live/rootfs", Place::Images),
        ("/run/live/overlay", Place::Upper),
        ("/run/live/findiso", Place::Host),
    ];
    match system {
        LiveSystem::LiveBoot => of_live_boot.to_vec(),
        // Its installer and its list of packages are looked for there.
        LiveSystem::Casper => of_live_boot.into_iter().chain([("/cdrom", Place::Medium)]).collect(),
        LiveSystem::Archiso => vec![
            ("/run/archiso/bootmnt", Place::Medium),
            ("/run/archiso/airootfs", Place::Image),
            ("/run/archiso/cowspace", Place::Upper),
            ("/run/archiso/img_dev", Place::Host),
        ],
        LiveSystem::Dracut => vec![
            ("/run/initramfs/live", Place::Medium),
            ("/run/rootfsbase", Place::Image),
            ("/run/initramfs/isoscan", Place::Host),
        ],
    }
}

/// A part of a live system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The medium.
    Medium,
    /// The file system with the ISO file.
    Host,
    /// Each image, by its name.
    Images,
    /// The only image.
    Image,
    /// What the upper is on.
    Upper,
}

impl Sight {
    /// As text, for a parent process: a line for each thing seen.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> =
            self.names.iter().filter(|name| !name.contains('\n')).map(|name| format!("name {name}")).collect();
        lines.extend(self.marker.then(|| "marker".to_owned()));
        if let Some((size, superblock)) = &self.iso {
            lines.push(format!("iso {size}"));
            if let Some(superblock) = superblock {
                let fields = [("kind", &superblock.kind), ("uuid", &superblock.uuid), ("label", &superblock.label)];
                lines.extend(fields.map(|(name, value)| format!("iso-{name} {}", value.replace('\n', " "))));
            }
        }
        lines.push("end".to_owned());
        lines.join("\n")
    }

    /// From such a text; an error for one that says why nothing was seen, or that is cut off.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut sight = Self::default();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let superblock = |iso: &mut Option<(u64, Option<Superblock>)>, set: &dyn Fn(&mut Superblock)| {
                let empty = || Superblock { kind: String::new(), uuid: String::new(), label: String::new() };
                if let Some((_, superblock)) = iso {
                    set(superblock.get_or_insert_with(empty));
                }
            };
            match key {
                "name" => sight.names.push(value.to_owned()),
                "marker" => sight.marker = true,
                "iso" => sight.iso = Some((value.parse().unwrap_or_default(), None)),
                "iso-kind" => superblock(&mut sight.iso, &|s| value.clone_into(&mut s.kind)),
                "iso-uuid" => superblock(&mut sight.iso, &|s| value.clone_into(&mut s.uuid)),
                "iso-label" => superblock(&mut sight.iso, &|s| value.clone_into(&mut s.label)),
                "error" => return Err(value.to_owned()),
                "end" => return Ok(sight),
                _ => {}
            }
        }
        Err("what was seen could not be told".to_owned())
    }
}

#[cfg(test)]
mod tests;
