//! Roots made of layers: on file systems, datasets and zvols, with every upper; and all that can be wrong with them.

use super::{
    Case, Dataset, Effect, End, Fault, Holds, Machine, ModuleSpec, Node, Pool, Tree, World, run, seconds, seed,
};
use crate::sim::invariants::of_any;
use crate::sim::layering::image;
use crate::sim::machine::ZfsVersion;
use crate::sim::zfs::dataset::Key;
use std::path::Path;
use taproot_init::sys::System as _;

/// A machine whose images are a system at the bottom and two layers over it.
pub(super) fn machine(words: &str) -> Machine {
    let mut machine = Machine::new(words);
    for module in ["loop", "overlay"] {
        machine.modules.insert(module.to_owned(), ModuleSpec::takes(10));
    }
    let layer = |name: &str| Tree::of(&[("etc/layer", name.as_bytes()), (&format!("opt/{name}"), b"")]);
    let mut base = Tree::system("");
    base.text("etc/layer", "base");
    machine.images = [("base", base), ("middle", layer("middle")), ("top", layer("top"))]
        .map(|(name, tree)| (name.to_owned(), tree))
        .into();
    machine
}

pub(super) fn images(dir: &str, names: &[&str]) -> Tree {
    let mut tree = Tree::default();
    for name in names {
        tree.put(&format!("{dir}{name}.sqsh"), image(name));
    }
    tree
}

pub(super) fn ext4(label: &str, tree: Tree) -> Holds {
    Holds::Filesystem { kind: "ext4".into(), uuid: label.into(), label: label.into(), tree }
}

pub(super) fn booted(machine: Machine) -> (Option<End>, World) {
    booted_with(machine, vec![])
}

pub(super) fn booted_with(machine: Machine, faults: Vec<Fault>) -> (Option<End>, World) {
    let world = World::new(machine, faults);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    assert_eq!(of_any(&world, end.as_ref()), [""; 0], "{}", world.story());
    (end, world)
}

/// Boots, and gives the machine at the hand-over.
pub(super) fn boots(machine: Machine) -> World {
    let line = machine.cmdline.clone();
    let (end, world) = booted(machine);
    let printed = world.printed();
    assert!(matches!(end, Some(End::HandOver { .. })), "{line}: {end:?}: {}", printed.get(..3000).unwrap_or(&printed));
    world
}

/// Fails with this code; gives the explanation.
pub(super) fn fails(machine: Machine, code: &str) -> String {
    let line = machine.cmdline.clone();
    let (end, world) = booted(machine);
    let said = world.printed();
    assert!(!matches!(end, Some(End::HandOver { .. })), "{line}: {said}");
    assert!(said.lines().any(|line| line.trim() == format!("Code: {code}") || line.contains(code)), "{line}: {said}");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn text(world: &World, path: &str) -> String {
    String::from_utf8_lossy(&world.read(Path::new(path), 1 << 20).unwrap_or_default()).into_owned()
}

/// The options of the mount of that kind at a place.
pub(super) fn mounted(world: &World, target: &str) -> Option<(String, String, bool)> {
    let mounts = world.mounts();
    let mount = mounts.into_iter().rfind(|mount| mount.target == target.trim_start_matches('/'))?;
    let read_only = mount.read_only();
    Some((mount.source, mount.fstype, read_only))
}

pub(super) const LAYERS: &str = "root=LABEL=root taproot.layers=top:middle:base panic=1";

pub(super) fn on_ext4(words: &str) -> Machine {
    let mut machine = machine(&format!("{LAYERS} {words}"));
    machine.add("vda", ext4("root", images("", &["top", "middle", "base"])));
    machine
}

/// The case of a machine.
pub(super) fn case(machine: Machine, faults: Vec<Fault>) -> Case {
    Case { machine, faults, ..seed::narrow(2) }
}

pub(super) fn without_layer_device() -> Case {
    case(on_ext4("taproot.layerdev=LABEL=more taproot.wait=1"), vec![])
}

pub(super) fn without_layer() -> Case {
    let mut machine = machine(LAYERS);
    machine.add("vda", ext4("root", images("", &["top"])));
    case(machine, vec![])
}

pub(super) fn with_broken_layer() -> Case {
    let mut machine = on_ext4("");
    machine.images.clear();
    case(machine, vec![])
}

pub(super) fn without_memory() -> Case {
    let mut machine = on_ext4("taproot.to_ram");
    machine.memory = 1 << 10;
    case(machine, vec![])
}

pub(super) fn without_upper() -> Case {
    case(on_ext4("taproot.upper=label:none taproot.wait=1"), vec![])
}

pub(super) fn not_overlaid() -> Case {
    case(on_ext4(""), vec![Fault::at("mount_overlay", 0, Effect::Errno(libc::EINVAL))])
}

#[test]
fn the_first_layer_is_on_top_and_a_directory_of_the_base_takes_what_is_written() {
    let world = boots(on_ext4("ro"));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert!(world.stat(Path::new("/newroot/opt/middle")).is_ok());
    assert_eq!(mounted(&world, "/newroot").unwrap(), ("overlay".into(), "overlay".into(), false), "ro is not for it");
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap(), ("/dev/vda".into(), "ext4".into(), false));
    for name in ["top", "middle", "base"] {
        assert!(mounted(&world, &format!("/run/taproot/layers/{name}")).unwrap().2, "{name}");
    }
    assert!(world.story().contains("/run/taproot/base/upper/upper"), "{}", world.story());
}

