use super::*;
use crate::cmdline::parse;
use crate::plan::declared::declared;
use crate::sys::fake::{Machine, Tree};
use crate::zfs::nvlist::Value;

fn import(guid: u64, read_only: bool) -> (u64, Vec<u8>) {
    let mut properties = NvList::new();
    if read_only {
        properties.set("readonly", Value::U64(1));
    }
    (guid, properties.encode_native())
}

#[test]
fn what_is_not_declared_is_refused_and_told() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    let call = |number| guard.zfs(&ZfsCall { number, name: b"tank", ..ZfsCall::default() });
    assert!(call(calls::POOL_CONFIGS).is_err(), "nothing is declared yet");
    guard.declare(declared(&parse(b"root=ZFS=tank/r")));
    assert!(call(calls::POOL_CONFIGS).is_ok());
    assert_eq!(call(calls::ROLLBACK).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(call(calls::DESTROY_SNAPS).is_err());
    assert_eq!(guard.refused().len(), 3);
    assert!(tree.records().iter().any(|record| record.contains("ROLLBACK of tank was refused")));
}

#[test]
fn nothing_is_mapped_unless_there_are_layers() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    let mapping = Mapping {
        name: "taproot-base".to_owned(),
        uuid: "x".to_owned(),
        target: "verity",
        sectors: 8,
        parameters: String::new(),
    };
    assert_eq!(guard.map(&mapping).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(guard.refused().len(), 1);
    guard.declare(declared(&parse(b"root=UUID=1")));
    assert_eq!(guard.map(&mapping).unwrap_err().raw_os_error(), Some(libc::EPERM));
    guard.declare(declared(&parse(b"root=UUID=1 taproot.layers=base")));
    // From here on it is the system's to say.
    assert_eq!(guard.map(&mapping).unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!(guard.unmap("taproot-base").unwrap_err().kind(), io::ErrorKind::Unsupported);
}

#[test]
fn a_layer_with_a_root_hash_is_mounted_under_its_tree_alone() {
    let machine = Machine::new(Tree::new());
    let guard = Guard::new(&machine);
    let hash = "a".repeat(64);
    guard.declare(declared(&parse(format!("taproot.layers=top:base taproot.roothash=base:{hash}").as_bytes())));
    let (base, top) = (Path::new("/run/taproot/layers/base"), Path::new("/run/taproot/layers/top"));
    let refused = |result: io::Result<()>| result.is_err_and(|e| e.raw_os_error() == Some(libc::EPERM));
    assert!(refused(guard.mount("/dev/loop0", base, "squashfs", libc::MS_RDONLY, "")));
    assert!(refused(guard.mount_image(Path::new("/x"), base, "squashfs").map(drop)));
    assert!(refused(guard.bind(Path::new("/x"), base, true)));
    assert_eq!(guard.refused().len(), 3);
    assert!(guard.mount("/dev/dm-0", base, "squashfs", libc::MS_RDONLY, "").is_ok());
    assert!(guard.mount("/dev/loop0", top, "squashfs", libc::MS_RDONLY, "").is_ok());
    assert!(refused(guard.mount("/dev/vda", top, "squashfs", libc::MS_RDONLY, "")), "no image");
    assert!(refused(guard.mount("/dev/loop0", top, "ext4", 0, "")), "writable");
}

#[test]
fn the_layer_state_is_written_only_where_the_words_go_by_it() {
    let tree = Tree::new();
    tree.make_dirs(Path::new("/run/taproot/base/.layers")).unwrap();
    let guard = Guard::new(&tree);
    let path = Path::new("/run/taproot/base/.layers/state");
    for line in ["", "taproot.layers=a:b", "taproot.layers taproot.import=ro", "taproot.layers taproot.upper=none"] {
        guard.declare(declared(&parse(format!("root=UUID=1 {line}").as_bytes())));
        assert!(guard.write(path, b"x").is_err() && guard.rename(path, path).is_err(), "{line}");
    }
    for line in ["taproot.layers", "taproot.layers taproot.upper=ram"] {
        guard.declare(declared(&parse(format!("root=UUID=1 {line}").as_bytes())));
        assert!(guard.write(path, b"x").is_ok(), "{line}");
    }
    assert!(guard.write(Path::new("/run/other"), b"x").is_ok());
}

#[test]
fn a_pool_is_imported_only_if_it_was_chosen_and_only_as_declared() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    let call = |(guid, src): (u64, Vec<u8>)| {
        guard.zfs(&ZfsCall { number: calls::POOL_IMPORT, name: b"p", guid, src: &src, ..ZfsCall::default() })
    };
    guard.declare(declared(&parse(b"zfs=p taproot.import=ro")));
    assert!(call(import(7, true)).is_err(), "not chosen");
    guard.choose(7, "tank", Vec::new());
    assert!(call(import(7, false)).is_err(), "writable");
    assert!(call(import(7, true)).is_ok());
    for fstype in ["zfs", "ext4", "virtiofs"] {
        assert!(guard.writing_refused(fstype, 0).is_some(), "{fstype}");
        assert!(guard.writing_refused(fstype, libc::MS_RDONLY).is_none(), "{fstype}");
    }
    assert!(guard.writing_refused("tmpfs", 0).is_none() && guard.writing_refused("ramfs", 0).is_none());
    guard.choose(8, "tank", Vec::new());
    assert!(call(import(7, true)).is_err(), "another one was chosen since");
    guard.choose(7, "tank", Vec::new());
    guard.declare(declared(&parse(b"zfs=p")));
    assert!(call(import(7, false)).is_err(), "what another attempt chose");
    guard.choose(7, "tank", Vec::new());
    assert!(call(import(7, false)).is_ok() && guard.writing_refused("zfs", 0).is_none());
}

