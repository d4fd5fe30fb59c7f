//! The installed Debian boots from its pool: the chosen environment, its own mounts, and a pool left as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use taproot_tests::kit::System;
use taproot_tests::scenario::vm;
use taproot_tests::vm::{Mount, Report, Scratch, Vm};
use taproot_tests::{image, scenarios};

const DISK: &str = "/dev/disk/by-id/virtio-tank0-part1";

/// What the booted system mounted itself, of a pool that it imported: not what is of the other system in it.
const OWN: (&str, &str) = ("/data/more", "more/data");

/// What the booted system says of what it left out; then `zfs mount -a` by hand, to show what that would have come to.
const FIRST: &str = "journalctl -b -u zfs-mount -o cat | sed 's/^/@@JOURNAL /'\n\
    zpool set bootfs=tank/ROOT/be2 tank\n\
    zfs mount -a\n\
    sed -n '/ zfs /s/^/@@STOCK /p' /proc/self/mounts\n\
    systemctl --no-block poweroff\n";
/// The units that there are, and those that OpenZFS's generator alone makes.
const SECOND: &str = "mkdir /run/g\n\
    /usr/lib/systemd/system-generators/zfs-mount-generator /run/g /run/g /run/g\n\
    for unit in /run/systemd/generator/*.mount; do echo \"@@UNIT ${unit##*/} $(sed -n s/^What=//p \"$unit\")\"; done\n\
    for unit in /run/g/*.mount; do echo \"@@STOCK-UNIT ${unit##*/} $(sed -n s/^What=//p \"$unit\")\"; done\n";

/// What is mounted of pools, sorted by where: all of it, each once.
fn of_pools(mounts: &[Mount]) -> Vec<(&str, &str)> {
    let mut list: Vec<(&str, &str)> =
        mounts.iter().filter(|m| m.kind == "zfs").map(|m| (m.point.as_str(), m.source.as_str())).collect();
    list.sort_unstable();
    list
}

/// Everything that has to be true of a booted environment.
fn check(report: &Report, environment: &str) {
    let root = format!("tank/ROOT/{environment}");
    assert_eq!(report.hostname(), environment);
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    let [opt, log, only] = ["opt", "log", "only"].map(|name| format!("{root}/{name}"));
    let own_place = format!("/only-{environment}");
    let mut expected = vec![
        ("/", root.as_str()),
        // Outside of the root's subtree.
        ("/home", "tank/home"),
        (&own_place, &only),
        ("/opt", &opt),
        // By fstab.
        ("/srv", "tank/srv"),
        ("/var/log", &log),
    ];
    // Only the selected root's fstab counts.
    if environment == "be2" {
        expected.push(("/srv-be2", "tank/srv-be2"));
    }
    expected.sort_unstable();
    // Before systemd's first unit, and still.
    assert_eq!(of_pools(&report.early_mounts()), expected);
    expected.push(OWN);
    expected.sort_unstable();
    assert_eq!(of_pools(&report.mounts()), expected);
    if environment == "be2" {
        let srv = report.mounts().into_iter().find(|m| m.point == "/srv-be2").unwrap();
        assert!(srv.options.iter().any(|o| o == "noatime"), "fstab's options: {srv:?}");
    }
    assert!(report.zpool().contains(DISK), "zpool status shows other paths:\n{}", report.zpool());
    assert!(report.zpool().contains("errors: No known data errors"));
    check_json(report, &root);
}

/// What the boot says of itself agrees with what was seen.
fn check_json(report: &Report, root: &str) {
    let json = report.json.as_ref().expect("/run/taproot/boot.json");
    assert_eq!(json["root"], root);
    assert_eq!(json["kernel"], report.one("KERNEL"));
    assert_eq!(json["choice"]["pool"], "tank");
    assert!(!json["choice"]["why"].as_str().unwrap().is_empty());
    assert!(json["problems"].as_array().unwrap().is_empty(), "{}", json["problems"]);
    let mounts = json["mounts"].as_array().unwrap();
    assert!(mounts.iter().all(|m| m["error"].is_null()), "{mounts:#?}");
    let targets: Vec<&str> = mounts.iter().map(|m| m["target"].as_str().unwrap()).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable();
    assert_eq!(targets, sorted, "mounted in the order of mount points");
    let after = [
        "/run/systemd/system/zfs-mount.service.d/00-taproot.conf",
        "/run/systemd/system-generators/zfs-mount-generator",
    ];
    assert_eq!(json["after"], serde_json::json!(after));
    let phases = json["phases"].as_array().unwrap();
    for name in ["import", "mount"] {
        assert!(
            phases.iter().any(|p| p["name"] == name && p["ms"].as_f64().unwrap() > 0.0),
            "phase {name}: {phases:#?}"
        );
    }
}

