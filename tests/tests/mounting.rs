//! What is mounted besides the root, where, in which order, and what is left alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use taproot_tests::kit::System;
use taproot_tests::scenario::{dataset_at, vm};
use taproot_tests::scenarios;
use taproot_tests::vm::{Report, Running, Scratch};

fn boot(name: &str, system: &System, disks: &[&str], cmdline: &str) -> (Running, Report) {
    let scratch = Scratch::new().unwrap();
    let disks = scratch.overlays(system, disks).unwrap();
    let mut vm = vm(name, system, cmdline).unwrap().disks(disks).start().unwrap();
    let report = vm.report(60).unwrap();
    vm.wait_exit(20).unwrap();
    (vm, report)
}

/// Mount points of the record, in order.
fn targets(report: &Report) -> Vec<String> {
    let mounts = report.json.as_ref().expect("boot.json")["mounts"].as_array().unwrap();
    mounts.iter().map(|m| m["target"].as_str().unwrap().to_owned()).collect()
}

fn problems(report: &Report) -> Vec<String> {
    let list = report.json.as_ref().expect("boot.json")["problems"].as_array().unwrap();
    list.iter().map(|p| p.as_str().unwrap().to_owned()).collect()
}

fn skipped<'a>(report: &'a Report, dataset: &str) -> &'a str {
    let list = report.json.as_ref().expect("boot.json")["skipped"].as_array().unwrap();
    let found = list.iter().find(|s| s["dataset"] == dataset);
    found.and_then(|s| s["why"].as_str()).unwrap_or_else(|| panic!("{dataset} is not in {list:#?}"))
}

fn zfs_mounts(report: &Report) -> usize {
    report.mounts().iter().filter(|m| m.kind == "zfs").count()
}

fn is_read_only(report: &Report, point: &str) -> bool {
    let mounts = report.mounts();
    let mount = mounts.iter().rev().find(|m| m.point == point).unwrap();
    mount.options.iter().chain(&mount.super_options).any(|o| o == "ro")
}

