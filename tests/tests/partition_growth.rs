//! A partition in use grows with its disk: a loop device of this machine, whose kernel is asked what it makes of the table.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot::firstboot::block::{Block, partition};
use taproot::firstboot::ids::{self, What};
use taproot::firstboot::table::Table;
use taproot::uuid;
use taproot_init::sys;
use taproot_tests::account;

const MIB: u64 = 1 << 20;

/// A loop device, for as long as the test runs.
struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        forget_partitions(&self.0);
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// Those that the kernel was told of outlast the device: the next that gets its number would have them.
fn forget_partitions(device: &Path) {
    let _ = Command::new("partx").arg("-d").arg(device).output();
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_partition_in_use_grows_with_its_disk_and_its_identities_are_renewed() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        account::skipped("loop devices need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let shown = disk.to_str().unwrap();
    File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    run("sgdisk", &["-n", "1:2048:+16M", "-t", "1:8200", "-n", "2:0:+20M", "-t", "2:bf00", shown]);
    let node = run("losetup", &["-f", "--show", shown]);
    let held = Loop(PathBuf::from(node.trim()));
    forget_partitions(&held.0);
    // A kernel without partition tables of its own is told of them.
    run("partx", &["-a", node.trim()]);
    let path = |number: u32| PathBuf::from(format!("{}p{number}", held.0.display()));
    if !path(2).exists() {
        account::skipped("this machine's loop devices have no partitions");
        return;
    }
    // In use: it can be neither removed nor read anew.
    let in_use = File::options().read(true).write(true).open(path(2)).unwrap();
    for size in [64_u64, 96, 200] {
        File::options().write(true).open(&disk).unwrap().set_len(size * MIB).unwrap();
        run("losetup", &["-c", held.0.to_str().unwrap()]);
        let before = partition(&path(2)).unwrap();
        let block = Block::open(&before.disk, true).unwrap();
        let table = Table::read(&block).unwrap();
        let grown = table.grown(&block, 2, before.span).unwrap().unwrap();
        grown.write(&block).unwrap();
        let span = grown.span(2).unwrap();
        sys::partition::resize(&block.file, 2, span.start, span.size).unwrap();
        assert_eq!(partition(&path(2)).unwrap().span, span);
        assert_eq!(span.start + span.size, (size - 1) * MIB);
        assert!(run("sgdisk", &["-v", shown]).contains("No problems found"));
        assert_eq!(Table::read(&block).unwrap().grown(&block, 2, span).unwrap(), None);
    }
    drop(in_use);
    let uuid = "01234567-89ab-4def-8123-456789abcdef";
    run("mkswap", &["-U", uuid, path(1).to_str().unwrap()]);
    let swap = Block::open(path(1).file_name().unwrap().to_str().unwrap(), true).unwrap();
    assert_eq!(ids::read(What::Swap, &swap).unwrap(), uuid);
    let new = uuid::text(uuid::of_random([9; 16]));
    ids::write(What::Swap, &swap, &new).unwrap();
    assert!(run("blkid", &["-p", path(1).to_str().unwrap()]).contains(&format!(" UUID=\"{new}\"")));
    assert!(
        !Path::new("/dev")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(".taproot"))
    );
}
