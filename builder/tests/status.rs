//! `taproot status` and `taproot doctor` as a user runs them, on made-up systems.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

mod made;

use made::{kernel, module, program};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use taproot::initramfs::archive::Archive;
use taproot_init::image::{CONFIG_PATH, ImageConfig};
use taproot_init::plan::facts::PoolFact;
use taproot_init::report::boot::BootReport;

const VERSION: &str = "6.1.0-test";
const IMAGE: &str = "boot/initramfs-taproot-6.1.0-test.img";
const INIT: &str = "usr/lib/taproot/taproot-init";
const GRUB: &str = "boot/grub/grub.cfg";

/// The beginning of a static program, and what taproot-init is known by.
fn init(more: &str) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20], header[52], header[54]) = (2, 62, 1, 64, 56);
    [&header, CONFIG_PATH.as_bytes(), more.as_bytes()].concat()
}

struct System(tempfile::TempDir);

impl System {
    /// With a kernel, a boot loader and an image that is up to date.
    fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        system.kernel(VERSION, true);
        system.write("etc/hostid", &[1, 2, 3, 4]);
        system.write("etc/key", b"secret");
        let config = "init = \"/usr/lib/taproot/taproot-init\"\nmodules = \"generic\"\nrescue = \"none\"\ncompress = \"zstd:1\"\nadd-files = [\"/etc/key\"]\n";
        system.write("etc/taproot/initramfs.toml", config.as_bytes());
        system.write(INIT, &init(""));
        system.write("proc/sys/kernel/osrelease", format!("{VERSION}\n").as_bytes());
        system.write("proc/cmdline", b"BOOT_IMAGE=/vmlinuz zfs=tank/ROOT/a ro\n");
        system.grub(&format!("/vmlinuz-{VERSION} zfs=tank/ROOT/a ro"), "/initramfs-taproot-6.1.0-test.img");
        system.pack();
        system
    }

    fn grub(&self, linux: &str, initrd: &str) {
        let text = format!("set default=\"0\"\nmenuentry 'Debian' {{\n linux {linux}\n initrd {initrd}\n}}\n");
        self.write(GRUB, text.as_bytes());
    }

    fn kernel(&self, release: &str, zfs: bool) {
        let at = format!("lib/modules/{release}");
        let dep: &[u8] = if zfs { b"updates/zfs.ko:\nkernel/ext4.ko:\n" } else { b"kernel/ext4.ko:\n" };
        self.write(&format!("{at}/updates/zfs.ko"), &module(&format!("vermagic={release} SMP\0version=2.9.9\0")));
        self.write(&format!("{at}/kernel/ext4.ko"), &module(&format!("vermagic={release} SMP\0")));
        self.write(&format!("{at}/modules.dep"), dep);
        for file in ["modules.alias", "modules.softdep", "modules.builtin"] {
            self.write(&format!("{at}/{file}"), b"# as depmod begins\n");
        }
        self.write(&format!("boot/vmlinuz-{release}"), &kernel(&format!("{release} (x) #1")));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
        command.args(args).arg("--root").arg(self.0.path()).output().unwrap()
    }

    fn pack(&self) {
        let output = self.run(&["initramfs", "--quiet", "--kernel", VERSION]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(self.path(IMAGE).exists());
    }

    /// Exit code and answer.
    fn json(&self, command: &str) -> (i32, Value) {
        let output = self.run(&[command, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let doc: Value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(doc["format"], 1);
        (output.status.code().unwrap(), doc)
    }

    /// Exit code, and the codes of what was found.
    fn doctor(&self) -> (i32, Vec<String>) {
        let (exit, doc) = self.json("doctor");
        let findings = doc["findings"].as_array().unwrap().iter();
        (exit, findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect())
    }

    /// State of the one image, why, and the exit code.
    fn state(&self) -> (String, String, i32) {
        let (exit, doc) = self.json("status");
        let images = doc["images"].as_array().unwrap();
        assert_eq!(images.len(), 1, "{doc}");
        (images[0]["state"].as_str().unwrap().to_owned(), images[0]["why"].to_string(), exit)
    }

    fn finds(&self, code: &str, exit: i32) {
        let (found, codes) = self.doctor();
        assert!(codes.iter().any(|known| known == code), "{code} is not in {codes:?}");
        assert_eq!(found, exit, "{code}: {codes:?}");
    }
}

#[test]
fn a_system_where_all_is_well() {
    let system = System::new();
    let (exit, doc) = system.json("status");
    assert_eq!((exit, doc["images"][0]["state"].as_str()), (0, Some("ok")), "{doc}");
    assert_eq!((&doc["images"][0]["next"], &doc["images"][0]["running"]), (&Value::Bool(true), &Value::Bool(true)));
    let next = &doc["next"];
    assert_eq!(
        (&next["kernel"], &next["loader"], &next["root"]),
        (&VERSION.into(), &"GRUB".into(), &"tank/ROOT/a".into())
    );
    assert_eq!(next["root_from"], "command line: zfs=tank/ROOT/a");
    assert_eq!(system.doctor(), (0, vec![]));
    let text = String::from_utf8(system.run(&["status"]).stdout).unwrap();
    assert!(text.starts_with("KERNEL ") && text.contains(&format!("> {VERSION} (running)")), "{text}");
    assert!(text.contains("next boot: kernel 6.1.0-test, image /boot/initramfs-taproot-6.1.0-test.img"), "{text}");
    let text = String::from_utf8(system.run(&["doctor"]).stdout).unwrap();
    assert!(text.starts_with("OK: "), "{text}");
    // The list of what went in.
    let image = system.path(IMAGE);
    let output =
        Command::new(env!("CARGO_BIN_EXE_taproot")).args(["inspect", image.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("kernel 6.1.0-test, packed by taproot ") && text.contains("made of file /etc/key ("),
        "{text}"
    );
}

#[test]
fn what_makes_an_image_stale() {
    let zfs = format!("lib/modules/{VERSION}/updates/zfs.ko");
    let new = module(&format!("vermagic={VERSION} SMP\0version=3\0"));
    let config = b"init = \"/usr/lib/taproot/taproot-init\"\nmodules = \"generic\"\nrescue = \"none\"\n";
    for (path, bytes, why, code, exit) in [
        (zfs.as_str(), new.as_slice(), "modules changed since: zfs", "modules-changed", 1),
        ("etc/hostid", &[1, 2, 3, 5], "its hostid is 04030201, that of /etc/hostid is 05030201", "hostid-differs", 1),
        ("etc/key", b"other", "/etc/key", "files-changed", 1),
        (INIT, &init("new"), "its taproot-init is not", "init-changed", 0),
        ("etc/taproot/initramfs.toml", config, "/etc/taproot/initramfs.toml", "configuration-changed", 0),
        (
            "etc/modprobe.d/zfs.conf",
            b"options zfs zfs_arc_max=1\n",
            "/etc/modprobe.d/zfs.conf (new)",
            "configuration-changed",
            0,
        ),
    ] {
        let system = System::new();
        system.write(path, bytes);
        let (state, reasons, status) = system.state();
        assert_eq!((state.as_str(), status), ("stale", 3), "{path}: {reasons}");
        assert!(reasons.contains(why), "{why} is not in {reasons}");
        system.finds(code, exit);
        system.pack();
        assert_eq!(system.state().0, "ok", "{path}: packed again");
    }
}

#[test]
fn an_image_of_an_older_version() {
    let system = System::new();
    let mut archive = Archive::default();
    archive.program("/init", init(""), "init").unwrap();
    archive.file("/etc/hostid", vec![1, 2, 3, 4], "hostid").unwrap();
    let config = ImageConfig { kernel: VERSION.into(), packer: "taproot 0.0.9".into(), ..ImageConfig::default() };
    archive.file(CONFIG_PATH, config.render().into_bytes(), "configuration").unwrap();
    system.write(IMAGE, &archive.into_cpio(0, Vec::new()).unwrap());
    let (state, why, exit) = system.state();
    assert_eq!((state.as_str(), exit), ("unknown", 0));
    assert!(why.contains("older version (taproot 0.0.9)"), "{why}");
    system.finds("image-unrecorded", 0);
    // Its times are all that there is.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    File::options().write(true).open(system.path(IMAGE)).unwrap().set_modified(old).unwrap();
    assert!(system.state().1.contains("the zfs module is newer"));
    system.finds("modules-changed", 1);
}

#[test]
fn entries_that_lead_nowhere() {
    let system = System::new();
    let (linux, image) = (format!("/vmlinuz-{VERSION} zfs=tank/ROOT/a"), "/initramfs-taproot-6.1.0-test.img");
    system.grub(&linux, "/gone.img");
    system.finds("entry-image-missing", 2);
    system.grub("/vmlinuz-gone zfs=tank/ROOT/a", image);
    system.finds("entry-kernel-missing", 2);
    system.grub(&linux, "");
    system.finds("entry-without-image", 2);
    system.kernel("6.9.0-other", true);
    system.grub("/vmlinuz-6.9.0-other zfs=tank/ROOT/a", image);
    system.finds("image-of-other-kernel", 2);
    fs::remove_dir_all(system.path("lib/modules/6.9.0-other")).unwrap();
    system.finds("kernel-without-modules", 2);
}

/// None of them stops it, and what they are is said.
#[test]
fn hostile_files() {
    let system = System::new();
    let image = system.path(IMAGE);
    let damaged: [(&str, &dyn Fn()); 3] = [
        ("found a FIFO", &|| nix::unistd::mkfifo(&image, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("expected at most", &|| File::create(&image).unwrap().set_len(10 << 30).unwrap()),
        ("not an initramfs", &|| fs::write(&image, "hello").unwrap()),
    ];
    for (why, make) in damaged {
        fs::remove_file(&image).unwrap();
        make();
        let (exit, doc) = system.json("status");
        assert_eq!((exit, doc["images"][0]["state"].as_str()), (3, Some("damaged")), "{doc}");
        assert!(doc["images"][0]["why"].to_string().contains(why), "{doc}");
    }
    system.finds("image-damaged", 2);
    fs::remove_file(&image).unwrap();
    nix::unistd::mkfifo(&image, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(system.doctor().0, 2);
    let system = System::new();
    let mut noise = 1_u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    })
    .take(100_000)
    .collect();
    for path in [GRUB, "boot/grub/grubenv", "etc/fstab", "proc/cmdline", "proc/self/mounts", "run/taproot/boot.json"] {
        system.write(path, &garbage);
    }
    system.finds("loader-unknown", 3);
    for path in [GRUB, "etc/hostid", "etc/modprobe.d/x.conf", "run/taproot/boot.json"] {
        let _ = fs::remove_file(system.path(path));
        fs::create_dir_all(system.path(path).parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&system.path(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let (exit, codes) = system.doctor();
    assert!(exit == 1 && codes.iter().any(|code| code == "would-not-pack"), "{exit} {codes:?}");
}

#[test]
fn what_the_next_boot_would_come_to() {
    let system = System::new();
    let pool = PoolFact { bootfs: Some("tank/ROOT/b".into()), ..PoolFact::named("tank", 7) };
    let report = BootReport { version: "0.1.0".into(), pools: vec![pool], ..BootReport::default() };
    system.write("run/taproot/boot.json", report.to_json().as_bytes());
    let (linux, image) = (format!("/vmlinuz-{VERSION}"), "/initramfs-taproot-6.1.0-test.img");
    system.grub(&format!("{linux} root=zfs:AUTO"), image);
    let (_, doc) = system.json("status");
    assert_eq!(doc["next"]["root"], "tank/ROOT/b", "{doc}");
    assert_eq!(doc["next"]["root_from"], "bootfs of pool tank; command line: root=zfs:AUTO");
    assert_eq!(system.doctor().0, 0);
    system.grub(&format!("{linux} zfs=gone/ROOT/a"), image);
    system.finds("would-not-boot", 2);
    let (exit, doc) = system.json("status");
    assert_eq!((exit, doc["next"]["verdict"]["failure_code"].as_str()), (0, Some("no-pool")), "{doc}");
}

#[test]
fn a_newer_kernel_without_zfs() {
    let system = System::new();
    system.kernel("6.10.0-test", false);
    let (exit, doc) = system.json("status");
    let states: Vec<&str> =
        doc["images"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!((exit, states), (3, vec!["missing", "ok"]), "the newest comes first: {doc}");
    let (_, codes) = system.doctor();
    assert_eq!(codes, ["image-missing", "zfs-missing"]);
}

#[test]
fn the_machine_around_it() {
    let system = System::new();
    system.write("etc/fstab", b"UUID=1 /boot ext4 defaults 0 0\n");
    system.write("proc/self/mounts", b"tank/ROOT/a / zfs rw 0 0\n");
    system.write("proc/spl/kstat/zfs/tank/state", b"SUSPENDED\n");
    fs::create_dir_all(system.path("dev/disk/by-uuid")).unwrap();
    let image = "/initramfs-taproot-6.1.0-test.img";
    system.grub(&format!("/vmlinuz-{VERSION} zfs=tank/ROOT/a resume=UUID=2"), image);
    system.finds("resume-missing", 2);
    symlink("../../sda2", system.path("dev/disk/by-uuid/2")).unwrap();
    system.write("dev/sda2", b"");
    for code in ["boot-unmounted", "pool-suspended"] {
        system.finds(code, 1);
    }
    system.write("proc/self/mounts", b"tank/ROOT/a / zfs rw 0 0\n/dev/sda1 /boot ext4 rw 0 0\n");
    system.write("proc/spl/kstat/zfs/tank/state", b"ONLINE\n");
    assert_eq!(system.doctor(), (0, vec![]));
    let behind = "var/lib/taproot/esp-behind.json";
    system.write(behind, br#"{"format":1,"removed":{"/boot/efi-2":["6.0.0-test"]}}"#);
    system.finds("loader-partition-behind", 1);
    system.write(behind, b"cut off");
    assert_eq!(system.doctor(), (3, vec![]), "not known is not well");
}

#[test]
fn systemd_boot_and_a_unified_kernel_image() {
    let system = System::new();
    fs::remove_dir_all(system.path("boot/grub")).unwrap();
    system.finds("loader-unknown", 0);
    system.write("efi/loader/loader.conf", b"default a*\n");
    system.write("efi/loader/entries/a.conf", b"title A\nlinux /k\ninitrd /i\noptions zfs=tank/ROOT/c\n");
    system.write("efi/k", &kernel(VERSION));
    fs::rename(system.path(IMAGE), system.path("efi/i")).unwrap();
    let (exit, doc) = system.json("status");
    assert_eq!((exit, doc["next"]["root"].as_str()), (0, Some("tank/ROOT/c")), "{doc}");
    assert_eq!(doc["images"][0]["image"], "/efi/i");

    let initramfs = fs::read(system.path("efi/i")).unwrap();
    system.write(
        "efi/EFI/Linux/u.efi",
        &program(&[(".linux", &kernel(VERSION)), (".initrd", &initramfs), (".cmdline", b"zfs=tank/ROOT/u")]),
    );
    system.write("efi/loader/loader.conf", b"default u.efi\n");
    let (exit, doc) = system.json("status");
    assert_eq!((exit, doc["next"]["root"].as_str()), (0, Some("tank/ROOT/u")), "{doc}");
    assert_eq!(
        (doc["next"]["kernel"].as_str(), doc["next"]["image"].as_str()),
        (Some(VERSION), Some("/efi/EFI/Linux/u.efi"))
    );
}

/// On Arch image and kernel have the name of their package.
#[test]
fn an_image_that_is_named_by_its_package_is_its_kernels() {
    let system = System::new();
    fs::remove_file(system.0.path().join("boot/initramfs-taproot-6.1.0-test.img")).unwrap();
    fs::remove_file(system.0.path().join("etc/taproot/initramfs.toml")).unwrap();
    system.write(&format!("lib/modules/{VERSION}/pkgbase"), b"linux\n");
    system.write("boot/initramfs-linux.img", b"of mkinitcpio");
    system.grub("/vmlinuz-linux zfs=tank/ROOT/a ro", "/initramfs-linux.img");
    let (_, doc) = system.json("status");
    let rows: Vec<_> = doc["images"].as_array().unwrap().iter().map(|row| (&row["kernel"], &row["image"])).collect();
    assert_eq!(rows, [(&VERSION.into(), &"/boot/initramfs-linux.img".into())], "{doc}");
    let (_, codes) = system.doctor();
    assert!(!codes.iter().any(|code| code == "image-missing" || code == "kernel-without-modules"), "{codes:?}");
}

#[test]
fn a_boot_loader_whose_files_cannot_be_read_is_there() {
    let system = System::new();
    let path = system.0.path().join(GRUB);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (_, doc) = system.json("status");
    let why = doc["next"]["unknown"].as_str().unwrap();
    assert!(why.ends_with("grub.cfg: expected a regular file, found a FIFO"), "{why}");
}

#[test]
fn exit_codes_of_a_command_that_could_not() {
    let code = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_taproot")).args(args).output().unwrap().status.code();
    assert_eq!(code(&["doctor", "--nonsense"]), Some(3), "2 would be an alarm");
    assert_eq!(code(&["doctor", "--root", "/nonexistent"]), Some(3));
    assert_eq!(code(&["status", "--nonsense"]), Some(2));
    assert_eq!(code(&["status", "--root", "/nonexistent"]), Some(1));
    assert_eq!(code(&["doctor", "--help"]), Some(0));
    // What is no system is nothing that is known to boot.
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = tempfile::tempdir().unwrap();
    for (root, doctor, status) in [(file.path(), 3, 1), (empty.path(), 3, 3)] {
        let root = root.to_str().unwrap();
        assert_eq!(code(&["doctor", "--root", root]), Some(doctor), "{root}");
        assert_eq!(code(&["status", "--root", root]), Some(status), "{root}");
    }
}
