//! Images that are there: what is in each, and what has changed in the tree since it was packed.

use super::facts::{Change, Content, Image, Inside, Kernel, What};
use crate::hooks::files::BootFiles;
use crate::initramfs::index::Index;
use crate::initramfs::modprobe_d::ModprobeConfig;
use crate::initramfs::sources::{Kind, Source, hash};
use crate::initramfs::tree::{self, Tree, TreeError};
use crate::inspect::{self, Contents, Listing};
use crate::loader::NextBoot;
use crate::settings::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use taproot_init::devices::table::{ModuleTable, TABLE_PATH};
use taproot_init::image::{CONFIG_PATH, ImageConfig};

/// Where images are, besides where the configuration and boot loaders say.
const PLACES: [&str; 3] = ["/boot", "/efi", "/boot/efi"];
/// More images than anybody has.
const MAX_IMAGES: usize = 200;
/// No zfs module is longer, unpacked.
const MODULE: u64 = 64 << 20;
const TEXT: u64 = 8 << 20;
/// Names in one sentence.
const SHOWN: usize = 3;

/// What images are compared with, read once.
pub(super) struct Now<'a> {
    tree: &'a Tree,
    standing: Standing,
    init: Option<String>,
    hostid: Option<Vec<u8>>,
    modprobe: Vec<Source>,
    /// Module indexes by kernel.
    indexes: BTreeMap<String, Index>,
    /// Images with the names that boot loaders look for, and the kernel of each.
    images: Vec<(PathBuf, String)>,
    /// Hashes of files by path; `None`: it cannot be read.
    hashes: BTreeMap<PathBuf, Option<String>>,
    /// What of it could not be read.
    pub(super) unknown: Vec<String>,
}

impl<'a> Now<'a> {
    /// Reads what the tree has now.
    pub(super) fn read(tree: &'a Tree) -> Self {
        let mut unknown = Vec::new();
        let standing = Standing::of(tree).unwrap_or_else(|error| {
            unknown.push(format!("{error:#}"));
            Standing::default()
        });
        let hostid = tree.read_if_there("/etc/hostid", tree::TEXT).unwrap_or_else(|error| {
            unknown.push(error.to_string());
            None
        });
        let modprobe = ModprobeConfig::read(tree).unwrap_or_else(|error| {
            unknown.push(error.to_string());
            ModprobeConfig::default()
        });
        let modprobe = modprobe.sources;
        let init = standing.init.read(tree, tree::BINARY).ok().map(|bytes| hash(&bytes));
        Self {
            tree,
            standing,
            init,
            hostid,
            modprobe,
            indexes: BTreeMap::new(),
            images: Vec::new(),
            hashes: BTreeMap::new(),
            unknown,
        }
    }

    /// The kernels of the tree, oldest first.
    pub(super) fn kernels(&mut self) -> Vec<Kernel> {
        let mut releases = self.tree.kernels().unwrap_or_else(|error| {
            self.unknown.push(error.to_string());
            Vec::new()
        });
        releases.sort_by(|a, b| crate::loader::version(a, b));
        let mut kernels = Vec::new();
        for release in releases {
            match Index::read(self.tree, &release) {
                Ok(index) => {
                    let zfs = index.modules.contains_key("zfs") || index.builtin.contains("zfs");
                    kernels.push(Kernel { release: release.clone(), zfs });
                    // An output without %v is no kernel's, and told of elsewhere.
                    let image = BootFiles::of(self.tree, &release).ok().and_then(|files| self.tree.file(files.image));
                    self.images.extend(image.map(|image| (image, release.clone())));
                    self.indexes.insert(release, index);
                }
                Err(error) => self.unknown.push(error.to_string()),
            }
        }
        kernels
    }

    /// Where an image of a kernel would be written, as a path of the tree.
    pub(super) fn output(&self, kernel: &str) -> PathBuf {
        self.standing.image(kernel)
    }

