//! Steps with an upper that is there already, and with what is mounted in a root that is a layer itself.

use super::Boot;
use crate::plan::layers::{LAYERS, PARTS, escaped};
use crate::plan::lowers;
use crate::plan::next::Mount;
use crate::report::boot::Protected;
use crate::report::slow;
use crate::rescue::mounted;
use crate::sys::{OverlayMount, System};
use std::io;
use std::path::{Path, PathBuf};

/// What moves along with an upper that is set aside.
const OF_UPPER: [&str; 5] = ["upper", "rw", "work", PARTS_OF_UPPER, lowers::NOTE];
/// Uppers of what is mounted in a root that is a layer itself.
const PARTS_OF_UPPER: &str = "parts";
/// What such a directory is called, with a number behind it.
const ASIDE: &str = "old-";

impl Boot<'_> {
    /// Sets the upper that is there aside. One with nothing in it is as good as a fresh one.
    pub(super) fn set_upper_aside(&mut self, dir: &str, word: &str) {
        match set_aside(self.system, Path::new(dir)) {
            Ok(Some(place)) => {
                self.log.warn(format!("the upper that was there is kept in {place}, and a fresh one begun ({word})"));
                self.report.problems.push(format!("the upper that was there is kept in {place} ({word})"));
                self.facts.attempt.layers.set_aside = true;
            }
            Ok(None) => self.facts.attempt.layers.set_aside = true,
            Err(e) => self.without_upper(format!("the one that is there could not be set aside: {e}")),
        }
    }

    /// Notes what lies under the upper; once, where that is something else than before, it is told.
    pub(super) fn note_lowers(&mut self, note: &str, text: &str) {
        self.facts.attempt.layers.noted = true;
        let path = Path::new(note);
        let before = self.system.read(path, lowers::NOTE_MAX).ok();
        let before = before.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if before.as_deref() == Some(text) {
            return;
        }
        if let Some(changes) = before.and_then(|before| lowers::changes(&before, text)) {
            self.trouble(format!(
                "the layers under the upper are not those that it was written over ({changes}); what it hides of them stays \
                 hidden: taproot layer status --hidden lists it, taproot.upper_reset begins a fresh upper and keeps this one"
            ));
        }
        if let Err(e) = self.system.save(path, text.as_bytes()) {
            self.log.warn(format!("{note}: {e}; whether the layers change until the next boot will not be known"));
        }
    }

    /// Mounts something in the root that its overlay does not cover, read-only, and an overlay of its own over it.
    pub(super) fn protect(&mut self, mount: Mount, upper: Option<&str>) {
        let start = self.system.now();
        let result = self.try_protect(&mount, upper);
        let took = self.system.now().saturating_sub(start);
        let Mount { step, .. } = mount;
        let (at, error) = match result {
            Ok((at, by)) => {
                self.log.info(format!("mounted {} on {}, {by} ({})", step.dataset, step.target, step.why));
                self.report.protected.push(Protected { directory: at.clone(), by });
                (Some(at), None)
            }
            Err(e) => {
                self.not_mounted(&step, &e.to_string());
                (None, Some(e.to_string()))
            }
        };
        self.done(step, took, at, error);
    }

    fn try_protect(&mut self, mount: &Mount, upper: Option<&str>) -> io::Result<(String, &'static str)> {
        let Mount { step, source, fstype } = mount;
        let (target, at) = self.place_of(step)?;
        let part = PathBuf::from(format!("{PARTS}/{}", escaped(&step.place)));
        let _ = self.system.unmount(&part, true);
        self.system.make_dirs(&part)?;
        let options = &step.options;
        slow::mount(self.system, self.log, (source, &part, fstype), options.flags, &options.data)?;
        self.facts.attempt.layers.parts.push(part.display().to_string());
        let options = match &self.facts.attempt.root {
            Some(crate::plan::root::Root::Layers(layers)) => layers.overlay.clone(),
            _ => crate::plan::layers::Overlay::default(),
        };
        if let Some(dir) = upper.map(Path::new) {
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            let overlay = OverlayMount {
                lowers: vec![part.clone()],
                upper: Some((upper.clone(), work.clone())),
                options: options.options,
                if_known: options.if_known,
            };
            let made = self.system.make_dirs(&upper).and_then(|()| self.system.make_dirs(&work));
            match made.and_then(|()| self.system.mount_overlay(&overlay, &target)) {
                Ok(()) => return Ok((at, "overlay")),
                // What knows no case, such as FAT, is never a lower.
                Err(e) => self.log.info(format!("{} takes no overlay ({e}), so it is read-only", step.target)),
            }
        }
        self.system.bind(&part, &target, true)?;
        Ok((at, "read-only"))
    }

    /// Takes away what a person mounted of images at the prompt: the file systems that they lie on would be in use.
    pub(super) fn clear_images(&self) {
        let images = mounted::all(self.system).into_iter().filter(|mount| mount.source.starts_with("/dev/loop"));
        for image in images.filter(|mount| !mount.target.starts_with(LAYERS)) {
            let _ = self.system.unmount(&image.target, true);
            self.log.info(format!("{} is unmounted: it was mounted of an image", image.target.display()));
        }
    }
}

