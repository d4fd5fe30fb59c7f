use super::cloning::clone_properties;
use super::*;
use crate::plan::mounts::{MountStep, Origin};
use crate::plan::options::MountOptions;
use crate::zfs::ioctl::ObjsetKind;
use crate::zfs::nvlist::NvList;

fn source(name: &str, has_snapshot: bool) -> Source {
    Source {
        name: name.into(),
        kind: Kind::Filesystem,
        mountpoint: Mountpoint::Path("/".into()),
        key_available: None,
        own: vec![],
        has_snapshot,
        newer: vec![],
    }
}

fn snap(name: &str, txg: u64) -> Snapshot {
    Snapshot { name: name.into(), createtxg: txg, clones: vec![], holds: 0 }
}

fn existing(name: &str, origin: &str, unfinished: bool) -> Existing {
    Existing { name: name.into(), origin: Some(origin.into()).filter(|o: &String| !o.is_empty()), unfinished }
}

fn clones(plan: &SnapshotPlan) -> Vec<String> {
    let text = |step: &Step| match step {
        Step::Clone { from, to, .. } => format!("{from} > {to}"),
        Step::Complete(name) => format!("complete {name}"),
        Step::Destroy(names) => format!("destroy {}", names.join(" ")),
        Step::RollBack(name) => format!("back to {name}"),
    };
    plan.steps.iter().map(text).collect()
}

fn left_out(plan: &SnapshotPlan) -> Vec<&str> {
    plan.left_out.iter().map(|s| s.dataset.as_str()).collect()
}

fn tree() -> Vec<Source> {
    let mut volume = source("t/R/d/swap", true);
    volume.kind = Kind::Volume;
    let mut locked = source("t/R/d/secret", true);
    locked.key_available = Some(false);
    vec![
        source("t/R/d/var/log", true),
        source("t/R/d/var", true),
        source("t/R/d", true),
        source("t/R/d/srv", false),
        source("t/R/d/srv/www", true),
        source("t/R/d2", true),
        volume,
        locked,
    ]
}

#[test]
fn a_kernels_release_makes_a_name() {
    assert_eq!(kernel_name("6.12.95+deb12-amd64"), "6.12.95_deb12-amd64");
    assert_eq!(kernel_name("6.1.0-9-amd64"), "6.1.0-9-amd64");
}

#[test]
fn names_of_clones() {
    assert_eq!(clone_name("t/R/d", "s", None).unwrap(), "t/R/d_s");
    assert_eq!(clone_name("t/R/d", "s", Some("t/x")).unwrap(), "t/x");
    assert_eq!(clone_name("t", "s", Some("t/x")).unwrap(), "t/x");
    for (root, asked) in
        [("t/R/d", "u/x"), ("t/R/d", "t"), ("t/R/d", "t/R/d/x"), ("t/R/d", "t/R/d"), ("t/R/d", "t/a@b")]
    {
        let refusal = clone_name(root, "s", Some(asked)).unwrap_err();
        assert!(refusal.problem.contains(asked) && refusal.advice[0].contains("taproot.clone=t/"), "{refusal:?}");
    }
    // the pool's own dataset has no sibling
    assert!(clone_name("t", "s", None).is_err());
    assert!(clone_name("t/d", &"s".repeat(252), None).unwrap_err().problem.contains("at most 255"));
}

#[test]
fn the_root_and_what_has_the_snapshot_is_cloned_parents_first() {
    let plan = clone("t/R/d", "s", "t/R/d_s", &tree(), &[]).unwrap();
    assert_eq!(
        clones(&plan),
        ["t/R/d@s > t/R/d_s", "t/R/d/var@s > t/R/d_s/var", "t/R/d/var/log@s > t/R/d_s/var/log", "complete t/R/d_s"]
    );
    assert_eq!(left_out(&plan), ["t/R/d/secret", "t/R/d/srv", "t/R/d/srv/www", "t/R/d/swap"]);
    assert_eq!(plan.stands_for["t/R/d/var"], "t/R/d_s/var");
    assert!(plan.why.contains("new clone of t/R/d@s"), "{}", plan.why);
}

