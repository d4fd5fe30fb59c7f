//! Key files: in the image, in the root that is mounted already, or on a device of their own.

use super::{Effort, KeyDevice, Unlocker};
use crate::cmdline::KeyFile;
use crate::devices::filesystems;
use crate::devices::probe::Wanted;
use crate::report::log::Log;
use crate::report::slow;
use crate::sys::System;
use crate::sys::beneath::resolve;
use crate::sys::consoles::Secret;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough for every key: 32 bytes, 64 digits, or a passphrase of 512 bytes on the first line.
const FILE_MAX: usize = 8192;
/// Where a device is mounted for the moment it is read.
pub const MOUNT_POINT: &str = "/run/taproot/key";
/// File systems tried on a device whose superblock is none of those known.
const KINDS: [&str; 9] = ["ext4", "vfat", "xfs", "btrfs", "exfat", "iso9660", "f2fs", "ntfs3", "udf"];

impl Unlocker<'_> {
    /// The file of a `keylocation`, which names it as the booted system sees it: in the image, else in the mounted root.
    pub(super) fn location_file(&mut self, path: &str) -> Result<(PathBuf, Secret), String> {
        if !path.starts_with('/') {
            return Err("expected an absolute path behind file://".to_owned());
        }
        let (in_image, content) = self.read(&self.image, path);
        match content {
            Ok(content) => {
                self.keyring.used_image_file(&in_image);
                return Ok((in_image, content));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.to_string()),
            Err(_) => {}
        }
        // Ubuntu: a LUKS container in a zvol of the pool, opened by its initramfs.
        if path.starts_with("/run/keystore/") {
            return Err(
                "it lies on an encrypted volume of the pool (a keystore), which nothing here opens: boot by the \
                        initramfs that opens it, or give a copy of the key by taproot.key=LABEL=X:/path"
                    .to_owned(),
            );
        }
        let Some(root) = &self.new_root else {
            return Err(format!(
                "the image has no {path}; pack it (taproot initramfs --add-file), or name its device: taproot.key=LABEL=X:/path"
            ));
        };
        let (in_root, content) = self.read(root, path);
        let content = content.map_err(|e| format!("neither in the image nor in the root: {e}"))?;
        Ok((in_root, content))
    }

    /// A file that the command line names, read once.
    pub(super) fn command_line_file(&mut self, file: &KeyFile, effort: Effort) -> Result<Secret, String> {
        if let Some(known) = self.keyring.file(&file.why) {
            return known;
        }
        let result = match &file.device {
            None => {
                let (path, content) = self.read(&self.image, &file.path);
                self.keyring.used_image_file(&path);
                content.map_err(|e| format!("not in the image: {e}"))
            }
            Some(device) => self.device_file(device, file, effort),
        };
        // A device that was not waited for may be there when it is.
        if result.is_ok() || effort != Effort::Silent {
            self.keyring.keep_file(&file.why, &result);
        }
        result
    }

    fn device_file(&self, device: &str, file: &KeyFile, effort: Effort) -> Result<Secret, String> {
        let wanted = Wanted::parse(device)
            .ok_or_else(|| format!("{device}: expected LABEL=, UUID=, PARTLABEL=, PARTUUID= or a path below /dev"))?;
        // Nothing silent takes long.
        let wait = if effort == Effort::Silent { Duration::ZERO } else { self.settings.file_wait.value };
        let found = self.find_device.map_or(Ok(None), |find| find(&wanted, wait)).map_err(|e| e.to_string())?;
        let found = found.ok_or_else(|| {
            let after = if wait == Duration::MAX { String::new() } else { format!(" after {} s", wait.as_secs()) };
            format!("no device with {device}{after}, or none that answers (taproot.key_wait=SECONDS waits longer)")
        })?;
        let node = &found.node;
        let kind = found.kind.as_ref().map_or_else(String::new, |kind| format!(" ({kind})"));
        self.log.info(format!("{device} is {node}{kind}"));
        if let Some(apart) = self.apart {
            return apart.read_on(&found, &file.path);
        }
        let nothing = |_: &str| {};
        let load: &dyn Fn(&str) = self.load_module.unwrap_or(&nothing);
        read_on(self.system, self.log, load, &found, &file.path)
    }

    /// A file of the tree at `root`: where it is, and what is in it.
    fn read(&self, root: &Path, path: &str) -> (PathBuf, io::Result<Secret>) {
        if let Some(apart) = self.apart {
            return (root.join(path.trim_start_matches('/')), apart.read(root, path));
        }
        slow::asked(self.system, self.log, &format!("reading {path} of the root"), || {
            let path = beneath(self.system, root, path);
            let content = self.system.read_secret(&path, FILE_MAX);
            (path, content)
        })
    }
}

