//! How a layer is known to be the one that was sealed: what it must be, by which word or list, and how that is seen before anything
//! of it is mounted. Where something must be, there is no way without it: what cannot be checked fails.

use super::state::places;
use crate::cmdline::{Fallback, Integrity, LIST_FILE, LayerSettings, Upper};
use crate::devices::verity::{Digest, MODULES, OnCorruption, Superblock, VerityError};
use crate::layers::Layer;
use crate::plan::failure::{Code, Failure};
use crate::plan::layerlist::{KEYS_DIR, LayerList, ListError, PublicKey, Seal};
use crate::plan::layers::{BASE, DEVICE, LayerFile, LayerKind, below};
use crate::plan::next::{LayerStep, MODULE_LIMIT, Moment, Next, Settled, Step, fail};
use std::collections::BTreeMap;

/// The driver of the firmware's variables, in which the list that was seen last is kept.
const VARIABLES: &str = "efivarfs";

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub struct IntegrityFacts {
    /// The keys that are packed, once looked for; or why one of them is none.
    pub keys: Option<Result<Vec<PublicKey>, String>>,
    /// The signed list, once read.
    pub list: Option<Result<LayerList, Disbelief>>,
    /// Whether the list's own is kept by now.
    pub kept: bool,
    /// What lies beside each layer that was looked at.
    pub beside: BTreeMap<String, Beside>,
    /// Device-mapper devices that were made.
    pub mapped: Vec<String>,
}

/// Why a list is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disbelief {
    /// There is none.
    Missing,
    /// It cannot be read.
    Unreadable(String),
    /// What was seen last cannot be read.
    Memory(String),
    /// What is wrong with it.
    List(ListError),
}

impl IntegrityFacts {
    /// Files of trees.
    pub fn trees(&self) -> impl Iterator<Item = &str> {
        self.beside.values().filter_map(|beside| beside.tree.as_ref()?.path.as_deref())
    }

    /// They are somewhere else now.
    pub fn moved(&mut self, to: impl Fn(&str) -> String) {
        for tree in self.beside.values_mut().filter_map(|beside| beside.tree.as_mut()) {
            tree.path = tree.path.as_deref().map(&to);
        }
    }
}

impl std::fmt::Display for Disbelief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::Memory(why) => write!(f, "which list was seen last cannot be read: {why}"),
            Self::List(error) => error.fmt(f),
        }
    }
}

/// What lies beside a layer, or at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Its tree.
    pub tree: Option<TreeFile>,
    /// The sum in `NAME.sha256`, if there is such a file; or what is wrong with that.
    pub sum: Option<Result<Digest, String>>,
}

/// A hash tree where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its own file; `None`: it is at the image's end.
    pub path: Option<String>,
    /// Where its superblock begins in that file.
    pub at: u64,
    /// Bytes of that file.
    pub len: u64,
    /// What its superblock says.
    pub superblock: Result<Superblock, VerityError>,
}

/// How a layer is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Each block when it is read, by the kernel.
    Tree(Box<TreeCheck>),
    /// All of it, now.
    Sum {
        /// What its bytes must come to.
        sum: Digest,
        /// Who says so.
        why: String,
    },
}

/// A layer under its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeCheck {
    /// What the tree must come to.
    pub root: Digest,
    /// Who says so.
    pub why: String,
    /// How it was made.
    pub superblock: Superblock,
    /// Its file; `None`: the image.
    pub path: Option<String>,
    /// Where its superblock begins.
    pub at: u64,
    /// Whether every block is read before it is mounted.
    pub whole: bool,
    /// What is done about a block that is not as the tree says.
    pub on_corruption: OnCorruption,
}

/// What a layer must be, and who says so.
struct Must {
    seal: Seal,
    /// Bytes, if it is said.
    size: Option<u64>,
    why: String,
}

