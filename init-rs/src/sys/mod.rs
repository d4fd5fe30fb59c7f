//! The only room that talks to the kernel with `unsafe`: everything above sees the trait [`System`].

pub mod beneath;
pub mod consoles;
pub mod efivars;
pub mod entry;
pub mod kmod;
pub mod linux;
mod mounting;
pub mod netlink;
pub mod power;
pub mod switch_root;
pub mod terminal;

use std::io;
use std::path::Path;

/// One `/dev/zfs` ioctl, without pointers. Field names follow `zfs_cmd_t` (`include/sys/zfs_ioctl.h`).
#[derive(Debug, Clone, Default)]
pub struct ZfsCall<'a> {
    /// Request number without the `'Z' << 8` part, e.g. 0x02 for `ZFS_IOC_POOL_IMPORT`.
    pub number: u32,
    /// `zc_name`: pool or dataset.
    pub name: &'a [u8],
    /// `zc_nvlist_src`: packed nvlist, empty for none.
    pub src: &'a [u8],
    /// `zc_nvlist_conf`: packed nvlist, empty for none.
    pub conf: &'a [u8],
    /// `zc_cookie`.
    pub cookie: u64,
    /// `zc_guid`.
    pub guid: u64,
    /// Bytes to offer for the reply list; 0 for none.
    pub dst_capacity: usize,
}

/// What came back, also when the kernel reported an error: some ioctls fill the reply even then.
#[derive(Debug, Clone, Default)]
pub struct ZfsReply {
    /// 0 or the errno. ZFS uses numbers above 1023 too.
    pub errno: i32,
    /// `zc_name` afterwards, up to the NUL.
    pub name: Vec<u8>,
    /// `zc_cookie` afterwards.
    pub cookie: u64,
    /// Reply list, at most the offered bytes; empty on ENOMEM.
    pub dst: Vec<u8>,
    /// `zc_nvlist_dst_size`: bytes used, or needed when `errno` is ENOMEM.
    pub dst_size: u64,
    /// `zc_objset_stats.dds_type`: 2 filesystem, 3 volume.
    pub objset_type: i32,
}

/// The system calls that boot decisions lead to. One implementation is Linux; tests of decisions use a fake.
pub trait System: Send + Sync {
    /// Issues one ioctl on `/dev/zfs`. `Err` only when the device cannot be opened.
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply>;
    /// `mount(2)`; flags are `MS_*`.
    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()>;
    /// `umount2(2)`, lazily when asked.
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()>;
    /// Reads `buf.len()` bytes at `offset` of a device or file.
    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}