    /// Every image that is found, by its path in the tree.
    pub(super) fn paths(&mut self, next: &NextBoot) -> Vec<PathBuf> {
        let mut dirs: BTreeSet<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
        let outputs: Vec<PathBuf> = self.indexes.keys().map(|kernel| self.output(kernel)).collect();
        dirs.extend(outputs.iter().filter_map(|path| path.parent().map(Path::to_owned)));
        let mut found: Vec<PathBuf> =
            next.entry.iter().flat_map(|entry| &entry.images).filter_map(|i| i.found.clone()).collect();
        found.extend(outputs);
        for dir in &dirs {
            let names = self.list(dir);
            let is_image = |name: &&String| {
                let whole = !name.starts_with('.') && name.strip_suffix(".efi").is_none();
                whole && (name.starts_with("initr") || name.contains("taproot"))
            };
            found.extend(names.iter().filter(is_image).map(|name| dir.join(name)));
            let programs = dir.join("EFI/Linux");
            found.extend(
                self.list(&programs)
                    .iter()
                    .filter(|name| name.strip_suffix(".efi").is_some())
                    .map(|name| programs.join(name)),
            );
        }
        // Each once, whatever links lead to it; what is no file is told of when it is read.
        let (mut seen, mut paths) = (BTreeSet::new(), Vec::new());
        for path in found {
            let place = self.tree.file(&path).unwrap_or_else(|| path.clone());
            if self.tree.is_there(&path) && seen.insert(place.clone()) {
                paths.push(place);
            }
        }
        paths.sort();
        paths.truncate(MAX_IMAGES);
        paths
    }

    fn list(&mut self, dir: &Path) -> Vec<String> {
        self.tree.list(dir).unwrap_or_else(|error| {
            // A directory for configuration that is a file is nothing to be told of here.
            if !error.is_absence() {
                self.unknown.push(error.to_string());
            }
            Vec::new()
        })
    }

    /// Reads one.
    pub(super) fn image(&mut self, path: &Path) -> Image {
        let (bytes, made) = self.tree.stamp(path).unwrap_or_default();
        let content = match self.tree.read(path, inspect::LIMIT) {
            Ok(image) => self.content(&image, made),
            Err(error @ TreeError::Io { .. }) => Content::Unreadable(error.to_string()),
            Err(error) => Content::Damaged(error.to_string()),
        };
        let release = self.images.iter().find(|(image, _)| image == path).map(|(_, release)| release.clone());
        Image { path: path.to_owned(), bytes, made, release, content }
    }

    fn content(&mut self, image: &[u8], made: u64) -> Content {
        let wanted = |path: &str| match path {
            CONFIG_PATH | TABLE_PATH | "/etc/hostid" | crate::initramfs::sources::SOURCES_PATH => Some(TEXT),
            "/init" => Some(MODULE),
            path => names_features(path).then_some(MODULE),
        };
        let (listing, contents) = match inspect::read(image, &wanted) {
            Ok(read) => read,
            Err(error) => return Content::Damaged(format!("{error:#}")),
        };
        let Some(config) = contents.get(CONFIG_PATH).map(|text| ImageConfig::parse(&String::from_utf8_lossy(text)))
        else {
            return Content::Other(None);
        };
        let ours = config.packer.starts_with("taproot ");
        let inside = inside(&listing, &contents, config);
        if !ours {
            return Content::Other(Some(Box::new(inside)));
        }
        let changes = self.changes(&inside, &listing, &contents, made);
        Content::Taproot(Box::new(Inside { changes, ..inside }))
    }

