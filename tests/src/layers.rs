//! Roots made of layers: a kit system's squashfs at the bottom, small layers over it, and the disks that hold them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::vm::{Disk, Scratch};

/// Makes the trees of the small layers in `$1`. `middle` and `top` have a file that the bottom has too, and each kind of thing that
/// an overlay or an image can lose; `line` has an fstab with a line for `/`.
const TREES: &str = r##"set -eu
cd "$1"
mkdir -p middle/etc/skel middle/opt/kinds top/etc line/etc
echo middle >middle/etc/hostname
echo middle >middle/etc/layer
echo middle >middle/opt/middle
python3 - <<'END'
import os
os.mknod("middle/etc/debian_version", 0o20000, 0)
os.setxattr("middle/etc/skel", "trusted.overlay.opaque", b"y")
kinds = "middle/opt/kinds/"
open(kinds + "first", "w").write("twice\n")
os.link(kinds + "first", kinds + "second")
open(kinds + "suid", "w").write("#!/bin/sh\n")
os.chmod(kinds + "suid", 0o4755)
open(kinds + "capable", "w").write("x\n")
# CAP_NET_RAW, permitted and effective (struct vfs_cap_data, revision 2).
os.setxattr(kinds + "capable", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
os.mknod(kinds + "null", 0o20666, os.makedev(1, 3))
END
echo new >middle/etc/skel/new
echo top >top/etc/hostname
echo top >top/etc/layer
echo 'UUID=11111111-2222-3333-4444-555555555555 / ext4 errors=remount-ro,noatime 0 1' >line/etc/fstab
mksquashfs middle middle.sqsh -noappend -quiet -no-progress -xattrs >/dev/null
mkfs.erofs --quiet top.erofs top
mksquashfs line line.squashfs -noappend -quiet -no-progress >/dev/null
"##;

/// The label of the file system with all layers.
pub const LABEL: &str = "LAYERS";
/// The label of an empty file system.
pub const EMPTY: &str = "EMPTY";

/// A directory with what was made of this text and this system; `make` fills it.
fn made(system: &System, name: &str, of: &str, make: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let parent = kit::cache()?.join("layers");
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    let lock = fs::File::create(parent.join("lock")).context("the lock of the layers")?;
    lock.lock().context("the lock of the layers")?;
    let dir = parent.join(format!("{}-{name}", system.name));
    let stamp = format!("{}{of}", system.stamp()?);
    if fs::read_to_string(dir.join("stamp")).is_ok_and(|text| text == stamp) {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    make(&dir)?;
    fs::write(dir.join("stamp"), stamp).context("the stamp of the layers")?;
    Ok(dir)
}

/// Images of the small layers: `middle.sqsh`, `top.erofs`, `line.squashfs`.
pub fn small(system: &System) -> Result<PathBuf> {
    made(system, "small", TREES, |dir| {
        kit::run(Command::new("bash").args(["-c", TREES, "bash"]).arg(dir)).map(drop)
    })
}

/// An ext4 image with these files of the host, and nothing else.
fn ext4(image: &Path, label: &str, mib: u64, files: &[(PathBuf, &str)]) -> Result<()> {
    let tree = image.with_extension("tree");
    fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
    for (from, name) in files {
        let to = tree.join(name);
        let dir = to.parent().context("a name in a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).context("permissions of a layer")?;
    }
    kit::run(Command::new("mkfs.ext4").args(["-q", "-L", label, "-d"]).arg(&tree).arg(image).arg(format!("{mib}M")))?;
    fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))
}

/// A writable disk with all layers: `base.sqsh`, which is the system, and the small ones.
pub fn disk(system: &System, scratch: &Scratch) -> Result<Disk> {
    let small = small(system)?;
    let dir = made(system, "disk", TREES, |dir| {
        let base = (system.squashfs(), "base.sqsh");
        let others = ["middle.sqsh", "top.erofs", "line.squashfs"].map(|name| (small.join(name), name));
        ext4(&dir.join("disk.img"), LABEL, 400, &[&[base][..], &others].concat())
    })?;
    scratch.overlay_image(&dir.join("disk.img"), "layers0")
}

/// A small disk with these files, in the directory `live`.
pub fn small_disk(scratch: &Scratch, serial: &str, label: &str, files: &[(PathBuf, &str)]) -> Result<Disk> {
    ensure!(label.len() <= 16, "{label} is too long for ext4");
    let path = scratch.path().join(format!("{serial}.img"));
    ext4(&path, label, 64, files)?;
    Ok(Disk { path, format: "raw", serial: serial.to_owned(), bus: crate::vm::Bus::Virtio, read_only: false })
}
