//! Layers in memory: what is copied and given back, and what becomes of a boot where that cannot be.

use super::layers::{booted, boots, fails, mounted, on_ext4, text, zroot};
use super::{Dataset, Holds, Node, Tree, World, seconds};
use crate::sim::machine::{Machine, Medium};
use std::path::Path;
use taproot_init::sys::System as _;

fn in_ram(words: &str) -> Machine {
    on_ext4(&format!("taproot.to_ram taproot.upper=ram {words}"))
}

fn said(world: &World, what: &str) -> bool {
    world.story().contains(what)
}

#[test]
fn the_layers_are_in_memory_and_nothing_of_the_medium_is_in_use() {
    let world = boots(in_ram(""));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert_eq!(mounted(&world, "/run/taproot/base"), None);
    assert_eq!(mounted(&world, "/run/taproot/ram").unwrap(), ("taproot-layers".into(), "tmpfs".into(), true));
    for name in ["top", "middle", "base"] {
        assert!(said(&world, &format!("layer {name} is /run/taproot/ram/{name}.sqsh")), "{}", world.story());
        assert_eq!(world.read(Path::new(&format!("/run/taproot/ram/{name}.sqsh")), 9000).unwrap().len(), 4096);
    }
    // Twelve seconds, and never more than five without a word.
    assert!(said(&world, "copying layers to memory [###"), "{}", world.story());
    assert!(said(&world, "3 layers are in memory and compared"));
    assert!(said(&world, "can be taken away"));
    let report: serde_json::Value = serde_json::from_str(&text(&world, "/run/taproot/boot.json")).unwrap();
    assert_eq!(report["layers"]["base"]["source"], "LABEL=root");
    assert!(report["layers"]["base"]["place"].is_null(), "it is not mounted");
    assert_eq!(report["layers"]["stack"][0]["source"], "memory");
    assert!(!report["mounts"].to_string().contains("/run/taproot/base"), "{}", report["mounts"]);
}

#[test]
fn with_a_layer_device_both_are_given_back_or_the_one_that_nothing_is_written_to() {
    let split = |words: &str| {
        let mut machine = on_ext4(&format!("taproot.layerdev=LABEL=more {words}"));
        let Some(Holds::Filesystem { tree, .. }) = machine.device("vda").map(|device| &mut device.holds) else {
            panic!()
        };
        let middle = tree.get("middle.sqsh").cloned().unwrap();
        tree.take("middle.sqsh");
        let mut more = Tree::default();
        more.put("middle.sqsh", middle);
        machine.add(
            "vdb",
            Holds::Filesystem { kind: "ext4".into(), uuid: "more".into(), label: "more".into(), tree: more },
        );
        machine
    };
    let world = boots(split("taproot.to_ram taproot.upper=ram"));
    assert_eq!((mounted(&world, "/run/taproot/base"), mounted(&world, "/run/taproot/layer-device")), (None, None));
    let world = boots(split("to_ram taproot.to_ram"));
    assert_eq!(mounted(&world, "/run/taproot/layer-device"), None);
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap(), ("/dev/vda".into(), "ext4".into(), false));
    assert!(said(&world, "LABEL=root is still in use: the upper, directory upper of the root device, is on it"));
    assert!(!said(&world, "can be taken away"));
}

#[test]
fn what_earlier_boots_left_is_copied_as_a_tree() {
    let mut machine = on_ext4("");
    machine.cmdline = "root=LABEL=root sqsh_layers=top:middle:base ram_layer=50% to_ram panic=1".to_owned();
    machine.images.get_mut("base").unwrap().put("mnt", Node::Dir);
    machine.memory = 4 << 20;
    let Some(Holds::Filesystem { tree, .. }) = machine.device("vda").map(|device| &mut device.holds) else { panic!() };
    tree.text("upper/upper/etc/layer", "kept");
    let world = boots(machine);
    assert_eq!(text(&world, "/newroot/etc/layer"), "kept");
    assert_eq!(text(&world, "/run/taproot/ram/upper/etc/layer"), "kept");
    assert_eq!(mounted(&world, "/run/taproot/base"), None);
    let names = world.list(Path::new("/newroot/mnt")).unwrap();
    assert_eq!(names, ["sqsh_layer-base", "sqsh_layer-middle", "sqsh_layer-top", "sqsh_layer-upper", "upper"]);
}

