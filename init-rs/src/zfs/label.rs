//! Vdev labels: the four copies of its pool's configuration that every vdev carries.
//!
//! The checksum is verified, as in the kernel. Because the place of a label is part of its checksum, a disk whose last
//! partition is a vdev is not mistaken for that vdev. Source: OpenZFS `vdev_label.c`, `vdev_impl.h`, `zio_checksum.c`.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::nvlist::{NvError, NvList};

/// Bytes of one label.
pub const LABEL_SIZE: u64 = 262_144;
/// Where the configuration region starts inside a label, in bytes.
pub const REGION_START: u64 = 16 * 1024;
/// Bytes of the configuration region.
pub const REGION_SIZE: usize = 112 * 1024;
/// Smallest device that ZFS makes a vdev of, in bytes (`SPA_MINDEVSIZE`).
pub const MIN_DEVICE_SIZE: u64 = 64 << 20;

/// Bytes of the checksum at the end of each part of a label: a magic number and four words.
pub const TRAILER: usize = 40;
const MAGIC: u64 = 0x0210_da7a_b10c_7a11;

/// What a label says of its pool (`pool_state_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolState {
    /// In use, or not exported before the machine stopped: normal for a root pool.
    Active,
    /// Exported.
    Exported,
    /// Destroyed; only an explicit wish brings it back.
    Destroyed,
    /// The device is a hot spare.
    Spare,
    /// The device is a cache.
    L2Cache,
    /// Absent, or a number that labels do not use.
    Unknown,
}

impl PoolState {
    /// The state that `config` records under `state`.
    pub fn of(config: &NvList) -> Self {
        match config.u64("state") {
            Some(0) => PoolState::Active,
            Some(1) => PoolState::Exported,
            Some(2) => PoolState::Destroyed,
            Some(3) => PoolState::Spare,
            Some(4) => PoolState::L2Cache,
            _ => PoolState::Unknown,
        }
    }
}

/// The label that was chosen from a device's four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The label's nvlist. Shared: as many as 255 disks each have one that describes all of them, and they are looked at together each
    /// time one of them changes.
    pub config: Arc<NvList>,
    /// Which copy it came from, 0 to 3.
    pub index: u8,
}

impl Label {
    /// The copy `index` of a label that says this.
    pub fn new(config: NvList, index: u8) -> Self {
        Self { config: Arc::new(config), index }
    }

    /// The pool's guid; absent on spares and caches.
    pub fn pool_guid(&self) -> Option<u64> {
        self.config.u64("pool_guid")
    }

    /// The pool's name, for people; absent on spares and caches.
    pub fn pool_name(&self) -> Option<Cow<'_, str>> {
        self.config.text("name")
    }

    /// The vdev's own guid.
    pub fn guid(&self) -> Option<u64> {
        self.config.u64("guid")
    }

    /// The guid of the top-level vdev this one belongs to.
    pub fn top_guid(&self) -> Option<u64> {
        self.config.u64("top_guid")
    }

    /// The transaction group of the last change of the configuration.
    pub fn txg(&self) -> Option<u64> {
        self.config.u64("txg")
    }

    /// The pool's state, or that the device is a spare or cache.
    pub fn state(&self) -> PoolState {
        PoolState::of(&self.config)
    }

    /// The hostid of the last importer; absent if it had none.
    pub fn hostid(&self) -> Option<u64> {
        self.config.u64("hostid")
    }

    /// The host name of the last importer, for people.
    pub fn hostname(&self) -> Option<String> {
        self.config.text("hostname").map(|name| printable(&name))
    }

    /// How many top-level slots the pool has, holes included.
    pub fn vdev_children(&self) -> Option<u64> {
        self.config.u64("vdev_children")
    }

    /// True for spares and caches, which belong to a pool only by that pool's own list.
    pub fn is_aux(&self) -> bool {
        matches!(self.state(), PoolState::Spare | PoolState::L2Cache)
    }
}

