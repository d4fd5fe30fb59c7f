//! `boot.json`: what was asked and done, field by field.

use super::super::Case;
use super::super::later::{self, Change};
use super::super::seed::{Asked, Policy, Wish};
use super::super::wide::Then;
use super::super::world::{End, World};
use crate::show::text;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where it lies.
pub(in super::super) const PATH: &str = "/run/taproot/boot.json";

/// The record, if there is one.
pub(super) fn read(world: &World) -> Option<serde_json::Result<Value>> {
    Some(serde_json::from_slice(&world.file(PATH)?))
}

/// What is wrong with the record; `whole`: nothing went wrong that could keep it from being written.
pub(super) fn wrong(case: &Case, world: &World, end: Option<&End>, whole: bool) -> Vec<String> {
    let report = match read(world) {
        // What stands there then is of an earlier attempt.
        _ if world.unwritten(PATH) => return Vec::new(),
        Some(Ok(report)) => report,
        Some(Err(e)) => return vec![format!("boot.json is no JSON: {e}")],
        None if whole && leaves_one(world, end) => return vec!["there is no boot.json".to_owned()],
        None => return Vec::new(),
    };
    let mut all = Vec::new();
    if !world.unread("/proc/cmdline") {
        all.extend(words(case, world, &report));
        all.extend(settings(case, &report, whole));
    }
    // Where somebody asked to stop, the question behind a failure may be about the attempt that followed.
    let failed = matches!(end, Some(End::Restart | End::PowerOff))
        || matches!(end, Some(End::Question(_)) if !case.machine.cmdline.contains("taproot.break"));
    if failed {
        all.extend(crate::agreement::failed(&report));
    }
    match end {
        Some(End::HandOver { root, init, .. }) => {
            all.extend(done(case, &report, &root.source, init));
            if whole {
                all.extend(crate::agreement::disagreements(&report));
            }
        }
        Some(End::Restart | End::PowerOff)
            if whole && case.asked.policy != Policy::Ask && text(&report, "/failure/code") == "?" =>
        {
            all.push("boot.json does not say what failed".to_owned());
        }
        _ => {}
    }
    all
}

/// Whether a run with this end must have left a record.
fn leaves_one(world: &World, end: Option<&End>) -> bool {
    match end {
        Some(End::HandOver { .. } | End::Restart | End::PowerOff) => true,
        // Something may be asked, a passphrase above all, before anything was written.
        Some(End::Question(_)) => world.printed().contains("Code:"),
        _ => false,
    }
}

/// The words that were obeyed: those of the command line, and those that were typed since.
fn words(case: &Case, world: &World, report: &Value) -> Vec<String> {
    let list = |pointer: &str| -> Vec<&str> {
        let list = report.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let (obeyed, typed) = (list("/request/words"), list("/typed"));
    let mut all = Vec::new();
    let replaced = |word: &str| typed.iter().any(|typed| takes_the_place_of(typed, word));
    let asked = case.machine.cmdline.split_whitespace();
    let left_out: Vec<&str> = asked.filter(|word| !obeyed.contains(word) && !replaced(word)).collect();
    if !left_out.is_empty() {
        all.push(format!("boot.json does not have what was asked: {left_out:?}"));
    }
    let said = world
        .events()
        .iter()
        .filter_map(|event| event.text.strip_prefix("typed: retry "))
        .collect::<Vec<_>>()
        .join(" ");
    let (made_up, of_words): (Vec<&str>, Vec<&str>) =
        typed.iter().partition(|typed| !said.split(' ').any(|word| word == **typed));
    if !made_up.is_empty() {
        all.push(format!("boot.json says that somebody typed {made_up:?}"));
    }
    let unsaid = obeyed.iter().filter(|word| {
        !case.machine.cmdline.split_whitespace().any(|asked| asked == **word) && !of_words.contains(word)
    });
    all.extend(unsaid.map(|word| format!("boot.json has a word that nobody said: {word}")));
    all
}

/// Whether a word that was typed stands for this one now.
fn takes_the_place_of(typed: &str, word: &str) -> bool {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let root = ["zfs", "root", "bootfs"];
    name(typed) == name(word) || (root.contains(&name(typed).as_str()) && root.contains(&name(word).as_str()))
}

/// The case as the record has it: with the words that were typed, if any hold; and those.
fn as_typed<'a>(case: &'a Case, report: &Value) -> (Cow<'a, Case>, Option<&'a Change>) {
    let typed = report.get("typed").and_then(Value::as_array).is_some_and(|typed| !typed.is_empty());
    match (later::changed(case).filter(|_| typed), &case.asked.more.then) {
        (Some(changed), Some(Then::Words(change))) => (Cow::Owned(changed), Some(change)),
        _ => (Cow::Borrowed(case), None),
    }
}