/// The types that are tried on a device.
pub fn kinds(device: &KeyDevice) -> Vec<&str> {
    device.kind.as_deref().map_or_else(|| KINDS.to_vec(), |kind| vec![kind])
}

/// A path of the tree at `root`, links followed inside it.
fn beneath(system: &dyn System, root: &Path, path: &str) -> PathBuf {
    resolve(system, root, Path::new(path)).unwrap_or_else(|_| root.join(path.trim_start_matches('/')))
}

/// Reads a file of the tree at `root`, links followed inside it.
pub fn read_beneath(system: &dyn System, root: &Path, path: &str) -> io::Result<Secret> {
    system.read_secret(&beneath(system, root, path), FILE_MAX)
}

/// Reads a file on a device, which is mounted for the moment; `load` loads the drivers of file systems.
pub fn read_on(
    system: &dyn System,
    log: &Log,
    load: &dyn Fn(&str),
    device: &KeyDevice,
    path: &str,
) -> Result<Secret, String> {
    let node = &device.node;
    let point = Path::new(MOUNT_POINT);
    system.make_dirs(point).map_err(|e| format!("{MOUNT_POINT}: {e}"))?;
    mount(system, log, load, device).map_err(|e| format!("{node} could not be mounted: {e}"))?;
    let what = format!("reading {path} on {node}");
    let content = slow::asked(system, log, &what, || read_beneath(system, point, path));
    let content = content.map_err(|e| format!("{path} on {node}: {e}"));
    slow::working(system, log, &format!("letting go of {node}"), || {
        // Lazily only if somebody looks at it: the device may be pulled out as soon as the key is loaded.
        let _ = system.unmount(point, false).or_else(|_| system.unmount(point, true));
    });
    let _ = system.remove(point);
    content
}

