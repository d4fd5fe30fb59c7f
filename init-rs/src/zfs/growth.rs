//! Calls about a pool as a whole that no boot makes: for `taproot first-boot` and `taproot grow` in the running system.

use super::calls::{POOL_REGUID, VDEV_SET_STATE};
use super::ioctl::{Zfs, ZfsError};
use super::nvlist::NvList;
use crate::sys::ZfsCall;

/// `VDEV_STATE_ONLINE`.
const ONLINE: u64 = 7;
/// `ZFS_ONLINE_EXPAND`.
const EXPAND: u64 = 0x8;

impl Zfs<'_> {
    /// Gives an imported pool a new guid; its vdevs keep theirs.
    pub fn new_guid(self, pool: &str) -> Result<(), ZfsError> {
        // From 2.3 on this call wants a list, which may be empty; before, nobody reads it.
        let src = NvList::new().encode_native();
        self.order(
            "POOL_REGUID",
            &ZfsCall { number: POOL_REGUID, name: pool.as_bytes(), src: &src, ..ZfsCall::default() },
        )
    }

    /// Makes use of the room that a vdev's device has got (`zpool online -e`).
    pub fn expand(self, pool: &str, vdev: u64) -> Result<(), ZfsError> {
        self.order(
            "VDEV_SET_STATE",
            &ZfsCall {
                number: VDEV_SET_STATE,
                name: pool.as_bytes(),
                guid: vdev,
                cookie: ONLINE,
                object: EXPAND,
                ..ZfsCall::default()
            },
        )
    }

    fn order(self, what: &'static str, call: &ZfsCall<'_>) -> Result<(), ZfsError> {
        match self.call(what, call)?.errno {
            0 => Ok(()),
            errno => Err(ZfsError { call: what, name: super::ioctl::text(call.name), errno }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ZfsReply;
    use crate::zfs::fake::Fake;

    #[test]
    fn numbers_and_errors() {
        let fake = Fake::new(|call| ZfsReply {
            errno: if call.number == VDEV_SET_STATE && (call.cookie, call.guid, call.object) == (7, 5, 8) {
                0
            } else {
                libc::EBUSY
            },
            ..ZfsReply::default()
        });
        assert_eq!(Zfs::new(&fake).expand("tank", 5), Ok(()));
        assert_eq!(Zfs::new(&fake).new_guid("tank").unwrap_err().errno, libc::EBUSY);
        assert_eq!(fake.asked().last().unwrap().number, 0x3c);
    }
}
