//! Roots made of layers: a kit system's squashfs at the bottom, small layers over it, and the disks that hold them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::newer;
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
# Machines that go on from a kept state have its clock: what were newer than that would be from their future, and tools say so.
find middle top line -exec touch --no-dereference --date=@1600000000 {} +
mksquashfs middle middle.sqsh -noappend -quiet -no-progress -xattrs >/dev/null
mkfs.erofs --quiet top.erofs top
mksquashfs line line.squashfs -noappend -quiet -no-progress >/dev/null
"##;

/// The label of the file system with all layers.
pub const LABEL: &str = "LAYERS";

/// A directory with what was made of this text and this system; `make` fills it.
pub(crate) fn made(system: &System, name: &str, of: &str, make: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
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
    made(system, "small", TREES, |dir| kit::run(Command::new("bash").args(["-c", TREES, "bash"]).arg(dir)).map(drop))
}

/// The access control list of `/opt/acl/listed` in [`with_list`], as the attribute has it: user 1000 may read and write it
/// (`include/uapi/linux/posix_acl_xattr.h`).
pub const LIST: &str = "0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000400ffffffff";

/// An erofs image of a layer whose file has an access control list.
pub fn with_list(scratch: &Scratch) -> Result<PathBuf> {
    const SCRIPT: &str = r#"set -eu
        cd "$1"
        mkdir -p list/opt/acl
        echo listed >list/opt/acl/listed
        python3 -c 'import os, sys; os.setxattr("list/opt/acl/listed", "system.posix_acl_access", bytes.fromhex(sys.argv[1]))' "$2"
        mkfs.erofs --quiet list.erofs list"#;
    kit::run(Command::new("bash").args(["-c", SCRIPT, "bash"]).arg(scratch.path()).arg(LIST))?;
    Ok(scratch.path().join("list.erofs"))
}

/// An ext4 image with these files of the host, and nothing else.
pub(crate) fn ext4(image: &Path, label: &str, mib: u64, files: &[(PathBuf, &str)]) -> Result<()> {
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

/// Where the packages of [`commit_disk`] lie in the system.
pub const PACKAGES: &str = "/usr/share/kit";
/// Debian's packages that are upgraded there, twice: files of theirs lie in the base.
pub const UPGRADED: [&str; 2] = ["sed", "gzip"];

/// Packs `$2` of the installed tree `$1` again as version `$3`, into `$4`: what Debian has in it, with a line more in its copyright.
const REPACK: &str = r#"set -eu
tree=$1 package=$2 version=$3 deb=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/DEBIAN"
awk -v package="$package" '$1 == "Package:" { on = $2 == package } on && NF && !/^(Status|Conffiles|Version):/ && !/^ .* [0-9a-f]{32}/' \
    "$tree/var/lib/dpkg/status" >"$work/DEBIAN/control"
echo "Version: $version" >>"$work/DEBIAN/control"
for part in preinst postinst prerm postrm conffiles; do
    [ ! -e "$tree/var/lib/dpkg/info/$package.$part" ] || cp -p "$tree/var/lib/dpkg/info/$package.$part" "$work/DEBIAN/$part"
done
cd "$tree"
while read -r path; do
    case $path in /bin | /sbin | /lib) mkdir -p "$work$path"; continue ;; esac # links to those below /usr, which packages do not know
    if [ -d ".$path" ] && [ ! -L ".$path" ]; then mkdir -p "$work$path"
    elif [ -e ".$path" ] || [ -L ".$path" ]; then mkdir -p "$work${path%/*}"; cp -a ".$path" "$work$path"; fi
done <"$tree/var/lib/dpkg/info/$package.list"
echo "$version" >>"$work/usr/share/doc/$package/copyright"
cd "$work"
find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | xargs md5sum >DEBIAN/md5sums
dpkg-deb --root-owner-group -Znone -b "$work" "$deb" >/dev/null
"#;

/// The packages: `kernel.deb`, and of each of [`UPGRADED`] `NAME-1.deb` and `NAME-2.deb`.
fn packages(system: &System, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    fs::copy(newer::package(system, &[])?, dir.join("kernel.deb")).context("copying the package of the kernel")?;
    for package in UPGRADED {
        for number in ["1", "2"] {
            let status = ["--admindir", "var/lib/dpkg", "--showformat", "${Version}", "--show", package];
            let version = kit::run(Command::new("dpkg-query").current_dir(system.tree()).args(status))?;
            let mut command = Command::new("bash");
            command.args(["-c", REPACK, "bash"]).arg(system.tree()).args([package, &format!("{version}+kit{number}")]);
            kit::run(command.arg(dir.join(format!("{package}-{number}.deb"))))?;
        }
    }
    Ok(())
}

