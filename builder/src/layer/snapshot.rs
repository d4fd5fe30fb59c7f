//! A running system as a source: only a frozen view of it can be sealed, because files change while they are read. Snapshots of btrfs,
//! ZFS and LVM are such, made for the time that it takes.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a line of `/proc/self/mountinfo` says (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub at: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// Device or dataset.
    pub source: String,
}

/// The file system that is mounted at a directory: of several the last one.
pub fn mounted_at(mountinfo: &str, directory: &Path) -> Option<Mount> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = PathBuf::from(left.split(' ').nth(4)?);
        let mut right = right.split(' ');
        Some(Mount { at, kind: right.next()?.to_owned(), source: right.next()?.to_owned() })
    };
    mountinfo.lines().filter_map(parse).rfind(|mount| mount.at == directory)
}

/// How a view is made and taken away again; each command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    make: Vec<Vec<String>>,
    path: PathBuf,
    undo: Vec<Vec<String>>,
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

/// The steps for a file system; `None` if it has no snapshots. `volume`: the logical volume that it lies on, its group, and whether it is
/// thin.
pub fn steps(mount: &Mount, name: &str, volume: Option<(&str, &str, bool)>) -> Option<Steps> {
    match (mount.kind.as_str(), volume) {
        ("btrfs", _) => {
            let path = mount.at.join(format!(".{name}"));
            let (from, to) = (mount.at.to_string_lossy(), path.to_string_lossy());
            Some(Steps {
                make: vec![words(&["btrfs", "subvolume", "snapshot", "-r", &from, &to])],
                undo: vec![words(&["btrfs", "subvolume", "delete", &to])],
                path: path.clone(),
            })
        }
        ("zfs", _) => {
            let snapshot = format!("{}@{name}", mount.source);
            Some(Steps {
                make: vec![words(&["zfs", "snapshot", &snapshot])],
                path: mount.at.join(".zfs/snapshot").join(name),
                undo: vec![words(&["zfs", "destroy", &snapshot])],
            })
        }
        (kind, Some((group, volume, thin))) => {
            let (origin, snapshot) = (format!("{group}/{volume}"), format!("{group}/{name}"));
            let path = PathBuf::from("/run").join(name);
            let at = path.to_string_lossy();
            let mut make = words(&["lvcreate", "--yes", "--snapshot", "--setactivationskip", "n", "--name", name]);
            // What is written to the system meanwhile has to fit in there.
            make.extend(words(if thin { &[] } else { &["--extents", "20%ORIGIN"] }));
            make.push(origin);
            let options = if kind == "xfs" { "ro,nouuid" } else { "ro" };
            Some(Steps {
                make: vec![
                    make,
                    words(&["mkdir", "-m", "700", &at]),
                    words(&["mount", "-t", kind, "-o", options, &format!("/dev/{snapshot}"), &at]),
                ],
                undo: vec![words(&["umount", &at]), words(&["rmdir", &at]), words(&["lvremove", "--yes", &snapshot])],
                path: path.clone(),
            })
        }
        _ => None,
    }
}

/// A frozen view; it goes with this.
#[derive(Debug)]
pub struct Frozen {
    steps: Steps,
    done: usize,
}

impl Frozen {
    /// Where it can be read.
    pub fn path(&self) -> &Path {
        &self.steps.path
    }

    /// Of the system that is mounted at a directory. The error says what it is instead.
    pub fn of(directory: &Path) -> Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo: reading it")?;
        let Some(mount) = mounted_at(&mountinfo, directory) else {
            bail!("nothing is mounted at {}", directory.display());
        };
        let volume = logical_volume(&mount.source);
        let volume = volume.as_ref().map(|(group, volume, thin)| (group.as_str(), volume.as_str(), *thin));
        let name = format!("taproot-frozen-{}", std::process::id());
        let steps = steps(&mount, &name, volume).with_context(|| {
            format!("{} is {} on {}, of which no snapshot can be made", directory.display(), mount.kind, mount.source)
        })?;
        let mut frozen = Self { done: 0, steps };
        for line in frozen.steps.make.clone() {
            // What comes after a failure takes the steps before it away.
            run(&line)?;
            frozen.done += 1;
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The last one that was made is the first to go.
        let skip = self.steps.undo.len().saturating_sub(self.done);
        for line in self.steps.undo.iter().skip(skip) {
            if let Err(error) = run(line) {
                eprintln!("note: {error:#}");
            }
        }
    }
}

