//! Steps with what is kept on media of its own: they are mounted and read, and directories of the root are made to lie on them.

use super::Boot;
use crate::cmdline::UpperFallback;
use crate::devices::probe::superblock;
use crate::plan::failure::Failure;
use crate::plan::kept::{Keep, Medium, MediumFile, together};
use crate::plan::layers::{MEDIA, Overlay};
use crate::plan::next::{KeptStep, Mount, not_kept};
use crate::plan::options::MountOptions;
use crate::plan::persistence::{self, How};
use crate::report::boot::KeptDone;
use crate::report::slow;
use crate::sys::beneath::resolve;
use crate::sys::{FileKind, OverlayMount, System};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a medium says about itself.
const CONF: &str = "/persistence.conf";
/// Where live systems have their media.
const LIVE: &str = "/run/live/persistence";
/// Files of one directory that links are made to; more are a mistake.
const LINKS_MAX: usize = 100_000;
/// The first person's user and group, whose directories live systems make.
const PERSON: u32 = 1000;
/// Between two lines that tell of a copy.
const TELL: Duration = Duration::from_secs(5);

impl Boot<'_> {
    pub(super) fn kept_step(&mut self, step: KeptStep) -> Result<(), Failure> {
        match step {
            KeptStep::Mount { key, mount } => {
                let mounted = self.mount_aside(&mount);
                self.medium(key, &mount, mounted);
            }
            KeptStep::Refuse { key, why } => self.no_medium(key, why),
            KeptStep::Search { node, mount, place, files } => self.search(node, mount.as_deref(), &place, &files),
            KeptStep::Host { node, mount } => {
                let mounted = self.mount_aside(&mount).map_err(|e| e.to_string());
                self.facts.attempt.layers.media.hosts.insert(node, mounted);
            }
            KeptStep::MountFile { key, file, mount } => {
                let mounted = self.mount_file(&file, &mount);
                self.medium(key, &mount, mounted);
            }
            KeptStep::Settle { root } => self.settle_kept(root),
            KeptStep::DoWithout { why, upper } => {
                self.trouble(format!("NOTHING IS KEPT of what is written: {why}"));
                let layers = &mut self.facts.attempt.layers;
                layers.media.keeping = Some(together(std::iter::empty(), false));
                if upper {
                    layers.without_upper(why);
                }
            }
            KeptStep::Keep(keep) => self.keep(&keep)?,
        }
        Ok(())
    }

    /// Mounts outside of the root.
    fn mount_aside(&self, mount: &Mount) -> io::Result<()> {
        let Mount { step, source, fstype } = mount;
        let target = Path::new(&step.target);
        if step.options.flags & libc::MS_REMOUNT == 0 {
            // What an earlier attempt left there.
            let _ = self.system.unmount(target, true);
            self.system.make_dirs(target)?;
        }
        slow::mount(self.system, self.log, (source, target, fstype), step.options.flags, &step.options.data)
    }

    fn mount_file(&self, file: &str, mount: &Mount) -> io::Result<()> {
        let Mount { step, fstype, .. } = mount;
        let target = Path::new(&step.target);
        let _ = self.system.unmount(target, true);
        self.system.make_dirs(target)?;
        let MountOptions { flags, data } = &step.options;
        let node = self.system.mount_file(Path::new(file), target, fstype, *flags, data)?;
        self.log.debug(format!("{file} is on {node}"));
        Ok(())
    }

    /// What a medium keeps, if it is mounted.
    fn medium(&mut self, key: String, mount: &Mount, mounted: io::Result<()>) {
        let place = mount.step.target.clone();
        if let Err(e) = mounted {
            return self.no_medium(key, format!("mounting it failed: {e}"));
        }
        let read_only = mount.step.options.flags & libc::MS_RDONLY != 0;
        let text = resolve(self.system, Path::new(&place), Path::new(CONF))
            .and_then(|path| self.system.read(&path, persistence::MAX));
        match text {
            Ok(text) => {
                let conf = persistence::parse(&String::from_utf8_lossy(&text));
                self.log.info(format!("mounted {key} on {place} ({})", mount.step.why));
                self.part_done(mount.step.clone(), self.system.now());
                let medium = Medium { name: key.clone(), place, conf, read_only };
                self.facts.attempt.layers.media.media.insert(key, Ok(medium));
            }
            Err(e) => {
                let _ = self.system.unmount(Path::new(&place), false);
                let why = match e.kind() {
                    io::ErrorKind::NotFound => {
                        "it has no persistence.conf in its topmost directory, which says what is kept: a line `/ union` \
                         keeps everything, `/home union` a directory"
                            .to_owned()
                    }
                    _ => format!("its persistence.conf cannot be read: {e}"),
                };
                self.no_medium(key, why);
            }
        }
    }

    fn no_medium(&mut self, key: String, why: String) {
        self.trouble(format!("nothing is kept on {key}: {why}"));
        self.facts.attempt.layers.media.media.insert(key, Err(why));
    }

    /// Which of these files a file system has. It is mounted read-only for that, and not for longer.
    fn search(&mut self, node: String, mount: Option<&Mount>, place: &str, files: &[String]) {
        let mut found = Vec::new();
        if let Err(e) = mount.map_or(Ok(()), |mount| self.mount_aside(mount)) {
            self.log.info(format!("{node} is not searched for {}: {e}", files.join(", ")));
        } else {
            found.extend(files.iter().filter_map(|path| medium_file(self.system, place, path)));
            if mount.is_some() {
                let _ = self.system.unmount(Path::new(place), false);
            }
        }
        self.facts.attempt.layers.media.searched.insert(node, found);
    }

    fn settle_kept(&mut self, root: bool) {
        let keeping = together(self.facts.attempt.layers.media.media.values().flatten(), root);
        for warning in &keeping.warnings {
            self.trouble(warning.clone());
        }
        self.facts.attempt.layers.media.keeping = Some(keeping);
        // Programs of live systems look there.
        let live = Path::new(LIVE);
        if !self.system.exists(live) {
            let dir = live.parent().map_or(Ok(()), |dir| self.system.make_dirs(dir));
            if let Err(e) = dir.and_then(|()| self.system.symlink(Path::new(MEDIA), live)) {
                self.log.warn(format!("media are not shown in {LIVE}, but in {MEDIA} only: {e}"));
            }
        }
    }

    fn keep(&mut self, keep: &Keep) -> Result<(), Failure> {
        let start = self.system.now();
        let result = self.try_keep(keep);
        let placed = &keep.placed;
        let dir = placed.kept.dir.clone();
        self.facts.attempt.layers.media.done.insert(dir.clone());
        let error = result.as_ref().err().map(ToString::to_string);
        let (medium, how) = (placed.medium.clone(), placed.kept.how);
        self.report.kept.retain(|done| done.dir != dir);
        self.report.kept.push(KeptDone {
            dir: dir.clone(),
            how,
            medium,
            source: placed.source(),
            error: error.clone(),
        });
        let Some(why) = error else {
            self.log.info(format!("{dir} lies on {} ({})", placed.medium, keep.why));
            if how != How::Link {
                self.part_done(keep.mount(), start);
            }
            return Ok(());
        };
        if keep.otherwise == UpperFallback::Fail {
            return Err(not_kept(keep, &why));
        }
        self.trouble(format!("WHAT IS WRITTEN TO {dir} IS NOT KEPT on {} ({}): {why}", placed.medium, keep.why));
        if keep.otherwise == UpperFallback::ReadOnly {
            let protected = resolve(self.system, &self.new_root, Path::new(&dir))
                .and_then(|target| self.system.bind(&target, &target, true));
            if let Err(e) = protected {
                self.trouble(format!("{dir} could not be made read-only: {e}"));
            }
        }
        Ok(())
    }

    fn try_keep(&self, keep: &Keep) -> io::Result<()> {
        let system = self.system;
        let placed = &keep.placed;
        if placed.place.is_empty() {
            return Err(io::Error::other("nothing takes what is written to the root, so nothing can lie beside that"));
        }
        let target = self.mount_point(&placed.kept.dir)?;
        if !placed.read_only {
            system.make_dirs(Path::new(&placed.place))?;
        }
        let source = resolve(system, Path::new(&placed.place), &Path::new("/").join(&placed.kept.source))?;
        match (placed.kept.how, placed.read_only) {
            (How::Union, false) => self.union(keep, &source, &target),
            (How::Union, true) => {
                let mut lowers = self.parts_of(keep, &target)?;
                lowers.insert(0, source.join("rw"));
                self.over(keep, lowers, &target)
            }
            (How::Bind, false) => {
                if !system.exists(&source) {
                    self.fill(&target, &source)?;
                }
                system.bind(&source, &target, false)
            }
            (How::Bind, true) => self.over(keep, vec![source], &target),
            (How::Link, _) => self.link(&target, &source),
        }
    }

    /// Where a directory of the root is, made if no layer has it.
    fn mount_point(&self, dir: &str) -> io::Result<PathBuf> {
        let target = resolve(self.system, &self.new_root, Path::new(dir))?;
        match self.system.stat(&target).map(|info| info.kind) {
            Ok(FileKind::Directory) => Ok(target),
            Ok(_) => Err(io::Error::other("the root has something there that is no directory")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.system.make_dirs(&target)?;
                // As on live systems: the person of a system that is set up later.
                if dir.starts_with("/home/") {
                    self.system.give(&target, PERSON, PERSON)?;
                }
                Ok(target)
            }
            Err(e) => Err(e),
        }
    }

    /// Fills a directory from the root, the first time.
    fn fill(&self, target: &Path, source: &Path) -> io::Result<()> {
        source.parent().map_or(Ok(()), |parent| self.system.make_dirs(parent))?;
        let name = target.strip_prefix(&self.new_root).unwrap_or(target).display().to_string();
        let mut tell = |took: Duration| {
            if self.system.now().saturating_sub(self.log.last()) >= TELL {
                self.log.warn(format!("filling {} from /{name}: {} s so far", source.display(), took.as_secs()));
            }
        };
        let mut result = Ok(());
        self.system.watched(TELL, &mut tell, &mut || result = self.system.copy_dir(target, source, true));
        if result.is_ok() {
            self.log.info(format!("filled {} from /{name}, which is done once", source.display()));
        }
        result
    }

    /// An overlay whose upper is on the medium.
    fn union(&self, keep: &Keep, source: &Path, target: &Path) -> io::Result<()> {
        let system = self.system;
        let lowers = self.parts_of(keep, target)?;
        let (upper, work) = (source.join("rw"), source.join("work"));
        system.make_dirs(source)?;
        if !system.exists(&upper) {
            // Its owner and mode are what the directory has from then on.
            system.copy_dir(target, &upper, false)?;
        }
        if lowers.is_empty() {
            return system.bind(&upper, target, false);
        }
        system.make_dirs(&work)?;
        system.probe_whiteout(&work).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("no whiteout can be made there ({e}), so it cannot take what a union needs"),
            )
        })?;
        system.mount_overlay(&overlay(keep, lowers, Some((upper, work))), target)
    }

    /// An overlay whose upper is in memory; without that, none.
    fn over(&self, keep: &Keep, lowers: Vec<PathBuf>, target: &Path) -> io::Result<()> {
        let system = self.system;
        if !lowers.first().is_some_and(|first| system.exists(first)) {
            self.log.info(format!("{} has nothing of {} yet", keep.placed.medium, keep.placed.kept.dir));
            return Ok(());
        }
        let number = self.facts.attempt.layers.media.done.len();
        let upper = match &keep.memory {
            None => None,
            Some(dir) => {
                let dir = Path::new(dir).join(number.to_string());
                system.make_dirs(&dir.join("work"))?;
                // Its owner and mode are what the directory has.
                let first = lowers.first().map_or(target, PathBuf::as_path);
                system.copy_dir(first, &dir.join("rw"), false)?;
                Some((dir.join("rw"), dir.join("work")))
            }
        };
        if let (None, [only]) = (&upper, lowers.as_slice()) {
            return system.bind(only, target, true);
        }
        system.mount_overlay(&overlay(keep, lowers, upper), target)
    }

    /// What of the layers a directory consists of.
    fn parts_of(&self, keep: &Keep, target: &Path) -> io::Result<Vec<PathBuf>> {
        let dir = target.strip_prefix(&self.new_root).map_err(io::Error::other)?;
        parts_of(self.system, &keep.overlay.lowers, dir)
    }

    /// Links in the root to each file below a directory of the medium.
    fn link(&self, target: &Path, source: &Path) -> io::Result<()> {
        let system = self.system;
        let (mut todo, mut count) = (vec![PathBuf::new()], 0);
        while let Some(dir) = todo.pop() {
            for name in system.list(&source.join(&dir))? {
                count += 1;
                if count > LINKS_MAX {
                    return Err(io::Error::other(format!("there are more than {LINKS_MAX} files to be linked")));
                }
                let path = dir.join(name);
                let (from, to) = (source.join(&path), target.join(&path));
                let is_link = system.read_link(&from).is_ok();
                if !is_link && system.stat(&from)?.kind == FileKind::Directory {
                    if !system.exists(&to) {
                        system.copy_dir(&from, &to, false)?;
                    }
                    todo.push(path);
                } else if system.read_link(&to).ok().as_deref() != Some(&from) {
                    match system.remove(&to) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                        _ => system.symlink(&from, &to)?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// An overlay with the root's options.
fn overlay(keep: &Keep, lowers: Vec<PathBuf>, upper: Option<(PathBuf, PathBuf)>) -> OverlayMount {
    let Overlay { options, if_known, .. } = keep.overlay.clone();
    OverlayMount { lowers, upper, options, if_known }
}

/// What of the layers a directory consists of, the topmost first: what an overlay of the whole layers would merge.
fn parts_of(system: &dyn System, lowers: &[String], dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for lower in lowers {
        let (mut at, mut there, mut last) = (PathBuf::from(lower), true, false);
        for part in dir.components() {
            at.push(part);
            // A link is none of the directory that a layer above has.
            let kind =
                if system.read_link(&at).is_ok() { Ok(FileKind::Other) } else { system.stat(&at).map(|i| i.kind) };
            match kind {
                Ok(FileKind::Directory) => last |= system.is_opaque(&at),
                // A whiteout, or something else that hides what is below it.
                Ok(_) => return Ok(parts),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    there = false;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        if there {
            parts.push(at);
        }
        if last {
            break;
        }
    }
    Ok(parts)
}

/// A file that may be a medium, if there is one.
fn medium_file(system: &dyn System, place: &str, path: &str) -> Option<MediumFile> {
    let at = resolve(system, Path::new(place), &Path::new("/").join(path)).ok()?;
    let info = system.stat(&at).ok().filter(|info| info.kind == FileKind::File)?;
    let mut read = |offset: u64, buf: &mut [u8]| match system.read_at(&at, offset, buf) {
        Ok(len) if len == buf.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(e) => Err(e),
    };
    let fstype = match superblock(&mut read, info.size) {
        Ok(Some(found)) => Ok(found.kind.to_owned()),
        Ok(None) => Err("it holds no known file system; mkfs.ext4 makes one in it".to_owned()),
        Err(e) => Err(format!("it cannot be read: {e}")),
    };
    let path = at.strip_prefix(place).ok()?.display().to_string();
    Some(MediumFile { path, fstype })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn a_directory_is_merged_as_the_whole_layers_would_be() {
        let tree = Tree::new()
            .with("/l/top/etc/a", "")
            .with("/l/other/usr/x", "")
            .with("/l/covers/var", "a file")
            .with("/l/base/etc/b", "")
            .with("/l/base/var/lib/c", "")
            .with_link("/usr", "/l/linked/etc");
        let of = |layers: &[&str], dir: &str| -> Vec<String> {
            let lowers: Vec<String> = layers.iter().map(|name| format!("/l/{name}")).collect();
            let parts = parts_of(&tree, &lowers, Path::new(dir)).unwrap();
            parts.iter().map(|part| part.display().to_string()).collect()
        };
        assert_eq!(of(&["top", "other", "base"], "etc"), ["/l/top/etc", "/l/base/etc"]);
        assert_eq!(of(&["top", "covers", "base"], "var/lib"), [""; 0], "what is no directory hides what is below");
        assert_eq!(of(&["top", "linked", "base"], "etc"), ["/l/top/etc"]);
        assert_eq!(of(&["top", "base"], "var/lib"), ["/l/base/var/lib"]);
    }
}
