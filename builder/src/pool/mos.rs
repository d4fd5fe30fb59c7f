//! The set of all that is not in a file system: which data sets there are, where space is taken, what the pool is.

use super::PoolError;
use super::block::{Bp, Compression};
use super::bytes::{put64, words};
use super::dead::Bucket;
use super::dmu::{self, Object, ObjectSet, Top, types};
use super::layout::Geometry;
use super::random::Random;
use super::store::{Space, Store};
use super::zap::{self, Entry, Value};

/// Its blocks are not compressed: space maps say where they are, so their sizes have to be known before.
const COMPRESSION: Compression = Compression::Off;
const SET_META: u64 = 1;
/// The object that leads to all others.
const DIRECTORY: u64 = 1;

/// What an object holds.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Empty,
    Zap(Vec<Entry>),
    /// One block.
    Block(Vec<u8>),
    /// Blocks that are stored already.
    Written(Top),
}

#[derive(Debug, Clone)]
struct Item {
    object: Object,
    body: Body,
    salt: u64,
}

/// The objects, in the order of their numbers.
#[derive(Debug, Clone)]
pub(super) struct Mos {
    items: Vec<Item>,
    random: Random,
}

impl Mos {
    pub(super) fn new(random: Random) -> Self {
        let mut mos = Mos { items: Vec::new(), random };
        mos.zap(types::OBJECT_DIRECTORY, Vec::new());
        mos
    }

    fn push(&mut self, object: Object, body: Body) -> u64 {
        let salt = self.random.number();
        self.items.push(Item { object, body, salt });
        self.items.len() as u64
    }

    /// A new ZAP.
    pub(super) fn zap(&mut self, object_type: u8, entries: Vec<Entry>) -> u64 {
        self.push(Object::plain(object_type, 0), Body::Zap(entries))
    }

    /// A new object that is all in its bonus.
    pub(super) fn bonus(&mut self, object_type: u8, bonus_type: u8, bonus: Vec<u8>) -> u64 {
        self.push(Object { what: object_type, bonus_type, bonus, block_size: 512, ..Object::default() }, Body::Empty)
    }

    /// A new list of blocks to free; without a bucket there is nothing in it.
    pub(super) fn bpobj(&mut self, bucket: Option<&Bucket>) -> u64 {
        let mut bonus = bucket.map_or_else(Vec::new, |bucket| {
            let space = bucket.space;
            words(&[bucket.count, space.used, space.compressed, space.uncompressed])
        });
        bonus.resize(48, 0);
        let object = Object {
            what: types::BPOBJ,
            bonus_type: types::BPOBJ_HDR,
            bonus,
            block_size: super::block::MAX_BLOCK,
            ..Object::default()
        };
        self.push(object, bucket.map_or(Body::Empty, |bucket| Body::Written(bucket.top.clone())))
    }

    /// A new list of such lists, which hold so much.
    pub(super) fn deadlist(&mut self, lists: Vec<Entry>, space: Space) -> u64 {
        let mut bonus = words(&[space.used, space.compressed, space.uncompressed]);
        bonus.resize(320, 0);
        let object = Object { what: types::DEADLIST, bonus_type: types::DEADLIST_HDR, bonus, ..Object::default() };
        self.push(object, Body::Zap(lists))
    }

    /// Adds entries to the ZAP that a word of an object's bonus leads to.
    pub(super) fn add_properties(&mut self, object: u64, word: usize, entries: &[Entry]) {
        let Some(number) = self.item(object).map(|item| super::bytes::get64(&item.object.bonus, word * 8)) else {
            return;
        };
        if let Some(Item { body: Body::Zap(all), .. }) = self.item(number) {
            all.extend_from_slice(entries);
        }
    }

    /// Changes a word of an object's bonus.
    pub(super) fn set_word(&mut self, number: u64, word: usize, value: u64) {
        if let Some(item) = self.item(number) {
            put64(&mut item.object.bonus, word * 8, value);
        }
    }

    /// Writes into an object's bonus.
    pub(super) fn set_bytes(&mut self, number: u64, at: usize, bytes: &[u8]) {
        if let Some(item) = self.item(number) {
            super::bytes::put(&mut item.object.bonus, at, bytes);
        }
    }

    /// Adds a name to a ZAP.
    pub(super) fn name(&mut self, number: u64, name: impl Into<Vec<u8>>, value: u64) {
        if let Some(Item { body: Body::Zap(entries), .. }) = self.item(number) {
            entries.push((name.into(), Value::Number(value)));
        }
    }

    /// Makes a ZAP of an object that had none: data sets that use features list them there.
    pub(super) fn zapify(&mut self, number: u64, entries: Vec<Entry>) {
        if let Some(item) = self.item(number) {
            item.object.what = types::OTHER_ZAP;
            item.body = Body::Zap(entries);
        }
    }

