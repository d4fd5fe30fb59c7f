//! Access control lists as attributes hold them (`include/uapi/linux/posix_acl_xattr.h`): what stays of one where there can be none.

/// The version that all kernels write.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;

/// The permission bits of a file without its list. With one, the group's bits are the mask of everybody whom it names; without it they
/// would be the group's, which may be meant to have less.
pub fn mode_without(mode: u32, list: &[u8]) -> u32 {
    let Some(entries) = list.strip_prefix(&VERSION) else { return mode };
    let (entries, _) = entries.as_chunks::<8>();
    let permission = |wanted: u16| {
        entries.iter().find_map(|[tag, tag2, bits, bits2, ..]| {
            let bits = u16::from_le_bytes([*bits, *bits2]);
            (u16::from_le_bytes([*tag, *tag2]) == wanted).then_some(u32::from(bits) & 7)
        })
    };
    let Some(group) = permission(GROUP) else { return mode };
    mode & !0o070 | (group & permission(MASK).unwrap_or(7)) << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for (tag, permissions) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&[0xff; 4]);
        }
        bytes
    }

    #[test]
    fn nobody_gets_more() {
        // user:rw, adm:r, group:r, mask:rwx, other:-
        let acl = list(&[(1, 6), (8, 4), (4, 4), (16, 7), (32, 0)]);
        assert_eq!(mode_without(0o2670, &acl), 0o2640);
        assert_eq!(mode_without(0o670, &list(&[(1, 6), (4, 7), (16, 5), (32, 0)])), 0o650);
        assert_eq!(mode_without(0o640, &list(&[(1, 6), (4, 4), (32, 0)])), 0o640);
        for damaged in [Vec::new(), vec![9; 40], list(&[])] {
            assert_eq!(mode_without(0o664, &damaged), 0o664);
        }
    }
}
