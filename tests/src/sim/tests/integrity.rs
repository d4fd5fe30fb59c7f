//! Layers that must be as they were sealed: what is, boots; what is not, or cannot be seen to be, is never mounted.

use super::layer_state;
use super::layers::{booted, booted_with, boots, case, ext4, fails, mounted, on_ext4, text};
use super::{Case, Effect, End, Fault, Holds, Machine, ModuleSpec, Node, Tree};
use crate::sim::layering::{SIZE, image};
use taproot::layer_integrity::SecretKey;
use taproot_init::devices::verity::{Digest, Format, Superblock, build};
use taproot_init::hex::hex;
use taproot_init::layers::State;
use taproot_init::plan::layerlist::{KEYS_DIR, Layer, LayerList, Seal};

use sha2::{Digest as _, Sha256};

const VARIABLE: &str = "TaprootLayerLists-d183a6f0-858f-4934-8896-38511ede5805";

fn bytes(name: &str) -> Vec<u8> {
    let Node::File(bytes, _) = image(name) else { panic!() };
    bytes
}

/// The root hash of a layer, and its tree.
fn tree(name: &str) -> (Digest, Node) {
    let data = bytes(name);
    let format = Format::new(4096, 4096, (data.len() / 4096) as u64, b"").unwrap();
    let tree = build(&format, &mut data.as_slice()).unwrap();
    let mut file = Superblock { uuid: [7; 16], format }.bytes().to_vec();
    file.resize(4096, 0);
    file.extend(tree.blocks);
    (tree.root, Node::File(file, 0o644))
}

fn disk(machine: &mut Machine) -> &mut Tree {
    match machine.device("vda").map(|device| &mut device.holds) {
        Some(Holds::Filesystem { tree, .. }) => tree,
        _ => panic!("no disk"),
    }
}

/// A machine whose layers have trees beside them.
fn sealed(words: &str) -> Machine {
    let mut machine = on_ext4(words);
    machine.modules.insert("dm_verity".to_owned(), ModuleSpec::takes(10));
    for name in ["top", "middle", "base"] {
        disk(&mut machine).put(&format!("{name}.verity"), tree(name).1);
    }
    machine
}

/// The words that say all root hashes.
fn roots() -> String {
    let root = |name| format!("taproot.roothash={name}:{}", tree(name).0);
    ["top", "middle", "base"].map(root).join(" ")
}

fn flip(machine: &mut Machine, file: &str, at: usize) {
    let Some(Node::File(mut bytes, mode)) = disk(machine).get(file).cloned() else { panic!("no {file}") };
    bytes[at] ^= 1;
    disk(machine).put(file, Node::File(bytes, mode));
}

/// Fails with this code, and has not mounted the bottom.
fn refused(machine: Machine, code: &str) -> String {
    let (end, world) = booted(machine.clone());
    assert!(!matches!(end, Some(End::HandOver { .. })));
    assert_eq!(mounted(&world, "/run/taproot/layers/base"), None, "{}", world.story());
    assert!(!world.mapped().iter().any(|name| name.ends_with("base")), "{:?}", world.mapped());
    fails(machine, code)
}

pub(super) fn changed_layer() -> Case {
    let mut machine = sealed(&roots());
    flip(&mut machine, "base.sqsh", SIZE - 1);
    case(machine, vec![])
}

pub(super) fn list_without_key() -> Case {
    case(on_ext4("taproot.layerlist=layers.list"), vec![])
}

#[test]
fn layers_are_mounted_under_their_trees() {
    let world = boots(sealed(&roots()));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    for name in ["top", "middle", "base"] {
        let (source, fstype, read_only) = mounted(&world, &format!("/run/taproot/layers/{name}")).unwrap();
        assert!(source.starts_with("/dev/dm-") && fstype == "squashfs" && read_only, "{name}: {source}");
    }
    assert_eq!(world.mapped(), ["taproot-0-top", "taproot-1-middle", "taproot-2-base"]);
    let report = text(&world, "/run/taproot/boot.json");
    assert!(report.contains("\"rooted\"") && world.story().contains("under its hash tree"), "{report}");
}

