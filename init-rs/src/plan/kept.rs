//! What is kept where: the media of a boot, and what `taproot.bind=` names, put together (pure).

use super::layers::Overlay;
use super::mounts::{Foreign, MountStep, Origin};
use super::names;
use super::options::MountOptions;
use super::persistence::{Conf, How, Kept};
use crate::cmdline::{LayerSettings, UpperFallback};
use crate::sorted;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A medium that directories are kept on, mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// What names it.
    pub name: String,
    /// Where it is mounted.
    pub place: String,
    /// What its `persistence.conf` says.
    pub conf: Conf,
    /// Whether nothing is written to it.
    pub read_only: bool,
}

/// A file that may be a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediumFile {
    /// Its path on its file system.
    pub path: String,
    /// Type of the file system in it, or why it is none.
    pub fstype: Result<String, String>,
}

/// What is known of media and of what is kept on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptFacts {
    /// Media by what they were looked for as, or why they cannot be used.
    pub media: BTreeMap<String, Result<Medium, String>>,
    /// File systems that were searched for files, by their nodes, and what was found there.
    pub searched: BTreeMap<String, Vec<MediumFile>>,
    /// Those of them that are mounted writable for a file on them, or why not.
    pub hosts: BTreeMap<String, Result<(), String>>,
    /// What is to be kept, once all media are known.
    pub keeping: Option<Keeping>,
    /// Directories that are done, or could not be.
    pub done: BTreeSet<String>,
}

/// What the media of a boot keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The whole root.
    pub root: Option<Placed>,
    /// Directories, those above others first.
    pub dirs: Vec<Placed>,
    /// What is passed over, and why.
    pub warnings: Vec<String>,
}

/// Something that is kept, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What.
    pub kept: Kept,
    /// What names the medium.
    pub medium: String,
    /// Where that is mounted.
    pub place: String,
    /// Whether nothing is written to it.
    pub read_only: bool,
}

/// One directory to be kept, and all that is needed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// What, and where.
    pub placed: Placed,
    /// The root as it is put together: its lowers and options hold for directories as well.
    pub overlay: Overlay,
    /// The directory in memory that uppers can be made in.
    pub memory: Option<String>,
    /// What follows when it cannot be kept.
    pub otherwise: UpperFallback,
    /// The word that asks for it.
    pub why: String,
}

impl KeptFacts {
    /// The whole root, if it is kept, and can be written to.
    pub fn root(&self) -> Option<&Placed> {
        self.keeping.as_ref()?.root.as_ref().filter(|root| !root.read_only)
    }

    /// What was kept of the whole root on a medium that is not written to.
    pub fn root_lower(&self) -> Option<String> {
        let root = self.keeping.as_ref()?.root.as_ref().filter(|root| root.read_only)?;
        Some(format!("{}/rw", root.source()))
    }

    /// Places of mounts, what lies on others first.
    pub fn places(&self) -> Vec<String> {
        let media = self.media.values().flatten().map(|medium| medium.place.clone());
        let hosts = self.hosts.iter().filter(|(_, host)| host.is_ok()).map(|(node, _)| host_place(node));
        media.chain(hosts).collect()
    }
}

impl Placed {
    /// The directory on the medium.
    pub fn source(&self) -> String {
        super::layers::below(&self.place, &self.kept.source)
    }
}

impl Keep {
    /// What is mounted, for the record.
    pub fn mount(&self) -> MountStep {
        let dir = self.placed.kept.dir.clone();
        let fstype = if self.placed.kept.how == How::Union { "overlay" } else { "bind" };
        MountStep {
            dataset: self.placed.source(),
            target: dir.clone(),
            place: dir,
            options: MountOptions { flags: 0, data: String::new() },
            why: self.why.clone(),
            origin: Origin::Root,
            nofail: false,
            foreign: Some(Foreign { fstype: fstype.to_owned(), device: false, wait: Duration::ZERO }),
            key: None,
            overlay: true,
        }
    }
}

/// Where the medium on a device is mounted: below the name that the device goes by.
pub fn place_of(node: &str) -> String {
    format!("{}/{}", super::layers::MEDIA, names::base(node))
}

/// Where a file system is mounted that is searched for files, and that has one.
pub fn host_place(node: &str) -> String {
    format!("{}.host", place_of(node))
}

