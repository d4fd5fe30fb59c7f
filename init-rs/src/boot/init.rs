//! The program to hand over to: looked for in what is mounted, and, if it is not there, below the mounts that may hide it.

use super::{Boot, program};
use crate::plan::mounts::Made;
use crate::plan::names;
use crate::plan::next::facts::{Cover, Search};
use crate::sys::System;
use std::io;
use std::path::{Path, PathBuf};

/// Programs tried when the command line names none.
const INITS: [&str; 3] = ["/sbin/init", "/etc/init", "/bin/init"];
/// How many names are shown where one was looked for in vain.
const SHOWN: usize = 40;
/// Where the root is put together without some of its mounts.
const VIEW: &str = "/run/taproot/below";
/// How many mounts are looked below.
const COVERS: usize = 16;
/// Directories of a mount that are looked at to see whether there is nothing else in it.
const DIRECTORIES: usize = 1000;

impl Boot<'_> {
    /// Finds it, as a path inside the new root, or what hides it.
    pub(super) fn find_init(&mut self, root: &str) {
        self.mounting = None;
        let wanted = self.request.init.as_ref().map(|i| i.value.as_str());
        let tried: Vec<String> =
            wanted.map_or_else(|| INITS.to_vec(), |w| vec![w]).into_iter().map(str::to_owned).collect();
        let mut found = Vec::new();
        for candidate in &tried {
            match program::obstacle(self.system, &self.new_root, Path::new(candidate)) {
                None => {
                    self.report.init = Some(candidate.clone());
                    self.facts.attempt.init = Some(candidate.clone());
                    return;
                }
                Some(why) => found.push(format!("{candidate}: {why}")),
            }
        }
        let mut names = self.system.list(&self.new_root).unwrap_or_default();
        names.truncate(SHOWN);
        found.push(format!("in the root: {}", if names.is_empty() { "nothing".into() } else { names.join(" ") }));
        let covers = self.covers(&tried);
        let empty: Vec<&str> = covers.iter().filter(|c| c.empty).map(|c| c.made.at.as_str()).collect();
        let without_empty = empty.len() > 1 && self.is_there_without(&empty, &tried);
        self.log.warn(format!("root {root} has no {} that can be executed", tried.join(", ")));
        self.facts.attempt.search = Some(Search { tried, found, covers, without_empty });
    }

    /// The mounts that may hide a program: those on the directories that are usually searched, and above it.
    fn covers(&self, tried: &[String]) -> Vec<Cover> {
        let taken_away = &self.facts.attempt.taken_away;
        let on_the_way = |at: &str| tried.iter().any(|path| names::is_within(path, at));
        let candidates = self.facts.attempt.made.iter().filter(|(_, made)| {
            let may = crate::plan::mounts::in_init_tree(&made.at) || on_the_way(&made.at);
            made.mounted && may && !taken_away.contains(&made.dataset)
        });
        let cover = |(place, made): (&String, &Made)| Cover {
            place: place.clone(),
            made: made.clone(),
            empty: self.is_empty(&made.at),
            hides: self.is_there_without(&[&made.at], tried),
        };
        candidates.take(COVERS).map(cover).collect()
    }

    /// Whether one of the programs can be executed in the root without these mounts and what is mounted below them.
    fn is_there_without(&self, without: &[&str], tried: &[String]) -> bool {
        let left = |made: &&Made| made.mounted && !without.iter().any(|away| names::is_within(&made.at, away));
        let mounts = self.facts.attempt.made.values().filter(left).map(|made| made.at.as_str());
        let look =
            |view: &Path| tried.iter().any(|path| program::obstacle(self.system, view, Path::new(path)).is_none());
        self.viewed(&[""].into_iter().chain(mounts).collect::<Vec<_>>(), "", look).unwrap_or(false)
    }

    /// Whether a mount holds nothing but directories.
    fn is_empty(&self, at: &str) -> bool {
        self.viewed(&[at], at, |view| nothing_but_directories(self.system, view)).unwrap_or(false)
    }

    /// Looks at some mounts alone, put together elsewhere, the first of them as the root of the view.
    fn viewed(&self, mounts: &[&str], top: &str, look: impl FnOnce(&Path) -> bool) -> io::Result<bool> {
        let (system, view) = (self.system, Path::new(VIEW));
        system.make_dirs(view)?;
        let mut result = Ok(());
        for at in mounts {
            let below = |dir: &Path, at: &str| {
                if at.is_empty() { dir.to_owned() } else { dir.join(at.trim_start_matches('/')) }
            };
            let (from, to) = (below(&self.new_root, at), below(view, at.strip_prefix(top).unwrap_or(at)));
            let from = from.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            // What cannot be shown is missing in the view: then the program may be, too.
            if let Err(e) = system.mount(from, &to, "none", libc::MS_BIND, "") {
                result = if at.is_empty() || *at == top { Err(e) } else { result };
            }
        }
        let seen = result.map(|()| look(view));
        let _ = system.unmount(view, true);
        let _ = system.remove(view);
        seen
    }

    /// Takes mounts away that are empty and hide the program. What was mounted below them is mounted again.
    pub(super) fn uncover(&mut self, covers: &[Cover]) {
        for Cover { place, made, .. } in covers {
            let Made { dataset, target, at, .. } = made;
            let inside = |other: &Made| other.mounted && names::is_within(&other.at, at);
            let mut away: Vec<PathBuf> = self
                .facts
                .attempt
                .made
                .values()
                .filter(|other| inside(other))
                .map(|other| self.below_root(&other.at))
                .collect();
            away.sort();
            let result = away.iter().rev().try_for_each(|path| self.system.unmount(path, true));
            match &result {
                Ok(()) => self.trouble(format!(
                    "{dataset} on {target} is empty and hid the program to start: it was taken away (zfs set canmount=off \
                     {dataset} keeps it away)"
                )),
                Err(e) => self.trouble(format!("{dataset} on {target} hides the program to start, and stays: {e}")),
            }
            let why = match result {
                Ok(()) => "it is empty and hid the program to start, so it was taken away".to_owned(),
                Err(e) => format!("it hides the program to start, and could not be taken away: {e}"),
            };
            for done in self.report.mounts.iter_mut().filter(|done| done.step.place == *place) {
                done.error = Some(why.clone());
            }
            self.facts.uncovered(made);
        }
    }

    /// A place of the new root, as it is now.
    fn below_root(&self, at: &str) -> PathBuf {
        self.new_root.join(at.trim_start_matches('/'))
    }
}

/// Whether there is nothing but directories below one. `.zfs` shows where `snapdir=visible`.
fn nothing_but_directories(system: &dyn System, top: &Path) -> bool {
    let mut todo = vec![top.to_owned()];
    let mut seen = 0;
    while let Some(dir) = todo.pop() {
        seen += 1;
        let Ok(names) = system.list(&dir) else { return false };
        if seen > DIRECTORIES {
            return false;
        }
        for name in names.into_iter().filter(|name| name != ".zfs") {
            let path = dir.join(name);
            let directory = system.read_link(&path).is_err()
                && system.stat(&path).is_ok_and(|info| info.kind == crate::sys::FileKind::Directory);
            if !directory {
                return false;
            }
            todo.push(path);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use std::fs;

    #[test]
    fn directories_alone_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("local/share")).unwrap();
        assert!(nothing_but_directories(&Linux::new(), dir.path()));
        std::os::unix::fs::symlink("local", dir.path().join("local/link")).unwrap();
        assert!(!nothing_but_directories(&Linux::new(), dir.path()));
        assert!(!nothing_but_directories(&Linux::new(), &dir.path().join("none")));
    }
}
