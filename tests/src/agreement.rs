//! What `taproot explain` says of a recorded boot must be what that boot did.

use crate::show::{entries, text};
use serde_json::Value;
use taproot::explain::facts::Facts;
use taproot_init::cmdline::{Request, Selector, parse};
use taproot_init::plan::layers;
use taproot_init::plan::mounts::MountStep;
use taproot_init::plan::rehearsal::{Rehearsal, rehearse};
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
    let facts = match Facts::from_json(&record.to_string(), "boot.json") {
        Ok(facts) => facts,
        Err(e) => return vec![format!("the record cannot be read: {e:#}")],
    };
    let mut request = parse(facts.words.clone().unwrap_or_default().as_bytes());
    prefer_packed(&mut request, facts.packed.as_ref());
    if !as_asked(record, &request) || request.root.value == Selector::Medium {
        return Vec::new();
    }
    let told = rehearse(&request, &facts.known);
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
}