#[test]
fn a_lone_root_carries_no_mark() {
    let plan = clone("t/R/d", "s", "t/R/d_s", &[source("t/R/d", true)], &[]).unwrap();
    let [Step::Clone { properties, .. }] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!(*properties, [("canmount".to_owned(), Value::U64(2)), ("mountpoint".to_owned(), Value::text("/"))]);
}

#[test]
fn the_pools_own_dataset_is_cloned_without_its_clone() {
    let sources = [source("t", true), source("t/a", true), source("t/x", true), source("t/x/a", true)];
    let plan = clone("t", "s", "t/x", &sources, &[existing("t/x", "t@s", true), existing("t/x/a", "t/a@s", false)]);
    assert_eq!(clones(&plan.unwrap()), ["complete t/x"]);
}

#[test]
fn a_clone_of_this_snapshot_is_booted_again() {
    let there = [existing("t/R/d_s", "t/R/d@s", false), existing("t/R/d_s/var", "", false)];
    let plan = clone("t/R/d", "s", "t/R/d_s", &tree(), &there).unwrap();
    assert!(plan.steps.is_empty() && plan.why.contains("is kept"), "{plan:?}");
    // What its user made of the rest is not ours to judge.
    assert_eq!(plan.stands_for.len(), 2);
    let interrupted = [existing("t/R/d_s", "t/R/d@s", true), existing("t/R/d_s/var", "t/R/d/var@s", false)];
    let plan = clone("t/R/d", "s", "t/R/d_s", &tree(), &interrupted).unwrap();
    assert_eq!(clones(&plan), ["t/R/d/var/log@s > t/R/d_s/var/log", "complete t/R/d_s"]);
    let strange = [existing("t/R/d_s", "t/R/d@s", true), existing("t/R/d_s/var", "t/other@s", false)];
    assert!(clone("t/R/d", "s", "t/R/d_s", &tree(), &strange).is_err());
}

#[test]
fn another_dataset_of_that_name_is_left_alone() {
    for (origin, word) in [("t/R/d@s2", "a clone of t/R/d@s2"), ("", "not a clone")] {
        let refusal = clone("t/R/d", "s", "t/R/d_s", &tree(), &[existing("t/R/d_s", origin, false)]).unwrap_err();
        assert!(refusal.found[0].contains(word), "{refusal:?}");
        assert!(refusal.advice[0].contains("taproot.clone="), "{refusal:?}");
    }
}

#[test]
fn properties_go_along() {
    let own = |names: &[(&str, Value)]| names.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect::<Vec<_>>();
    let root = Source {
        mountpoint: Mountpoint::Legacy,
        own: own(&[
            ("canmount", Value::U64(1)),
            ("mountpoint", Value::text("/x")),
            ("readonly", Value::U64(1)),
            ("quota", Value::U64(1 << 30)),
            ("keylocation", Value::text("prompt")),
            ("org.x:tag", Value::text("y")),
            (STATE_PROPERTY, Value::text(COMPLETE)),
        ]),
        ..source("t/d", true)
    };
    assert_eq!(
        clone_properties(&root, true, true),
        own(&[
            ("readonly", Value::U64(1)),
            ("org.x:tag", Value::text("y")),
            ("canmount", Value::U64(2)),
            ("mountpoint", Value::text("legacy")),
            (STATE_PROPERTY, Value::text(UNFINISHED)),
        ])
    );
    let child = Source { own: own(&[("canmount", Value::U64(0)), ("mountpoint", Value::text("/v"))]), ..root };
    assert_eq!(clone_properties(&child, false, true), child.own);
}

