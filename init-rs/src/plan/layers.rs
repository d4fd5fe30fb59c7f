//! Layers: where their parts are, and the overlay that is made of them. Pure.

use crate::cmdline::{ITSELF, LayerSettings, Upper};
use std::collections::BTreeMap;

/// Where the base of a layered root is mounted: what `root=` names.
pub const BASE: &str = "/run/taproot/base";
/// Where the layer device is mounted.
pub const DEVICE: &str = "/run/taproot/layer-device";
/// Where an upper is mounted that is not a directory of the base.
pub const UPPER: &str = "/run/taproot/upper";
/// Where an upper is mounted that is a layer, read-only.
pub const KEPT: &str = "/run/taproot/upper-kept";
/// Where parts of a root that is a layer itself are mounted, read-only.
pub const PARTS: &str = "/run/taproot/parts";
/// Where media are mounted that directories are kept on, each below its name.
pub const MEDIA: &str = "/run/taproot/persistence";
/// Where the file system of the layer state is mounted, if it is not the base.
pub const UPPERS: &str = "/run/taproot/uppers";
/// Where each layer is mounted, by its name.
pub const LAYERS: &str = "/run/taproot/layers";

/// The file system's own directory that holds the state and its uppers ([`crate::layers`]).
pub const STATE_DIR: &str = ".layers";
/// What stands for the identity of a directory with nothing in it.
pub const EMPTY: &str = "empty";

/// Where layers lie that were copied to memory.
pub const RAM: &str = "/run/taproot/ram";

/// What lies beside an image and says whether it is the one that was sealed, by its ending.
pub const BESIDE: [&str; 3] = ["sha256", "verity", "roothash"];

/// How images are called, behind the layer's name; the first that is there is taken (what they say of themselves:
/// [`crate::devices::probe::sealed`]).
pub const ENDINGS: [&str; 3] = [".sqsh", ".squashfs", ".erofs"];

/// What a layer's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFile {
    /// The layer.
    pub name: String,
    /// Path of the image or directory, below [`BASE`] or [`DEVICE`]; empty if there is none.
    pub path: String,
    /// What it is.
    pub kind: LayerKind,
    /// What tells it from another one of its name: of an image its beginning and its size. Directories are not told apart.
    pub identity: String,
}

/// What a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerKind {
    /// Nothing of that name is there.
    Missing,
    /// A directory.
    Directory,
    /// An image.
    Image {
        /// Type of its file system.
        fstype: String,
        /// Bytes that its superblock says it has.
        needs: u64,
        /// Bytes that the file has.
        size: u64,
    },
    /// A file that is no image.
    Unknown {
        /// Why it is not taken for one.
        why: String,
    },
}

/// Something that is copied to memory: an image with what lies beside it, or all of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Where it is.
    pub from: String,
    /// Where it comes to lie, below [`RAM`].
    pub to: String,
}

/// What something takes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes, each file in whole pages.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// Where the copy of what lies there comes to lie.
pub fn in_ram(path: &str) -> String {
    format!("{RAM}/{}", path.rsplit('/').next().unwrap_or_default())
}

/// An overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Directories, the topmost first.
    pub lowers: Vec<String>,
    /// What takes what is written; `None`: nothing can be.
    pub upper: Option<UpperDirs>,
    /// Options and their values.
    pub options: Vec<(String, String)>,
    /// Options that a kernel is told only if it knows them: where it does not, there is nothing to choose.
    pub if_known: Vec<(String, String)>,
}

/// Directories of an upper, all on one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpperDirs {
    /// What holds them.
    pub dir: String,
    /// What takes what is written.
    pub upper: String,
    /// The kernel's work directory.
    pub work: String,
    /// What lies beside the overlay ([`LayerSettings::bind`]).
    pub bind: String,
}

impl UpperDirs {
    /// In this directory.
    pub fn within(dir: &str) -> Self {
        let at = |name: &str| format!("{dir}/{name}");
        Self { dir: dir.to_owned(), upper: at("upper"), work: at("work"), bind: at("bind") }
    }

    /// In this directory, called as live-boot calls them.
    pub fn of_live(dir: &str) -> Self {
        Self { upper: format!("{dir}/rw"), ..Self::within(dir) }
    }
}

