//! Layers in memory, and machines whose medium is pulled: with the layers in memory everything goes on, without it the machine
//! still comes to its end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use taproot_tests::kit::System;
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Running, Scratch};

/// Waits until the disk with the layers is gone.
const PULLED: &str = r#"say() { echo "@@$*"; }
node=$(basename $(dirname $(grep -lx layers0 /sys/block/*/serial)))
say MOUNTED $(grep -c "^/dev/$node " /proc/mounts)
say BACKING $(cat /sys/block/loop*/loop/backing_file | sort | tr '\n' ' ')
say PULL
while [ -e /sys/block/$node ]; do sleep 0.2; done
"#;

/// Reads programs and libraries, none of them from what was read before.
const READS: &str = r"echo 3 >/proc/sys/vm/drop_caches
say READ $(find /usr/sbin /usr/lib/systemd -xdev -type f -print0 | xargs -0 cat | wc -c)
say LAYER $(cat /etc/layer)
echo x >/root/written && say WRITES
say ERRORS $(dmesg | grep -c 'I/O error')
systemctl --no-block poweroff
";

/// Boots, and pulls the disk when the script says so.
fn pulled(name: &str, system: &System, disk: &Disk, words: &str, then: &str) -> Running {
    let script = format!("{PULLED}{then}");
    let vm = vm(&format!("to-ram-{name}"), system, words).unwrap();
    let mut vm = vm.disks([disk.clone()]).memory(1536).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(200).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    vm.wait_report("@@PULL", 60).unwrap();
    vm.unplug(disk).unwrap();
    vm
}

const STACK: &str = "taproot.layers=top:middle:base";

scenarios_on_newest! {
    /// Nothing of the disk is in use any more: it is pulled, and everything can still be read.
    fn the_disk_is_pulled_and_everything_reads(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::disk(system, &scratch).unwrap();
        let words = format!("root=LABEL={LABEL} {STACK} taproot.to_ram taproot.upper=ram:200M");
        let mut vm = pulled("pulled", system, &disk, &words, READS);
        let said = vm.script(200).unwrap();
        let before = vm.report.text();
        let files = ["base.sqsh", "middle.sqsh", "top.erofs"].map(|name| format!("/run/taproot/ram/{name}"));
        for line in ["@@MOUNTED 0".to_owned(), format!("@@BACKING {}", files.join(" "))] {
            assert!(before.contains(&line), "no {line}:\n{before}");
        }
        let read = said.lines().find_map(|line| line.trim().strip_prefix("@@READ ")?.parse::<u64>().ok());
        assert!(read.unwrap() > 10 << 20, "{said}");
        assert!(said.contains("@@LAYER top\n") && said.contains("@@WRITES\n") && said.contains("@@ERRORS 0\n"), "{said}");
        vm.wait_exit(90).unwrap();
        let console = vm.console.text();
        // How far it is stands there only where it takes seconds.
        for line in ["copying 3 layers to memory", "3 layers are in memory and compared", "can be taken away"] {
            assert!(console.contains(line), "no {line:?}");
        }
    }

    /// A pool is exported, a layer device given back; too little memory is refused with figures.
    fn a_pool_is_given_back_and_too_little_memory_refused(system) {
        let scratch = Scratch::new().unwrap();
        let pool = layers::pool(&format!("{}-ram", system.name), system, &scratch).unwrap();
        let words = "root=ZFS=zroot/root sqsh_layerdev=ZFS=zroot/sqsh sqsh_layers=top:middle:base to_ram";
        let machine = |name: &str, words: &str| vm(&format!("to-ram-{name}"), system, words).unwrap().disks([pool.clone()]);
        let mut booted = machine("pool", &format!("{words} ram_layer=100M")).start().unwrap();
        let report = booted.report(60).unwrap();
        booted.wait_exit(20).unwrap();
        assert!(report.mounts().iter().all(|mount| mount.kind != "zfs"), "{:?}", report.mounts());
        assert!(booted.console.text().contains("pool zroot is exported"), "{}", booted.console.text());
        assert!(scratch.exported(&pool).unwrap());
        let refused = machine("memory", &format!("{words} ram_layer=3G")).start().unwrap();
        let text = explained_failure(&refused, 60).unwrap();
        assert!(text.contains("too little memory to copy the layers to"), "{text}");
        assert!(text.contains("3072 MiB for the upper and 64 MiB that are kept make"), "{text}");
        refused.kill().unwrap();
    }

    /// The medium of the root and of what is written is pulled: the machine restarts all the same.
    fn a_restart_without_the_medium(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::disk(system, &scratch).unwrap();
        let mut vm = pulled("restart", system, &disk, &format!("root=LABEL={LABEL} {STACK}"), "systemctl --no-block --job-mode=replace-irreversibly start reboot.target\n");
        vm.wait_exit(60).unwrap();
        let console = vm.console.text();
        assert!(console.contains("does not answer any more; the machine ends within"), "{console}");
    }

    /// The same for a machine that is switched off.
    fn a_power_off_without_the_medium(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::disk(system, &scratch).unwrap();
        let words = format!("root=LABEL={LABEL} {STACK} taproot.upper=ram:200M");
        let mut vm = pulled("off", system, &disk, &words, "systemctl --no-block --job-mode=replace-irreversibly start poweroff.target\n");
        vm.wait_exit(60).unwrap();
        let console = vm.console.text();
        assert!(console.contains("does not answer any more; the machine ends within"), "{console}");
    }
}
