//! The seam as a boot has it: what its words do not declare is refused (`plan/declared.rs`).

use super::lost::{Lost, Needs, Watch};
use crate::devices::filesystems::in_memory;
use crate::plan::declared::{Declared, Mountable};
use crate::plan::layers::{LAYERS, STATE_DIR};
use crate::plan::names;
use crate::plan::next::Step;
use crate::plan::snapshots::STATE_PROPERTY;
use crate::sys::{Attached, Mapping, OverlayMount, PanicAnswer, System, ZfsCall, ZfsReply};
use crate::unlock::KEY_MOUNTED_AT;
use crate::zfs::calls;
use crate::zfs::ioctl::ImportFlags;
use crate::zfs::nvlist::NvList;
use crate::zfs::rewind::Rewind;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Nodes of the device-mapper, and of loop devices.
const MAPPED: &str = "/dev/dm-";
const LOOP: &str = "/dev/loop";
/// What may be mounted without any word.
const PSEUDO: [&str; 5] = ["devtmpfs", "proc", "sysfs", "tmpfs", "efivarfs"];

/// A system with a guard before it.
pub(super) struct Guard<'a> {
    system: &'a dyn System,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: nothing is declared yet.
    declared: Option<Declared>,
    /// Guids and names of the pool that this attempt chose, and of those it needs beside.
    chosen: Vec<(u64, String)>,
    /// Name of the pool that it chose: snapshots are made, cloned, rolled back to and destroyed in no other.
    root_pool: Option<String>,
    /// Names of pools that this boot imported, or that were imported at its prompt.
    ours: BTreeSet<String>,
    /// Names of pools that are imported, by whomever.
    imported: BTreeSet<String>,
    /// Clones that this attempt made.
    made: BTreeSet<String>,
    /// What the step under way mounts, and from where.
    mounts: Option<(Mountable, String)>,
    /// What was refused, a line each.
    refused: Vec<String>,
    /// What ends the machine where a pool keeps the kernel.
    lost: Option<Lost>,
    /// Nodes of pools by their guids, as they were when they were imported.
    nodes: BTreeMap<u64, Vec<String>>,
    /// Guid of a pool that is given back now.
    given_back: Option<u64>,
    /// Imported pools that wait for a disk, and that the boot goes on without.
    left: BTreeSet<String>,
    /// How many watched calls are under way, one in the other.
    watches: usize,
}

