//! What a root made of layers needs of Linux: images on loop devices, overlays by the mount API that has room for many lowers, and
//! two questions.
#![allow(unsafe_code)]

use super::mounting::mount_with;
use super::{Attached, OverlayMount};
use nix::mount::MsFlags;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

/// Bytes of an image that are read at once.
const PIECE: usize = 1 << 20;
/// How often a free loop device is looked for: somebody else may take it first.
const TRIES: u32 = 64;
/// Between two looks for the node of a new device.
const PAUSE: Duration = Duration::from_millis(10);

/// Requests of `include/uapi/linux/loop.h` and of OpenZFS (`include/sys/fs/zfs.h`).
mod request {
    pub(super) const LOOP_CTL_GET_FREE: u32 = 0x4c82;
    pub(super) const LOOP_CONFIGURE: u32 = 0x4c0a;
    pub(super) const BLKZNAME: u32 = 0x8100_127d;
}

/// `struct loop_config`, as bytes.
#[repr(C, align(8))]
struct LoopConfig([u8; 304]);

impl LoopConfig {
    const FLAGS: usize = 60;
    const FILE_NAME: usize = 64;
    /// `LO_FLAGS_READ_ONLY`.
    const READ_ONLY: u32 = 1;
    /// `LO_FLAGS_AUTOCLEAR`: it goes with its last user.
    const AUTOCLEAR: u32 = 4;

    fn new(file: &File, path: &Path, flags: u32) -> Self {
        let mut config = Self([0; 304]);
        config.put(0, &file.as_raw_fd().to_ne_bytes());
        config.put(Self::FLAGS, &flags.to_ne_bytes());
        // For people: losetup(8) shows it. The last byte stays NUL.
        let name = path.as_os_str().as_bytes();
        config.put(Self::FILE_NAME, name.get(..63).unwrap_or(name));
        config
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }
}

/// Mounts an image read-only, by a loop device; gives the device's node.
pub(super) fn mount_image(image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
    mount_file(image, target, fstype, libc::MS_RDONLY, "")
}