/// The overlay of these layers, by their names. The order of the lowers is made here and nowhere else: what earlier boots left in
/// uppers, then the layers as they were named. `retained`: these uppers. `flags`: options over ours.
pub fn overlay(
    settings: &LayerSettings,
    names: &[String],
    retained: &[&str],
    upper: Option<UpperDirs>,
    flags: Vec<(String, String)>,
) -> Overlay {
    let itself = || below(BASE, &settings.dir.value);
    let places = names.iter().map(|name| if name == ITSELF { itself() } else { place(name) });
    let lowers: Vec<String> = retained.iter().map(|dir| (*dir).to_owned()).chain(places).collect();
    // Kernels differ in what they do if nothing is said, and an upper that was made in one way is damaged in another.
    let redirect = if upper.is_some() { "off" } else { "nofollow" };
    let ours =
        [("index", "off"), ("metacopy", "off"), ("nfs_export", "off"), ("redirect_dir", redirect), ("xino", "off")];
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    options.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    options.extend(flags);
    // Left to itself the kernel writes a number of its own into a new upper.
    let if_known = if options.contains_key("uuid") { vec![] } else { vec![("uuid".to_owned(), "null".to_owned())] };
    Overlay { lowers, upper, options: options.into_iter().collect(), if_known }
}

/// Where what an earlier boot left in an upper is.
pub fn kept(upper: &Upper) -> String {
    match upper {
        Upper::Directory(dir) => format!("{BASE}/{dir}/upper"),
        _ => format!("{KEPT}/upper/upper"),
    }
}

/// What a directory of the root is called where all that is needed of it is one name.
pub fn escaped(place: &str) -> String {
    let shown = |c: char| match c {
        '/' => "-".to_owned(),
        '-' | '%' | ':' | ',' | '\\' => format!("%{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    place.trim_matches('/').chars().map(shown).collect()
}

/// Whether the state and its uppers lie on the base, where this is asked for: those of an upper in memory, or of none, do, too.
pub fn is_on_base(upper: &Upper) -> bool {
    matches!(upper, Upper::Directory(_) | Upper::Ram { .. } | Upper::None)
}

/// The part, mounted outside of the root, that a path lies in.
pub fn part_of(path: &str) -> Option<&'static str> {
    let within = |part: &&str| path.strip_prefix(*part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    [BASE, DEVICE, UPPER, UPPERS, RAM].into_iter().find(within)
}

/// Where a layer is mounted.
pub fn place(name: &str) -> String {
    format!("{LAYERS}/{name}")
}

/// A directory below another, as paths are written.
pub fn below(place: &str, dir: &str) -> String {
    if dir.is_empty() { place.to_owned() } else { format!("{place}/{dir}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;

    fn of(line: &str, retained: Option<&str>, upper: Option<&str>) -> (Vec<String>, String) {
        let settings = parse(line.as_bytes()).layers.unwrap();
        let flag = |flag: &String| {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            (name.to_owned(), value.to_owned())
        };
        let flags = settings.flags.iter().flat_map(|flags| &flags.value).map(flag).collect();
        let dirs = upper.map(UpperDirs::within);
        let overlay = overlay(&settings, &settings.names.value, retained.as_slice(), dirs, flags);
        let options: Vec<String> = overlay.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (overlay.lowers, options.join(","))
    }

    #[test]
    fn the_first_name_is_on_top_and_an_earlier_upper_over_it() {
        let (lowers, options) = of("taproot.layers=c:b:a", None, Some("/u"));
        assert_eq!(lowers, ["/run/taproot/layers/c", "/run/taproot/layers/b", "/run/taproot/layers/a"]);
        assert_eq!(options, "index=off,metacopy=off,nfs_export=off,redirect_dir=off,xino=off");
        let (lowers, _) = of("sqsh_layers=c:b ram_layer=1G", Some("/run/taproot/base/upper/upper"), Some("/u"));
        assert_eq!(lowers[..2], ["/run/taproot/base/upper/upper", "/run/taproot/layers/c"]);
    }

    #[test]
    fn the_base_itself_is_where_it_is_mounted() {
        let (lowers, _) = of("root=UUID=1 taproot.layers=site:.", None, Some("/u"));
        assert_eq!(lowers, ["/run/taproot/layers/site", "/run/taproot/base"]);
        let (lowers, _) = of("root=UUID=1 taproot.layers=. taproot.layerdir=a/b", None, Some("/u"));
        assert_eq!(lowers, ["/run/taproot/base/a/b"]);
        for (place, name) in
            [("/var", "var"), ("/var/lib", "var-lib"), ("/var-lib", "var%2dlib"), ("/a:b,c%", "a%3ab%2cc%25")]
        {
            assert_eq!(escaped(place), name);
        }
    }

    #[test]
    fn words_are_over_what_is_said_anyway() {
        let (_, options) = of("sqsh_layers=c:b overlayflags=redirect_dir=on,volatile", None, Some("/u"));
        assert_eq!(options, "index=off,metacopy=off,nfs_export=off,redirect_dir=on,volatile=,xino=off");
        assert!(of("taproot.layers=c:b", None, None).1.contains("redirect_dir=nofollow"));
    }
}