#[test]
fn memory_takes_what_is_written_within_what_there_is() {
    let world = boots(on_ext4("taproot.upper=ram"));
    assert!(mounted(&world, "/run/taproot/base").unwrap().2, "the base is not written to");
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    let mut small = on_ext4("taproot.upper=ram:2G");
    let said = fails(small.clone(), "no-upper");
    assert!(said.contains("too little memory for an upper: 2G (2048 MiB) wanted"), "{said}");
    small.memory = 4 << 20;
    boots(small);
}

#[test]
fn without_an_upper_two_layers_are_read_only_and_one_is_just_mounted() {
    let world = boots(on_ext4("taproot.upper=none"));
    assert!(mounted(&world, "/newroot").unwrap().2);
    let mut one = on_ext4("taproot.upper=none taproot.layers=base");
    one.cmdline = one.cmdline.replace("taproot.layers=top:middle:base ", "");
    let world = boots(one);
    assert_eq!(mounted(&world, "/newroot").unwrap().1, "bind");
}

#[test]
fn the_base_is_searched_first_then_the_layer_device_which_may_come_late() {
    let mut machine = machine(&format!("{LAYERS} taproot.layerdev=LABEL=more taproot.layerdir=live/x"));
    machine.add("vda", ext4("root", images("live/x/", &["top"])));
    let more = machine.add("vdb", ext4("more", images("live/x/", &["top", "middle", "base"])));
    more.arrives = seconds(20);
    let world = boots(machine);
    assert!(world.story().contains("layer top is /run/taproot/base/live/x/top.sqsh"), "{}", world.story());
    assert!(world.story().contains("layer middle is /run/taproot/layer-device/live/x/middle.sqsh"));
    assert!(mounted(&world, "/run/taproot/layer-device").unwrap().2);
}

#[test]
fn what_is_missing_or_cut_off_is_explained() {
    let mut machine = machine(&format!("{LAYERS} taproot.layerdev=LABEL=more taproot.wait=3"));
    machine.add("vda", ext4("root", images("", &["top", "base"])));
    let said = fails(machine.clone(), "no-layer-device");
    assert!(said.contains("the layer device LABEL=more cannot be had (taproot.layerdev=LABEL=more)"), "{said}");
    assert!(said.contains("did not appear within 3 s"), "{said}");
    machine.add("vdb", ext4("more", Tree::default()));
    let said = fails(machine, "no-layer");
    assert!(said.contains("layer middle is missing") && said.contains("looked in /run/taproot/layer-device"), "{said}");

    let mut cut = on_ext4("");
    let Some(Holds::Filesystem { tree, .. }) = cut.device("vda").map(|device| &mut device.holds) else { panic!() };
    let Node::File(bytes, mode) = image("middle") else { panic!() };
    tree.put("middle.sqsh", Node::File(bytes[..3000].to_vec(), mode));
    let said = fails(cut.clone(), "layer-broken");
    assert!(said.contains("it has 3000 bytes, and 4096 are needed: it is cut off"), "{said}");
    let Some(Holds::Filesystem { tree, .. }) = cut.device("vda").map(|device| &mut device.holds) else { panic!() };
    tree.text("middle.sqsh", "not an image");
    assert!(fails(cut, "layer-broken").contains("neither squashfs nor erofs"));
    let mut unknown = on_ext4("");
    unknown.images.remove("middle");
    assert!(fails(unknown, "layer-broken").contains("mounting it failed"));
}

