//! What is waited for, and until when.

use super::{boot, comes, holding, labels, machine, pool, run, seen};
use crate::devices::known::Reading;
use crate::image::ExpectedPool;
use crate::plan::facts::{Health, PoolFact};
use crate::plan::failure::Code;
use crate::plan::next::{Moment, awaited, patient};
use crate::plan::rehearsal::{End, Known};

fn expecting(name: &str, guid: u64) -> Known {
    Known { expected: vec![ExpectedPool { name: name.into(), guid, vdevs: vec![] }], ..machine() }
}

/// A pool that was named and is not there.
#[test]
fn a_missing_pool_is_waited_for_as_long_as_the_words_say() {
    for (line, seconds) in [("zfs=gone", 30), ("zfs=gone taproot.wait=7", 7), ("zfs=gone rootdelay=50", 50)] {
        let told = boot(line, &machine());
        assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), seconds * 1000), "{line}");
    }
    let told = boot("zfs=gone rootwait", &machine());
    assert!(told.end == End::NotKnown && told.remarks[0].contains("for ever"), "{told:?}");
    // Late is not missing.
    let told = run("zfs=tank rootwait", &machine(), &[(90_000, &|play| seen(play, labels("tank", 7, 1, 0)))]);
    assert!(told.booted() && told.at("import") == 90_000, "{told:?}");
}

/// Which of several pools is booted must not depend on which disk is first.
#[test]
fn an_unexpected_pool_waits_for_quiet() {
    let usb = |play: &mut super::Play<'_>| seen(play, labels("usb", 8, 1, 0));
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let told = run("root=zfs:AUTO", &machine(), &[(100, &usb), (300, &tank)]);
    assert_eq!((told.root.as_deref(), told.at("import")), (Some("tank/r"), 600));
    // What comes behind the quiet time comes too late.
    let told = run("root=zfs:AUTO", &machine(), &[(100, &usb), (401, &tank)]);
    assert_eq!((told.root.as_deref(), told.at("import")), (Some("usb/r"), 400));
    // One that the image expects need not wait for anybody.
    let told = run("root=zfs:AUTO", &expecting("usb", 8), &[(100, &usb), (101, &tank)]);
    assert_eq!((told.root.as_deref(), told.at("import")), (Some("usb/r"), 100));
    // But is itself waited for while another is there.
    let told = run("root=zfs:AUTO", &expecting("usb", 8), &[(100, &tank), (9_000, &usb)]);
    assert_eq!((told.root.as_deref(), told.at("import")), (Some("usb/r"), 9_000));
    let told = run("root=zfs:AUTO", &expecting("usb", 8), &[(100, &tank)]);
    assert_eq!((told.root.as_deref(), told.at("import")), (Some("tank/r"), 30_000));
}

/// Members are waited for for the grace time, and taken as soon as they are there.
#[test]
fn a_degraded_pool_has_a_grace_time() {
    let degraded = Known { pools: vec![PoolFact { health: Health::Degraded, ..pool("tank", 7) }], ..machine() };
    let half = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 2, 1));
    let whole = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 2, 0));
    for (line, at) in [("zfs=tank", 10_500), ("zfs=tank taproot.degraded_wait=3", 3500), ("root=zfs:AUTO", 10_500)] {
        let told = run(line, &degraded, &[(500, &half)]);
        assert!(told.booted(), "{line}: {:?}", told.failure);
        assert_eq!(told.at("import"), at, "{line}");
    }
    let told = run("zfs=tank taproot.degraded=no", &degraded, &[(500, &half)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), 30_000));
    let told = run("zfs=tank", &machine(), &[(500, &half), (4000, &whole)]);
    assert_eq!(told.at("import"), 4000);
    // It is opened once it is complete, not before.
    assert_eq!(told.at("open"), 4000);
}

/// What a log holds is not given up unasked.
#[test]
fn a_missing_log_is_waited_for() {
    let lacking = PoolFact { missing_log: Some("/dev/log".into()), ..pool("tank", 7) };
    let known = Known { pools: vec![lacking], ..machine() };
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let told = run("zfs=tank", &known, &[(500, &tank)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), 30_000));
    assert!(told.failure.unwrap().to_string().contains("log"));
    let told = run("zfs=tank taproot.missing_log=yes", &known, &[(500, &tank)]);
    assert!(told.booted() && told.at("import") <= 10_500, "{told:?}");
}

