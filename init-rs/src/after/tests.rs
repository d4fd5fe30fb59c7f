//! The booted system, and what is left for it.

use super::*;
use crate::sys::fake::{Machine, Tree};
use crate::sys::{FileKind, ZfsCall, ZfsReply};
use crate::zfs::calls::{DATASET_LIST_NEXT, OBJSET_STATS, POOL_CONFIGS};
use crate::zfs::nvlist::{NvList, Value};
use std::path::Path;

const UNIT: &str = "/newroot/usr/lib/systemd/system/zfs-mount.service";
const STOCK: &str = "[Service]\nExecStart=/sbin/zfs mount -a\n";
const DROP_IN: &str = "/run/systemd/system/zfs-mount.service.d/00-taproot.conf";
const LINK: &str = "/run/systemd/system-generators/zfs-mount-generator";

fn root() -> Tree {
    Tree::new().with("/newroot/usr/lib/systemd/systemd", "").with_link("/usr/lib/systemd/systemd", "/newroot/sbin/init")
}

fn prepared(tree: &Tree) -> Result<prepare::Prepared, String> {
    tree.make_dirs(Path::new("/run/taproot")).unwrap();
    prepare(tree, Path::new("/newroot"), "/sbin/init")
}

#[test]
fn a_systemd_with_stock_units_gets_what_calls_us() {
    let generator = "/newroot/usr/lib/systemd/system-generators/zfs-mount-generator";
    let tree = root().with(UNIT, STOCK).with(generator, "");
    let expected = Ok(prepare::Prepared { files: vec![DROP_IN.into(), LINK.into()], left: None });
    assert_eq!(prepared(&tree), expected);
    // As after an attempt that failed.
    assert_eq!(prepared(&tree), expected);
    assert!(tree.text(DROP_IN).ends_with("ExecStart=\nExecStart=/run/taproot/taproot-init mount-all /sbin/zfs"));
    assert_eq!(tree.read_link(Path::new(LINK)).unwrap(), Path::new(PROGRAM));
    let info = tree.stat(Path::new(PROGRAM)).unwrap();
    assert!(info.kind == FileKind::File && info.mode & 0o111 == 0o111 && info.size > 0, "{info:?}");
}

#[test]
fn a_line_for_the_root_is_left_out_of_a_copy() {
    let fstab = "# comment\nUUID=1 / ext4 ro 0 1\nproc /proc proc hidepid=2\n";
    let without = |tree: &Tree| without_root_line(tree, Path::new("/newroot"), "/sbin/init").unwrap();
    let tree = root().with("/newroot/etc/fstab", fstab);
    assert_eq!(without(&tree).len(), 2);
    assert_eq!(tree.text("/run/taproot/fstab"), "# comment\nproc /proc proc hidepid=2");
    let drop_in = tree.text("/run/systemd/system/systemd-remount-fs.service.d/00-taproot.conf");
    assert!(drop_in.ends_with("Environment=SYSTEMD_FSTAB=/run/taproot/fstab"), "{drop_in}");
    assert_eq!(tree.text("/newroot/etc/fstab"), fstab.trim(), "the file itself is part of a layer");
    let other_init = Tree::new().with("/newroot/sbin/init", "").with("/newroot/etc/fstab", fstab);
    for tree in [other_init, root(), root().with("/newroot/etc/fstab", "proc /proc proc\n")] {
        assert_eq!(without(&tree), [""; 0]);
        assert!(!tree.exists("/run/systemd"));
    }
}

#[test]
fn other_inits_and_units_are_left_alone() {
    let other_init = Tree::new().with("/newroot/sbin/init", "").with(UNIT, STOCK);
    for tree in [other_init, root()] {
        assert_eq!(prepared(&tree), Ok(prepare::Prepared::default()));
        assert!(!tree.exists("/run/systemd") && !tree.exists(PROGRAM), "it would tell programs that systemd runs");
    }
    let own = "[Service]\nExecStart=/opt/mounter\n";
    let tree = root().with(UNIT, STOCK).with("/newroot/etc/systemd/system/zfs-mount.service", own);
    let found = prepared(&tree).unwrap();
    assert!(found.files.is_empty() && found.left.unwrap().contains("runs `/opt/mounter`, not `zfs mount -a`"));
    assert!(!tree.exists("/run/systemd"));
}

