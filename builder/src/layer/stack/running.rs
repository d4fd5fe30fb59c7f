//! What the running system was booted with: where its layers, its upper and its state lie.

use super::mounts::{flags, mounted_at, overlay_at};
use crate::layer::hidden;
use crate::layer::node::Namespace;
use crate::layer::tree::Source;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use taproot_init::layers::request::Mounted;
use taproot_init::layers::state::{Digest, Flags, Image};
use taproot_init::layers::{Layer, Places, Stack, State};
use taproot_init::plan::layers::{BASE, DEVICE, ENDINGS, LAYERS, STATE_DIR, UPPER, UPPERS, place};
use taproot_init::report::boot::REPORT_PATH;

/// What takes what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// `uppers/N` of the state.
    Numbered(u32),
    /// This directory, which the command line or a default named; `upper` is in it.
    Named(PathBuf),
    /// Memory.
    Ram,
    /// Nothing.
    None,
}

/// A lower of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lower {
    /// The layer of this name.
    Named(String),
    /// `uppers/N/upper` of the state.
    Frozen(u32),
    /// Another directory.
    Directory(PathBuf),
}

/// The running system's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Where its layers lie.
    pub places: Places,
    /// What takes what is written.
    pub live: Live,
    /// The topmost first.
    pub lowers: Vec<Lower>,
    /// Overlay options of the upper.
    pub flags: Flags,
    /// What the upper holds may be lost with the power (`overlayflags=volatile`).
    pub volatile: bool,
    /// The kernel's command line lists the layers: it goes over the state.
    pub listed: bool,
}