impl Moment<'_> {
    /// The signed list, if there is to be one: believed, or the boot fails.
    pub(super) fn believed_list(self, settings: &LayerSettings) -> Settled<()> {
        let known = &self.facts.attempt.layers.integrity;
        let asked = &settings.integrity;
        match &known.keys {
            None => return Err(Next::Do(Step::Layer(LayerStep::ReadKeys))),
            Some(Ok(keys)) if keys.is_empty() && asked.list.is_none() => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(why)) => return fail(no_keys(why)),
        }
        let file = list_file(asked);
        if self.facts.kernel.efi {
            let _ = self.module(VARIABLES, self.facts.attempt.last_step, MODULE_LIMIT)?;
        }
        match &known.list {
            None => {
                let roots = [Some(BASE), settings.device.as_ref().map(|_| DEVICE)];
                let roots = roots.into_iter().flatten().map(|root| below(root, &settings.dir.value)).collect();
                Err(Next::Do(Step::Layer(LayerStep::ReadList { file: file.to_owned(), roots })))
            }
            Some(Err(why)) => fail(disbelieved(asked, file, why)),
            Some(Ok(list)) => {
                let signed: Vec<String> = list.layers.iter().map(|layer| layer.name.clone()).collect();
                let named = self.images(settings);
                if signed == named { Ok(()) } else { fail(other_layers(settings, file, [&signed, &named])) }
            }
        }
    }

    /// The images of the stack. What a state has sealed of its uppers is no more in a list than the live one.
    fn images(self, settings: &LayerSettings) -> Vec<String> {
        let Some(entered) = &self.facts.attempt.layers.entered else { return settings.names.value.clone() };
        let images = entered.stack.layers.iter().filter(|layer| matches!(layer, Layer::Image(_)));
        images.map(Layer::name).collect()
    }

    /// Sees what lies beside each image, while it is where it was found; and what is no image must be nothing.
    pub(super) fn looked_beside(self, settings: &LayerSettings) -> Settled<()> {
        let known = &self.facts.attempt.layers;
        for file in known.found.iter().flatten() {
            if !matches!(file.kind, LayerKind::Image { .. }) {
                let _ = self.check_of(settings, file)?;
            } else if !known.integrity.beside.contains_key(&file.name) && !known.mounted.contains(&file.name) {
                return Err(Next::Do(Step::Layer(LayerStep::LookBeside(Box::new(file.clone())))));
            }
        }
        Ok(())
    }

    /// How this layer is checked; `None` if nobody says what it must be.
    pub(super) fn check_of(self, settings: &LayerSettings, file: &LayerFile) -> Settled<Option<Check>> {
        let must = match self.must(settings, &file.name) {
            Ok(must) => must,
            Err(failure) => return fail(failure),
        };
        let LayerKind::Image { needs, size, .. } = &file.kind else {
            return must.map_or(Ok(None), |must| {
                fail(unchecked(file, &must.why, "it is a directory, of which no sum is one"))
            });
        };
        // [`Moment::looked_beside`] has seen to it.
        let none = Beside::default();
        let beside = self.facts.attempt.layers.integrity.beside.get(&file.name).unwrap_or(&none);
        let sum = beside.sum.as_ref().filter(|_| settings.integrity.sums.value);
        match (must, sum) {
            (None, None) => Ok(None),
            (None, Some(Ok(sum))) => Ok(Some(Check::Sum { sum: *sum, why: format!("{}.sha256 beside it", file.name) })),
            (None, Some(Err(why))) => fail(unchecked(file, &format!("{}.sha256 beside it", file.name), why)),
            (Some(Must { seal: Seal::Sha256(sum), size: wanted, why }), _) => {
                if wanted.is_some_and(|wanted| wanted != *size) {
                    let wanted = wanted.unwrap_or_default();
                    return fail(unchecked(file, &why, &format!("it has {size} bytes, and {wanted} are signed")));
                }
                Ok(Some(Check::Sum { sum, why }))
            }
            (Some(Must { seal: Seal::Verity(root), size: wanted, why }), _) => {
                match tree_check(&settings.integrity, beside.tree.as_ref(), (*needs, *size), wanted) {
                    Err(wrong) => fail(unchecked(file, &why, &wrong)),
                    Ok(check) => {
                        self.verity()?;
                        Ok(Some(Check::Tree(Box::new(TreeCheck { root, why, ..check }))))
                    }
                }
            }
        }
    }

    /// The modules that a tree needs. One that may be built in is no failure: the device-mapper tells.
    fn verity(self) -> Settled<()> {
        for module in MODULES {
            let _ = self.module(module, self.facts.attempt.last_step, MODULE_LIMIT)?;
        }
        Ok(())
    }

    /// What the words and the list say of a layer.
    fn must(self, settings: &LayerSettings, name: &str) -> Result<Option<Must>, Failure> {
        let asked = &settings.integrity;
        let names = &settings.names.value;
        if let Some((other, root)) = asked.roots.iter().find(|(other, _)| !self.is_named(settings, other)) {
            return Err(misnamed(settings, &root.why, &format!("{other} is none of them")));
        }
        if let (Some(only), [_, _, ..]) = (&asked.only, names.as_slice()) {
            return Err(misnamed(settings, &only.why, &format!("there are {}, and one hash", names.len())));
        }
        let listed = match &self.facts.attempt.layers.integrity.list {
            Some(Ok(list)) => list.layers.iter().find(|layer| layer.name == name).map(|layer| Must {
                seal: layer.seal,
                size: Some(layer.size),
                why: format!("the signed list {}", list_file(asked)),
            }),
            _ => None,
        };
        let mut musts = asked.roots.get(name).into_iter().chain(&asked.only).map(|root| Must {
            seal: Seal::Verity(root.value),
            size: None,
            why: root.why.clone(),
        });
        let first = listed.or_else(|| musts.next());
        match (first, musts.next()) {
            (Some(first), Some(second)) if first.seal != second.seal => {
                let why = format!("{} and {} do not say the same of layer {name}", first.why, second.why);
                Err(misnamed(settings, &second.why, &why))
            }
            (first, _) => Ok(first),
        }
    }

    /// Whether any of the stacks that can be booted has this layer.
    fn is_named(self, settings: &LayerSettings, name: &String) -> bool {
        let fallbacks = self.request.fallback.iter().filter_map(|fallback| match &fallback.value {
            Fallback::Layers(stack) => Some(&stack.names),
            Fallback::Root(_) => None,
        });
        let first = self.facts.begin.as_ref().and_then(|asked| asked.layers.as_ref()).map(|layers| &layers.names.value);
        let mut by_state = self.facts.attempt.layers.found.iter().flatten().filter(|_| settings.by_state());
        by_state.any(|file| file.name == *name)
            || fallbacks.chain(first).chain([&settings.names.value]).any(|names| names.contains(name))
    }

    /// Has the list's serial number kept, once everything that it names was found good.
    pub(super) fn keep_serial(self, settings: &LayerSettings, upper: &Upper, dir: Option<&str>) -> Settled<()> {
        let known = &self.facts.attempt.layers.integrity;
        match &known.list {
            Some(Ok(list)) if !known.kept => {
                let on_disk = !matches!(upper, Upper::Ram { .. } | Upper::None);
                Err(Next::Do(Step::Layer(LayerStep::KeepSerial {
                    file: list_file(&settings.integrity).to_owned(),
                    serial: list.serial,
                    // Beside an upper of a state is not beside the next one.
                    dir: dir.filter(|_| on_disk).map(|dir| match &self.facts.attempt.layers.entered {
                        Some(_) => places(settings).state.display().to_string(),
                        None => dir.to_owned(),
                    }),
                })))
            }
            _ => Ok(()),
        }
    }
}

