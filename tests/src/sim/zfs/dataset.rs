//! A dataset of a pool, and what the kernel tells of it.

use super::super::files::Tree;
use std::collections::BTreeMap;
use taproot_init::zfs::nvlist::{NvList, Value};

/// A file system or volume.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Whether it is a volume.
    pub volume: bool,
    /// Properties that are set here; without those that the kernel computes.
    pub properties: BTreeMap<String, Prop>,
    /// Transaction group it was made in.
    pub createtxg: u64,
    /// The snapshot that it is a clone of, without the pool's name.
    pub origin: Option<String>,
    /// The key, if this is an encryption root.
    pub key: Option<Key>,
    /// The encryption root it belongs to, without the pool's name; `None`: not encrypted.
    pub encryption_root: Option<String>,
    /// Its snapshots by name.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The files in it.
    pub tree: Tree,
    /// How often it was rolled back: what was mounted before is over.
    pub rolled_back: u32,
}

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prop {
    /// A number, or one of a list.
    Number(u64),
    /// A text.
    Text(String),
}

impl From<&str> for Prop {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Prop {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl Prop {
    fn value(&self) -> Value {
        match self {
            Self::Number(number) => Value::U64(*number),
            Self::Text(text) => Value::text(text),
        }
    }
}

/// The key of an encryption root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `keyformat`: 1 raw, 2 hex, 3 passphrase.
    pub format: u64,
    /// `keylocation`.
    pub location: String,
    /// `pbkdf2salt`.
    pub salt: u64,
    /// `pbkdf2iters`.
    pub iterations: u64,
    /// What must be handed in.
    pub bytes: Vec<u8>,
    /// Whether it is loaded.
    pub loaded: bool,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Transaction group it was taken in.
    pub createtxg: u64,
    /// Holds on it.
    pub holds: u64,
    /// The files in it.
    pub tree: Tree,
}

/// Properties that a dataset does not inherit.
const OWN: [&str; 7] = ["canmount", "keylocation", "quota", "refquota", "reservation", "refreservation", "volsize"];

impl Dataset {
    /// A file system with nothing set and nothing in it.
    pub fn new(createtxg: u64) -> Self {
        Self {
            volume: false,
            properties: BTreeMap::new(),
            createtxg,
            origin: None,
            key: None,
            encryption_root: None,
            snapshots: BTreeMap::new(),
            tree: Tree::default(),
            rolled_back: 0,
        }
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: impl Into<Prop>) {
        self.properties.insert(name.to_owned(), value.into());
    }

    /// Takes a snapshot of it.
    pub fn snapshot(&mut self, name: &str, createtxg: u64) {
        self.snapshots.insert(name.to_owned(), Snapshot { createtxg, holds: 0, tree: self.tree.clone() });
    }
}

impl super::Pool {
    /// The value of a property where it is set or inherited, and the dataset that it is set on.
    pub fn property(&self, dataset: &str, name: &str) -> Option<(&Prop, String)> {
        let mut at = dataset;
        loop {
            if let Some(value) = self.datasets.get(at).and_then(|d| d.properties.get(name)) {
                return Some((value, self.full(at)));
            }
            if at.is_empty() || OWN.contains(&name) {
                return None;
            }
            at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }

    /// The encryption root of a dataset with its key.
    pub fn key_of(&self, dataset: &str) -> Option<(&str, &Key)> {
        let root = self.datasets.get(dataset)?.encryption_root.as_deref()?;
        Some((root, self.datasets.get(root)?.key.as_ref()?))
    }

    /// Whether nothing can be read of it, because its key is not loaded.
    pub fn locked(&self, dataset: &str) -> bool {
        self.key_of(dataset).is_some_and(|(_, key)| !key.loaded)
    }

    /// What `OBJSET_STATS` says of a dataset.
    pub(super) fn properties(&self, name: &str) -> Option<NvList> {
        let dataset = self.datasets.get(name)?;
        let mut list = NvList::new();
        let computed = [
            ("type", if dataset.volume { 3 } else { 2 }),
            ("createtxg", dataset.createtxg),
            ("guid", self.guid.wrapping_add(dataset.createtxg)),
            ("creation", 1_700_000_000 + dataset.createtxg),
            ("used", 98_304),
            ("available", 1 << 30),
            ("referenced", 98_304),
            ("userrefs", 0),
        ];
        for (property, value) in computed {
            list.set(property, pair(Value::U64(value), None));
        }
        let mut set: Vec<&String> = self.datasets.values().flat_map(|d| d.properties.keys()).collect();
        set.sort();
        set.dedup();
        for property in set {
            if let Some((value, source)) = self.property(name, property) {
                list.set(property, pair(value.value(), Some(&source)));
            }
        }
        if let Some(origin) = &dataset.origin {
            list.set("origin", pair(Value::text(self.full(origin)), None));
        }
        if let Some((root, key)) = self.key_of(name) {
            list.set("encryption", pair(Value::U64(8), None));
            list.set("keystatus", pair(Value::U64(if key.loaded { 2 } else { 1 }), None));
            list.set("encryptionroot", pair(Value::text(self.full(root)), None));
            list.set("keyformat", pair(Value::U64(key.format), None));
            // A default for keys that are not derived.
            let source = if key.format == 3 { None } else { Some("") };
            list.set("pbkdf2iters", pair(Value::U64(key.iterations), source));
            list.set("pbkdf2salt", pair(Value::U64(key.salt), source));
            if root == name {
                list.set("keylocation", pair(Value::text(&key.location), Some(&self.full(name))));
            }
        }
        Some(list)
    }

    /// What `OBJSET_STATS` says of a snapshot.
    pub(super) fn snapshot_properties(&self, dataset: &str, snapshot: &str) -> Option<NvList> {
        let found = self.datasets.get(dataset)?.snapshots.get(snapshot)?;
        let full = format!("{dataset}@{snapshot}");
        let mut list = NvList::new();
        for (property, value) in [
            ("type", 2),
            ("createtxg", found.createtxg),
            ("guid", self.guid.wrapping_add(found.createtxg)),
            ("creation", 1_700_000_000 + found.createtxg),
            ("referenced", 98_304),
            ("userrefs", found.holds),
        ] {
            list.set(property, pair(Value::U64(value), None));
        }
        let clones: NvList = self.clones(&full).map(|name| (self.full(name).into_bytes(), Value::Boolean)).collect();
        list.set("clones", pair(Value::List(clones), None));
        Some(list)
    }

    /// Clones of a snapshot (without the pool's name), without the pool's name.
    pub(super) fn clones<'a>(&'a self, snapshot: &'a str) -> impl Iterator<Item = &'a str> {
        let cloned = move |dataset: &Dataset| dataset.origin.as_deref() == Some(snapshot);
        self.datasets.iter().filter(move |(_, dataset)| cloned(dataset)).map(|(name, _)| name.as_str())
    }

    /// Names of the datasets right below one.
    pub(super) fn children(&self, parent: &str) -> Vec<&str> {
        let below = |name: &&String| {
            let rest = if parent.is_empty() {
                Some(name.as_str())
            } else {
                name.strip_prefix(parent).and_then(|n| n.strip_prefix('/'))
            };
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        };
        self.datasets.keys().filter(below).map(String::as_str).collect()
    }
}

/// A property as the kernel sends it.
pub(super) fn pair(value: Value, source: Option<&str>) -> Value {
    let mut list = NvList::new();
    list.set("value", value);
    if let Some(source) = source {
        list.set("source", Value::text(source));
    }
    Value::List(list)
}