scenarios! {
    /// `/usr` lies on a dataset of its own and the init behind two links in it; everything goes in the order of paths,
    /// properties, fstab, additional datasets and another file system among each other.
    fn nested_mount_points_and_usr_on_its_own(system) {
        // What is init's and lies outside of the root's own subtree has to be named.
        let cmdline = "root=zfs:AUTO taproot.also=nest/manual,nest/zol,nest/b,nest/modules taproot.wait=3";
        let (vm, report) = boot("mounting-nested", system, &["nest0", "ext40"], cmdline);
        assert_eq!(report.hostname(), "nest");
        assert_eq!(report.one("EXE"), "/usr/lib/the-init");
        for (point, dataset) in [
            ("/", "nest/ROOT/default"),
            ("/usr", "nest/b"),
            ("/usr/local", "nest/a"),
            ("/usr/local/share", "nest/A-last"),
            ("/usr/local/share/legacy", "nest/legacy"),
            ("/usr/lib/modules", "nest/modules"),
            ("/covered", "nest/covers"),
            ("/deep/er/new", "nest/new"),
            ("/home", "nest/data/home"),
            ("/var", "nest/ROOT/default/var"),
            ("/manual", "nest/manual"),
            ("/zol", "nest/zol"),
        ] {
            assert_eq!(dataset_at(&report, point).as_deref(), Some(dataset), "{point}");
        }
        assert_eq!(zfs_mounts(&report), 12, "{:#?}", report.mounts());
        let mounts = report.mounts();
        assert!(!mounts.iter().any(|m| m.source.starts_with("nest/ROOT/other") || m.point == "/never"), "{mounts:#?}");
        let ext4 = mounts.iter().find(|m| m.point == "/srv/ext4").unwrap();
        assert_eq!(ext4.kind, "ext4");
        assert!(ext4.options.iter().any(|o| o == "noatime"), "{ext4:?}");
        assert!(mounts.iter().any(|m| m.point == "/scratch" && m.kind == "tmpfs" && m.super_options.contains(&"size=1024k".to_owned())));
        let legacy = mounts.iter().find(|m| m.point == "/usr/local/share/legacy").unwrap();
        assert!(legacy.options.iter().any(|o| o == "nodev"), "fstab's options: {legacy:?}");

        // As the record has them: by where links in the root lead, /lib to /usr/lib.
        let expected = ["/", "/covered", "/deep/er/new", "/home", "/manual", "/never", "/scratch", "/srv/ext4", "/usr",
            "/lib/modules", "/usr/local", "/usr/local/share", "/usr/local/share/legacy", "/var", "/zol"];
        assert_eq!(targets(&report), expected);
        assert!(skipped(&report, "nest/ROOT/other").contains("another boot environment, nest/ROOT/other"));
        let problems = problems(&report);
        // A line that is mounted before the init names a pool, which is not there.
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("asks for pool elsewhere, which was not found"), "{problems:?}");
        assert!(problems[1].contains("elsewhere/data is not mounted on /elsewhere"), "{problems:?}");
        let said = vm.console.text();
        assert!(said.contains("/covered is not empty; nest/covers covers what is in it"), "{said}");
    }

    /// The children of a root that is mounted elsewhere move with it; its sibling and the sibling's children are another
    /// environment. `rootflags=` goes over the properties, and what it cannot mean is reported.
    fn a_root_whose_mountpoint_is_a_path(system) {
        let (_vm, report) = boot("mounting-path", system, &["path0"], "root=ZFS=path/sys/be1 rw rootflags=zfsutil,noatime,subvol=x");
        assert_eq!(dataset_at(&report, "/").as_deref(), Some("path/sys/be1"));
        assert_eq!(dataset_at(&report, "/var").as_deref(), Some("path/sys/be1/var"));
        assert_eq!(dataset_at(&report, "/home").as_deref(), Some("path/home"));
        assert_eq!(dataset_at(&report, "/missing").as_deref(), Some("path/missing"), "the mount point is made");
        assert!(!report.mounts().iter().any(|m| m.source.starts_with("path/sys/be2")));
        let root = report.mounts().into_iter().find(|m| m.point == "/").unwrap();
        assert!(root.options.iter().any(|o| o == "noatime"), "{root:?}");
        let home = report.mounts().into_iter().find(|m| m.point == "/home").unwrap();
        assert!(home.options.iter().all(|o| o != "noatime"), "{home:?}");
        let problems = problems(&report);
        assert!(problems.len() == 1 && problems[0].contains("no option `subvol=x`"), "{problems:?}");
    }

    /// A list narrows what is mounted; a mount point that is missing on a read-only root is reported and the boot goes on.
    fn a_read_only_root_and_a_list(system) {
        let cmdline = "root=ZFS=path/sys/be1 rw rootflags=ro taproot.mounts=path/home,path/missing";
        let (_vm, report) = boot("mounting-list", system, &["path0"], cmdline);
        assert!(is_read_only(&report, "/") && !is_read_only(&report, "/home"));
        assert_eq!(dataset_at(&report, "/home").as_deref(), Some("path/home"));
        assert_eq!(zfs_mounts(&report), 2, "{:#?}", report.mounts());
        let problems = problems(&report);
        assert!(problems.len() == 1 && problems[0].contains("mount point /missing is missing"), "{problems:?}");
        assert!(problems[0].contains("read-only"), "{problems:?}");
        assert!(skipped(&report, "path").contains("taproot.mounts="), "only what is named, and what it lies in, is looked at");
    }

    /// `none` leaves all but the root to the booted system.
    fn nothing_but_the_root(system) {
        let (_vm, report) = boot("mounting-none", system, &["path0"], "root=ZFS=path/sys/be1 taproot.mounts=none");
        assert_eq!(targets(&report), ["/"]);
        assert_eq!(zfs_mounts(&report), 1);
        assert_eq!(report.json.as_ref().unwrap()["problems"], Value::Array(vec![]));
    }
}