/// A layer alone, by systemd's word, whose tree is at its end.
#[test]
fn the_only_layer_by_systemds_word_and_its_tree_at_its_end() {
    let (root, Node::File(tree, _)) = tree("base") else { panic!() };
    let words = format!("root=LABEL=root taproot.layers=base taproot.upper=ram panic=1 roothash={root}");
    let mut machine = sealed("");
    machine.cmdline = words.clone();
    disk(&mut machine).take("base.verity");
    disk(&mut machine).put("base.sqsh", Node::File([bytes("base"), tree].concat(), 0o644));
    let world = boots(machine.clone());
    assert!(mounted(&world, "/run/taproot/layers/base").unwrap().0.starts_with("/dev/dm-"));
    machine.cmdline = words.replace("layers=base", "layers=top:base");
    assert!(refused(machine, "layer-unchecked").contains("there are 2, and one hash"));
}

#[test]
fn what_is_not_as_its_root_hash_says_is_never_mounted() {
    let flipped = |file: &str, at: usize| {
        let mut machine = sealed(&roots());
        flip(&mut machine, file, at);
        refused(machine, "layer-unchecked")
    };
    assert!(flipped("base.sqsh", SIZE - 1).contains("not what its tree and the root hash"));
    flipped("base.verity", 72);
    let said = flipped("base.verity", 0);
    assert!(said.contains("expected a verity superblock, found none"), "{said}");
    let mut without = sealed(&roots());
    disk(&mut without).take("base.verity");
    assert!(refused(without, "layer-unchecked").contains("it has no tree, neither beside it"));
    let mut wrong = sealed(&roots());
    wrong.cmdline = wrong.cmdline.replace(&tree("base").0.to_string(), &tree("top").0.to_string());
    refused(wrong, "layer-unchecked");
    let mut directory = sealed(&roots());
    disk(&mut directory).take("base.sqsh");
    disk(&mut directory).text("base/sbin/init", "x");
    assert!(refused(directory, "layer-unchecked").contains("it is a directory"));
    let said = refused(sealed(&format!("taproot.roothash=other:{}", tree("base").0)), "layer-unchecked");
    assert!(said.contains("other is none of them"), "{said}");
    let mut unmapped = sealed(&roots());
    unmapped.modules.remove("dm_verity");
    refused(unmapped, "layer-unchecked");
}

/// Nothing of an attempt that is given up is left, and the next one can have its devices.
#[test]
fn devices_go_when_an_attempt_is_given_up() {
    let words = format!("{} taproot.upper=label:none taproot.wait=2 taproot.fallback=LABEL=plain", roots());
    let mut machine = sealed(&words);
    machine.add("vdb", ext4("plain", Tree::system("")));
    let world = boots(machine);
    assert_eq!(mounted(&world, "/newroot").unwrap().0, "/dev/vdb");
    assert_eq!(world.mapped(), [""; 0]);
}

/// The scout reads each device that comes, and holds it for that moment.
#[test]
fn a_device_that_is_still_read_goes_with_its_reader() {
    let mut machine = sealed(&format!("{} taproot.wait=2 taproot.fallback=LABEL=plain", roots()));
    flip(&mut machine, "base.sqsh", SIZE - 1);
    machine.add("vdb", ext4("plain", Tree::system("")));
    let held = (0..3).map(|call| Fault::at("unmap", call, Effect::Errno(libc::EBUSY))).collect();
    let (end, world) = booted_with(machine, held);
    assert!(matches!(end, Some(End::HandOver { .. })), "{}", world.printed());
    assert_eq!(mounted(&world, "/newroot").unwrap().0, "/dev/vdb");
    assert_eq!(world.mapped(), [""; 0], "{}", world.story());
}

fn sum_file(name: &str) -> String {
    format!("{}  {name}.sqsh\n", hex(&Sha256::digest(bytes(name))))
}