/// What these media keep. `root`: whether `/ union` is of use.
pub fn together<'m>(media: impl Iterator<Item = &'m Medium>, root: bool) -> Keeping {
    let mut keeping = Keeping::default();
    let mut all: Vec<Placed> = Vec::new();
    for medium in media {
        let from = |text: &String| format!("{}: persistence.conf: {text}", medium.name);
        keeping.warnings.extend(medium.conf.warnings.iter().map(from));
        for kept in &medium.conf.kept {
            let Kept { dir, .. } = kept;
            if let Some(first) = all.iter().find(|placed| placed.kept.dir == *dir) {
                let why = format!("{}: {dir} is kept on {} already", medium.name, first.medium);
                keeping.warnings.push(why);
                continue;
            }
            let (medium, place, read_only) = (medium.name.clone(), medium.place.clone(), medium.read_only);
            all.push(Placed { kept: kept.clone(), medium, place, read_only });
        }
    }
    let (roots, mut dirs): (Vec<Placed>, Vec<Placed>) = all.into_iter().partition(|placed| placed.kept.dir == "/");
    sorted::by(&mut dirs, |a, b| a.kept.dir.cmp(&b.kept.dir));
    keeping.dirs = dirs;
    keeping.root = roots.into_iter().next().filter(|placed| {
        if !root {
            let why = "taproot.upper= says where the root's upper is, so `/ union` is passed over";
            keeping.warnings.push(format!("{}: {why}", placed.medium));
        }
        root
    });
    keeping
}

/// What is to be kept under this root, in this order: what lies above others first, links last, because they lead into all of it.
pub fn list(settings: &LayerSettings, overlay: &Overlay, known: &KeptFacts, memory: bool) -> Vec<Keep> {
    let memory = memory.then(|| format!("{}/kept", super::layers::UPPER));
    let keep = |placed: Placed, otherwise, why: &str| Keep {
        placed,
        overlay: overlay.clone(),
        memory: memory.clone(),
        otherwise,
        why: why.to_owned(),
    };
    let mut all: Vec<Keep> = Vec::new();
    if let Some(bind) = &settings.bind {
        // Where nothing takes what is written, nothing lies beside it either.
        let upper = overlay.upper.clone();
        let otherwise = if upper.is_some() { settings.fallback.value } else { UpperFallback::Ram };
        let place = upper.map(|dirs| dirs.bind).unwrap_or_default();
        for dir in &bind.value {
            let kept = Kept { dir: dir.clone(), how: How::Bind, source: dir.trim_start_matches('/').to_owned() };
            let placed = Placed { kept, medium: "the upper".to_owned(), place: place.clone(), read_only: false };
            all.push(keep(placed, otherwise, &bind.why));
        }
    }
    let named: BTreeSet<String> = all.iter().map(|keep| keep.placed.kept.dir.clone()).collect();
    if let (Some(persistence), Some(keeping)) = (&settings.persistence, &known.keeping) {
        let others = keeping.dirs.iter().filter(|placed| !named.contains(&placed.kept.dir));
        all.extend(others.map(|placed| keep(placed.clone(), persistence.fallback.value, &persistence.why)));
    }
    sorted::by_key(&mut all, |keep| (keep.placed.kept.how == How::Link, keep.placed.kept.dir.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;
    use crate::plan::layers::UpperDirs;
    use crate::plan::persistence;

    fn medium(name: &str, conf: &str) -> Medium {
        Medium { name: name.into(), place: place_of(name), conf: persistence::parse(conf), read_only: false }
    }

    #[test]
    fn media_are_used_together_and_the_first_that_keeps_a_directory_has_it() {
        let media =
            [medium("/dev/sda3", "/home union\n/var bind,source=v\nx\n"), medium("/dev/zd0", "/ union\n/home\n")];
        let all = together(media.iter(), true);
        let dirs: Vec<(&str, &str)> = all.dirs.iter().map(|p| (p.kept.dir.as_str(), p.place.as_str())).collect();
        assert_eq!(dirs, [("/home", "/run/taproot/persistence/sda3"), ("/var", "/run/taproot/persistence/sda3")]);
        assert_eq!(all.root.as_ref().unwrap().source(), "/run/taproot/persistence/zd0");
        assert_eq!(all.warnings.len(), 2, "{:?}", all.warnings);
        let without = together(media.iter(), false);
        assert!(without.root.is_none() && without.warnings.iter().any(|w| w.contains("`/ union` is passed over")));
    }

    #[test]
    fn links_come_last_and_an_own_word_is_stronger() {
        let settings = parse(b"taproot.layers=a persistence taproot.bind=/var/lib/docker:/srv").layers.unwrap();
        let media = [medium("/dev/sda3", "/etc link\n/srv\n/var union\n")];
        let known = KeptFacts { keeping: Some(together(media.iter(), true)), ..KeptFacts::default() };
        let overlay = Overlay { upper: Some(UpperDirs::within("/u")), ..Overlay::default() };
        let keeps = list(&settings, &overlay, &known, true);
        let places: Vec<(&str, String)> =
            keeps.iter().map(|k| (k.placed.kept.dir.as_str(), k.placed.source())).collect();
        let on = |dir: &str| format!("/run/taproot/persistence/sda3/{dir}");
        assert_eq!(
            places,
            [
                ("/srv", "/u/bind/srv".to_owned()),
                ("/var", on("var")),
                ("/var/lib/docker", "/u/bind/var/lib/docker".to_owned()),
                ("/etc", on("etc")),
            ]
        );
        assert!(keeps.iter().all(|keep| keep.otherwise == UpperFallback::Ram && keep.memory.is_some()));
    }
}
