//! What `taproot explain` says of a recorded boot must be what that boot did: which root it came to ([`disagreements`]), or what it
//! failed with ([`failed`]).

use crate::show::{entries, text};
use serde_json::Value;
use taproot::explain::facts::Facts;
use taproot_init::cmdline::{Request, Selector, parse};
use taproot_init::plan::failure::Code;
use taproot_init::plan::layers;
use taproot_init::plan::mounts::MountStep;
use taproot_init::plan::rehearsal::{End, Rehearsal, rehearse};
use taproot_init::plan::roots::prefer_packed;

/// A mount: dataset or source, target, type, options and why.
type Mount = [String; 5];

/// What a `boot.json` and its rehearsal do not agree on, a line each.
///
/// Nothing is compared of boots that depend on what no record holds: those that a person led elsewhere, that failed before they
/// succeeded, that went by a state of layers, or that took whatever live medium there was; and not the mounts of a root that stands
/// for a snapshot, or of a pool of which not all is recorded.
pub fn disagreements(record: &Value) -> Vec<String> {
    if !is_complete(record) {
        return Vec::new();
    }
    let (request, told) = match gone_through(record) {
        Ok(told) => told,
        Err(e) => return vec![e],
    };
    if !as_asked(record, &request) || request.root.value == Selector::Medium {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut compare = |what: &str, did: &str, says: &str| {
        if did != says {
            all.push(format!("explain disagrees with the boot: {what} {says}, but it was {did}"));
        }
    };
    let guid = |choice: &taproot_init::plan::select::Choice| choice.guid.to_string();
    compare("pool", text(record, "/choice/guid"), told.choice.as_ref().map(guid).as_deref().unwrap_or("?"));
    if !told.snapshots {
        compare("root", text(record, "/root"), told.root.as_deref().unwrap_or("?"));
        if !other_upper(record, &request) {
            compare_mounts(record, &told, &mut compare);
        }
    }
    // Another tool's initramfs finds it by itself.
    if record.get("init").is_some_and(Value::is_string) {
        compare("init", text(record, "/init"), told.init.as_deref().unwrap_or("?"));
    }
    if !all.is_empty() {
        all.push(format!("what it would do: {:?}; failure: {:?}", told.steps, told.failure));
    }
    all
}

/// What its words ask for, and the boot gone through again.
fn gone_through(record: &Value) -> Result<(Request, Rehearsal), String> {
    let facts = Facts::from_json(&record.to_string(), "boot.json");
    let facts = facts.map_err(|e| format!("the record cannot be read: {e:#}"))?;
    let mut request = parse(facts.words.clone().unwrap_or_default().as_bytes());
    prefer_packed(&mut request, facts.packed.as_ref());
    let told = rehearse(&request, &facts.known);
    Ok((request, told))
}

/// The same of a boot that ended in its failure: what it failed with. A record of one that went on behind a failure is not to be
/// given here.
///
/// A rehearsal that does not fail so is excused where it came to a step of which no record holds what may come of it
/// ([`unforeseen`]), or stopped because it knew no more. Nothing is compared of a root that a person chose, of a fallback to which
/// the rehearsal does not come.
pub fn failed(record: &Value) -> Vec<String> {
    let code = text(record, "/failure/code");
    let Some(code) = Code::ALL.into_iter().find(|known| known.code() == code) else { return Vec::new() };
    let (request, told) = match gone_through(record) {
        Ok(told) => told,
        Err(e) => return vec![e],
    };
    if text(record, "/request/root") != last_root(&request, &told) {
        return Vec::new();
    }
    let came_to = |step: &&str| told.steps.iter().any(|line| line.name == *step);
    // Nobody but the firmware tells where a system was hibernated to.
    let noted = code == Code::Resume && request.resume.device.is_none();
    // Nothing that no record holds is behind some.
    let not_known = told.end == End::NotKnown && !unforeseen(code).is_empty();
    let says = told.failure.as_ref().map(|failure| failure.code);
    if says == Some(code) || unforeseen(code).iter().any(came_to) || noted || not_known {
        return Vec::new();
    }
    let says = says.map_or_else(|| format!("{:?}", told.end), |code| code.code().to_owned());
    let lines: Vec<String> = told.steps.iter().map(|line| format!("{}: {}", line.name, line.text)).collect();
    let (code, lines, remarks) = (code.code(), lines.join("; "), told.remarks.join("; "));
    vec![format!("explain disagrees with the boot: failure {says}, but it was {code} (it would: {lines}; {remarks})")]
}

/// What asks for the root at which the rehearsal ends: the words, or the last fallback that it takes.
fn last_root<'r>(request: &'r Request, told: &Rehearsal) -> &'r str {
    let taken = told.steps.iter().filter(|line| line.name == "fallback").count();
    let fallback = taken.checked_sub(1).and_then(|last| request.fallback.get(last));
    fallback.map_or(&request.root.why, |fallback| &fallback.why)
}