#[test]
fn a_sum_beside_a_layer_is_checked_on_what_is_mounted() {
    let summed = |words: &str, of: &str| {
        let mut machine = on_ext4(words);
        disk(&mut machine).text("base.sha256", &sum_file(of));
        machine
    };
    let world = boots(summed("", "base"));
    let (source, ..) = mounted(&world, "/run/taproot/layers/base").unwrap();
    let story = world.story();
    let at = |what: &str| story.find(what).unwrap_or_else(|| panic!("no {what} in {story}"));
    let (attached, read) = (at("attach_image /run/taproot/base/base.sqsh"), at(&format!("read_image {source}")));
    assert!(attached < read && read < at(&format!("mount {source} /run/taproot/layers/base")));
    assert!(refused(summed("", "top"), "layer-unchecked").contains("its sum is"));
    boots(summed("taproot.layer_sums=no", "top"));
    let mut damaged = on_ext4("");
    disk(&mut damaged).text("base.sha256", "not a sum\n");
    assert!(refused(damaged, "layer-unchecked").contains("expected 64 hexadecimal digits"));
    let (end, world) = booted_with(summed("", "base"), vec![Fault::at("read_image", 0, Effect::Errno(libc::EIO))]);
    assert!(!matches!(end, Some(End::HandOver { .. })));
    assert!(world.printed().contains("it cannot be read behind 0 bytes"), "{}", world.printed());
}

/// A key in the image, and its list of these layers, beside them.
fn listed(words: &str, serial: u64) -> Machine {
    let key = SecretKey::new([9; 32]);
    let mut machine = sealed(words);
    machine
        .files
        .text(&format!("{}/site.pub", KEYS_DIR.trim_start_matches('/')), &key.public().unwrap().render("site"));
    let layer = |name: &str, seal| Layer { name: name.to_owned(), size: SIZE as u64, seal };
    let list = LayerList {
        serial,
        layers: vec![
            layer("top", Seal::Verity(tree("top").0)),
            layer("middle", Seal::Sha256(Digest::new(Sha256::digest(bytes("middle")).into()))),
            layer("base", Seal::Verity(tree("base").0)),
        ],
    };
    disk(&mut machine).text("layers.list", &key.sign(&list).unwrap());
    machine
}

/// An image with a key believes nothing but a list: no word is needed for that, and none takes it away.
#[test]
fn a_signed_list_says_what_each_layer_must_be() {
    let world = boots(listed("", 42));
    assert!(mounted(&world, "/run/taproot/layers/base").unwrap().0.starts_with("/dev/dm-"));
    assert!(mounted(&world, "/run/taproot/layers/middle").unwrap().0.starts_with("/dev/loop"));
    assert_eq!(text(&world, "/run/taproot/base/upper/layer-lists"), "42 layers.list\n");
    boots(listed(&roots().replace(&format!("taproot.roothash=middle:{}", tree("middle").0), ""), 42));

    let mut without = listed("", 42);
    disk(&mut without).take("layers.list");
    assert!(refused(without, "layer-list").contains("it is not there"));
    let mut changed = listed("", 42);
    flip(&mut changed, "layers.list", 30);
    assert!(refused(changed, "layer-list").contains("fits none of them"));
    let mut unsigned = listed("", 42);
    let list = LayerList { serial: 43, layers: vec![] }.render();
    disk(&mut unsigned).text("layers.list", &list);
    assert!(refused(unsigned, "layer-list").contains("expected a line `signature`"));
    let mut others = listed("", 42);
    others.cmdline = others.cmdline.replace("layers=top:", "layers=");
    assert!(refused(others, "layer-list").contains("has other layers than"));
    let said = refused(listed(&roots(), 42), "layer-unchecked");
    assert!(said.contains("do not say the same of layer middle"), "{said}");
    for file in ["top.sqsh", "middle.sqsh", "base.sqsh"] {
        let mut machine = listed("", 42);
        flip(&mut machine, file, SIZE - 1);
        fails(machine, "layer-unchecked");
    }
    let mut directory = listed("", 42);
    disk(&mut directory).take("middle.sqsh");
    disk(&mut directory).text("middle/etc/x", "");
    assert!(fails(directory, "layer-unchecked").contains("it is a directory"));
}

/// The same machine, going by a state.
fn listed_by_state(state: &State) -> Machine {
    let mut machine = listed("", 42);
    machine.cmdline = "root=LABEL=root taproot.layers panic=1".to_owned();
    machine.images.insert("new".to_owned(), Tree::of(&[("opt/new", b"")]));
    layer_state::keep(disk(&mut machine), state, &[1]);
    machine
}