#[test]
fn a_name_that_cannot_be_one_boots_nothing() {
    for list in ["top:middle:top", "a,b", "a:upper", "../a"] {
        let mut machine = on_ext4("");
        machine.cmdline = machine.cmdline.replace("top:middle:base", list);
        fails(machine, "unusable-root");
    }
}

#[test]
fn what_follows_when_the_upper_cannot_be_had() {
    let lacking = |fallback: &str| on_ext4(&format!("taproot.upper=label:persistence taproot.wait=2 {fallback}"));
    let said = fails(lacking(""), "no-upper");
    assert!(said.contains("LABEL=persistence: it did not appear within 2 s"), "{said}");
    let world = boots(lacking("taproot.upper_fallback=ram"));
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    let report = text(&world, "/run/taproot/boot.json");
    assert!(report.contains("the root's upper is not the one that is asked for, but memory"), "{report}");
    let world = boots(lacking("taproot.upper_fallback=ro"));
    assert!(mounted(&world, "/newroot").unwrap().2);
    let mut poor = lacking("taproot.upper_fallback=ram");
    poor.memory = 1 << 10;
    let said = fails(poor, "no-upper");
    assert!(said.contains("did not appear") && said.contains("too little memory"), "{said}");
    let mut there = lacking("");
    there.add("vdb", ext4("persistence", Tree::default()));
    let world = boots(there);
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap(), ("/dev/vdb".into(), "ext4".into(), false));
    let said = fails(on_ext4("taproot.upper=label:root"), "no-upper");
    assert!(said.contains("taproot.upper=dir:DIRECTORY takes a directory of it"), "{said}");
}

#[test]
fn read_only_disks_have_their_upper_in_memory_or_none() {
    let said = fails(on_ext4("taproot.import=ro"), "no-upper");
    assert!(said.contains("taproot.import=ro keeps everything on disks as it is"), "{said}");
    let world = boots(on_ext4("taproot.import=ro taproot.upper_fallback=ram"));
    assert!(mounted(&world, "/run/taproot/base").unwrap().2);
}

#[test]
fn an_earlier_upper_is_the_topmost_layer_under_ram_layer() {
    let mut machine = on_ext4("");
    machine.cmdline = "root=LABEL=root sqsh_layers=top:middle:base ram_layer=50% panic=1".to_owned();
    let world = boots(machine.clone());
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    let Some(Holds::Filesystem { tree, .. }) = machine.device("vda").map(|device| &mut device.holds) else { panic!() };
    tree.text("upper/upper/etc/layer", "kept");
    let world = boots(machine);
    assert_eq!(text(&world, "/newroot/etc/layer"), "kept");
    assert!(mounted(&world, "/run/taproot/base").unwrap().2);
}