/// Steps that may end in this failure by what no record holds: what the kernel, the firmware, a program or a person answers, what
/// devices there are and what is in their files.
fn unforeseen(code: Code) -> &'static [&'static str] {
    match code {
        // The words, and pools as they were found, are all that these depend on.
        Code::NoPool | Code::UnusableRoot | Code::Undeclared | Code::Bug => &[],
        Code::ZfsModule => &["load-module", "ask-zfs"],
        Code::Resume => &["read-note", "look-for-image", "pretend"],
        Code::KeptImage => &["discard-image"],
        Code::NoDevice | Code::NoFilesystem | Code::AmbiguousDevice => &["pretend"],
        Code::Fsck => &["check", "pretend"],
        Code::Import => &["import", "import-other"],
        Code::ZfsCall => &["ask-zfs", "ask-imported", "open", "export", "ask-bootfs", "ask-root", "ask-datasets"],
        Code::NoBootfs => &["ask-bootfs"],
        Code::NoDataset | Code::NotMountable => &["ask-root"],
        Code::NoKey => &["load-key"],
        Code::Snapshot => &["snapshots"],
        Code::NoLayerDevice => &["pretend", "mount-part"],
        Code::NoLayer => &["find-layers", "find-stack", "look-into", "list-images"],
        Code::BrokenLayer => &["find-layers", "find-stack", "mount-layer"],
        Code::ToRam => &["measure-layers", "copy-layers"],
        Code::UncheckedLayer => &["read-keys", "look-beside-layer"],
        Code::LayerList => &["read-keys", "read-list"],
        Code::LayerState => &["read-state", "enter-state"],
        Code::NoUpper => &["pretend", "find-zvol", "ask-part", "make-upper", "mount-part", "settle-kept"],
        Code::Overlay => &["mount-overlay"],
        Code::Mount => &["mount-root", "mount-part", "mount"],
        Code::NoInit => &["find-init"],
        Code::HandOver | Code::Exec => &["hand-over"],
    }
}

/// Whether it is of a boot that came to a root at the first attempt, and not by a state of layers, which no record holds.
fn is_complete(record: &Value) -> bool {
    let by_state = record.pointer("/layers/state/overridden") == Some(&Value::Bool(false));
    !by_state && record.get("failure").is_none_or(Value::is_null) && record.get("root").is_some_and(Value::is_string)
}

/// Whether the root is the one that the words ask for: nobody chose another one.
fn as_asked(record: &Value, request: &Request) -> bool {
    let why = &request.root.why;
    text(record, "/request/root") == why
        && text(record, "/mounts/0/why").starts_with(&format!("root, selected by {why}"))
}

/// Whether the layers have another upper than the words ask for, because that could not be had, or directories on media: of which
/// no record tells beforehand.
fn other_upper(record: &Value, request: &Request) -> bool {
    let Some(layers) = &request.layers else { return false };
    if layers.persistence.is_some() {
        return true;
    }
    let mut whys = entries(record, "mounts").filter_map(|mount| text(mount, "/why").split_once("; upper: "));
    whys.any(|(_, upper)| upper != layers.upper.value.to_string())
}

