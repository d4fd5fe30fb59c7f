//! What a root made of layers needs of Linux: images on loop devices, overlays by the mount API that has room for many lowers, and
//! two questions.
#![allow(unsafe_code)]

use super::mount_api::{self, Context, attribute};
use super::mounting::mount_with;
use super::{OverlayMount, loops};
use nix::mount::MsFlags;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Bytes of an image that are read at once.
const PIECE: usize = 1 << 20;
/// Of OpenZFS (`include/sys/fs/zfs.h`).
const BLKZNAME: u32 = 0x8100_127d;

/// Mounts an image read-only, by a loop device; gives the device's node.
pub(super) fn mount_image(image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
    mount_file(image, target, fstype, libc::MS_RDONLY, "")
}

/// Mounts a file, by a loop device; gives the device's node.
pub(super) fn mount_file(path: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String> {
    let writable = flags & libc::MS_RDONLY == 0;
    let file = File::options().read(true).write(writable).open(path)?;
    let read_only = if writable { 0 } else { loops::READ_ONLY };
    let (attached, device) = loops::attach(&file, path, read_only | loops::AUTOCLEAR)?;
    let node = attached.node.display().to_string();
    // The mount holds it from now on; closed before that, it would be gone.
    let mounted = mount_with(&node, target, fstype, flags, data);
    drop(device);
    mounted.map(|()| node)
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
    // Before Linux 6.5 overlays take whatever option there is, and say only in the end that they do not know it.
    let takes_anything = |probe: Context| probe.set(c"taproot", b"none").is_ok();
    if Context::open(c"overlay").is_ok_and(takes_anything) {
        return Err(Unusable::Api);
    }
    let context = Context::open(c"overlay").map_err(|_| Unusable::Api)?;
    let explain = |error: io::Error| Unusable::Mount(context.explain(&error));
    context.set(c"source", b"overlay").map_err(|_| Unusable::Api)?;
    for (number, lower) in overlay.lowers.iter().enumerate() {
        let result = context.set(c"lowerdir+", lower.as_os_str().as_bytes());
        match result {
            Err(e) if number == 0 && e.raw_os_error() == Some(libc::EINVAL) => return Err(Unusable::Api),
            Err(e) => return Err(explain(e)),
            Ok(()) => {}
        }
    }
    let upper = overlay.upper.iter().flat_map(|(upper, work)| [(c"upperdir", upper), (c"workdir", work)]);
    for (key, path) in upper {
        let set = context.set(key, path.as_os_str().as_bytes());
        set.map_err(explain)?;
    }
    for (key, value) in &overlay.options {
        context.option(key, value).map_err(explain)?;
    }
    for (key, value) in &overlay.if_known {
        let _ = context.option(key, value);
    }
    context.create().map_err(explain)?;
    let attributes = if overlay.upper.is_none() { attribute::READ_ONLY } else { 0 };
    context.mount(attributes).and_then(|mount| mount_api::put(&mount, target)).map_err(explain)
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
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BLKZNAME.into(), name.as_mut_ptr()) };
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
}
