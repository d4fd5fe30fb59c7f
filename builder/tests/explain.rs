//! `taproot explain` as a user runs it, on the record of a boot that the boot's own code writes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, clippy::panic)] // a test stops at the first surprise

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use taproot_init::cmdline::parse;
use taproot_init::image::ExpectedPool;
use taproot_init::plan::facts::{CanMount, Dataset, Health, Mountpoint, PoolFact};
use taproot_init::plan::fstab;
use taproot_init::report::boot::BootReport;

fn taproot(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_taproot")).args(args).output().unwrap()
}

/// What was said; an answer of no has an exit code of its own.
fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let no = text.contains("\"failure\": \"") || text.contains("cannot boot");
    assert_eq!(output.status.code(), Some(if no { 3 } else { 0 }), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn dataset(name: &str, canmount: CanMount, mountpoint: &str) -> Dataset {
    let mountpoint = match mountpoint {
        "legacy" => Mountpoint::Legacy,
        "none" => Mountpoint::None,
        path => Mountpoint::Path(path.into()),
    };
    Dataset { canmount, mountpoint, ..Dataset::with_defaults(name) }
}

/// Two pools; two boot environments in one of them, with shared data and a legacy dataset.
fn record() -> String {
    let mut secret = dataset("tank/secret", CanMount::On, "/secret");
    secret.key_available = Some(false);
    secret.encryption_root = Some("tank/secret".into());
    BootReport {
        version: "0.1.0".into(),
        kernel: "6.12.9".into(),
        zfs: Some("2.3.1".into()),
        request: Some(parse(b"root=zfs:AUTO quiet")),
        pools: vec![
            PoolFact { bootfs: Some("tank/ROOT/a".into()), ..PoolFact::named("tank", 7) },
            PoolFact { bootfs: Some("usb/ROOT/x".into()), health: Health::Degraded, ..PoolFact::named("usb", 8) },
        ],
        expected: vec![ExpectedPool { name: "tank".into(), guid: 7, vdevs: vec![] }],
        root: Some("tank/ROOT/a".into()),
        datasets: vec![
            dataset("tank", CanMount::Off, "none"),
            dataset("tank/ROOT", CanMount::Off, "none"),
            dataset("tank/ROOT/a", CanMount::NoAuto, "/"),
            dataset("tank/ROOT/a/var", CanMount::On, "/var"),
            dataset("tank/ROOT/b", CanMount::NoAuto, "/"),
            dataset("tank/ROOT/b/var", CanMount::On, "/var"),
            dataset("tank/home", CanMount::On, "/home"),
            dataset("tank/srv", CanMount::NoAuto, "legacy"),
            secret,
        ],
        fstab: fstab::parse(b"tank/srv /srv zfs defaults,noexec 0 0\nLABEL=x /x ext4\n"),
        ..BootReport::default()
    }
    .to_json()
}

struct Recorded {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Recorded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot.json");
        std::fs::write(&path, record()).unwrap();
        Self { _dir: dir, path }
    }

    fn explain(&self, more: &[&str]) -> Output {
        let path = self.path.to_str().unwrap();
        taproot(&[&["explain", "--facts", path], more].concat())
    }

    fn json(&self, cmdline: &str) -> serde_json::Value {
        serde_json::from_str(&stdout(&self.explain(&["--json", "--cmdline", cmdline]))).unwrap()
    }
}

fn targets(doc: &serde_json::Value) -> Vec<String> {
    let mounts = doc["boot"]["mounts"].as_array().unwrap();
    mounts.iter().map(|m| format!("{} {}", m["dataset"].as_str().unwrap(), m["target"].as_str().unwrap())).collect()
}

/// The whole text: what changes here changes for everybody who reads it.
#[test]
fn the_text() {
    let recorded = Recorded::new();
    let cmdline = "root=ZFS=tank/ROOT/b ro taproot.wiat=9 taproot.mounts=children splash zfs.zfs_arc_max=9 -- single";
    let text = stdout(&recorded.explain(&["--cmdline", cmdline]));
    let text = text.replace(recorded.path.to_str().unwrap(), "boot.json");
    let expected = include_str!("explain/text.txt");
    assert!(text == expected, "expected (tests/explain/text.txt):\n{expected}\nfound:\n{text}");
}

