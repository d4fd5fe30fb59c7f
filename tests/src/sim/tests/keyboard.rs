//! The keyboard's layout is a matter of boots that ask something, and of none that do not.

use crate::sim::faults::{Effect, Fault};
use crate::sim::files::Tree;
use crate::sim::machine::Machine;
use crate::sim::run;
use crate::sim::world::{End, World};
use crate::sim::zfs::pool::Pool;
use taproot_init::keyboard::{KEYMAP_PATH, Layout};

/// How a boot of a machine with a German keyboard ends, what it shows, and what it does.
fn boot(line: &str, keymap: &str, faults: Vec<Fault>) -> (Option<End>, String, String) {
    let mut machine = Machine::new(line);
    machine.files.text(KEYMAP_PATH.trim_start_matches('/'), keymap);
    machine.add_pool(Pool::new("tank", 7).disk("/dev/vda").dataset("r", |d| d.tree = Tree::system("")).bootfs("r"));
    let world = World::new(machine, faults);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    (end, world.printed(), world.story())
}

#[test]
fn only_a_boot_that_asks_loads_the_packed_layout() {
    let german = Layout::new("de", taproot_init::sys::keymap::Keymap::default()).render();
    let (end, printed, story) = boot("zfs=tank", &german, vec![]);
    assert!(matches!(end, Some(End::HandOver { .. })), "{printed}");
    assert!(!story.contains("keymap") && !printed.contains("Keyboard"), "{story}");

    let (end, printed, story) = boot("zfs=other taproot.wait=1", &german, vec![]);
    assert_eq!(end, Some(End::Question("(taproot) #".to_owned())));
    assert!(story.contains("load_keymap") && printed.contains("Keyboard layout: de\n(taproot) # "), "{printed}");

    let refused = Fault::at("load_keymap", 0, Effect::Errno(libc::EPERM));
    for (keymap, faults) in [(german.as_str(), vec![refused]), ("junk", vec![])] {
        let (_, printed, story) = boot("zfs=other taproot.wait=1", keymap, faults);
        assert!(
            printed.contains("Keyboard layout: us (the packed one could not be loaded)\n(taproot) # "),
            "{printed}"
        );
        assert!(story.contains("keys lie as on a US keyboard"), "{story}");
    }
}
