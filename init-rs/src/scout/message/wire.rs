//! Bytes of the messages: what is written, and read back with suspicion.

use super::{Refused, TEXT_MAX};
use crate::devices::known::{Content, Device, Module, Partition, Reading, Superblock, Zfs, ZfsLabel};
use crate::devices::swap::Header;
use crate::zfs::label::Label;
use crate::zfs::nvlist::{NvError, NvList};
use std::time::Duration;

/// Longest packed label: what fits into its place on the disk, with room for what encoding it anew may add.
const LABEL_MAX: usize = 120 << 10;
/// Most links of one device that are told.
const LINKS_MAX: usize = 64;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Cut off.
    #[error("a message that ends too early")]
    Short,
    /// More bytes than the message has.
    #[error("a message with {0} bytes too many")]
    Long(usize),
    /// Unknown first byte.
    #[error("a message of the unknown kind {0}")]
    Kind(u8),
    /// A field with a value that it cannot have.
    #[error("a message with the impossible {0} {1}")]
    Value(&'static str, u8),
    /// Text that is no UTF-8.
    #[error("a message with text that is no UTF-8")]
    Text,
    /// A label that cannot be unpacked.
    #[error("a message with a label that cannot be unpacked: {0}")]
    Label(#[from] NvError),
}

/// Bytes as they are written.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn duration(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// A text, cut between characters where it is longer than `max`.
    pub(super) fn text(&mut self, text: &str, max: usize) {
        let cut = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.bytes(text.get(..cut).unwrap_or_default().as_bytes());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(super) fn result<T>(&mut self, result: &Result<T, Refused>, put: impl FnOnce(&mut Self, &T)) {
        match result {
            Ok(value) => {
                self.flag(true);
                put(self, value);
            }
            Err(refused) => {
                self.flag(false);
                self.0.extend_from_slice(&refused.errno.to_le_bytes());
                self.text(&refused.text, TEXT_MAX);
            }
        }
    }
}

/// Bytes as they are read: every read is checked.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Long(self.0.len())) }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Value("flag", other)),
        }
    }

    pub(super) fn duration(&mut self) -> Result<Duration, Malformed> {
        Ok(Duration::from_nanos(self.u64()?))
    }

    fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| Malformed::Short)?)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        Ok(self.slice()?.to_vec())
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        Ok(std::str::from_utf8(self.slice()?).map_err(|_| Malformed::Text)?.to_owned())
    }

    pub(super) fn option<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? { get(self).map(Some) } else { Ok(None) }
    }

    /// A list whose items have at least `least` bytes each.
    pub(super) fn list<T>(
        &mut self,
        least: usize,
        mut get: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed::Short)?;
        if count.saturating_mul(least) > self.0.len() {
            return Err(Malformed::Short);
        }
        (0..count).map(|_| get(self)).collect()
    }

    pub(super) fn result<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Result<T, Refused>, Malformed> {
        if self.flag()? {
            return Ok(Ok(get(self)?));
        }
        Ok(Err(Refused { errno: i32::from_le_bytes(self.array()?), text: self.text()? }))
    }
}

pub(super) fn put_module(w: &mut Writer, module: &Module) {
    match module {
        Module::Starting => w.u8(0),
        Module::Ready => w.u8(1),
        Module::Failed(why) => {
            w.u8(2);
            w.text(why, TEXT_MAX);
        }
        Module::NotPacked => w.u8(3),
    }
}

pub(super) fn module(r: &mut Reader<'_>) -> Result<Module, Malformed> {
    Ok(match r.u8()? {
        0 => Module::Starting,
        1 => Module::Ready,
        2 => Module::Failed(r.text()?),
        3 => Module::NotPacked,
        other => return Err(Malformed::Value("state of a module", other)),
    })
}

