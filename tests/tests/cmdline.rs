//! The words of the command line on real pools, and `taproot explain` on the record of real boots: what it says must be
//! what the boot did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use serde_json::Value;
use taproot_tests::kit::System;
use taproot_tests::scenario::{dataset_at, vm};
use taproot_tests::vm::{Report, Scratch};
use taproot_tests::{image, scenarios_on_newest};

const DISKS: [&str; 4] = ["mirror0", "mirror1", "stripe0", "stripe1"];

/// Boots with two pools that have a bootfs each.
fn boot(name: &str, system: &System, cmdline: &str) -> (Report, String) {
    let scratch = Scratch::new().unwrap();
    let disks = scratch.overlays(system, &DISKS).unwrap();
    let mut vm = vm(name, system, cmdline).unwrap().disks(disks).start().unwrap();
    let report = vm.report(40).unwrap();
    vm.wait_exit(20).unwrap();
    (report, vm.console.text())
}

/// `taproot explain` on the record, as JSON.
fn explain(scratch: &Scratch, record: &Value, cmdline: Option<&str>) -> Value {
    let path = scratch.path().join("boot.json");
    fs::write(&path, record.to_string()).unwrap();
    let mut command = Command::new(image::builder());
    command.args(["explain", "--json", "--facts"]).arg(&path);
    command.args(cmdline.map(|line| ["--cmdline", line]).into_iter().flatten());
    let output = command.output().unwrap();
    // 3: it would not boot.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The mounts of a record, or of an explanation.
fn mounts(list: &Value) -> Vec<[&Value; 4]> {
    list.as_array().unwrap().iter().map(|m| ["dataset", "target", "options", "why"].map(|field| &m[field])).collect()
}

scenarios_on_newest! {
    /// Selectors that need no other word to be right: a pool by rpool=, a dataset by bootfs= with the pool's guid. What each
    /// boot recorded explains it, and explains the other.
    fn selectors_and_their_explanation(system) {
        let scratch = Scratch::new().unwrap();
        let (report, console) = boot("rpool", system, "rootfstype=zfs rpool=pstripe taproot.log=debug zfs_force=0");
        let record = report.json.clone().expect("boot.json");
        assert_eq!(dataset_at(&report, "/"), Some("pstripe/ROOT/default".to_owned()));
        assert_eq!(record["request"]["root"], "rpool=pstripe");
        assert!(console.contains("pstripe not mounted: "), "taproot.log=debug shows no debug messages");
        let again = explain(&scratch, &record, None);
        assert_eq!(again["boot"]["choice"]["pool"], "pstripe");
        assert_eq!(mounts(&again["boot"]["mounts"]), mounts(&record["mounts"]));
        assert_eq!(again["boot"]["skipped"].as_array().unwrap().len(), record["skipped"].as_array().unwrap().len());
        let other = explain(&scratch, &record, Some("root=zfs:pmirror/ROOT/default"));
        assert_eq!(other["boot"]["root"], "pmirror/ROOT/default");

        // The same machine, the other pool, named by its guid.
        let pools = record["pools"].as_array().unwrap();
        let guid = pools.iter().find(|p| p["name"] == "pmirror").unwrap()["guid"].as_str().unwrap();
        let line = format!("root=ZFS=AUTO bootfs={guid}/ROOT/default taproot.mounts=children ro");
        let (report, _) = boot("guid", system, &line);
        assert_eq!(dataset_at(&report, "/"), Some("pmirror/ROOT/default".to_owned()));
        assert_eq!(dataset_at(&report, "/data"), None);
        let record = report.json.clone().expect("boot.json");
        assert_eq!(record["root"], "pmirror/ROOT/default");
        let again = explain(&scratch, &record, None);
        assert_eq!(again["boot"]["root"], "pmirror/ROOT/default");
        assert_eq!(mounts(&again["boot"]["mounts"]), mounts(&record["mounts"]));
    }
}
