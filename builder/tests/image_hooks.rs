//! Programs of the user's own at every stage of `taproot image`, and several states of one tree.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)] // a test stops at the first surprise

#[path = "../../tests/src/account.rs"]
#[allow(unreachable_pub, dead_code, reason = "public where the scenarios use it")]
mod account;
mod made;
mod place;

use std::collections::BTreeMap;
use std::fs::{self, File};

use made::tar::{Made, archive};
use place::{ESP, MIB, Place, Pool, tree, whole};
use taproot::pool::{contents, outline};

const ROOT: &str = "ROOT/default";

/// A tree that is soon packed, with something that cannot be compressed.
fn small() -> Vec<Made> {
    let mut all: Vec<Made> =
        tree().into_iter().filter(|made| !made.path.starts_with(b"./srv/") || made.path.len() == 7).collect();
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 32).unwrap_or(0)
    });
    let noise: Vec<u8> = words.take(1 << 20).flat_map(u32::to_le_bytes).collect();
    all.push(Made::file("./srv/noise", noise));
    all
}

/// Whether a tree may be unpacked with its owners here; noted as skipped if not.
fn may_unpack() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    account::skipped("trees are unpacked for hooks: that takes root");
    false
}

fn pool(place: &Place) -> Pool {
    Pool(File::open(place.path("box.raw")).unwrap(), MIB + ESP)
}

fn files(place: &Place, set: &str) -> BTreeMap<String, Vec<u8>> {
    let pool = pool(place);
    contents(&pool, pool.size(), set, &|path| !path.contains("taproot")).unwrap()
}

fn text(files: &BTreeMap<String, Vec<u8>>, path: &str) -> String {
    assert!(files.contains_key(path), "{path} is not there: {:?}", files.keys());
    String::from_utf8_lossy(&files[path]).into()
}

/// A hook that writes its stage into a list, and then does something.
fn inline(what: &str) -> String {
    let log = "echo \"$TAPROOT_STAGE $POOL_NAME ${TAPROOT_ROOT:+tree}\" >>log\n";
    format!("{{ inline = '''{log}{what}''' }}")
}

fn config(place: &Place, hooks: &[(&str, &str)], more: &str) {
    let lines: Vec<String> = hooks.iter().map(|(name, what)| format!("\"{name}\" = {}\n", inline(what))).collect();
    fs::write(place.path("box.toml"), format!("{more}\n[hooks]\n{}", lines.concat())).unwrap();
}

const MAKE: [&str; 4] = ["-c", "box.toml", "--raw", "box.raw"];

/// What hooks look at, and what they change.
const CHECKS: [(&str, &str); 11] = [
    (
        "install.before",
        "[ -z \"$(ls \"$1\")\" ]; mkdir -p \"$1/etc\"; echo under >\"$1/etc/under\"; echo x >\"$1/etc/fstab\"",
    ),
    ("install.after", "grep -q gone $TAPROOT_ROOT/etc/fstab; echo new >$CHROOT_PATH/etc/machine-id; echo hi"),
    (
        "configure.after",
        "[ \"$(cat $1/etc/hostname)\" = box ]; mkdir -p $1/var/cache/apt; echo p >$1/var/cache/apt/p; ls $1/usr/bin/taproot",
    ),
    ("identity.after", "[ ! -s $1/etc/machine-id ]; [ ! -e $1/var/cache/apt/p ]; echo last >$1/etc/last"),
    ("initramfs.before", "echo 1 >$1/etc/initramfs"),
    ("boot.before", "[ \"$(cat $1/etc/initramfs)\" = 1 ]"),
    ("pool.after", "[ \"$TAPROOT_POOL_OFFSET\" = 68157440 ]; [ -s \"$TAPROOT_DISK\" ]"),
    ("initramfs.after", "[ -s \"$TAPROOT_INITRAMFS\" ]; [ \"$TAPROOT_KERNEL\" = 6.1.0-test ]"),
    ("boot.after", "[ -s \"$TAPROOT_VMLINUZ\" ]; echo own >$TAPROOT_ESP/own.txt; rm $TAPROOT_ESP/loader/loader.conf"),
    (
        "done.before",
        "[ ! -e box.raw ]; grep -q pool.name $TAPROOT_CONFIG_JSON; . $TAPROOT_HELPERS; export_env; [ $LC_ALL = C ]",
    ),
    ("done.after", "[ -e \"$TAPROOT_OUTPUT\" ]"),
];

