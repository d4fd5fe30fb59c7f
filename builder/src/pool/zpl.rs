//! File systems: the objects of one data set.

use std::collections::BTreeMap;

use super::PoolError;
use super::block::{Bp, Compression, Embed, Kind};
use super::bytes::{get64, index, put64};
use super::content::Content;
use super::dmu::{self, FLAG_ACCOUNTED, Object, ObjectSet, Top, types};
use super::random::Random;
use super::reader::objects::{Cursor, Dnode, Objects};
use super::sa::{self, Layouts, Znode};
use super::store::{Space, Store};
use super::zap::{self, Entry, Zap};

/// Where attributes begin in a dnode.
const BONUS: usize = 192;
/// Type of a set of objects that is a file system.
const SET_ZPL: u64 = 2;
const VERSION: u64 = 5;
/// What the kernel accounts for a file besides its blocks.
const DNODE_COST: u64 = 512;
/// Metadata is compressed as the kernel does.
pub(super) const METADATA: Compression = Compression::Lz4;

const MASTER: u64 = 1;
const DELETE_QUEUE: u64 = 2;
const SA_MASTER: u64 = 3;
const SA_REGISTRY: u64 = 4;
const SA_LAYOUTS: u64 = 5;
/// Stands for the numbers of the accounts, which have none.
const ACCOUNTS: u64 = u64::MAX;
/// The root directory.
pub(super) const ROOT: u64 = 6;

/// A file system that is being written.
#[derive(Debug)]
pub(super) struct FileSystem {
    set: ObjectSet,
    layouts: Layouts,
    /// How data is compressed.
    pub(super) compression: Compression,
    /// Largest block of a file.
    pub(super) record: usize,
    /// Bytes by owner and by group.
    usage: [BTreeMap<u32, u64>; 2],
    /// Names that files have besides their first.
    links: BTreeMap<u64, u64>,
    space: Space,
    random: Random,
    old: Option<Old>,
    /// What it holds, if that is to be compared later.
    pub(super) content: Option<Content>,
}

/// The state before.
#[derive(Debug)]
struct Old {
    set: ObjectSet,
    pointer: Bp,
    /// Objects that are there again, by number.
    claimed: Vec<bool>,
}

impl FileSystem {
    pub(super) fn new(compression: Compression, record: usize, random: Random, content: Option<Content>) -> Self {
        let mut set = ObjectSet::default();
        while set.reserve() < ROOT {}
        FileSystem {
            set,
            layouts: Layouts::default(),
            compression,
            record,
            usage: Default::default(),
            links: BTreeMap::new(),
            space: Space::default(),
            random,
            old: None,
            content,
        }
    }

    /// Begins with the state after the one that `pointer` leads to.
    pub(super) fn next_state(&mut self, pointer: Bp) {
        let set = self.set.next_state();
        let claimed = vec![false; index(set.count())];
        self.old = Some(Old { set: std::mem::replace(&mut self.set, set), pointer, claimed });
        self.space = Space::default();
        self.content = self.content.map(|_| Content::default());
    }

    /// Takes an object of the state before for one of this; `false` if it is taken.
    pub(super) fn claim(&mut self, object: u64) -> bool {
        let claimed = self.old.as_mut().and_then(|old| old.claimed.get_mut(index(object)));
        claimed.is_some_and(|claimed| !std::mem::replace(claimed, true))
    }

    /// An object of the state before.
    pub(super) fn old(&self, object: u64) -> Result<Option<Cursor>, PoolError> {
        let Some(old) = &self.old else { return Ok(None) };
        let dnode = Dnode::parse(&old.set.get(object)?)?;
        Ok((dnode.what != 0).then(|| Cursor::new(dnode)))
    }

    /// Adds the root directory of a file system that is empty.
    pub(super) fn add_root(&mut self, time: i64, store: &mut Store<'_>) -> Result<(), PoolError> {
        let root = Znode { mode: 0o040_755, links: 2, size: 2, parent: ROOT, mtime: (time, 0), ..Znode::default() };
        self.add_directory(ROOT, &root, &[], store)
    }

    /// The number of an object to come.
    pub(super) fn reserve(&mut self) -> u64 {
        self.set.reserve()
    }

    /// One more name for a file.
    pub(super) fn link(&mut self, object: u64) {
        *self.links.entry(object).or_default() += 1;
    }

    /// Adds a file, whatever its type, whose blocks are written.
    pub(super) fn add(
        &mut self,
        number: u64,
        znode: &Znode,
        object_type: u8,
        block_size: usize,
        top: &Top,
        store: &mut Store<'_>,
    ) -> Result<(), PoolError> {
        if let Some(content) = &mut self.content {
            content.file(number, znode);
        }
        let packed = self.layouts.pack(znode)?;
        let spill = match packed.spill {
            None => None,
            Some(block) => {
                let kind = Kind { object_type: types::SA, level: 0 };
                let old = self.old(number)?.and_then(|old| old.dnode().spill);
                Some(store.write(&block, kind, 1, (METADATA, Embed::No), old.as_ref())?)
            }
        };
        let object = Object {
            what: object_type,
            bonus_type: types::SA,
            bonus: packed.bonus,
            block_size,
            spill,
            flags: FLAG_ACCOUNTED,
        };
        let used = object.used(top);
        for (usage, id) in self.usage.iter_mut().zip([znode.uid, znode.gid]) {
            *usage.entry(id).or_default() += used + DNODE_COST;
        }
        self.space.add(top.space);
        if let Some((_, space)) = &object.spill {
            self.space.add(*space);
        }
        self.set.set(number, &object.dnode(top))
    }

