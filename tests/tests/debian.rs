//! The installed Debian boots from its pool: the chosen environment, its own mounts, and a pool left as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use taproot_tests::kit::System;
use taproot_tests::scenario::vm;
use taproot_tests::vm::{Report, Scratch, Vm};
use taproot_tests::{image, scenarios};

const DISK: &str = "/dev/disk/by-id/virtio-tank0-part1";

/// Mount points that no boot may touch: `canmount=off`, `canmount=noauto`, `noauto` in fstab.
const NEVER: [&str; 3] = ["/never", "/manual", "/srv-noauto"];

/// Everything that has to be true of a booted environment.
fn check(report: &Report, environment: &str) {
    let root = format!("tank/ROOT/{environment}");
    assert_eq!(report.hostname(), environment);
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    // Before systemd's first unit, and still.
    for mounts in [report.early_mounts(), report.mounts()] {
        let at = |point: &str| Report::dataset_at(&mounts, point);
        assert_eq!(at("/"), Some(root.clone()));
        assert_eq!(at("/opt"), Some(format!("{root}/opt")), "inside the root's subtree");
        assert_eq!(at("/home").as_deref(), Some("tank/home"), "outside the root's subtree");
        assert_eq!(at("/srv").as_deref(), Some("tank/srv"), "legacy, by fstab");
        let of_be2 = (environment == "be2").then_some("tank/srv-be2");
        assert_eq!(at("/srv-be2").as_deref(), of_be2, "only the selected root's fstab counts");
        for point in NEVER {
            assert!(!mounts.iter().any(|m| m.point == point), "{point} is mounted");
        }
        let other = if environment == "be1" { "tank/ROOT/be2" } else { "tank/ROOT/be1" };
        assert!(!mounts.iter().any(|m| m.source.starts_with(other)), "something of {other} is mounted");
        let zfs = mounts.iter().filter(|m| m.kind == "zfs").count();
        assert_eq!(zfs, if environment == "be2" { 5 } else { 4 }, "nothing is mounted twice: {mounts:#?}");
    }
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
    assert_eq!(json["pools"][0]["name"], "tank");
    assert!(!json["choice"]["why"].as_str().unwrap().is_empty());
    assert!(json["problems"].as_array().unwrap().is_empty(), "{}", json["problems"]);
    let mounts = json["mounts"].as_array().unwrap();
    assert!(mounts.iter().all(|m| m["error"].is_null()), "{mounts:#?}");
    let targets: Vec<&str> = mounts.iter().map(|m| m["target"].as_str().unwrap()).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable();
    assert_eq!(targets, sorted, "mounted in the order of mount points");
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
    /// without force.
    fn bootfs_chooses_the_environment(system) {
        let scratch = Scratch::new().unwrap();
        let disk = scratch.overlay(system, "tank0").unwrap();
        let script = "zpool set bootfs=tank/ROOT/be2 tank && systemctl --no-block poweroff\n";
        let mut vm = vm("debian-bootfs", system, "root=zfs:AUTO taproot-test.report").unwrap()
            .disk(disk.clone()).file("opt/taproot/script", script.as_bytes()).start().unwrap();
        check(&vm.report(60).unwrap(), "be1");
        vm.wait_exit(60).unwrap();
        let script = "zpool import -N tank && zpool status -P tank && zpool get -H -o value bootfs tank && zpool export tank";
        let stock = Vm::helper("debian-stock-import", system, script).disk(disk.clone()).start().unwrap();
        let said = stock.script(30).unwrap();
        assert!(said.contains(DISK), "{said}");
        assert!(said.contains("tank/ROOT/be2\n"), "{said}");
        drop(stock);

        let vm = Vm::new("debian-bootfs-changed", system, &without_any_other_program(system))
            .append("root=zfs:AUTO ro quiet taproot-test.report").disk(disk).start().unwrap();
        check(&vm.report(60).unwrap(), "be2");
    }
}