/// The stages in their order, and whether there is a tree.
const ORDER: [&str; 22] = [
    "source zroot ",
    "source zroot ",
    "install zroot tree",
    "install zroot tree",
    "configure zroot tree",
    "configure zroot tree",
    "identity zroot tree",
    "identity zroot tree",
    "initramfs zroot tree",
    "boot zroot tree",
    "layout zroot ",
    "layout zroot ",
    "pool zroot ",
    "pool zroot ",
    "initramfs zroot ",
    "boot zroot ",
    "assemble zroot ",
    "assemble zroot ",
    "convert zroot ",
    "convert zroot ",
    "done zroot ",
    "done zroot ",
];

#[test]
fn each_stage_has_its_hooks_in_order() {
    if !may_unpack() {
        return;
    }
    let place = Place::new(&small());
    let all = ["source", "install", "configure", "identity", "layout", "pool", "assemble", "convert", "done"];
    let mut hooks: Vec<(String, &str)> =
        all.iter().flat_map(|stage| ["before", "after"].map(|place| (format!("{stage}.{place}"), ""))).collect();
    for (name, what) in CHECKS {
        hooks.retain(|(other, _)| other != name);
        hooks.push((name.to_owned(), what));
    }
    let hooks: Vec<(&str, String)> =
        hooks.iter().map(|(name, what)| (name.as_str(), format!("set -e\n{what}"))).collect();
    let hooks: Vec<(&str, &str)> = hooks.iter().map(|(name, what)| (*name, what.as_str())).collect();
    config(&place, &hooks, "[system]\nhostname = \"box\"\n");
    let output = place.make(&[&MAKE[..], &["--json"]].concat());
    whole(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("hi\n"), "what hooks say is shown");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let esp: Vec<&str> = said["esp"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(esp.contains(&"own.txt") && !esp.contains(&"loader/loader.conf"), "{esp:?}");
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), ORDER);
    let files = files(&place, ROOT);
    assert_eq!(
        (text(&files, "etc/under"), text(&files, "etc/last"), text(&files, "etc/hostname")),
        ("under\n".into(), "last\n".into(), "box\n".into())
    );
    assert_eq!(text(&files, "etc/machine-id"), "");
    assert!(text(&files, "etc/fstab").contains("/efi vfat"), "the table of file systems is the disk's");
    assert!(!files.contains_key("var/cache/apt/p") && files.contains_key("srv/noise"));
    assert_eq!(place.names(), ["box.raw", "box.toml", "log", "root.tar"]);
}

#[test]
fn hooks_take_the_place_of_stages() {
    if !may_unpack() {
        return;
    }
    let place = Place::new(&small());
    let hooks = [
        ("source.replace", "mv $(ls root.tar) $TAPROOT_WORK/root.tar"),
        ("configure.replace", "echo mine >$1/etc/hostname"),
        ("identity.replace", "echo stays >$1/etc/machine-id"),
        ("initramfs.replace", "echo own >$TAPROOT_INITRAMFS"),
        ("boot.replace", "mkdir -p $TAPROOT_ESP/EFI/BOOT; cat $TAPROOT_INITRAMFS >$TAPROOT_ESP/EFI/BOOT/BOOTX64.EFI"),
        ("convert.replace", "echo $TAPROOT_FORMAT >$TAPROOT_OUTPUT"),
    ];
    config(&place, &hooks, "[system]\nhostname = \"box\"\n");
    let mut command = place.bare(&["--qcow2", "box.qcow2", "--json"]);
    let output = command.args(MAKE).output().unwrap();
    whole(&output);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["esp"], &said["zfs"]), (&serde_json::json!(["EFI/BOOT/BOOTX64.EFI"]), &serde_json::Value::Null));
    assert_eq!(fs::read_to_string(place.path("box.qcow2")).unwrap(), "qcow2\n");
    let files = files(&place, ROOT);
    assert_eq!((text(&files, "etc/hostname"), text(&files, "etc/machine-id")), ("mine\n".into(), "stays\n".into()));
    assert!(files.contains_key("usr/bin/taproot"), "what the image needs to boot is there all the same");
    // A tree that a hook makes.
    let again = Place::new(&small());
    config(&again, &[("install.replace", "tar -xf root.tar -C $1; echo filled >$1/etc/filled")], "");
    whole(&again.bare(&MAKE).output().unwrap());
    assert_eq!(text(&self::files(&again, ROOT), "etc/filled"), "filled\n");
}