#[test]
fn too_little_memory_is_refused_before_anything_is_copied_or_the_layers_stay() {
    let mut poor = in_ram("");
    poor.memory = 100 << 10;
    let why = fails(poor.clone(), "to-ram-failed");
    assert!(why.contains("1 MiB for the layers, 64 MiB for the upper and 64 MiB that are kept make 129 MiB"), "{why}");
    assert!(why.contains("100 MiB are free of 100 MiB"), "{why}");
    poor.cmdline = poor.cmdline.replace("taproot.to_ram", "taproot.to_ram=try");
    let world = boots(poor);
    assert!(mounted(&world, "/run/taproot/base").unwrap().2);
    assert!(text(&world, "/run/taproot/boot.json").contains("the layers stay where they are"));
    let mut sized = in_ram("taproot.upper=ram:1000M");
    sized.memory = 1 << 20;
    let why = fails(sized, "to-ram-failed");
    assert!(why.contains("1000 MiB for the upper"), "{why}");
}

#[test]
fn a_medium_that_cannot_be_read_is_no_boot_and_leaves_nothing() {
    let machine = Machine { medium: Medium::Fails, ..in_ram("") };
    let why = fails(machine.clone(), "to-ram-failed");
    assert!(why.contains("middle.sqsh: Input/output error"), "{why}");
    let mut other = machine;
    other.cmdline += " taproot.fallback=LABEL=plain";
    other.add(
        "vdb",
        Holds::Filesystem { kind: "ext4".into(), uuid: "p".into(), label: "plain".into(), tree: Tree::system("") },
    );
    let world = boots(other);
    assert_eq!(mounted(&world, "/newroot").unwrap().0, "/dev/vdb");
    assert_eq!((mounted(&world, "/run/taproot/ram"), mounted(&world, "/run/taproot/base")), (None, None));
}

#[test]
fn a_silent_medium_is_told_of_and_given_up() {
    let mut machine = Machine { medium: Medium::Silent, ..in_ram("") };
    machine.limit = seconds(300);
    let why = fails(machine.clone(), "to-ram-failed");
    assert!(why.contains("nothing came from the medium for 60 s: it does not answer"), "{why}");
    let (_, world) = booted(machine);
    assert!(said(&world, "nothing has come from the medium for 30 s; given up in 30 s"), "{}", world.story());
}

#[test]
fn pools_are_exported_unless_something_else_of_them_is_wanted() {
    let words =
        "root=ZFS=zroot/root taproot.layerdev=ZFS=zroot/sqsh taproot.layers=top:middle:base taproot.to_ram panic=1";
    let of = |more: &str| {
        let mut machine = on_ext4("");
        machine.devices.clear();
        machine.cmdline = format!("{words} {more}");
        let volume = |dataset: &mut Dataset| dataset.volume = true;
        machine.add_pool(zroot(false).dataset("live", volume));
        machine
    };
    let world = boots(of("taproot.upper=ram"));
    assert!(said(&world, "pool zroot is exported"), "{}", world.story());
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    let mut with_zvol = of("taproot.upper=zvol:zroot/live");
    let device = with_zvol.add(
        "zd16",
        Holds::Filesystem { kind: "ext4".into(), uuid: "l".into(), label: "l".into(), tree: Tree::default() },
    );
    device.links = vec!["zvol/zroot/live".to_owned()];
    let world = boots(with_zvol);
    assert!(!said(&world, "pool zroot is exported"));
    assert_eq!((mounted(&world, "/run/taproot/base"), mounted(&world, "/run/taproot/layer-device")), (None, None));
    let world = boots(of("taproot.upper=ram taproot.also_pools=zroot"));
    assert!(!said(&world, "pool zroot is exported"));
    let world = boots(of(""));
    assert!(!said(&world, "pool zroot is exported"));
    assert!(mounted(&world, "/run/taproot/base").is_some() && mounted(&world, "/run/taproot/layer-device").is_none());
}
