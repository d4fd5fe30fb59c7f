//! [`System`] on the running kernel.
#![allow(unsafe_code)]

use super::{System, ZfsCall, ZfsReply};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

/// The kernel copies `sizeof(zfs_cmd_t)` of its own version in and out (13,736 to 13,744 bytes so far); a larger zeroed
/// buffer fits them all (reference: zfs-ioctl 1.3).
const CMD_SIZE: usize = 16 * 1024;
const NAME_LEN: usize = 4096;

mod offset {
    pub(super) const SRC: usize = 4096;
    pub(super) const SRC_SIZE: usize = 4104;
    pub(super) const DST: usize = 4112;
    pub(super) const DST_SIZE: usize = 4120;
    pub(super) const GUID: usize = 12592;
    pub(super) const CONF: usize = 12600;
    pub(super) const CONF_SIZE: usize = 12608;
    pub(super) const COOKIE: usize = 12616;
    pub(super) const OBJSET_STATS: usize = 12704;
    pub(super) const DDS_TYPE: usize = OBJSET_STATS + 24;
}

/// `zfs_cmd_t` as bytes, aligned as the kernel's struct is.
#[repr(C, align(8))]
struct Cmd([u8; CMD_SIZE]);

impl Cmd {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }
    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_ne_bytes());
    }
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at))
    }
}

/// The running kernel.
#[derive(Debug, Default)]
pub struct Linux {
    zfs: OnceLock<File>,
}

impl Linux {
    /// Nothing is opened before it is used.
    pub fn new() -> Self {
        Self::default()
    }

    fn zfs_device(&self) -> io::Result<&File> {
        if let Some(file) = self.zfs.get() {
            return Ok(file);
        }
        let file = File::options().read(true).write(true).open("/dev/zfs")?;
        Ok(self.zfs.get_or_init(|| file))
    }
}

impl System for Linux {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        let device = self.zfs_device()?;
        if call.name.len() >= NAME_LEN || call.name.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "dataset name too long or with a NUL"));
        }
        let mut dst = vec![0_u8; call.dst_capacity];
        let mut cmd = Box::new(Cmd([0; CMD_SIZE]));
        cmd.put(0, call.name);
        // Pointers as integers: the struct carries them as u64 on every architecture.
        if !call.src.is_empty() {
            cmd.put_u64(offset::SRC, call.src.as_ptr() as u64);
            cmd.put_u64(offset::SRC_SIZE, call.src.len() as u64);
        }
        if !call.conf.is_empty() {
            cmd.put_u64(offset::CONF, call.conf.as_ptr() as u64);
            cmd.put_u64(offset::CONF_SIZE, call.conf.len() as u64);
        }
        if !dst.is_empty() {
            cmd.put_u64(offset::DST, dst.as_mut_ptr() as u64);
            cmd.put_u64(offset::DST_SIZE, dst.len() as u64);
        }
        cmd.put_u64(offset::COOKIE, call.cookie);
        cmd.put_u64(offset::GUID, call.guid);

        let request = 0x5a00 + call.number;
        // SAFETY: `cmd` is larger than any kernel's zfs_cmd_t and lives across the call, as do `src`, `conf` and `dst`,
        // whose true lengths are in the struct; the kernel writes only into `cmd` and `dst`.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), request.into(), std::ptr::from_mut(&mut cmd.0)) };
        let errno = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 };

        let dst_size = cmd.u64(offset::DST_SIZE);
        // On ENOMEM the size is what would be needed; nothing in the buffer may be trusted then.
        let filled = if errno == libc::ENOMEM { 0 } else { usize::try_from(dst_size).unwrap_or(0).min(dst.len()) };
        dst.truncate(filled);
        let name = cmd.0.get(..NAME_LEN).unwrap_or(&[]);
        let name = name.split(|b| *b == 0).next().unwrap_or(&[]).to_vec();
        Ok(ZfsReply {
            errno,
            name,
            cookie: cmd.u64(offset::COOKIE),
            dst,
            dst_size,
            objset_type: i32::from_ne_bytes(cmd.bytes(offset::DDS_TYPE)),
        })
    }

    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
        super::mounting::mount_with(source, target, fstype, flags, data)
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        let flags = if lazy { nix::mount::MntFlags::MNT_DETACH } else { nix::mount::MntFlags::empty() };
        nix::mount::umount2(target, flags).map_err(io::Error::from)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        File::open(path)?.read_exact_at(buf, offset)
    }
}
