//! Reading a device, once, by a thread of its own: nobody waits for it but those who want to know.

use crate::devices::known::{Content, Zfs, ZfsLabel};
use crate::devices::probe::{PartitionTable, superblock, tail};
use crate::devices::swap::Header;
use crate::zfs::label::{LabelProblem, has_uberblocks, read_copies};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest first page that is looked at for a hibernation image: pages have up to 64 KiB.
const PAGE_MAX: usize = 64 << 10;

/// What is to be read of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) node: PathBuf,
    /// Bytes.
    pub(super) size: u64,
    /// Whether it is searched for ZFS labels.
    pub(super) labels: bool,
    /// Bytes of its sectors if it is a whole disk, which can have a partition table.
    pub(super) table: Option<u64>,
}

/// A device that can be read.
pub(super) type Open = dyn Fn(&Path) -> io::Result<Box<ReadAt>> + Send + Sync;
/// Fills a buffer from an offset.
pub(super) type ReadAt = dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

/// What a reader brings, in this order.
#[derive(Debug)]
pub(super) enum Answer {
    /// The partition table, of a whole disk.
    Table(Option<PartitionTable>),
    /// What is on the device, or why it cannot be read.
    Content(Result<Content, String>),
}

/// Opens devices of the running system.
pub(super) fn of_this_system() -> Arc<Open> {
    Arc::new(|node| {
        let file = crate::sys::device::BlockFile::open(node)?;
        Ok(Box::new(move |offset, buf: &mut [u8]| file.read_at(offset, buf)))
    })
}

/// Reads a device and tells what it finds.
pub(super) fn read(look: &Look, open: &Open, page: usize, tell: &mut dyn FnMut(Answer)) {
    let mut device = match open(&look.node) {
        Ok(device) => device,
        Err(e) => return tell(Answer::Content(Err(e.to_string()))),
    };
    if let Some(sector) = look.table
        && let Ok(table) = PartitionTable::read(&mut device, sector)
    {
        tell(Answer::Table(table));
    }
    tell(Answer::Content(content(look, &mut device, page).map_err(|e| e.to_string())));
    // Closing a device can take as long as reading it: the answer is out before.
}

fn content(look: &Look, read: &mut ReadAt, page: usize) -> io::Result<Content> {
    let superblock = superblock(read, look.size)?;
    let mut first = vec![0; page.clamp(512, PAGE_MAX)];
    let swap = read(0, &mut first).map(|()| Header::read(&first)).unwrap_or_default();
    let zfs = if look.labels { labels(look.size, read)? } else { Zfs::Nothing };
    // Either the file system is left over, or the pool.
    let left_over = superblock.is_some()
        && matches!(zfs, Zfs::Member(_))
        && has_uberblocks(&mut |offset, buf| read(offset, buf), look.size).is_ok_and(|has| !has);
    let zfs = if left_over { Zfs::Nothing } else { zfs };
    Ok(Content { superblock: superblock.map(Into::into), swap, zfs })
}

