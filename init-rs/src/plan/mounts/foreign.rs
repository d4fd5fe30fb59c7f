//! fstab lines of other file systems than ZFS that the early boot has to mount: `/usr`, and those with `x-initrd.mount`.

use std::time::Duration;

use super::Foreign;
use super::span::span;
use crate::plan::fstab::FstabEntry;

/// How long a device is waited for that neither the pool nor the root needed, unless the line says otherwise.
const WAIT: Duration = Duration::from_secs(10);
/// The longest that a line with `nofail` can ask for: the booted system waits no longer by default.
const LONGEST: Duration = Duration::from_secs(90);

/// Types whose source is a name and not a device.
const WITHOUT_DEVICE: [&str; 4] = ["tmpfs", "ramfs", "virtiofs", "9p"];
/// Types that the kernel does not mount without help from a program or the network.
const NETWORK: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "glusterfs", "sshfs", "fuse"];
/// What names a device by its content or its partition.
const TAGS: [&str; 4] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="];

/// What the line needs, or why it is left to the booted system.
pub(super) fn foreign(entry: &FstabEntry) -> Result<Foreign, String> {
    let fstype = entry.fstype.as_str();
    if let Some(option) = ["bind", "rbind", "loop", "_netdev"].into_iter().find(|o| entry.has(o)) {
        return Err(format!("the early boot does not know the option {option}; left to the booted system"));
    }
    if NETWORK.contains(&fstype) || fstype.starts_with("fuse.") {
        return Err(format!("{fstype} needs more than the kernel; left to the booted system"));
    }
    if matches!(fstype, "none" | "swap" | "overlay") {
        return Err(format!("the early boot cannot mount the type {fstype}; left to the booted system"));
    }
    let device = !WITHOUT_DEVICE.contains(&fstype);
    let source = entry.source.as_str();
    if device && !source.starts_with("/dev/") && !TAGS.iter().any(|tag| source.starts_with(tag)) {
        return Err("its source is neither a path in /dev nor one of UUID=, LABEL=, PARTUUID=, PARTLABEL=".to_owned());
    }
    Ok(Foreign { fstype: fstype.to_owned(), device, wait: wait(entry) })
}

/// How long the line has its device waited for. systemd takes 0 for "without end", too; a line with `nofail` does not hold up
/// its boot, and ours only for as long as it says.
fn wait(entry: &FstabEntry) -> Duration {
    let asked = entry.value("x-systemd.device-timeout").and_then(span);
    match asked.map(|asked| if asked.is_zero() { Duration::MAX } else { asked }) {
        Some(Duration::MAX) | None if entry.has("nofail") => Duration::ZERO,
        Some(asked) if entry.has("nofail") => asked.min(LONGEST),
        Some(asked) => asked,
        None => WAIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fstab::parse;

    fn of(line: &str) -> Result<Foreign, String> {
        foreign(&parse(line.as_bytes())[0])
    }

    #[test]
    fn sources_and_times() {
        let wait = |line: &str| of(line).unwrap().wait.as_secs();
        assert_eq!(wait("LABEL=usr /usr ext4 ro"), 10);
        assert_eq!(wait("/dev/vdb /usr ext4 nofail"), 0);
        assert_eq!(wait("UUID=1-2 /usr vfat nofail,x-systemd.device-timeout=5s"), 5);
        assert_eq!(wait("PARTLABEL=a\\040b /usr xfs x-systemd.device-timeout=1min"), 60);
        assert_eq!(wait("PARTUUID=x /usr xfs x-systemd.device-timeout=99999999999999999999"), 10);
        assert_eq!(wait("PARTUUID=x /usr xfs x-systemd.device-timeout=soon"), 10);
        assert_eq!(wait("/dev/sda /usr btrfs x-systemd.device-timeout=1min30s"), 90);
        assert_eq!(wait("/dev/sda /usr btrfs x-systemd.device-timeout=10min"), 600);
        assert_eq!(wait("/dev/sda /usr btrfs nofail,x-systemd.device-timeout=10min"), 90);
        assert_eq!(of("/dev/sda /usr btrfs x-systemd.device-timeout=500ms").unwrap().wait.as_millis(), 500);
        for never in ["0", "infinity", "0s"] {
            let line = format!("/dev/sda /usr btrfs x-systemd.device-timeout={never}");
            assert_eq!(of(&line).unwrap().wait, Duration::MAX, "{line}");
            assert_eq!(of(&line.replace("x-", "nofail,x-")).unwrap().wait, Duration::ZERO, "{line}");
        }
        assert_eq!(of("/dev/sda /usr auto").unwrap().fstype, "auto");
        assert!(!of("tmpfs /usr/tmp tmpfs size=1M").unwrap().device);
    }

    #[test]
    fn what_is_left_to_the_booted_system() {
        for (line, why) in [
            ("/a /usr none bind", "option bind"),
            ("/a.img /usr squashfs loop", "option loop"),
            ("h:/x /usr nfs ro", "nfs needs"),
            ("x /usr fuse.sshfs ro", "fuse.sshfs needs"),
            ("overlay /usr overlay lowerdir=/a", "type overlay"),
            ("somewhere /usr ext4 ro", "neither a path"),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