#[test]
fn the_recorded_boot_is_decided_as_it_was() {
    let doc: serde_json::Value = serde_json::from_str(&stdout(&Recorded::new().explain(&["--json"]))).unwrap();
    assert_eq!(doc["cmdline"]["text"], "root=zfs:AUTO quiet");
    assert_eq!(doc["boot"]["choice"]["pool"], "tank");
    assert_eq!(doc["boot"]["root"], "tank/ROOT/a");
    assert_eq!(targets(&doc), ["tank/ROOT/a /", "tank/home /home", "tank/srv /srv", "tank/ROOT/a/var /var"]);
    let skipped = doc["boot"]["skipped"].as_array().unwrap();
    let why = |name: &str| skipped.iter().find(|s| s["dataset"] == name).unwrap()["why"].as_str().unwrap();
    assert!(why("tank/secret").contains("key of tank/secret is not loaded"));
    assert!(why("tank/ROOT/b/var").contains("tank/ROOT/b"));
}

#[test]
fn other_lines_lead_elsewhere() {
    let recorded = Recorded::new();
    // Another environment: its own children, and no guess at an fstab that was not seen.
    let doc = recorded.json("zfs=tank/ROOT/b");
    assert_eq!(targets(&doc), ["tank/ROOT/b /", "tank/home /home", "tank/ROOT/b/var /var"]);
    assert!(doc["boot"]["remarks"].to_string().contains("fstab of tank/ROOT/b is not known"));
    assert!(doc["boot"]["remarks"].to_string().contains("the record is of a boot of tank/ROOT/a"), "{doc}");
    // Another pool: the choice, and that no more is known.
    let doc = recorded.json("rpool=usb");
    assert_eq!(doc["boot"]["root"], "usb/ROOT/x");
    assert!(targets(&doc).is_empty());
    assert!(doc["boot"]["remarks"].to_string().contains("datasets of pool usb are not known"));
    // Settings reach the plan.
    assert_eq!(targets(&recorded.json("root=zfs taproot.mounts=none taproot.fstab=no")), ["tank/ROOT/a /"]);
    // Snapshots.
    let doc = recorded.json("zfs=tank/ROOT/a@old bootfs.snapshot");
    assert!(doc["boot"]["remarks"].to_string().contains("tank/ROOT/a_old, a clone of tank/ROOT/a@old"), "{doc}");
    assert!(
        doc["boot"]["remarks"].to_string().contains("the snapshot tank/ROOT/a_old@KERNEL-RELEASE is taken"),
        "{doc}"
    );
    // Where the boot would stop.
    let doc = recorded.json("root=ZFS=tank@old");
    assert!(doc["boot"]["failure"].as_str().unwrap().contains("taproot.clone=tank/NAME"), "{doc}");
    assert!(targets(&doc).is_empty(), "{doc}");
    let doc = recorded.json("rollback=on taproot.clone=tank/x");
    for word in ["rollback=on", "taproot.clone=tank/x"] {
        assert!(doc["boot"]["remarks"].to_string().contains(&format!("{word} has no effect")), "{doc}");
    }
    // What a read-only import leaves undone.
    let doc = recorded.json("zfs=tank/ROOT/a@old rollback=on bootfs.rollback=x bootfs.snapshot=y taproot.import=ro");
    for part in ["a@old itself is mounted, read-only", "not rolled back to @x", "a@y is not taken"] {
        assert!(doc["boot"]["remarks"].to_string().contains(part), "{part}: {doc}");
    }
    assert!(!doc["boot"]["remarks"].to_string().contains("is rolled back"), "{doc}");
    for mount in doc["boot"]["mounts"].as_array().unwrap() {
        assert!(mount["options"].as_str().unwrap().starts_with("ro,"), "{mount}");
    }
    assert_eq!(doc["boot"]["root"], "tank/ROOT/a");
    // Roots that are not there.
    let doc = recorded.json("zfs=tank/ROOT/c");
    assert!(doc["boot"]["remarks"].to_string().contains("the record does not hold tank/ROOT/c"), "{doc}");
    let doc = recorded.json("zfs=gone/a");
    assert!(doc["boot"]["failure"].as_str().unwrap().contains("asks for pool gone, which was not found"));
    assert_eq!(doc["boot"]["failure_code"], "no-pool");
    // A boot waits for it first.
    assert!(doc["boot"]["steps"].to_string().contains("wait up to 30 s for pool gone"), "{doc}");
}

/// Devices are not in the record; what is asked for is taken to be there.
#[test]
fn roots_on_devices() {
    let recorded = Recorded::new();
    let doc = recorded.json("root=/dev/sda1 ro rootfstype=ext4 rootflags=noatime");
    assert_eq!(doc["boot"]["root"], "/dev/sda1");
    assert!(doc["boot"]["choice"].is_null() && doc["boot"]["failure"].is_null(), "{doc}");
    assert_eq!(doc["boot"]["mounts"][0]["type"], "ext4");
    assert!(doc["boot"]["steps"].to_string().contains("wait up to 30 s for the root device /dev/sda1"), "{doc}");
    assert!(!doc["boot"]["steps"].to_string().contains("pool"), "{doc}");
    let doc = recorded.json("root=LABEL=root");
    assert!(
        doc["boot"]["remarks"].to_string().contains("the type of the file system on LABEL=root is not known"),
        "{doc}"
    );
}