/// The list of a file, if it is to be believed: `seen` is the highest number that this machine has seen of it.
pub fn believed(
    keys: &[PublicKey],
    bytes: Result<Vec<u8>, Disbelief>,
    seen: Result<Option<u64>, String>,
) -> Result<LayerList, Disbelief> {
    if keys.is_empty() {
        return Err(Disbelief::List(ListError::NoKeys));
    }
    let (bytes, seen) = (bytes?, seen.map_err(Disbelief::Memory)?);
    LayerList::open(&bytes, keys, seen).map_err(Disbelief::List)
}

/// The list's file, below the directory of the layers.
pub fn list_file(asked: &Integrity) -> &str {
    asked.list.as_ref().map_or(LIST_FILE, |list| list.value.as_str())
}

/// A tree that fits the image: `sizes` are the bytes that the image's own superblock says, and those of its file.
fn tree_check(
    asked: &Integrity,
    tree: Option<&TreeFile>,
    (needs, size): (u64, u64),
    wanted: Option<u64>,
) -> Result<TreeCheck, String> {
    // Behind an image there can be anything, or nothing; a file of that name is to be a tree.
    let there = |tree: &&TreeFile| tree.path.is_some() || tree.superblock != Err(VerityError::NoSuperblock);
    let Some(tree) = tree.filter(there) else {
        return Err("it has no tree, neither beside it (NAME.verity) nor at its end".to_owned());
    };
    let superblock = tree.superblock.clone().map_err(|error| format!("its tree: {error}"))?;
    let format = &superblock.format;
    let data = format.data_bytes();
    if data < needs || data > size || wanted.is_some_and(|wanted| wanted != data) {
        let wanted = wanted.unwrap_or(needs);
        return Err(format!("its tree is over {data} bytes, of {size}, and {wanted} are needed"));
    }
    let end = format.tree_start(tree.at).saturating_mul(format.hash_block().into()).saturating_add(format.tree_bytes());
    if end > tree.len {
        return Err(format!("its tree is cut off: it ends at {end}, and the file has {} bytes", tree.len));
    }
    Ok(TreeCheck {
        root: Digest::new([0; Digest::LEN]),
        why: String::new(),
        path: tree.path.clone(),
        at: tree.at,
        whole: !asked.lazy.value,
        on_corruption: asked.on_corruption.value,
        superblock,
    })
}

