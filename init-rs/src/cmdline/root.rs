//! Which root the words name: `root=` in every spelling, `zfs=`, `bootfs=`, `rpool=` and what switches them on.

use super::values::boolean;
use super::{Decided, Note, Request, Selector};
use crate::devices::probe::Wanted;
use crate::plan::names;

/// What a usable root word looks like, for messages.
const ROOT_FORMS: &str = "root=ZFS=pool/dataset, zfs=pool/dataset, or root=zfs:AUTO";

/// genkernel's initramfs was a disk in memory once, and its lines still name it.
const RAM_DISK: &str = "/dev/ram";

/// What one word names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    selector: Selector,
    snapshot: Option<String>,
    /// Whether it is meant for ZFS at all.
    ours: bool,
}

/// The words that have a say; resolved together at the end, because their strength is not their order.
#[derive(Debug, Default)]
pub(super) struct Roots {
    root: Option<Decided<String>>,
    /// `real_root=` of genkernel, stronger than its `root=/dev/ram0`.
    real: Option<Decided<String>>,
    /// `REAL_ROOT=` of initramfs-tools, which reads it where `root=` says nothing.
    instead: Option<Decided<String>>,
    zfs: Option<Decided<Asked>>,
    bootfs: Option<Decided<String>>,
    rpool: Option<Decided<String>>,
    /// `rootfstype=zfs`, `boot=zfs`.
    fstype: Option<String>,
    boot: Option<String>,
    /// `rootfstype=` with other types.
    types: Option<Decided<Vec<String>>>,
    /// `dozfs`: pools are looked at, so that `root=/dev/ram0`, the initramfs itself, leaves the root open.
    pub(super) scan: bool,
}

/// How much a word has to say: what names a root on ZFS comes before what names another, and both before what names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Zfs,
    Other,
    Nothing,
}

impl Roots {
    /// Takes a word if it is one of these.
    pub(super) fn take(&mut self, key: &str, value: &str, why: &str) -> bool {
        let given = || (!value.is_empty()).then(|| Decided::new(value.to_owned(), why));
        match key {
            "root" => self.root = given(),
            "real_root" => self.real = given(),
            "REAL_ROOT" => self.instead = given(),
            "bootfs" | "zfs-bootfs" => self.bootfs = given(),
            "rpool" => self.rpool = given(),
            "zfs" => {
                if let Some(asked) = zfs_value(value) {
                    self.zfs = Some(Decided::new(asked, why));
                }
            }
            "rootfstype" => {
                let types: Vec<String> = value.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
                self.fstype = types.iter().any(|t| t == "zfs").then(|| why.to_owned());
                self.types = (!types.is_empty() && self.fstype.is_none()).then(|| Decided::new(types, why));
            }
            "boot" => self.boot = (value == "zfs").then(|| why.to_owned()),
            _ => return false,
        }
        true
    }

    /// The last `root=` is a word for a live medium.
    pub(super) fn forget_root(&mut self) {
        self.root = None;
    }

    /// Decides `root`, `snapshot` and `ours`.
    pub(super) fn resolve(self, request: &mut Request) {
        let mut notes = Vec::new();
        request.root_fstype = self.types;
        let bare = self.fstype.or(self.boot);
        let read = |word: Option<Decided<String>>| {
            let Decided { value, why } = word?;
            // `root=rpool/x` beside `rpool=rpool` can be nothing else than a dataset.
            let rpool = self.rpool.as_ref().filter(|rpool| names::pool_of(&value) == rpool.value);
            let marked_by = bare.as_ref().or(rpool.map(|rpool| &rpool.why));
            Some(Decided::new(root_value(&value, marked_by.map(String::as_str)), why))
        };
        // A person adds the first two: what is wrong with them is said, and nothing weaker taken instead.
        let typed = [self.zfs, read(self.real)].into_iter().flatten().map(|word| (strength(&word.value, true), word));
        let root = self.root.filter(|root| !(self.scan && root.value.starts_with(RAM_DISK)));
        let others = [root, self.instead].into_iter().filter_map(read);
        let words = typed.chain(others.map(|word| (strength(&word.value, false), word))).collect();
        let (strength, mut asked) = strongest(words, &mut notes).unwrap_or_else(|| {
            let why = bare.clone().unwrap_or_else(|| request.root.why.clone());
            (Strength::Zfs, Decided::new(Asked::ours(Selector::Auto), why))
        });
        // What names no root on ZFS is as good as nothing beside a word that does.
        let mut open = strength > Strength::Zfs;
        if let Some(bootfs) = self.bootfs {
            prefer_bootfs(&mut asked, &bootfs, open, &mut notes);
            open = false;
        }
        if let Some(rpool) = self.rpool {
            restrict(&mut asked, rpool, open, &mut notes);
        }
        let Asked { selector, snapshot, ours } = asked.value;
        if let Selector::Unusable(message) = &selector {
            request.problems.push(note(&asked.why, message.clone()));
        }
        if asked.why.contains('+') && ours {
            notes.push(note(&asked.why, "`+` stands for a space, as in dracut: no name on ZFS can hold a `+`".into()));
        }
        if selector == Selector::Auto && !ours {
            let message =
                "names no root, but leaves it to a file of another initramfs; here it is the bootfs of a pool";
            notes.push(note(&asked.why, message.to_owned()));
        }
        request.notes.append(&mut notes);
        request.snapshot = snapshot.map(|name| Decided::new(name, asked.why.clone()));
        request.root = Decided::new(selector, asked.why);
        request.ours = ours;
    }
}

