//! Layers that must be as they were sealed: what that takes is read, they are checked, and mounted as what was checked.

use super::Boot;
use super::layers::inside;
use super::release::patiently;
use crate::devices::verity::{Digest, HEAD_LEN, SUPERBLOCK_LEN, Superblock, Table, appended_at, root_hash};
use crate::firmware::{self, Variables};
use crate::plan::failure::Failure;
use crate::plan::layerlist::{KEY_SUFFIX, KEYS_DIR, MAX_BYTES, MAX_KEYS, PublicKey, Serials};
use crate::plan::layers::{ENDINGS, LayerFile, LayerKind, place};
use crate::plan::next::layers::integrity::{
    Beside, Check, Disbelief, TreeCheck, TreeFile, believed, forgotten, older, unchecked,
};
use crate::report::slow;
use crate::sys::Attached;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where lists that were seen are kept: [`Serials`]. Among the firmware's variables, which no medium can bring back;
const VARIABLE: &str = "TaprootLayerLists-d183a6f0-858f-4934-8896-38511ede5805";
/// and where there are none, beside the upper and its work directory.
const SERIALS: &str = "layer-lists";
/// Behind the name of a layer: its tree, and its sum.
const TREE: &str = ".verity";
const SUM: &str = ".sha256";
/// Bytes of a file with a key, or with a sum.
const SHORT: usize = 4096;
/// Bytes of a layer's name in that of its device: cryptsetup's tools want a UUID of at most 128 bytes with all of it.
const NAME: usize = 48;
/// How many devices of one layer may be left of earlier attempts.
const DEVICES: usize = 16;
/// Between two looks whether it is to be told how far a check has come, and between two such lines.
const TICK: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(4);