fn compare_mounts(record: &Value, told: &Rehearsal, compare: &mut impl FnMut(&str, &str, &str)) {
    if record.get("datasets_left_out").is_some_and(|left_out| *left_out != 0) {
        return;
    }
    let mut did: Vec<Mount> = entries(record, "mounts").map(recorded).collect();
    let mut says: Vec<Mount> = told.mounts.iter().map(rehearsed).collect();
    // What type it is mounted as, and so with which options, is not known of what was not there.
    let failed = entries(record, "mounts").filter(|mount| mount.get("error").is_some_and(Value::is_string));
    let failed: Vec<&str> = failed.map(|mount| text(mount, "/target")).collect();
    for mount in did.iter_mut().chain(&mut says).filter(|mount| failed.contains(&mount[1].as_str())) {
        mount[3].clear();
    }
    // How much memory there was is in no record.
    for mount in did.iter_mut().chain(&mut says).filter(|mount| mount[2] == "tmpfs" && mount[1] == layers::UPPER) {
        mount[3].clear();
    }
    compare("mounts", &format!("{did:#?}"), &format!("{says:#?}"));
}

fn recorded(mount: &Value) -> Mount {
    ["/dataset", "/target", "/type", "/options", "/why"].map(|field| text(mount, field).to_owned())
}