/// What follows a failure is part of the boot.
#[test]
fn fallback_roots() {
    let recorded = Recorded::new();
    let doc = recorded.json("zfs=gone/a taproot.fallback=also/gone,tank/ROOT/b");
    assert_eq!(doc["boot"]["root"], "tank/ROOT/b");
    assert!(doc["boot"]["failure"].is_null(), "{doc}");
    for root in ["also/gone", "tank/ROOT/b"] {
        let text = format!("the fallback root {root} is tried then");
        assert!(doc["boot"]["remarks"].to_string().contains(&text), "{doc}");
    }
    let doc = recorded.json("zfs=gone/a panic=5");
    assert!(doc["boot"]["steps"].to_string().contains("after 5 s (panic=5)"), "{doc}");
}

#[test]
fn facts_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_taproot"))
        .args(["explain", "--facts", "-", "--cmdline", "zfs=tank"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(record().as_bytes()).unwrap();
    let text = stdout(&child.wait_with_output().unwrap());
    assert!(text.contains("Pools known from standard input (taproot-init 0.1.0, OpenZFS 2.3.1)"), "{text}");
    assert!(text.contains("root  tank/ROOT/a\n"), "{text}");
}

#[test]
fn without_facts_the_words_alone() {
    let text = stdout(&taproot(&["explain", "--facts", "none", "--cmdline", "root=zfs:AUTO rootdelay=40"]));
    assert!(text.contains("rootdelay=40   wait for the pool: 40 s"), "{text}");
    assert!(text.contains("No facts about pools"), "{text}");
}

/// Of media nothing is known: what keeps things is taken to be there, as the live medium is.
#[test]
fn a_live_system_keeps_what_is_written() {
    for (words, said) in [
        ("boot=live persistence taproot.upper_fallback=fail", "LABEL=persistence is not known here"),
        ("boot=live persistence persistence-label=mine", "LABEL=mine is not known here"),
    ] {
        let doc = Recorded::new().json(words);
        assert!(doc["boot"]["failure"].is_null(), "{words}: {doc:#}");
        assert!(doc["boot"]["steps"].to_string().contains(said), "{words}: {doc:#}");
    }
}

#[test]
fn words_and_pools_packed_into_an_image() {
    use taproot_init::image::{CONFIG_PATH, ImageConfig};
    let usb = ExpectedPool { name: "usb".into(), guid: 8, vdevs: vec![] };
    let config = ImageConfig { cmdline: "taproot.wait=7 quiet".into(), pools: vec![usb], ..ImageConfig::default() };
    let mut tree = taproot::initramfs::archive::Archive::default();
    tree.file(CONFIG_PATH, config.render().into_bytes(), "configuration").unwrap();
    let recorded = Recorded::new();
    let image = recorded.path.with_file_name("image");
    std::fs::write(&image, tree.into_cpio(0, Vec::new()).unwrap()).unwrap();
    let args = ["--json", "--cmdline", "root=zfs:AUTO debug", "--image", image.to_str().unwrap()];
    let doc: serde_json::Value = serde_json::from_str(&stdout(&recorded.explain(&args))).unwrap();
    assert_eq!(doc["cmdline"]["text"], "taproot.wait=7 quiet root=zfs:AUTO debug");
    assert!(doc["words"][1]["meaning"].as_str().unwrap().ends_with("decided by debug"), "{}", doc["words"]);
    assert_eq!(doc["boot"]["choice"]["pool"], "usb", "the pool that the image expects");
}

#[test]
fn mistakes_are_explained() {
    let error = |args: &[&str]| {
        let output = taproot(&[&["explain"], args].concat());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // What reads devices for it is no command.
    let scout = Command::new(env!("CARGO_BIN_EXE_taproot")).arg("scout").output().unwrap();
    assert!(!scout.status.success() && String::from_utf8_lossy(&scout.stderr).contains("found no socket"), "{scout:?}");
    assert!(error(&["--facts", "/nonexistent"]).contains("/nonexistent: No such file"));
    assert!(error(&["--facts", "/dev/zero"]).contains("expected a regular file, found a device"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    std::fs::write(&path, "{}").unwrap();
    assert!(error(&["--facts", path.to_str().unwrap()]).contains("expected the boot.json of a boot"));
    assert!(
        error(&["--facts", "none", "--cmdline", "x", "--image", path.to_str().unwrap()]).contains("not an initramfs")
    );
}
