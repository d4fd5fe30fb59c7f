//! Lines of the fstab of a root that is a layer itself, which the booted system would mount writable: what is written there would not
//! go to the upper. The file is part of the root and stays as it is: systemd's units for them are told otherwise.

use super::prepare::runs_systemd;
use crate::plan::fstab::{self, FstabEntry};
use crate::sys::System;
use crate::sys::beneath::resolve;
use std::io;
use std::path::Path;

/// Bytes of an fstab that are read.
const FSTAB_MAX: usize = 16 << 20;
/// Types of file systems without a disk of their own.
const NO_DISK: [&str; 17] = [
    "autofs",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "hugetlbfs",
    "mqueue",
    "proc",
    "ramfs",
    "swap",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// What became of such lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// Directories that the booted system mounts read-only now.
    pub read_only: Vec<String>,
    /// Directories that it mounts writable all the same.
    pub writable: Vec<String>,
    /// Files that were made.
    pub files: Vec<String>,
}

/// Keeps the booted system from writing to what its fstab names; `mounted`: directories that are mounted already.
pub fn read_only_lines(system: &dyn System, root: &Path, init: &str, mounted: &[String]) -> io::Result<Lines> {
    let text = match resolve(system, root, Path::new("/etc/fstab")).and_then(|path| system.read(&path, FSTAB_MAX)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
        text => text?,
    };
    let mut lines = Lines::default();
    let systemd = runs_systemd(system, root, init);
    for entry in fstab::parse(&text).iter().filter(|entry| is_written(entry)) {
        let target = format!("/{}", entry.target.trim_matches('/'));
        if target == "/" || mounted.contains(&target) {
            continue;
        }
        if !systemd {
            lines.writable.push(target);
            continue;
        }
        let path = format!("/run/systemd/system/{}.mount.d/00-taproot.conf", unit(&target));
        let options: Vec<&str> = entry.options.iter().map(String::as_str).filter(|option| kept(option)).collect();
        let options = options.into_iter().chain(["ro"]).collect::<Vec<_>>().join(",").replace('%', "%%");
        let text = format!(
            "# Written by taproot for this boot: the root is a layer, and nothing of it is written to.\n[Mount]\nOptions={options}\n"
        );
        let path = Path::new(&path);
        path.parent().map_or(Ok(()), |dir| system.make_dirs(dir))?;
        system.write(path, text.as_bytes())?;
        lines.files.push(path.display().to_string());
        lines.read_only.push(target);
    }
    Ok(lines)
}

/// Whether a line mounts something on a disk, by itself and writable.
fn is_written(entry: &FstabEntry) -> bool {
    let last = entry.options.iter().rev().find(|option| matches!(option.as_str(), "ro" | "rw"));
    let elsewhere = ["noauto", "bind", "rbind"].iter().any(|option| entry.has(option));
    entry.target.starts_with('/')
        && !NO_DISK.contains(&entry.fstype.as_str())
        && !elsewhere
        && last.is_none_or(|option| option != "ro")
}

/// Whether an option is one of the mount, and not for whoever reads fstab.
fn kept(option: &str) -> bool {
    !option.starts_with("x-") && !matches!(option, "rw" | "auto" | "nofail" | "fail")
}

/// The name of a directory's unit, without `.mount` (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
fn unit(target: &str) -> String {
    let parts = target.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let shown = |(at, byte): (usize, u8)| match byte {
        b'/' => "-".to_owned(),
        b'.' if at > 0 => ".".to_owned(),
        b':' | b'_' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    parts.bytes().enumerate().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    const FSTAB: &str = "UUID=1 / ext4 defaults 0 1\nUUID=2 /boot/efi vfat umask=0077,x-systemd.automount 0 2\n\
                         UUID=3 none swap sw\ntank/home /home zfs nofail\nLABEL=m /mnt/usb ext4 noauto\nLABEL=r /srv/a-b ext4 rw,ro\n\
                         tmpfs /tmp tmpfs mode=1777\n/srv /opt/x none bind\nLABEL=v /var ext4 defaults\nLABEL=c /srv/.c-d xfs\n";

    #[test]
    fn what_the_booted_system_mounts_of_disks_is_read_only() {
        let root = || Tree::new().with("/newroot/usr/lib/systemd/systemd", "").with("/newroot/etc/fstab", FSTAB);
        let init = "/usr/lib/systemd/systemd";
        let tree = root();
        let lines = read_only_lines(&tree, Path::new("/newroot"), init, &["/var".to_owned()]).unwrap();
        assert_eq!(lines.read_only, ["/boot/efi", "/home", "/srv/.c-d"]);
        assert!(lines.writable.is_empty());
        let file = |unit: &str| tree.text(&format!("/run/systemd/system/{unit}.mount.d/00-taproot.conf"));
        assert!(file("boot-efi").ends_with("[Mount]\nOptions=umask=0077,ro"), "{}", file("boot-efi"));
        assert!(file("home").ends_with("Options=ro"));
        assert!(file("srv-.c\\x2dd").ends_with("Options=ro"));
        let lines = read_only_lines(&root(), Path::new("/newroot"), "/sbin/init", &[]).unwrap();
        assert_eq!(
            (lines.writable, lines.files),
            (vec!["/boot/efi".into(), "/home".into(), "/var".into(), "/srv/.c-d".into()], vec![])
        );
        let none = Tree::new().with("/newroot/usr/lib/systemd/systemd", "");
        assert_eq!(read_only_lines(&none, Path::new("/newroot"), init, &[]).unwrap(), Lines::default());
        assert_eq!(unit("/.x/y z"), "\\x2ex-y\\x20z");
    }
}
