//! Steps with the parts of a layered root: mounted below `/run`, which moves along, and put together.

use super::Boot;
use super::release::release;
use crate::cmdline::{ITSELF, LayerSettings};
use crate::devices::probe::{SEALED_HEAD, Sealed, sealed, superblock};
use crate::plan::facts::Kind;
use crate::plan::failure::Failure;
use crate::plan::from_zfs;
use crate::plan::layers::{
    BASE, DEVICE, EMPTY, ENDINGS, KEPT, LAYERS, LayerFile, LayerKind, RAM, STATE_DIR, UPPER, UPPERS, UpperDirs,
    is_on_base, place,
};
use crate::plan::lowers;
use crate::plan::mounts::{self, MountStep};
use crate::plan::next::facts::{LayerFacts, Memory, Zvol};
use crate::plan::next::layers::integrity::Check;
use crate::plan::next::{LayerStep, Mount, Part, layer_not_mounted, nested_image, not_overlaid, part_not_mounted};
use crate::plan::root::{LayeredRoot, Root};
use crate::report::boot::{MountDone, Protected};
use crate::report::layers::LayersDone;
use crate::report::slow;
use crate::sys::beneath::resolve;
use crate::sys::{FileInfo, FileKind, OverlayMount, System};
use crate::zfs::ioctl::Zfs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a zvol may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a zvol that are read at once.
const PIECE: usize = 64 << 10;

