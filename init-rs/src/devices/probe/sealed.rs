//! Images of read-only layers: what their superblock says of size and compression (`fs/squashfs/squashfs_fs.h`,
//! `fs/erofs/erofs_fs.h` of Linux).

use super::superblock::{EROFS, SQUASHFS, magic};

/// How much of a file's beginning [`sealed`] wants.
pub const SEALED_HEAD: usize = 1024 + 128;

/// What is in the superblock of such an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// `squashfs` or `erofs`.
    pub kind: &'static str,
    /// How long it is by its own account: a file that is shorter was cut off. What is longer has padding, or a hash tree behind it.
    pub bytes: u64,
    /// How its data are compressed; `None` if they are not, or in a way unknown here.
    pub compression: Option<&'static str>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// Reads the superblock; `None` for anything else.
pub fn sealed(head: &[u8]) -> Option<Sealed> {
    squashfs(head).or_else(|| erofs(head))
}

fn squashfs(head: &[u8]) -> Option<Sealed> {
    const COMPRESSIONS: [&str; 6] = ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];
    /// Flag: data blocks are stored as they are.
    const UNCOMPRESSED_DATA: u16 = 1 << 1;
    if !magic(head, 0, SQUASHFS) || u16::from_le_bytes(bytes(head, 28)?) != 4 {
        return None;
    }
    let number = usize::from(u16::from_le_bytes(bytes(head, 20)?));
    let plain = u16::from_le_bytes(bytes(head, 24)?) & UNCOMPRESSED_DATA != 0;
    let compression = number.checked_sub(1).and_then(|at| COMPRESSIONS.get(at)).copied().filter(|_| !plain);
    let made = u32::from_le_bytes(bytes(head, 8)?).into();
    Some(Sealed { kind: "squashfs", bytes: u64::from_le_bytes(bytes(head, 40)?), compression, made })
}

fn erofs(head: &[u8]) -> Option<Sealed> {
    /// Bits of `feature_incompat`: lz4 with padding; which algorithms are used stands in the superblock.
    const LZ4: u32 = 1;
    const CONFIGURED: u32 = 2;
    const COMPRESSIONS: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];
    let sb = head.get(1024..)?;
    if !magic(sb, 0, EROFS) {
        return None;
    }
    let blocks = u64::from(u32::from_le_bytes(bytes(sb, 36)?));
    let [shift] = bytes(sb, 12)?;
    let features = u32::from_le_bytes(bytes(sb, 80)?);
    let used = u16::from_le_bytes(bytes(sb, 84)?);
    let compression = if features & CONFIGURED != 0 {
        (0_u8..).zip(COMPRESSIONS).find(|(bit, _)| used & 1 << bit != 0).map(|(_, name)| name)
    } else {
        (features & LZ4 != 0).then_some("lz4")
    };
    let made = u64::from_le_bytes(bytes(sb, 24)?);
    Some(Sealed { kind: "erofs", bytes: blocks.checked_shl(shift.into())?, compression, made })
}

fn bytes<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_squashfs_and_erofs() {
        let mut head = vec![0_u8; SEALED_HEAD];
        head[..4].copy_from_slice(b"hsqs");
        head[8..12].copy_from_slice(&77_u32.to_le_bytes());
        head[20] = 6;
        head[28] = 4;
        head[40..48].copy_from_slice(&5_000_000_000_u64.to_le_bytes());
        let wanted = Sealed { kind: "squashfs", bytes: 5_000_000_000, compression: Some("zstd"), made: 77 };
        assert_eq!(sealed(&head), Some(wanted));
        head[24] = 2;
        assert_eq!(sealed(&head).unwrap().compression, None);
        head[28] = 3;
        assert_eq!(sealed(&head), None);

        let mut head = vec![0_u8; SEALED_HEAD];
        head[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        head[1036] = 12;
        head[1048..1056].copy_from_slice(&78_u64.to_le_bytes());
        head[1060..1064].copy_from_slice(&25_u32.to_le_bytes());
        head[1104] = 1;
        let wanted = Sealed { kind: "erofs", bytes: 102_400, compression: Some("lz4"), made: 78 };
        assert_eq!(sealed(&head), Some(wanted));
        head[1104] = 3;
        head[1108] = 8;
        assert_eq!(sealed(&head).unwrap().compression, Some("zstd"));
        head[1036] = 200;
        assert_eq!(sealed(&head), None);
        for length in 0..SEALED_HEAD {
            let _ = sealed(&head[..length]);
        }
    }
}
