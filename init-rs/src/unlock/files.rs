//! Key files: in the image, in the root that is mounted already, or on a device of their own.

use super::{Effort, Unlocker};
use crate::cmdline::KeyFile;
use crate::devices::filesystems;
use crate::devices::probe::{Found, Prober, Wanted};
use crate::sys::beneath::resolve_here as resolve;
use crate::sys::consoles::Secret;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Enough for every key: 32 bytes, 64 digits, or a passphrase of 512 bytes on the first line.
const FILE_MAX: usize = 8192;
/// Where a device is mounted for the moment it is read.
const MOUNT_POINT: &str = "/run/taproot/key";
/// Between two looks for a device.
const POLL: Duration = Duration::from_millis(250);
/// Between two lines that say what is awaited.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// File systems tried on a device whose superblock is none of those known.
const KINDS: [&str; 9] = ["ext4", "vfat", "xfs", "btrfs", "exfat", "iso9660", "f2fs", "ntfs3", "udf"];

impl Unlocker<'_> {
    /// The file of a `keylocation`, which names it as the booted system sees it: in the image, else in the mounted root.
    pub(super) fn location_file(&mut self, path: &str) -> Result<(PathBuf, Secret), String> {
        if !path.starts_with('/') {
            return Err("expected an absolute path behind file://".to_owned());
        }
        let in_image = beneath(&self.image, path);
        match read(&in_image) {
            Ok(content) => {
                self.keyring.used_image_file(&in_image);
                return Ok((in_image, content));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.to_string()),
            Err(_) => {}
        }
        let Some(root) = &self.new_root else {
            return Err(format!(
                "the image has no {path}; pack it (taproot initramfs --add-file), or name its device: taproot.key=LABEL=X:/path"
            ));
        };
        let in_root = beneath(root, path);
        let content = read(&in_root).map_err(|e| format!("neither in the image nor in the root: {e}"))?;
        Ok((in_root, content))
    }

    /// A file that the command line names, read once.
    pub(super) fn command_line_file(&mut self, file: &KeyFile, effort: Effort) -> Result<Secret, String> {
        if let Some(known) = self.keyring.file(&file.why) {
            return known;
        }
        let result = match &file.device {
            None => {
                let path = beneath(&self.image, &file.path);
                let result = read(&path).map_err(|e| format!("not in the image: {e}"));
                self.keyring.used_image_file(&path);
                result
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
        let found = self.wait_for(&wanted, wait).ok_or_else(|| {
            format!("no device with {device} after {} s (taproot.key_wait=SECONDS waits longer)", wait.as_secs())
        })?;
        let node = found.node.display();
        self.log.info(format!("{device} is {node}{}", found.kind.map_or(String::new(), |k| format!(" ({k})"))));
        let point = Path::new(MOUNT_POINT);
        fs::create_dir_all(point).map_err(|e| format!("{MOUNT_POINT}: {e}"))?;
        self.mount(&found, point).map_err(|e| format!("{node} could not be mounted: {e}"))?;
        let content = read(&beneath(point, &file.path)).map_err(|e| format!("{} on {node}: {e}", file.path));
        // Lazily only if somebody looks at it: the device may be pulled out as soon as the key is loaded.
        if self.system.unmount(point, false).is_err() {
            let _ = self.system.unmount(point, true);
        }
        let _ = fs::remove_dir(point);
        content
    }

    fn wait_for(&self, wanted: &Wanted, wait: Duration) -> Option<Found> {
        let began = Instant::now();
        let mut said = began;
        let mut prober = Prober::new(Path::new("/sys"), Path::new("/dev"));
        loop {
            let mut read_at = |node: &Path, offset: u64, buf: &mut [u8]| crate::sys::device::read_at(node, offset, buf);
            if let Some(found) = prober.find(wanted, &mut read_at) {
                return Some(found);
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return None;
            }
            if said.elapsed() >= STATUS_EVERY || said == began {
                said = Instant::now();
                let left = if wait == Duration::MAX { String::new() } else { format!(" ({} s left)", left.as_secs()) };
                self.log.warn(format!("waiting for {wanted} with the key file{left}"));
            }
            std::thread::sleep(POLL.min(left));
        }
    }

    /// Mounts read-only, without replaying a journal: nothing is written to the device.
    fn mount(&self, found: &Found, point: &Path) -> io::Result<()> {
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let node = found.node.to_string_lossy();
        let kinds: Vec<&str> = found.kind.map_or_else(|| KINDS.to_vec(), |kind| vec![kind]);
        let mut last = io::Error::from_raw_os_error(libc::ENODEV);
        for kind in kinds {
            if let Some(load) = self.load_module {
                for module in filesystems::modules(kind) {
                    load(module);
                }
            }
            let data = match kind {
                "ext4" => "noload",
                "xfs" => "norecovery",
                "btrfs" => "rescue=nologreplay",
                _ => "",
            };
            match self.system.mount(&node, point, kind, flags, data) {
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
}

/// A path of the tree at `root`, links followed inside it.
fn beneath(root: &Path, path: &str) -> PathBuf {
    resolve(root, Path::new(path)).unwrap_or_else(|_| root.join(path.trim_start_matches('/')))
}

/// The beginning of a file, in a buffer that never grows.
fn read(path: &Path) -> io::Result<Secret> {
    let mut file = File::open(path)?;
    let mut content = Zeroizing::new(vec![0; FILE_MAX]);
    let mut filled = 0;
    while let Some(room) = content.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    content.truncate(filled);
    Ok(content)
}
