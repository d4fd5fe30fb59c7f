//! Disks that `taproot image` makes of the kit's trees, as a user who may nothing: their firmware boots them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use taproot_tests::image::{boot_binary, builder};
use taproot_tests::kit;
use taproot_tests::scenario;
use taproot_tests::vm::{Bus, Disk, Running, Vm};

/// Nobody: without capabilities, and without the right to get any.
const NOBODY: u32 = 65_534;

/// Nobody has set a password in the kit's trees.
const CONFIG: &str = "[system]\nallow-empty-root = true\n";

/// What is asked in the first boot: the copy is a machine of its own, and what refers to its disk says so.
const FIRST: &str = r"
set -e
journalctl -b -o cat -u taproot-first-boot -u taproot-grow --no-pager
[ ! -e /etc/taproot/first-boot ]
[ $(wc -c </etc/machine-id) = 33 ]
[ $(zpool get -H -o value guid zroot) != @GUID@ ]
[ $(findmnt -no SOURCE /) = zroot/ROOT/default ]
[ $(findmnt -no SOURCE /home) = zroot/home ]
[ $(findmnt -no FSTYPE /efi) = vfat ]
mkdir -p /run/before
mount -t zfs zroot/ROOT/default@installed /run/before
for device in $(findmnt -no SOURCE /efi) $(swapon --show=NAME --noheadings); do
    grep -q ^UUID=$(blkid -c /dev/null -s UUID -o value $device) /etc/fstab
    ! grep -q ^UUID=$(blkid -c /dev/null -s UUID -o value $device) /run/before/etc/fstab
done
[ $(swapon --show=NAME --noheadings | wc -l) = $(grep -c swap /etc/fstab) ]
";

const END: &str = r"
zpool scrub -w zroot
zpool status zroot
zpool status zroot | grep 'with 0 errors'
zpool status zroot | grep 'No known data errors'
systemctl poweroff --no-block
";

/// A directory that belongs to nobody, with the programs in it.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("taproot-image.").tempdir_in("/var/tmp").unwrap();
        for program in [builder(), boot_binary()] {
            let copy = dir.path().join(program.file_name().unwrap());
            fs::copy(program, &copy).unwrap();
            fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(dir.path().join("box.toml"), CONFIG).unwrap();
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes an image of the tree, piped in, with words of the console; what it says as JSON.
    fn make(&self, tree: &Path, console: &str, options: &[&str]) -> Value {
        let mut tar = Command::new("tar");
        tar.args(["--one-file-system", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name"]);
        tar.args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "-cf", "-", "-C"]).arg(tree).arg(".");
        let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
        let mut image = Command::new("setpriv");
        let nobody = NOBODY.to_string();
        image.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]);
        image.args(["--inh-caps=-all"]).arg(self.path("taproot")).args(["image", "--tar", "-", "--json"]);
        image.args(["--cmdline", &format!("zfs=zroot {console}"), "-c", "box.toml"]).args(options);
        image.current_dir(self.0.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        image.stdin(tar.stdout.take().unwrap()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let output = image.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(tar.wait().unwrap().success());
        let left: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn disk(&self, name: &str, format: &'static str) -> Disk {
        Disk { path: self.path(name), format, serial: "box".into(), bus: Bus::Virtio, read_only: false }
    }
}

/// Boots it and has a script run.
fn boot(vm: Vm, script: &str) -> Running {
    let vm = vm.memory(1536).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(180).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    assert_eq!(report.json.as_ref().unwrap()["root"], "zroot/ROOT/default");
    vm
}

/// The first boot.
fn first_boot(vm: Vm, said: &Value) {
    let script = [FIRST, END].concat().replace("@GUID@", said["guid"].as_str().unwrap());
    let mut vm = boot(vm, &script);
    let said = vm.script(400).unwrap();
    vm.wait_exit(120).unwrap();
    println!("{said}");
}

/// The partitions are what the field's own tools take them for.
fn check_disk(raw: &Path, esp: u64) {
    let said = kit::run(Command::new("sgdisk").arg("-v").arg(raw)).unwrap();
    assert!(said.contains("No problems found"), "{said}");
    check_fat(raw, esp, 512 << 20);
}

fn check_fat(raw: &Path, start: u64, size: u64) {
    let mut file = File::open(raw).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let esp = raw.with_extension("esp");
    std::io::copy(&mut file.take(size), &mut File::create(&esp).unwrap()).unwrap();
    kit::run(Command::new("fsck.fat").args(["-n", "-V"]).arg(&esp)).unwrap();
    fs::remove_file(esp).unwrap();
}

const CONSOLE: &str = "console=ttyS0 no_timer_check taproot-test.report";

#[test]
fn grub_boots_by_bios_from_the_boot_loaders_partition() {
    scenario::run(kit::SYSTEMS[0], |system| {
        let room = Room::new();
        let options = ["--raw", "box.raw", "--loader", "grub", "--size", "4G", "--verify"];
        let said = room.make(&system.tree(), CONSOLE, &options);
        assert_eq!(said["kernel"], system.kernel);
        check_disk(&room.path("box.raw"), 2 << 20);
        first_boot(Vm::from_disk("image-grub", system, room.disk("box.raw", "raw")), &said);
    });
}