impl Boot<'_> {
    /// The keys in the image.
    pub(super) fn read_keys(&mut self) {
        let dir = Path::new(KEYS_DIR);
        let names = match self.system.list(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|e| format!("{KEYS_DIR}: {e}")),
        };
        let key = |name: String| {
            let bytes = self.system.read(&dir.join(&name), SHORT).map_err(|e| format!("{name}: {e}"))?;
            PublicKey::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| format!("{name}: {e}"))
        };
        let keys = names.and_then(|names| {
            names.into_iter().filter(|name| name.ends_with(KEY_SUFFIX)).take(MAX_KEYS).map(key).collect()
        });
        self.facts.attempt.layers.integrity.keys = Some(keys);
    }

    /// The signed list, from the first directory that has it.
    pub(super) fn read_list(&mut self, file: &str, roots: &[String]) {
        let found = roots.iter().find_map(|root| inside(self.system, root, file));
        let bytes = match found {
            None => Err(Disbelief::Missing),
            Some((_, path)) => self.system.read(&path, MAX_BYTES + 1).map_err(|e| Disbelief::Unreadable(e.to_string())),
        };
        let keys = self.facts.attempt.layers.integrity.keys.clone().and_then(Result::ok).unwrap_or_default();
        let seen = self.firmware_serials().map(|serials| serials.and_then(|serials| serials.last(file)));
        let list = believed(&keys, bytes, seen);
        if let Ok(list) = &list {
            self.log.info(format!("the layers are those of the signed list {file}, number {}", list.serial));
        }
        self.facts.attempt.layers.integrity.list = Some(list);
    }

    /// What the firmware keeps; `None` if this machine has no such firmware.
    fn firmware_serials(&self) -> Result<Option<Serials>, String> {
        if !firmware::present(self.system) {
            return Ok(None);
        }
        let kept = Variables::open(self.system).and_then(|variables| variables.read(VARIABLE));
        let kept = kept.map_err(|e| format!("the firmware's variables: {e}"))?;
        Serials::parse(&kept.unwrap_or_default()).map(Some)
    }

    /// Keeps the number of the list that is booted by.
    pub(super) fn keep_serial(&mut self, file: &str, serial: u64, dir: Option<&str>) -> Result<(), Failure> {
        let kept = if firmware::present(self.system) {
            self.keep_in_firmware(file, serial)
        } else if let Some(dir) = dir {
            self.keep_beside_upper(file, serial, &Path::new(dir).join(SERIALS))?
        } else {
            Err("this machine's firmware keeps no variables, and the upper is on no disk".to_owned())
        };
        if let Err(why) = kept {
            self.trouble(format!(
                "that list {serial} of layers was seen is not kept, so an older one could be brought back: {why}"
            ));
        }
        self.facts.attempt.layers.integrity.kept = true;
        Ok(())
    }

    fn keep_in_firmware(&self, file: &str, serial: u64) -> Result<(), String> {
        let serials = self.firmware_serials()?.unwrap_or_default();
        let Some(new) = serials.with(file, serial) else { return Ok(()) };
        let written =
            Variables::open(self.system).and_then(|variables| variables.write(VARIABLE, new.render().as_bytes()));
        written.map_err(|e| format!("the firmware's variables: {e}"))
    }

    /// The outer error is that a newer list was seen.
    fn keep_beside_upper(&self, file: &str, serial: u64, path: &Path) -> Result<Result<(), String>, Failure> {
        let Some(asked) = self.request.layers.as_ref().map(|layers| &layers.integrity) else { return Ok(Ok(())) };
        let shown = path.display();
        let kept = match self.system.read(path, Serials::MAX_BYTES + 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Serials::default()),
            Err(e) => Err(format!("{shown}: {e}")),
            Ok(bytes) => Serials::parse(&bytes).map_err(|e| format!("{shown}: {e}")),
        };
        let serials = match kept {
            Ok(serials) => serials,
            Err(why) => return Err(forgotten(asked, &why)),
        };
        if let Some(last) = serials.last(file).filter(|last| *last > serial) {
            return Err(older(asked, serial, last));
        }
        let Some(new) = serials.with(file, serial) else { return Ok(Ok(())) };
        Ok(self.system.save(path, new.render().as_bytes()).map_err(|e| format!("{shown}: {e}")))
    }

    /// The tree of a layer, and its sum.
    pub(super) fn look_beside(&mut self, file: &LayerFile) {
        let beside = Beside { tree: self.tree_of(file), sum: self.sum_of(file) };
        self.facts.attempt.layers.integrity.beside.insert(file.name.clone(), beside);
    }

    /// In a file of its own, or at the image's end.
    fn tree_of(&self, file: &LayerFile) -> Option<TreeFile> {
        let read = |path: &Path, at: u64, len: usize| {
            let mut bytes = vec![0; len];
            let n = self.system.read_at(path, at, &mut bytes).unwrap_or_default();
            bytes.truncate(n);
            bytes
        };
        let own = beside(file, TREE);
        if let Ok(info) = self.system.stat(&own) {
            let superblock = Superblock::parse(&read(&own, 0, SUPERBLOCK_LEN));
            return Some(TreeFile { path: Some(own.display().to_string()), at: 0, len: info.size, superblock });
        }
        let image = Path::new(&file.path);
        let LayerKind::Image { size, .. } = file.kind else { return None };
        let at = appended_at(&read(image, 0, HEAD_LEN))?;
        let superblock = Superblock::parse(&read(image, at, SUPERBLOCK_LEN));
        Some(TreeFile { path: None, at, len: size, superblock })
    }

    fn sum_of(&self, file: &LayerFile) -> Option<Result<Digest, String>> {
        let path = beside(file, SUM);
        let bytes = match self.system.read(&path, SHORT) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => return Some(Err(format!("{}: {e}", path.display()))),
            Ok(bytes) => bytes,
        };
        let text = String::from_utf8_lossy(&bytes);
        let digits = text.split_whitespace().next().unwrap_or_default();
        // The same 64 digits as those of a root hash.
        let sum = root_hash(digits).map_err(|_| format!("{}: expected 64 hexadecimal digits", path.display()));
        Some(sum)
    }

    /// Checks a layer and mounts what was checked: the device that was read is the one that is mounted.
    pub(super) fn mount_checked(&mut self, file: &LayerFile, fstype: &str, check: &Check) -> Result<String, Failure> {
        let why = match check {
            Check::Tree(tree) => &tree.why,
            Check::Sum { why, .. } => why,
        };
        let mut attached = Vec::new();
        let result = match check {
            Check::Tree(tree) => self.mount_tree(file, fstype, tree, &mut attached),
            Check::Sum { sum, .. } => self.mount_summed(file, fstype, *sum, &mut attached),
        };
        for node in attached {
            // It goes with its last user, or now.
            let _ = self.system.detach_loop(&node);
        }
        result.map_err(|wrong| unchecked(file, why, &wrong))
    }

    fn attach(&self, path: &Path, attached: &mut Vec<PathBuf>) -> Result<Attached, String> {
        let device = self.system.attach_image(path).map_err(|e| format!("{}: no loop device: {e}", path.display()))?;
        attached.push(device.node.clone());
        Ok(device)
    }

    fn mount_summed(
        &self,
        file: &LayerFile,
        fstype: &str,
        sum: Digest,
        attached: &mut Vec<PathBuf>,
    ) -> Result<String, String> {
        let path = Path::new(&file.path);
        let device = self.attach(path, attached)?;
        let mut hasher = Sha256::new();
        let read = self.read_whole(file, &device.node, &mut |piece| hasher.update(piece));
        let read = read.map_err(|(at, e)| format!("it cannot be read behind {at} bytes: {e}"))?;
        // A loop device has whole sectors alone; what is behind the last one is not mounted, and counts.
        let mut rest = vec![0; SUPERBLOCK_LEN];
        let n = self.system.read_at(path, read, &mut rest).map_err(|e| e.to_string())?;
        hasher.update(rest.get(..n).unwrap_or_default());
        let found = Digest::of(hasher);
        if found != sum {
            return Err(format!("its sum is {found}, expected {sum}"));
        }
        self.log.info(format!("layer {} is what its sum says, {read} bytes", file.name));
        self.mount_device(file, &device.node, fstype)?;
        Ok(device.node.display().to_string())
    }

    fn mount_tree(
        &mut self,
        file: &LayerFile,
        fstype: &str,
        tree: &TreeCheck,
        attached: &mut Vec<PathBuf>,
    ) -> Result<String, String> {
        let data = self.attach(Path::new(&file.path), attached)?;
        let hash = match &tree.path {
            Some(path) => self.attach(Path::new(path), attached)?,
            None => data.clone(),
        };
        let table = Table {
            data: data.number,
            hash: hash.number,
            superblock: &tree.superblock,
            superblock_at: tree.at,
            root: tree.root,
            on_corruption: tree.on_corruption,
        };
        let (name, node) = self.map(file, &table)?;
        let read = if tree.whole {
            self.read_whole(file, &node, &mut |_| ()).map_err(|(at, e)| {
                format!("behind {at} bytes it is not what its tree and the root hash {} say: {e}", tree.root)
            })
        } else {
            Ok(0)
        };
        let mounted = read.and_then(|_| {
            self.mount_device(file, &node, fstype)
                .map_err(|e| format!("{e}; under its tree, with the root hash {}", tree.root))
        });
        if mounted.is_ok() || !self.unmap_layer(&name) {
            self.facts.attempt.layers.integrity.mapped.push(name);
        }
        mounted.map(|()| format!("{} under its hash tree", node.display()))
    }

    /// Makes the device, under a name that no other one has; one of an earlier attempt may still be held.
    fn map(&self, file: &LayerFile, table: &Table<'_>) -> Result<(String, PathBuf), String> {
        let layers = self.facts.attempt.layers.found.iter().flatten();
        let number = layers.take_while(|other| other.name != file.name).count();
        let short: String = file.name.chars().take(NAME).collect();
        let mut name = format!("taproot-{number}-{short}");
        for again in 1..=DEVICES {
            match self.system.map(&table.mapping(&name)) {
                Ok(node) => return Ok((name, node)),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => name = format!("taproot-{number}-{short}.{again}"),
                Err(e) => return Err(format!("the kernel does not make its device: {e}; its log (log) says more")),
            }
        }
        Err(format!("{DEVICES} devices of earlier attempts are still held; reboot"))
    }

    /// Reads a device whole, and tells how far it is; how much was read, also where that failed.
    fn read_whole(&self, file: &LayerFile, node: &Path, take: &mut dyn FnMut(&[u8])) -> Result<u64, (u64, io::Error)> {
        let LayerKind::Image { size, .. } = file.kind else { return Ok(0) };
        let (system, log) = (self.system, self.log);
        let done = AtomicU64::new(0);
        let mut tell = |_: Duration| {
            if system.now().saturating_sub(log.last()) >= EVERY {
                let read = done.load(Ordering::Relaxed) >> 20;
                log.info(format!("checking layer {}: {read} of {} MiB", file.name, size >> 20));
            }
        };
        let mut result = Ok(());
        system.watched(TICK, &mut tell, &mut || {
            result = system.read_image(node, &mut |piece| {
                take(piece);
                done.fetch_add(piece.len() as u64, Ordering::Relaxed);
                true
            });
        });
        let read = done.load(Ordering::Relaxed);
        result.map(|()| read).map_err(|e| (read, e))
    }

    fn mount_device(&self, file: &LayerFile, node: &Path, fstype: &str) -> Result<(), String> {
        let (source, target) = (node.display().to_string(), place(&file.name));
        let what = (source.as_str(), Path::new(&target), fstype);
        slow::mount(self.system, self.log, what, libc::MS_RDONLY, "").map_err(|e| format!("mounting it failed: {e}"))
    }

    /// Removes the devices of an attempt, once nothing of it is mounted any more.
    pub(super) fn unmap_layers(&self, mapped: &[String]) {
        for name in mapped {
            self.unmap_layer(name);
        }
    }

    fn unmap_layer(&self, name: &str) -> bool {
        let gone = patiently(self.system, &|| self.system.unmap(name));
        if let Err(e) = &gone {
            self.log.warn(format!("device-mapper {name} stays, and what it lies on with it: {e}"));
        }
        gone.is_ok()
    }
}

/// What is called like a layer's image, with another ending.
fn beside(file: &LayerFile, ending: &str) -> PathBuf {
    let stem = ENDINGS.iter().find_map(|known| file.path.strip_suffix(known)).unwrap_or(&file.path);
    PathBuf::from(format!("{stem}{ending}"))
}