/// The four command lines that RuckusRD's pages have as examples, to the letter: on the device, the layers on one of their own, what is
/// written in memory over what earlier boots left, and the layers in memory, too.
#[test]
fn the_lines_of_ruckusrds_pages() {
    let line = |words: &str, devices: &[(&str, &[&str])]| {
        let mut machine = machine("");
        machine.cmdline = format!("{words} panic=1");
        machine.memory = 4 << 20;
        for (name, layer) in [("base", "base"), ("server", "middle"), ("extra", "top")] {
            let image = machine.images.get(layer).unwrap().clone();
            machine.images.insert(name.to_owned(), image);
        }
        for (device, names) in devices {
            machine.add(device, ext4(device, images("", names)));
        }
        if let Some(Holds::Filesystem { tree, .. }) = machine.device(devices[0].0).map(|device| &mut device.holds) {
            tree.text("upper/upper/etc/kept", "kept");
        }
        let world = boots(machine);
        assert_eq!(text(&world, "/newroot/etc/layer"), "top", "{words}");
        assert_eq!(text(&world, "/newroot/etc/kept"), "kept", "{words}");
        world
    };
    let all = ["extra", "server", "base"];
    let world = line("root=/dev/sda1 sqsh_layers=extra:server:base", &[("sda1", &all)]);
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap(), ("/dev/sda1".into(), "ext4".into(), false));
    let words = "root=/dev/xvda1 sqsh_layerdev=/dev/xvdb1 sqsh_layers=extra:server:base";
    let world = line(words, &[("xvda1", &[]), ("xvdb1", &all)]);
    assert_eq!(mounted(&world, "/run/taproot/layer-device").unwrap(), ("/dev/xvdb1".into(), "ext4".into(), true));
    let world = line("root=/dev/sda1 sqsh_layers=extra:server:base ram_layer=50%", &[("sda1", &all)]);
    assert!(mounted(&world, "/run/taproot/base").unwrap().2, "nothing is written to it");
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    let world = line("root=/dev/sda1 sqsh_layers=extra:server:base ram_layer=50% to_ram", &[("sda1", &all)]);
    assert_eq!(mounted(&world, "/run/taproot/base"), None, "the medium is given back");
}

pub(super) const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A pool with a root dataset, which has nothing but an upper, and one with the layers, which has a key if it is asked for.
pub(super) fn zroot(locked: bool) -> Pool {
    let root = |dataset: &mut Dataset| dataset.tree = Tree::default();
    let layers = |dataset: &mut Dataset| {
        dataset.tree = images("", &["top", "middle", "base"]);
        if locked {
            let (format, location) = (1, "file:///key".to_owned());
            let key = Key { format, location, salt: 0, iterations: 0, bytes: KEY.to_vec(), loaded: false };
            (dataset.key, dataset.encryption_root) = (Some(key), Some("sqsh".into()));
        }
    };
    Pool::new("zroot", 9).disk("/dev/vda").dataset("root", root).dataset("sqsh", layers)
}

#[test]
fn datasets_hold_base_layers_and_upper_where_openzfs_can() {
    let words = "root=ZFS=zroot/root sqsh_layerdev=ZFS=zroot/sqsh sqsh_layers=top:middle:base ro panic=1";
    let mut machine = machine(words);
    machine.add_pool(zroot(false));
    let world = boots(machine.clone());
    assert_eq!(mounted(&world, "/run/taproot/base").unwrap(), ("zroot/root".into(), "zfs".into(), false));
    assert_eq!(mounted(&world, "/run/taproot/layer-device").unwrap(), ("zroot/sqsh".into(), "zfs".into(), true));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    machine.zfs = ZfsVersion::V2_1;
    let said = fails(machine, "no-upper");
    assert!(said.contains("OpenZFS can since 2.2; taproot.upper=zvol:POOL/NAME"), "{said}");
}

#[test]
fn layers_in_another_pool_with_a_key() {
    let mut machine =
        machine(&format!("{LAYERS} taproot.layerdev=ZFS=zroot/sqsh taproot.key=/key taproot.key_prompt=no"));
    machine.files.put("key", Node::File(KEY.to_vec(), 0o600));
    machine.add_pool(zroot(true));
    machine.add("vdb", ext4("root", Tree::default()));
    let world = boots(machine.clone());
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert!(!world.story().contains("exported pool"), "{}", world.story());
    machine.files.take("key");
    fails(machine, "no-key");
}