/// Whether this call is made, about this name and with this property.
fn may(guard: &Guard<'_>, number: u32, name: &str, property: &str) -> bool {
    let src: NvList = [(property, Value::text("x"))].into_iter().collect();
    let src = if property.is_empty() { Vec::new() } else { src.encode_native() };
    guard.zfs(&ZfsCall { number, name: name.as_bytes(), src: &src, ..ZfsCall::default() }).is_ok()
}

#[test]
fn only_what_this_attempt_cloned_is_destroyed() {
    let tree = Tree::answering(|_, call| ZfsReply {
        errno: if call.name == b"tank/full" { libc::ENOSPC } else { 0 },
        ..ZfsReply::default()
    });
    let guard = Guard::new(&tree);
    for words in ["root=ZFS=tank/r@s", "zfs=tank", ""] {
        guard.declare(declared(&parse(words.as_bytes())));
        guard.choose(7, "tank", Vec::new());
        for name in ["tank/r", "tank/r_s", "tank"] {
            assert!(!may(&guard, calls::DESTROY, name, ""), "{words}: {name}");
        }
        assert!(may(&guard, calls::CLONE, "tank/r_s", "origin") && may(&guard, calls::CLONE, "tank/full", "origin"));
        assert!(may(&guard, calls::DESTROY, "tank/r_s", ""), "{words}");
        assert!(!may(&guard, calls::DESTROY, "tank/full", ""), "{words}: it could not be made");
        assert!(!may(&guard, calls::DESTROY, "tank/r", ""), "{words}");
    }
    guard.declare(declared(&parse(b"root=ZFS=tank/r")));
    assert!(!may(&guard, calls::CLONE, "tank/r_s", "origin"), "no word asks for it");
}

#[test]
fn nothing_is_set_but_that_a_clone_is_complete() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    guard.declare(declared(&parse(b"root=ZFS=tank/r@s")));
    guard.choose(7, "tank", Vec::new());
    // An earlier boot may have made it.
    assert!(may(&guard, calls::SET_PROP, "tank/r_s", STATE_PROPERTY));
    assert!(!may(&guard, calls::SET_PROP, "tank/r_s", "mountpoint") && !may(&guard, calls::SET_PROP, "tank/r_s", ""));
    guard.declare(declared(&parse(b"root=ZFS=tank/r")));
    guard.choose(7, "tank", Vec::new());
    assert!(!may(&guard, calls::SET_PROP, "tank/r_s", STATE_PROPERTY), "no word asks for it");
}

#[test]
fn snapshots_of_the_roots_own_pool_alone_are_touched() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    let rollback = "root=ZFS=tank/r bootfs.rollback=s taproot.destroy_newer=yes bootfs.snapshot=t";
    for (words, call) in [
        (rollback, calls::ROLLBACK),
        (rollback, calls::DESTROY_SNAPS),
        (rollback, calls::SNAPSHOT),
        ("root=ZFS=tank/r@s", calls::CLONE),
    ] {
        guard.declare(declared(&parse(words.as_bytes())));
        assert!(!may(&guard, call, "tank/r", ""), "nothing is chosen");
        guard.choose(7, "tank", Vec::new());
        guard.choose_beside(8, "data", Vec::new());
        guard.own("usb");
        assert!(may(&guard, call, "tank/r", "") && may(&guard, call, "tank", ""), "{}", calls::name(call));
        for other in ["data/r", "usb", "tankard/r"] {
            assert!(!may(&guard, call, other, ""), "{} {other}", calls::name(call));
        }
    }
}

/// A step that mounts this.
fn mounting(source: &str, fstype: &str) -> Step {
    let root = crate::plan::facts::Dataset::with_defaults(source);
    let step = crate::plan::mounts::root_step(&crate::plan::root::Root::Dataset(root), &parse(b""));
    Step::Mount(Box::new(crate::plan::next::Mount { step, source: source.to_owned(), fstype: fstype.to_owned() }))
}