/// Text of a foreign disk for people: what would steer a terminal becomes `?`.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Why one copy of a label cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Neither a checksum trailer nor a packed list is there.
    #[error("no label")]
    Nothing,
    /// A packed list without the checksum trailer.
    #[error("no checksum: the label was overwritten in part")]
    NoChecksum,
    /// The checksum does not match the bytes at this place.
    #[error("wrong checksum")]
    Checksum,
    /// The checksum is right, the list inside is not.
    #[error("unreadable configuration: {0}")]
    Unpack(#[from] NvError),
    /// No vdev guid.
    #[error("no vdev guid")]
    NoGuid,
    /// No state, or one that labels do not use.
    #[error("unknown pool state")]
    State,
    /// The vdev was being added to the pool and never got there.
    #[error("transaction group 0: the device was never completely added to a pool")]
    NoTxg,
    /// The region handed in has the wrong size.
    #[error("a label region has {REGION_SIZE} bytes, {found} were given")]
    Size {
        /// Bytes given.
        found: usize,
    },
    /// The device could not be read here.
    #[error("cannot be read: {0}")]
    Read(String),
}

/// Why a device has no usable label.
#[derive(Debug, thiserror::Error)]
pub enum LabelProblem {
    /// Smaller than any vdev.
    #[error("{size} bytes are too few for a vdev (at least {MIN_DEVICE_SIZE})")]
    TooSmall {
        /// The device's size in bytes.
        size: u64,
    },
    /// Nothing like a label at any of the four places: not a vdev.
    #[error("no ZFS label: not a vdev")]
    NoLabel,
    /// Something like a label is there, but no copy can be used.
    #[error("{}", damage(why))]
    Damaged {
        /// What is wrong with each copy.
        why: Box<[LabelError; 4]>,
    },
    /// No copy could be read.
    #[error("the device cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl LabelProblem {
    /// True when all that is there is one or both of the copies at the device's end, with a wrong checksum. They then
    /// belong to its last partition, which has them in their place; the disk itself is not a vdev.
    pub fn is_partition_tail(&self) -> bool {
        let LabelProblem::Damaged { why } = self else { return false };
        is_tail(why)
    }
}

fn is_tail(why: &[LabelError; 4]) -> bool {
    use LabelError::{Checksum, Nothing};
    matches!(why, [Nothing, Nothing, Checksum | Nothing, Checksum | Nothing])
}

/// One sentence for four reasons; equal ones are said once.
fn damage(why: &[LabelError; 4]) -> impl fmt::Display {
    let [first, rest @ ..] = why;
    if rest.iter().all(|w| w == first) {
        return format!("4 ZFS labels, none usable: {first} in all of them");
    }
    let each: Vec<String> = why.iter().enumerate().map(|(i, w)| format!("label {i}: {w}")).collect();
    let hint = if is_tail(why) { " (they may belong to the device's last partition)" } else { "" };
    format!("no usable ZFS label: {}{hint}", each.join("; "))
}

/// Where the four labels of a device of `device_size` bytes start, or `None` if it is too small for a vdev.
pub fn label_offsets(device_size: u64) -> Option<[u64; 4]> {
    if device_size < MIN_DEVICE_SIZE {
        return None;
    }
    let size = device_size - device_size % LABEL_SIZE;
    Some([0, LABEL_SIZE, size - 2 * LABEL_SIZE, size - LABEL_SIZE])
}

/// Where the ring of uberblocks starts inside a label, in bytes.
const RING_START: u64 = REGION_START + REGION_SIZE as u64;
/// Bytes of the ring.
const RING_SIZE: usize = 128 * 1024;
/// Bytes between two places where an uberblock can begin.
const SLOT: usize = 1024;
const UBERBLOCK: u64 = 0x00ba_b10c;
/// Fewer uberblocks than this, in all four labels, has no vdev: each is written with one in every label.
const UBERBLOCKS_MIN: usize = 4;