#[test]
fn a_hook_that_fails_leaves_nothing_and_is_heard() {
    let place = Place::new(&small());
    let stages = [
        "source.before",
        "install.after",
        "identity.before",
        "pool.before",
        "pool.after",
        "boot.after",
        "assemble.after",
        "done.before",
    ];
    for stage in stages {
        if stage.starts_with('i') && !may_unpack() {
            continue;
        }
        config(&place, &[(stage, "echo what is wrong >&2; exit 7")], "");
        let output = place.make(&MAKE);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{stage}");
        assert!(
            said.contains("what is wrong") && said.contains(stage) && said.contains("exit status: 7"),
            "{stage}: {said}"
        );
        fs::remove_file(place.path("log")).unwrap();
        assert_eq!(place.names(), ["box.toml", "root.tar"], "{stage}");
    }
    config(&place, &[("install.replace", "true")], "");
    if may_unpack() {
        let said = String::from_utf8_lossy(&place.make(&MAKE).stderr).into_owned();
        assert!(said.contains("expected a tree in TAPROOT_ROOT"), "{said}");
        // What it mounts is gone with it: else the disk would be looked for below it.
        config(&place, &[("install.after", "mount -t tmpfs none $1/srv && echo x >$1/srv/x")], "");
        whole(&place.make(&MAKE));
        let files = files(&place, ROOT);
        assert!(files.contains_key("srv/noise") && !files.contains_key("srv/x"));
    }
}

const STATES: &str = r#"
[[state]]
name = "first"
hold = ["kept"]
[[state]]
name = "second"
tar = "more.tar"
everywhere = true
[[dataset]]
name = "ROOT/default"
mountpoint = "/"
canmount = "noauto"
bootfs = true
[[dataset]]
name = "srv"
mountpoint = "/srv"
[[dataset]]
name = "data"
mountpoint = "none"
[[dataset]]
name = "ROOT/old"
clone-of = "ROOT/default@first"
canmount = "noauto"
"#;

/// What the second state brings.
fn more() -> Vec<u8> {
    archive(&[
        Made::file("./etc/second", "2"),
        Made::file("./etc/os-release", "ID=second\n"),
        Made::file("./srv/.wh.0", ""),
    ])
}

