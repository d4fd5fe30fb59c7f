//! The roots that could be booted, as a list to choose from.

use super::apart::{PATIENCE, Part};
use super::desk::Desk;
use super::talk::Talk;
use super::{Scene, apart};
use crate::cmdline::{Decided, Fallback, Request, Stack, is_block_device};
use crate::plan::facts::{Dataset, Health, PoolFact};
use crate::plan::options;
use crate::plan::roots::{RootCandidate, candidates};
use crate::plan::{from_zfs, names};
use crate::pools::waits;
use crate::report::log::Log;
use crate::report::slow;
use crate::sys::beneath::resolve;
use crate::sys::consoles::Secret;
use crate::sys::{System, Terminals};
use crate::zfs::ioctl::Zfs;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// What is done when roots are listed.
pub(super) const ASKING: &str = "asking for roots";
/// Where a root is mounted to be looked into.
const LOOK_AT: &str = "/run/taproot/look";
/// How many roots are looked into.
const LOOKED_INTO: usize = 30;
/// What one of has to be there.
const INITS: [&str; 3] = ["/sbin/init", "/etc/init", "/bin/init"];
/// How many snapshots of a root are listed.
const SNAPSHOTS: usize = 15;

/// The layers that the words name, every root of the imported pools, then the bootfs of pools that were seen and can be imported.
pub(super) fn roots(
    system: &dyn System,
    seen: &[PoolFact],
    request: Option<&Request>,
    current: Option<&str>,
) -> Vec<RootCandidate> {
    let zfs = Zfs::new(system);
    let imported = zfs.imported_pools().unwrap_or_default();
    let mut roots = stacks(request);
    for (pool, _) in imported.iter().filter(|(pool, _)| waits(system, pool).is_none()) {
        let all: Vec<Dataset> =
            zfs.datasets(pool).unwrap_or_default().iter().map(|o| from_zfs::dataset(o, true)).collect();
        roots.extend(candidates(&all, zfs.bootfs(pool).ok().flatten().as_deref(), current));
    }
    for pool in seen.iter().filter(|p| imported.iter().all(|(_, guid)| *guid != p.guid) && p.problem.is_none()) {
        if let Some(bootfs) = &pool.bootfs {
            roots.push(RootCandidate {
                dataset: bootfs.clone(),
                why: "bootfs, not imported yet".into(),
                locked: false,
                no_init: false,
            });
        }
    }
    roots
}

/// The stacks of layers that the words name: that of the root, and those that stand in for it.
fn stacks(request: Option<&Request>) -> Vec<RootCandidate> {
    let Some(request) = request else { return Vec::new() };
    let named = |fallback: &Decided<Fallback>| match &fallback.value {
        Fallback::Layers(stack) => Some((stack.to_string(), fallback.why.clone())),
        Fallback::Root(_) => None,
    };
    let own = Stack::of(request)
        .zip(request.layers.as_ref())
        .map(|(own, layers)| (own.to_string(), layers.names.why.clone()));
    let mut stacks: Vec<RootCandidate> = Vec::new();
    for (dataset, why) in own.into_iter().chain(request.fallback.iter().filter_map(named)) {
        if stacks.iter().all(|known| known.dataset != dataset) {
            stacks.push(RootCandidate { dataset, why, locked: false, no_init: false });
        }
    }
    stacks
}

/// The list, with the number of each; `mark` is the one that is booted if nothing else is said.
fn list(roots: &[RootCandidate], mark: Option<&str>) -> String {
    let mut text = String::from("\n");
    for (at, root) in roots.iter().enumerate() {
        let star = if Some(root.dataset.as_str()) == mark { '*' } else { ' ' };
        let locked = if root.locked { ", key not loaded" } else { "" };
        let init = if root.no_init { ", has no init" } else { "" };
        let _ = writeln!(text, " {star}{:>2}  {}  ({}{locked}{init})", at + 1, root.dataset, root.why);
    }
    text.push('\n');
    text
}

/// Pools that were seen, can be imported and tell no root by themselves.
pub(super) fn silent(system: &dyn System, seen: &[PoolFact]) -> Vec<String> {
    let imported = Zfs::new(system).imported_pools().unwrap_or_default();
    let silent = |p: &&PoolFact| {
        let there = p.problem.is_none() && p.health != Health::Unavailable && !p.destroyed;
        there && p.bootfs.is_none() && imported.iter().all(|(_, guid)| *guid != p.guid)
    };
    seen.iter().filter(silent).map(|p| p.name.clone()).collect()
}

/// Looks into roots for an init: the names of those that have none, a line each.
pub(super) const LOOK: Part = Part { name: "look-into", work: look, mounts: Some(LOOK_AT), patience: PATIENCE };