    /// Says how many users a feature has.
    fn count(&mut self, feature: &str, users: u64) {
        let entries = self.items.iter_mut().filter_map(|item| match &mut item.body {
            Body::Zap(entries) => Some(entries),
            _ => None,
        });
        if let Some((_, value)) = entries.flatten().find(|(name, _)| name == feature.as_bytes()) {
            *value = Value::Number(users);
        }
    }

    /// Adds a name to the object directory.
    pub(super) fn root_name(&mut self, name: &str, value: u64) {
        self.name(DIRECTORY, name, value);
    }

    fn item(&mut self, number: u64) -> Option<&mut Item> {
        self.items.get_mut(super::bytes::index(number).checked_sub(1)?)
    }

    /// Adds the pool's configuration.
    pub(super) fn config(&mut self, packed: Vec<u8>) {
        let mut block = packed;
        let bonus = words(&[block.len() as u64]);
        block.resize(block.len().next_multiple_of(16 << 10), 0);
        let object = Object {
            what: types::PACKED_NVLIST,
            bonus_type: types::PACKED_NVLIST_SIZE,
            bonus,
            block_size: block.len(),
            ..Object::default()
        };
        let number = self.push(object, Body::Block(block));
        self.root_name("config", number);
    }

    /// The object for the list of metaslabs, which is filled by [`Mos::space_maps`].
    pub(super) fn metaslab_array(&mut self) -> u64 {
        let object = Object::plain(types::OBJECT_ARRAY, 512);
        self.push(object, Body::Empty)
    }

    /// Says which space is taken. Those of metaslabs that nothing was taken from may be there, too.
    fn space_maps(&mut self, array: u64, used: &[u64], maps: usize, geometry: Geometry) {
        let ashift = geometry.ashift;
        let mut numbers = Vec::new();
        for nth in 0..maps {
            let taken = used.get(nth).copied().unwrap_or(0);
            let (block, length) = super::spacemap::map(taken, ashift);
            let object = Object {
                what: types::SPACE_MAP,
                bonus_type: types::SPACE_MAP_HEADER,
                bonus: super::spacemap::bonus(length, taken, 1 << geometry.metaslab_shift, ashift),
                block_size: super::spacemap::BLOCK,
                ..Object::default()
            };
            numbers.push(self.push(object, Body::Block(block)));
        }
        self.count(super::spacemap::HISTOGRAM, numbers.len() as u64);
        let mut block = words(&numbers);
        block.resize(block.len().next_multiple_of(512).max(512), 0);
        if let Some(item) = self.item(array) {
            item.object.block_size = block.len();
            item.body = Body::Block(block);
        }
    }

    fn write(&self, store: &mut Store<'_>) -> Result<(Bp, Space), PoolError> {
        let mut set = ObjectSet::default();
        let mut total = Space::default();
        for item in &self.items {
            let number = set.reserve();
            let object_type = item.object.what;
            let mut object = item.object.clone();
            let top = match &item.body {
                Body::Empty => Top::default(),
                Body::Written(top) => top.clone(),
                Body::Block(block) => {
                    dmu::write_blocks(store, object_type, COMPRESSION, std::iter::once(block.as_slice()), None)?
                }
                Body::Zap(entries) => {
                    let zap = zap::build(entries, item.salt)?;
                    object.block_size = zap.block_size;
                    dmu::write_blocks(store, object_type, COMPRESSION, zap.blocks.iter().map(Vec::as_slice), None)?
                }
            };
            total.add(top.space);
            set.set(number, &object.dnode(&top))?;
        }
        let (bp, space) = set.write(store, SET_META, &[], COMPRESSION, None)?;
        total.add(space);
        Ok((bp, total))
    }

    /// Writes the set as the last thing in the pool. Space maps speak of themselves, too, so all is first rehearsed: sizes do not
    /// depend on content. `account` says how much space the set takes.
    pub(super) fn finish(
        self,
        store: &mut Store<'_>,
        array: u64,
        account: impl Fn(&mut Mos, Space),
    ) -> Result<Bp, PoolError> {
        let geometry = store.geometry;
        let mut maps = store.allocator.used().len().max(1);
        loop {
            let mut draft = self.clone();
            draft.space_maps(array, &[], maps, geometry);
            let mut rehearsal = store.fork();
            let (_, space) = draft.write(&mut rehearsal)?;
            let used = rehearsal.allocator.used();
            if used.len() > maps {
                maps = used.len();
                continue;
            }
            let mut real = self;
            real.space_maps(array, used, maps, geometry);
            account(&mut real, space);
            let (bp, again) = real.write(store)?;
            if again != space || store.allocator.used() != used {
                return Err(PoolError::Worker);
            }
            return Ok(bp);
        }
    }
}