impl Running {
    /// Looks at the system.
    pub fn find() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("{path}: reading it"));
        let parameter = |name: &str| {
            let value = fs::read_to_string(format!("/sys/module/overlay/parameters/{name}")).unwrap_or_default();
            value.trim() == "Y"
        };
        let words = match fs::read_to_string(REPORT_PATH).ok().and_then(|json| words(&json)) {
            Some(words) => words,
            None => read("/proc/cmdline")?,
        };
        Self::of(&read("/proc/self/mountinfo")?, &words, parameter)
    }

    pub(crate) fn of(mountinfo: &str, cmdline: &str, parameter: impl Fn(&str) -> bool) -> Result<Self> {
        let request = taproot_init::cmdline::parse(cmdline.as_bytes());
        let overlay = overlay_at(mountinfo, Path::new("/")).map_err(|kind| {
            anyhow::anyhow!(
                "expected / to be an overlay of layers that taproot-init has mounted, found {kind}; `taproot layer merge --offline` is \
                 for layers of no running system"
            )
        })?;
        let is_mounted = |place: &str| mounted_at(mountinfo, Path::new(place)).is_some();
        let in_memory = mounted_at(mountinfo, Path::new(UPPER)).is_some_and(|(kind, _)| kind == "tmpfs");
        let is_upper = |path: &Path| path.starts_with(UPPER);
        let home = match &overlay.upper {
            _ if is_mounted(UPPERS) => UPPERS,
            Some(upper) if is_upper(upper) && !in_memory => UPPER,
            _ => BASE,
        };
        let state = Path::new(home).join(STATE_DIR);
        let dir = request.layers.as_ref().map(|layers| layers.dir.value.clone()).unwrap_or_default();
        let mut images: Vec<PathBuf> = Vec::new();
        for place in [PathBuf::from(home), Path::new(BASE).join(&dir), Path::new(DEVICE).join(&dir)] {
            // Joined with nothing, a path ends with a slash.
            let place: PathBuf = place.components().collect();
            if !images.contains(&place) {
                images.push(place);
            }
        }
        let live = match &overlay.upper {
            None => Live::None,
            Some(upper) => match numbered(&state, upper) {
                Some(number) => Live::Numbered(number),
                None if in_memory && is_upper(upper) => Live::Ram,
                None => Live::Named(upper.parent().unwrap_or(upper).to_owned()),
            },
        };
        let lowers = overlay.lowers.iter().map(|path| lower(&state, path)).collect();
        let volatile = overlay.options.contains_key("volatile");
        Ok(Self {
            flags: flags(&overlay, parameter),
            places: Places { state, images },
            live,
            lowers,
            volatile,
            listed: request.layers.is_some_and(|layers| !layers.names.value.is_empty()),
        })
    }

    /// The top of the file system that holds the state and new images.
    pub fn home(&self) -> &Path {
        self.places.state.parent().unwrap_or(&self.places.state)
    }

    /// The upper's own directory, as the overlay has it; what is written is in there.
    pub fn upper(&self) -> Result<PathBuf> {
        match &self.live {
            Live::Numbered(number) => Ok(self.places.upper(*number).join("upper")),
            Live::Named(dir) => Ok(dir.join("upper")),
            Live::Ram => Ok(Path::new(UPPER).join("upper")),
            Live::None => bail!(
                "expected a root with an upper, found one that is read-only (taproot.upper=none, or the upper could not be had): there is \
                 nothing to commit"
            ),
        }
    }

    /// What the upper hides of the layers below it.
    pub fn hidden(&self) -> Result<hidden::Report> {
        if self.live == Live::None {
            return Ok(hidden::Report::default());
        }
        let open = |path: PathBuf| Source::open(&path, Namespace::Trusted);
        let lowers = self.lowers.iter().map(|lower| open(self.place_of(lower))).collect::<Result<Vec<_>>>()?;
        hidden::hidden(&open(self.upper()?)?, &lowers)
    }

    /// Where a lower can be looked into.
    pub fn place_of(&self, lower: &Lower) -> PathBuf {
        match lower {
            Lower::Named(name) => PathBuf::from(place(name)),
            Lower::Frozen(number) => self.places.upper(*number).join("upper"),
            Lower::Directory(path) => path.clone(),
        }
    }

    /// What it was booted with, in the state's words.
    pub fn mounted(&self, state: &State) -> Mounted {
        let mut layers: Vec<Layer> = self.lowers.iter().map(|lower| self.layer(lower, state)).collect();
        let ram = self.live == Live::Ram;
        let upper = match &self.live {
            Live::Numbered(number) => *number,
            Live::Named(dir) => self.number_of(dir, state),
            // The upper on disk is under the one in memory; an empty one need not be there.
            Live::Ram => match layers.first() {
                Some(Layer::Frozen(number)) if *number == state.stack.upper => {
                    let number = *number;
                    layers.remove(0);
                    number
                }
                _ if is_empty(&self.places.upper(state.stack.upper).join("upper")) => state.stack.upper,
                _ => 0,
            },
            Live::None => 0,
        };
        Mounted { stack: Stack { upper, layers }, ram }
    }

    /// The upper's number of a directory that was adopted by a link; 0 is none.
    fn number_of(&self, dir: &Path, state: &State) -> u32 {
        let place = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let wanted = place(dir);
        let is = |number: &u32| wanted.is_some() && place(&self.places.upper(*number)) == wanted;
        (1..=state.last_upper).find(is).unwrap_or(0)
    }

    fn layer(&self, lower: &Lower, state: &State) -> Layer {
        match lower {
            Lower::Frozen(number) => Layer::Frozen(*number),
            Lower::Directory(path) => match self.number_of(path.parent().unwrap_or(path), state) {
                0 => Layer::Image(path.display().to_string()),
                number => Layer::Frozen(number),
            },
            Lower::Named(name) => {
                let known =
                    state.images.keys().find(|file| file.rsplit_once('.').is_some_and(|(stem, _)| stem == name));
                Layer::Image(known.cloned().or_else(|| self.image(name)).unwrap_or_else(|| name.clone()))
            }
        }
    }

    /// The file of a layer's image, searched as the boot does.
    pub fn image(&self, name: &str) -> Option<String> {
        let files = ENDINGS.iter().map(|ending| format!("{name}{ending}"));
        self.places.images.iter().find_map(|place| files.clone().find(|file| place.join(file).is_file()))
    }

    /// What has this layer's name already, wherever it lies.
    pub fn taken(&self, name: &str) -> Option<PathBuf> {
        let names = ENDINGS.iter().map(|ending| format!("{name}{ending}")).chain([name.to_owned()]);
        let paths = self.places.images.iter().flat_map(|place| names.clone().map(|name| place.join(name)));
        paths.into_iter().find(|path| fs::symlink_metadata(path).is_ok())
    }

    /// The first state: of the layers that were given, and the upper that is live, which stays where it is.
    pub fn first_state(&self, mut digest: impl FnMut(&Path) -> Result<Digest>) -> Result<State> {
        let mut images = BTreeMap::new();
        let mut layers = Vec::new();
        for lower in &self.lowers {
            match lower {
                Lower::Named(name) => {
                    let file = self.image(name).with_context(|| {
                        format!(
                            "layer {name}: expected an image, {name}.sqsh for instance, in {}; a layer that is a directory cannot be in the \
                             layer state: make an image of it (taproot layer init {name} --from DIRECTORY --keep all)",
                            self.places.images.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" or ")
                        )
                    })?;
                    let path = self.places.images.iter().map(|place| place.join(&file)).find(|path| path.is_file());
                    let digest = digest(&path.context("an image that has just been there")?)?;
                    images.insert(file.clone(), Image { digest, made: false });
                    layers.push(file);
                }
                // What an earlier boot left in the upper, under one in memory.
                Lower::Directory(path) if layers.is_empty() && self.live == Live::Ram => {
                    ensure!(
                        self.adoptable(path).is_some(),
                        "{}: expected it in {}",
                        path.display(),
                        self.home().display()
                    );
                }
                other => bail!("{other:?}: expected layers that are images; boot with a list of such"),
            }
        }
        State::new(images, layers, self.flags.clone())
            .map_err(|why| anyhow::anyhow!("the layers cannot be in a state: {why}"))
    }

    /// Makes the place of the first upper: a link to the directory that is live, so that whoever boots with a list of layers finds it
    /// where it was; or an empty one.
    pub fn adopt_upper(&self) -> Result<()> {
        let uppers = self.places.state.join("uppers");
        let place = self.places.upper(1);
        let failed = || format!("{}: making it", place.display());
        // What an overlay's upper holds is not for everybody's eyes: old programs with set-user-ID among it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&uppers);
        made.with_context(|| format!("{}: making it", uppers.display()))?;
        let retained = self.lowers.iter().find_map(|lower| match lower {
            Lower::Directory(path) => Some(path.clone()),
            _ => None,
        });
        let upper = match &self.live {
            Live::Named(dir) => Some(dir.join("upper")),
            _ => retained,
        };
        let _ = fs::remove_file(&place);
        match upper {
            Some(upper) => {
                let inside = self.adoptable(&upper).with_context(|| {
                    format!("{}: expected the upper below {}", upper.display(), self.home().display())
                })?;
                std::os::unix::fs::symlink(Path::new("../..").join(inside), &place).with_context(failed)
            }
            None => {
                ["upper", "work"].iter().try_for_each(|part| fs::create_dir_all(place.join(part))).with_context(failed)
            }
        }
    }

    /// The directory that holds an upper, from the top of the state's file system.
    fn adoptable(&self, upper: &Path) -> Option<PathBuf> {
        let dir = upper.parent()?.strip_prefix(self.home()).ok()?;
        (upper.ends_with("upper") && !dir.as_os_str().is_empty()).then(|| dir.to_owned())
    }
}

