//! What the state file says: which layers the root is made of, which upper is live, what is under way, what can be gone back to.

use crate::plan::names;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// As many lowers as an overlay takes (`OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;
/// Sealed uppers that may wait as directories at once: each commit that is stacked on a pending one adds one.
pub const MAX_FROZEN: usize = 8;
/// Operations at once, finished ones that are not cleaned yet included.
pub const MAX_OPERATIONS: usize = 16;
/// Stacks that can be gone back to.
pub const MAX_PASTS: usize = 64;
/// Files and directories that wait to be removed.
pub const MAX_DISCARDS: usize = 1024;
/// How many stacks are kept after what replaced them was confirmed.
pub const KEEP: u16 = 2;
/// How often a stack on trial is booted before the one before it is taken again.
pub const TRIES: u8 = 3;

/// A read-only layer of a stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// An image, by the name of its file.
    Image(String),
    /// The directory `uppers/N/upper`, which was live once and is not written any more.
    Frozen(u32),
}

impl Layer {
    /// What people call it: the name of an image without its ending.
    pub fn name(&self) -> String {
        match self {
            Self::Image(file) => file.rsplit_once('.').map_or(file.as_str(), |(name, _)| name).to_owned(),
            Self::Frozen(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(file) => f.write_str(file),
            Self::Frozen(number) => write!(f, "#{number}"),
        }
    }
}

/// What is in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
}

/// An image that something refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// What is in it.
    pub digest: Digest,
    /// Made here by a commit or merge. Others were given, perhaps to several systems, and are never removed.
    pub made: bool,
}

/// What a boot mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The live upper, `uppers/N`.
    pub upper: u32,
    /// Lowers, the topmost first.
    pub layers: Vec<Layer>,
}

/// A stack that is booted without being known to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Boots so far.
    pub tries: u8,
    /// What is taken again if none of them is confirmed.
    pub back: Stack,
}

/// A stack that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// By which people name it.
    pub number: u32,
    /// Its upper, where a rollback set one aside; going back to it brings that one back. Otherwise a fresh one is made.
    pub upper: Option<u32>,
    /// Its lowers.
    pub layers: Vec<Layer>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The upper becomes a layer.
    Commit {
        /// The image's file.
        file: String,
        /// How many layers below the upper go into the image too.
        below: u16,
        /// The upper that an upper in RAM is copied to, because no boot can seal that; [`above`] is that of the next boot. Weaker:
        /// it is copied while it is written.
        copy: Option<u32>,
    },
    /// The topmost layers become one; the upper stays as it is.
    Merge {
        /// The image's file.
        file: String,
    },
    /// Layers of the past under another upper.
    Rollback {
        /// Number of the [`Past`]; `None` for the layers of now.
        to: Option<u32>,
        /// The upper that is used then.
        upper: u32,
    },
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Noted, nothing done.
    Requested,
    /// What goes into the image is not written any more.
    Sealed,
    /// The image is being written under a temporary name with this number.
    Building(u64),
    /// It is whole, and its content is known and durable. Its name is still the temporary one, or already its own.
    Verified(u64, Digest),
    /// It has its name, and the next boot may take it.
    Ready,
    /// A boot took it.
    Trial,
    /// It was confirmed; what it replaces can go.
    Done,
}

impl Phase {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Sealed => "sealed",
            Self::Building(_) => "building",
            Self::Verified(..) => "verified",
            Self::Ready => "ready",
            Self::Trial => "trial",
            Self::Done => "done",
        }
    }
}

/// What an operation waits for, besides its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Only room was missing: tried again by itself at the next start. Otherwise a person has to ask for it.
    pub space: bool,
    /// What was expected, what was found, what helps; one line.
    pub text: String,
}

impl Trouble {
    /// Trouble that waits for a person. Everything that could end a line goes from the text.
    pub fn new(text: impl fmt::Display) -> Self {
        let line: String = text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.trim();
        let end = line.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_TROUBLE).last();
        let text = line.get(..end.unwrap_or(0)).unwrap_or_default();
        Self { space: false, text: text.trim_end().to_owned() }
    }

    /// No room.
    pub fn space(text: impl fmt::Display) -> Self {
        Self { space: true, ..Self::new(text) }
    }
}

/// Longest text of a trouble, bytes.
pub const MAX_TROUBLE: usize = 500;

/// A commit, merge or rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was asked for.
    pub kind: Kind,
    /// How far it is.
    pub phase: Phase,
    /// The layers that become one, the topmost first; a run of the stack. Empty until they are known.
    pub sources: Vec<Layer>,
    /// Why it does not go on.
    pub trouble: Option<Trouble>,
}