fn run(line: &[String]) -> Result<String> {
    let Some((program, arguments)) = line.split_first() else { return Ok(String::new()) };
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{}: {}", line.join(" "), said.lines().last().unwrap_or("failed"))
}

/// Group and name of the logical volume behind a device, and whether it is thin.
fn logical_volume(device: &str) -> Option<(String, String, bool)> {
    if !device.starts_with("/dev/") {
        return None;
    }
    let fields = "vg_name,lv_name,pool_lv";
    let text = run(&words(&["lvs", "--noheadings", "--separator", "/", "--options", fields, device])).ok()?;
    let mut parts = text.trim().split('/');
    let (group, volume) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    (!group.is_empty() && !volume.is_empty())
        .then(|| (group, volume, parts.next().is_some_and(|pool| !pool.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "1 0 0:1 / / rw shared:1 - rootfs rootfs rw\n\
        28 1 8:2 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n\
        30 28 0:30 /@home /home rw - btrfs /dev/sdb1 rw,subvol=/@home\n";

    fn lines(list: &[Vec<String>]) -> Vec<String> {
        list.iter().map(|line| line.join(" ")).collect()
    }

    #[test]
    fn the_last_mount_counts() {
        let root = mounted_at(MOUNTS, Path::new("/")).unwrap();
        assert_eq!((root.kind.as_str(), root.source.as_str()), ("ext4", "/dev/mapper/vg-root"));
        assert_eq!(mounted_at(MOUNTS, Path::new("/home")).unwrap().kind, "btrfs");
        assert_eq!(mounted_at(MOUNTS, Path::new("/srv")), None);
    }

    #[test]
    fn each_kind_has_its_steps() {
        let mount =
            |kind: &str, source: &str| Mount { at: PathBuf::from("/"), kind: kind.into(), source: source.into() };
        let zfs = steps(&mount("zfs", "rpool/ROOT/a"), "x", None).unwrap();
        assert_eq!(lines(&zfs.make), ["zfs snapshot rpool/ROOT/a@x"]);
        assert_eq!(zfs.path, Path::new("/.zfs/snapshot/x"));
        assert_eq!(lines(&zfs.undo), ["zfs destroy rpool/ROOT/a@x"]);
        let btrfs = steps(&mount("btrfs", "/dev/sda2"), "x", None).unwrap();
        assert_eq!(lines(&btrfs.make), ["btrfs subvolume snapshot -r / /.x"]);
        assert_eq!(lines(&btrfs.undo), ["btrfs subvolume delete /.x"]);
        let lvm = steps(&mount("xfs", "/dev/mapper/vg-root"), "x", Some(("vg", "root", false))).unwrap();
        let wanted = [
            "lvcreate --yes --snapshot --setactivationskip n --name x --extents 20%ORIGIN vg/root",
            "mkdir -m 700 /run/x",
            "mount -t xfs -o ro,nouuid /dev/vg/x /run/x",
        ];
        assert_eq!(lines(&lvm.make), wanted);
        assert_eq!(lines(&lvm.undo), ["umount /run/x", "rmdir /run/x", "lvremove --yes vg/x"]);
        let thin = steps(&mount("ext4", "/dev/vg/root"), "x", Some(("vg", "root", true))).unwrap();
        assert_eq!(lines(&thin.make)[0], "lvcreate --yes --snapshot --setactivationskip n --name x vg/root");
        assert_eq!(steps(&mount("ext4", "/dev/sda1"), "x", None), None);
    }
}