/// The words that a boot obeyed, also those that were typed or came with the image, by its `boot.json`.
fn words(json: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    let words: Option<Vec<&str>> =
        json.pointer("/request/words")?.as_array()?.iter().map(|word| word.as_str()).collect();
    Some(words?.join(" "))
}

/// The number of the state's upper that a path is.
fn numbered(state: &Path, path: &Path) -> Option<u32> {
    path.strip_prefix(state.join("uppers")).ok()?.to_str()?.strip_suffix("/upper")?.parse().ok()
}

fn lower(state: &Path, path: &Path) -> Lower {
    if let Some(number) = numbered(state, path) {
        return Lower::Frozen(number);
    }
    let name = path.strip_prefix(LAYERS).ok().and_then(Path::to_str).filter(|name| !name.contains('/'));
    match name.map(|name| (name, name.strip_prefix('#').and_then(|number| number.parse().ok()))) {
        Some((_, Some(number))) => Lower::Frozen(number),
        Some((name, None)) => Lower::Named(name.to_owned()),
        None => Lower::Directory(path.to_owned()),
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(upper: &str, lowers: &[&str], more: &str) -> Running {
        let lowers: Vec<String> = lowers.iter().map(|lower| format!("lowerdir+={lower}")).collect();
        let upper = if upper.is_empty() { String::new() } else { format!(",upperdir={upper},workdir=x") };
        let mounts = format!("30 1 0:29 / / rw - overlay overlay rw,{}{upper}\n{more}", lowers.join(","));
        Running::of(&mounts, "root=LABEL=A taproot.layers=site:base taproot.layerdir=live", |_| false).unwrap()
    }

    fn layers(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn places_of_each_kind_of_upper() {
        let lowers = ["/run/taproot/layers/site", "/run/taproot/layers/base"];
        let named = of("/run/taproot/base/upper/upper", &lowers, "");
        assert_eq!(named.places.state, Path::new("/run/taproot/base/.layers"));
        let images = ["/run/taproot/base", "/run/taproot/base/live", "/run/taproot/layer-device/live"];
        assert_eq!(named.places.images, images.map(PathBuf::from));
        assert_eq!(named.live, Live::Named(PathBuf::from("/run/taproot/base/upper")));
        assert!(named.listed && !named.volatile && named.flags == Flags::portable());
        let more = "31 30 8:2 / /run/taproot/upper rw - ext4 /dev/sdb rw\n32 30 8:3 / /run/taproot/layer-device ro - ext4 /dev/sdc ro\n";
        let device = of("/run/taproot/upper/upper/upper", &lowers, more);
        assert_eq!(device.places.state, Path::new("/run/taproot/upper/.layers"));
        assert_eq!(device.places.images[0], Path::new("/run/taproot/upper"), "new ones lie beside the state");
        let state = of(
            "/run/taproot/uppers/.layers/uppers/7/upper",
            &lowers,
            "31 30 8:2 / /run/taproot/uppers rw - ext4 /dev/sdb rw\n",
        );
        assert_eq!(
            (state.live, state.places.state.as_path()),
            (Live::Numbered(7), Path::new("/run/taproot/uppers/.layers"))
        );
        let sealed = of("/run/taproot/base/.layers/uppers/4/upper", &["/run/taproot/layers/#3", lowers[1]], "");
        assert_eq!((sealed.live, &sealed.lowers[0]), (Live::Numbered(4), &Lower::Frozen(3)));
        assert_eq!(of("", &lowers, "").live, Live::None);
    }

    #[test]
    fn words_that_were_typed_count() {
        let json = r#"{"request": {"words": ["root=LABEL=A", "taproot.layers=a:b"]}}"#;
        assert_eq!(words(json).as_deref(), Some("root=LABEL=A taproot.layers=a:b"));
        assert_eq!(words(r#"{"request": null}"#), None);
        assert_eq!(words("cut"), None);
    }

    #[test]
    fn what_it_runs_on_in_the_words_of_the_state() {
        let images: BTreeMap<String, Image> = ["site.erofs", "base.sqsh"]
            .map(|file| (file.to_owned(), Image { digest: Digest { size: 1, sha256: [0; 32] }, made: false }))
            .into();
        let state = State::new(images, layers(&["site.erofs", "base.sqsh"]), Flags::portable()).unwrap();
        let lowers = ["/run/taproot/layers/site", "/run/taproot/layers/base"];
        let live = of("/run/taproot/base/.layers/uppers/1/upper", &lowers, "");
        assert_eq!(live.mounted(&state), Mounted { stack: state.stack.clone(), ram: false });
        let other = of("/run/taproot/base/.layers/uppers/1/upper", &lowers[1..], "");
        assert_ne!(other.mounted(&state).stack, state.stack);
        let tmpfs = "31 30 0:31 / /run/taproot/upper rw - tmpfs taproot-upper rw\n";
        let over = ["/run/taproot/layers/#1", lowers[0], lowers[1]];
        let ram = of("/run/taproot/upper/upper", &over, tmpfs);
        assert_eq!(ram.mounted(&state), Mounted { stack: state.stack.clone(), ram: true });
        let alone = of("/run/taproot/upper/upper", &lowers, tmpfs);
        assert_eq!(alone.mounted(&state).stack.upper, 0, "an upper on disk that is not under it lacks");
    }
}
