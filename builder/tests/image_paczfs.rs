//! A configuration of paczfs, converted, and made from a repository by pacstrap: data sets, snapshots, holds and clones are those of paczfs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)] // a test stops at the first surprise

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, dead_code, reason = "public where the scenarios use it")]
mod account;
mod made;
mod place;
mod repository;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use made::{kernel, module};
use place::{ESP, MIB, Pool, RELEASE, whole};
use repository::{finished, package, possible, temporary};
use taproot::pool::{Seen, contents, outline};

const CONFIG: &str = r#"
POOL_NAME=tank
IMAGE_FILE='box.raw'
IMAGE_SIZE=512M
SWAP_SIZE=0
LOCALES=('C.UTF-8 UTF-8')
TRUSTED_KEYS=()
BOOTABLE_PKGS=(kernel)
WORKSTATION_PKGS=(tool)

copy-ssh-keys() {
    mkdir -p "${CHROOT_PATH}/root/.ssh"
    echo "ssh-ed25519 AAAA me" > "${CHROOT_PATH}/root/.ssh/authorized_keys"
}
install-grub() { echo "of ${POOL_NAME}" > "${CHROOT_PATH}/etc/bootable"; }
snapshot-workstation() { rm "${CHROOT_PATH}/etc/bootable"; }
"#;

/// What paczfs calls base, a kernel that could boot, and something more.
fn packages(dir: &Path) {
    let base = "groups=(base)\npackage() { install -d \"$pkgdir/usr/bin\" \"$pkgdir/etc\" \"$pkgdir\"/{root,home,srv}; ln -s usr/lib \"$pkgdir/lib\"; \
                install -d \"$pkgdir/usr/lib/systemd/boot/efi\" \"$pkgdir/usr/share/zoneinfo\"; echo UTC >\"$pkgdir/usr/share/zoneinfo/UTC\"; \
                echo 'MZ loader' >\"$pkgdir/usr/lib/systemd/boot/efi/systemd-bootx64.efi\"; echo 'MZ stub' >\"$pkgdir/usr/lib/systemd/boot/efi/linuxx64.efi.stub\"; \
                echo 'ID=arch' >\"$pkgdir/etc/os-release\"; echo 'root::1::::::' >\"$pkgdir/etc/shadow\"; echo 'root:x:0:0::/root:/bin/sh' >\"$pkgdir/etc/passwd\"; \
                head -c 3000000 /dev/urandom >\"$pkgdir/usr/lib/large\"; }\n";
    package(dir, "filesystem", base, None);
    package(dir, "linux", "groups=(base)\npackage() { install -d \"$pkgdir/never\"; }\n", None);
    let place = dir.join("files");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("vmlinuz"), kernel(RELEASE)).unwrap();
    fs::write(place.join("zfs.ko"), module(&format!("vermagic={RELEASE} SMP\0version=2.9.9\0"))).unwrap();
    let (at, release) = (place.display(), RELEASE);
    let text = format!(
        "package() {{ local m=\"$pkgdir/usr/lib/modules/{release}\"; install -Dm644 {at}/vmlinuz \"$pkgdir/boot/vmlinuz-{release}\"; \
         install -Dm644 {at}/zfs.ko \"$m/updates/zfs.ko\"; echo updates/zfs.ko: >\"$m/modules.dep\"; for f in alias softdep builtin; do echo \"# none\" >\"$m/modules.$f\"; done; }}\n"
    );
    package(dir, "kernel", &text, None);
    package(dir, "tool", "package() { install -d \"$pkgdir/srv/tool\"; }\n", None);
}

fn set<'a>(all: &'a [Seen], name: &str) -> &'a Seen {
    assert!(all.iter().any(|set| set.name == name), "no {name}: {all:#?}");
    all.iter().find(|set| set.name == name).unwrap()
}