/// Looks into those that can be mounted. Those of a disk that does not answer are not marked.
fn look_into(system: &dyn System, log: &Log, roots: &mut [RootCandidate]) {
    let dataset = |root: &&RootCandidate| !root.locked && Stack::parse(&root.dataset).is_none();
    let names: Vec<&str> = roots.iter().filter(dataset).map(|root| root.dataset.as_str()).collect();
    let names = names.get(..LOOKED_INTO).unwrap_or(&names);
    if names.is_empty() {
        return;
    }
    match apart::do_part(system, log, &LOOK, names) {
        Ok(without) => {
            let without = String::from_utf8_lossy(&without).into_owned();
            for root in roots {
                root.no_init = without.lines().any(|name| name == root.dataset);
            }
        }
        Err(why) => log.warn(format!("which roots have an init is not known: {why}")),
    }
}

/// Mounts each of these read-only and for a moment.
fn look(system: &dyn System, log: &Log, names: &[&str]) -> Result<Secret, String> {
    let dir = Path::new(LOOK_AT);
    system.make_dirs(dir).map_err(|e| format!("{LOOK_AT}: {e}"))?;
    let mut without = String::new();
    for name in names {
        let Ok(objset) = Zfs::new(system).objset(name) else { continue };
        let options = options::mount_options(&from_zfs::dataset(&objset, true), Some(true), LOOK_AT, &[]);
        if slow::mount(system, log, (name, dir, "zfs"), options.flags, &options.data).is_err() {
            continue;
        }
        // A link to an absolute path leads into that tree.
        let there = |init: &&str| resolve(system, dir, Path::new(init)).is_ok_and(|path| system.exists(&path));
        // NixOS has it in its store, and names it by a word.
        if !there(&"/nix/store") && !INITS.iter().any(there) {
            let _ = writeln!(without, "{name}");
        }
        let _ = system.unmount(dir, true);
    }
    let _ = system.remove(dir);
    Ok(without.into_bytes().into())
}

/// Whether this can be the name of a root, or of a snapshot of one. Asked before the boot begins again: by then nobody is
/// there to type another.
pub(super) fn check(name: &str) -> Result<(), String> {
    if is_block_device(name) {
        return Ok(());
    }
    if let Some(stack) = Stack::parse(name) {
        return stack.map(drop);
    }
    let (dataset, snapshot) = name.split_once('@').map_or((name, None), |(dataset, short)| (dataset, Some(short)));
    names::check(dataset).map_err(|e| format!("{name:?} is not a dataset name: {e}"))?;
    match snapshot {
        Some(short) if short.is_empty() || short.contains(['@', '/']) => {
            Err(format!("{name:?}: expected dataset@snapshot"))
        }
        _ => Ok(()),
    }
}

/// The root or snapshot that was typed: a number of the list or a name.
pub(super) fn typed(answer: &str, roots: &[RootCandidate]) -> Result<String, String> {
    match answer.parse::<usize>() {
        Ok(number) => match number.checked_sub(1).and_then(|at| roots.get(at)) {
            Some(root) => Ok(root.dataset.clone()),
            None if roots.is_empty() => Err(format!("{number}: no root is listed; name one: boot POOL/DATASET")),
            None => Err(format!("{number}: expected a number from 1 to {}", roots.len())),
        },
        Err(_) => check(answer).map(|()| answer.to_owned()),
    }
}

/// Lets a person choose; `None` if nothing was chosen. The list is kept: numbers are those of the one that was shown last.
pub(super) fn ask(desk: &mut Desk<'_>) -> Option<String> {
    show(desk);
    if desk.listed.is_empty() {
        return None;
    }
    let answer = desk.talk.ask("Which one? Number, or name, or name@snapshot; Enter for none: ")?;
    if answer.is_empty() {
        return None;
    }
    match typed(&answer, &desk.listed) {
        Ok(name) => snapshot_of(desk.system, desk.log, &mut desk.talk, name),
        Err(e) => {
            desk.talk.say(&format!("{e}\n"));
            None
        }
    }
}

/// Shows the roots that could be booted.
fn show(desk: &mut Desk<'_>) {
    let mut roots = desk.asking(ASKING, |system| roots(system, desk.pools, Some(&desk.request), None));
    let silent = desk.asking(ASKING, |system| silent(system, desk.pools));
    let Desk { system, log, talk, listed, .. } = desk;
    if let Some(first) = silent.first() {
        let pools = silent.join(", ");
        talk.say(&format!(
            "without bootfs, and not imported: {pools}. `boot {first}/DATASET` boots one of its datasets; \
             `import {first} ro`, then `datasets {first}`, lists them.\n"
        ));
    }
    if roots.is_empty() {
        talk.say("no root was found in the imported pools; `pools` lists what is on the disks\n");
    } else {
        look_into(*system, log, &mut roots);
        talk.page(&list(&roots, None));
    }
    *listed = roots;
}