/// Mounts a file, by a loop device; gives the device's node.
pub(super) fn mount_file(path: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String> {
    let read_only = if flags & libc::MS_RDONLY == 0 { 0 } else { LoopConfig::READ_ONLY };
    let (Attached { node, .. }, device) = attach_as(path, read_only | LoopConfig::AUTOCLEAR)?;
    let node = node.display().to_string();
    // The mount holds it from now on; closed before that, it would be gone.
    let mounted = mount_with(&node, target, fstype, flags, data);
    drop(device);
    mounted.map(|()| node)
}

/// Attaches an image to a loop device, read-only; gives the device, and that open. It stays until it is detached.
pub(super) fn attach(image: &Path) -> io::Result<(Attached, File)> {
    attach_as(image, LoopConfig::READ_ONLY)
}

/// Attaches a file to a loop device; gives the device, and that open. With [`LoopConfig::AUTOCLEAR`] it goes when it is closed, unless
/// something else uses it by then.
fn attach_as(path: &Path, flags: u32) -> io::Result<(Attached, File)> {
    let file = File::options().read(true).write(flags & LoopConfig::READ_ONLY == 0).open(path)?;
    let config = LoopConfig::new(&file, path, flags);
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..TRIES {
        let (node, device) = free_device()?;
        // SAFETY: the request reads 304 bytes through the pointer, which is valid for the call.
        let result =
            unsafe { libc::ioctl(device.as_raw_fd(), request::LOOP_CONFIGURE.into(), std::ptr::from_ref(&config)) };
        if result == 0 {
            let number = device.metadata()?.rdev();
            let number = (libc::major(number), libc::minor(number));
            return Ok((Attached { node: node.into(), number }, device));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// Reads a device from its beginning until somebody has enough.
pub(super) fn read_image(node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut device = File::open(node)?;
    let mut piece = vec![0; PIECE];
    loop {
        match device.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                if !take(piece.get(..n).unwrap_or_default()) {
                    return Ok(());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// A loop device that was free a moment ago. Its node can take a moment longer than the device.
fn free_device() -> io::Result<(String, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: no memory is passed.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), request::LOOP_CTL_GET_FREE.into()) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    let node = format!("/dev/loop{number}");
    for _ in 0..TRIES {
        match File::options().read(true).open(&node) {
            Ok(device) => return Ok((node, device)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{node} did not appear")))
}

/// Mounts an overlay.
pub(super) fn mount_overlay(overlay: &OverlayMount, target: &Path) -> io::Result<()> {
    match by_parts(overlay, target) {
        Err(Unusable::Api) => in_one_page(overlay, target),
        Err(Unusable::Mount(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// Why the mount API that takes one lower at a time was of no use.
enum Unusable {
    /// The kernel does not have it, or not for overlays.
    Api,
    /// It refused the mount.
    Mount(io::Error),
}

/// `fsopen(2)`, a call for each lower: no limit on their names (`lowerdir+`, Linux 6.7).
fn by_parts(overlay: &OverlayMount, target: &Path) -> Result<(), Unusable> {
    const FSCONFIG_SET_STRING: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    // Before Linux 6.5 overlays take whatever option there is, and say only in the end that they do not know it.
    let takes_anything = |probe: Context| probe.call(FSCONFIG_SET_STRING, Some(c"taproot"), Some(b"none")).is_ok();
    if Context::open(c"overlay").is_ok_and(takes_anything) {
        return Err(Unusable::Api);
    }
    let context = Context::open(c"overlay").map_err(|_| Unusable::Api)?;
    context.call(FSCONFIG_SET_STRING, Some(c"source"), Some(b"overlay")).map_err(|_| Unusable::Api)?;
    for (number, lower) in overlay.lowers.iter().enumerate() {
        let result = context.call(FSCONFIG_SET_STRING, Some(c"lowerdir+"), Some(lower.as_os_str().as_bytes()));
        match result {
            Err(e) if number == 0 && e.raw_os_error() == Some(libc::EINVAL) => return Err(Unusable::Api),
            Err(e) => return Err(context.explain(&e)),
            Ok(()) => {}
        }
    }
    let upper = overlay.upper.iter().flat_map(|(upper, work)| [(c"upperdir", upper), (c"workdir", work)]);
    for (key, path) in upper {
        let set = context.call(FSCONFIG_SET_STRING, Some(key), Some(path.as_os_str().as_bytes()));
        set.map_err(|e| context.explain(&e))?;
    }
    for (key, value) in &overlay.options {
        context.option(key, value).map_err(|e| context.explain(&e))?;
    }
    for (key, value) in &overlay.if_known {
        let _ = context.option(key, value);
    }
    context.call(FSCONFIG_CMD_CREATE, None, None).map_err(|e| context.explain(&e))?;
    context.attach(overlay.upper.is_none(), target).map_err(|e| context.explain(&e))
}

/// A file system that is being configured.
struct Context(File);

impl Context {
    fn open(fstype: &CStr) -> io::Result<Self> {
        const FSOPEN_CLOEXEC: u32 = 1;
        // SAFETY: the name is a valid string for the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) };
        descriptor(fd).map(|fd| Self(fd.into()))
    }

    fn option(&self, key: &str, value: &str) -> io::Result<()> {
        const FSCONFIG_SET_FLAG: u32 = 0;
        const FSCONFIG_SET_STRING: u32 = 1;
        let key = CString::new(key)?;
        if value.is_empty() {
            return self.call(FSCONFIG_SET_FLAG, Some(&key), None);
        }
        self.call(FSCONFIG_SET_STRING, Some(&key), Some(value.as_bytes()))
    }

    fn call(&self, command: u32, key: Option<&CStr>, value: Option<&[u8]>) -> io::Result<()> {
        let value = value.map(CString::new).transpose()?;
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
        // SAFETY: both pointers are null or strings that live until after the call.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn attach(&self, read_only: bool, target: &Path) -> io::Result<()> {
        const FSMOUNT_CLOEXEC: u32 = 1;
        const MOUNT_ATTR_RDONLY: u32 = 1;
        const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
        let attributes = if read_only { MOUNT_ATTR_RDONLY } else { 0 };
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) };
        let mount = descriptor(fd)?;
        let target = CString::new(target.as_os_str().as_bytes())?;
        let (from, to) = (mount.as_raw_fd(), libc::AT_FDCWD);
        // SAFETY: both paths are valid strings for the call.
        let result = unsafe {
            libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, target.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The error with what the kernel says about it.
    fn explain(&self, error: &io::Error) -> Unusable {
        let mut said = Vec::new();
        let mut line = [0; 512];
        while let Ok(len @ 1..) = (&self.0).read(&mut line) {
            said.push(String::from_utf8_lossy(line.get(..len).unwrap_or_default()).trim().to_owned());
        }
        Unusable::Mount(match said.as_slice() {
            [] => io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
            said => io::Error::new(error.kind(), format!("{error}: {}", said.join("; "))),
        })
    }
}

fn descriptor(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// mount(2) knows only in the end whether it knows an option: what it need not know is tried, and left out then.
fn in_one_page(overlay: &OverlayMount, target: &Path) -> io::Result<()> {
    if overlay.if_known.is_empty() {
        return with_all_options(overlay, target);
    }
    let known = |options: Vec<(String, String)>| OverlayMount { options, if_known: vec![], ..overlay.clone() };
    let all = overlay.options.iter().chain(&overlay.if_known).cloned().collect();
    match with_all_options(&known(all), target) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => with_all_options(&known(overlay.options.clone()), target),
        result => result,
    }
}

/// With whole paths if they fit, else with names below the directory that most lowers lie in.
fn with_all_options(overlay: &OverlayMount, target: &Path) -> io::Result<()> {
    let flags = if overlay.upper.is_none() { libc::MS_RDONLY } else { 0 };
    let options = options(overlay, None)?;
    if options.len() < super::mounting::OPTIONS_LEN {
        return mount_with("overlay", target, "overlay", flags, &options);
    }
    let count = overlay.lowers.len();
    let Some(dir) = overlay.lowers.last().and_then(|lower| lower.parent()) else {
        return Err(libc_error(libc::EINVAL));
    };
    let short = self::options(overlay, Some(dir))?;
    if short.len() >= super::mounting::OPTIONS_LEN {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the names of {count} lowers take {} bytes, and this kernel has room for {}; Linux 6.7 and later take any",
                short.len(),
                super::mounting::OPTIONS_LEN - 1
            ),
        ));
    }
    let back = std::env::current_dir()?;
    std::env::set_current_dir(dir)?;
    let result = mount_with("overlay", target, "overlay", flags, &short);
    std::env::set_current_dir(back)?;
    result
}

fn libc_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// The options as one text, with lowers relative to a directory where they lie in it.
fn options(overlay: &OverlayMount, dir: Option<&Path>) -> io::Result<String> {
    let text = |path: &Path| {
        let text = path.to_str().filter(|text| !text.contains([',', ':', '\\', '\0']));
        text.map(str::to_owned).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{} cannot stand in mount options", path.display()))
        })
    };
    let shown = |path: &Path| text(dir.and_then(|dir| path.strip_prefix(dir).ok()).unwrap_or(path));
    let lowers = overlay.lowers.iter().map(|lower| shown(lower)).collect::<io::Result<Vec<_>>>()?;
    let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
    if let Some((upper, work)) = &overlay.upper {
        options.push(format!("upperdir={},workdir={}", text(upper)?, text(work)?));
    }
    options.extend(overlay.options.iter().map(|(key, value)| match value.as_str() {
        "" => key.clone(),
        value => format!("{key}={value}"),
    }));
    Ok(options.join(","))
}

/// Renames a file and leaves a whiteout, as an overlay does in its upper: what cannot do that cannot be one.
pub(super) fn probe_whiteout(dir: &Path) -> io::Result<()> {
    const RENAME_WHITEOUT: u32 = 4;
    let (from, to) = (dir.join(".taproot-probe"), dir.join(".taproot-probe.renamed"));
    let clean = || {
        let _ = std::fs::remove_file(&from);
        let _ = std::fs::remove_file(&to);
    };
    clean();
    File::create(&from)?;
    let (old, new) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
    // SAFETY: both paths are valid strings for the call.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), RENAME_WHITEOUT)
    };
    let error = io::Error::last_os_error();
    let left = std::fs::symlink_metadata(&from);
    clean();
    if result < 0 {
        return Err(error);
    }
    let whiteout = |meta: std::fs::Metadata| meta.file_type().is_char_device() && meta.rdev() == 0;
    if left.is_ok_and(whiteout) { Ok(()) } else { Err(io::Error::other("no whiteout was left")) }
}

/// The dataset of a zvol's device.
pub(super) fn zvol_name(node: &Path) -> io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let device = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(node)?;
    let mut name = [0_u8; 256];
    // SAFETY: the request fills at most the 256 bytes of `name`.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request::BLKZNAME.into(), name.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Shows a mount, or a directory, elsewhere as well, read-only if it is asked for.
pub(super) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    let none = None::<&str>;
    nix::mount::mount(Some(source), target, none, MsFlags::MS_BIND, none)?;
    if read_only {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Err(e) = nix::mount::mount(none, target, none, again, none) {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
            return Err(e.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn overlay(count: usize) -> OverlayMount {
        OverlayMount {
            lowers: (0..count).map(|n| PathBuf::from(format!("/run/taproot/layers/l{n}"))).collect(),
            upper: Some(("/u/upper".into(), "/u/work".into())),
            options: vec![("index".to_owned(), "off".to_owned()), ("volatile".to_owned(), String::new())],
            if_known: vec![],
        }
    }

    #[test]
    fn one_page_of_options() {
        let text = options(&overlay(2), None).unwrap();
        assert_eq!(
            text,
            "lowerdir=/run/taproot/layers/l0:/run/taproot/layers/l1,upperdir=/u/upper,workdir=/u/work,index=off,volatile"
        );
        let dir = Path::new("/run/taproot/layers");
        assert!(options(&overlay(2), Some(dir)).unwrap().starts_with("lowerdir=l0:l1,upperdir=/u/upper"));
        assert!(options(&overlay(500), Some(dir)).unwrap().len() < 4096);
        let mut odd = overlay(1);
        odd.lowers.push("/a:b".into());
        assert!(options(&odd, None).is_err());
    }

    #[test]
    fn too_many_names_are_refused_with_their_number() {
        let mut many = overlay(0);
        many.lowers = (0..500).map(|n| PathBuf::from(format!("/x/{n:0>20}"))).collect();
        let error = in_one_page(&many, Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("500 lowers") && error.contains("6.7"), "{error}");
    }

    #[test]
    fn a_loop_configuration_is_as_the_kernel_reads_it() {
        let file = File::open("/dev/null").unwrap();
        let config = LoopConfig::new(&file, Path::new(&"x".repeat(100)), LoopConfig::READ_ONLY | LoopConfig::AUTOCLEAR);
        assert_eq!(config.0[..4], file.as_raw_fd().to_ne_bytes());
        assert_eq!(config.0[60..64], 5_u32.to_ne_bytes());
        assert_eq!((config.0[64], config.0[126], config.0[127]), (b'x', b'x', 0));
    }
}