    /// What has changed since the image was packed.
    fn changes(&mut self, inside: &Inside, listing: &Listing, contents: &Contents, made: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut add = |what, text: String| changes.push(Change { what, text });
        let own = contents.get("/init").map(|init| hash(init));
        if let (Some(now), Some(own)) = (&self.init, own)
            && *now != own
        {
            let shown = self.standing.init.shown(self.tree);
            add(What::Init, format!("its taproot-init is not the one that is installed ({})", shown.display()));
        }
        if contents.get("/etc/hostid") != self.hostid.as_ref() {
            let shown = |bytes: Option<&Vec<u8>>| bytes.map_or_else(|| "none".to_owned(), |bytes| hostid(bytes));
            let (own, now) = (shown(contents.get("/etc/hostid")), shown(self.hostid.as_ref()));
            add(What::Hostid, format!("its hostid is {own}, that of /etc/hostid is {now}"));
        }
        let sources = listing.packed.as_ref().and_then(|packed| packed.sources.as_ref());
        let Some(sources) = sources else {
            changes.extend(self.newer_module(&inside.kernel, made));
            return changes;
        };
        let modules = self.modules(&inside.kernel, sources);
        let files = self.of_kind(sources, Kind::File);
        let configuration = self.configuration(sources);
        for (what, kind, names) in [
            (What::Modules, "modules", modules),
            (What::Configuration, "configuration", configuration),
            (What::Files, "files that it holds", files),
        ] {
            if !names.is_empty() {
                changes.push(Change { what, text: format!("{kind} changed since: {}", some(&names)) });
            }
        }
        changes
    }

    /// Of an image that does not say what it was made of: whether its most important module is younger.
    fn newer_module(&self, kernel: &str, made: u64) -> Option<Change> {
        let index = self.indexes.get(kernel)?;
        let path = index.dir.join(&index.modules.get("zfs")?.path);
        let (_, changed) = self.tree.stamp(path)?;
        let text = "the zfs module is newer than the image".to_owned();
        (changed > made).then_some(Change { what: What::Modules, text })
    }

    /// Modules that are not what they were.
    fn modules(&mut self, kernel: &str, sources: &[Source]) -> Vec<String> {
        // Without an index the kernel is gone, which is another story.
        let Some(index) = self.indexes.get(kernel) else { return Vec::new() };
        let noted = sources.iter().filter(|source| source.kind == Kind::Module);
        let paths: Vec<(String, String, Option<PathBuf>)> = noted
            .map(|source| {
                let path = index.modules.get(&source.name).map(|entry| index.dir.join(&entry.path));
                (source.name.clone(), source.mark.clone(), path)
            })
            .collect();
        let changed = |(name, mark, path): (String, String, Option<PathBuf>)| match path {
            Some(path) => (self.hash(&path).as_ref() != Some(&mark)).then_some(name),
            None => Some(format!("{name} (gone)")),
        };
        paths.into_iter().filter_map(changed).collect()
    }

    /// Files of a kind that are not what they were.
    fn of_kind(&mut self, sources: &[Source], kind: Kind) -> Vec<String> {
        let noted = sources.iter().filter(|source| source.kind == kind);
        let changed = noted.filter(|source| self.hash(Path::new(&source.name)).as_ref() != Some(&source.mark));
        changed.map(|source| source.name.clone()).collect()
    }

    /// Configuration that is not what it was, new or gone.
    fn configuration(&mut self, sources: &[Source]) -> Vec<String> {
        let mut names = self.of_kind(sources, Kind::Configuration);
        names.extend(self.of_kind(sources, Kind::Modprobe));
        let noted = |now: &&Source| sources.iter().any(|source| source.kind == now.kind && source.name == now.name);
        let any = sources.iter().any(|source| source.kind == Kind::Configuration);
        let own = self.standing.source.iter().filter(|_| !any);
        let new = self.modprobe.iter().chain(own).filter(|now| !noted(now));
        names.extend(new.map(|source| format!("{} (new)", source.name)));
        names
    }

    fn hash(&mut self, path: &Path) -> Option<String> {
        let read = || self.tree.read(path, tree::BINARY).ok().map(|bytes| hash(&bytes));
        self.hashes.entry(path.to_owned()).or_insert_with(read).clone()
    }
}

