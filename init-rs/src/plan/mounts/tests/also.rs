//! `taproot.also=`.

use super::*;

#[test]
fn additional_datasets() {
    let mut request = parse(b"");
    let also = ["t/n", "t/off", "t/l", "t/z", "t/ROOT/b/var", "u/x", "u/in", "t/gone", "t/r@s", "t/k", "t/v", "t/sh"];
    request.mounts.also = also.map(|dataset| Also { dataset: dataset.to_owned(), target: None }).to_vec();
    let specs = [
        "t/ROOT/a /",
        "t/n noauto /n",
        "t/off off /off",
        "t/l legacy",
        "t/z legacy zol",
        "t/ROOT/b/var /var",
        "u/in noauto /in",
        "u/other /other",
        "t/k locked /k",
        "t/v volume",
        "t/sh /n",
    ];
    let plan = make_with(&specs, "", &request);
    assert_eq!(
        steps(&plan),
        [
            ("t/ROOT/a", "/"),
            ("u/in", "/in"),
            ("t/k", "/k"),
            ("t/n", "/n"),
            ("t/off", "/off"),
            ("t/ROOT/b/var", "/var"),
            ("t/z", "/zol")
        ]
    );
    assert!(plan.steps[5].why.contains("although it belongs to another"), "{}", plan.steps[5].why);
    assert!(plan.steps.iter().skip(1).all(|s| s.origin == Origin::Also));
    for (name, why) in [
        ("t/l", "taproot.also=t/l=/path says where"),
        ("u/x", "not imported"),
        ("t/gone", "no such dataset"),
        ("t/r@s", "snapshot"),
        ("t/v", "not a filesystem"),
        ("t/sh", "t/n is mounted at /n"),
    ] {
        skipped(&plan, name, why);
        assert!(plan.warnings.iter().any(|w| w.contains(&format!("{name} is not mounted"))), "{:?}", plan.warnings);
    }
    assert_eq!(plan.warnings.len(), 7, "{:?}", plan.warnings);
    let names = named(
        &fstab::parse(
            b"v/x /x zfs
t/y /y zfs
/dev/z /z ext4
",
        ),
        &request,
    )
    .join(" ");
    assert!(names.starts_with("v/x t/y t/n ") && !names.contains('@'), "{names}");
}

/// NixOS: an empty root, and what makes it one on datasets that nothing but their legacy mountpoint says anything of.
#[test]
fn additional_datasets_where_the_word_says() {
    let specs =
        ["t/local/root legacy", "t/local/nix legacy", "t/safe/persist noauto /elsewhere", "t/sw none", "t/n /n"];
    let line =
        "taproot.also=t/local/nix=/nix,t/safe/persist=//persist/,t/sw=/run/sw,t/n=/n taproot.also=t/local/root=/r";
    let plan = make(&specs, "", line);
    let expected = [("t/local/root", "/"), ("t/n", "/n"), ("t/local/nix", "/nix"), ("t/safe/persist", "/persist")];
    assert_eq!(steps(&plan), expected);
    assert!(plan.steps[2].why.starts_with("taproot.also, where it says"), "{}", plan.steps[2].why);
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    skipped(&plan, "t/sw", "/run/sw lies in /run");
    assert!(plan.warnings[1].contains("t/local/root is not mounted: not on /r, because it is mounted on /"));
    // A line of fstab goes before the word; where both say the same, all is well.
    let plan = make(&specs, "t/local/nix /nix zfs", "taproot.also=t/local/nix=/nix");
    assert!(plan.warnings.is_empty() && plan.steps.iter().any(|s| s.target == "/nix" && s.origin == Origin::Fstab));
    let plan = make(&specs, "t/local/nix /other zfs", "taproot.also=t/local/nix=/nix");
    assert!(plan.warnings[0].contains("not on /nix, because it is mounted on /other"), "{:?}", plan.warnings);
}