pub(super) fn put_device(w: &mut Writer, device: &Device) {
    w.text(&device.name, TEXT_MAX);
    w.text(&device.node, TEXT_MAX);
    w.u32(device.number.0);
    w.u32(device.number.1);
    w.u64(device.size);
    w.option(device.disk.as_deref(), |w, disk| w.text(disk, TEXT_MAX));
    w.option(device.partition.as_ref(), |w, partition| {
        w.u32(partition.number);
        w.u64(partition.start);
        w.text(&partition.uuid, TEXT_MAX);
        w.text(&partition.label, TEXT_MAX);
    });
    w.option(device.wwid.as_deref(), |w, wwid| w.text(wwid, TEXT_MAX));
    w.text(&device.identity, TEXT_MAX);
    let links = device.links.get(..LINKS_MAX).unwrap_or(&device.links);
    w.count(links.len());
    for link in links {
        w.text(link, TEXT_MAX / 16);
    }
    w.option(device.left_out.as_deref(), |w, why| w.text(why, TEXT_MAX));
    w.flag(device.read_only);
    w.duration(device.since);
    put_reading(w, &device.content);
}

pub(super) fn device(r: &mut Reader<'_>) -> Result<Device, Malformed> {
    Ok(Device {
        name: r.text()?,
        node: r.text()?,
        number: (r.u32()?, r.u32()?),
        size: r.u64()?,
        disk: r.option(Reader::text)?,
        partition: r
            .option(|r| Ok(Partition { number: r.u32()?, start: r.u64()?, uuid: r.text()?, label: r.text()? }))?,
        wwid: r.option(Reader::text)?,
        identity: r.text()?,
        links: r.list(4, Reader::text)?,
        left_out: r.option(Reader::text)?,
        read_only: r.flag()?,
        since: r.duration()?,
        content: reading(r)?,
    })
}

fn put_reading(w: &mut Writer, reading: &Reading) {
    match reading {
        Reading::Waiting => w.u8(0),
        Reading::Done(content) => {
            w.u8(1);
            put_content(w, content);
        }
        Reading::Failed(why) => {
            w.u8(2);
            w.text(why, TEXT_MAX);
        }
        Reading::Never => w.u8(3),
    }
}

fn reading(r: &mut Reader<'_>) -> Result<Reading, Malformed> {
    Ok(match r.u8()? {
        0 => Reading::Waiting,
        1 => Reading::Done(Box::new(content(r)?)),
        2 => Reading::Failed(r.text()?),
        3 => Reading::Never,
        other => return Err(Malformed::Value("reading", other)),
    })
}

fn put_content(w: &mut Writer, content: &Content) {
    w.option(content.superblock.as_ref(), |w, superblock| {
        w.text(&superblock.kind, TEXT_MAX);
        w.text(&superblock.uuid, TEXT_MAX);
        w.text(&superblock.label, TEXT_MAX);
    });
    w.flag(content.swap.swap);
    w.option(content.swap.image.as_deref(), |w, image| w.text(image, TEXT_MAX));
    match &content.zfs {
        Zfs::Nothing => w.u8(0),
        Zfs::Member(member) => {
            let packed = member.label.config.encode_xdr();
            if packed.len() > LABEL_MAX {
                w.u8(2);
                return w.text("its configuration is too long", TEXT_MAX);
            }
            w.u8(1);
            w.u8(member.label.index);
            for good in member.good {
                w.flag(good);
            }
            w.option(member.tail.as_deref(), |w, tail| w.text(tail, TEXT_MAX / 16));
            w.bytes(&packed);
        }
        Zfs::Damaged(why) => {
            w.u8(2);
            w.text(why, TEXT_MAX);
        }
    }
}

fn content(r: &mut Reader<'_>) -> Result<Content, Malformed> {
    Ok(Content {
        superblock: r.option(|r| Ok(Superblock { kind: r.text()?, uuid: r.text()?, label: r.text()? }))?,
        swap: Header { swap: r.flag()?, image: r.option(Reader::text)? },
        zfs: match r.u8()? {
            0 => Zfs::Nothing,
            1 => {
                let index = r.u8()?;
                if index > 3 {
                    return Err(Malformed::Value("number of a label", index));
                }
                let good = [r.flag()?, r.flag()?, r.flag()?, r.flag()?];
                let tail = r.option(Reader::text)?;
                Zfs::Member(ZfsLabel { label: Label::new(NvList::decode(r.slice()?)?, index), good, tail })
            }
            2 => Zfs::Damaged(r.text()?),
            other => return Err(Malformed::Value("kind of label", other)),
        },
    })
}