/// The first of the strongest words; the others are told of.
fn strongest(words: Vec<(Strength, Decided<Asked>)>, notes: &mut Vec<Note>) -> Option<(Strength, Decided<Asked>)> {
    let first = words.iter().enumerate().min_by_key(|(at, (strength, _))| (*strength, *at)).map(|(at, _)| at)?;
    let winner = words.get(first)?.clone();
    let losers = words.into_iter().filter(|(_, word)| word.value != winner.1.value && !is_ram_disk(&word.why));
    notes.extend(losers.map(|(_, word)| loses(&word.why, &winner.1.why)));
    Some(winner)
}

fn is_ram_disk(word: &str) -> bool {
    word.strip_prefix("root=").is_some_and(|value| value.starts_with(RAM_DISK))
}

fn strength(asked: &Asked, typed: bool) -> Strength {
    match asked.selector {
        Selector::Unusable(_) if !(asked.ours && typed) => Strength::Nothing,
        _ if asked.ours => Strength::Zfs,
        _ => Strength::Other,
    }
}

impl Asked {
    fn ours(selector: Selector) -> Self {
        Self { selector, snapshot: None, ours: true }
    }
}

fn note(word: &str, message: String) -> Note {
    Note { word: word.to_owned(), message }
}

fn loses(word: &str, winner: &str) -> Note {
    note(word, format!("{winner} wins over {}", key_of(word)))
}

/// `bootfs=` is what a pool's bootfs would be: it counts wherever the other words leave that open. `open`: they name no root
/// on ZFS at all.
fn prefer_bootfs(asked: &mut Decided<Asked>, bootfs: &Decided<String>, open: bool, notes: &mut Vec<Note>) {
    let mut named = dataset(behind_mark(&bootfs.value).unwrap_or(&bootfs.value));
    let open = match (&asked.value.selector, &named.selector) {
        _ if open => {
            notes.push(loses(&asked.why, &bootfs.why));
            true
        }
        (Selector::Auto, _) | (Selector::Pool(_), Selector::Unusable(_)) => true,
        (Selector::Pool(wanted), Selector::Dataset { pool, .. }) => same_pool(wanted, pool),
        _ => false,
    };
    if open {
        named.snapshot = named.snapshot.or(asked.value.snapshot.take());
        *asked = Decided::new(named, bootfs.why.clone());
    } else if named.selector != asked.value.selector {
        notes.push(loses(&bootfs.why, &asked.why));
    }
}

/// `rpool=` says which pool is meant where none is named; `open`: the words name no root on ZFS at all.
fn restrict(asked: &mut Decided<Asked>, rpool: Decided<String>, open: bool, notes: &mut Vec<Note>) {
    let named = spaces(unquoted(&rpool.value));
    match &asked.value.selector {
        selector if open || *selector == Selector::Auto => {
            if open {
                notes.push(loses(&asked.why, &rpool.why));
            }
            asked.value.ours = true;
            asked.value.selector = match names::check(&named) {
                Ok(()) if !named.contains('/') => Selector::Pool(named),
                Ok(()) => Selector::Unusable(format!("`{named}` is a dataset; expected rpool=pool, or zfs={named}")),
                Err(_) if named.contains('@') => Selector::Unusable(format!(
                    "`{named}` is a snapshot; expected rpool=pool, or zfs=pool/dataset@snapshot"
                )),
                Err(why) => Selector::Unusable(format!("`{named}` is not a pool's name: {why}; expected rpool=pool")),
            };
            asked.why = rpool.why;
        }
        Selector::Pool(pool) | Selector::Dataset { pool, .. } if !same_pool(pool, &named) => {
            notes.push(note(&rpool.why, format!("{} names a root in another pool and wins", asked.why)));
        }
        _ => {}
    }
}