/// A file of the file system of [`commit_disk`], while no machine has it.
pub fn file_of(disk: &Disk, path: &str, to: &Path) -> Result<()> {
    let request = format!("dump {path} {}", to.display());
    kit::run(Command::new("debugfs").args(["-R", &request]).arg(&disk.path))?;
    ensure!(to.metadata().is_ok_and(|meta| meta.len() > 0), "{path} is not on {}", disk.serial);
    Ok(())
}

/// A writable disk with two layers: `base.sqsh`, which is the system, and `tools.sqsh` with what commits need there: our programs, their
/// units and hooks, the programs that write images, with their libraries, and packages.
pub fn commit_disk(system: &System, scratch: &Scratch) -> Result<Disk> {
    let tree = scratch.path().join("tools");
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().context("a name in a directory")?)?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display())).map(drop)
    };
    put(&crate::image::builder(), "usr/bin/taproot")?;
    put(&crate::image::boot_binary(), "usr/lib/taproot/taproot-init")?;
    for (from, to) in [
        ("update-initramfs", "usr/lib/taproot/update-initramfs"),
        ("kernel/postinst.d/taproot", "etc/kernel/postinst.d/taproot"),
        ("kernel/postrm.d/taproot", "etc/kernel/postrm.d/taproot"),
    ] {
        put(&crate::checkout().join("builder/hooks").join(from), to)?;
    }
    packages(system, &tree.join(PACKAGES.trim_start_matches('/')))?;
    for unit in ["taproot-layer-work.service", "taproot-layer-confirm.service"] {
        put(&crate::checkout().join("builder/units").join(unit), &format!("usr/lib/systemd/system/{unit}"))?;
        let wants = tree.join("usr/lib/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink(Path::new("..").join(unit), wants.join(unit))?;
    }
    programs(system, &tree, &["mksquashfs", "mkfs.erofs"])?;
    let tools = scratch.path().join("tools.sqsh");
    kit::run(Command::new("mksquashfs").arg(&tree).arg(&tools).args([
        "-noappend",
        "-quiet",
        "-no-progress",
        "-all-root",
    ]))?;
    let path = scratch.path().join("commit0.img");
    ext4(&path, LABEL, 700, &[(system.squashfs(), "base.sqsh"), (tools, "tools.sqsh")])?;
    Ok(Disk::writable(&path, "raw", "commit0"))
}

/// Puts programs of this machine into a tree, and of their libraries those that the system does not have itself.
fn programs(system: &System, tree: &Path, names: &[&str]) -> Result<()> {
    let put = |from: &Path, to: String| -> Result<()> {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().context("a name in a directory")?)?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display())).map(drop)
    };
    for name in names {
        let found = kit::run(Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]))?;
        put(Path::new(found.trim()), format!("usr/bin/{name}"))?;
        let words = kit::run(Command::new("ldd").arg(found.trim()))?;
        for library in words.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
            let name = library.file_name().context("a library's name")?.to_string_lossy().into_owned();
            let place = format!("usr/lib/x86_64-linux-gnu/{name}");
            if !system.tree().join(&place).exists() && !name.starts_with("ld-linux") {
                put(library, place)?;
            }
        }
    }
    Ok(())
}

/// A disk with `taproot` and programs of this machine, as an archive to be unpacked in the system.
pub fn payload(system: &System, scratch: &Scratch, names: &[&str]) -> Result<Disk> {
    let (tree, path) = (scratch.path().join("payload"), scratch.path().join("payload.tar"));
    programs(system, &tree, names)?;
    fs::copy(crate::image::builder(), tree.join("usr/bin/taproot")).context("copying taproot")?;
    kit::run(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(&tree).arg("usr"))?;
    Ok(Disk::read_only(&path, "payload"))
}

/// A small disk with these files.
pub fn small_disk(scratch: &Scratch, serial: &str, label: &str, files: &[(PathBuf, &str)]) -> Result<Disk> {
    ensure!(label.len() <= 16, "{label} is too long for ext4");
    let path = scratch.path().join(format!("{serial}.img"));
    ext4(&path, label, 64, files)?;
    Ok(Disk::writable(&path, "raw", serial))
}

/// A disk that is a live medium: nobody can write to it, and it has the system as `live/filesystem.squashfs`.
pub fn medium(system: &System, label: &str) -> Result<Disk> {
    let dir = made(system, "medium", label, |dir| {
        ext4(&dir.join("disk.img"), label, 400, &[(system.squashfs(), "live/filesystem.squashfs")])
    })?;
    Ok(Disk::read_only(&dir.join("disk.img"), "medium0"))
}

/// The small layers over a bottom that says what it sees mounted and powers off: `base.sqsh`, `middle.sqsh`, `top.erofs`.
pub fn tiny(system: &System) -> Result<Vec<(PathBuf, &'static str)>> {
    let small = small(system)?;
    let mut files: Vec<(PathBuf, &str)> = ["middle.sqsh", "top.erofs"].map(|name| (small.join(name), name)).into();
    files.push((crate::plain::image("squashfs")?, "base.sqsh"));
    Ok(files)
}