impl Operation {
    /// The file of the image that comes of it.
    pub fn file(&self) -> Option<&str> {
        match &self.kind {
            Kind::Commit { file, .. } | Kind::Merge { file } => Some(file),
            Kind::Rollback { .. } => None,
        }
    }

    /// By what people name it: the layer's name, or `rollback`.
    pub fn name(&self) -> &str {
        self.file().map_or("rollback", |file| file.rsplit_once('.').map_or(file, |(name, _)| name))
    }
}

/// Something that nothing refers to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discard {
    /// `uppers/N`.
    Upper(u32),
    /// A file beside the images. With a digest it is removed only if that is what is in it.
    File(String, Option<Digest>),
}

/// Overlay options that an upper was made with, all that decide how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags(pub BTreeMap<String, String>);

impl Flags {
    /// What lets an upper be put on other lowers (kernel, `Documentation/filesystems/overlayfs.rst`, "Changes to underlying filesystems").
    pub fn portable() -> Self {
        let off = ["index", "metacopy", "redirect_dir", "xino"].map(|flag| (flag.to_owned(), "off".to_owned()));
        Self(BTreeMap::from(off))
    }

    /// The first that keeps an upper from being sealed and put on other lowers.
    pub fn hindrance(&self) -> Option<String> {
        let fine = |flag: &str, values: &[&str]| {
            let value = self.0.get(flag).map_or("the kernel's default", String::as_str);
            (!values.contains(&value)).then(|| format!("{flag}={value}"))
        };
        fine("index", &["off"])
            .or_else(|| fine("metacopy", &["off"]))
            .or_else(|| fine("redirect_dir", &["off", "nofollow"]))
            .or_else(|| fine("xino", &["off", "auto"]))
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Grows by one with each write.
    pub generation: u64,
    /// Of the live upper.
    pub flags: Flags,
    /// The highest number that an upper was ever given: none is given twice.
    pub last_upper: u32,
    /// The highest number of a [`Past`] so far.
    pub last_past: u32,
    /// How many stacks without an upper of their own are kept to go back to.
    pub keep: u16,
    /// The generation in which the stack was last confirmed.
    pub good: u64,
    /// Every image that is named below.
    pub images: BTreeMap<String, Image>,
    /// What the next boot mounts.
    pub stack: Stack,
    /// If that is on trial.
    pub trial: Option<Trial>,
    /// What can be gone back to, the oldest first.
    pub pasts: Vec<Past>,
    /// What is under way, the oldest first.
    pub operations: Vec<Operation>,
    /// What is to be removed.
    pub discards: Vec<Discard>,
}

impl State {
    /// The state of layers that were given, under a first upper, before its first write.
    pub fn new(images: BTreeMap<String, Image>, layers: Vec<String>, flags: Flags) -> Result<Self, String> {
        let stack = Stack { upper: 1, layers: layers.into_iter().map(Layer::Image).collect() };
        let (last_upper, last_past, keep, good) = (1, 0, KEEP, 0);
        let (trial, pasts, operations, discards) = (None, Vec::new(), Vec::new(), Vec::new());
        let new = Self {
            generation: 0,
            flags,
            last_upper,
            last_past,
            keep,
            good,
            images,
            stack,
            trial,
            pasts,
            operations,
            discards,
        };
        new.check().map(|()| new)
    }

    /// Operations that are not finished.
    pub fn pending(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.phase != Phase::Done)
    }

    /// The one that makes this image.
    pub(super) fn making(&mut self, file: &str) -> Option<&mut Operation> {
        self.operations.iter_mut().find(|op| op.phase != Phase::Done && op.file() == Some(file))
    }

    /// A number for another upper.
    pub(super) fn another_upper(&mut self) -> u32 {
        self.last_upper = self.last_upper.saturating_add(1);
        self.last_upper
    }

    /// Every list of layers in it, operations that are done left out.
    fn lists(&self) -> impl Iterator<Item = &Vec<Layer>> {
        let trial = self.trial.iter().map(|trial| &trial.back.layers);
        let pasts = self.pasts.iter().map(|past| &past.layers);
        let operations = self.pending().map(|operation| &operation.sources);
        std::iter::once(&self.stack.layers).chain(trial).chain(pasts).chain(operations)
    }

    /// Files that are referred to: images, and what is being built.
    pub(super) fn files(&self) -> BTreeSet<String> {
        let images = self.lists().flatten().filter_map(|layer| match layer {
            Layer::Image(file) => Some(file.clone()),
            Layer::Frozen(_) => None,
        });
        let made = self.pending().filter_map(|operation| match operation.phase {
            Phase::Building(number) | Phase::Verified(number, _) => {
                operation.file().map(|file| temporary(file, number))
            }
            Phase::Ready | Phase::Trial => operation.file().map(str::to_owned),
            _ => None,
        });
        images.chain(made).collect()
    }