/// Whether both can be the same pool: where one is a guid only the disks tell.
fn same_pool(a: &str, b: &str) -> bool {
    let guid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    a == b || guid(a) != guid(b)
}

/// The word up to and with its `=`.
fn key_of(word: &str) -> &str {
    word.find('=').and_then(|at| word.get(..=at)).unwrap_or(word)
}

/// The value of `root=`; `marked_by`: a word that says that it names a dataset even without `ZFS=` or `zfs:`.
fn root_value(value: &str, marked_by: Option<&str>) -> Asked {
    let value = unquoted(value);
    if value == "fstab" {
        return Asked { ours: false, ..Asked::ours(Selector::Auto) };
    }
    let kind_alone = value.split('@').next().is_some_and(|base| base.eq_ignore_ascii_case("zfs"));
    let name = match behind_mark(value) {
        Some(name) => name,
        None if kind_alone => value.get(3..).unwrap_or_default(),
        None if marked_by.is_some() && !value.starts_with('/') && !value.contains('=') => value,
        None => return foreign(value, marked_by),
    };
    let (base, snapshot) = name.split_once('@').map_or((name, None), |(base, snapshot)| (base, Some(snapshot)));
    let auto = base == "AUTO" || base.is_empty() && (kind_alone || value.get(3..4) == Some(":"));
    if !auto {
        return dataset(name);
    }
    match snapshot.map(check_snapshot) {
        None => Asked::ours(Selector::Auto),
        Some(Ok(snapshot)) => Asked { snapshot: Some(snapshot), ..Asked::ours(Selector::Auto) },
        Some(Err(why)) => Asked::ours(Selector::Unusable(format!("root={value}: {why}"))),
    }
}

/// A root that is none of ours, or a slip in spelling one that is.
fn foreign(value: &str, marked_by: Option<&str>) -> Asked {
    let device = is_block_device(value);
    match marked_by {
        None if device => return Asked { ours: false, ..Asked::ours(Selector::Device(value.to_owned())) },
        Some(word) if device => {
            let message = format!(
                "root={value} is a block device, but {word} says that the root is a dataset; expected {ROOT_FORMS}, or \
                 root={value} without {word}"
            );
            return Asked::ours(Selector::Unusable(message));
        }
        _ => {}
    }
    let slip = value.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("zfs"));
    let mut message =
        format!("root={value} names no ZFS dataset and no block device; expected {ROOT_FORMS}, or root=UUID=...");
    if value.starts_with(QUOTES) {
        message.push_str("; a name with a space needs double quotes around it all: root=\"ZFS=pool/my root\"");
    } else if let Some(name) =
        value.strip_prefix('/').filter(|name| !value.starts_with("/dev/") && names::check(name).is_ok())
    {
        message = format!("{message}; did you mean root=ZFS={name}?");
    } else if value.contains('/') && names::check(value).is_ok() {
        message.push_str("; or rootfstype=zfs beside it");
    }
    Asked { ours: marked_by.is_some() || slip, ..Asked::ours(Selector::Unusable(message)) }
}

/// Whether a value names a block device that can be there before any pool is imported.
pub fn is_block_device(value: &str) -> bool {
    let never = ["/dev/nfs", "/dev/cifs", "/dev/root", "/dev/ram", "/dev/zvol/", "/dev/zd"];
    Wanted::parse(value).is_some() && !never.iter().any(|prefix| value.starts_with(prefix))
}

/// The device of `taproot.layerdev=`, spelled as a root is: a block device or a dataset.
pub(super) fn layer_device(value: &str) -> Result<Selector, String> {
    match root_value(value, None) {
        Asked { selector: selector @ (Selector::Device(_) | Selector::Dataset { .. }), snapshot: None, .. } => {
            Ok(selector)
        }
        _ => Err(format!(
            "`{value}` names no place of layers; expected ZFS=pool/dataset, UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/..."
        )),
    }
}

