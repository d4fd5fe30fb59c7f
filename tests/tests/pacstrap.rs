//! Systems that pacstrap installs from a repository made of the kit's tree: as an image that boots, and as what a configuration of paczfs
//! asks for. Their packages, kernel and zfs are Debian's; who installs them is pacman.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot_tests::image::{boot_binary, builder};
use taproot_tests::kit::{self, System};
use taproot_tests::scenario;
use taproot_tests::vm::{Disk, Vm};

const CONSOLE: &str = "console=ttyS0 no_timer_check taproot-test.report";

/// Makes packages of the tree `$1` in `$2`: base without kernels and modules, one of kernel `$3`, one of its zfs module; and `extra`.
const PACKAGES: &str = r#"
set -e
tree=$1 repo=$2 kernel=$3
mkdir "$repo" "$repo/meta"
say() { # NAME
    printf 'pkgname = %s\npkgbase = %s\npkgver = 1-1\npkgdesc = x\nbuilddate = 1\npackager = x\nsize = 1\narch = any\n' "$1" "$1" >"$repo/meta/.PKGINFO"
    [ "$1" != base ] || echo 'group = base' >>"$repo/meta/.PKGINFO"
}
pack() { # NAME TAR-WORDS...
    say "$1"
    name=$1
    shift
    tar --numeric-owner --xattrs --xattrs-include='*' --format=posix -cf "$repo/$name-1-1-any.pkg.tar" -C "$repo/meta" .PKGINFO -C "$tree" "$@"
}
cd "$tree"
pack base --exclude='boot/*' --exclude="usr/lib/modules/*" --exclude='dev/*' --exclude='proc/*' --exclude='sys/*' --exclude='run/*' --exclude='tmp/*' $(ls -A)
modules=usr/lib/modules/$kernel
zfs=$(find "$modules" -name 'zfs.ko*' -o -name 'spl.ko*')
pack linux --exclude='zfs.ko*' --exclude='spl.ko*' "boot/vmlinuz-$kernel" "boot/config-$kernel" "$modules"
pack zfs $zfs
mkdir -p "$repo/extra/srv"
echo more >"$repo/extra/srv/extra"
tree=$repo/extra
pack extra srv
cd "$repo"
repo-add -q core.db.tar.gz ./*.pkg.tar >&2
printf '[options]\nArchitecture = x86_64\nSigLevel = Optional TrustAll\n[core]\nServer = file://%s\n' "$repo" >pacman.conf
mkdir cache
"#;

/// A directory with the repository.
struct Room(tempfile::TempDir);

impl Room {
    fn new(system: &System) -> Self {
        let dir = tempfile::Builder::new().prefix("taproot-pacstrap.").tempdir_in("/var/tmp").unwrap();
        let mut make = Command::new("bash");
        make.args(["-c", PACKAGES, "bash"]).arg(system.tree()).arg(dir.path().join("repo")).arg(&system.kernel);
        kit::run(&mut make).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What every configuration here has besides.
    fn site(&self) -> String {
        format!(
            "[source.pacstrap]\nconfig = \"{}\"\n[packages]\ncache = \"{}\"\n[system]\nallow-empty-root = true\n[boot]\ncmdline = \"zfs=zroot {CONSOLE}\"\ninit = \"{}\"\n[output]\nqcow2 = \"box.qcow2\"\n",
            self.path("repo/pacman.conf").display(),
            self.path("repo/cache").display(),
            boot_binary().display()
        )
    }

    fn image(&self, options: &[&str]) -> String {
        let mut image = Command::new(builder());
        kit::run(image.arg("image").args(options).current_dir(self.0.path())).unwrap()
    }

    /// Boots it by UEFI, has a script run, and ends it.
    fn boot(&self, name: &str, system: &System, root: &str, script: &str) {
        let disk = Disk::writable(&self.path("box.qcow2"), "qcow2", "box");
        let script = format!(
            "set -ex\n{script}\nzpool scrub -w zroot\nzpool status zroot | grep 'No known data errors'\nsystemctl poweroff --no-block\n"
        );
        let vm = Vm::from_disk(name, system, disk).uefi().memory(1536).file("opt/taproot/script", script.as_bytes());
        let mut vm = vm.start().unwrap();
        let report = vm.report(240).unwrap();
        assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
        assert_eq!(report.json.as_ref().unwrap()["root"], root);
        println!("{}", vm.script(300).unwrap());
        vm.wait_exit(120).unwrap();
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
#[ignore = "on demand: make test-all"]
fn what_pacstrap_installs_boots() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new(system);
        write(&room.path("site.toml"), &room.site());
        let packages = "[source.pacstrap]\npackages = [\"base\", \"linux\", \"zfs\"]\n[disk]\nsize = \"4G\"\n";
        write(&room.path("box.toml"), packages);
        room.image(&["-c", "site.toml", "-c", "box.toml", "--verify"]);
        let script = "[ -d /var/lib/pacman/local/base-1-1 ]\n[ $(findmnt -no SOURCE /home) = zroot/home ]\n[ ! -e /etc/taproot/first-boot ]\n[ $(uname -r) = KERNEL ]";
        room.boot("pacstrap", system, "zroot/ROOT/default", &script.replace("KERNEL", &system.kernel));
    });
}

const PACZFS: &str = r#"
CONFIG_VERSION='v0.0.1'
IMAGE_FILE='box-${SUFFIX}.img'
IMAGE_SIZE=6G
SWAP_SIZE=64M
BASE_EXCLUDE_PKGS=()
TRUSTED_KEYS=()
LOCALES=('C.UTF-8 UTF-8')
BOOTABLE_PKGS=(linux zfs)
WORKSTATION_PKGS=(extra)

prepare-users() {
    echo "of miniroot" > "${CHROOT_PATH}/etc/of-miniroot"
    arch-chroot "${CHROOT_PATH}" useradd --create-home ann
}
snapshot-workstation() { rm "${CHROOT_PATH}/etc/of-miniroot"; }
"#;

/// Data sets, snapshots, holds and clones as paczfs documents them.
const LAYOUT: &str = r#"
data="data data/home data/machines data/postgres data/root data/srv"
for set in "" $(printf '/%s ' $data system system/default); do
    for state in miniroot bootable workstation; do
        zfs holds -H "zroot$set@$state" | grep -q io.varasys.paczfs
    done
done
for clone in data/machines/miniroot:miniroot system/bootable:bootable system/workstation:workstation; do
    [ "$(zfs get -Ho value origin "zroot/${clone%:*}")" = "zroot/system/default@${clone#*:}" ]
done
[ "$(zfs list -Ho name -r -t filesystem zroot | wc -l)" = 12 ]
[ "$(zfs list -Ho name -r -t snapshot zroot | wc -l)" = 27 ]
[ "$(zpool get -Ho value bootfs zroot)" = zroot/system/default ]
[ "$(zfs get -Ho value readonly zroot/data/machines/miniroot)" = on ]
[ "$(zfs get -Ho value recordsize,primarycache,logbias zroot/data/postgres | tr '\n' ' ')" = "8K metadata throughput " ]
[ "$(findmnt -no SOURCE /srv)" = zroot/data/srv ]
[ "$(cat /srv/extra)" = more ]
id ann
[ ! -e /etc/of-miniroot ]
mkdir /run/mini
mount -t zfs zroot/system/default@miniroot /run/mini
[ "$(cat /run/mini/etc/of-miniroot)" = "of miniroot" ]
[ ! -e /run/mini/usr/lib/modules/KERNEL/modules.dep ]
umount /run/mini
zfs diff zroot/system/default@miniroot zroot/system/default@bootable | grep -q vmlinuz-KERNEL
if zfs destroy zroot/system/default@miniroot; then exit 1; fi
zfs promote zroot/system/workstation
zfs promote zroot/system/default
"#;

#[test]
fn what_a_configuration_of_paczfs_asks_for_boots() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new(system);
        write(&room.path("site.toml"), &room.site());
        write(&room.path("paczfs.conf"), PACZFS);
        room.image(&["--from-paczfs", "paczfs.conf", "--to", "box"]);
        room.image(&["-c", "box/image.toml", "-c", "site.toml", "--verify"]);
        let script = LAYOUT.replace("KERNEL", &system.kernel);
        room.boot("pacstrap-paczfs", system, "zroot/system/default", &script);
    });
}