/// Mounts read-only, without replaying a journal: nothing is written to the device.
fn mount(system: &dyn System, log: &Log, load: &dyn Fn(&str), device: &KeyDevice) -> io::Result<()> {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mut last = io::Error::from_raw_os_error(libc::ENODEV);
    for kind in kinds(device) {
        filesystems::modules(kind).into_iter().for_each(load);
        let data = filesystems::without_replay(kind);
        match slow::mount(system, log, (&device.node, Path::new(MOUNT_POINT), kind), flags, data) {
            Ok(()) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
                let text = format!("the kernel has no {kind}: pack it (taproot initramfs --add-module {kind})");
                last = io::Error::new(e.kind(), text);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{Decided, KeySettings};
    use crate::sys::fake::{Machine, Tree};
    use crate::sys::linux::Linux;
    use std::cell::RefCell;
    use std::sync::Arc;

    const WAIT: Duration = Duration::from_secs(10);

    fn settings() -> KeySettings {
        KeySettings {
            files: vec![],
            file_wait: Decided::new(WAIT, "test"),
            prompt: Decided::new(false, "test"),
            tries: Decided::new(3, "test"),
            timeout: Decided::new(None, "test"),
        }
    }

    /// A file on a device with this file system, read with this effort; each time the device is looked for, for how long.
    fn read(machine: &Machine, kind: Option<&str>, efforts: &[Effort]) -> (Vec<Result<String, String>>, Vec<Duration>) {
        let waits = RefCell::new(Vec::new());
        let find = |wanted: &Wanted, wait: Duration| {
            waits.borrow_mut().push(wait);
            let there = *wanted == Wanted::Label("STICK".into()) && !wait.is_zero();
            Ok(there.then(|| KeyDevice { node: "/dev/sdb1".into(), kind: kind.map(str::to_owned) }))
        };
        let log = Log::new(Arc::new(Linux::new()));
        let mut unlocker = Unlocker::new(machine, &log, &settings()).with_devices(&find);
        let file = KeyFile { device: Some("LABEL=STICK".into()), path: "/keys/k".into(), why: "taproot.key=x".into() };
        let results = efforts.iter().map(|effort| {
            let content = unlocker.command_line_file(&file, *effort);
            content.map(|content| String::from_utf8_lossy(&content).into_owned())
        });
        (results.collect(), waits.clone().into_inner())
    }

    fn stick() -> Machine {
        Machine::new(Tree::new().with("/run/taproot/key/keys/k", "secret"))
    }

    #[test]
    fn a_device_is_mounted_read_once_and_let_go() {
        let machine = stick();
        let (results, waits) = read(&machine, Some("ext4"), &[Effort::Silent, Effort::Needed, Effort::Needed]);
        assert!(
            results[0].as_ref().is_err_and(|why| why.contains("no device with LABEL=STICK after 0 s")),
            "{results:?}"
        );
        assert_eq!(results[1..], [Ok("secret".to_owned()), Ok("secret".to_owned())]);
        assert_eq!(waits, [Duration::ZERO, WAIT]);
        let mounted = "mount /dev/sdb1 /run/taproot/key ext4 0xf noload";
        assert_eq!(machine.calls(), [mounted, "unmount /run/taproot/key"]);
    }

    #[test]
    fn a_keystore_is_told_of_by_its_name() {
        let log = Log::new(Arc::new(Linux::new()));
        let machine = Machine::new(Tree::new());
        let mut unlocker = Unlocker::new(&machine, &log, &settings());
        let says = unlocker.location_file("/run/keystore/rpool/system.key").unwrap_err();
        assert!(says.contains("encrypted volume of the pool") && !says.contains("--add-file"), "{says}");
        assert!(unlocker.location_file("/etc/k").unwrap_err().contains("--add-file"));
    }

    #[test]
    fn what_cannot_be_mounted_or_read_is_told() {
        let refusing = |errno, part: &'static str| Machine {
            refusals: Box::new(move |call| call.contains(part).then_some(errno)),
            ..stick()
        };
        let (results, _) = read(&refusing(libc::ENODEV, "mount /dev"), Some("xfs"), &[Effort::Needed]);
        assert!(results[0].as_ref().is_err_and(|why| why.contains("the kernel has no xfs: pack it")), "{results:?}");
        // Nothing is known of it: each type is tried.
        let unknown = refusing(libc::EINVAL, " ext4 ");
        assert_eq!(read(&unknown, None, &[Effort::Needed]).0, [Ok("secret".to_owned())]);
        assert_eq!(unknown.calls().get(1).map(String::as_str), Some("mount /dev/sdb1 /run/taproot/key vfat 0xf"));
        let busy = refusing(libc::EBUSY, "unmount /run/taproot/key");
        read(&busy, Some("vfat"), &[Effort::Needed]);
        assert_eq!(busy.calls().last().map(String::as_str), Some("unmount /run/taproot/key lazily"));
        let (results, _) = read(&Machine::new(Tree::new()), Some("vfat"), &[Effort::Needed]);
        assert!(results[0].as_ref().is_err_and(|why| why.contains("/keys/k on /dev/sdb1: ")), "{results:?}");
    }
}
