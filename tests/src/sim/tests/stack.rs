//! Roots made of layers that stand in for others; uppers that are there already; and a root that is a layer itself.

use super::layers::{booted, boots, ext4, fails, images, machine, mounted, on_ext4, text};
use super::{Dataset, End, Holds, Machine, Node, Pool, Tree, Typed};
use crate::agreement::disagreements;
use crate::sim::world::World;
use serde_json::Value;

fn record(world: &World) -> Value {
    let record: Value = serde_json::from_str(&text(world, "/run/taproot/boot.json")).unwrap();
    assert_eq!(disagreements(&record), [""; 0]);
    record
}

fn tree<'m>(machine: &'m mut Machine, disk: &str) -> &'m mut Tree {
    match machine.device(disk).map(|device| &mut device.holds) {
        Some(Holds::Filesystem { tree, .. }) => tree,
        _ => panic!("no file system on {disk}"),
    }
}

#[test]
fn layers_stand_in_for_a_dataset_and_for_other_layers() {
    let mut machine = on_ext4("taproot.fallback=layers:lost:base,layers:middle:base@LABEL=more taproot.upper=ram");
    tree(&mut machine, "vda").take("top.sqsh");
    machine.add("vdb", ext4("more", images("", &["middle", "base"])));
    let world = boots(machine);
    assert_eq!(text(&world, "/newroot/etc/layer"), "middle");
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap().0, "/dev/vdb");
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs", "the words hold for them, too");
    let told = record(&world);
    assert_eq!(told["root"], "layers middle:base on LABEL=more");
    assert!(told["problems"].to_string().contains("fallback root layers:lost:base@LABEL=root is tried"), "{told}");

    let mut gone = self::machine("root=ZFS=tank/r taproot.wait=2 taproot.fallback=layers:base@LABEL=more panic=1");
    gone.add("vdb", ext4("more", images("", &["base"])));
    let world = boots(gone);
    assert_eq!(text(&world, "/newroot/etc/layer"), "base");
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap(), ("/dev/vdb".into(), "ext4".into(), false));
}

