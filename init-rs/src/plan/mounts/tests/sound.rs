//! What must be true of every plan.

use proptest::prelude::*;

use super::*;
use crate::plan::names;

/// Mount points from few names, so that they meet.
fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab.]{1,2}", 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_dataset() -> impl Strategy<Value = Dataset> {
    let name = proptest::collection::vec("(a|b|ROOT)", 0..4)
        .prop_map(|parts| ["t".to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join("/"));
    let canmount = prop_oneof![3 => Just(CanMount::On), 1 => Just(CanMount::Off), 1 => Just(CanMount::NoAuto)];
    let mountpoint = prop_oneof![
        4 => any_path().prop_map(Mountpoint::Path),
        1 => Just(Mountpoint::Legacy),
        1 => Just(Mountpoint::None),
        1 => any::<String>().prop_map(Mountpoint::Path),
    ];
    (name, canmount, mountpoint, proptest::bool::weighted(0.1), proptest::option::weighted(0.2, any::<bool>()))
        .prop_map(|(name, canmount, mountpoint, zoned, key_available)| Dataset {
            canmount,
            mountpoint,
            zoned,
            key_available,
            ..Dataset::with_defaults(&name)
        })
}

fn any_entry() -> impl Strategy<Value = FstabEntry> {
    let option = prop_oneof![Just("noauto"), Just("nofail"), Just("zfsutil"), Just("ro"), Just("x-y=z")];
    (any_dataset(), any_path(), proptest::collection::vec(option.prop_map(str::to_owned), 0..3), 1usize..100).prop_map(
        |(d, target, options, line)| FstabEntry { source: d.name, target, fstype: "zfs".into(), options, line },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_is_sound(
        mut all in proptest::collection::vec(any_dataset(), 1..12),
        fstab in proptest::collection::vec(any_entry(), 0..5),
        line in "(ro|rw|)",
    ) {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        let root = all[all.len() / 2].clone();
        let of = Root::Dataset(root.clone());
        let plan = plan(ground(&of, &all, &fstab), &parse(line.as_bytes()));

        prop_assert_eq!(&plan.steps[0].dataset, &root.name);
        prop_assert_eq!(&plan.steps[0].target, "/");
        for (n, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.target.starts_with('/'));
            prop_assert!(step.target == "/" || parts(&step.target).all(|p| p != "." && p != ".."));
            for later in &plan.steps[n + 1..] {
                prop_assert!(later.target != step.target && later.dataset != step.dataset);
                prop_assert!(!names::is_within(&step.target, &later.target), "{} before {}", step.target, later.target);
            }
            let dataset = all.iter().find(|d| d.name == step.dataset).unwrap();
            if n > 0 {
                prop_assert!(!dataset.zoned && step.key.is_some() == (dataset.key_available == Some(false)));
            }
            if step.origin == Origin::Property {
                prop_assert!(dataset.canmount == CanMount::On && dataset.path().is_some_and(|p| p != "/"));
                prop_assert!(!step.dataset.contains("/ROOT/") || root.name.contains("ROOT"));
            }
        }
        // Every filesystem is accounted for; a second fstab line for a mounted one is reported beside its step.
        for dataset in &all {
            let mounted = plan.steps.iter().filter(|s| s.dataset == dataset.name).count();
            let left: Vec<_> = plan.skipped.iter().filter(|s| s.dataset == dataset.name).collect();
            prop_assert!(mounted + left.len() >= 1 && left.len() <= 1, "{}", dataset.name);
            prop_assert!(mounted == 0 || left.iter().all(|s| s.why.starts_with("fstab line")), "{}", dataset.name);
        }
    }
}
