//! Steps with a live medium: looked for, read, and shown where its own initramfs would have it.

use super::{Boot, look};
use crate::cmdline::LiveSettings;
use crate::plan::layers::{BASE, UPPER, below, place};
use crate::plan::live::{HOST, Listing, Looked, NESTED, Place, Sight, Sought, places};
use crate::plan::next::Copying;
use crate::plan::root::LayeredRoot;
use crate::report::slow;
use crate::sys::Ended;
use crate::sys::beneath::resolve;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a look into a file system may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// As much as a look may tell.
const TOLD: usize = 1 << 20;
/// Bytes of a list of images that are read.
const LIST_MAX: usize = 64 << 10;
/// Where live-boot keeps its log, beside its parts.
const BOOT_LOG: &str = "/run/live/boot-live.log";

impl Boot<'_> {
    /// Has a process of its own look into a file system.
    pub(super) fn look_into(&mut self, node: String, fstype: &str, since: Duration, sought: &Sought) {
        let (system, log) = (self.system, self.log);
        let mut tell = slow::still(system, log, format!("looking into {node}"));
        let finished = system.run(&look::program(system, &node, fstype, sought), Some(PATIENCE), TOLD, &mut tell);
        let result = match finished {
            Err(e) => Err(format!("no process could be started to look into it: {e}")),
            Ok(finished) => match finished.ended {
                Ended::Late | Ended::Stopped => Err(format!("it did not answer for {} s", PATIENCE.as_secs())),
                Ended::Signal(signal) => Err(format!("the look into it was ended by signal {signal}")),
                Ended::Exit(_) => Sight::from_text(&String::from_utf8_lossy(&finished.output)),
            },
        };
        match &result {
            Ok(sight) => self.log.debug(format!("looked into {node}: {sight:?}")),
            Err(why) => self.log.info(format!("{node} is no live medium: {why}")),
        }
        self.facts.attempt.layers.live.looked.insert(node, Looked { since, result });
    }

    /// Sees which images the mounted medium has.
    pub(super) fn list_images(&mut self, dir: &str, lists: &[String]) {
        let listing = self.try_list(dir, lists).unwrap_or_else(|e| {
            self.log.warn(format!("the directory {dir} of the live medium cannot be read: {e}"));
            Listing::default()
        });
        self.facts.attempt.layers.live.listing = Some(listing);
    }

    fn try_list(&self, dir: &str, lists: &[String]) -> io::Result<Listing> {
        let at = resolve(self.system, Path::new(BASE), &Path::new("/").join(dir))?;
        let mut listing = Listing { names: self.system.list(&at)?, ..Listing::default() };
        for name in lists.iter().filter(|name| listing.names.contains(*name)) {
            let text = self.system.read(&at.join(name), LIST_MAX)?;
            listing.lists.insert(name.clone(), String::from_utf8_lossy(&text).into_owned());
        }
        Ok(listing)
    }

    /// Shows the parts where the live system has them: programs of the booted system look there.
    pub(super) fn show_live_places(&mut self, live: &LiveSettings, root: &LayeredRoot) {
        let facts = &self.facts.attempt.layers;
        let mut shown: Vec<(String, PathBuf)> = Vec::new();
        for (at, part) in places(live.system.value) {
            match part {
                // What is in memory alone has left it.
                Place::Medium | Place::Host if facts.to_ram == Copying::Released => {}
                Place::Medium => shown.push((at.to_owned(), BASE.into())),
                Place::Host if facts.live.host.is_some() => shown.push((at.to_owned(), HOST.into())),
                Place::Upper if facts.upper_mounted => shown.push((at.to_owned(), UPPER.into())),
                Place::Images => {
                    shown.extend(root.layers.iter().map(|name| (below(at, name), PathBuf::from(place(name)))));
                }
                Place::Image => {
                    shown.extend(root.layers.last().map(|name| (at.to_owned(), PathBuf::from(place(name)))));
                }
                Place::Host | Place::Upper => {}
            }
        }
        for (at, from) in shown {
            let result = self.live_place(&at, root).and_then(|target| {
                self.system.bind(&from, &target, false)?;
                Ok(target.display().to_string())
            });
            match result {
                Ok(target) => self.facts.attempt.layers.live.shown.push(target),
                Err(e) => self.trouble(format!("{at}, where {} has it, is not there: {e}", live.system.value)),
            }
        }
    }

    /// The directory for such a place. In the root it is made only where that writes to no upper that is kept.
    fn live_place(&self, at: &str, root: &LayeredRoot) -> io::Result<PathBuf> {
        if at.starts_with("/run/") {
            self.system.make_dirs(Path::new(at))?;
            return Ok(at.into());
        }
        let target = resolve(self.system, &self.new_root, Path::new(at))?;
        let in_memory = root.overlay.upper.as_ref().is_some_and(|dirs| dirs.dir == UPPER);
        match self.system.exists(&target) {
            false if in_memory => self.system.make_dirs(&target)?,
            false => return Err(io::Error::other("no image has that directory, and none is made in the root for it")),
            true => {}
        }
        Ok(target)
    }

    /// The image that is in a mounted one, where there should be a root.
    pub(super) fn nested_image(&self, mounted: &Path) -> Option<&'static str> {
        self.request.layers.as_ref()?.live.as_ref()?;
        let holds = |inner: &&str| self.system.exists(&mounted.join(inner));
        NESTED.into_iter().find(holds).filter(|_| !self.system.exists(&mounted.join("usr")))
    }

    /// Takes these places away.
    pub(super) fn clear_live(&mut self) {
        for at in std::mem::take(&mut self.facts.attempt.layers.live.shown).iter().rev() {
            let _ = self.system.unmount(Path::new(at), true);
        }
        if self.facts.attempt.layers.live.host.take().is_some() {
            let _ = self.system.unmount(Path::new(HOST), true);
        }
    }

    /// live-boot's place for the log of the boot has it as well.
    pub(super) fn leave_live_log(&self) {
        let live = self.request.layers.as_ref().is_some_and(|layers| layers.live.is_some());
        if live {
            let at = Path::new(BOOT_LOG);
            let made = self.system.make_dirs(Path::new("/run/live")).and_then(|()| {
                let _ = self.system.remove(at);
                self.system.symlink(Path::new("../taproot/boot.log"), at)
            });
            if let Err(e) = made {
                self.log.info(format!("{BOOT_LOG}: {e}"));
            }
        }
    }
}