impl Boot<'_> {
    pub(super) fn layer_step(&mut self, step: LayerStep) -> Result<(), Failure> {
        match step {
            LayerStep::Mount { part, mount } => self.mount_part(part, &mount)?,
            LayerStep::LookInto { node, fstype, since, sought } => self.look_into(node, &fstype, since, &sought),
            LayerStep::ListImages { dir, lists } => self.list_images(&dir, &lists),
            LayerStep::SameDevice => self.facts.attempt.layers.device = true,
            LayerStep::Ask { dataset } => self.ask_part(dataset),
            LayerStep::FindZvol { dataset, nodes, until } => self.find_zvol(&dataset, nodes, until),
            LayerStep::Find { names, roots, retained } => self.find_layers(names, &roots, retained),
            LayerStep::Measure { copies } => self.measure_layers(&copies)?,
            LayerStep::CopyToRam { copies, extent } => self.copy_layers(&copies, extent)?,
            LayerStep::LeaveOnMedium { why } => self.leave_layers(&why),
            LayerStep::Release(release) => self.release_layers(release),
            LayerStep::ReadState { places } => self.read_state(&places),
            LayerStep::EnterState { places, entry } => self.enter_state(&places, *entry),
            LayerStep::GiveUp { places, why } => self.give_up(&places, &why)?,
            LayerStep::FindStack { stack, places } => self.find_stack(&stack, &places),
            LayerStep::SetAside { dir, word } => self.set_upper_aside(&dir, &word),
            LayerStep::NoteLowers { note, text } => self.note_lowers(&note, &text),
            LayerStep::Protect { mount, upper } => self.protect(*mount, upper.as_deref()),
            LayerStep::ReadKeys => self.read_keys(),
            LayerStep::ReadList { file, roots } => self.read_list(&file, &roots),
            LayerStep::LookBeside(file) => self.look_beside(&file),
            LayerStep::MountImage { file, check } => self.mount_layer(&file, check.as_ref())?,
            LayerStep::KeepSerial { file, serial, dir } => self.keep_serial(&file, serial, dir.as_deref())?,
            LayerStep::MakeUpper { dirs, whiteout } => self.make_upper(dirs, whiteout),
            LayerStep::Kept(step) => self.kept_step(step)?,
            LayerStep::DoWithoutUpper { why } => self.without_upper(why),
            LayerStep::Overlay(root) => self.mount_overlay(*root)?,
        }
        Ok(())
    }

    fn mount_part(&mut self, part: Part, mount: &Mount) -> Result<(), Failure> {
        let Mount { step, source, fstype } = mount;
        let target = Path::new(&step.target);
        // What an earlier attempt left there.
        let _ = self.system.unmount(target, true);
        if self.mounting.is_none() {
            self.mounting = Some(self.phases.start("mount"));
        }
        let start = self.system.now();
        let options = &step.options;
        let made = self.system.make_dirs(target);
        let result = made.and_then(|()| match part {
            Part::Image(_) => self.system.mount_image(Path::new(source), target, fstype).map(drop),
            _ => slow::mount(self.system, self.log, (source, target, fstype), options.flags, &options.data),
        });
        match result {
            Ok(()) => {
                self.log.info(format!("mounted {} on {} ({})", step.dataset, step.target, step.why));
                self.part_done(step.clone(), start);
                self.facts.attempt.layers.part_mounted(part);
                Ok(())
            }
            Err(e) => match part_not_mounted(&part, mount, e.raw_os_error(), &e.to_string()) {
                Ok(failure) => Err(failure),
                Err(why) => {
                    self.without_upper(why);
                    Ok(())
                }
            },
        }
    }

    pub(super) fn part_done(&mut self, step: MountStep, start: Duration) {
        let took = self.system.now().saturating_sub(start);
        self.report.mounts.retain(|done| done.step.place != step.place);
        let write_protected = self.is_write_protected(&step.dataset);
        self.report.mounts.push(MountDone { step, took, error: None, write_protected });
    }

    /// The properties of a dataset that a part lies on.
    fn ask_part(&mut self, name: String) {
        let asked =
            slow::asked(self.system, self.log, &format!("asking for {name}"), || Zfs::new(self.system).objset(&name));
        let result = match asked {
            Ok(objset) => {
                let mut dataset = from_zfs::dataset(&objset, self.relatime_default());
                if dataset.key_available == Some(false) {
                    dataset.key_location = self.key_location(&dataset.name);
                }
                let zvol = self.request.layers.as_ref().is_some_and(|layers| layers.is_zvol(&name));
                match (zvol, dataset.kind) {
                    (true, Kind::Volume) | (false, Kind::Filesystem) => Ok(dataset),
                    (true, _) => Err(format!("{name} is no zvol")),
                    (false, _) => Err(format!("{name} is no file system; taproot.upper=zvol:{name} takes a zvol")),
                }
            }
            Err(e) if e.errno == libc::ENOENT => Err(format!("there is no dataset {name}")),
            Err(e) => Err(e.to_string()),
        };
        self.facts.attempt.layers.datasets.insert(name, result);
    }

    /// Which of the zvols' devices this dataset is, and what is on it.
    fn find_zvol(&mut self, dataset: &str, nodes: Vec<String>, until: Option<Duration>) {
        let own = |node: &&String| self.system.zvol_name(Path::new(node)).is_ok_and(|name| name == dataset);
        let found = nodes.iter().find(own).cloned();
        // What is on it does not change by waiting.
        let until = if found.is_some() { Some(self.system.now()) } else { until };
        let result = match found {
            None => Err(format!("zvol {dataset} has no device; its volmode may be `none`")),
            Some(node) => self.zvol_type(&node).map(|fstype| Zvol::There { node, fstype }),
        };
        let zvol = result.unwrap_or_else(|why| Zvol::Lacking { nodes, why });
        self.facts.attempt.layers.zvols.insert(dataset.to_owned(), (zvol, until));
    }

    fn zvol_type(&mut self, node: &str) -> Result<String, String> {
        let size = self.scout.hardware.by_node(node).map_or(0, |device| device.size);
        let scout = &mut self.scout;
        let mut read = |mut offset: u64, buf: &mut [u8]| {
            for piece in buf.chunks_mut(PIECE) {
                let bytes = scout.peek(node, offset, piece.len(), PATIENCE)?;
                if bytes.len() != piece.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                piece.copy_from_slice(&bytes);
                offset += piece.len() as u64;
            }
            Ok(())
        };
        match superblock(&mut read, size) {
            Ok(Some(found)) => Ok(found.kind.to_owned()),
            Ok(None) => Err(format!("{node} holds no known file system; mkfs.ext4 makes one")),
            Err(e) => Err(format!("{node} cannot be read: {e}")),
        }
    }

    /// Looks for the layers, each in the first directory that has it.
    fn find_layers(&mut self, names: Vec<String>, roots: &[String], retained: Option<String>) {
        let find = |name: String| {
            if name == ITSELF {
                let path = roots.first().cloned().unwrap_or_default();
                return LayerFile { name, path, kind: LayerKind::Directory, identity: "base".to_owned() };
            }
            let at = |root: &String| find(self.system, root, &name);
            roots.iter().find_map(at).unwrap_or(LayerFile {
                name,
                path: String::new(),
                kind: LayerKind::Missing,
                identity: String::new(),
            })
        };
        let found: Vec<LayerFile> = names.into_iter().map(find).collect();
        let there = |dir: &String| self.system.stat(Path::new(dir)).is_ok_and(|info| info.kind == FileKind::Directory);
        let layers = &mut self.facts.attempt.layers;
        layers.retained = retained.filter(there);
        layers.found = Some(found);
        layers.memory = memory(self.system);
    }

    fn mount_layer(&mut self, file: &LayerFile, check: Option<&Check>) -> Result<(), Failure> {
        let at = place(&file.name);
        let target = Path::new(&at);
        let start = self.system.now();
        let _ = self.system.unmount(target, true);
        let path = Path::new(&file.path);
        let failed = |e: io::Error| layer_not_mounted(file, &e.to_string());
        self.system.make_dirs(target).map_err(failed)?;
        let node = match (&file.kind, check) {
            (LayerKind::Image { fstype, .. }, Some(check)) => Some(self.mount_checked(file, fstype, check)?),
            (LayerKind::Image { fstype, .. }, None) => {
                Some(self.system.mount_image(path, target, fstype).map_err(failed)?)
            }
            _ => {
                self.system.bind(path, target, true).map_err(failed)?;
                None
            }
        };
        let by = node.map(|node| format!(", by {node}")).unwrap_or_default();
        self.log.info(format!("layer {} is {}{by}", file.name, file.path));
        let took = self.system.now().saturating_sub(start);
        if took > Duration::from_secs(1) {
            self.log.info(format!("mounting layer {} took {} ms", file.name, took.as_millis()));
        }
        self.facts.attempt.layers.mounted.insert(file.name.clone());
        self.nested_image(target).map_or(Ok(()), |inner| Err(nested_image(file, inner)))
    }

    /// Makes the directories of the upper.
    fn make_upper(&mut self, dirs: UpperDirs, whiteout: bool) {
        let (upper, work) = (Path::new(&dirs.upper), Path::new(&dirs.work));
        let made = self.system.make_dirs(upper).and_then(|()| self.system.make_dirs(work));
        let probed = || {
            let result = if whiteout { self.system.probe_whiteout(work) } else { Ok(()) };
            result.map_err(|e| {
                format!(
                    "no whiteout can be made on it ({e}), so it cannot be an upper: OpenZFS can since 2.2; \
                     taproot.upper=zvol:POOL/NAME takes a zvol with a file system in it"
                )
            })
        };
        match made.map_err(|e| format!("{}: {e}", upper.display())).and_then(|()| probed()) {
            Ok(()) => self.facts.attempt.layers.upper = Some(dirs),
            Err(why) => self.without_upper(why),
        }
    }

    /// The upper cannot be had: whoever loses what is written then is to know.
    pub(super) fn without_upper(&mut self, why: String) {
        self.trouble(format!("the upper that is asked for cannot be had: {why}"));
        let _ = self.system.unmount(Path::new(UPPER), true);
        self.facts.attempt.layers.without_upper(why);
    }

    fn mount_overlay(&mut self, root: LayeredRoot) -> Result<(), Failure> {
        let _ = self.system.unmount(&self.new_root, true);
        self.look_for_state();
        let start = self.system.now();
        let result = self.system.make_dirs(&self.new_root).and_then(|()| self.try_overlay(&root));
        result.map_err(|e| not_overlaid(&root, &e.to_string()))?;
        let layers = Root::Layers(Box::new(root.clone()));
        let step = mounts::root_step(&layers, &self.request);
        if self.facts.attempt.layers.no_upper.is_empty() {
            self.log.info(format!("mounted {} on / ({})", root.name, step.why));
        } else {
            self.trouble(format!("the root's upper is not the one that is asked for, but {}", root.upper));
        }
        self.report.root = Some(root.name.clone());
        if let Some(settings) = &self.request.layers {
            self.report.layers = Some(LayersDone::new(settings, &self.facts.attempt.layers, &root));
        }
        let by = if root.read_only { "read-only" } else { "overlay" };
        self.report.protected = vec![Protected { directory: "/".to_owned(), by }];
        self.part_done(step, start);
        if root.places {
            self.show_places(&root);
        }
        if let Some(live) = self.request.layers.as_ref().and_then(|layers| layers.live.clone()) {
            self.show_live_places(&live, &root);
        }
        self.facts.overlay_mounted(root);
        Ok(())
    }

    /// The layers are those that the command line lists, whatever a state file says.
    fn look_for_state(&mut self) {
        if self.facts.attempt.layers.entered.is_some() {
            return;
        }
        let on_base = |asked: &LayerSettings| is_on_base(&asked.upper.value);
        let top = match self.request.layers.as_ref().is_none_or(on_base) {
            true => BASE,
            false if self.facts.attempt.layers.no_upper.is_empty() => UPPER,
            false => return,
        };
        let path = format!("{top}/{STATE_DIR}/state");
        if self.system.exists(Path::new(&path)) {
            self.log.info(format!(
                "the command line lists the layers: {path} is left as it is, and nothing under way there goes on"
            ));
            self.facts.attempt.layers.overridden = Some(path);
        }
    }

    fn try_overlay(&self, root: &LayeredRoot) -> io::Result<()> {
        let overlay = &root.overlay;
        if let (None, [only]) = (&overlay.upper, overlay.lowers.as_slice()) {
            // An overlay of one is none.
            return self.system.bind(Path::new(only), &self.new_root, true);
        }
        let mount = OverlayMount {
            lowers: overlay.lowers.iter().map(PathBuf::from).collect(),
            upper: overlay.upper.as_ref().map(|dirs| (PathBuf::from(&dirs.upper), PathBuf::from(&dirs.work))),
            options: overlay.options.clone(),
            if_known: overlay.if_known.clone(),
        };
        self.system.mount_overlay(&mount, &self.new_root)
    }

    /// Shows the parts where RuckusRD has them. Directories for that are not made in the root, where they would be part of the
    /// upper: if they lack, they are made in a file system in memory that covers an empty `/mnt`.
    fn show_places(&mut self, root: &LayeredRoot) {
        let facts = &self.facts.attempt.layers;
        let mut places = Vec::new();
        places.extend((!facts.released.contains(BASE)).then(|| ("root-true".to_owned(), BASE.to_owned())));
        let device = facts.device && !facts.released.contains(DEVICE);
        places.extend(device.then(|| ("sqsh_layerdev".to_owned(), DEVICE.to_owned())));
        places.extend(facts.upper_mounted.then(|| ("upper".to_owned(), UPPER.to_owned())));
        places.extend(facts.retained.clone().map(|path| ("sqsh_layer-upper".to_owned(), path)));
        let images = root.layers.iter().filter(|name| *name != ITSELF);
        places.extend(images.map(|name| (format!("sqsh_layer-{name}"), place(name))));
        if let Err(why) = self.try_places(&places) {
            self.trouble(format!("the parts of the root are not shown in /mnt, but below /run/taproot only: {why}"));
        }
    }

    fn try_places(&self, places: &[(String, String)]) -> Result<(), String> {
        let system = self.system;
        let mnt = resolve(system, &self.new_root, Path::new("/mnt")).map_err(|e| e.to_string())?;
        let directory = |path: &Path| system.stat(path).is_ok_and(|info| info.kind == FileKind::Directory);
        if !places.iter().all(|(name, _)| directory(&mnt.join(name))) {
            match system.list(&mnt) {
                Ok(names) if names.is_empty() => {}
                Ok(_) => return Err("it is not empty, and lacks the directories for them".to_owned()),
                Err(e) => return Err(e.to_string()),
            }
            system.mount("taproot-places", &mnt, "tmpfs", 0, "mode=0755,size=256k").map_err(|e| e.to_string())?;
        }
        for (name, from) in places {
            let target = mnt.join(name);
            let shown = system.make_dirs(&target).and_then(|()| system.bind(Path::new(from), &target, false));
            shown.map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    /// Takes away what an attempt has mounted for a layered root: its pools may have to be exported.
    pub(super) fn clear_layers(&mut self) {
        self.clear_live();
        self.clear_images();
        let LayerFacts {
            base,
            device,
            mounted,
            upper_mounted,
            uppers_mounted,
            kept,
            integrity,
            parts: others,
            media,
            ..
        } = std::mem::take(&mut self.facts.attempt.layers);
        if base.is_none() {
            return;
        }
        self.report.root_left();
        let _ = self.system.unmount(&self.new_root, true);
        let mut parts = media.places();
        parts.extend(others);
        parts.extend(kept.then(|| KEPT.to_owned()));
        for name in &mounted {
            let _ = self.system.unmount(Path::new(&place(name)), true);
        }
        // They lie on what comes next.
        self.unmap_layers(&integrity.mapped);
        parts.extend(upper_mounted.then(|| UPPER.to_owned()));
        parts.extend(uppers_mounted.then(|| UPPERS.to_owned()));
        parts.extend(device.then(|| DEVICE.to_owned()));
        parts.extend([RAM, BASE].map(str::to_owned));
        for part in parts {
            release(self.system, Path::new(&part));
        }
        self.log.debug(format!("what was mounted below {LAYERS} is taken away"));
    }
}

/// A file in a directory of a part. Links in it do not lead out of the file system that it is on.
pub(super) fn inside(system: &dyn System, root: &str, file: &str) -> Option<(FileInfo, PathBuf)> {
    let part = if root.starts_with(DEVICE) { DEVICE } else { BASE };
    let within = Path::new("/").join(root.strip_prefix(part).unwrap_or_default().trim_start_matches('/'));
    let path = resolve(system, Path::new(part), &within.join(file)).ok()?;
    Some((system.stat(&path).ok()?, path))
}

/// What a layer's name leads to in a directory.
fn find(system: &dyn System, root: &str, name: &str) -> Option<LayerFile> {
    let at = |file: String| inside(system, root, &file);
    let file = |(info, path): (FileInfo, PathBuf)| {
        let empty = |path: &Path| system.list(path).is_ok_and(|names| names.is_empty());
        let (kind, identity) = match info.kind {
            FileKind::Directory if empty(&path) => (LayerKind::Directory, EMPTY.to_owned()),
            FileKind::Directory => (LayerKind::Directory, "directory".to_owned()),
            FileKind::File => kind_of(system, &path, info.size),
            FileKind::Block { .. } | FileKind::Other => {
                (LayerKind::Unknown { why: "it is no file".to_owned() }, String::new())
            }
        };
        LayerFile { name: name.to_owned(), path: path.display().to_string(), kind, identity }
    };
    let images = ENDINGS.iter().filter_map(|ending| at(format!("{name}{ending}")));
    // A directory, or an image that is named with its ending, as those of live media are.
    let itself =
        || at(name.to_owned()).filter(|(info, _)| !matches!(info.kind, FileKind::Block { .. } | FileKind::Other));
    images.map(file).next().or_else(|| itself().map(file))
}

/// What a file is, and what tells it from others: its superblock, which has its size and when it was made.
pub(super) fn kind_of(system: &dyn System, path: &Path, size: u64) -> (LayerKind, String) {
    let mut head = [0; SEALED_HEAD];
    match system.read_at(path, 0, &mut head) {
        Err(e) => (LayerKind::Unknown { why: format!("it cannot be read: {e}") }, String::new()),
        Ok(len) => {
            let head = head.get(..len).unwrap_or_default();
            let kind = match sealed(head) {
                Some(Sealed { kind, bytes, .. }) => LayerKind::Image { fstype: kind.to_owned(), needs: bytes, size },
                None => LayerKind::Unknown { why: format!("it has {size} bytes and is neither squashfs nor erofs") },
            };
            (kind, lowers::identity(head, size))
        }
    }
}

/// `/proc/meminfo`, which counts in KiB.
pub(super) fn memory(system: &dyn System) -> Option<Memory> {
    let text = system.text("/proc/meminfo");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1 << 10)
    };
    Some(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}
