//! Words of the prompt that a disk, or a person, can spoil.

use super::{Dataset, End, Machine, Pool, Tree, Typed, World, run};
use crate::sim::zfs::pool::Damage;

const PROMPT: &str = "(taproot) #";

fn booted(machine: Machine) -> (Option<End>, World) {
    let world = World::new(machine, vec![]);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    (end, world)
}

fn tank() -> Pool {
    let root = |dataset: &mut Dataset| dataset.tree = Tree::system("");
    Pool::new("tank", 7).disk("/dev/vda").dataset("r", root).bootfs("r")
}

/// What comes of these lines at the prompt of a boot whose pool is damaged so: `Type yes` is answered with `answer`.
fn rewound(damaged: Option<Damage>, words: &str, lines: &[&str], answer: &str) -> (Option<End>, World) {
    let mut machine = Machine::new(words);
    machine.add_pool(Pool { damaged, ..tank() });
    machine.person = lines.iter().map(|line| Typed::line(PROMPT, line)).collect();
    machine.person.push(Typed::line("Type yes to do it", answer));
    booted(machine)
}

const BROKEN: Option<Damage> = Some(Damage { loss: Some(5) });

#[test]
fn a_pool_is_taken_back_after_a_typed_yes_and_boots() {
    let words = "zfs=tank taproot.wait=2";
    let (end, world) = rewound(BROKEN, words, &["import tank", "import tank rewind", "boot tank/r"], "yes");
    let text = world.printed();
    assert!(matches!(end, Some(End::HandOver { .. })), "{end:?}: {text}");
    let parts = [
        "`import tank rewind` says whether",
        "bootfs not known; whether an older state can be loaded says: import tank rewind",
        "The newest state of pool tank cannot be loaded; that of 2023-11-14 22:13:20 UTC can.\nAll that was written in the 5 s after \
         that will be lost.\nType yes to do it: ",
        "imported  pool tank",
    ];
    let mut at = 0;
    for part in parts {
        at += text[at..].find(part).unwrap_or_else(|| panic!("{part:?} is not in its place in\n{text}"));
    }
}

#[test]
fn nothing_is_written_before_the_yes_nor_read_only() {
    let words = "zfs=tank taproot.wait=2";
    for (lines, answer, says) in [
        (vec!["import tank rewind"], "no", "nothing was done"),
        (vec!["import tank rewind ro"], "no", "Read-only nothing is lost: this shows what would be left."),
        (vec!["import tank rewind checkpoint"], "yes", "expected checkpoint or rewind"),
    ] {
        let (end, world) = rewound(BROKEN, words, &lines, answer);
        assert!(
            matches!(end, Some(End::Question(_))) && world.printed().contains(says),
            "{lines:?}: {}",
            world.printed()
        );
        assert!(!world.machine().pools[0].written, "{lines:?}");
    }
    let (_, world) = rewound(Some(Damage { loss: None }), words, &["import tank rewind"], "yes");
    assert!(world.printed().contains("an older state of it cannot be loaded either"), "{}", world.printed());
    assert!(!world.printed().contains("Type yes"));
}

#[test]
fn a_pool_that_can_be_imported_is_not_taken_back() {
    let words = "zfs=tank taproot.break=import";
    let (_, world) = rewound(None, words, &["import tank rewind"], "yes");
    let text = world.printed();
    assert!(
        text.contains("can be imported as it is (tried read-only), so it is not taken back: import tank\n"),
        "{text}"
    );
    let pool = &world.machine().pools[0];
    assert!(!text.contains("Type yes") && !pool.written && pool.imported.is_none());
}

#[test]
fn no_boot_takes_a_pool_back_by_itself() {
    for words in
        ["root=zfs:AUTO", "zfs=tank zfs_force=1", "zfs=tank taproot.import=ro", "zfs=tank taproot.missing_log=yes"]
    {
        let (end, world) = rewound(BROKEN, &format!("{words} taproot.wait=2"), &["retry"], "yes");
        assert!(matches!(end, Some(End::Question(_))), "{words}: {end:?}");
        let pool = &world.machine().pools[0];
        assert!(!pool.written && pool.imported.is_none() && pool.damaged == BROKEN, "{words}");
    }
}
