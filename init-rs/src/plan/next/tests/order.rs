//! The order of steps.

use super::{Play, boot, run, tank};
use crate::plan::facts::Mountpoint;
use crate::plan::failure::Code;
use crate::plan::fstab;
use crate::plan::next::Step;
use crate::plan::next::facts::Import;
use crate::plan::rehearsal::{End, Known, KnownRoot};

/// The steps of a boot from a pool, of which one more dataset is mounted.
const POOL: [&str; 16] = [
    "load-module",
    "ask-zfs",
    "ask-imported",
    "take",
    "import",
    "ask-root",
    "mount-root",
    // What can hold /etc.
    "ask-datasets",
    "plan-mounts",
    "read-fstab",
    "ask-datasets",
    "plan-mounts",
    "mount",
    "tell-left-out",
    "find-init",
    "get-ready",
];

/// The steps of a boot, with some more before the one that is named.
fn with(more: &[(&'static str, &[&'static str])]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for step in POOL.into_iter().chain(["hand-over"]) {
        for (_, before) in more.iter().filter(|(at, _)| *at == step) {
            all.extend_from_slice(before);
        }
        all.push(step);
    }
    all
}

#[test]
fn each_thing_in_its_place() {
    let table: [(&str, Vec<&str>); 10] = [
        ("zfs=tank", with(&[])),
        ("root=ZFS=tank/r", with(&[])),
        // A hibernated system is resumed before anything else is looked for.
        ("zfs=tank resume=UUID=5", with(&[("load-module", &["wait", "pretend", "look-for-image", "resume-settled"])])),
        // An image is discarded when it is sure that a pool will be written, and before.
        ("zfs=tank resume=UUID=5 noresume", with(&[("import", &["discard-image"])])),
        ("zfs=tank resume=UUID=5 noresume taproot.import=ro", with(&[])),
        ("zfs=tank break=top,premount", with(&[("load-module", &["stop"]), ("import", &["stop"])])),
        ("zfs=tank break=mount,init", with(&[("mount-root", &["stop"]), ("get-ready", &["stop"])])),
        ("zfs=tank taproot.menu=5", with(&[("mount-root", &["menu"])])),
        ("zfs=tank/r@monday", with(&[("mount-root", &["snapshots"])])),
        ("zfs=tank ro", with(&[("mount", &["remount"])])),
    ];
    for (line, steps) in table {
        let told = boot(line, &tank());
        assert_eq!(told.names(), steps, "{line}");
        assert!(told.booted(), "{line}: {:?}", told.failure);
    }
}

/// A hook comes back with the mounts, and neither stops nor offers anything.
#[test]
fn a_hook_ends_with_the_mounts() {
    let known = Known { hook: true, ..tank() };
    let told = boot("zfs=tank break=top,premount,mount,init taproot.menu=5", &known);
    let expected: Vec<&str> = POOL.into_iter().filter(|step| *step != "find-init").chain(["mounted"]).collect();
    assert_eq!(told.names(), expected);
    assert_eq!(told.end, End::Mounted);
}

/// The root's key is needed before it is mounted; the others when everything else is.
#[test]
fn keys_come_before_what_they_encrypt() {
    let mut known = tank();
    for dataset in known.datasets.iter_mut().filter(|d| d.name.starts_with("tank/r")) {
        dataset.key_available = Some(true);
        dataset.encryption_root = Some(if dataset.name == "tank/r" { "tank/r" } else { "tank/r/var" }.to_owned());
    }
    let told = boot("zfs=tank taproot.menu=5", &known);
    let (key, others) = ([("mount-root", &["menu", "load-key"][..])], [("mount", &["load-keys", "plan-mounts"][..])]);
    assert_eq!(told.names(), with(&[key, others].concat()));
    // One key for both is had once.
    for dataset in known.datasets.iter_mut().filter(|d| d.name == "tank/r/var") {
        dataset.encryption_root = Some("tank/r".to_owned());
    }
    assert_eq!(boot("zfs=tank taproot.menu=5", &known).names(), with(&key));
    // A key that cannot be had leaves out what it encrypts.
    let var = known.datasets.iter_mut().find(|d| d.name == "tank/r/var").unwrap();
    (var.key_available, var.encryption_root) = (Some(false), Some("tank/r/var".to_owned()));
    let told = boot("zfs=tank", &known);
    assert!(told.names().contains(&"load-keys") && !told.names().contains(&"mount"), "{:?}", told.names());
    assert!(told.skipped.iter().any(|s| s.dataset == "tank/r/var"), "{:?}", told.skipped);
}

/// A pool that the boot does not take after all is given back before another one is imported, or a device is mounted.
#[test]
fn a_pool_that_is_left_is_exported() {
    let told = boot("zfs=tank/none taproot.fallback=usb/r", &tank());
    assert!(told.booted() && told.root.as_deref() == Some("usb/r"), "{told:?}");
    let tail: Vec<&str> = told.names().into_iter().skip_while(|name| *name != "fallback").collect();
    assert_eq!(tail[..5], ["fallback", "ask-imported", "take", "export", "ask-imported"]);
    assert!(told.steps.iter().any(|line| line.text.starts_with("export pool tank")));

    let told = boot("zfs=tank/none taproot.fallback=/dev/vda1 rootfstype=ext4", &tank());
    assert!(told.booted() && told.root.as_deref() == Some("/dev/vda1"), "{told:?}");
    assert!(told.place("export") < told.place("mount-root"), "{:?}", told.names());

    // One that it stays in is not.
    let told = boot("zfs=tank/none taproot.fallback=tank/r", &tank());
    assert!(told.booted() && told.place("export").is_none(), "{:?}", told.names());
    assert_eq!(told.names().iter().filter(|name| **name == "import").count(), 1);
}