/// A kernel with pools of these datasets: name, canmount, mountpoint.
fn kernel(rows: &'static [(&str, u64, &str)]) -> impl Fn(&Tree, &ZfsCall<'_>) -> ZfsReply + Send + Sync {
    let list = |row: &(&str, u64, &str)| {
        let pair = |value: Value| -> Value {
            let source = Value::text(row.0);
            Value::List([("value", value), ("source", source)].into_iter().collect())
        };
        let properties: NvList =
            [("canmount", pair(Value::U64(row.1))), ("mountpoint", pair(Value::text(row.2)))].into_iter().collect();
        properties.encode_native()
    };
    move |_, call| {
        let name = std::str::from_utf8(call.name).unwrap();
        let missing = |errno| ZfsReply { errno, ..ZfsReply::default() };
        let reply = |row: &(&str, u64, &str), cookie| ZfsReply {
            name: row.0.as_bytes().to_vec(),
            cookie,
            objset_type: 2,
            dst: list(row),
            ..ZfsReply::default()
        };
        match call.number {
            POOL_CONFIGS => {
                let pools = rows.iter().filter(|row| !row.0.contains('/'));
                let configs: NvList = pools.map(|row| (row.0, Value::List(NvList::new()))).collect();
                ZfsReply { dst: configs.encode_native(), ..ZfsReply::default() }
            }
            OBJSET_STATS => rows.iter().find(|row| row.0 == name).map_or(missing(libc::ENOENT), |row| reply(row, 0)),
            DATASET_LIST_NEXT => {
                let at = usize::try_from(call.cookie).unwrap();
                let mut children = rows.iter().filter(|row| row.0.rsplit_once('/').is_some_and(|(up, _)| up == name));
                children.nth(at).map_or(missing(libc::ESRCH), |row| reply(row, call.cookie + 1))
            }
            _ => missing(libc::ENOTSUP),
        }
    }
}