/// An image that holds no program but ours: what boots with it runs nothing else.
fn without_any_other_program(system: &System) -> PathBuf {
    let options = ["--modules", "generic", "--rescue", "none", "--fsck", "none", "--compress", "none"];
    let image = image::cached(system, &options).unwrap();
    let names = image::names(&image).unwrap();
    assert!(names.iter().any(|n| n == "init"), "{names:?}");
    for name in &names {
        let base = name.rsplit('/').next().unwrap_or_default();
        let forbidden =
            ["zpool", "zfs", "udevd", "systemd-udevd", "udevadm", "sh", "bash", "dash", "busybox", "modprobe"];
        assert!(!forbidden.contains(&base) || name.starts_with("sys/"), "{name} is in the image");
        assert!(!base.contains(".so"), "{name}: a library, so there is a program that is not static");
    }
    image
}

scenarios! {
    /// `bootfs` decides; the system that was booted changes it, and that changes the root; the pool can be imported elsewhere
    /// without force. The booted system mounts nothing of the other environment, with zfs-mount-generator's list (be2) and
    /// without (be1), and what it imported itself.
    fn bootfs_chooses_the_environment(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["tank0", "more0"]).unwrap();
        let imports = "systemd.wants=zfs-import-scan.service taproot-test.report";
        let mut vm = vm("debian-bootfs", system, &format!("root=zfs:AUTO {imports}")).unwrap()
            .disks(disks.clone()).file("opt/taproot/script", FIRST.as_bytes()).start().unwrap();
        check(&vm.report(60).unwrap(), "be1");
        let said = vm.script(60).unwrap();
        for left in ["tank/ROOT/be2/log", "tank/ROOT/be2/only", "tank/archive/old/photos", "more/old/ROOT/debian/var", "more/old/home"] {
            assert!(said.contains(&format!("@@JOURNAL {left} not mounted: it belongs to another")), "{left}:\n{said}");
        }
        for mounted in ["tank/archive/old/photos /photos", "tank/ROOT/be2/only /only-be2"] {
            assert!(said.contains(&format!("@@STOCK {mounted} zfs ")), "{mounted} would not be mounted anyway:\n{said}");
        }
        vm.wait_exit(60).unwrap();
        let script = "zpool import -N tank && zpool status -P tank && zpool get -H -o value bootfs tank && zpool export tank";
        let stock = Vm::helper("debian-stock-import", system, script).disks(disks.clone()).start().unwrap();
        let said = stock.script(30).unwrap();
        assert!(said.contains(DISK), "{said}");
        assert!(said.contains("tank/ROOT/be2\n"), "{said}");
        drop(stock);

        let vm = Vm::new("debian-bootfs-changed", system, &without_any_other_program(system))
            .append(&format!("root=zfs:AUTO ro quiet {imports}")).disks(disks).file("opt/taproot/script", SECOND.as_bytes()).start().unwrap();
        check(&vm.report(60).unwrap(), "be2");
        let said = vm.script(60).unwrap();
        assert!(said.contains("\n@@UNIT var-log.mount tank/ROOT/be2/log\n"), "{said}");
        assert!(!said.contains("\n@@UNIT only\\x2dbe1.mount"), "{said}");
        for unit in ["var-log.mount tank/ROOT/be1/log", "only\\x2dbe1.mount tank/ROOT/be1/only"] {
            assert!(said.contains(&format!("\n@@STOCK-UNIT {unit}\n")), "OpenZFS's generator alone is right, too:\n{said}");
        }
    }
}