/// Lets a person choose a snapshot of the root, where it has any.
fn snapshot_of(system: &dyn System, log: &Log, talk: &mut Talk<'_>, name: String) -> Option<String> {
    if name.contains('@') || Stack::parse(&name).is_some() {
        return Some(name);
    }
    let asked = || Zfs::new(system).snapshots(&name, 0).unwrap_or_default();
    let mut snapshots = slow::asked(system, log, &format!("asking for snapshots of {name}"), asked);
    snapshots.reverse();
    snapshots.truncate(SNAPSHOTS);
    if snapshots.is_empty() {
        return Some(name);
    }
    let mut text = format!("\nThe newest snapshots of {name}:\n\n");
    for (at, snapshot) in snapshots.iter().enumerate() {
        let short = snapshot.name.split_once('@').map_or("", |(_, short)| short);
        let _ = writeln!(text, "  {:>2}  @{short}", at + 1);
    }
    talk.say(&text);
    let answer = talk.ask("\nA number boots a clone of that snapshot; Enter boots it as it is now: ")?;
    if answer.is_empty() {
        return Some(name);
    }
    let chosen = answer.parse::<usize>().ok().and_then(|number| snapshots.get(number.checked_sub(1)?));
    if chosen.is_none() {
        talk.say(&format!("{answer}: expected a number from 1 to {}\n", snapshots.len()));
    }
    chosen.map(|snapshot| snapshot.name.clone())
}

/// The menu that `taproot.menu` asks for: `current` is booted when nothing is typed in time. Returns another root that
/// was chosen.
pub fn offer(scene: &Scene<'_>, current: &str, countdown: Option<Duration>) -> Option<String> {
    let mut talk = Talk::on(scene.system, Terminals::All);
    let Scene { system, log, pools, report, .. } = *scene;
    let asked = || roots(system, pools, report.request.as_ref(), Some(current));
    let mut roots = slow::asked(system, log, ASKING, asked);
    look_into(scene.system, scene.log, &mut roots);
    talk.say("\ntaproot: which root is to be booted?\n");
    talk.say(&list(&roots, Some(current)));
    talk.announce_keyboard(scene.system, scene.log);
    let when = countdown.map_or_else(String::new, |time| format!(", also after {} s", time.as_secs()));
    let question = format!("Number or name[@snapshot]; Enter boots {current}{when}: ");
    loop {
        let answer = talk.ask_for(&question, countdown);
        if answer.is_empty() {
            return None;
        }
        match typed(&answer, &roots) {
            Ok(name) if name == current => return None,
            Ok(name) => return Some(name),
            Err(e) => talk.say(&format!("{e}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        let root = |name: &str| RootCandidate {
            dataset: name.into(),
            why: "a root".into(),
            locked: false,
            no_init: name == "t/a",
        };
        let roots = [root("t/a"), root("t/b")];
        assert!(list(&roots, None).contains("1  t/a  (a root, has no init)"), "{}", list(&roots, None));
        assert_eq!(typed("2", &roots), Ok("t/b".into()));
        assert_eq!(typed("t/c@s", &roots), Ok("t/c@s".into()));
        for wrong in ["3", "0", "t/c@", "t/c@a@b", "t//c", "what?"] {
            assert!(typed(wrong, &roots).is_err(), "{wrong}");
        }
        assert!(typed("1", &[]).unwrap_err().contains("boot POOL/DATASET"));
        assert!(list(&roots, Some("t/b")).contains(" * 2  t/b"));
        assert_eq!(typed("layers:a:b@UUID=1", &roots), Ok("layers:a:b@UUID=1".into()));
        assert!(typed("layers:a:a", &roots).unwrap_err().contains("twice"));
    }

    #[test]
    fn layers_of_the_words_are_listed_once() {
        let line = b"root=UUID=1 taproot.layers=site:base taproot.fallback=layers:site:base,layers:base@t/x,t/y";
        let listed = stacks(Some(&crate::cmdline::parse(line)));
        let shown: Vec<&str> = listed.iter().map(|root| root.dataset.as_str()).collect();
        assert_eq!(shown, ["layers:site:base@UUID=1", "layers:base@t/x"]);
        assert!(list(&listed, None).contains("(taproot.layers=site:base)"));
    }
}
