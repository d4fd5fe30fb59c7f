//! A [`Request`] as text: each setting, its value, and the word that decided it.
#![allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option)] // one shape for all that show a value: Fn(&T)

use crate::devices::verity::OnCorruption;
use std::time::Duration;

use super::{
    Automatic, Decided, Fallback, Fsck, HostidPolicy, Images, LayerSettings, MediaKind, MediumKind, OnFailure,
    Persistence, Repair, Request, Selector, Stage, ToRam, UpperFallback, Which,
};

/// One setting in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What is set.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The word that decided it, or the default.
    pub why: String,
    /// Whether no word decided it.
    pub default: bool,
}

/// Every setting that has a value, by part of the boot. Options of modules are not among them.
pub fn settings(request: &Request) -> Vec<Setting> {
    let mut list = List(Vec::new());
    list.add("root", &request.root, root);
    list.maybe("snapshot", request.snapshot.as_ref(), Clone::clone);
    if let Some(asked) = &request.layers {
        layers(asked, &mut list);
    }
    list.each("fallback root", &request.fallback, |fallback| match fallback {
        Fallback::Root(asked) => root(asked),
        Fallback::Layers(stack) => stack.to_string(),
    });
    list.maybe("root's mount", request.read_only.as_ref(), |ro| pick(*ro, "ro", "rw"));
    list.maybe("root's mount options", request.root_flags.as_ref(), Clone::clone);
    list.maybe("root's type", request.root_fstype.as_ref(), |types| types.join(", "));
    let fsck = &request.fsck;
    list.add("check of file systems", &fsck.mode, |mode| fsck_mode(*mode).to_owned());
    list.add("repair by a check", &fsck.repair, |repair| fsck_repair(*repair).to_owned());
    list.maybe("init", request.init.as_ref(), Clone::clone);
    list.maybe("console level", request.console_level.as_ref(), ToString::to_string);
    list.add("wait for the pool", &request.wait, time);
    list.add("wait for missing disks", &request.degraded, |t| t.as_ref().map_or_else(never, time));
    import(request, &mut list);
    keys(request, &mut list);
    list.add("mounts", &request.mounts.which, which);
    let also: Vec<String> = request.mounts.also.iter().map(ToString::to_string).collect();
    list.plain("also mounted", &also, "taproot.also=");
    list.add("root's fstab", &request.mounts.fstab, |on| pick(*on, "read", "not read"));
    let snapshots = &request.snapshots;
    list.add("roll back to the snapshot", &snapshots.rollback, yes_no);
    list.maybe("roll back to", snapshots.rollback_to.as_ref(), snapshot);
    list.add("destroy newer snapshots", &snapshots.destroy_newer, yes_no);
    list.maybe("snapshot before boot", snapshots.take.as_ref(), snapshot);
    list.maybe("name of the clone", snapshots.clone.as_ref(), Clone::clone);
    let resume = &request.resume;
    list.maybe("resume from", resume.device.as_ref(), Clone::clone);
    list.maybe("resume offset", resume.offset.as_ref(), ToString::to_string);
    if let Some(why) = &resume.disabled {
        list.push("resume", "no".to_owned(), why, false);
    }
    list.add("wait for the resume device", &resume.wait, time);
    let rescue = &request.rescue;
    list.add("on failure", &rescue.on_failure, on_failure);
    list.add("attempts", &rescue.attempts, |n| if *n == 0 { "no limit".to_owned() } else { n.to_string() });
    list.each("stop before", &rescue.stops, stage);
    list.maybe("menu", rescue.menu.as_ref(), |t| t.as_ref().map_or_else(|| "waits for a choice".to_owned(), time));
    list.0
}

fn layers(asked: &LayerSettings, list: &mut List) {
    if let Some(live) = &asked.live {
        let any = live.iso.is_none() && live.tag.is_none() && live.marker.is_none();
        let medium = if any { "any".to_owned() } else { live.medium() };
        list.push("live medium", medium, &live.system.why, false);
        list.maybe("disks that may be it", live.kind.as_ref(), |kind| {
            pick(*kind == MediumKind::Usb, "USB disks", "USB disks, memory cards, optical drives")
        });
        list.add("images of it", &live.images, |images| match images {
            Images::Listed(name) => format!("those that {name}.module lists, else all"),
            Images::Named(names) => names.join(":"),
            Images::FirstOf(names) => names.join(" or "),
        });
    }
    if asked.live.is_none() || !asked.names.value.is_empty() {
        list.add("layers", &asked.names, |names| match names.as_slice() {
            [] => "those of the layer state".to_owned(),
            names => names.join(":"),
        });
    }
    list.maybe("layers also on", asked.device.as_ref(), root);
    list.maybe("type of the layer device", asked.device_types.as_ref(), |types| types.join(", "));
    list.add(
        "directory of layers",
        &asked.dir,
        |dir| if dir.is_empty() { "the topmost".to_owned() } else { dir.clone() },
    );
    list.maybe("overlay's options", asked.flags.as_ref(), |flags| flags.join(","));
    list.maybe("layers in memory", asked.to_ram.as_ref(), |how| {
        pick(*how == ToRam::Must, "yes", "if there is room for them")
    });
    integrity(asked, list);
    list.add("upper", &asked.upper, ToString::to_string);
    list.maybe("topmost layer, read-only", asked.retained.as_ref(), ToString::to_string);
    if let Some(word) = &asked.fresh {
        list.push("upper that is there", "set aside".to_owned(), word, false);
    }
    list.add("without the upper", &asked.fallback, without_upper);
    list.maybe("beside the overlay", asked.bind.as_ref(), |dirs| dirs.join(", "));
    if let Some(kept) = &asked.persistence {
        persistence(kept, list);
    }
}