#[test]
fn a_device_is_mounted_only_by_the_step_that_says_so_and_where_a_word_asks_for_it() {
    let machine = Machine::new(Tree::new());
    let guard = Guard::new(&machine);
    let usr = Path::new("/newroot/usr");
    let mount = |source, fstype| guard.mount(source, usr, fstype, libc::MS_RDONLY, "").is_ok();
    guard.begin(Some(&mounting("/dev/vda2", "ext4")));
    assert!(!mount("/dev/vda2", "ext4"), "nothing is declared");
    guard.declare(declared(&parse(b"root=ZFS=tank/r")));
    assert!(mount("/dev/vda2", "ext4") && !mount("/dev/vdb1", "ext4"), "another device");
    for words in ["root=ZFS=tank/r", "root=ZFS=tank/r taproot.import=ro"] {
        guard.declare(declared(&parse(words.as_bytes())));
        assert!(guard.mount("/newroot", usr, "none", libc::MS_BIND, "").is_ok(), "shows what is mounted");
    }
    guard.declare(declared(&parse(b"root=ZFS=tank/r taproot.fstab=no")));
    assert!(!mount("/dev/vda2", "ext4"), "fstab is not read");
    guard.begin(None);
    guard.declare(declared(&parse(b"root=ZFS=tank/r")));
    assert!(!mount("/dev/vda2", "ext4"), "no step is about a mount");
    assert!(mount("tmpfs", "tmpfs"));
    assert!(guard.mount("none", usr, "", libc::MS_REMOUNT | libc::MS_RDONLY, "").is_ok());
}

#[test]
fn a_key_device_is_mounted_read_only_and_where_a_word_names_one() {
    let machine = Machine::new(Tree::new());
    let guard = Guard::new(&machine);
    let mount = |flags| guard.mount("/dev/sdb1", Path::new(KEY_MOUNTED_AT), "vfat", flags, "").is_ok();
    guard.declare(declared(&parse(b"root=ZFS=tank/r taproot.key=/etc/key")));
    assert!(!mount(libc::MS_RDONLY));
    guard.declare(declared(&parse(b"root=ZFS=tank/r taproot.key=LABEL=K:/key")));
    assert!(mount(libc::MS_RDONLY) && !mount(0));
}

#[test]
fn datasets_are_mounted_of_pools_that_are_chosen_or_imported() {
    let machine = Machine::new(Tree::new());
    let guard = Guard::new(&machine);
    guard.declare(declared(&parse(b"root=ZFS=tank/r taproot.import=ro")));
    guard.choose(7, "tank", Vec::new());
    guard.own("usb");
    guard.are_imported(["before"].into_iter());
    for (dataset, allowed) in
        [("tank/r", true), ("tank/r@s", true), ("usb/x", true), ("before/x", true), ("data/x", false)]
    {
        guard.begin(Some(&mounting(dataset, "zfs")));
        let mounted = guard.mount(dataset, Path::new("/newroot/x"), "zfs", libc::MS_RDONLY, "");
        assert_eq!(mounted.is_ok(), allowed, "{dataset}");
        assert!(guard.mount("tank/other", Path::new("/newroot/x"), "zfs", libc::MS_RDONLY, "").is_err());
    }
}

#[test]
fn no_boot_takes_a_pool_back() {
    let tree = Tree::answering(|_, _| ZfsReply::default());
    let guard = Guard::new(&tree);
    guard.declare(declared(&parse(b"zfs=p")));
    guard.choose(7, "tank", Vec::new());
    let (guid, src) = import(7, true);
    let call = |conf: &NvList, cookie| {
        let conf = conf.encode_native();
        let call = ZfsCall {
            number: calls::POOL_IMPORT,
            name: b"p",
            guid,
            src: &src,
            cookie,
            conf: &conf,
            ..ZfsCall::default()
        };
        guard.zfs(&call).is_ok()
    };
    let as_it_is: NvList = [("name", Value::text("p"))].into_iter().collect();
    assert!(call(&as_it_is, 0x4) && !call(&as_it_is, 0x80));
    for rewind in [Rewind::Try, Rewind::Do] {
        let mut back = as_it_is.clone();
        rewind.put_into(&mut back);
        assert!(!call(&back, 0));
    }
    assert!(guard.refused().iter().all(|line| line.contains("goes back to an older state")));
}

#[test]
fn only_pools_that_this_boot_imported_are_exported() {
    let refusing = std::sync::atomic::AtomicBool::new(true);
    let tree = Tree::answering(move |_, call| match call.number {
        calls::POOL_IMPORT if refusing.swap(false, std::sync::atomic::Ordering::Relaxed) => {
            ZfsReply { errno: libc::EBUSY, ..ZfsReply::default() }
        }
        _ => ZfsReply::default(),
    });
    let guard = Guard::new(&tree);
    guard.declare(declared(&parse(b"zfs=p")));
    let export = |name: &[u8]| guard.zfs(&ZfsCall { number: calls::POOL_EXPORT, name, ..ZfsCall::default() });
    let import = || {
        let (guid, src) = import(7, false);
        guard.zfs(&ZfsCall { number: calls::POOL_IMPORT, name: b"p", guid, src: &src, ..ZfsCall::default() })
    };
    guard.choose(7, "tank", Vec::new());
    import().unwrap();
    assert!(export(b"p").is_err(), "the import failed");
    import().unwrap();
    assert!(export(b"p").is_ok() && export(b"q").is_err());
    guard.own("q");
    guard.declare(declared(&parse(b"zfs=q")));
    assert!(export(b"q").is_ok() && export(b"p").is_ok(), "whatever the attempt");
}