fn rehearsed(step: &MountStep) -> Mount {
    let fstype = step.foreign.as_ref().map_or("zfs", |foreign| foreign.fstype.as_str());
    [&step.dataset, &step.target, fstype, &step.options.data, &step.why].map(|text: &str| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record() -> Value {
        let mount = |dataset: &str, target: &str, options: &str, why: &str| json!({"dataset": dataset, "target": target, "type": "zfs", "options": options, "why": why});
        let options = |target: &str| format!("rw,atime,relatime,dev,exec,suid,nomand,mntpoint={target}");
        json!({
            "format": 1,
            "request": {"words": ["root=zfs:AUTO"], "root": "root=zfs:AUTO"},
            "pools": [{"name": "tank", "guid": "7", "bootfs": "tank/r", "health": "online"}],
            "choice": {"pool": "tank", "guid": "7"},
            "root": "tank/r",
            "init": "/sbin/init",
            "datasets": [
                {"name": "tank", "canmount": "off"},
                {"name": "tank/r", "mountpoint": "/", "canmount": "noauto"},
                {"name": "tank/r/var", "mountpoint": "/var"},
            ],
            "mounts": [
                mount("tank/r", "/", &options("/"), "root, selected by root=zfs:AUTO"),
                mount("tank/r/var", "/var", &options("/var"), "canmount=on, mountpoint=/var"),
            ],
        })
    }

    #[test]
    fn a_record_that_is_right_and_one_that_is_wrong() {
        assert_eq!(disagreements(&record()), [""; 0]);
        for (pointer, value, what) in [
            ("/root", json!("tank/other"), "root tank/r, but it was tank/other"),
            ("/choice/guid", json!("8"), "pool 7, but it was 8"),
            ("/mounts/1/options", json!("ro"), "mntpoint=/var"),
            ("/mounts/1/target", json!("/usr"), "/usr"),
        ] {
            let mut wrong = record();
            *wrong.pointer_mut(pointer).unwrap() = value;
            assert!(disagreements(&wrong).join("\n").contains(what), "{pointer}: {:?}", disagreements(&wrong));
        }
    }

    #[test]
    fn what_no_record_holds_is_not_compared() {
        for (pointer, value) in [
            ("/mounts/0/why", json!("root, selected by chosen from the menu")),
            ("/request/root", json!("chosen at the rescue prompt")),
            ("/failure", json!({"code": "no-pool", "problem": "none"})),
            ("/request/words", json!(["root=ZFS=tank/r@monday"])),
        ] {
            let mut led = record();
            led["failure"] = Value::Null;
            led["root"] = json!(if pointer == "/request/words" { "tank/r_monday" } else { "tank/other" });
            *led.pointer_mut(pointer).unwrap() = value;
            assert_eq!(disagreements(&led), [""; 0], "{pointer}");
        }
    }

    /// Of a boot that failed: what its words were, the word for its root, pools and whether each can be imported, and the code.
    fn failing(words: &str, root: &str, pools: &[(&str, bool)], code: &str) -> Value {
        let pool = |(at, (name, good)): (usize, &(&str, bool))| {
            let (health, problem) =
                if *good { ("online", Value::Null) } else { ("unavailable", json!("missing: sda")) };
            json!({"name": name, "guid": at.to_string(), "bootfs": null, "health": health, "problem": problem})
        };
        json!({
            "format": 1,
            "request": {"words": words.split(' ').collect::<Vec<_>>(), "root": root},
            "pools": pools.iter().enumerate().map(pool).collect::<Vec<_>>(),
            "failure": {"code": code, "problem": "a sentence"},
        })
    }

    #[test]
    fn what_a_boot_failed_with_is_what_its_rehearsal_fails_with() {
        let tank = "root=ZFS=tank/r";
        let twice = "root=ZFS=tank/r taproot.fallback=usb/r";
        let (good, bad) = ([("tank", true)], [("tank", false)]);
        let all_bad = [("tank", false), ("usb", false)];
        for (words, root, pools, code, says) in [
            (tank, tank, &bad[..], "no-pool", None),
            (tank, tank, &[], "no-pool", None),
            (tank, tank, &good, "no-pool", Some("failure NotKnown, but it was no-pool")),
            // It comes to the import, of which nothing is known, or to the end of what is recorded; or it never gets there.
            (tank, tank, &good, "import-failed", None),
            (tank, tank, &good, "no-dataset", None),
            (tank, tank, &good, "no-init", None),
            (tank, tank, &bad, "import-failed", Some("failure no-pool, but it was import-failed")),
            (tank, tank, &bad, "no-key", Some("failure no-pool, but it was no-key")),
            // A bug is always one.
            (tank, tank, &good, "not-declared", Some("but it was not-declared")),
            ("root=ZFS=tank", "root=ZFS=tank", &good, "no-bootfs", None),
            ("root=ZFS=tank", "root=ZFS=tank", &bad, "no-bootfs", Some("failure no-pool")),
            ("root=/dev/sda1", "root=/dev/sda1", &[], "no-device", None),
            ("root=/dev/sda1", "root=/dev/sda1", &[], "fsck-failed", None),
            ("root=/dev/sda1", "root=/dev/sda1", &[], "no-key", Some("failure HandOver, but it was no-key")),
            (tank, tank, &bad, "resume-unsettled", None),
            ("root=ZFS=tank/r resume=/dev/sda2", tank, &bad, "resume-unsettled", None),
            ("root=ZFS=tank/r resume=none", tank, &bad, "image-kept", Some("failure no-pool")),
            // The fallback is the last that fails, or is not come to, or is not what the record is of.
            (twice, "taproot.fallback=usb/r", &all_bad, "no-pool", None),
            (twice, "taproot.fallback=usb/r", &all_bad, "no-key", Some("failure no-pool, but it was no-key")),
            (twice, "taproot.fallback=usb/r", &good, "no-key", None),
            (twice, tank, &all_bad, "no-key", None),
            (tank, "chosen from the menu", &bad, "no-key", None),
        ] {
            let found = failed(&failing(words, root, pools, code));
            let right = says.map_or(found.is_empty(), |says| found.len() == 1 && found[0].contains(says));
            assert!(right, "{words} {pools:?} {code}: {found:?}");
        }
    }

    #[test]
    fn a_failure_that_no_record_explains_is_not_compared() {
        let lost = failing("root=ZFS=tank/r", "root=ZFS=tank/r", &[], "no-init");
        assert!(failed(&lost)[0].contains("failure no-pool, but it was no-init"));
        assert_eq!(failed(&record()), [""; 0], "it has not failed");
        assert!(failed(&json!({"format": 2, "failure": {"code": "no-pool"}}))[0].contains("cannot be read"));
    }
}
