//! What is planned again when some of it is done, and what waits for keys.

use super::*;

/// A plan after these mounts, of `(place, dataset)`, and without these keys.
fn after(specs: &[&str], fstab: &str, line: &str, made: &[(&str, &str)], given_up: &[&str]) -> MountPlan {
    let all: Vec<_> = specs.iter().map(|s| dataset(s)).collect();
    let mut map = BTreeMap::new();
    for (place, dataset) in made {
        let (target, at) = ((*place).to_owned(), (*place).to_owned());
        let made = Made { dataset: (*dataset).to_owned(), target, at, origin: Origin::Property, mounted: true };
        map.insert((*place).to_owned(), made);
    }
    let given_up: BTreeSet<String> = given_up.iter().map(|key| (*key).to_owned()).collect();
    let (root, fstab) = (Root::Dataset(all[0].clone()), fstab::parse(fstab.as_bytes()));
    plan(Ground { made: &map, given_up: &given_up, ..ground(&root, &all, &fstab) }, &parse(line.as_bytes()))
}

fn key<'p>(plan: &'p MountPlan, dataset: &str) -> &'p KeyNeed {
    plan.steps.iter().find(|step| step.dataset == dataset).and_then(|step| step.key.as_ref()).unwrap()
}

#[test]
fn what_is_made_is_not_planned_again_and_keeps_its_place() {
    let specs = ["t/R/a /", "t/R/a/etc /etc", "t/R/a/usr /usr", "t/l legacy", "t/R/a/usr2 /usr"];
    let made = [("/etc", "t/R/a/etc"), ("/usr", "t/R/a/usr")];
    let plan = after(&specs, "t/R/a/etc /etc zfs zfsutil\nt/l /usr zfs\n", "", &made, &[]);
    assert_eq!(steps(&plan), [("t/R/a", "/")]);
    skipped(&plan, "t/l", "t/R/a/usr is mounted at /usr");
    assert!(plan.skipped.iter().all(|skip| skip.dataset != "t/R/a/etc"), "{:?}", plan.skipped);
    assert!(plan.warnings.iter().any(|w| w.contains("t/R/a/usr and t/l (fstab line 2)")), "{:?}", plan.warnings);
}

#[test]
fn what_is_asked_for() {
    let specs = [
        "t/R/a /",
        "t/R/a/usr /usr key=prompt",
        "t/R/a/etc /etc key=file:///etc/k",
        "t/home /home key=prompt",
        "t/root /root key=https://host/k",
        "t/also /also key=prompt",
        "t/l legacy key=prompt",
        "t/n legacy key=prompt",
    ];
    let plan = after(&specs, "t/l /l zfs\nt/n /n zfs nofail\n", "taproot.also=t/also", &[], &[]);
    for (dataset, needed, ask, file) in [
        ("t/R/a/usr", true, true, None),
        ("t/R/a/etc", true, false, Some("/etc/k")),
        ("t/home", false, false, None),
        ("t/root", false, false, None),
        ("t/also", true, true, None),
        ("t/l", true, true, None),
        ("t/n", false, false, None),
    ] {
        let expected = KeyNeed { root: dataset.to_owned(), file: file.map(str::to_owned), needed, ask };
        assert_eq!(*key(&plan, dataset), expected);
    }
    let plan = after(&specs, "", "taproot.mounts=t/home", &[], &[]);
    assert!(key(&plan, "t/home").ask, "it is named");
}

/// The booted system unlocks and mounts it, over what would be mounted below it now.
#[test]
fn below_what_stays_locked_nothing_is_mounted() {
    let specs = [
        "t/R/a /",
        "t/home /home key=prompt",
        "t/home/b /home/b",
        "t/R/a/home /home/own",
        "t/n legacy",
        "t/srv /srv key=prompt",
        "t/R/a/srv /srv",
        "t/srv/x /srv/x",
    ];
    let plan = after(&specs, "t/n /home/n zfs\n", "", &[], &["t/home", "t/srv"]);
    let expected =
        [("t/R/a", "/"), ("t/n", "/home/n"), ("t/R/a/home", "/home/own"), ("t/R/a/srv", "/srv"), ("t/srv/x", "/srv/x")];
    assert_eq!(steps(&plan), expected);
    skipped(&plan, "t/home", "the key of t/home is not loaded");
    skipped(&plan, "t/home/b", "it lies below /home, where t/home is left to the booted system");
}

#[test]
fn what_hid_the_init_is_left_out() {
    let all = ["t/R/a /", "t/R/a/usr /usr", "t/R/a/usr/local /usr/local", "t/sbin legacy"].map(dataset);
    let taken_away = BTreeSet::from(["t/R/a/usr", "t/sbin"].map(str::to_owned));
    let (root, fstab) = (Root::Dataset(all[0].clone()), fstab::parse(b"t/sbin /sbin zfs\n"));
    let plan = plan(Ground { taken_away: &taken_away, ..ground(&root, &all, &fstab) }, &parse(b""));
    assert_eq!(steps(&plan), [("t/R/a", "/"), ("t/R/a/usr/local", "/usr/local")]);
    skipped(&plan, "t/R/a/usr", "it was taken away");
    skipped(&plan, "t/sbin", "it was taken away");
}