    /// Uppers that are referred to, live or frozen.
    pub(super) fn uppers(&self) -> BTreeSet<u32> {
        let frozen = self.lists().flatten().filter_map(|layer| match layer {
            Layer::Frozen(number) => Some(*number),
            Layer::Image(_) => None,
        });
        let reserved = self.pending().filter_map(|operation| match operation.kind {
            Kind::Commit { copy: Some(into), .. } => Some((into, above(into))),
            Kind::Rollback { upper, .. } => Some((upper, upper)),
            _ => None,
        });
        let reserved = reserved.flat_map(|(first, last)| [first, last]);
        let back = self.trial.iter().map(|trial| trial.back.upper);
        let pasts = self.pasts.iter().filter_map(|past| past.upper);
        frozen.chain(reserved).chain(back).chain(pasts).chain([self.stack.upper]).collect()
    }

    /// Directories that wait to become an image.
    pub fn frozen(&self) -> usize {
        self.stack.layers.iter().filter(|layer| matches!(layer, Layer::Frozen(_))).count()
    }

    /// Whether everything in it fits together; the error says what does not.
    pub fn check(&self) -> Result<(), String> {
        self.check_names()?;
        for layers in self.lists() {
            check_list(layers)?;
            for layer in layers {
                match layer {
                    Layer::Image(file) if !self.images.contains_key(file) => {
                        return Err(format!("nothing is known of the image {file}"));
                    }
                    Layer::Frozen(number) if *number == self.stack.upper => {
                        return Err(format!("upper {number} is live and a layer at once"));
                    }
                    _ => {}
                }
            }
        }
        if self.stack.layers.is_empty() {
            return Err("there is no layer".to_owned());
        }
        if let Some(number) = self.uppers().into_iter().find(|number| *number == 0 || *number > self.last_upper) {
            return Err(format!("upper {number} was never made"));
        }
        if self.trial.is_some() != self.operations.iter().any(|operation| operation.phase == Phase::Trial) {
            return Err("a trial needs an operation, and the other way round".to_owned());
        }
        let most = [
            (self.pasts.len(), MAX_PASTS, "stacks to go back to"),
            (self.operations.len(), MAX_OPERATIONS, "operations"),
            (self.discards.len(), MAX_DISCARDS, "files to remove"),
        ];
        match most.into_iter().find(|(count, most, _)| count > most) {
            Some((count, most, what)) => Err(format!("{count} {what}, at most {most} are possible")),
            None => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), String> {
        let files = self.images.keys().map(String::as_str);
        let made = self.operations.iter().filter_map(Operation::file);
        if let Some((file, why)) = files.chain(made).find_map(|file| check_file(file).err().map(|why| (file, why))) {
            return Err(format!("{file:?} cannot be the file of a layer: {why}"));
        }
        let pending: Vec<&str> = self.pending().map(Operation::name).collect();
        if pending.iter().collect::<BTreeSet<_>>().len() != pending.len() {
            return Err("two operations have one name".to_owned());
        }
        for operation in self.pending() {
            let is_ready = matches!(operation.phase, Phase::Ready | Phase::Trial);
            if let Some(file) = operation.file().filter(|file| is_ready && !self.images.contains_key(*file)) {
                return Err(format!("nothing is known of the image {file}"));
            }
        }
        Ok(())
    }
}

fn check_list(layers: &[Layer]) -> Result<(), String> {
    if layers.len() > MAX_LAYERS {
        return Err(format!("{} layers, at most {MAX_LAYERS} are possible", layers.len()));
    }
    let different: BTreeSet<String> = layers.iter().map(Layer::name).collect();
    if different.len() == layers.len() { Ok(()) } else { Err("two layers of a list have one name".to_owned()) }
}

/// Checks that `file` can be the file of a layer's image: the layer's name, a dot, and what kind of image it is.
pub fn check_file(file: &str) -> Result<(), String> {
    let (name, kind) = file.rsplit_once('.').ok_or("expected a name with an ending, such as .sqsh")?;
    let is_kind = !kind.is_empty() && kind.len() <= 16 && kind.starts_with(|c: char| c.is_ascii_lowercase());
    if !is_kind || !kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(format!("expected an ending such as .sqsh, found .{kind}"));
    }
    names::check_layer(name)
}

/// The upper that is live over the copy `into` of one in RAM.
pub fn above(into: u32) -> u32 {
    into.saturating_add(1)
}

/// What an image is called while it is written. No image can be called so, because an ending does not begin with a digit.
pub fn temporary(file: &str, number: u64) -> String {
    let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
    format!("tmp-{name}.{number}")
}
