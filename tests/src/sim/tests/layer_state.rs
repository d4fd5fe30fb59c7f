//! Boots that go by the state file of layers: what they seal, try, leave and write, and what they do where it cannot be written or read.

use super::layers::{boots, ext4, fails, images, machine, mounted, text};
use super::{Case, Effect, End, Fault, Machine, Node, Tree, World, seed};
use std::path::Path;
use taproot_init::layers::request::{self, Mounted};
use taproot_init::layers::state::{Digest, Flags, Image};
use taproot_init::layers::{State, steps, text as written};
use taproot_init::sys::System as _;

const BASE: &str = "/run/taproot/base";
const STATE: &str = "/run/taproot/base/.layers/state";
const NAMES: [&str; 3] = ["top", "middle", "base"];

fn image_of(seed: u8) -> Image {
    Image { digest: Digest { size: 4096, sha256: [seed; 32] }, made: false }
}

/// Three layers under upper 1.
pub(super) fn start() -> State {
    let files = NAMES.map(|name| format!("{name}.sqsh"));
    let images = files.iter().map(|file| (file.clone(), image_of(1))).collect();
    let mut state = State::new(images, files.to_vec(), Flags::portable()).unwrap();
    state.generation = 7;
    state
}

fn running(state: &State) -> Mounted {
    Mounted { stack: state.stack.clone(), ram: false }
}

/// With a commit that waits for a boot.
pub(super) fn requested() -> State {
    request::commit(&start(), &running(&start()), "new.sqsh", 0).unwrap()
}

/// A file system with this state, and uppers that have a file each.
fn tree(state: &State, uppers: &[u32]) -> Tree {
    let mut tree = images("", &NAMES);
    keep(&mut tree, state, uppers);
    tree
}

/// Puts a state and its uppers there.
pub(super) fn keep(tree: &mut Tree, state: &State, uppers: &[u32]) {
    for number in uppers {
        tree.text(&format!(".layers/uppers/{number}/upper/opt/upper-{number}"), "kept");
        tree.put(&format!(".layers/uppers/{number}/work"), Node::Dir);
    }
    tree.put(".layers/state", Node::File(written::render(state), 0o644));
}

fn on(tree: Tree, words: &str) -> Machine {
    let mut machine = machine(&format!("root=LABEL=root taproot.layers panic=1 {words}"));
    let new = Tree::of(&[("opt/new", b"")]);
    machine.images.insert("new".to_owned(), new);
    machine.add("vda", ext4("root", tree));
    machine
}

fn with(state: &State, words: &str) -> Machine {
    on(tree(state, &[1]), words)
}

/// What the disk of a machine holds after its boot.
fn disk(world: &World) -> Tree {
    world.files(BASE)
}

fn state_of(world: &World) -> State {
    written::parse(&world.read(Path::new(STATE), 1 << 20).unwrap()).unwrap()
}

fn record(world: &World) -> serde_json::Value {
    serde_json::from_str(&text(world, "/run/taproot/boot.json")).unwrap()
}

pub(super) fn problems(world: &World) -> String {
    record(world)["problems"].to_string()
}

