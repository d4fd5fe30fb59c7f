//! Superblocks at the end of a device: what is below them is a leg of something else, whatever its beginning looks like. A
//! mirror's leg begins with the very bytes of the mirror, the first two labels of a pool on it among them.

use super::superblock::Read;

/// Bytes at the end that are looked at: the oldest md superblock begins up to 128 KiB before it, a DDF anchor a little earlier.
const TAIL: u64 = 132 << 10;
const MD_MAGIC: u32 = 0xa92b_4efc;
/// Where on the device, and what stands there.
type Mark = (u64, Vec<u8>);

/// What a superblock at the end of a device of `size` bytes says that the device is part of, as blkid(8) calls it; `None`
/// where there is none, or where the end cannot be read.
pub fn tail(read: &mut Read<'_>, size: u64) -> Option<&'static str> {
    let from = size.checked_sub(TAIL)?;
    let mut bytes = vec![0; usize::try_from(TAIL).ok()?];
    read(from, &mut bytes).ok()?;
    let stands = |(at, what): &Mark| {
        let at = at.checked_sub(from).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| bytes.get(at..)).is_some_and(|rest| rest.starts_with(what))
    };
    marks(size).into_iter().find(|(_, marks)| marks.iter().any(stands)).map(|(kind, _)| kind)
}

/// Everything that is looked for.
fn marks(size: u64) -> [(&'static str, Vec<Mark>); 7] {
    let sector = |back: u64| ((size / 512).saturating_sub(back)) * 512;
    let md = |version: u32| [MD_MAGIC.to_le_bytes(), version.to_le_bytes()].concat();
    let newer = ((size / 512).saturating_sub(16) & !7) * 512;
    // It is written in the machine's own byte order.
    let older = (size & !0xffff).saturating_sub(0x1_0000);
    let drbd = size.saturating_sub(4096) + 60;
    [
        ("linux_raid_member", vec![(newer, md(1)), (older, md(0)), (older, [MD_MAGIC.to_be_bytes(), [0; 4]].concat())]),
        ("ddf_raid_member", [1, 257].map(|back| (sector(back), vec![0xde, 0x11, 0xde, 0x11])).to_vec()),
        ("isw_raid_member", vec![(sector(2), b"Intel Raid ISM Cfg Sig. ".to_vec())]),
        // Versions 8.3 and 8.4, clean and not, and 9.
        ("drbd", [0x6b, 0x6c, 0x6d].map(|last| (drbd, vec![0x83, 0x74, 0x02, last])).to_vec()),
        ("nvidia_raid_member", vec![(sector(2), b"NVIDIA  ".to_vec())]),
        ("promise_fasttrack_raid_member", vec![(sector(63), b"Promise Technology, Inc.".to_vec())]),
        ("lsi_mega_raid_member", vec![(sector(1), b"$XIDE$".to_vec())]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const SIZE: u64 = (64 << 20) + 5 * 512;

    fn found(at: u64, what: &[u8]) -> Option<&'static str> {
        let mut read = |offset: u64, buf: &mut [u8]| {
            for (i, slot) in buf.iter_mut().enumerate() {
                let place = (offset + i as u64).checked_sub(at).and_then(|n| usize::try_from(n).ok());
                *slot = place.and_then(|place| what.get(place)).copied().unwrap_or(0);
            }
            Ok(())
        };
        tail(&mut read, SIZE)
    }

    #[test]
    fn what_a_device_is_a_leg_of() {
        let md: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
        let md_1: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0];
        let big: &[u8] = &[0xa9, 0x2b, 0x4e, 0xfc];
        let newer = (SIZE / 512 - 16) / 8 * 8 * 512;
        let older = SIZE / 65536 * 65536 - 65536;
        assert_eq!(found(newer, md_1), Some("linux_raid_member"));
        assert_eq!(found(older, md), Some("linux_raid_member"));
        assert_eq!(found(older, big), Some("linux_raid_member"));
        assert_eq!(found(newer, md), None, "of another version");
        assert_eq!(found(SIZE - 512, &[0xde, 0x11, 0xde, 0x11]), Some("ddf_raid_member"));
        assert_eq!(found(SIZE - 257 * 512, &[0xde, 0x11, 0xde, 0x11]), Some("ddf_raid_member"));
        assert_eq!(found(SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.1.00"), Some("isw_raid_member"));
        for last in [0x6b, 0x6c, 0x6d] {
            assert_eq!(found(SIZE - 4096 + 60, &[0x83, 0x74, 2, last]), Some("drbd"));
        }
        assert_eq!(found(SIZE - 1024, b"NVIDIA  "), Some("nvidia_raid_member"));
        assert_eq!(found(SIZE - 63 * 512, b"Promise Technology, Inc."), Some("promise_fasttrack_raid_member"));
        assert_eq!(found(SIZE - 512, b"$XIDE$"), Some("lsi_mega_raid_member"));
    }

    #[test]
    fn nothing_there() {
        assert_eq!(found(0, b"Intel Raid ISM Cfg Sig. "), None);
        assert_eq!(found(SIZE - 4096, b"NVIDIA  "), None, "at another place");
        assert_eq!(tail(&mut |_, _| Ok(()), 1000), None, "too small");
        assert_eq!(tail(&mut |_, _| Err(io::Error::other("bad sector")), SIZE), None);
    }
}