/// A pool that was imported at the prompt stays until the fstab of the root was read and used.
#[test]
fn a_pool_imported_by_hand_stays_for_the_fstab() {
    let by_hand = |play: &mut Play<'_>| {
        play.facts.ours.insert(8, Import { pool: "usb".into(), read_only: false, beside: true });
    };
    let with_fstab = |line: &str| {
        let root = KnownRoot { fstab: Some(fstab::parse(line.as_bytes())), ..KnownRoot::default() };
        let mut known = Known { roots: [("tank/r".to_owned(), root)].into(), ..tank() };
        known.datasets[4].mountpoint = Mountpoint::Legacy;
        run("zfs=tank", &known, &[(0, &by_hand)])
    };
    let told = with_fstab("usb/r /srv zfs defaults 0 0\n");
    assert!(told.booted() && told.place("export").is_none(), "{:?}", told.names());
    assert!(told.mounts.iter().any(|mount| mount.dataset == "usb/r" && mount.target == "/srv"), "{:?}", told.mounts);
    // Of no use to it, it is given back, and the root stays as it is.
    let told = with_fstab("");
    assert!(told.booted() && told.place("mount") < told.place("export"), "{:?}", told.names());
    assert_eq!(told.names().iter().filter(|name| **name == "mount-root").count(), 1);
}

/// A pool that was imported in another way than the words say is given back, and imported as they say; one beside the root's where
/// nothing is to be written.
#[test]
fn what_is_imported_otherwise_is_imported_anew() {
    for (line, read_only, beside, other, expected) in [
        ("zfs=tank", true, false, false, &["take", "export", "ask-imported", "take", "import"][..]),
        ("zfs=tank", false, false, false, &["take", "ask-root"]),
        ("zfs=tank taproot.import=ro", false, false, false, &["take", "export", "ask-imported", "take", "import"]),
        ("zfs=tank taproot.import=ro", false, true, false, &["take", "export", "ask-imported", "take", "import"]),
        ("zfs=tank taproot.import=ro", true, true, false, &["take", "ask-root"]),
        ("zfs=tank", true, true, true, &["take", "import"]),
        ("zfs=tank taproot.import=ro", true, true, true, &["take", "import"]),
        ("zfs=tank taproot.import=ro", false, true, true, &["take", "export", "ask-imported", "take", "import"]),
    ] {
        let before = |play: &mut Play<'_>| {
            let (guid, pool) = if other { (8, "usb") } else { (7, "tank") };
            play.facts.ours.insert(guid, Import { pool: pool.into(), read_only, beside });
        };
        let told = run(line, &tank(), &[(0, &before)]);
        let steps: Vec<&str> = told.names().into_iter().skip_while(|name| *name != "take").collect();
        assert!(told.booted() && steps.starts_with(expected), "{line} {read_only} {beside} {other}: {steps:?}");
    }
}

#[test]
fn what_follows_a_failure() {
    let end = |line: &str| {
        let told = boot(line, &tank());
        let fallbacks = told.names().iter().filter(|name| **name == "fallback").count();
        (told.code(), told.root, fallbacks)
    };
    // One after the other, until one boots.
    assert_eq!(end("zfs=gone taproot.fallback=gone/a,tank/r,usb/r"), (None, Some("tank/r".into()), 2));
    // The bootfs that stands in is that of the pool that was named, else of any.
    assert_eq!(end("zfs=usb/none taproot.fallback=bootfs"), (None, Some("usb/r".into()), 1));
    assert_eq!(end("zfs=gone taproot.fallback=tank/none,bootfs"), (Some(Code::NoPool), None, 2));
    // And if none does, the last failure counts.
    assert_eq!(end("zfs=gone taproot.fallback=tank/none"), (Some(Code::NoDataset), Some("tank/none".into()), 1));
    // Another root does not help where no pool may be written.
    assert_eq!(end("zfs=tank resume=/dev/zd0 taproot.fallback=tank/r"), (Some(Code::Resume), None, 0));
    let explains = |line: &str| boot(line, &tank()).steps.last().unwrap().text.clone();
    assert!(explains("zfs=gone").ends_with("ask a person what to do"));
    assert!(explains("zfs=gone panic=5").contains("after 5 s (panic=5)"));
    assert!(explains("zfs=gone taproot.rescue=poweroff:4").contains("switch off after 4 s"));
}

#[test]
fn roots_that_cannot_be_mounted() {
    let mut known = tank();
    known.datasets[3].kind = crate::plan::facts::Kind::Volume;
    for (line, code) in [
        ("zfs=tank/none", Code::NoDataset),
        ("root=ZFS=usb", Code::NotMountable),
        ("zfs=tank@old", Code::Snapshot),
        ("zfs=tank//r", Code::UnusableRoot),
    ] {
        let told = boot(line, &known);
        assert_eq!(told.code(), Some(code), "{line}");
        assert!(told.mounts.is_empty() && told.end == End::Failed, "{line}");
    }
    known.pools[1].bootfs = Some("usb".to_owned());
    assert_eq!(boot("zfs=usb", &known).code(), Some(Code::NotMountable));
    known.pools[1].bootfs = None;
    assert_eq!(boot("zfs=usb", &known).code(), Some(Code::NoBootfs));
}

/// Every step that there is has words of its own.
#[test]
fn waits_end_and_steps_have_words() {
    let told = boot("zfs=tank resume=UUID=5 noresume taproot.menu=5 ro", &tank());
    assert!(told.steps.iter().all(|line| !line.text.is_empty() && !line.name.is_empty()));
    assert_eq!(crate::plan::rehearsal::name(&Step::GetReady), "get-ready");
}