#[test]
fn a_zvol_is_found_by_its_name_once_its_device_is_there() {
    let mut machine = machine(&format!("{LAYERS} taproot.upper=zvol:zroot/live"));
    let volume = |dataset: &mut Dataset| dataset.volume = true;
    machine.add_pool(zroot(false).dataset("live", volume));
    machine.add("vdb", ext4("root", images("", &["top", "middle", "base"])));
    let said = fails(machine.clone(), "no-upper");
    assert!(said.contains("zvol zroot/live has no device"), "{said}");
    for (name, of, arrives) in [("zd0", "zroot/other", 1), ("zd16", "zroot/live", 6)] {
        let device = machine.add(name, ext4(of, Tree::default()));
        device.links = vec![format!("zvol/{of}")];
        device.arrives = seconds(arrives);
    }
    let world = boots(machine);
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap(), ("/dev/zd16".into(), "ext4".into(), false));
}

#[test]
fn a_fallback_without_layers_leaves_nothing_of_them() {
    let mut machine = on_ext4("taproot.upper=label:none taproot.wait=2 taproot.fallback=LABEL=plain");
    machine.add("vdb", ext4("plain", Tree::system("")));
    let world = boots(machine);
    assert_eq!(mounted(&world, "/newroot").unwrap().0, "/dev/vdb");
    assert_eq!(mounted(&world, "/run/taproot/base"), None);
    assert_eq!(mounted(&world, "/run/taproot/layers/top"), None);
}

#[test]
fn parts_are_shown_where_ruckusrd_has_them_and_nothing_is_written_for_that() {
    let mut machine = on_ext4("");
    machine.cmdline = "root=LABEL=root sqsh_layers=top:middle:base ram_layer=50% panic=1".to_owned();
    machine.images.get_mut("base").unwrap().put("mnt", Node::Dir);
    let world = boots(machine.clone());
    let names = world.list(Path::new("/newroot/mnt")).unwrap();
    assert_eq!(names, ["root-true", "sqsh_layer-base", "sqsh_layer-middle", "sqsh_layer-top", "upper"]);
    assert_eq!(mounted(&world, "/newroot/mnt").unwrap().1, "tmpfs");
    machine.images.get_mut("base").unwrap().text("mnt/mine", "");
    let world = boots(machine);
    assert!(text(&world, "/run/taproot/boot.json").contains("it is not empty, and lacks the directories for them"));
}

#[test]
fn the_record_says_what_the_root_is_made_of() {
    let words = "taproot.layerdev=LABEL=more taproot.import=ro taproot.upper_fallback=ram";
    let mut machine = machine(&format!("{LAYERS} {words}"));
    let mut tree = images("", &["top", "middle"]);
    tree.text(".layers/state", "whatever");
    machine.add("vda", ext4("root", tree));
    machine.add("vdb", ext4("more", images("", &["base"])));
    let world = boots(machine);
    let json: serde_json::Value = serde_json::from_str(&text(&world, "/run/taproot/boot.json")).unwrap();
    let layers = &json["layers"];
    assert_eq!(layers["base"]["source"], "LABEL=root");
    assert_eq!(layers["device"]["place"], "/run/taproot/layer-device");
    let told = |layer: &serde_json::Value| {
        ["name", "kind", "type", "path", "source", "place"].map(|field| layer[field].as_str().unwrap().to_owned())
    };
    let stack: Vec<[String; 6]> = layers["stack"].as_array().unwrap().iter().map(told).collect();
    let (base, place) = ("/run/taproot/layer-device/base.sqsh", "/run/taproot/layers/base");
    assert_eq!(stack[2], ["base", "image", "squashfs", base, "LABEL=more", place]);
    assert_eq!(stack[0][4], "LABEL=root");
    let upper = &layers["upper"];
    assert_eq!((upper["kind"].as_str(), upper["fell_back"].as_bool()), (Some("memory"), Some(true)));
    assert_eq!(
        (upper["place"].as_str(), upper["directory"].as_str()),
        (Some("/run/taproot/upper"), Some("/run/taproot/upper"))
    );
    assert!(upper["lacking"][0].as_str().unwrap().contains("keeps everything"), "{upper}");
    let state = &layers["state"];
    assert_eq!(
        (state["path"].as_str(), state["overridden"].as_bool()),
        (Some("/run/taproot/base/.layers/state"), Some(true))
    );
    assert!(world.story().contains("nothing under way there goes on"), "{}", world.story());
}