/// What the signed list must be like, told in the same way for all that is wrong with it.
fn refused(problem: String, found: Vec<String>) -> Failure {
    Failure::new(
        Code::LayerList,
        problem,
        "a list of these layers that a key in the image has signed, not older than the last one",
        found,
        &[
            "put the newest list, as it was signed, beside the layers, then retry",
            "layers that are others now need a new list: taproot layer sign",
        ],
    )
}

fn disbelieved(asked: &Integrity, file: &str, why: &Disbelief) -> Failure {
    let asked = asked.list.as_ref().map_or_else(|| format!("keys are packed in {KEYS_DIR}"), |list| list.why.clone());
    refused(format!("the list of layers, {file}, is not believed ({asked}): {why}"), vec![])
}

fn no_keys(why: &str) -> Failure {
    refused(format!("a key in {KEYS_DIR} of the image cannot be used: {why}"), vec![])
}

fn other_layers(settings: &LayerSettings, file: &str, [signed, named]: [&Vec<String>; 2]) -> Failure {
    let found = vec![format!("signed: {}", signed.join(":")), format!("named: {}", named.join(":"))];
    refused(format!("the signed list {file} has other layers than {}", settings.names.why), found)
}

fn misnamed(settings: &LayerSettings, word: &str, why: &str) -> Failure {
    Failure::new(
        Code::UncheckedLayer,
        format!("{word} does not fit the layers ({}): {why}", settings.names.why),
        "a root hash for a layer that is named, and one for each",
        vec![],
        &["retry taproot.roothash=LAYER:DIGITS here, or that word on the kernel command line; docs/layer-integrity.md"],
    )
}

/// A layer is not, or cannot be seen to be, the one that was sealed.
pub fn unchecked(file: &LayerFile, why: &str, wrong: &str) -> Failure {
    Failure::new(
        Code::UncheckedLayer,
        format!("layer {} is not the one that was sealed ({why}): {wrong}", file.name),
        "an image that is, byte by byte, what its hash, sum or signed list says",
        vec![file.path.clone()],
        &[
            "copy the layer again, with its tree (NAME.verity) or sum (NAME.sha256), then retry",
            "if it was changed on purpose, seal it again: taproot layer seal; docs/layer-integrity.md",
        ],
    )
}

/// What was seen last, kept beside the upper, cannot be read.
pub fn forgotten(asked: &Integrity, why: &str) -> Failure {
    disbelieved(asked, list_file(asked), &Disbelief::Memory(why.to_owned()))
}

/// The list in the upper says that a newer one was seen.
pub fn older(asked: &Integrity, found: u64, last: u64) -> Failure {
    disbelieved(asked, list_file(asked), &Disbelief::List(ListError::Older { found, last }))
}