const ON: u64 = 1;
const NOAUTO: u64 = 2;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn all_is_mounted_but_what_is_of_another_environment() {
    let rows = &[
        ("r", 0, "none"),
        ("r/ROOT", 0, "none"),
        ("r/ROOT/a", NOAUTO, "/"),
        ("r/ROOT/a/log", ON, "/log"),
        ("r/ROOT/b", NOAUTO, "/"),
        ("r/ROOT/b/log", ON, "/log"),
        ("r/ROOT/b/only", ON, "/only"),
        ("d", ON, "/d"),
        ("d/x", ON, "/d/x"),
        ("d/y", ON, "/y"),
    ];
    let mounts = "proc /proc proc rw 0 0\nr/ROOT/a / zfs rw 0 0\nr/ROOT/a/log /log zfs rw 0 0\n";
    let tree = Tree::answering(kernel(rows)).with("/proc/self/mounts", mounts);
    let mut machine = Machine::new(tree);
    assert_eq!(mount_all(&machine, &words(&["/sbin/zfs"])), 0);
    let calls = machine.calls();
    let mounted = |calls: &[String]| -> Vec<String> {
        calls.iter().map(|call| call.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(mounted(&calls), ["mount d /d", "mount d/x /d/x", "mount d/y /y"]);
    assert!(calls.iter().all(|call| call.contains(",mntpoint=/")), "{calls:?}");

    // What lies below what is not mounted is not mounted either, and it is told by the exit status.
    machine.calls.lock().unwrap().clear();
    machine.refusals = Box::new(|call| call.starts_with("mount d /d ").then_some(libc::EIO));
    assert_eq!(mount_all(&machine, &words(&["/sbin/zfs"])), 1);
    assert_eq!(mounted(&machine.calls()), ["mount d /d", "mount d/y /y"]);
}

#[test]
fn where_nothing_is_left_out_the_systems_own_program_mounts() {
    let rows = &[("r", 0, "none"), ("r/ROOT", 0, "none"), ("r/ROOT/a", NOAUTO, "/"), ("r/home", ON, "/home")];
    for root in ["r/ROOT/a / zfs", "r/ROOT/a@then / zfs", "/dev/sda1 / ext4"] {
        let tree = Tree::answering(kernel(rows)).with("/proc/self/mounts", &format!("{root} rw 0 0\n"));
        let machine = Machine::new(tree);
        assert_eq!(mount_all(&machine, &words(&["/usr/bin/zfs"])), 1, "the fake machine has no such program");
        assert_eq!(machine.calls(), ["become /usr/bin/zfs mount -a"], "{root}");
    }
}

#[test]
fn the_generator_sees_no_other_environment() {
    let own = "r\tnone\toff\nr/ROOT/a\t/\tnoauto\nr/ROOT/a/log\t/log\ton\n";
    let list = format!("{own}r/ROOT/b\t/\tnoauto\nr/ROOT/b/only\t/only\ton\n");
    let cache = "/etc/zfs/zfs-list.cache/r";
    let real = "/usr/lib/systemd/system-generators/zfs-mount-generator";
    let machine = |text: &str| {
        let mounts = "r/ROOT/a / zfs rw 0 0\n";
        Machine::new(Tree::new().with("/proc/self/mounts", mounts).with(cache, text).with(real, ""))
    };
    let become_it = format!("become {real} /gen /early /late");
    let alone = machine(&list);
    generate(&alone, &words(&["/gen", "/early", "/late"]));
    let tmpfs = "mount tmpfs /etc/zfs/zfs-list.cache tmpfs 0x6 mode=0755";
    assert_eq!(alone.calls(), ["own mounts", tmpfs, &become_it]);
    assert_eq!(alone.tree.text(cache), own.trim());

    // With nothing to leave out, and where it cannot be left out, the list is as it was.
    let all = machine(own);
    generate(&all, &words(&["/gen", "/early", "/late"]));
    assert_eq!(all.calls(), [become_it.as_str()]);
    let mut refused = machine(&list);
    refused.refusals = Box::new(|call| (call == "own mounts").then_some(libc::EPERM));
    generate(&refused, &words(&["/gen", "/early", "/late"]));
    assert_eq!(refused.calls(), ["own mounts", &become_it]);
    assert_eq!(refused.tree.text(cache), list.trim());
}

#[test]
fn a_list_that_cannot_be_read_is_no_empty_one() {
    let dir = "/etc/zfs/zfs-list.cache";
    // A directory in the place of a list.
    let tree = Tree::new().with(&format!("{dir}/r"), "r\tnone\toff\n").with(&format!("{dir}/s/x"), "");
    let (lists, unreadable) = generator::lists(&tree);
    assert_eq!(lists.keys().collect::<Vec<_>>(), ["r"]);
    assert!(unreadable.len() == 1 && unreadable[0].starts_with(&format!("{dir}/s: ")), "{unreadable:?}");
    assert_eq!(generator::lists(&Tree::new()).1, [""; 0], "most systems have none");
}

#[test]
fn a_generator_that_was_switched_off_stays_off() {
    let off = "/etc/systemd/system-generators/zfs-mount-generator";
    let tree = Tree::new()
        .with("/usr/lib/systemd/system-generators/zfs-mount-generator", "")
        // As a link to /dev/null: there, and no file.
        .with(&format!("{off}/x"), "");
    let machine = Machine::new(tree);
    assert_eq!(generate(&machine, &words(&["/gen"])), 0);
    assert!(machine.calls().is_empty());
}