fn without_upper(how: &UpperFallback) -> String {
    match how {
        UpperFallback::Fail => "the boot fails",
        UpperFallback::Ram => "memory instead",
        UpperFallback::ReadOnly => "the root is read-only",
    }
    .to_owned()
}

fn persistence(kept: &Persistence, list: &mut List) {
    list.push("persistence", "wanted".to_owned(), &kept.why, false);
    list.maybe("persistence on zvol", kept.zvol.as_ref(), Clone::clone);
    if kept.zvol.is_none() {
        list.add("persistence is called", &kept.labels, |labels| labels.join(", "));
        list.add("persistence can be", &kept.storage, |storage| match (storage.filesystem, storage.file) {
            (true, true) => "a file system or a file".to_owned(),
            (true, false) => "a file system".to_owned(),
            _ => "a file".to_owned(),
        });
        list.add("directory of its file", &kept.path, |dir| pick(dir.is_empty(), "the topmost", dir));
        list.add("persistence on", &kept.media, |media| match media {
            MediaKind::Any => "any disk".to_owned(),
            MediaKind::Removable => "cards and USB disks".to_owned(),
            MediaKind::Usb => "USB disks".to_owned(),
        });
    }
    list.maybe("written to it", kept.read_only.as_ref(), |_| "nothing".to_owned());
    list.maybe("no persistence", kept.impossible.as_ref(), Clone::clone);
    list.add("without persistence", &kept.fallback, without_upper);
}

/// Only what was asked for, or what is read because nothing else was.
fn integrity(asked: &LayerSettings, list: &mut List) {
    let integrity = &asked.integrity;
    for (name, root) in &integrity.roots {
        list.push("root hash of a layer", format!("{name}: {}", root.value), &root.why, false);
    }
    list.maybe("root hash of the layer", integrity.only.as_ref(), ToString::to_string);
    list.maybe("signed list of layers", integrity.list.as_ref(), Clone::clone);
    list.add("sums beside layers are checked", &integrity.sums, yes_no);
    list.add("layers with a tree are read before", &integrity.lazy, |lazy| pick(*lazy, "not at all", "whole"));
    list.add("a block that is not as its tree says", &integrity.on_corruption, |then| match then {
        OnCorruption::Error => "cannot be read".to_owned(),
        OnCorruption::Restart => "restarts the machine".to_owned(),
        OnCorruption::Panic => "stops the machine".to_owned(),
    });
}

fn import(request: &Request, list: &mut List) {
    let import = &request.import;
    list.add("pool of another system", &import.hostid_policy, policy);
    list.maybe("hostid", import.hostid.as_ref(), |id| format!("0x{id:08x}"));
    list.add("import", &import.read_only, |ro| pick(*ro, "read-only", "read-write"));
    list.each("look for disks in", &import.dirs, Clone::clone);
    list.add("import without a log device", &import.missing_log, yes_no);
    list.each("pools imported as well", &import.also, Clone::clone);
    list.add("an unnamed root may be in", &import.automatic, |automatic| match automatic {
        Automatic::Any => "any pool".to_owned(),
        Automatic::Expected => "a pool that the image expects".to_owned(),
    });
    list.plain("pools to leave alone", &import.skip, "taproot.skip_pools=");
}

fn keys(request: &Request, list: &mut List) {
    let keys = &request.keys;
    for file in &keys.files {
        let value = match &file.device {
            Some(device) => format!("{} on {device}", file.path),
            None => format!("{} in the image", file.path),
        };
        list.push("key file", value, &file.why, false);
    }
    list.add("wait for a key's device", &keys.file_wait, time);
    list.add("ask for passphrases", &keys.prompt, yes_no);
    list.add("tries for a passphrase", &keys.tries, |n| if *n == 0 { "no limit".to_owned() } else { n.to_string() });
    list.add("prompt waits", &keys.timeout, |t| t.as_ref().map_or_else(|| "for ever".to_owned(), time));
}

struct List(Vec<Setting>);

impl List {
    fn push(&mut self, name: &'static str, value: String, why: &str, default: bool) {
        self.0.push(Setting { name, value, why: why.to_owned(), default });
    }

    fn add<T>(&mut self, name: &'static str, decided: &Decided<T>, show: impl Fn(&T) -> String) {
        self.push(name, show(&decided.value), &decided.why, decided.is_default());
    }