fn labels(size: u64, read: &mut ReadAt) -> io::Result<Zfs> {
    Ok(match read_copies(&mut |offset, buf| read(offset, buf), size) {
        Ok((label, good)) => Zfs::Member(ZfsLabel { label, good, tail: tail(read, size).map(str::to_owned) }),
        Err(LabelProblem::NoLabel | LabelProblem::TooSmall { .. }) => Zfs::Nothing,
        Err(problem) if problem.is_partition_tail() => Zfs::Nothing,
        Err(LabelProblem::Io(e)) => return Err(e),
        Err(problem) => Zfs::Damaged(problem.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::label::{LABEL_SIZE, REGION_START, seal_region};
    use crate::zfs::nvlist::{NvList, Value};

    const SIZE: u64 = 64 << 20;

    fn member() -> NvList {
        let pairs = [("state", 0), ("txg", 4), ("pool_guid", 7), ("guid", 9)];
        pairs.into_iter().map(|(name, value)| (name, Value::U64(value))).collect()
    }

    /// A device of pieces at offsets, and zeros elsewhere; what is read of it is noted.
    fn look(pieces: Vec<(u64, Vec<u8>)>, labels: bool, table: Option<u64>) -> Vec<Answer> {
        let open = move |_: &Path| -> io::Result<Box<ReadAt>> {
            let pieces = pieces.clone();
            Ok(Box::new(move |offset: u64, buf: &mut [u8]| {
                if offset + buf.len() as u64 > SIZE {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buf.fill(0);
                for (at, piece) in &pieces {
                    for (i, byte) in piece.iter().enumerate() {
                        let place = (at + i as u64).checked_sub(offset).and_then(|n| usize::try_from(n).ok());
                        if let Some(slot) = place.and_then(|place| buf.get_mut(place)) {
                            *slot = *byte;
                        }
                    }
                }
                Ok(())
            }))
        };
        let mut answers = Vec::new();
        let look = Look { node: "/dev/x".into(), size: SIZE, labels, table };
        read(&look, &open, 4096, &mut |answer| answers.push(answer));
        answers
    }

    fn content_of(mut answers: Vec<Answer>) -> Content {
        match answers.pop() {
            Some(Answer::Content(Ok(content))) => content,
            other => panic!("{other:?}"),
        }
    }

    fn sealed(label: u64) -> (u64, Vec<u8>) {
        let at = label * LABEL_SIZE + REGION_START;
        (at, seal_region(member().encode_xdr(), at).unwrap())
    }

    #[test]
    fn a_member_of_a_pool() {
        let content = content_of(look(vec![sealed(0), sealed(1)], true, None));
        let Zfs::Member(found) = content.zfs else { panic!() };
        assert_eq!((found.label.guid(), found.good), (Some(9), [true, true, false, false]));
        assert_eq!(found.tail, None);
        let leg = (SIZE - 1024, b"Intel Raid ISM Cfg Sig. ".to_vec());
        let Zfs::Member(found) = content_of(look(vec![sealed(0), sealed(1), leg], true, None)).zfs else { panic!() };
        assert_eq!(found.tail.as_deref(), Some("isw_raid_member"));
        // Where none may lie, none is looked for.
        assert_eq!(content_of(look(vec![sealed(0)], false, None)).zfs, Zfs::Nothing);
        let (at, mut broken) = sealed(0);
        broken[100] ^= 1;
        assert!(matches!(content_of(look(vec![(at, broken)], true, None)).zfs, Zfs::Damaged(_)));
    }

    /// What wipefs leaves of a label, and what is on the device now.
    #[test]
    fn labels_without_uberblocks_are_left_over() {
        let ext4 = (1024 + 56, vec![0x53, 0xef]);
        let uberblock = |slot: u64| (128 * 1024 + slot * 1024, 0x00ba_b10c_u64.to_be_bytes().to_vec());
        let pieces = |uberblocks: u64, more: &[(u64, Vec<u8>)]| {
            let labels = [sealed(0), sealed(1)];
            labels.into_iter().chain((0..uberblocks).map(uberblock)).chain(more.iter().cloned()).collect::<Vec<_>>()
        };
        for (uberblocks, more, member) in
            [(0, vec![], true), (3, vec![ext4.clone()], false), (4, vec![ext4.clone()], true)]
        {
            let content = content_of(look(pieces(uberblocks, &more), true, None));
            assert_eq!(content.superblock.is_some(), !more.is_empty(), "{uberblocks}");
            assert_eq!(matches!(content.zfs, Zfs::Member(_)), member, "{uberblocks}");
        }
    }

    #[test]
    fn swap_and_the_table_of_a_disk() {
        let answers = look(vec![(4076, b"SWAPSPACE2S1SUSPEND\0".to_vec()), (510, vec![0x55, 0xaa])], true, Some(512));
        assert!(matches!(answers[0], Answer::Table(Some(PartitionTable::Mbr(0)))));
        let content = content_of(answers);
        assert_eq!(content.superblock.unwrap().kind, "swap");
        assert_eq!(content.swap, Header { swap: true, image: Some("S1SUSPEND".into()) });
        assert_eq!(content.zfs, Zfs::Nothing);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let look = Look { node: "/dev/x".into(), size: SIZE, labels: true, table: Some(512) };
        let mut answers = Vec::new();
        let broken = |_: &Path| -> io::Result<Box<ReadAt>> { Ok(Box::new(|_, _| Err(io::Error::other("bad sector")))) };
        read(&look, &broken, 4096, &mut |answer| answers.push(answer));
        assert!(matches!(answers.as_slice(), [Answer::Content(Err(why))] if why == "bad sector"));
        let gone = |_: &Path| -> io::Result<Box<ReadAt>> { Err(io::Error::other("no medium")) };
        read(&look, &gone, 4096, &mut |answer| answers.push(answer));
        assert!(matches!(answers.as_slice(), [_, Answer::Content(Err(why))] if why == "no medium"));
    }
}
