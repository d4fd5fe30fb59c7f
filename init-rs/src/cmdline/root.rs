//! Which root the words name: `root=` in every spelling, `zfs=`, `bootfs=`, `rpool=` and what switches them on.

use super::{Decided, Note, Request, Selector};
use crate::devices::probe::Wanted;
use crate::plan::names;

/// What a usable root word looks like, for messages.
const ROOT_FORMS: &str = "root=ZFS=pool/dataset, zfs=pool/dataset, or root=zfs:AUTO";

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
    zfs: Option<Decided<Asked>>,
    bootfs: Option<Decided<String>>,
    rpool: Option<Decided<String>>,
    /// `rootfstype=zfs`, `boot=zfs`.
    fstype: Option<String>,
    boot: Option<String>,
    /// `rootfstype=` with other types.
    types: Option<Decided<Vec<String>>>,
}

impl Roots {
    /// Takes a word if it is one of these.
    pub(super) fn take(&mut self, key: &str, value: &str, why: &str) -> bool {
        let given = || (!value.is_empty()).then(|| Decided::new(value.to_owned(), why));
        match key {
            "root" => self.root = given(),
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

    /// Decides `root`, `snapshot` and `ours`.
    pub(super) fn resolve(self, request: &mut Request) {
        let mut notes = Vec::new();
        request.root_fstype = self.types;
        let bare = self.fstype.or(self.boot);
        let root = self.root.map(|r| Decided::new(root_value(&r.value, bare.is_some()), r.why));
        if let (Some(root), Some(zfs)) = (&root, &self.zfs)
            && root.value != zfs.value
        {
            notes.push(note(&root.why, format!("{} wins over root=", zfs.why)));
        }
        let auto = |why: String| Decided::new(Asked::ours(Selector::Auto), why);
        let mut asked = match self.zfs.or(root) {
            Some(asked) => asked,
            None => auto(bare.unwrap_or_else(|| request.root.why.clone())),
        };
        if let Some(bootfs) = self.bootfs {
            prefer_bootfs(&mut asked, &bootfs, &mut notes);
        }
        if let Some(rpool) = self.rpool {
            restrict(&mut asked, rpool, &mut notes);
        }
        let Asked { selector, snapshot, ours } = asked.value;
        if let Selector::Unusable(message) = &selector {
            request.problems.push(note(&asked.why, message.clone()));
        }
        if asked.why.contains('+') && ours {
            notes.push(note(&asked.why, "`+` stands for a space, as in dracut: no name on ZFS can hold a `+`".into()));
        }
        request.notes.append(&mut notes);
        request.snapshot = snapshot.map(|name| Decided::new(name, asked.why.clone()));
        request.root = Decided::new(selector, asked.why);
        request.ours = ours;
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

/// `bootfs=` is what a pool's bootfs would be: it counts wherever the other words leave that open.
fn prefer_bootfs(asked: &mut Decided<Asked>, bootfs: &Decided<String>, notes: &mut Vec<Note>) {
    let mut named = dataset(strip_kind(&bootfs.value));
    let open = match (&asked.value.selector, &named.selector) {
        (Selector::Auto, _) | (Selector::Pool(_), Selector::Unusable(_)) => true,
        (Selector::Pool(wanted), Selector::Dataset { pool, .. }) => same_pool(wanted, pool),
        _ => false,
    };
    if open {
        named.snapshot = named.snapshot.or(asked.value.snapshot.take());
        *asked = Decided::new(named, bootfs.why.clone());
    } else if named.selector != asked.value.selector {
        notes.push(note(&bootfs.why, format!("{} wins over {}", asked.why, key_of(&bootfs.why))));
    }
}

/// `rpool=` says which pool is meant where none is named.
fn restrict(asked: &mut Decided<Asked>, rpool: Decided<String>, notes: &mut Vec<Note>) {
    let named = spaces(&rpool.value);
    match &asked.value.selector {
        Selector::Auto => {
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

/// The value of `root=`; `unmarked`: a word says that it names a dataset even without `ZFS=` or `zfs:`.
fn root_value(value: &str, unmarked: bool) -> Asked {
    let name = match strip_kind(value) {
        _ if value == "zfs" || value.starts_with("zfs@") => value,
        name if name.len() < value.len() => name,
        name if unmarked && !name.starts_with('/') && !name.contains('=') => name,
        _ => return foreign(value, unmarked),
    };
    let (base, snapshot) = name.split_once('@').map_or((name, None), |(base, snapshot)| (base, Some(snapshot)));
    let auto = match base {
        "AUTO" => true,
        "zfs" => name == value,
        "" => value.starts_with("zfs:"),
        _ => false,
    };
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
fn foreign(value: &str, unmarked: bool) -> Asked {
    if !unmarked && is_block_device(value) {
        return Asked { ours: false, ..Asked::ours(Selector::Device(value.to_owned())) };
    }
    let slip = value.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("zfs"));
    let mut message =
        format!("root={value} names no ZFS dataset and no block device; expected {ROOT_FORMS}, or root=UUID=...");
    if value.contains('/') && names::check(value).is_ok() {
        message.push_str("; or rootfstype=zfs beside it");
    }
    Asked { ours: unmarked || slip, ..Asked::ours(Selector::Unusable(message)) }
}

/// Whether a value names a block device that can be there before any pool is imported.
pub fn is_block_device(value: &str) -> bool {
    let never = ["/dev/nfs", "/dev/cifs", "/dev/root", "/dev/ram", "/dev/zvol/", "/dev/zd"];
    Wanted::parse(value).is_some() && !never.iter().any(|prefix| value.starts_with(prefix))
}

/// Drops `zfs:`, `ZFS=` or `zfs:ZFS=`.
fn strip_kind(value: &str) -> &str {
    let rest = value.strip_prefix("zfs:").unwrap_or(value);
    rest.strip_prefix("ZFS=").unwrap_or(rest)
}

/// The value of `zfs=`; `None` for the words that only switch services of the booted system (`zfs=off`).
fn zfs_value(value: &str) -> Option<Asked> {
    let (base, snapshot) = value.split_once('@').map_or((value, None), |(base, snapshot)| (base, Some(snapshot)));
    Some(match (base, snapshot) {
        ("off" | "no" | "0", None) => return None,
        ("auto" | "bootfs", None) => Asked::ours(Selector::Auto),
        ("auto" | "bootfs", Some(snapshot)) => match check_snapshot(snapshot) {
            Ok(snapshot) => Asked { snapshot: Some(snapshot), ..Asked::ours(Selector::Auto) },
            Err(why) => Asked::ours(Selector::Unusable(format!("zfs={value}: {why}"))),
        },
        (pool, None) if !pool.contains('/') && names::check(&spaces(pool)).is_ok() => {
            Asked::ours(Selector::Pool(spaces(pool)))
        }
        _ => dataset(value),
    })
}

/// `pool/dataset[@snapshot]`.
fn dataset(name: &str) -> Asked {
    let (base, snapshot) = name.split_once('@').map_or((name, None), |(base, snapshot)| (base, Some(snapshot)));
    let base = spaces(base);
    let checked = names::check(&base).and_then(|()| snapshot.map(check_snapshot).transpose());
    match checked {
        Ok(snapshot) => {
            let pool = names::pool_of(&base).to_owned();
            Asked { snapshot, ..Asked::ours(Selector::Dataset { pool, dataset: base }) }
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