/// What an image holds.
fn inside(listing: &Listing, contents: &Contents, config: ImageConfig) -> Inside {
    let sources = listing.packed.as_ref().and_then(|packed| packed.sources.as_ref());
    let table = contents.get(TABLE_PATH).map(|text| ModuleTable::parse(&String::from_utf8_lossy(text)));
    let members = |sources: &Vec<Source>| {
        let members = sources.iter().filter(|source| source.kind == Kind::Member);
        members.map(|source| (source.mark.clone(), source.name.clone())).collect()
    };
    Inside {
        kernel: config.kernel,
        packer: config.packer,
        cmdline: config.cmdline,
        pools: config.pools.into_iter().map(|pool| (pool.name, pool.guid.to_string())).collect(),
        root: config.root.map(|root| (root.source, root.fstype)),
        hostid: contents.get("/etc/hostid").map(|bytes| hostid(bytes)),
        modules: table.and_then(Result::ok).map(|table| table.modules.into_iter().map(|module| module.name).collect()),
        files: listing.files.iter().filter(|file| file.kind != "directory").map(|file| file.path.clone()).collect(),
        features: features(contents),
        members: sources.map(members).unwrap_or_default(),
        recorded: sources.is_some(),
        changes: Vec::new(),
    }
}

/// Whether this is a module that has the table of features: zfs, and before OpenZFS 2.2 zcommon beside it.
fn names_features(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with("zfs.ko") || name.starts_with("zcommon.ko"))
}

/// Names of the features that the zfs modules in an image know: they stand in them as texts, `com.delphix:hole_birth`.
fn features(contents: &Contents) -> Vec<String> {
    let modules = contents.iter().filter(|(path, _)| names_features(path));
    let named: BTreeSet<String> = modules.flat_map(|(path, module)| texts_of(path, module)).collect();
    named.into_iter().collect()
}

fn texts_of(path: &str, module: &[u8]) -> Vec<String> {
    let mut unpacked = Vec::new();
    if path.strip_suffix(".zst").is_some() {
        // What is damaged names none, as far as it goes.
        if let Ok(reader) = zstd::stream::read::Decoder::new(module) {
            let _ = reader.take(MODULE).read_to_end(&mut unpacked);
        }
    } else {
        unpacked.extend_from_slice(module);
    }
    let texts = unpacked.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'_' | b'-')));
    let named = texts.filter(|text| {
        text.len() < 100 && (text.starts_with(b"com.") || text.starts_with(b"org.")) && text.contains(&b':')
    });
    named.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// As `hostid` prints it.
pub(super) fn hostid(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(bytes) => format!("{:08x}", u32::from_le_bytes(bytes)),
        Err(_) => format!("{} bytes", bytes.len()),
    }
}

/// A few names, and how many more.
pub(crate) fn some(names: &[String]) -> String {
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_a_module() {
        let module = b"\0com.delphix:hole_birth\0x\0org.openzfs:raidz_expansion\0com.delphix\0http://a\0".to_vec();
        let expected = ["com.delphix:hole_birth", "org.openzfs:raidz_expansion"];
        let packed = zstd::encode_all(module.as_slice(), 1).unwrap();
        for (path, bytes) in [("/lib/modules/6/updates/zfs.ko", module), ("/lib/modules/6/updates/zfs.ko.zst", packed)]
        {
            assert_eq!(features(&[(path.to_owned(), bytes)].into()), expected);
        }
        assert_eq!(features(&[("/lib/zfs.ko.zst".to_owned(), b"junk".to_vec())].into()), [""; 0]);
        // OpenZFS 2.1: most of the texts with a colon in zfs itself are no features.
        let [zfs, zcommon] = [b"\0com.delphix:resume_object\0".to_vec(), b"\0com.delphix:hole_birth\0".to_vec()];
        let split = [("/lib/zfs.ko".to_owned(), zfs), ("/lib/zcommon.ko".to_owned(), zcommon)].into();
        assert_eq!(features(&split), ["com.delphix:hole_birth", "com.delphix:resume_object"]);
    }

    #[test]
    fn a_few_names() {
        let names = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!((some(&names(3)).as_str(), some(&names(5)).as_str()), ("0, 1, 2", "0, 1, 2 and 2 more"));
        assert_eq!((hostid(&[1, 2, 3, 4]), hostid(&[1])), ("04030201".to_owned(), "1 bytes".to_owned()));
    }
}
