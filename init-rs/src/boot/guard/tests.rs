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
        assert!(guard.mount_refused(fstype, 0).is_some(), "{fstype}");
        assert!(guard.mount_refused(fstype, libc::MS_RDONLY).is_none(), "{fstype}");
    }
    assert!(guard.mount_refused("tmpfs", 0).is_none() && guard.mount_refused("ramfs", 0).is_none());
    guard.choose(8, "tank", Vec::new());
    assert!(call(import(7, true)).is_err(), "another one was chosen since");
    guard.choose(7, "tank", Vec::new());
    guard.declare(declared(&parse(b"zfs=p")));
    assert!(call(import(7, false)).is_err(), "what another attempt chose");
    guard.choose(7, "tank", Vec::new());
    assert!(call(import(7, false)).is_ok() && guard.mount_refused("zfs", 0).is_none());
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
