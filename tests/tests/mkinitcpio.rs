//! The hook in an image that a real mkinitcpio packed, against the standalone boot. Skipped where there is no mkinitcpio:
//! see `docs/mkinitcpio.md` for how to get a tree with one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use taproot_tests::hibernation::{self, OFFSET, UUID};
use taproot_tests::kit::{self, System};
use taproot_tests::vm::{Mount, Report, Scratch, Vm};
use taproot_tests::{account, checkout, image, scenario, scenarios, words};

/// Prompt of the shell that mkinitcpio's own `/init` starts.
const SHELL: &str = "[rootfs ";
const NO_ROOT: &str = "ERROR: taproot: no root is mounted on /new_root";

/// The tree whose mkinitcpio packs: the one named, or this machine where it is Arch.
fn tree() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("TAPROOT_TEST_MKINITCPIO") {
        let dir = PathBuf::from(dir);
        assert!(
            dir.join("usr/bin/mkinitcpio").exists(),
            "TAPROOT_TEST_MKINITCPIO: no usr/bin/mkinitcpio in {}",
            dir.display()
        );
        return Some(dir);
    }
    if Path::new("/etc/arch-release").exists() && Path::new("/usr/bin/mkinitcpio").exists() {
        return Some("/".into());
    }
    account::skipped("no mkinitcpio here; TAPROOT_TEST_MKINITCPIO=DIR names a tree that has one (docs/mkinitcpio.md)");
    None
}

/// The image for a kit system, kept as long as nothing it is made of changes.
fn packed(system: &System, tree: &Path) -> PathBuf {
    let (hooks, binary) = (checkout().join("mkinitcpio-hook"), image::boot_binary());
    let script = checkout().join("tests/kit/mkinitcpio.sh");
    let mut made_of = DefaultHasher::new();
    system.stamp().unwrap().hash(&mut made_of);
    tree.hash(&mut made_of);
    for file in [
        &hooks.join("install/taproot"),
        &hooks.join("hooks/taproot"),
        &binary,
        &script,
        &tree.join("usr/bin/mkinitcpio"),
    ] {
        fs::read(file).expect("hook files, and boot binary by make build").hash(&mut made_of);
    }
    let made_of = format!("{:016x}", made_of.finish());
    let dir = kit::cache().unwrap().join("images");
    fs::create_dir_all(&dir).unwrap();
    // Tests run as separate processes; the first one packs, the others wait.
    let lock = File::create(dir.join("mkinitcpio.lock")).unwrap();
    lock.lock().unwrap();
    let path = dir.join(format!("{}-mkinitcpio.img", system.name));
    let note = path.with_extension("made-of");
    if !path.exists() || fs::read_to_string(&note).unwrap_or_default() != made_of {
        let _ = fs::remove_file(&note);
        let mut command = Command::new(script);
        command.arg(tree).arg(system.tree()).arg(&system.kernel).arg(hooks).arg(binary).arg(&path);
        command.args(["HOOKS=(base udev keyboard block taproot filesystems)", "COMPRESSION=zstd"]);
        kit::run(&mut command).unwrap();
        fs::write(note, made_of).unwrap();
    }
    path
}

fn machine(name: &str, system: &System, tree: &Path, cmdline: &str) -> Vm {
    Vm::new(name, system, &packed(system, tree)).append(cmdline)
}

/// What was mounted of pools before the first unit, by mount point.
fn of_pools(report: &Report) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = report.early_mounts().into_iter().filter(|m| m.kind == "zfs").collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts
}

/// The mounts in `boot.json` without how long they took.
fn untimed(json: &Value) -> Vec<Value> {
    let mut mounts = json["mounts"].as_array().unwrap().clone();
    for mount in &mut mounts {
        mount.as_object_mut().unwrap().remove("ms").unwrap();
    }
    mounts
}

/// Milliseconds from the start of the kernel to the start of systemd.
fn userspace(report: &Report) -> u64 {
    report.one("USERSPACE").parse::<u64>().unwrap() / 1000
}