/// What else a word decided: neither more nor less than what is asked, and the root that is meant now.
fn settings(case: &Case, report: &Value, whole: bool) -> Vec<String> {
    let (now, change) = as_typed(case, report);
    let mut expected = expected(&now, change);
    let (root, other) = meant(case, &now, report);
    let says = case.machine.cmdline.split(' ').any(|word| word.starts_with("root=") || word.starts_with("zfs="));
    // Where no word names a root, the default needs none.
    if says || root != Wish::Auto {
        expected.insert("root", spelled(&root));
    }
    // What was asked to be done with snapshots is not done to another root; it says so.
    if other {
        for name in ["snapshot", "roll back to", "snapshot before boot"] {
            expected.remove(name);
        }
        expected.insert("roll back to the snapshot", "no".to_owned());
    }
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for setting in report.pointer("/request/settings").and_then(Value::as_array).into_iter().flatten() {
        let value = text(setting, "/value");
        let values = found.entry(text(setting, "/name")).or_default();
        *values = if values.is_empty() { value.to_owned() } else { format!("{values}, {value}") };
    }
    // The firmware tells of a hibernated system, too, if it could be asked.
    if case.machine.firmware.is_some() && !case.machine.cmdline.contains("resume=") {
        found.retain(|name, _| !matches!(*name, "resume from" | "resume offset"));
    }
    if !whole && case.asked.more.hostid.is_some() {
        found.remove("hostid");
        expected.remove("hostid");
    }
    let mut all = Vec::new();
    if found != expected {
        all.push(format!("boot.json has these settings: {found:?}, and asked were {expected:?}"));
    }
    all
}

/// The root that is meant now, and whether it is another one than the words name first; `now`: the case with the words that were typed.
fn meant(case: &Case, now: &Case, report: &Value) -> (Wish, bool) {
    let asked = &case.asked;
    let other = match text(report, "/request/root") {
        "chosen from the menu" => asked.more.chosen.clone().map(Wish::Dataset),
        "chosen at the rescue prompt" => match &asked.more.then {
            Some(Then::Boot(name)) => Some(Wish::Dataset(name.clone())),
            _ => None,
        },
        word if word.starts_with("taproot.fallback=") => asked.fallback.clone(),
        _ => None,
    };
    (other.clone().unwrap_or_else(|| now.asked.root.clone()), other.is_some())
}

fn spelled(wish: &Wish) -> String {
    match wish {
        Wish::Auto => "bootfs of a pool".to_owned(),
        Wish::Pool(pool) => format!("bootfs of pool {pool}"),
        Wish::Dataset(name) => format!("dataset {name}"),
        Wish::Device(spelled, _) => format!("block device {spelled}"),
    }
}

