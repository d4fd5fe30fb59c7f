//! That the invariants see what is broken: a good run, and one thing that was not as it should.

use super::{Case, Effect, Fault, Holds, World, boot, seconds, seed};
use crate::sim::invariants::{broken, record};
use crate::sim::machine::Device;
use crate::sim::world::{End, Event};
use crate::sim::zfs::pool::Imported;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use taproot_init::sys::System;

/// Seeds among which there is one for each test.
const SEEDS: u64 = 10_000;

/// Boots the machine of `case`, changes what became of it, or what was asked, and says what is seen then.
fn after(mut case: Case, change: impl FnOnce(&mut Case, &World, &mut Option<End>)) -> Vec<String> {
    let ran = boot(&case);
    assert_eq!(ran.broken, [""; 0], "seed {}: a good run", case.seed);
    let mut end = ran.end.clone();
    change(&mut case, &ran.world, &mut end);
    broken(&case, &ran.world, end.as_ref())
}

/// A machine with several pools, nothing that goes wrong, and a root that is handed over to.
fn good() -> Case {
    let whole = |case: &Case| case.faults.is_empty() && case.machine.pools.len() > 1 && case.machine.person.is_empty();
    let handed_over = |case: &Case| {
        let ran = boot(case);
        let record = record_of(&ran.world);
        let in_pool = record.get("choice").is_some_and(Value::is_object);
        matches!(ran.end, Some(End::HandOver { .. })) && in_pool && record["failure"].is_null()
    };
    (0..SEEDS).map(seed::narrow).filter(whole).find(handed_over).unwrap()
}