scenarios! {
    /// The same mounts with the same options, the same account of the boot, nothing left behind.
    fn mounts_are_those_of_a_standalone_boot(system) {
        let Some(tree) = tree() else { return };
        let cmdline = "root=ZFS=tank/ROOT/be2 rw taproot-test.report";
        let scratch = Scratch::new().unwrap();
        let alone = scenario::vm("mkinitcpio-alone", system, cmdline).unwrap()
            .disk(scratch.overlay(system, "tank0").unwrap()).start().unwrap().report(60).unwrap();
        let scratch = Scratch::new().unwrap();
        let vm = machine("mkinitcpio-hook", system, &tree, cmdline)
            .disk(scratch.overlay(system, "tank0").unwrap()).start().unwrap();
        let hooked = vm.report(90).unwrap();

        assert_eq!(hooked.hostname(), "be2");
        assert_eq!(hooked.one("STATE"), "active failed=0", "{:?}", hooked.all("FAILED"));
        let expected = of_pools(&alone);
        assert!(expected.len() > 3, "{expected:#?}");
        assert_eq!(of_pools(&hooked), expected);
        assert_eq!(hooked.all("RUN"), alone.all("RUN"), "in /run/taproot");
        let (json, other) = (hooked.json.as_ref().expect("boot.json"), alone.json.as_ref().unwrap());
        for key in ["root", "kernel", "choice"] {
            assert_eq!(json[key], other[key], "{key} in boot.json");
        }
        assert_eq!(untimed(json), untimed(other), "mounts in boot.json");
        assert!(json["problems"].as_array().unwrap().is_empty(), "{}", json["problems"]);
        let console = vm.console.text();
        assert!(console.contains(":: running hook [taproot]") && console.contains(":: running late hook [taproot]"), "by mkinitcpio");
        assert!(!console.contains("ERROR:"), "an error on the console");
        eprintln!("systemd began after {} ms standalone, {} ms with the hook", userspace(&alone), userspace(&hooked));
    }

    /// No disk: the reason, mkinitcpio's shell with our applets in it; the disk comes, the shell is left, the system boots.
    fn failure_gives_the_shell_and_another_attempt(system) {
        let Some(tree) = tree() else { return };
        let scratch = Scratch::new().unwrap();
        let mut vm = machine("mkinitcpio-retry", system, &tree, "root=zfs:AUTO rw taproot.wait=2 taproot-test.report").start().unwrap();
        vm.expect(NO_ROOT, 40).unwrap();
        vm.expect(SHELL, 10).unwrap();
        let said = vm.console.text();
        assert!(said.contains("no pool was found"), "the reason is not on the console");
        vm.type_line("taproot-init pools; echo status=$?").unwrap();
        vm.expect("status=0", 20).unwrap();
        vm.plug(&scratch.overlay(system, "tank0").unwrap()).unwrap();
        vm.type_line("exit").unwrap();
        let report = vm.report(90).unwrap();
        assert_eq!(report.hostname(), "be1");
        assert_eq!(scenario::dataset_at(&report, "/").as_deref(), Some("tank/ROOT/be1"));
    }

    /// `panic=` means that nobody is given a shell, here as well: the machine restarts.
    fn panic_restarts_without_a_shell(system) {
        let Some(tree) = tree() else { return };
        let mut vm = machine("mkinitcpio-panic", system, &tree, "root=zfs:AUTO taproot.wait=2 panic=1").start().unwrap();
        vm.expect(words::EXPLANATION, 40).unwrap();
        vm.wait_exit(30).unwrap();
        let said = vm.console.text();
        assert!(!said.contains(SHELL) && !said.contains("Kernel panic"), "{said}");
    }

    /// A root that is no dataset is mkinitcpio's: it looks for the device itself, and the pool stays as it is.
    fn another_root_is_left_to_mkinitcpio(system) {
        let Some(tree) = tree() else { return };
        let scratch = Scratch::new().unwrap();
        let vm = machine("mkinitcpio-other-root", system, &tree, "root=/dev/vdx rootdelay=1")
            .disk(scratch.overlay(system, "tank0").unwrap()).start().unwrap();
        let seen = vm.expect_any(&["Failed to mount '/dev/vdx' on real root", NO_ROOT], 40).unwrap();
        assert_eq!(seen, 0, "the hook took a root that is not a dataset");
        vm.expect(SHELL, 10).unwrap();
        vm.type_line("ls /proc/spl; echo status=$?").unwrap();
        vm.expect("status=1", 20).unwrap();
        assert!(!vm.console.shows(words::EXPLANATION));
    }

    /// An encrypted root is asked for on the serial line that mkinitcpio uses too; what was typed stays nowhere.
    fn a_passphrase_is_asked_for(system) {
        let Some(tree) = tree() else { return };
        let scratch = Scratch::new().unwrap();
        let [wrong, first, second] = ["taproot-wrong-wombat-13", "taproot-hippo-lantern-52", "taproot-walrus-candle-77"];
        let cmdline = "root=ZFS=pcrypt/ROOT/default quiet taproot.also=pcrypt/data";
        let mut vm = machine("mkinitcpio-key", system, &tree, cmdline)
            .disk(scratch.overlay(system, "keys0").unwrap()).extra(&["-no-shutdown"]).start().unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 60).unwrap();
        vm.type_line(wrong).unwrap();
        vm.expect("wrong passphrase for pcrypt/ROOT, 2 tries left", 30).unwrap();
        vm.expect("Passphrase for pcrypt/ROOT: ", 10).unwrap();
        vm.type_line(first).unwrap();
        vm.expect("Passphrase for pcrypt/data (Enter skips it): ", 60).unwrap();
        vm.type_line(second).unwrap();
        let report = vm.report(60).unwrap();
        for (point, dataset) in [("/", "ROOT/default"), ("/data", "data"), ("/same", "same"), ("/inroot", "inroot")] {
            assert_eq!(scenario::dataset_at(&report, point), Some(format!("pcrypt/{dataset}")), "{point}");
        }
        vm.wait_off(60).unwrap();
        assert!(vm.memory_contains(cmdline.as_bytes()).unwrap(), "the search finds nothing");
        for secret in [first, second, wrong] {
            assert!(!vm.console.shows(secret), "the console shows {secret}");
            assert_eq!(vm.memory_count(secret.as_bytes()).unwrap(), 0, "memory holds {secret}");
        }
    }

    /// An image that is not resumed keeps the pool from being written; when it is gone, leaving the shell boots.
    fn an_image_that_stays_keeps_the_pool_from_being_written(system) {
        let Some(tree) = tree() else { return };
        let scratch = Scratch::new().unwrap();
        let [pool, swap] = hibernation::disks(&scratch, system, 0).unwrap();
        let cmdline = format!("root=ZFS=presume/ROOT/default resume=UUID={UUID} nohibernate");
        let vm = machine("mkinitcpio-resume", system, &tree, &cmdline).disks([pool.clone(), swap.clone()]).start().unwrap();
        vm.expect(NO_ROOT, 60).unwrap();
        vm.expect(SHELL, 10).unwrap();
        let said = vm.console.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&format!("hibernation image on UUID={UUID} that was not resumed")), "{said}");
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
        vm.type_line("printf 'SWAPSPACE2' | dd bs=1 seek=4086 conv=notrunc of=/dev/disk/by-id/virtio-hib0-part1; sync; echo status=$?").unwrap();
        vm.expect("status=0", 20).unwrap();
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
        vm.type_line("exit").unwrap();
        assert_eq!(vm.report(60).unwrap().hostname(), "presume");
        assert!(vm.console.shows("no hibernation image on UUID="));
    }

    /// The same without `resume=`, by systemd's note in the firmware.
    fn the_firmware_says_where_an_image_is(system) {
        let Some(tree) = tree() else { return };
        let scratch = Scratch::new().unwrap();
        let variables = scratch.path().join("variables");
        hibernation::note(system, &variables).unwrap();
        let [pool, swap] = hibernation::disks(&scratch, system, OFFSET).unwrap();
        let vm = machine("mkinitcpio-noted", system, &tree, "root=ZFS=presume/ROOT/default nohibernate")
            .uefi_with(&variables).disks([pool.clone(), swap]).start().unwrap();
        vm.expect(NO_ROOT, 90).unwrap();
        let said = vm.console.text();
        assert!(said.contains(&format!("hibernated to UUID={UUID}, page {OFFSET}")), "{said}");
        assert!(scratch.untouched(&pool).unwrap(), "the pool was written");
    }
}