#[test]
fn layers_are_chosen_from_the_menu_and_typed_at_the_prompt() {
    let mut machine = on_ext4("taproot.menu taproot.fallback=layers:middle:base");
    machine.cmdline = machine.cmdline.replace("panic=1", "");
    machine.person = vec![Typed::line("Enter boots layers:top:middle:base@LABEL=root", "2")];
    let world = boots(machine);
    let printed = world.printed();
    for line in [" * 1  layers:top:middle:base@LABEL=root", "   2  layers:middle:base@LABEL=root"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert_eq!(text(&world, "/newroot/etc/layer"), "middle");

    let mut machine = on_ext4("taproot.layerdir=nowhere");
    machine.cmdline = machine.cmdline.replace("panic=1", "");
    machine.person = vec![
        Typed::line("(taproot) #", "boot layers:base:base"),
        Typed::line("(taproot) #", "boot layers:middle:base taproot.layerdir="),
    ];
    let world = boots(machine);
    assert!(world.printed().contains("layer base is named twice"), "{}", world.printed());
    assert_eq!(text(&world, "/newroot/etc/layer"), "middle");
    assert_eq!(record(&world)["root"], "layers middle:base on LABEL=root");
}

/// A machine whose upper has something in it.
fn with_upper(words: &str) -> Machine {
    let mut machine = on_ext4(words);
    tree(&mut machine, "vda").text("upper/upper/etc/layer", "written");
    machine
}

#[test]
fn an_upper_is_set_aside_and_a_fresh_one_begun() {
    let world = boots(with_upper(""));
    assert_eq!(text(&world, "/newroot/etc/layer"), "written");
    let world = boots(with_upper("taproot.upper_reset"));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert_eq!(text(&world, "/run/taproot/base/upper/old-1/upper/etc/layer"), "written");
    let told = record(&world)["problems"].to_string();
    assert!(told.contains("the upper that was there is kept in /run/taproot/base/upper/old-1"), "{told}");

    let mut again = with_upper("rd.overlay.reset");
    tree(&mut again, "vda").text("upper/old-7/upper/etc/layer", "older");
    let world = boots(again);
    assert_eq!(text(&world, "/run/taproot/base/upper/old-8/upper/etc/layer"), "written");
    assert_eq!(text(&world, "/run/taproot/base/upper/old-7/upper/etc/layer"), "older");
    let world = boots(on_ext4("taproot.upper_reset"));
    assert!(!world.story().contains("old-1"), "nothing was there");

    // By the word of the prompt.
    let mut machine = with_upper("init=/nowhere");
    machine.cmdline = machine.cmdline.replace("panic=1", "");
    machine.person = vec![Typed::line("(taproot) #", "fresh-upper"), Typed::line("(taproot) #", "retry init=")];
    let world = boots(machine);
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert_eq!(text(&world, "/run/taproot/base/upper/old-1/upper/etc/layer"), "written");
}

#[test]
fn an_upper_is_a_layer_under_memory() {
    let world = boots(with_upper("rd.overlay.readonly"));
    assert_eq!(text(&world, "/newroot/etc/layer"), "written");
    assert!(mounted(&world, "/run/taproot/base").unwrap().2, "nothing is written to it");
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");

    let words = "taproot.upper=label:keep taproot.upper_readonly taproot.wait=2";
    let mut machine = on_ext4(words);
    let mut kept = Tree::default();
    kept.text("upper/upper/etc/layer", "kept");
    machine.add("vdb", ext4("keep", kept));
    let world = boots(machine);
    assert_eq!(text(&world, "/newroot/etc/layer"), "kept");
    assert_eq!(mounted(&world, "/run/taproot/upper-kept").unwrap(), ("/dev/vdb".into(), "ext4".into(), true));
    let said = fails(on_ext4(words), "no-upper");
    assert!(said.contains("LABEL=keep: it did not appear within 2 s"), "{said}");
    let world = boots(on_ext4(&format!("{words} taproot.upper_fallback=ram")));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
}

#[test]
fn other_layers_under_an_upper_are_told_of_once() {
    let world = boots(with_upper(""));
    let note = text(&world, "/run/taproot/base/upper/lowers");
    assert_eq!(note.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["top", "middle", "base"]);
    assert!(!record(&world)["problems"].to_string().contains("not those that it was written over"));
    let mut same = with_upper("");
    tree(&mut same, "vda").text("upper/lowers", &note);
    let world = boots(same);
    assert!(!record(&world)["problems"].to_string().contains("not those that it was written over"));
    let mut other = with_upper("");
    tree(&mut other, "vda").text("upper/lowers", &note.replace("base ", "base 0").replace("top ", "topmost "));
    let world = boots(other);
    let told = record(&world)["problems"].to_string();
    let says = "not those that it was written over (new: top; gone: topmost; replaced: base)";
    assert!(told.contains(says) && told.contains("taproot.upper_reset"), "{told}");
    assert_eq!(text(&world, "/run/taproot/base/upper/lowers"), note, "the next boot says nothing");
    let mut memory = with_upper("taproot.upper=ram");
    tree(&mut memory, "vda").text("upper/lowers", "x y\n");
    assert!(!record(&boots(memory))["problems"].to_string().contains("not those"));
}

#[test]
fn an_empty_directory_is_no_layer() {
    let mut machine = on_ext4("");
    tree(&mut machine, "vda").take("middle.sqsh");
    tree(&mut machine, "vda").put("middle", Node::Dir);
    let said = fails(machine.clone(), "layer-broken");
    assert!(said.contains("layer middle is an empty directory"), "{said}");
    tree(&mut machine, "vda").text("middle/x", "");
    boots(machine);
}

#[test]
fn what_is_only_read_is_not_checked() {
    use super::{ProgramSpec, seconds};
    let broken = |words: &str| {
        let mut machine = on_ext4(words);
        let fsck = ProgramSpec { takes: Some(seconds(1)), output: "You must have r/w access".into(), status: 8 };
        machine.programs.insert("/sbin/fsck.ext4".to_owned(), fsck);
        machine.add("vdb", ext4("more", images("", &["top", "middle", "base"])));
        machine
    };
    boots(broken("taproot.upper=ram taproot.layerdev=LABEL=more"));
    fails(broken(""), "fsck-failed");
    fails(broken("taproot.upper=label:more"), "no-upper");
}

/// A pool with a root whose `/var` and `/home` are datasets of their own.
fn tank(fstab: &str) -> Pool {
    let at = |path: &'static str| move |dataset: &mut Dataset| dataset.set("mountpoint", path);
    let root = |dataset: &mut Dataset| {
        dataset.set("mountpoint", "/");
        dataset.set("canmount", 2);
        dataset.tree = Tree::system(fstab);
    };
    let var = |dataset: &mut Dataset| {
        dataset.set("mountpoint", "/var");
        dataset.tree.text("kept", "yes");
    };
    let pool = Pool::new("tank", 7).disk("/dev/vda").dataset("", at("none")).dataset("ROOT/a", root);
    pool.dataset("ROOT/a/var", var).dataset("home", at("/home")).bootfs("ROOT/a")
}

fn over_root(words: &str) -> Machine {
    let mut machine = machine(&format!("root=ZFS=tank/ROOT/a {words} panic=1"));
    machine.add_pool(tank("LABEL=usr /usr ext4 defaults 0 2\nUUID=9 /boot ext4 defaults 0 2\n"));
    machine.add("vdb", ext4("usr", Tree::of(&[("bin/x", b"")])));
    machine
}

#[test]
fn nothing_of_a_root_under_an_upper_in_memory_is_written_to() {
    for words in ["rd.overlay", "taproot.layers=. taproot.upper=ram"] {
        let world = boots(over_root(words));
        assert_eq!(mounted(&world, "/newroot").unwrap().1, "overlay");
        assert_eq!(text(&world, "/newroot/var/kept"), "yes");
        for place in ["var", "home", "usr"] {
            assert_eq!(mounted(&world, &format!("/newroot/{place}")).unwrap().1, "overlay", "{place}");
            assert!(mounted(&world, &format!("/run/taproot/parts/{place}")).unwrap().2, "{place}");
        }
        let writable = world.mounts().into_iter().filter(|mount| !mount.read_only());
        let on_disk: Vec<String> = writable
            .filter(|mount| ["zfs", "ext4"].contains(&mount.fstype.as_str()))
            .map(|mount| mount.target)
            .collect();
        assert_eq!(on_disk, [""; 0], "{words}");
        let told = record(&world);
        assert!(told["problems"].to_string().contains("the booted system mounts /boot itself"), "{told}");
        let protected: Vec<(&str, &str)> = told["protected"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (part["directory"].as_str().unwrap(), part["by"].as_str().unwrap()))
            .collect();
        let all = [("/", "overlay"), ("/home", "overlay"), ("/usr", "overlay"), ("/var", "overlay")];
        assert!(protected.len() == 4 && all.iter().all(|part| protected.contains(part)), "{protected:?}");
    }
}

#[test]
fn without_an_upper_every_part_of_a_root_is_read_only() {
    let world = boots(over_root("taproot.layers=. taproot.upper=none"));
    for place in ["/newroot", "/newroot/var", "/newroot/home", "/newroot/usr"] {
        assert!(mounted(&world, place).unwrap().2, "{place}");
    }
    let told = record(&world);
    assert!(told["protected"].as_array().unwrap().iter().all(|part| part["by"] == "read-only"), "{told}");
}

#[test]
fn a_part_that_takes_no_overlay_is_read_only() {
    use super::{Effect, Fault};
    let world = World::new(over_root("rd.overlay"), vec![Fault::at("mount_overlay", 1, Effect::Errno(libc::EINVAL))]);
    let end = crate::sim::run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    assert!(matches!(end, Some(End::HandOver { .. })), "{}", world.printed());
    let told = record(&world)["protected"].clone();
    let by: Vec<&str> = told.as_array().unwrap().iter().map(|part| part["by"].as_str().unwrap()).collect();
    assert_eq!(by.iter().filter(|by| **by == "read-only").count(), 1, "{told}");
    let writable = world.mounts().into_iter().filter(|mount| !mount.read_only() && mount.fstype == "zfs");
    assert_eq!(writable.count(), 0);
}

#[test]
fn a_retry_leaves_no_part_mounted() {
    let mut machine = over_root("rd.overlay taproot.fallback=LABEL=plain init=/nowhere");
    let mut plain = Tree::system("");
    plain.put("nowhere", plain.get("sbin/init").unwrap().clone());
    machine.add("vdc", ext4("plain", plain));
    let (_, world) = booted(machine);
    assert!(world.mounts().iter().all(|mount| !mount.target.starts_with("run/taproot/")), "{:?}", world.mounts());
    assert_eq!(mounted(&world, "/newroot").unwrap().0, "/dev/vdc");
}