/// Layers as the state spells them, and the upper.
pub(super) fn stack(world: &World) -> (String, u64) {
    let state = &record(world)["layers"]["state"];
    let layers: Vec<&str> = state["layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap()).collect();
    (layers.join(" "), state["upper"].as_u64().unwrap())
}

fn has(world: &World, path: &str) -> bool {
    world.stat(Path::new(path)).is_ok()
}

/// A case in which there is no state to go by, for the table of failures.
pub(super) fn without_state() -> Case {
    let machine = on(images("", &NAMES), "");
    Case { machine, faults: vec![], ..seed::narrow(2) }
}

#[test]
fn a_boot_seals_and_what_was_live_is_the_topmost_layer() {
    let world = boots(with(&requested(), ""));
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert!(has(&world, "/newroot/opt/upper-1") && has(&world, "/newroot/opt/top"));
    assert!(mounted(&world, "/run/taproot/layers/#1").unwrap().2, "a sealed upper is not written");
    assert!(!mounted(&world, BASE).unwrap().2 && !mounted(&world, "/newroot").unwrap().2);
    let state = state_of(&world);
    assert_eq!((state.generation, state.stack.upper, state.operations[0].phase.name()), (8, 2, "sealed"));
    let layers = &record(&world)["layers"];
    assert_eq!(layers["upper"]["directory"], "/run/taproot/base/.layers/uppers/2");
    assert_eq!(layers["stack"][0]["path"], "/run/taproot/base/.layers/uppers/1/upper");
    assert_eq!((layers["state"]["path"].as_str(), layers["state"]["generation"].as_u64()), (Some(STATE), Some(8)));
    assert_eq!(layers["state"]["operations"][0]["phase"], "sealed");
    assert_eq!(record(&world)["declared"]["layer_state"], true);
    // Another boot has nothing to do, and writes nothing.
    let again = boots(on(disk(&world), ""));
    assert_eq!((stack(&again), state_of(&again)), (stack(&world), state));
}

/// After a seal the image is made, which only a running system does.
pub(super) fn made(world: &World) -> Tree {
    let mut state = state_of(world);
    let generation = state.generation;
    state = steps::begun(&state, "new.sqsh").unwrap();
    let digest = Digest { size: 4096, sha256: [9; 32] };
    state = steps::verified(&state, "new.sqsh", generation + 1, digest).unwrap();
    state = steps::published(&state, "new.sqsh").unwrap();
    state.generation = generation + 3;
    let mut tree = disk(world);
    tree.put("new.sqsh", crate::sim::layering::image("new"));
    tree.put(".layers/state", Node::File(written::render(&state), 0o644));
    tree
}

#[test]
fn what_is_on_trial_is_left_after_three_boots_and_stays_where_one_is_confirmed() {
    let mut disks = made(&boots(with(&requested(), "")));
    for tries in 1..=3 {
        let world = boots(on(disks.clone(), ""));
        assert_eq!(stack(&world), ("new.sqsh top.sqsh middle.sqsh base.sqsh".into(), 2), "boot {tries}");
        assert_eq!(record(&world)["layers"]["state"]["trial"], tries);
        assert!(has(&world, "/newroot/opt/new") && !has(&world, "/newroot/opt/upper-1"));
        disks = disk(&world);
    }
    let world = boots(on(disks.clone(), ""));
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert!(problems(&world).contains("back to the stack before new: none of its 3 boots"), "{}", problems(&world));
    assert!(has(&world, "/newroot/opt/upper-1"));
    // Had somebody called the third one good, it would stay.
    let third = written::parse(&tree_bytes(&disks)).unwrap();
    let good = request::confirm(&third, &running(&third)).unwrap();
    disks.put(".layers/state", Node::File(written::render(&good), 0o644));
    let world = boots(on(disks, ""));
    assert_eq!(stack(&world).0, "new.sqsh top.sqsh middle.sqsh base.sqsh");
    assert_eq!(state_of(&world), good, "nothing is written");
}

fn tree_bytes(tree: &Tree) -> Vec<u8> {
    match tree.get(".layers/state") {
        Some(Node::File(bytes, _)) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stack_on_trial_that_cannot_be_put_together_is_left_at_once() {
    let ready = made(&boots(with(&requested(), "")));
    let mut broken = on(ready.clone(), "");
    broken.images.remove("new");
    let world = boots(broken);
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert!(
        problems(&world).contains("back to the stack before new: layer new cannot be used"),
        "{}",
        problems(&world)
    );
    let state = state_of(&world);
    assert!(state.trial.is_none() && state.operations[0].trouble.is_some(), "{state:?}");
    // If what is gone back to cannot be mounted either, it is a failure like any other.
    let mut hopeless = on(ready.clone(), "");
    hopeless.images.remove("new");
    hopeless.images.remove("base");
    let said = fails(hopeless, "layer-broken");
    assert!(said.contains("layer base cannot be used"), "{said}");
    // An image that lacks is not even tried.
    let mut without = ready;
    without.take("new.sqsh");
    let world = boots(on(without, ""));
    assert_eq!(stack(&world).0, "#1 top.sqsh middle.sqsh base.sqsh");
}

#[test]
fn a_stack_on_trial_without_a_program_to_start_is_left_at_once() {
    // It replaces all layers, and has nothing of them.
    let whole = request::commit(&start(), &running(&start()), "new.sqsh", 3).unwrap();
    let ready = made(&boots(with(&whole, "")));
    let world = boots(on(ready.clone(), ""));
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert!(problems(&world).contains("back to the stack before new: root layers new on"), "{}", problems(&world));
    assert!(problems(&world).contains("has no /sbin/init, /etc/init, /bin/init that can be executed"));
    let state = state_of(&world);
    assert!(state.trial.is_none() && state.operations[0].trouble.is_some(), "{state:?}");
    // Nothing of it is there any more, and what is mounted instead is complete.
    assert!(mounted(&world, "/run/taproot/layers/new").is_none() && !has(&world, "/newroot/opt/new"));
    assert!(has(&world, "/newroot/opt/upper-1") && has(&world, "/newroot/opt/top"));
    let record = record(&world);
    let places: Vec<&str> =
        record["mounts"].as_array().unwrap().iter().map(|mount| mount["target"].as_str().unwrap()).collect();
    assert_eq!(places, [BASE, "/"], "{record}");
    // Where the one before has none either it is a failure like any other.
    assert!(fails(on(ready, "init=/sbin/nothing"), "no-init").contains("/sbin/nothing"));
}

#[test]
fn where_the_state_cannot_be_written_the_stack_is_the_one_that_it_still_says() {
    // The last sync is behind the rename: then the new one holds.
    for nth in 0..8 {
        for errno in [libc::ENOSPC, libc::EIO] {
            let fault = Fault::at("sync", nth, Effect::Errno(errno));
            let (end, world) = booted_with(with(&requested(), ""), fault);
            assert!(matches!(end, Some(End::HandOver { .. })), "{nth}: {}", world.printed());
            let (layers, upper) = stack(&world);
            let state = state_of(&world);
            assert_eq!(u64::from(state.stack.upper), upper, "sync {nth}");
            assert_eq!(layers.starts_with("#1 "), upper == 2, "sync {nth}: {layers}");
            assert_eq!(upper, if nth == 7 { 2 } else { 1 }, "sync {nth}");
            assert!(problems(&world).contains("the layer state could not be written"), "{}", problems(&world));
            assert!(has(&world, "/newroot/opt/upper-1"));
            // The next boot does it.
            assert_eq!(stack(&boots(on(disk(&world), ""))).1, 2, "sync {nth}");
        }
    }
    let (_, world) = booted_with(with(&requested(), ""), Fault::at("rename", 0, Effect::Errno(libc::EROFS)));
    assert_eq!(stack(&world).1, 1);
}

fn booted_with(machine: Machine, fault: Fault) -> (Option<End>, World) {
    let world = World::new(machine, vec![fault]);
    let end = super::run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    (end, world)
}

/// The boot itself, with the power gone before each of the calls that write; what was written until then is on the disk.
#[test]
fn a_boot_that_the_power_cuts_is_done_again() {
    let ready = made(&boots(with(&requested(), "")));
    let adopted = disk(&boots(on(ready.clone(), "")));
    let mut cuts = 0;
    for (what, before) in [("seal", tree(&requested(), &[1])), ("adopt", ready), ("try again", adopted)] {
        let whole = boots(on(before.clone(), ""));
        for kind in ["make_dirs", "sync", "write", "rename", "bind", "mount_image", "mount_overlay"] {
            for nth in 0..12 {
                let (end, world) = booted_with(on(before.clone(), ""), Fault::at(kind, nth, Effect::PowerCut));
                if end != Some(End::PowerCut) {
                    break;
                }
                if mounted(&world, BASE).is_none() {
                    continue;
                }
                cuts += 1;
                let next = boots(on(disk(&world), ""));
                assert_eq!(stack(&next), stack(&whole), "{what}: cut before {kind} {nth}");
                assert_eq!(problems(&next), "[]", "{what}: cut before {kind} {nth}");
                for path in ["opt/upper-1", "opt/new", "opt/top"] {
                    let path = format!("/newroot/{path}");
                    assert_eq!(has(&next, &path), has(&whole, &path), "{what}: {path} after {kind} {nth}");
                }
            }
        }
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before_and_none_is_explained() {
    let mut damaged = tree(&start(), &[1]);
    let good = written::render(&start());
    damaged.put(".layers/state.prev", Node::File(good, 0o644));
    damaged.text(".layers/state", "taproot-layers-state 1\nnot whole");
    let world = boots(on(damaged.clone(), ""));
    assert!(problems(&world).contains("the layer state was damaged; its copy, generation 7, is used"));
    damaged.text(".layers/state.prev", "nor this");
    let said = fails(on(damaged, ""), "layer-state");
    assert!(said.contains("its copy cannot be read either"), "{said}");
    let said = fails(on(images("", &NAMES), ""), "layer-state");
    assert!(said.contains("there is none in /run/taproot/base/.layers"), "{said}");
    let mut lacking = tree(&start(), &[1]);
    lacking.take("middle.sqsh");
    let said = fails(on(lacking, ""), "no-layer");
    assert!(said.contains("layers that the layer state names are missing (taproot.layers): middle.sqsh"), "{said}");
}

#[test]
fn where_nothing_may_be_written_nothing_goes_on() {
    let words = "taproot.import=ro taproot.upper_fallback=ram";
    let world = boots(with(&requested(), words));
    assert_eq!(stack(&world), ("top.sqsh middle.sqsh base.sqsh".into(), 1));
    assert!(mounted(&world, BASE).unwrap().2 && has(&world, "/newroot/opt/upper-1"));
    assert_eq!(state_of(&world), requested());
    assert!(world.story().contains("waits for another one"), "{}", world.story());
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    // Of two stacks, the one that is known to work.
    let ready = made(&boots(with(&requested(), "")));
    let adopted = disk(&boots(on(ready, "")));
    let world = boots(on(adopted.clone(), words));
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    let world = boots(on(adopted.clone(), "taproot.upper=none"));
    assert!(mounted(&world, "/newroot").unwrap().2 && disk(&world) == adopted);
}

#[test]
fn a_list_on_the_command_line_leaves_the_state_as_it_is() {
    let mut machine = with(&requested(), "");
    machine.cmdline = machine.cmdline.replace("taproot.layers", "taproot.layers=middle:base");
    let world = boots(machine);
    assert_eq!(state_of(&world), requested());
    assert!(!has(&world, "/newroot/opt/top") && !has(&world, "/newroot/opt/upper-1"));
    assert!(world.story().contains("nothing under way there goes on"), "{}", world.story());
    let state = &record(&world)["layers"]["state"];
    assert_eq!((state["overridden"].as_bool(), state["generation"].as_u64()), (Some(true), None));
}

#[test]
fn an_upper_in_memory_lies_over_the_one_of_the_state() {
    let world = boots(with(&start(), "taproot.upper=ram"));
    assert_eq!(stack(&world), ("top.sqsh middle.sqsh base.sqsh".into(), 1));
    assert!(has(&world, "/newroot/opt/upper-1"));
    let layers = &record(&world)["layers"];
    assert_eq!((layers["stack"][0]["name"].as_str(), layers["upper"]["kind"].as_str()), (Some("#1"), Some("memory")));
    let world = boots(with(&requested(), "taproot.upper=ram"));
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert_eq!(state_of(&world).stack.upper, 2, "it seals all the same");
}

#[test]
fn the_state_lies_with_the_uppers_on_a_file_system_of_their_own() {
    let mut machine = on(images("", &NAMES), "taproot.upper=label:keep taproot.wait=3");
    let said = fails(machine.clone(), "layer-state");
    assert!(said.contains("LABEL=keep: it did not appear within 3 s"), "{said}");
    let mut keep = tree(&requested(), &[1]);
    for name in NAMES {
        keep.take(&format!("{name}.sqsh"));
    }
    machine.add("vdb", ext4("keep", keep));
    let world = boots(machine.clone());
    assert_eq!(stack(&world), ("#1 top.sqsh middle.sqsh base.sqsh".into(), 2));
    assert_eq!(mounted(&world, "/run/taproot/uppers").unwrap(), ("/dev/vdb".into(), "ext4".into(), false));
    assert!(mounted(&world, BASE).unwrap().2, "nothing is written to the base");
    assert_eq!(record(&world)["layers"]["state"]["path"], "/run/taproot/uppers/.layers/state");
    machine.cmdline.push_str(" taproot.import=ro taproot.upper_fallback=ram");
    let world = boots(machine);
    assert!(mounted(&world, "/run/taproot/uppers").unwrap().2 && has(&world, "/newroot/opt/upper-1"));
}

#[test]
fn options_that_an_upper_is_made_with_stand_in_the_state() {
    let world = boots(with(&start(), "overlayflags=redirect_dir=on,volatile"));
    let state = state_of(&world);
    assert_eq!(state.flags.hindrance(), Some("redirect_dir=on".into()));
    assert!(!state.flags.0.contains_key("volatile"));
    let options = record(&world)["layers"]["options"].to_string();
    assert!(options.contains("redirect_dir=on") && options.contains("volatile"), "{options}");
    // It stays one of those, without the word, too.
    let world = boots(on(disk(&world), ""));
    assert!(record(&world)["layers"]["options"].to_string().contains("redirect_dir=on"));
}

#[test]
fn a_fresh_upper_has_a_number_of_its_own_and_the_one_before_can_be_gone_back_to() {
    let world = boots(with(&start(), "taproot.upper_reset"));
    let state = state_of(&world);
    assert_eq!((stack(&world).1, state.pasts[0].upper), (2, Some(1)));
    assert!(!has(&world, "/newroot/opt/upper-1") && has(&world, "/newroot/opt/top"));
    assert!(problems(&world).contains("`taproot layer rollback 1` goes back to it"), "{}", problems(&world));
    // What a commit seals leaves a fresh one anyway.
    let world = boots(with(&requested(), "taproot.upper_reset"));
    assert!(stack(&world).1 == 2 && has(&world, "/newroot/opt/upper-1") && state_of(&world).pasts.is_empty());
    let ready = made(&boots(with(&requested(), "")));
    let world = boots(on(ready, "taproot.upper_reset"));
    assert!(problems(&world).contains("no fresh upper is begun: a stack is on trial") && stack(&world).1 == 2);
}

#[test]
fn an_upper_that_is_to_be_a_layer_is_that_of_the_state() {
    let world = boots(with(&requested(), "taproot.upper_readonly"));
    assert_eq!((stack(&world).1, state_of(&world)), (1, requested()));
    assert!(mounted(&world, BASE).unwrap().2 && has(&world, "/newroot/opt/upper-1"));
    assert_eq!(record(&world)["layers"]["upper"]["kind"], "memory");
}
