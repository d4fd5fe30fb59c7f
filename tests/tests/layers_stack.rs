//! Roots made of layers, further: the root itself under an upper, a hundred layers, what an encrypted pool holds, a device that
//! several machines share, and what is typed at the prompt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;

use taproot_tests::kit::System;
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Mount, Report, Scratch};

fn at(report: &Report, point: &str) -> Mount {
    report.mounts().into_iter().rev().find(|m| m.point == point).unwrap_or_else(|| panic!("nothing is on {point}"))
}

fn is_read_only(mount: &Mount) -> bool {
    mount.options.iter().chain(&mount.super_options).any(|option| option == "ro")
}

fn option<'a>(mount: &'a Mount, name: &str) -> Vec<&'a str> {
    let value = |option: &'a String| option.strip_prefix(name)?.strip_prefix('=');
    mount.super_options.iter().filter_map(value).collect()
}

fn boot(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> Report {
    let mut vm = vm(&format!("stack-{name}"), system, words).unwrap().disks(disks).start().unwrap();
    let report = vm.report(60).unwrap();
    vm.wait_exit(20).unwrap();
    report
}

scenarios_on_newest! {
    /// A root whose `/usr`, `/home`, `/var` and more are datasets and file systems of their own, init behind two links among them:
    /// under an upper in memory none of them is written to.
    fn a_whole_root_under_memory(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["nest0", "ext40"]).unwrap();
        let words = "root=zfs:AUTO taproot.also=nest/manual,nest/zol,nest/b,nest/modules taproot.wait=3 rd.overlay";
        let report = boot("over-root", system, disks, words);
        assert_eq!((report.hostname(), report.one("EXE")), ("nest", "/usr/lib/the-init"));
        let json = report.json.as_ref().expect("boot.json");
        let protected = json["protected"].as_array().unwrap();
        for point in ["/", "/usr", "/usr/local", "/usr/local/share", "/home", "/var", "/srv/ext4", "/usr/lib/modules"] {
            let mount = at(&report, point);
            assert_eq!(mount.kind, "overlay", "{point}: {mount:?}");
            assert!(!is_read_only(&mount) && option(&mount, "upperdir")[0].starts_with("/run/taproot/upper/"), "{mount:?}");
            assert!(protected.iter().any(|part| part["directory"] == point && part["by"] == "overlay"), "{point}: {protected:?}");
        }
        let written: Vec<Mount> =
            report.mounts().into_iter().filter(|m| ["zfs", "ext4"].contains(&m.kind.as_str()) && !is_read_only(m)).collect();
        assert!(written.is_empty(), "{written:#?}");
        assert!(report.mounts().iter().filter(|m| m.kind == "zfs").count() >= 12, "{:#?}", report.mounts());
    }

    /// One boot of a hundred layers.
    fn a_hundred_layers(system) {
        let scratch = Scratch::new().unwrap();
        let (disk, names) = layers::many(&scratch, 100, &[]).unwrap();
        let words = format!("root=LABEL={LABEL} taproot.layers={} taproot.upper=ram", names.join(":"));
        let report = boot("hundred", system, vec![disk], &words);
        assert_eq!(report.hostname(), "hundred");
        let loops = report.mounts().iter().filter(|m| m.source.starts_with("/dev/loop")).count();
        assert_eq!(loops, 100);
        let root = at(&report, "/");
        let lowers: usize = ["lowerdir", "lowerdir+"].iter().flat_map(|name| option(&root, name)).map(|v| v.split(':').count()).sum();
        assert_eq!(lowers, 100, "{root:?}");
    }

    /// Layers in a dataset of an encrypted pool, the upper in a zvol of it; the key comes on a stick.
    fn layers_and_zvol_of_an_encrypted_pool(system) {
        let scratch = Scratch::new().unwrap();
        let pool = layers::encrypted_pool(&system.name, system, &scratch).unwrap();
        let base = layers::small_disk(&scratch, "tiny0", LABEL, &[]).unwrap();
        let key = scratch.path().join("key");
        fs::write(&key, layers::POOL_KEY).unwrap();
        let stick = layers::small_disk(&scratch, "stick0", "STICK", &[(key, "pool.key")]).unwrap();
        let words = format!(
            "root=LABEL={LABEL} taproot.layers=top:middle:base taproot.layerdev=ZFS=sealed/sqsh taproot.upper=zvol:sealed/live \
             taproot.key=LABEL=STICK:/pool.key"
        );
        let report = boot("encrypted", system, vec![base, pool, stick], &words);
        assert_eq!(report.hostname(), "top");
        assert_eq!(at(&report, "/run/taproot/layer-device").source, "sealed/sqsh");
        let upper = at(&report, "/run/taproot/upper");
        assert_eq!((upper.source.as_str(), upper.kind.as_str()), ("/dev/zd0", "ext4"));
        assert_eq!(option(&at(&report, "/"), "upperdir"), ["/run/taproot/upper/upper/upper"]);
    }

    /// One device with the layers, which nobody can write to, under two machines at the same time, each with an upper of its own.
    fn one_layer_device_under_two_machines(system) {
        let scratch = Scratch::new().unwrap();
        let shared = layers::small_disk(&scratch, "more0", "MORE", &layers::tiny(system).unwrap()).unwrap();
        let bytes = fs::read(&shared.path).unwrap();
        let words = format!("root=LABEL={LABEL} taproot.layers=top:middle:base taproot.layerdev=LABEL=MORE");
        let machines: Vec<_> = ["one", "two"]
            .map(|name| {
                let own = layers::small_disk(&scratch, &format!("own-{name}"), LABEL, &[]).unwrap();
                let shared = Disk { read_only: true, ..shared.clone() };
                vm(&format!("stack-shared-{name}"), system, &words).unwrap().disks([own, shared]).start().unwrap()
            })
            .into();
        for mut machine in machines {
            let report = machine.report(90).unwrap();
            machine.wait_exit(30).unwrap();
            assert_eq!(report.hostname(), "top");
            assert_eq!(option(&at(&report, "/"), "upperdir"), ["/run/taproot/base/upper/upper"]);
            assert!(is_read_only(&at(&report, "/run/taproot/layer-device")));
        }
        assert_eq!(fs::read(&shared.path).unwrap(), bytes, "nothing was written to it");
    }

    /// Lines that RuckusRD's pages have as examples, by names of devices; the simulation has all four.
    fn ruckusrds_lines(system) {
        let scratch = Scratch::new().unwrap();
        let files = layers::tiny(system).unwrap();
        let root = layers::small_disk(&scratch, "root0", "ROOT", &[]).unwrap();
        let all = layers::small_disk(&scratch, "all0", "ALL", &files).unwrap();
        let line = "root=/dev/vda sqsh_layerdev=/dev/vdb sqsh_layers=top:middle:base";
        let report = boot("ruckusrd-device", system, vec![root, all.clone()], line);
        assert_eq!(report.hostname(), "top");
        for (place, source, read_only) in [
            ("root-true", "/dev/vda", false),
            ("sqsh_layerdev", "/dev/vdb", true),
            ("sqsh_layer-middle", "/dev/loop", true),
        ] {
            let mount = at(&report, &format!("/mnt/{place}"));
            assert!(mount.source.starts_with(source) && is_read_only(&mount) == read_only, "{mount:?}");
        }
        let line = "root=/dev/vda sqsh_layers=top:middle:base ram_layer=50% to_ram";
        let report = boot("ruckusrd-memory", system, vec![all], line);
        assert_eq!(report.hostname(), "top");
        assert_eq!(at(&report, "/mnt/upper").kind, "tmpfs");
        assert!(report.mounts().iter().all(|mount| mount.source != "/dev/vda"), "{:#?}", report.mounts());
    }

    /// Too little memory, a name that can be none, a layer that is missing: each is explained, and words help; layers are looked
    /// into from the prompt and booted by their name.
    fn what_is_typed_about_layers(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::small_disk(&scratch, "tiny0", LABEL, &layers::tiny(system).unwrap()).unwrap();
        let words = format!("root=LABEL={LABEL} taproot.layers=top:middle:base taproot.upper=ram:900G");
        let mut vm = vm("stack-typed", system, &words).unwrap().disk(disk).start().unwrap();
        let text = explained_failure(&vm, 60).unwrap();
        assert!(text.contains("too little memory for an upper: 900G (921600 MiB) wanted"), "{text}");
        for (typed, says) in [
            ("retry taproot.layers=top,middle", "cannot be in a name"),
            ("retry taproot.layers=\"top middle\"", "cannot be in a name"),
            ("retry taproot.layers=top::base", "empty"),
            ("retry taproot.layers=top:gone:base", "layer gone is missing"),
        ] {
            vm.type_line(typed).unwrap();
            vm.expect("Problem:", 60).unwrap();
            vm.expect(says, 20).unwrap();
            vm.expect("(taproot) # ", 20).unwrap();
        }
        vm.type_line("mount /run/taproot/base/middle.sqsh /run/look").unwrap();
        vm.expect("is mounted on /run/look, read-only", 30).unwrap();
        vm.expect("(taproot) # ", 20).unwrap();
        vm.type_line("ls /run/look/opt").unwrap();
        vm.expect("kinds", 20).unwrap();
        vm.expect("(taproot) # ", 20).unwrap();
        vm.type_line("boot layers:top:middle:base taproot.upper=ram").unwrap();
        let report = vm.report(60).unwrap();
        vm.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "top");
        assert_eq!(report.json.as_ref().unwrap()["root"], format!("layers top:middle:base on LABEL={LABEL}"));
    }
}