/// A root of `taproot.fallback=`; `Auto` for the `bootfs` of the pool of the root that it stands in for.
pub(super) fn fallback(value: &str) -> Result<Selector, String> {
    if is_block_device(value) {
        return Ok(Selector::Device(value.to_owned()));
    }
    let dataset = spaces(behind_mark(value).unwrap_or(value));
    if matches!(dataset.as_str(), "bootfs" | "auto" | "AUTO") {
        return Ok(Selector::Auto);
    }
    name(&dataset)?;
    Ok(Selector::Dataset { pool: names::pool_of(&dataset).to_owned(), dataset })
}

/// Whether this can be the name of a pool or dataset; else what is wrong, in a sentence.
pub(super) fn name(name: &str) -> Result<(), String> {
    names::check(name).map_err(|why| format!("`{name}` is not a name: {why}"))
}

/// What people put around a value; no name can hold them.
const QUOTES: [char; 2] = ['"', '\''];

/// Without the quotes around it.
fn unquoted(value: &str) -> &str {
    QUOTES.iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

/// What stands behind `ZFS=`, `zfs:`, `zfs:ZFS=`, and what people make of them (`zfs=`, `ZFS:`); `None` if nothing says that
/// the value is a root on ZFS.
pub(super) fn behind_mark(value: &str) -> Option<&str> {
    fn cut(value: &str) -> Option<&str> {
        let (kind, rest) = unquoted(value).split_at_checked(3)?;
        rest.strip_prefix([':', '=']).filter(|_| kind.eq_ignore_ascii_case("zfs"))
    }
    let name = cut(value)?;
    Some(unquoted(cut(name).unwrap_or(name)))
}

/// The value of `zfs=`; `None` for the words that only switch services of the booted system (`zfs=off`).
fn zfs_value(value: &str) -> Option<Asked> {
    let value = unquoted(value);
    let (base, snapshot) = value.split_once('@').map_or((value, None), |(base, snapshot)| (base, Some(snapshot)));
    Some(match (base, snapshot) {
        (switch, None) if boolean(Some(switch)).is_some() => return None,
        ("auto" | "bootfs", None) => Asked::ours(Selector::Auto),
        ("auto" | "bootfs", Some(snapshot)) => match check_snapshot(snapshot) {
            Ok(snapshot) => Asked { snapshot: Some(snapshot), ..Asked::ours(Selector::Auto) },
            Err(why) => Asked::ours(Selector::Unusable(format!("zfs={value}: {why}"))),
        },
        (base, _) if behind_mark(base).is_some() => root_value(value, None),
        (pool, None) if !pool.contains('/') && names::check(&spaces(pool)).is_ok() => {
            Asked::ours(Selector::Pool(spaces(pool)))
        }
        _ => dataset(value),
    })
}

/// `pool/dataset[@snapshot]`.
fn dataset(name: &str) -> Asked {
    let name = unquoted(name);
    let (base, snapshot) = name.split_once('@').map_or((name, None), |(base, snapshot)| (base, Some(snapshot)));
    // GRUB's scripts write the pool's own dataset as `pool/`.
    let base = spaces(base.strip_suffix('/').unwrap_or(base));
    let checked = names::check(&base).and_then(|()| snapshot.map(check_snapshot).transpose());
    match checked {
        Ok(snapshot) => {
            let pool = names::pool_of(&base).to_owned();
            Asked { snapshot, ..Asked::ours(Selector::Dataset { pool, dataset: base }) }
        }
        Err(_) if base.starts_with('/') => {
            let message = format!(
                "`{name}` lacks the pool's name at its beginning (GRUB's scripts write this where grub-probe cannot read the \
                 pool); expected root=ZFS=POOL{base}, or zfs=POOL{base} beside it"
            );
            Asked::ours(Selector::Unusable(message))
        }
        Err(why) => {
            let message = format!("`{name}` is not a dataset name: {why}; expected {ROOT_FORMS}");
            Asked::ours(Selector::Unusable(message))
        }
    }
}

/// The name of a snapshot, without its dataset and `@`.
pub(super) fn check_snapshot(name: &str) -> Result<String, String> {
    let name = spaces(name);
    if name.contains('@') {
        return Err(format!("`{name}` is not the name of a snapshot: it holds a second `@`"));
    }
    match names::check(&name) {
        Ok(()) if name.contains('/') => Err(format!("`{name}` is not the name of a snapshot: it holds a `/`")),
        Ok(()) => Ok(name),
        Err(why) => Err(format!("`{name}` is not the name of a snapshot: {why}")),
    }
}

/// Dracut's spelling of a space; a `+` cannot be in a name.
pub(super) fn spaces(name: &str) -> String {
    name.replace('+', " ")
}