/// A disk that does not answer holds up an unnamed root for a moment, and a named one no longer than a new disk is about to be
/// read.
#[test]
fn a_silent_disk_holds_up_nobody_for_long() {
    let silent = |play: &mut super::Play<'_>| comes(play, "sdx", Reading::Waiting);
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    for (line, at) in [("zfs=tank", 350), ("root=zfs:AUTO", 1550)] {
        let told = run(line, &machine(), &[(50, &silent), (100, &tank)]);
        assert_eq!((told.root.as_deref(), told.at("import")), (Some("tank/r"), at), "{line}");
    }
    // Once it has answered, it is quiet sooner.
    let answers = |play: &mut super::Play<'_>| comes(play, "sdx", holding("ext4"));
    let told = run("root=zfs:AUTO", &machine(), &[(50, &silent), (100, &tank), (200, &answers)]);
    assert_eq!(told.at("import"), 500);
}

/// Disks that spin up are not missing before they had a minute.
#[test]
fn spinning_disks_prolong_a_failure() {
    let silent = |play: &mut super::Play<'_>| comes(play, "sdx", Reading::Waiting);
    let told = run("zfs=gone", &machine(), &[(500, &silent)]);
    assert_eq!((told.code(), told.at("fail")), (Some(Code::NoPool), 60_500));
    let failure = told.failure.unwrap();
    assert!(failure.refusal.found.iter().any(|line| line.contains("/dev/sdx: it has not answered for 60 s")));
    // One of them is the pool's.
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let told = run("zfs=tank", &machine(), &[(500, &silent), (45_000, &tank)]);
    assert!(told.booted() && told.at("import") == 45_000, "{told:?}");
}

/// Key files on devices.
#[test]
fn the_device_of_a_key_is_waited_for() {
    let mut known = machine();
    for dataset in known.datasets.iter_mut().filter(|d| d.name == "tank/r") {
        (dataset.key_available, dataset.encryption_root) = (Some(true), Some("tank/r".into()));
    }
    let line = "zfs=tank taproot.key=LABEL=root:/key";
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    assert_eq!(run(line, &known, &[(0, &tank)]).at("load-key"), 10_000);
    let told = run(line, &known, &[(0, &tank), (3000, &|play| comes(play, "sdk1", holding("vfat")))]);
    assert_eq!(told.at("load-key"), 3000);
    assert!(told.steps.iter().any(|line| line.text.contains("module vfat")), "{:?}", told.steps);
}

/// After a failure it is known whether waiting longer could have helped, and when that for which it was has come.
#[test]
fn what_a_failed_boot_still_waits_for() {
    let failed = |line: &str, come: &dyn Fn(&mut super::Play<'_>)| {
        let request = crate::cmdline::parse(line.as_bytes());
        let known = machine();
        let mut play = super::Play::new(&request, &known);
        play.facts.imported = Some(vec![]);
        while play.turn() {}
        play.facts.attempt.failure = None;
        let request = patient(&request);
        let later = |play: &mut super::Play<'_>| {
            play.now += std::time::Duration::from_secs(3);
            awaited(Moment { request: &request, hardware: &play.hardware, facts: &play.facts, now: play.now })
        };
        let before = later(&mut play);
        come(&mut play);
        (before, later(&mut play))
    };
    let tank = |play: &mut super::Play<'_>| seen(play, labels("tank", 7, 1, 0));
    let device = |play: &mut super::Play<'_>| comes(play, "sda1", holding("ext4"));
    let swap = |play: &mut super::Play<'_>| comes(play, "sda1", holding("swap"));
    for (line, come) in [
        ("zfs=tank", &tank as &dyn Fn(&mut super::Play<'_>)),
        ("root=LABEL=root", &device),
        ("zfs=tank resume=UUID=0a-1b", &swap),
    ] {
        let (before, after) = failed(line, come);
        assert!(before.is_some() && after.is_none(), "{line}: {before:?}, then {after:?}");
    }
    // What comes is something else.
    let (before, after) = failed("zfs=tank", &device);
    assert!(before.as_ref().is_some_and(|what| what.contains("tank")) && after == before, "{before:?}, {after:?}");
    // Waiting would not have helped.
    assert_eq!(failed("root=ZFS=/x", &device), (None, None));
}