impl<'a> Guard<'a> {
    /// Until something is declared, only pseudo file systems are mounted.
    pub(super) fn new(system: &'a dyn System) -> Self {
        Self { system, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on this is what may be done: another attempt begins, which has chosen nothing so far.
    pub(super) fn declare(&self, declared: Declared) {
        let mut state = self.state();
        state.declared = Some(declared);
        state.chosen.clear();
        state.root_pool = None;
        state.made.clear();
    }

    /// This step is under way, or none is.
    pub(super) fn begin(&self, step: Option<&Step>) {
        self.state().mounts = step.and_then(Step::mounts).map(|(what, source)| (what, source.to_owned()));
    }

    /// A pool on these nodes was chosen: it may be imported, and no other.
    pub(super) fn choose(&self, guid: u64, pool: &str, nodes: Vec<String>) {
        self.state().chosen.clear();
        self.state().root_pool = Some(pool.to_owned());
        self.choose_beside(guid, pool, nodes);
    }

    /// So may this one, which is needed beside it.
    pub(super) fn choose_beside(&self, guid: u64, pool: &str, nodes: Vec<String>) {
        let mut state = self.state();
        state.chosen.push((guid, pool.to_owned()));
        state.left.remove(pool);
        // None are known of one that an earlier attempt has imported.
        if !nodes.is_empty() {
            state.nodes.insert(guid, nodes);
        }
    }

    /// A pool was imported at the prompt: it may be exported.
    pub(super) fn own(&self, pool: &str) {
        self.state().ours.insert(pool.to_owned());
    }

    /// These pools are imported: what is on them may be mounted.
    pub(super) fn are_imported<'p>(&self, pools: impl Iterator<Item = &'p str>) {
        self.state().imported = pools.map(str::to_owned).collect();
    }

    /// This imported pool waits for a disk, and the boot goes on without it.
    pub(super) fn leave(&self, pool: &str) {
        self.state().left.insert(pool.to_owned());
    }

    /// This pool is given back by the next step, or none is.
    pub(super) fn gives_back(&self, guid: Option<u64>) {
        self.state().given_back = guid;
    }

    /// This ends the machine where a pool keeps the kernel, if anything does.
    pub(super) fn mind(&self, lost: Option<Lost>) {
        self.state().lost = lost;
    }

    /// What is declared, for the record.
    pub(super) fn declared(&self) -> Declared {
        self.state().declared.clone().unwrap_or_default()
    }

    /// What was refused so far.
    pub(super) fn refused(&self) -> Vec<String> {
        self.state().refused.clone()
    }

    /// Why a call is not made.
    fn call_refused(&self, call: &ZfsCall<'_>) -> Option<String> {
        let state = self.state();
        let name = String::from_utf8_lossy(call.name);
        let Some(declared) = state.declared.as_ref().filter(|declared| declared.calls.contains(&call.number)) else {
            return Some(format!("{} of {name}", calls::name(call.number)));
        };
        match call.number {
            calls::POOL_IMPORT => {}
            calls::POOL_EXPORT => {
                let ours = state.ours.contains(&*name);
                return (!ours).then(|| format!("POOL_EXPORT of {name}, which this boot did not import"));
            }
            calls::CLONE | calls::ROLLBACK | calls::SNAPSHOT | calls::DESTROY_SNAPS | calls::SET_PROP
                if state.root_pool.as_deref() != Some(names::pool_of(&name)) =>
            {
                return Some(format!("{} of {name}, whose pool is not the root's", calls::name(call.number)));
            }
            // An earlier boot may have made the clone: what is written says that it is complete.
            calls::SET_PROP if !sets_state(call.src) => return Some(format!("SET_PROP of {name}")),
            calls::DESTROY if !state.made.contains(&*name) => {
                return Some(format!("DESTROY of {name}, which was not made just now"));
            }
            _ => return None,
        }
        if !state.chosen.iter().any(|(guid, _)| *guid == call.guid) {
            return Some(format!("POOL_IMPORT of {name}, which was not chosen"));
        }
        // Whatever the words: only a person at the prompt takes a pool back, who has read what would be lost.
        let back = NvList::decode(call.conf).is_ok_and(|config| Rewind::asked_in(&config));
        if back || call.cookie & ImportFlags::CHECKPOINT != 0 {
            return Some(format!("a POOL_IMPORT of {name} that goes back to an older state"));
        }
        let read_only = || NvList::decode(call.src).is_ok_and(|properties| properties.u64("readonly") == Some(1));
        (declared.read_only && !read_only()).then(|| format!("a writable POOL_IMPORT of {name}"))
    }

    /// Why a mount is not made writable, or at all before anything is declared.
    fn writing_refused(&self, fstype: &str, flags: u64) -> Option<String> {
        let state = self.state();
        match &state.declared {
            None => Some(format!("mounting {fstype}")),
            Some(declared) if declared.read_only && !in_memory(fstype) && flags & libc::MS_RDONLY == 0 => {
                Some(format!("mounting {fstype} writable"))
            }
            Some(_) => None,
        }
    }

    fn mount_refused(&self, (source, target, fstype): (&str, &Path, &str), flags: u64) -> Option<String> {
        // What shows a directory elsewhere mounts nothing.
        if PSEUDO.contains(&fstype) || (flags & libc::MS_BIND != 0 && self.state().declared.is_some()) {
            return None;
        }
        let refused = self.writing_refused(fstype, flags);
        if refused.is_some() || flags & libc::MS_REMOUNT != 0 {
            return refused;
        }
        let state = self.state();
        let declared = state.declared.as_ref()?;
        let read_only = flags & libc::MS_RDONLY != 0;
        let layer =
            || declared.layers && target.starts_with(LAYERS) && [MAPPED, LOOP].iter().any(|d| source.starts_with(d));
        let asked = match &state.mounts {
            Some((what, from)) => from == source && declared.mounts.contains(what),
            None if target == Path::new(KEY_MOUNTED_AT) => read_only && declared.mounts.contains(&Mountable::KeyDevice),
            None => read_only && layer(),
        };
        if !asked {
            return Some(format!("mounting {source} ({fstype}) on {}", target.display()));
        }
        let pool = names::pool_of(source);
        let there = state.ours.contains(pool)
            || state.imported.contains(pool)
            || state.chosen.iter().any(|(_, name)| name == pool);
        (fstype == "zfs" && !there).then(|| format!("mounting {source}, of a pool that was not chosen,"))
    }

    /// Whether the words ask for a root made of layers.
    fn layered(&self, what: &str) -> io::Result<()> {
        let declared = self.state().declared.as_ref().is_some_and(|declared| declared.layers);
        if declared { Ok(()) } else { Err(self.refuse(what)) }
    }

    /// A layer of which the words say a root hash is mounted under its tree, or not at all.
    fn under_its_tree(&self, what: &str, target: &Path) -> io::Result<()> {
        let bare = target
            .strip_prefix(LAYERS)
            .ok()
            .and_then(|name| name.to_str())
            .filter(|name| self.state().declared.as_ref().is_some_and(|declared| declared.rooted.contains(*name)));
        match bare {
            Some(name) => Err(self.refuse(&format!("mounting {what} as layer {name}, which has a root hash,"))),
            None => Ok(()),
        }
    }

    /// Whether the words ask for what is under way with layers to go on: nothing else writes their state.
    fn state_is_ours(&self, path: &Path) -> io::Result<()> {
        let is_state = path.iter().any(|part| part == STATE_DIR);
        let declared = self.state().declared.as_ref().is_some_and(|declared| declared.layer_state);
        if declared || !is_state { Ok(()) } else { Err(self.refuse(&format!("writing {}", path.display()))) }
    }

    /// Does `work`, which the kernel may never come back from: then what is declared for that ends the machine. A `question` may
    /// take only so long, whatever the kernel says of its pools.
    fn ended_by_loss(
        &self,
        question: Option<&str>,
        tick: Duration,
        tell: &mut (dyn FnMut(Duration) + Send),
        work: &mut dyn FnMut(),
    ) {
        let over = AtomicBool::new(false);
        let (mut watch, depth) = {
            let mut state = self.state();
            state.watches += 1;
            let guids = state.chosen.iter().map(|(guid, _)| guid).chain(&state.given_back);
            let nodes = guids.filter_map(|guid| state.nodes.get(guid)).flatten().cloned();
            let needs = Needs { nodes: nodes.collect(), left: state.left.clone() };
            (Watch::new(state.lost, question, needs, &over), state.watches)
        };
        let mut tell = |took| {
            // What is watched inside of it tells of itself.
            if self.state().watches == depth {
                tell(took);
                watch.look(self.system, took);
            }
        };
        let mut work = || {
            work();
            over.store(true, Ordering::Release);
        };
        self.system.watched(tick, &mut tell, &mut work);
        self.state().watches = depth - 1;
    }

    fn refuse(&self, what: &str) -> io::Error {
        let line = format!("{what} was refused: the words of this boot do not ask for it, so it is a bug");
        let _ = self.system.kmsg(&format!("<3>taproot: {line}\n"));
        self.state().refused.push(line);
        io::Error::from_raw_os_error(libc::EPERM)
    }
}

impl System for Guard<'_> {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        if let Some(what) = self.call_refused(call) {
            return Err(self.refuse(&what));
        }
        let reply = self.system.zfs(call)?;
        let name = String::from_utf8_lossy(call.name);
        match call.number {
            calls::POOL_IMPORT if reply.errno == 0 => self.own(&name),
            calls::CLONE if reply.errno == 0 => {
                self.state().made.insert(name.into_owned());
            }
            _ => {}
        }
        Ok(reply)
    }

    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
        if !source.starts_with(MAPPED) {
            self.under_its_tree(source, target)?;
        }
        match self.mount_refused((source, target, fstype), flags) {
            Some(what) => Err(self.refuse(&what)),
            None => self.system.mount(source, target, fstype, flags, data),
        }
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        self.layered("showing a mount elsewhere")?;
        self.under_its_tree("a directory", target)?;
        self.system.bind(source, target, read_only)
    }

    fn mount_image(&self, image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
        self.layered("mounting an image")?;
        self.under_its_tree("an image", target)?;
        self.system.mount_image(image, target, fstype)
    }

    fn attach_image(&self, image: &Path) -> io::Result<Attached> {
        self.layered("attaching an image")?;
        self.system.attach_image(image)
    }

    fn read_image(&self, node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        self.system.read_image(node, take)
    }

    fn detach_loop(&self, device: &Path) -> io::Result<()> {
        self.system.detach_loop(device)
    }

    fn mount_overlay(&self, overlay: &OverlayMount, target: &Path) -> io::Result<()> {
        self.layered("mounting an overlay")?;
        self.system.mount_overlay(overlay, target)
    }

    fn probe_whiteout(&self, dir: &Path) -> io::Result<()> {
        self.layered("trying an upper")?;
        self.system.probe_whiteout(dir)
    }

    fn zvol_name(&self, node: &Path) -> io::Result<String> {
        self.system.zvol_name(node)
    }

    fn mount_file(&self, file: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String> {
        self.layered("mounting a file")?;
        match self.writing_refused(fstype, flags) {
            Some(what) => Err(self.refuse(&what)),
            None => self.system.mount_file(file, target, fstype, flags, data),
        }
    }

    fn copy_dir(&self, from: &Path, to: &Path, content: bool) -> io::Result<()> {
        self.layered("copying a directory")?;
        self.system.copy_dir(from, to, content)
    }

    fn give(&self, path: &Path, owner: u32, group: u32) -> io::Result<()> {
        self.layered("giving a file to somebody")?;
        self.system.give(path, owner, group)
    }

    fn is_opaque(&self, dir: &Path) -> bool {
        self.system.is_opaque(dir)
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        self.system.unmount(target, lazy)
    }

    fn map(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        self.layered(&format!("mapping {}", mapping.name))?;
        self.system.map(mapping)
    }

    fn unmap(&self, name: &str) -> io::Result<()> {
        self.system.unmap(name)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.state_is_ours(path)?;
        self.system.write(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state_is_ours(to)?;
        self.system.rename(from, to)
    }

    fn watched(&self, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        self.ended_by_loss(None, tick, tell, work);
    }

    fn questioned(&self, what: &str, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        self.ended_by_loss(Some(what), tick, tell, work);
    }

    fn on_panic(&self, then: PanicAnswer) {
        self.system.on_panic(then);
    }

    crate::delegate_files!(system);
    crate::delegate_log!(system);
    crate::delegate_clock_and_scout!(system);
    crate::delegate_others!(system);
}

/// Whether these properties are the one by which a clone says that it is complete.
fn sets_state(properties: &[u8]) -> bool {
    NvList::decode(properties).is_ok_and(|list| list.iter().map(|(name, _)| name).eq([STATE_PROPERTY.as_bytes()]))
}

#[cfg(test)]
mod tests;