/// Whether the labels have the uberblocks without which there is no pool. wipefs(8), and what makes file systems with its library, takes
/// uberblocks away until it finds no pool any more, and leaves what the labels say of it.
pub fn has_uberblocks(
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    device_size: u64,
) -> Result<bool, LabelProblem> {
    let offsets = label_offsets(device_size).ok_or(LabelProblem::TooSmall { size: device_size })?;
    let mut ring = vec![0; RING_SIZE];
    let mut found = 0;
    for label in offsets {
        read(label + RING_START, &mut ring)?;
        let begins = |slot: &&[u8]| {
            let first = slot.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            first.is_some_and(|word| word == UBERBLOCK || word.swap_bytes() == UBERBLOCK)
        };
        found += ring.chunks(SLOT).filter(begins).count();
    }
    Ok(found >= UBERBLOCKS_MIN)
}

/// Byte order of a label's writer, told by the magic number.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn bytes(self, word: u64) -> [u8; 8] {
        match self {
            Order::Little => word.to_le_bytes(),
            Order::Big => word.to_be_bytes(),
        }
    }
}

/// The checksum words of a region: SHA-256 over all of it before them, of which `hashed` is the state, and, in the words' place, the
/// region's offset.
fn checksum(mut hashed: Sha256, region_offset: u64, order: Order) -> [u8; 32] {
    hashed.update(order.bytes(region_offset));
    hashed.update([0; 24]);
    let mut words: [u8; 32] = hashed.finalize().into();
    // The digest counts as four big-endian words, kept in the writer's order.
    if let Order::Little = order {
        words.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    }
    words
}

/// Verifies and unpacks a configuration region of [`REGION_SIZE`] bytes that lies `region_offset` bytes from the start
/// of the vdev. Both byte orders are read. What the configuration says is not judged here.
pub fn parse_label(region: &[u8], region_offset: u64) -> Result<NvList, LabelError> {
    Last::default().parse(region, region_offset).map(Arc::unwrap_or_clone)
}

/// The region of a device that was parsed last. Its four are the same but for the checksum, unless something is wrong: they are
/// hashed and unpacked once, which counts where there are many disks.
#[derive(Default)]
struct Last {
    /// All before the checksum words.
    head: Vec<u8>,
    hashed: Sha256,
    config: Option<Result<Arc<NvList>, NvError>>,
}

impl Last {
    /// [`parse_label`] of the next one.
    fn parse(&mut self, region: &[u8], region_offset: u64) -> Result<Arc<NvList>, LabelError> {
        let size = LabelError::Size { found: region.len() };
        if region.len() != REGION_SIZE {
            return Err(size);
        }
        let Some((head, stored)) = region.split_last_chunk::<32>() else { return Err(size) };
        let Some((data, magic)) = head.split_last_chunk::<8>() else { return Err(size) };
        let order = match u64::from_le_bytes(*magic) {
            MAGIC => Order::Little,
            m if m.swap_bytes() == MAGIC => Order::Big,
            _ if looks_packed(data) => return Err(LabelError::NoChecksum),
            _ => return Err(LabelError::Nothing),
        };
        if self.head != head {
            *self = Self { head: head.to_vec(), hashed: Sha256::new_with_prefix(head), config: None };
        }
        if checksum(self.hashed.clone(), region_offset, order) != *stored {
            return Err(LabelError::Checksum);
        }
        Ok(self.config.get_or_insert_with(|| NvList::decode(data).map(Arc::new)).clone()?)
    }
}

/// True for the first bytes of an XDR list with unique names, as every label has them.
fn looks_packed(data: &[u8]) -> bool {
    matches!(data, [1, 0 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, ..])
}