/// The settings that the words decide, but for the root.
fn expected(case: &Case, change: Option<&Change>) -> BTreeMap<&'static str, String> {
    let Asked { fallback, wait, degraded, read_only, missing_log, force, policy, more, .. } = &case.asked;
    let words: Vec<&str> = case.machine.cmdline.split_whitespace().collect();
    let value =
        |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let yes = |on: bool| on.then(|| "yes".to_owned());
    let import = match (change, read_only) {
        (Some(Change::Writable), _) => Some("read-write".to_owned()),
        (Some(Change::ReadOnly), _) | (_, true) => Some("read-only".to_owned()),
        _ => None,
    };
    let all = [
        ("snapshot", more.snapshot.clone()),
        ("fallback root", fallback.as_ref().map(spelled)),
        ("root's mount", words.iter().find(|word| matches!(**word, "ro" | "rw")).map(|word| (*word).to_owned())),
        ("check of file systems", more.skip_fsck.then(|| "skip".to_owned())),
        ("console level", words.contains(&"quiet").then(|| "4".to_owned())),
        ("wait for the pool", (*wait != 30).then(|| format!("{wait} s"))),
        ("wait for missing disks", (!degraded).then(|| "never without them".to_owned())),
        ("pool of another system", force.then(|| "imported".to_owned())),
        ("hostid", more.hostid.map(|hostid| format!("0x{hostid:08x}"))),
        ("import", import),
        ("mounts", (change == Some(&Change::NoMounts)).then(|| "none".to_owned())),
        ("import without a log device", yes(*missing_log)),
        (
            "key file",
            value("taproot.key")
                .and_then(|key| key.split_once(':').map(|(device, path)| format!("{path} on {device}"))),
        ),
        ("roll back to the snapshot", yes(more.rollback)),
        ("roll back to", more.rollback_to.clone()),
        ("destroy newer snapshots", yes(more.destroy_newer)),
        ("snapshot before boot", more.take.then(|| "before".to_owned())),
        ("resume from", value("resume").filter(|_| change != Some(&Change::Resume))),
        ("resume", more.noresume.then(|| "no".to_owned())),
        (
            "on failure",
            match policy {
                Policy::Ask => None,
                Policy::Restart => Some("restart after 5 s".to_owned()),
                Policy::PowerOff => Some("switch off after 5 s".to_owned()),
            },
        ),
        (
            "stop before",
            value("taproot.break").map(|stages| stages.split(',').map(stage).collect::<Vec<_>>().join(", ")),
        ),
        ("menu", value("taproot.menu").map(|seconds| format!("{seconds} s"))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn stage(word: &str) -> &'static str {
    match word {
        "start" => "anything is done",
        "import" => "the import",
        "mount" => "mounting",
        _ => "the hand-over",
    }
}

/// What was done: the root, what it was mounted from, and the program that runs now.
fn done(case: &Case, report: &Value, root: &str, init: &str) -> Vec<String> {
    let (meant, _) = meant(case, &as_typed(case, report).0, report);
    let spelled = match &meant {
        Wish::Device(spelled, _) => spelled,
        _ => root,
    };
    let mut all = Vec::new();
    let mut is = |pointer: &str, right: &str| {
        let found = text(report, pointer);
        if found != right {
            all.push(format!("boot.json says {found:?} in {pointer}, and it was {right:?}"));
        }
    };
    is("/root", spelled);
    is("/mounts/0/dataset", spelled);
    is("/mounts/0/target", "/");
    is("/init", init);
    // Of a root on a block device there is none.
    let pool = if root.starts_with("/dev/") { "?" } else { root.split('/').next().unwrap_or(root) };
    is("/choice/pool", pool);
    let fits = match &meant {
        Wish::Auto => true,
        Wish::Pool(pool) => root.split('/').next() == Some(pool),
        // It may be booted as it was at a snapshot, or from a clone of that.
        Wish::Dataset(name) => root.starts_with(name.as_str()),
        Wish::Device(_, name) => root.strip_prefix("/dev/") == Some(name),
    };
    if !fits {
        all.push(format!("boot.json says that {meant:?} is meant, and the root is {root}"));
    }
    all
}
