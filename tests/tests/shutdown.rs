//! The program that systemd becomes at the end gives back what holds the root: its datasets are unmounted, the pool is exported.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Running, Scratch};

/// What the boot of a layered root leaves, by hand, for a root that is a dataset; a stack as layers make one, on a loop device;
/// and which mounts systemd would unmount early: those below /run/taproot are not among them.
const PREPARE: &str = r#"set -e
mkdir -p /run/initramfs/oldroot /run/initramfs/proc /run/initramfs/sys /run/initramfs/dev /run/initramfs/run
cp /run/taproot/taproot-init /run/initramfs/shutdown
mkdir -p /run/systemd/system/run-taproot-.mount.d /run/taproot/layers/base /run/other
printf '[Unit]\nDefaultDependencies=no\n' >/run/systemd/system/run-taproot-.mount.d/00-taproot.conf
systemctl daemon-reload
truncate -s 64M /var/tmp/base.img
mke2fs -q -t ext4 /var/tmp/base.img
mount -o loop /var/tmp/base.img /run/taproot/layers/base
mount -t tmpfs none /run/other
echo "@@LEFT $(systemctl show -p Conflicts run-taproot-layers-base.mount)"
echo "@@EARLY-ONE $(systemctl show -p Conflicts run-other.mount)"
"#;

/// What the console must show, and that the pool was exported.
fn ended(mut vm: Running) -> String {
    vm.report(90).unwrap();
    let said = vm.script(60).unwrap();
    assert!(said.contains("@@LEFT Conflicts=\n"), "{said}");
    assert!(said.contains("@@EARLY-ONE Conflicts=umount.target\n"), "the mark makes the difference:\n{said}");
    vm.wait_exit(90).unwrap();
    vm.console.text()
}

scenarios_on_newest! {
    fn a_power_off_exports_the_pool(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["tank0"]).unwrap();
        let script = format!("{PREPARE}systemctl --no-block poweroff\n");
        let vm = vm("shutdown-off", system, "root=ZFS=tank/ROOT/be1").unwrap()
            .disks(disks.clone()).file("opt/taproot/script", script.as_bytes()).start().unwrap();
        let console = ended(vm);
        assert!(console.contains("taproot: shutdown: ") && console.contains("unmount /oldroot"), "{console}");
        assert!(console.contains("export pool tank") && console.contains("taproot: shutdown: power off"), "{console}");
        assert!(scratch.exported(&disks[0]).unwrap(), "{console}");
    }

    /// Something of the pool is in use: it is told, the pool is left, and the machine restarts all the same.
    fn a_restart_leaves_a_pool_that_is_in_use(system) {
        let scratch = Scratch::new().unwrap();
        let disks = scratch.overlays(system, &["tank0"]).unwrap();
        // systemd kills no program whose name begins so.
        let busy = "systemd-run -p KillMode=none -p DefaultDependencies=no -p WorkingDirectory=/home \
            bash -c 'exec -a @holds sleep 1000'\nsleep 1\n";
        let script = format!("{PREPARE}{busy}systemctl --no-block reboot\n");
        let vm = vm("shutdown-restart", system, "root=ZFS=tank/ROOT/be1").unwrap()
            .disks(disks.clone()).file("opt/taproot/script", script.as_bytes()).start().unwrap();
        let console = ended(vm);
        // systemd moves the mount that is in use out of the way, so its place has another name.
        assert!(console.contains("taproot: shutdown: unmount /oldroot: Device or resource busy"), "{console}");
        assert!(console.contains("pool tank stays imported: something of it is still mounted"), "{console}");
        assert!(console.contains("taproot: shutdown: restart"), "{console}");
        assert!(!scratch.exported(&disks[0]).unwrap(), "{console}");
    }
}
