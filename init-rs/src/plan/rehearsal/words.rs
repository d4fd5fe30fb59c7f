//! Steps in words.

use crate::cmdline::Request;
use crate::plan::next::Step;

/// What kind of step it is.
pub(in crate::plan) fn name(step: &Step) -> &'static str {
    match step {
        Step::LoadModule(_) => "load-module",
        Step::ReadNote => "read-note",
        Step::ReadOrigin => "read-origin",
        Step::LookForImage { .. } => "look-for-image",
        Step::ResumeImage { .. } => "resume-image",
        Step::ResumeSettled { .. } => "resume-settled",
        Step::DiscardImage { .. } => "discard-image",
        Step::AskZfs => "ask-zfs",
        Step::AskImported => "ask-imported",
        Step::Open { .. } => "open",
        Step::Take(_) => "take",
        Step::Export { .. } => "export",
        Step::Import(_) => "import",
        Step::ImportOther { .. } => "import-other",
        Step::DoWithout { .. } => "do-without",
        Step::AskBootfs { .. } => "ask-bootfs",
        Step::AskRoot { .. } => "ask-root",
        Step::LoadKey { .. } => "load-key",
        Step::Snapshots(_) => "snapshots",
        Step::Check { .. } => "check",
        Step::Layer(step) => step.name(),
        Step::MountRoot(_) => "mount-root",
        Step::ReadFstab { .. } => "read-fstab",
        Step::AskDatasets { .. } => "ask-datasets",
        Step::LoadKeys { .. } => "load-keys",
        Step::PlanMounts { .. } => "plan-mounts",
        Step::TellLeftOut => "tell-left-out",
        Step::Remount { .. } => "remount",
        Step::Mount(_) => "mount",
        Step::PassOver { .. } => "pass-over",
        Step::FindInit { .. } => "find-init",
        Step::Uncover { .. } => "uncover",
        Step::GetReady => "get-ready",
    }
}

/// What is done, and why where a step says so.
pub(super) fn text(step: &Step, request: &Request) -> String {
    match step {
        Step::LoadModule(name) => format!("load module {name}, unless the kernel has it"),
        Step::ReadNote => "ask the firmware where a system was hibernated to".to_owned(),
        Step::ReadOrigin => "ask the firmware which disk the machine was started from".to_owned(),
        Step::LookForImage { device, .. } => {
            format!("look for a hibernation image on {device}; with one, that system is resumed")
        }
        Step::ResumeImage { text, .. } | Step::ResumeSettled { text, .. } => text.clone(),
        Step::DiscardImage { word, .. } => {
            format!("make plain swap space of a hibernation image, should there be one ({word})")
        }
        Step::AskZfs => "ask the zfs module for its version and this system's hostid".to_owned(),
        Step::AskImported => "ask for the pools".to_owned(),
        Step::Open { guid } => format!("have the kernel open the pool with guid {guid}, to see whether it is complete"),
        Step::Take(found) => format!("take pool {}: {}", found.choice.pool, found.choice.why),
        Step::Export { pool, .. } => format!("export pool {pool}: it is not the one to boot from, or not in this way"),
        Step::Import(choice) => format!("import pool {}{}", choice.pool, read_only(request)),
        Step::ImportOther { found, .. } => {
            format!("import pool {} as well{}: {}", found.choice.pool, read_only(request), found.choice.why)
        }
        Step::DoWithout { why, .. } => why.clone(),
        Step::AskBootfs { pool } => format!("ask for the bootfs of pool {pool}"),
        Step::AskRoot { dataset } => format!("ask for the properties of {dataset}"),
        Step::LoadKey { dataset, key, ask } => {
            let for_whom = if dataset == key { String::new() } else { format!(", which {dataset} needs") };
            let nobody = if *ask { "" } else { "; nobody is asked for one that is to be in a file" };
            format!("load the key of {key}{for_whom}{nobody}")
        }
        Step::Snapshots(asked) => match &asked.snapshot {
            Some(snapshot) => format!("make {} what it was at @{} ({})", asked.root.name, snapshot.value, snapshot.why),
            None => format!("roll back, or take a snapshot of, {}", asked.root.name),
        },
        Step::Check { program, args, .. } => format!("check the file system: {program} {}", args.join(" ")),
        Step::Layer(step) => step.to_string(),
        Step::MountRoot(mount) => format!("mount {} on / ({})", mount.step.dataset, mount.step.why),
        Step::ReadFstab { .. } => "read the root's fstab".to_owned(),
        Step::AskDatasets { all: false, .. } => "ask for the datasets that can hold /etc".to_owned(),
        Step::AskDatasets { .. } => "ask for the datasets that could be mounted".to_owned(),
        Step::LoadKeys { keys } => {
            let list: Vec<&str> = keys.iter().map(|key| key.root.as_str()).collect();
            let asked: Vec<&str> = keys.iter().filter(|key| key.ask).map(|key| key.root.as_str()).collect();
            let ask = match asked.as_slice() {
                [] => "nobody is asked".to_owned(),
                asked => format!("people are asked for {}", asked.join(", ")),
            };
            format!("load the keys of {}, as far as they can be had; {ask}", list.join(", "))
        }
        Step::PlanMounts { all: false, .. } => "see whether a mount holds /etc".to_owned(),
        Step::PlanMounts { .. } => "plan what else is mounted".to_owned(),
        Step::TellLeftOut => "tell of what is left out".to_owned(),
        Step::Remount { how, .. } => format!("remount / ({})", how.why),
        Step::Mount(mount) => format!("mount {} on {} ({})", mount.step.dataset, mount.step.target, mount.step.why),
        Step::PassOver { step, why } => format!("leave {} out on {}: {why}", step.dataset, step.target),
        Step::FindInit { .. } => "look for the program to start".to_owned(),
        Step::Uncover { covers } => {
            let list: Vec<&str> = covers.iter().map(|cover| cover.made.dataset.as_str()).collect();
            format!("take {} away, which hides the program to start", list.join(", "))
        }
        Step::GetReady => "write the record of this boot".to_owned(),
    }
}

fn read_only(request: &Request) -> String {
    let import = &request.import.read_only;
    if import.value { format!(" read-only ({})", import.why) } else { String::new() }
}