#[test]
fn archives_over_each_other_are_states() {
    let place = Place::new(&small());
    fs::write(place.path("more.tar"), more()).unwrap();
    fs::write(place.path("box.toml"), STATES).unwrap();
    let output = place.make(&[&MAKE[..], &["--verify", "--json"]].concat());
    whole(&output);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = files(&place, "ROOT/default@first");
    let last = files(&place, "ROOT/default@second");
    assert_eq!(last, files(&place, ROOT));
    assert_eq!((text(&last, "etc/second"), text(&last, "etc/os-release")), ("2".into(), "ID=second\n".into()));
    assert!(!first.contains_key("etc/second") && text(&first, "etc/os-release").starts_with("ID=made"));
    assert!(files(&place, "srv@first").contains_key("0") && !files(&place, "srv").contains_key("0"));
    let pool = pool(&place);
    let all = outline(&pool, pool.size()).unwrap();
    let names: Vec<&str> = all.iter().map(|set| set.name.as_str()).collect();
    let wanted = [
        "",
        "@second",
        "ROOT",
        "ROOT/default",
        "ROOT/default@first",
        "ROOT/default@second",
        "ROOT/old",
        "ROOT@second",
        "data",
        "data@second",
        "srv",
        "srv@first",
        "srv@second",
    ];
    assert_eq!(names, wanted);
    let set = |name: &str| all.iter().find(|set| set.name == name).unwrap();
    assert_eq!(set("ROOT/old").origin.as_deref(), Some("ROOT/default@first"));
    assert_eq!((set("srv@first").holds.join(" "), set("srv@second").holds.len()), ("kept".to_owned(), 0));
    assert!(set(ROOT).bootfs && set("srv").properties["mountpoint"] == "/srv");
    // What both have is there once.
    let alone = Place::new(&small());
    fs::write(alone.path("box.toml"), "").unwrap();
    let one = alone.make(&[&MAKE[..], &["--json"]].concat());
    let one: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    let bytes = |said: &serde_json::Value| said["allocated"].as_u64().unwrap();
    assert!(bytes(&one) > 4 << 20 && bytes(&said) < bytes(&one) + (2 << 20), "{} and {}", bytes(&said), bytes(&one));
}

#[test]
fn states_that_hooks_make_build_on_each_other() {
    if !may_unpack() {
        return;
    }
    let place = Place::new(&small());
    let hook = "echo $TAPROOT_STATE >>$1/etc/states; [ $TAPROOT_STATE = first ] || rm $1/srv/0";
    let states = STATES.replace("tar = \"more.tar\"\n", "");
    config(&place, &[("install.after", hook), ("identity.after", "echo $TAPROOT_STATE >>$1/etc/copies")], &states);
    whole(&place.make(&[&MAKE[..], &["--verify"]].concat()));
    let (first, last) = (files(&place, "ROOT/default@first"), files(&place, ROOT));
    assert_eq!((text(&first, "etc/states"), text(&last, "etc/states")), ("first\n".into(), "first\nsecond\n".into()));
    assert_eq!(text(&last, "etc/copies"), "second\n");
    assert!(files(&place, "srv@first").contains_key("0") && !files(&place, "srv").contains_key("0"));
    // Without a hook nothing would tell the second one from the first.
    fs::write(place.path("box.toml"), &states).unwrap();
    let said = String::from_utf8_lossy(&place.make(&MAKE).stderr).into_owned();
    assert!(said.contains("each state but the first"), "{said}");
    fs::write(place.path("box.toml"), format!("{STATES}snapshot = \"x\"\n")).unwrap();
    let said = String::from_utf8_lossy(&place.make(&MAKE).stderr).into_owned();
    assert!(said.contains("the states have the names of the snapshots"), "{said}");
}

#[test]
fn a_configuration_of_paczfs_is_converted() {
    let place = Place::new(&small());
    fs::write(place.path("paczfs.conf"), "POOL_NAME=tank\ncopy-ssh-keys() { echo hi; }\n").unwrap();
    let run = |options: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_taproot"));
        command.current_dir(place.path(".")).arg("image").args(options).output().unwrap()
    };
    let output = run(&["--from-paczfs", "paczfs.conf"]);
    whole(&output);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("name = \"tank\"") && said.contains("echo hi"), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("archzfs.com"));
    whole(&run(&["--from-paczfs", "paczfs.conf", "--to", "new/box"]));
    whole(&run(&["-c", "new/box/image.toml", "--show"]));
    let hook = fs::read_to_string(place.path("new/box/copy-ssh-keys.sh")).unwrap();
    assert!(hook.starts_with("#!/bin/bash") && hook.contains("TAPROOT_STATE\" = miniroot"), "{hook}");
    let said = String::from_utf8_lossy(&run(&["--from-paczfs", "paczfs.conf", "--to", "new/box"]).stderr).into_owned();
    assert!(said.contains("choose another --to"), "{said}");
    fs::write(place.path("paczfs.conf"), "POOL_NAME=tank\nrm -rf /x\n").unwrap();
    let output = run(&["--from-paczfs", "paczfs.conf"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty() && said.contains("line 2: "), "{said}");
}