/// Moves what belongs to an upper into a directory beside it, which is then an upper as good as before; gives its place.
fn set_aside(system: &dyn System, dir: &Path) -> io::Result<Option<String>> {
    let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let written = |name: &str| match system.list(&dir.join(name)) {
        Err(e) if missing(&e) => Ok(false),
        names => names.map(|names| !names.is_empty()),
    };
    // The second is what it is called on media of live systems. What is mounted in a root can have been written to, and the root not.
    let parts = match system.list(&dir.join(PARTS_OF_UPPER)) {
        Err(e) if missing(&e) => Vec::new(),
        parts => parts?,
    };
    let uppers = parts.iter().map(|part| format!("{PARTS_OF_UPPER}/{part}/upper"));
    let mut uppers = ["upper".to_owned(), "rw".to_owned()].into_iter().chain(uppers);
    if !uppers.try_fold(false, |any, name| Ok::<_, io::Error>(any || written(&name)?))? {
        return Ok(None);
    }
    let taken = system.list(dir)?;
    let number = |name: &String| name.strip_prefix(ASIDE)?.parse::<u32>().ok();
    let number = taken.iter().filter_map(number).max().unwrap_or(0).saturating_add(1);
    let place = dir.join(format!("{ASIDE}{number}"));
    system.make_dirs(&place)?;
    for name in OF_UPPER {
        match system.rename(&dir.join(name), &place.join(name)) {
            Err(e) if !missing(&e) => return Err(e),
            _ => {}
        }
    }
    // What is there again after a power cut is what was there before.
    let _ = system.sync(&place).and_then(|()| system.sync(dir));
    Ok(Some(place.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use std::fs;

    #[test]
    fn an_upper_is_moved_as_a_whole_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let linux = Linux::new();
        assert_eq!(set_aside(&linux, dir.path()).unwrap(), None);
        for turn in 1..=2 {
            fs::create_dir_all(at("upper/etc")).unwrap();
            fs::create_dir_all(at("work/work")).unwrap();
            fs::write(at("lowers"), turn.to_string()).unwrap();
            let place = set_aside(&linux, dir.path()).unwrap().unwrap();
            assert_eq!(place, at(&format!("old-{turn}")).display().to_string());
            assert!(!at("upper").exists() && !at("work").exists() && !at("lowers").exists());
            assert!(at(&format!("old-{turn}/upper/etc")).is_dir() && at(&format!("old-{turn}/work/work")).is_dir());
            assert_eq!(fs::read_to_string(at(&format!("old-{turn}/lowers"))).unwrap(), turn.to_string());
        }
        fs::create_dir(at("upper")).unwrap();
        fs::create_dir_all(at("parts/home/upper")).unwrap();
        assert_eq!(set_aside(&linux, dir.path()).unwrap(), None, "nothing is in it");
        fs::write(at("parts/home/upper/file"), "").unwrap();
        assert!(set_aside(&linux, dir.path()).unwrap().is_some(), "a part was written to");
    }

    /// The power fails on the way, and any of the renames can be durable without the others: the next boot with the word sets aside what
    /// is still there, and each file is there once.
    #[test]
    fn a_power_cut_on_the_way_loses_nothing() {
        let linux = Linux::new();
        for moved in 0_u32..1 << OF_UPPER.len() {
            let dir = tempfile::tempdir().unwrap();
            let old = dir.path().join("old-1");
            fs::create_dir(&old).unwrap();
            for (turn, name) in OF_UPPER.iter().enumerate() {
                let at = if moved & 1 << turn == 0 { dir.path() } else { &old }.join(name);
                if *name == lowers::NOTE {
                    fs::write(at, name).unwrap();
                    continue;
                }
                let inside = if *name == PARTS_OF_UPPER { at.join("home/upper") } else { at };
                fs::create_dir_all(&inside).unwrap();
                fs::write(inside.join("file"), name).unwrap();
            }
            set_aside(&linux, dir.path()).unwrap();
            for name in ["upper", "rw", PARTS_OF_UPPER] {
                assert!(!dir.path().join(name).exists(), "{moved:b}: {name} is fresh");
            }
            let found = |name: &str| {
                let inside =
                    if name == PARTS_OF_UPPER { format!("{name}/home/upper/file") } else { format!("{name}/file") };
                let places = [dir.path().to_owned(), old.clone(), dir.path().join("old-2")];
                places
                    .iter()
                    .filter(|place| fs::read_to_string(place.join(&inside)).is_ok_and(|text| text == name))
                    .count()
            };
            for name in ["upper", "rw", "work", PARTS_OF_UPPER] {
                assert_eq!(found(name), 1, "{moved:b}: {name}");
            }
        }
    }
}