fn record_of(world: &World) -> Value {
    let bytes = world.file(record::PATH).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Changes the record.
fn rewrite(world: &World, change: impl FnOnce(&mut Value)) {
    let mut report = record_of(world);
    change(&mut report);
    let text = report.to_string().into_bytes();
    world.state().names.write(Path::new(record::PATH), &mut |bytes| bytes.clone_from(&text)).unwrap();
}

fn seen(lines: &[String], what: &str) {
    assert!(lines.iter().any(|line| line.contains(what)), "expected {what:?} in {lines:?}");
}

fn event(at: Duration, log: bool, text: &str) -> Event {
    Event { at, log, text: text.to_owned() }
}

#[test]
fn another_end_and_a_pool_that_nobody_asked_for() {
    let mut case = seed::narrow(2);
    case.faults = vec![Fault::at("zfs IMPORT", 0, Effect::Never)];
    assert_eq!(boot(&case).broken, [""; 0]);
    // The same run, as if nothing had gone wrong and another pool had been asked for.
    case.faults.clear();
    case.asked.root = seed::Wish::Pool("data".into());
    let lines = boot(&case).broken;
    seen(&lines, "expected");
    seen(&lines, "pool tank was written to");
}

#[test]
fn silence() {
    // A log that says nothing for the time of a wait.
    let mut case = seed::narrow(2);
    case.faults = vec![Fault::at("zfs TRYIMPORT", 0, Effect::Late(seconds(1)))];
    case.faults.push(Fault::at("read", 1, Effect::Late(seconds(20))));
    seen(&boot(&case).broken, "no word for");
    // Until the end, and in a pause: nothing but what was said before it announces it.
    let lines = after(good(), |_, world, _| world.state().now += seconds(6));
    seen(&lines, "(the end of the run)");
    let lines = after(good(), |_, world, _| {
        let now = world.time();
        world.state().events.extend([event(now, false, "sleep 20s"), event(now + seconds(20), true, "taproot: done")]);
        world.state().now = now + seconds(20);
    });
    seen(&lines, "no word for 20.0 s");
}

#[test]
fn a_wait_that_is_not_named() {
    for text in ["taproot: waiting for  (9 s left)", "taproot: : 5 s so far", "still : 8 s without an answer so far"] {
        let lines = after(good(), |_, world, _| {
            let now = world.time();
            world.state().events.push(event(now, true, text));
        });
        seen(&lines, "a line does not say what is waited for");
    }
}

#[test]
fn undeclared_calls() {
    for (log, text, what) in [
        (false, "zfs DESTROY tank/ROOT/a", "undeclared call: zfs DESTROY"),
        (false, "write /sys/power/resume 254:0", "undeclared write"),
        (
            true,
            "taproot: CLONE of tank was refused: the words of this boot do not ask for it, so it is a bug",
            "and refused",
        ),
    ] {
        let lines = after(good(), |_, world, _| {
            let now = world.time();
            world.state().events.push(event(now, log, text));
        });
        seen(&lines, what);
    }
    let lines =
        after(good(), |_, world, _| rewrite(world, |report| report["declared"]["refused"] = json!(["DESTROY"])));
    seen(&lines, "boot.json: undeclared, and refused");
}

#[test]
fn a_boot_that_takes_twice_what_its_words_say() {
    // A pool that does not come, and nobody to be asked.
    let waits = |case: &Case| {
        let answer = case.machine.devices.iter().all(|device| device.answers.is_some_and(|time| time < seconds(5)));
        answer && case.faults.is_empty() && case.asked.wait == 60 && case.asked.fallback.is_none()
    };
    for policy in [seed::Policy::Ask, seed::Policy::PowerOff, seed::Policy::Restart] {
        let long = |case: &Case| {
            let ran = boot(case);
            let asked = ran.world.events().iter().find(|event| event.text.starts_with("ask ")).map(|event| event.at);
            asked.unwrap_or(ran.world.time()) > seconds(60) && !matches!(ran.end, Some(End::HandOver { .. }))
        };
        let case =
            (0..SEEDS).map(seed::narrow).filter(|case| waits(case) && case.asked.policy == policy).find(long).unwrap();
        let lines = after(case, |case, _, _| case.asked.wait = 30);
        seen(&lines, "its words ask for");
    }
    let lines = after(good(), |_, world, _| world.state().now += seconds(100));
    seen(&lines, "its words ask for");
}

/// The root is named, and its disks are there: another disk that says nothing, or the time to wait, is no excuse.
#[test]
fn a_wait_for_what_is_not_needed() {
    let quick = |case: &Case| {
        let silent = case.machine.devices.iter().any(|device| device.answers.is_none());
        let prompt = |world: &World| world.time() < case.machine.started + seconds(4);
        let ran = (silent && case.faults.is_empty() && case.asked.fallback.is_none()).then(|| boot(case));
        let named = matches!(case.asked.root, seed::Wish::Pool(_) | seed::Wish::Dataset(_));
        named && ran.is_some_and(|ran| matches!(ran.end, Some(End::HandOver { .. })) && prompt(&ran.world))
    };
    let case = (0..SEEDS).map(seed::narrow).find(quick).unwrap();
    assert!(case.asked.wait >= 20, "{}", case.asked.wait);
    let lines = after(case, |_, world, _| {
        let now = world.time();
        let line = |s: u64| event(now + seconds(s), true, "taproot: waiting for a disk that nobody needs (9 s left)");
        world.state().events.extend([4, 8, 12, 16].map(line));
        world.state().now = now + seconds(19);
    });
    seen(&lines, "its words ask for");
}

#[test]
fn a_machine_that_nobody_watches_and_that_asks() {
    let off = |case: &Case| case.asked.policy == seed::Policy::PowerOff && boot(case).end == Some(End::PowerOff);
    let case = (0..SEEDS).map(seed::narrow).filter(|case| case.faults.is_empty()).find(off).unwrap();
    let lines = after(case, |_, world, _| {
        let now = world.time();
        world.state().events.push(event(now, false, "ask (taproot) #"));
    });
    seen(&lines, "nobody watches, and somebody was asked");
}

/// A restart where no firmware counts would go on for ever; a machine whose firmware counts is not given up at once.
#[test]
fn restarts_that_nobody_counts_and_giving_up_too_soon() {
    for (firmware, right, wrong) in [(false, End::PowerOff, End::Restart), (true, End::Restart, End::PowerOff)] {
        let fails = |case: &Case| {
            let counts = case.faults.is_empty() && case.machine.firmware.is_some() == firmware;
            counts && case.asked.policy == seed::Policy::Restart && boot(case).end.as_ref() == Some(&right)
        };
        let case = (0..SEEDS).map(seed::narrow).find(fails).unwrap();
        seen(&after(case, |_, _, end| *end = Some(wrong)), "expected");
    }
}

#[test]
fn what_is_gone() {
    let lines = after(good(), |_, world, _| {
        let mut state = world.state();
        let pool = state.machine.pools.iter_mut().find(|pool| pool.datasets.len() > 1).unwrap();
        pool.datasets.pop_last();
    });
    seen(&lines, "is gone");
    let image = |case: &Case| {
        let there = |device: &Device| matches!(device.holds, Holds::Swap { image: Some(_), .. });
        case.faults.is_empty() && !case.asked.more.noresume && case.machine.devices.iter().any(there)
    };
    let case = (0..SEEDS).map(seed::case).find(image).unwrap();
    let lines = after(case, |_, world, _| {
        for device in &mut world.state().machine.devices {
            if let Holds::Swap { image, .. } = &mut device.holds {
                *image = None;
            }
        }
    });
    seen(&lines, "the hibernated system on swap0 is gone");
}

#[test]
fn what_is_left_behind() {
    let other = |world: &World| {
        let own = record_of(world)["choice"]["pool"].clone();
        world.machine().pools.iter().position(|pool| own != pool.name.as_str()).unwrap()
    };
    let cachefile = Some("none".to_owned());
    let lines = after(good(), |_, world, _| {
        let at = other(world);
        let imported = Imported { read_only: true, paths: std::collections::BTreeMap::new(), cachefile };
        world.state().machine.pools[at].imported = Some(imported);
    });
    seen(&lines, "is left imported");
    // One that was only passing by.
    let lines = after(good(), |_, world, _| {
        let (at, now) = (other(world), world.time());
        let text = format!("zfs IMPORT {}", world.machine().pools[at].name);
        world.state().events.push(event(now, false, &text));
    });
    seen(&lines, "was imported, and the root is");
    let lines = after(good(), |_, world, _| {
        let at = other(world);
        world.state().machine.pools[at].written = true;
    });
    seen(&lines, "was imported, and the root is");
    let lines = after(good(), |_, world, _| world.start_scout(&[]).unwrap());
    seen(&lines, "the scout still runs");
}

#[test]
fn a_file_system_that_nobody_asked_for() {
    let mount = |flags: u64| {
        after(good(), |_, world, _| {
            let now = world.time();
            let text = format!("mount /dev/other0 /newroot/srv ext4 {flags:#x} ");
            world.state().events.push(event(now, false, &text));
        })
    };
    seen(&mount(0), "/dev/other0 was mounted writable");
    assert_eq!(mount(libc::MS_RDONLY), [""; 0]);
}

type Change = fn(&mut Value);

#[test]
fn a_record_that_is_not_true() {
    let changes: [(Change, &str); 8] = [
        (|report| report["request"]["words"] = json!([]), "does not have what was asked"),
        (|report| report["request"]["words"][0] = json!("zfs=nosuch"), "a word that nobody said: zfs=nosuch"),
        (|report| report["typed"] = json!(["zfs_force=1"]), "somebody typed"),
        (|report| report["request"]["settings"] = json!([{"name": "import", "value": "read-only"}]), "these settings"),
        (|report| report["root"] = json!("tank/other"), "in /root"),
        (|report| report["mounts"][0]["dataset"] = json!("tank/other"), "in /mounts/0/dataset"),
        (|report| report["init"] = json!("/bin/sh"), "in /init"),
        (|report| report["choice"]["pool"] = json!("nosuch"), "in /choice/pool"),
    ];
    for (change, what) in changes {
        let lines = after(good(), |_, world, _| rewrite(world, change));
        seen(&lines, what);
    }
    // What was done, as against what `taproot explain` makes of it.
    let lines = after(good(), |_, world, _| {
        rewrite(world, |report| report["mounts"][0]["options"] = json!("noexec"));
    });
    seen(&lines, "explain disagrees with the boot");
}

#[test]
fn a_failure_that_no_record_tells_of() {
    let fails = |case: &Case| case.faults.is_empty() && case.asked.policy == seed::Policy::PowerOff;
    let off = |case: &Case| boot(case).end == Some(End::PowerOff);
    let case = (0..SEEDS).map(seed::narrow).filter(fails).find(off).unwrap();
    let lines = after(case.clone(), |_, world, _| rewrite(world, |report| report["failure"] = Value::Null));
    seen(&lines, "does not say what failed");
    let lines = after(case, |_, world, _| world.state().names.remove(Path::new(record::PATH)).unwrap());
    seen(&lines, "there is no boot.json");
}