    /// Adds a directory with its entries.
    pub(super) fn add_directory(
        &mut self,
        number: u64,
        znode: &Znode,
        entries: &[Entry],
        store: &mut Store<'_>,
    ) -> Result<(), PoolError> {
        if let Some(content) = &mut self.content {
            for (name, value) in entries {
                if let zap::Value::Number(value) = value {
                    content.name(number, name, *value);
                }
            }
        }
        let zap = zap::build(entries, self.salt(number))?;
        let top = write_zap(store, types::DIRECTORY, &zap, self.old(number)?)?;
        self.add(number, znode, types::DIRECTORY, zap.block_size, &top, store)
    }

    /// Writes all that is left and returns the pointer to the whole.
    pub(super) fn finish(&mut self, store: &mut Store<'_>) -> Result<(Bp, Space), PoolError> {
        for (object, more) in std::mem::take(&mut self.links) {
            let mut dnode = self.set.get(object)?;
            let bonus = dnode.get_mut(BONUS..).unwrap_or_default();
            let place = sa::links_place(bonus);
            let links = get64(bonus, place) + more;
            put64(bonus, place, links);
            self.set.set(object, &dnode)?;
        }
        let master = [
            ("ROOT", ROOT),
            ("DELETE_QUEUE", DELETE_QUEUE),
            ("SA_ATTRS", SA_MASTER),
            ("VERSION", VERSION),
            ("normalization", 0),
            ("utf8only", 0),
            ("casesensitivity", 0),
        ];
        let layouts = self.layouts.entries();
        let tables = [
            (MASTER, types::MASTER_NODE, zap::numbers(&master)),
            (DELETE_QUEUE, types::UNLINKED_SET, Vec::new()),
            (SA_MASTER, types::SA_MASTER_NODE, zap::numbers(&[("REGISTRY", SA_REGISTRY), ("LAYOUTS", SA_LAYOUTS)])),
            (SA_REGISTRY, types::SA_REGISTRATION, sa::registry()),
            (SA_LAYOUTS, types::SA_LAYOUTS, layouts),
        ];
        for (number, object_type, entries) in tables {
            let old = self.old(number)?;
            let dnode = self.table((number, object_type), &entries, old, store)?;
            self.set.set(number, &dnode)?;
        }
        let old = match (&self.old, store.blocks()) {
            (Some(old), Some(blocks)) => Objects::read(&blocks, &old.pointer)?,
            _ => None,
        };
        let [_, users, groups] = old.map_or_else(Default::default, |old| old.special);
        let mut accounts = Vec::new();
        let usage = std::mem::take(&mut self.usage).into_iter();
        for ((usage, number), old) in usage.zip([ACCOUNTS, ACCOUNTS - 1]).zip([users, groups]) {
            let entries: Vec<_> = usage.iter().map(|(id, bytes)| (zap::key(u64::from(*id)), *bytes)).collect();
            accounts.push(self.table(
                (number, types::USERGROUP_USED),
                &zap::numbers(&entries),
                Some(Cursor::new(old)),
                store,
            )?);
        }
        let old = self.old.as_ref().map(|old| old.pointer);
        let (bp, space) = self.set.write(store, SET_ZPL, &accounts, METADATA, old.as_ref())?;
        self.space.add(space);
        Ok((bp, self.space))
    }

    /// What the hashes of an object's names begin with: the same in all states.
    fn salt(&self, number: u64) -> u64 {
        self.random.nth(number)
    }

    /// Writes a ZAP that belongs to nobody and returns its dnode.
    fn table(
        &mut self,
        (number, object_type): (u64, u8),
        entries: &[Entry],
        old: Option<Cursor>,
        store: &mut Store<'_>,
    ) -> Result<Vec<u8>, PoolError> {
        let zap = zap::build(entries, self.salt(number))?;
        let top = write_zap(store, object_type, &zap, old)?;
        self.space.add(top.space);
        let flags = if object_type == types::USERGROUP_USED { 0 } else { FLAG_ACCOUNTED };
        Ok(Object { flags, ..Object::plain(object_type, zap.block_size) }.dnode(&top))
    }
}

fn write_zap(store: &mut Store<'_>, object_type: u8, zap: &Zap, old: Option<Cursor>) -> Result<Top, PoolError> {
    dmu::write_blocks(store, object_type, METADATA, zap.blocks.iter().map(Vec::as_slice), old)
}