#[test]
fn own_properties_are_those_set_here() {
    let mut properties = NvList::new();
    for (name, source) in [("atime", Some("t/a")), ("exec", Some("t")), ("xattr", Some("$recvd")), ("used", None)] {
        let mut pair = NvList::new();
        pair.set("value", Value::U64(1));
        if let Some(source) = source {
            pair.set("source", Value::text(source));
        }
        properties.set(name, Value::List(pair));
    }
    let objset = Objset { name: "t/a".into(), kind: ObjsetKind::Filesystem, properties };
    let names: Vec<String> = own_properties(&objset).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["atime", "xattr"]);
}

#[test]
fn a_missing_snapshot_lists_the_newest() {
    let have: Vec<Snapshot> = (0..30).map(|n| snap(&format!("t/d@{n}"), n)).collect();
    let refusal = missing("t/d", "typo", "root=ZFS=t/d@typo", &have);
    assert!(refusal.problem.contains("root=ZFS=t/d@typo asks for the snapshot t/d@typo"), "{refusal:?}");
    assert_eq!((refusal.found.len(), refusal.found[0].as_str()), (21, "t/d@29"));
    assert_eq!(refusal.found[20], "and 10 older ones");
    assert!(missing("t/d", "typo", "x", &[]).found[0].contains("no snapshot at all"));
}

#[test]
fn rollback_needs_a_second_word_for_newer_snapshots() {
    let mut sources = tree();
    let plan = roll_back("t/R/d", "s", "rollback=on", false, &sources).unwrap();
    assert_eq!(clones(&plan), ["back to t/R/d@s", "back to t/R/d/var@s", "back to t/R/d/var/log@s"]);
    sources[1].newer = vec![snap("t/R/d/var@new", 9)];
    let refusal = roll_back("t/R/d", "s", "rollback=on", false, &sources).unwrap_err();
    assert_eq!(refusal.found, ["t/R/d/var@new"]);
    assert!(refusal.advice[1].contains("taproot.destroy_newer=yes"), "{refusal:?}");
    let plan = roll_back("t/R/d", "s", "rollback=on", true, &sources).unwrap();
    assert_eq!(clones(&plan)[..2], ["destroy t/R/d/var@new", "back to t/R/d@s"]);
    // a snapshot of a dataset that is not rolled back is nobody's concern
    sources[3].newer = vec![snap("t/R/d/srv@new", 9)];
    assert_eq!(clones(&roll_back("t/R/d", "s", "", true, &sources).unwrap()).len(), 4);
}

#[test]
fn newer_snapshots_in_use_are_not_destroyed() {
    let mut root = source("t/d", true);
    root.newer = vec![
        Snapshot { clones: vec!["t/c".into()], ..snap("t/d@a", 1) },
        Snapshot { holds: 2, ..snap("t/d@b", 2) },
        snap("t/d@c", 3),
    ];
    let refusal = roll_back("t/d", "s", "rollback=on", true, &[root]).unwrap_err();
    assert_eq!(refusal.found, ["t/d@a, cloned as t/c", "t/d@b, 2 hold(s)"]);
}

#[test]
fn a_view_mounts_snapshots_only() {
    let view = view("t/R/d", "s", &tree());
    assert_eq!((view.root.as_str(), view.steps.len()), ("t/R/d@s", 0));
    let step = |dataset: &str| MountStep {
        dataset: dataset.into(),
        target: "/x".into(),
        place: "/x".into(),
        options: MountOptions { flags: 0, data: String::new() },
        why: String::new(),
        origin: Origin::Property,
        nofail: false,
        foreign: None,
        key: None,
        overlay: true,
    };
    let mut plan =
        MountPlan { steps: vec![step("t/R/d/var"), step("t/R/d/srv"), step("t/home")], ..MountPlan::default() };
    view_mounts(&mut plan, "t/R/d", &view.stands_for);
    let names: Vec<&str> = plan.steps.iter().map(|s| s.dataset.as_str()).collect();
    assert_eq!(names, ["t/R/d/var@s", "t/home"]);
    assert_eq!((plan.steps[0].options.flags, plan.skipped[0].dataset.as_str()), (libc::MS_RDONLY, "t/R/d/srv"));
}