/// With a state the images of its stack are what must be in the list. Sealed uppers are in none: they are as little checked as the
/// live one.
#[test]
fn the_stack_of_a_state_has_the_images_of_the_signed_list() {
    const KEPT: &str = "/run/taproot/base/.layers/layer-lists";
    let world = boots(listed_by_state(&layer_state::start()));
    assert!(mounted(&world, "/run/taproot/layers/base").unwrap().0.starts_with("/dev/dm-"));
    assert_eq!(text(&world, KEPT), "42 layers.list\n");
    let world = boots(listed_by_state(&layer_state::requested()));
    assert_eq!(layer_state::stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert!(mounted(&world, "/run/taproot/layers/top").unwrap().0.starts_with("/dev/dm-"));
    // Which list was seen is known under the next upper, too.
    let after = |tree: Tree| {
        let mut machine = listed_by_state(&layer_state::start());
        *disk(&mut machine) = tree;
        machine
    };
    let mut newer = after(world.files("/run/taproot/base"));
    disk(&mut newer).text(".layers/layer-lists", "43 layers.list\n");
    assert!(fails(newer, "layer-list").contains("serial number 43 or later"));
    // An image that was made here, and not signed, is not even tried.
    let world = boots(after(layer_state::made(&world)));
    assert_eq!(layer_state::stack(&world).0, "#1 top.sqsh middle.sqsh base.sqsh");
    let said = layer_state::problems(&world);
    assert!(said.contains("back to the stack before new: the signed list layers.list has other layers"), "{said}");
    let mut fewer = layer_state::start();
    fewer.stack.layers.remove(0);
    assert!(refused(listed_by_state(&fewer), "layer-list").contains("has other layers than"));
    let mut flipped = listed_by_state(&layer_state::start());
    flip(&mut flipped, "base.sqsh", SIZE - 1);
    fails(flipped, "layer-unchecked");
}

#[test]
fn keys_that_are_none_and_lists_without_keys_boot_nothing() {
    assert!(refused(sealed("taproot.layerlist=layers.list"), "layer-list").contains("found none; pack the key"));
    let mut machine = listed("", 42);
    machine.files.text("etc/taproot/layer-keys/other.pub", "ssh-ed25519 AAAA\n");
    assert!(refused(machine, "layer-list").contains("a key in /etc/taproot/layer-keys of the image cannot be used"));
}

/// The last one that was seen is kept by the firmware, or beside the upper where there is none.
#[test]
fn an_older_list_is_refused_wherever_the_last_one_is_kept() {
    let firmware = |kept: Option<&str>, serial| {
        let mut machine = listed("", serial);
        machine.modules.insert("efivarfs".to_owned(), ModuleSpec::takes(1));
        let kept = kept.map(|text| (VARIABLE.to_owned(), text.as_bytes().to_vec()));
        machine.firmware = Some(kept.into_iter().collect());
        machine
    };
    let writes =
        |machine: Machine| boots(machine).story().contains(&format!("write /sys/firmware/efi/efivars/{VARIABLE}"));
    assert!(writes(firmware(None, 42)) && writes(firmware(Some("41 layers.list\n"), 42)));
    assert!(!writes(firmware(Some("42 layers.list\n"), 42)), "nothing is new");
    boots(firmware(Some("42 other.list\n"), 41));
    let said = refused(firmware(Some("43 layers.list\n"), 42), "layer-list");
    assert!(said.contains("expected a list with serial number 43 or later"), "{said}");
    assert!(refused(firmware(Some("damaged"), 42), "layer-list").contains("which list was seen last cannot be read"));

    let beside = |kept: &str| {
        let mut machine = listed("", 42);
        disk(&mut machine).text("upper/layer-lists", kept);
        machine
    };
    let world = boots(beside("41 layers.list\n"));
    assert_eq!(text(&world, "/run/taproot/base/upper/layer-lists"), "42 layers.list\n");
    assert!(fails(beside("43 layers.list\n"), "layer-list").contains("serial number 43 or later"));
    assert!(fails(beside("x"), "layer-list").contains("which list was seen last cannot be read"));
    let world = boots(listed("taproot.upper=ram", 42));
    assert!(text(&world, "/run/taproot/boot.json").contains("an older one could be brought back"));
}

#[test]
fn without_anything_to_check_by_layers_are_mounted_as_before() {
    let world = boots(sealed(""));
    assert!(mounted(&world, "/run/taproot/layers/base").unwrap().0.starts_with("/dev/loop"));
    assert!(!world.story().contains("attach_image"));
}