/// Refuses configurations that name no vdev or were never completed.
fn judge(config: &NvList) -> Result<(), LabelError> {
    if config.u64("guid").is_none_or(|guid| guid == 0) {
        return Err(LabelError::NoGuid);
    }
    match PoolState::of(config) {
        PoolState::Unknown => Err(LabelError::State),
        PoolState::Spare | PoolState::L2Cache => Ok(()),
        _ if config.u64("txg").is_none_or(|txg| txg == 0) => Err(LabelError::NoTxg),
        _ => Ok(()),
    }
}

/// Reads a device's four labels and returns the acceptable one with the highest transaction group, the first of equals.
///
/// `read` fills the buffer from the byte offset given. A label that cannot be read counts as damaged as long as another
/// one can.
pub fn read_labels(
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    device_size: u64,
) -> Result<Label, LabelProblem> {
    read_copies(read, device_size).map(|(label, _)| label)
}

/// The label that [`read_labels`] would return, and which of the four are good copies of that vdev's. A vdev that is in use has
/// all of them, at the ends of its own device: where some lack, the others may be left over from what was there before, or
/// belong to something larger or smaller than this device.
pub fn read_copies(
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    device_size: u64,
) -> Result<(Label, [bool; 4]), LabelProblem> {
    let offsets = label_offsets(device_size).ok_or(LabelProblem::TooSmall { size: device_size })?;
    let (mut region, mut last) = (vec![0; REGION_SIZE], Last::default());
    let mut unreadable = Vec::new();
    let mut copy = |label: u64| {
        let offset = label + REGION_START;
        if let Err(error) = read(offset, &mut region) {
            let why = LabelError::Read(error.to_string());
            unreadable.push(error);
            return Err(why);
        }
        let config = last.parse(&region, offset)?;
        judge(&config).map(|()| config)
    };
    let copies = offsets.map(&mut copy);
    if unreadable.len() == copies.len()
        && let Some(error) = unreadable.pop()
    {
        return Err(LabelProblem::Io(error));
    }
    let whose = |config: &Arc<NvList>| ["guid", "pool_guid"].map(|name| config.u64(name));
    let found = copies.each_ref().map(|copy| copy.as_ref().ok().map(whose));
    let label = choose(copies)?;
    let own = Some(whose(&label.config));
    Ok((label, found.map(|found| found == own)))
}

fn choose(copies: [Result<Arc<NvList>, LabelError>; 4]) -> Result<Label, LabelProblem> {
    let txg = |config: &NvList| config.u64("txg").unwrap_or(0);
    let mut best: Option<(u8, &Arc<NvList>)> = None;
    for (index, copy) in (0..).zip(&copies) {
        if let Ok(config) = copy
            && best.is_none_or(|(_, other)| txg(config) > txg(other))
        {
            best = Some((index, config));
        }
    }
    if let Some((index, config)) = best {
        return Ok(Label { config: Arc::clone(config), index });
    }
    // No copy is good, so each has its reason.
    let why = Box::new(copies.map(|copy| copy.err().unwrap_or(LabelError::Nothing)));
    if why.iter().all(|w| *w == LabelError::Nothing) {
        return Err(LabelProblem::NoLabel);
    }
    Err(LabelProblem::Damaged { why })
}

/// Makes a configuration region of `data`, as [`seal`] does.
pub fn seal_region(data: Vec<u8>, region_offset: u64) -> Option<Vec<u8>> {
    seal(data, REGION_SIZE, region_offset)
}

/// Pads `data` to a part of a label of `size` bytes and adds the checksum that a little-endian machine writes, for a part that lies
/// `offset` bytes from the start of the vdev. `None` if it does not fit.
pub fn seal(data: Vec<u8>, size: usize, offset: u64) -> Option<Vec<u8>> {
    let mut part = data;
    let room = size.checked_sub(TRAILER)?;
    if part.len() > room {
        return None;
    }
    part.resize(room, 0);
    part.extend_from_slice(&MAGIC.to_le_bytes());
    let words = checksum(Sha256::new_with_prefix(&part), offset, Order::Little);
    part.extend_from_slice(&words);
    Some(part)
}
