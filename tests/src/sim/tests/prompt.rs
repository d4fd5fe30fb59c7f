//! Words of the prompt that a disk, or a person, can spoil.

use super::{Dataset, End, Machine, Pool, ProgramSpec, Tree, Typed, World, run, seconds};
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
        (vec!["import tank rewind checkpoint"], "yes", "expected one of checkpoint and rewind, found two"),
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

/// What the processes of a machine do that PID 1 starts instead of touching a disk itself.
fn apart(cmdline: &str, takes: Option<u64>, output: &str) -> Machine {
    let mut machine = Machine::new(cmdline);
    machine.add_pool(tank());
    let spec = ProgramSpec { takes: takes.map(seconds), status: 0, output: output.to_owned() };
    machine.programs.insert("/proc/self/exe".to_owned(), spec);
    machine
}

#[test]
fn a_disk_that_dies_while_roots_are_looked_into_holds_up_no_prompt() {
    for (takes, output, marked) in [(Some(1), "tank/r\n", true), (Some(1), "", false), (None, "", false)] {
        let mut machine = apart("zfs=tank taproot.menu=5", takes, output);
        machine.person = vec![Typed::line("Enter boots", "")];
        let (end, world) = booted(machine);
        assert!(matches!(end, Some(End::HandOver { .. })), "{takes:?} {end:?}: {}", world.printed());
        assert_eq!(world.printed().contains("tank/r  (bootfs, has no init)"), marked, "{takes:?}: {}", world.printed());
        assert!(!world.story().contains("/run/taproot/look "), "PID 1 mounts none of them");
        let told = world.story().contains("which roots have an init is not known: no answer for 20 s");
        assert_eq!(told, takes.is_none(), "{}", world.story());
    }
}

#[test]
fn the_list_of_roots_comes_though_none_can_be_looked_into() {
    let mut machine = apart("zfs=tank taproot.break=mount", None, "");
    machine.person = vec![Typed::line(PROMPT, "boot"), Typed::line("Which one?", "1")];
    let (end, world) = booted(machine);
    // What asks the pools has had its time, too.
    assert!(world.printed().contains("no pool has answered for 20 s"), "{end:?}: {}", world.printed());
    assert!(!world.story().contains("/run/taproot/look "));
}

/// A number means what was read beside it, though another pool has come since.
#[test]
fn numbers_are_those_of_the_list_that_was_shown() {
    let mut machine = Machine::new("zfs=tank taproot.break=mount");
    machine.add_pool(tank());
    let root = |dataset: &mut Dataset| dataset.tree = Tree::system("");
    machine.add_pool(Pool::new("apple", 8).disk("/dev/vdb").dataset("r", root).bootfs("r"));
    machine.person =
        [(PROMPT, "boot 1"), (PROMPT, "boot"), ("Which one?", ""), (PROMPT, "import apple"), (PROMPT, "boot 1")]
            .map(|(question, line)| Typed::line(question, line))
            .to_vec();
    let (end, world) = booted(machine);
    let text = world.printed();
    assert!(text.contains("1: no list of roots was shown yet"), "{text}");
    assert!(text.contains("imported  pool apple"), "{text}");
    assert!(matches!(&end, Some(End::HandOver { root, .. }) if root.source == "tank/r"), "{end:?}: {text}");
}

/// Lines that are no orders.
const ODD: [&str; 57] = [
    "",
    "   \t ",
    "0",
    "99",
    "-1",
    "18446744073709551616",
    "1x",
    "RETRY",
    "'retry'",
    "\"retry\"",
    "retry \"",
    "retry --",
    "retry -- 1",
    "retry nonsense",
    "retry zfs.zfs_arc_max=",
    "retry\0",
    "\x1b[A",
    "\u{9b}2J",
    "ü",
    "boot 99",
    "boot 0",
    "boot //",
    "boot tank//r",
    "boot tank/r@",
    "boot tank/r@a@b",
    "boot \x1b",
    "wait 0",
    "wait -1",
    "wait 1e3",
    "wait 99999999",
    "key nosuch/d",
    "key tank/r bad:/x",
    "import nosuch",
    "import tank ro ro ro x",
    "import 0",
    "mount",
    "mount /mnt ro",
    "mount nosuch/d /a b",
    "umount",
    "umount nosuch",
    "ls /nonexistent",
    "ls \"/ a\"",
    "cat",
    "cat /",
    "cat /nonexistent",
    "export",
    "export nosuch",
    "clear",
    "clear nosuch",
    "continue",
    "unlock",
    "datasets nosuch",
    "; reboot",
    "&& poweroff",
    "--help",
    "/init",
    "init",
];

/// None of these is an order: each is answered, nothing is done, and the prompt stands.
#[test]
fn odd_lines_are_answered_and_do_nothing() {
    let long = format!("retry {}", "x=1 ".repeat(2500));
    let lines: Vec<&str> = ODD.into_iter().chain([long.as_str()]).collect();
    let (end, world) = rewound(BROKEN, "zfs=tank taproot.wait=2", &lines, "no");
    let text = world.printed();
    assert!(matches!(&end, Some(End::Question(question)) if question == PROMPT), "{end:?}: {text}");
    assert_eq!(text.matches(PROMPT).count(), lines.len() + 1, "{text}");
    assert_eq!(text.matches("could not be started").count(), 1, "no other attempt has begun: {text}");
    assert!(text.contains("the line is longer than a terminal takes"), "{text}");
    let pool = &world.machine().pools[0];
    assert!(!pool.written && pool.imported.is_none());
}

/// A disk that comes while the prompt stands and changes nothing is not what was awaited.
#[test]
fn nothing_is_tried_again_for_a_disk_that_does_not_help() {
    let mut case = crate::sim::seed::case(40_220_689);
    case.machine.person.clear();
    case.asked.more.then = None;
    let world = World::new(case.machine, vec![]);
    let end = run(&world, |system| {
        let _ = taproot_init::boot::run(&system, Vec::new());
    });
    assert_eq!(end, Some(End::Question("(taproot) #".to_owned())));
    assert!(!world.printed().contains("What was awaited is there"), "{}", world.story());
}