#[test]
fn the_pool_is_the_one_of_paczfs() {
    if !possible(&["pacman", "pacstrap", "makepkg", "repo-add", "bsdtar", "fakeroot", "setpriv"]) {
        return;
    }
    let dir = temporary();
    packages(dir.path());
    let config = finished(dir.path());
    fs::write(dir.path().join("paczfs.conf"), CONFIG).unwrap();
    // By this the test program counts as taproot-init.
    std::hint::black_box(taproot_init::image::CONFIG_PATH);
    let image = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
        command.current_dir(dir.path()).arg("image").args(options).output().unwrap()
    };
    whole(&image(&["--from-paczfs", "paczfs.conf", "--to", "new"]));
    let own = std::env::current_exe().unwrap();
    let pacman = format!("source.pacstrap.config={}", config.display());
    let output = image(&[
        "-c",
        "new/image.toml",
        "--set",
        &pacman,
        "--init",
        own.to_str().unwrap(),
        "--loader",
        "bls",
        "--esp",
        "64M",
    ]);
    whole(&output);
    let pool = Pool(File::open(dir.path().join("box.raw")).unwrap(), MIB + ESP);
    let all = outline(&pool, pool.size()).unwrap();
    layout(&all);
    states(&pool);
    let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains(dir.path().to_str().unwrap()), "nothing stays mounted");
}

/// As the documentation of paczfs has it.
fn layout(all: &[Seen]) {
    let plain = [
        "",
        "data",
        "data/home",
        "data/machines",
        "data/postgres",
        "data/root",
        "data/srv",
        "system",
        "system/default",
    ];
    let clones = [
        ("data/machines/miniroot", "miniroot"),
        ("system/bootable", "bootable"),
        ("system/workstation", "workstation"),
    ];
    let mut wanted: Vec<String> = plain.into_iter().chain(clones.map(|(name, _)| name)).map(str::to_owned).collect();
    for name in plain {
        for state in ["miniroot", "bootable", "workstation"] {
            wanted.push(format!("{name}@{state}"));
            assert_eq!(set(all, &format!("{name}@{state}")).holds, ["io.varasys.paczfs"], "{name}@{state}");
        }
    }
    wanted.sort();
    let names: Vec<&str> = all.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, wanted);
    for (name, state) in clones {
        assert_eq!(set(all, name).origin.as_deref(), Some(format!("system/default@{state}").as_str()));
    }
    assert_eq!(set(all, "data/machines/miniroot").properties["readonly"], "1");
    for (name, mountpoint) in [
        ("system", "legacy"),
        ("data", "none"),
        ("data/root", "/root"),
        ("data/home", "/home"),
        ("data/srv", "/srv"),
        ("data/machines", "/var/lib/machines"),
        ("data/postgres", "/var/lib/postgres"),
    ] {
        assert_eq!(set(all, name).properties["mountpoint"], mountpoint, "{name}");
    }
    let postgres = &set(all, "data/postgres").properties;
    // As the kernel counts them: metadata alone, and throughput.
    assert_eq!([&postgres["recordsize"], &postgres["primarycache"], &postgres["logbias"]], ["8192", "1", "1"]);
    let booted: Vec<&str> = all.iter().filter(|set| set.bootfs).map(|set| set.name.as_str()).collect();
    assert_eq!(booted, ["system/default"]);
}

/// Each state has what it had, and functions ran when they did.
fn states(pool: &Pool) {
    let tree = |name: &str| contents(pool, pool.size(), name, &|path| !path.contains("taproot")).unwrap();
    let [mini, bootable, workstation] =
        ["miniroot", "bootable", "workstation"].map(|state| tree(&format!("system/default@{state}")));
    let kernel = format!("boot/vmlinuz-{RELEASE}");
    assert!(!mini.contains_key(&kernel) && bootable.contains_key(&kernel) && workstation.contains_key(&kernel));
    assert!(mini.values().all(|content| content != b"never") && !mini.contains_key("never"), "linux is not installed");
    assert_eq!(mini["usr/lib/large"], workstation["usr/lib/large"]);
    assert_eq!(bootable["etc/bootable"], b"of tank\n");
    assert!(!mini.contains_key("etc/bootable") && !workstation.contains_key("etc/bootable"));
    assert!(!tree("data/srv@bootable").contains_key("tool") && tree("data/srv").contains_key("tool"));
    for state in ["@miniroot", "@workstation", ""] {
        let keys = &tree(&format!("data/root{state}"))[".ssh/authorized_keys"];
        assert_eq!(keys, b"ssh-ed25519 AAAA me\n", "{state}");
    }
    assert_eq!(mini["etc/machine-id"], b"");
    assert_eq!(tree("system/default"), workstation);
    assert_eq!(tree("data/machines/miniroot"), mini);
}