/// A disk with so many layers and these files: a bottom `base` that says what it sees mounted, and small ones over it, each with a file
/// of its own. The names of the layers, of which the topmost, the first, names the machine.
pub fn many(scratch: &Scratch, count: usize, files: &[(PathBuf, &str)]) -> Result<(Disk, Vec<String>)> {
    const SCRIPT: &str = r#"set -e
        cd "$1"
        mkdir -p l000/etc
        echo hundred >l000/etc/hostname
        for n in $(seq -f %03g 0 $(($2 - 1))); do
            mkdir -p l$n/opt/many
            echo $n >l$n/opt/many/$n
            mksquashfs l$n l$n.sqsh -noappend -quiet -no-progress -processors 1 >/dev/null
        done"#;
    let dir = scratch.path().join(format!("many{count}"));
    fs::create_dir(&dir).context("a directory for layers")?;
    let small = count.saturating_sub(1);
    kit::run(Command::new("bash").args(["-c", SCRIPT, "bash"]).arg(&dir).arg(small.to_string()))?;
    let mut names: Vec<String> = (0..small).map(|n| format!("l{n:03}")).collect();
    let images: Vec<String> = names.iter().map(|name| format!("{name}.sqsh")).collect();
    let mut all: Vec<(PathBuf, &str)> = images.iter().map(|name| (dir.join(name), name.as_str())).collect();
    all.push((crate::plain::image("squashfs")?, "base.sqsh"));
    names.push("base".to_owned());
    Ok((small_disk(scratch, &format!("many{count}"), LABEL, &[&all, files].concat())?, names))
}

/// A file with an ext4 that has these files.
pub fn file(scratch: &Scratch, name: &str, files: &[(PathBuf, &str)]) -> Result<PathBuf> {
    let path = scratch.path().join(name);
    ext4(&path, "inside", 16, files)?;
    Ok(path)
}

/// A pool `zroot` with datasets `root`, which is empty, and `sqsh`, which has the layers of [`tiny`], and a zvol `live` with an
/// ext4 labelled `persistence`, as live-boot's variant for zvols has it: its `persistence.conf` has seven unions. Of `/etc` it
/// has a file from an earlier boot.
pub fn pool(name: &str, system: &System, scratch: &Scratch) -> Result<Disk> {
    made_pool(name, system, scratch, "zroot", "")
}

/// What opens [`encrypted_pool`].
pub const POOL_KEY: &[u8; 32] = b"0123456789abcdef-lay-6789ABCDEF_";

/// The same as a pool `sealed`, all of it encrypted with [`POOL_KEY`].
pub fn encrypted_pool(name: &str, system: &System, scratch: &Scratch) -> Result<Disk> {
    let encrypted = "-O encryption=on -O keyformat=raw -O keylocation=file:///run/key";
    made_pool(&format!("encrypted-{name}"), system, scratch, "sealed", encrypted)
}

fn made_pool(name: &str, system: &System, scratch: &Scratch, pool: &str, options: &str) -> Result<Disk> {
    const SCRIPT: &str = r"set -e
        modprobe ext4
        printf %s KEY >/run/key
        zpool create -f -o ashift=12 OPTIONS -O mountpoint=none -O acltype=posixacl -O xattr=sa zroot /dev/disk/by-id/virtio-lay0-part1
        zfs create -o mountpoint=legacy zroot/root
        zfs create -o mountpoint=legacy zroot/sqsh
        mkdir -p /run/s /run/d
        mount -t ext4 -o ro /dev/disk/by-id/virtio-src0 /run/s
        mount -t zfs zroot/sqsh /run/d
        cp /run/s/*.* /run/d/
        umount /run/d /run/s
        zfs create -V 64M zroot/live
        for i in $(seq 50); do [ -b /dev/zd0 ] && break; sleep 0.2; done
        mkfs.ext4 -q -L persistence /dev/zd0
        mount -t ext4 /dev/zd0 /run/d
        printf '%s union\n' /etc /usr /var /home /root /srv /opt >/run/d/persistence.conf
        mkdir -p /run/d/etc/rw
        echo kept >/run/d/etc/rw/layer
        umount /run/d
        zpool export zroot
        echo done";
    let disk = scratch.blank("lay0", 512 << 20)?;
    kit::run(Command::new("sgdisk").args(["--clear", "--new=1:2048:0"]).arg(&disk.path))?;
    let source = small_disk(scratch, "src0", "SOURCE", &tiny(system)?)?;
    let script = SCRIPT.replace("zroot", pool).replace("OPTIONS", options);
    let script = script.replace("KEY", &String::from_utf8_lossy(POOL_KEY));
    let vm = crate::vm::Vm::helper(&format!("layers-pool-{name}"), system, &script);
    let mut vm = vm.disk(disk.clone()).disk(source).start()?;
    ensure!(vm.script(100)?.contains("done"), "the pool of layers was not made");
    vm.wait_exit(20)?;
    Ok(disk)
}