    fn maybe<T>(&mut self, name: &'static str, decided: Option<&Decided<T>>, show: impl Fn(&T) -> String) {
        if let Some(decided) = decided {
            self.add(name, decided, show);
        }
    }

    fn each<T>(&mut self, name: &'static str, list: &[Decided<T>], show: impl Fn(&T) -> String) {
        for decided in list {
            self.add(name, decided, &show);
        }
    }

    /// A list that does not remember its words.
    fn plain(&mut self, name: &'static str, list: &[String], why: &str) {
        if !list.is_empty() {
            self.push(name, list.join(", "), why, false);
        }
    }
}

fn fsck_mode(mode: Fsck) -> &'static str {
    match mode {
        Fsck::Auto => "auto",
        Fsck::Force => "force",
        Fsck::Skip => "skip",
    }
}

fn fsck_repair(repair: Repair) -> &'static str {
    match repair {
        Repair::Preen => "preen",
        Repair::Yes => "yes",
        Repair::No => "no",
    }
}

fn pick(on: bool, yes: &str, no: &str) -> String {
    if on { yes } else { no }.to_owned()
}

fn yes_no(on: &bool) -> String {
    pick(*on, "yes", "no")
}

fn time(time: &Duration) -> String {
    if *time == Duration::MAX { "for ever".to_owned() } else { format!("{} s", time.as_secs()) }
}

fn never() -> String {
    "never without them".to_owned()
}

fn root(selector: &Selector) -> String {
    match selector {
        Selector::Dataset { .. } => format!("dataset {selector}"),
        Selector::Device(_) => format!("block device {selector}"),
        Selector::Auto | Selector::Pool(_) | Selector::Medium | Selector::Unusable(_) => selector.to_string(),
    }
}

fn policy(policy: &HostidPolicy) -> String {
    match policy {
        HostidPolicy::Strict => "never imported",
        HostidPolicy::Known => "imported only if named, or known to the image",
        HostidPolicy::Force => "imported",
    }
    .to_owned()
}

fn which(which: &Which) -> String {
    match which {
        Which::All => "all that zfs mount -a would mount, but none of another boot environment".to_owned(),
        Which::Children => "descendants of the root".to_owned(),
        Which::System => "descendants of the root on /usr, /etc, /bin, /lib*, /sbin".to_owned(),
        Which::None => "none".to_owned(),
        Which::List(list) => list.join(", "),
    }
}

fn snapshot(name: &Option<String>) -> String {
    name.clone().unwrap_or_else(|| "one called as the kernel's release".to_owned())
}

fn on_failure(how: &OnFailure) -> String {
    match how {
        OnFailure::Menu => "the explanation and a menu".to_owned(),
        OnFailure::Shell => "the explanation and a shell".to_owned(),
        OnFailure::Locked => "the explanation; retry, restart or switch off".to_owned(),
        OnFailure::Reboot(delay) => format!("restart after {}", time(delay)),
        OnFailure::PowerOff(delay) => format!("switch off after {}", time(delay)),
    }
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Start => "anything is done",
        Stage::Import => "the import",
        Stage::Mount => "mounting",
        Stage::HandOver => "the hand-over",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;

    #[test]
    fn a_bare_line_has_defaults_only() {
        let all = settings(&parse(b""));
        assert!(all.iter().all(|s| s.default && s.why.starts_with("default")), "{all:?}");
    }

    /// Every own word shows up under its own name, so that `explain` can say what it did.
    #[test]
    fn each_word_shows() {
        let line = "root=ZFS=p/d@s ro rootflags=a init=/i taproot.log=info taproot.wait=1 taproot.degraded=now \
                    taproot.hostid=strict taproot.hostid=0x1 taproot.import=ro taproot.import_dir=/a taproot.missing_log \
                    taproot.key=/k taproot.key_wait=1 taproot.key_prompt=no taproot.key_tries=0 taproot.key_timeout=9 \
                    taproot.mounts=none taproot.fstab=no rollback bootfs.rollback=r taproot.destroy_newer bootfs.snapshot \
                    taproot.clone=p/c resume=8:1 resume_offset=4 noresume taproot.resume_wait=forever \
                    taproot.rescue=poweroff:4 taproot.attempts=0 taproot.break=import taproot.menu=5 taproot.fallback=p/e";
        let request = parse(line.as_bytes());
        let all = settings(&request);
        for word in &request.words {
            assert!(all.iter().any(|s| s.why == *word && !s.default), "{word}: {all:#?}");
        }
        let value = |name: &str| all.iter().find(|s| s.name == name).unwrap().value.as_str();
        assert_eq!(value("root"), "dataset p/d");
        assert_eq!(value("hostid"), "0x00000001");
        assert_eq!(value("wait for missing disks"), "0 s");
        assert_eq!(value("wait for the resume device"), "for ever");
        assert_eq!(value("on failure"), "switch off after 4 s");
        assert_eq!(value("snapshot before boot"), "one called as the kernel's release");
    }
}
