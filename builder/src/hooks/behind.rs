//! What the partitions of a mirror's other disks missed: one whose disk is away, or that could not be written, is brought up to date by
//! the first run that finds it again. That kernels went is known by nothing else then, so it is written down.

use super::files::BootFiles;
use crate::esp::config::Recipe;
use crate::esp::store::Store;
use crate::esp::{self, Kernel};
use crate::initramfs::tree::{BINARY, TEXT, Tree};
use crate::output::{Cleanup, Target};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where it is written down, in the tree; not there while nothing is behind.
pub(super) const PATH: &str = "/var/lib/taproot/esp-behind.json";
/// Of the file; grows when what is there changes its meaning.
const FORMAT: u32 = 1;

/// Partitions that are behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Behind {
    format: u32,
    /// By where they are mounted: releases of kernels that went meanwhile.
    removed: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Behind {
    /// What is written down in a tree.
    pub(crate) fn of(tree: &Tree) -> Result<Self> {
        let Some(bytes) = tree.read_if_there(PATH, TEXT)? else {
            return Ok(Self { format: FORMAT, ..Self::default() });
        };
        let shown = tree.shown(PATH);
        let behind: Self = serde_json::from_slice(&bytes).with_context(|| format!("{}: reading", shown.display()))?;
        ensure!(
            behind.format == FORMAT,
            "{}: expected format {FORMAT}, found {}; it is a newer taproot's",
            shown.display(),
            behind.format
        );
        Ok(behind)
    }

    /// Where the partitions that are behind are mounted.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        self.removed.keys().map(PathBuf::as_path)
    }

    /// Writes it down.
    pub(super) fn save(&self, tree: &Tree, cleanup: &Cleanup) -> Result<()> {
        let path = tree.place(Path::new(PATH))?;
        if self.removed.is_empty() {
            return super::remove_file(&path);
        }
        let dir = path.parent().context("a directory above expected")?;
        fs::create_dir_all(dir).with_context(|| format!("{}: making it", dir.display()))?;
        let text = serde_json::to_vec_pretty(self).context("writing what is behind")?;
        Target::find(&path)?.write(&text, cleanup)
    }

    /// A partition has missed something: a kernel that went, or one that came.
    pub(super) fn missed(&mut self, dir: &Path, removed: Option<&str>) {
        self.removed.entry(dir.to_owned()).or_default().extend(removed.map(str::to_owned));
    }

    /// A partition has everything.
    pub(super) fn is_in_step(&mut self, dir: &Path) {
        self.removed.remove(dir);
    }

    /// Brings one up to date that has missed something; whether it had. `going`: a kernel that is about to go.
    pub(super) fn catch_up(
        &self,
        tree: &Tree,
        dir: &Path,
        (store, recipe): (&mut dyn Store, &Recipe),
        going: Option<&str>,
    ) -> Result<bool> {
        let Some(removed) = self.removed.get(dir) else { return Ok(false) };
        let installed = BootFiles::installed(tree)?;
        for release in removed.iter().filter(|release| !installed.iter().any(|files| files.version == **release)) {
            esp::remove(store, recipe, release)?;
        }
        let running = super::running(tree);
        // Where releases share an image, as on Arch, it is the newest one's.
        let mut seen = BTreeSet::new();
        for files in installed.iter().rev().filter(|files| going != Some(&files.version)) {
            if !seen.insert(&files.image) || [&files.image, &files.kernel].iter().any(|path| tree.file(path).is_none())
            {
                continue;
            }
            let (kernel, image) = (tree.read(&files.kernel, BINARY)?, tree.read(&files.image, BINARY)?);
            let new = Kernel { release: &files.version, kernel: kernel.into(), image: image.into() };
            esp::install(store, recipe, new, running.as_deref())?;
        }
        Ok(true)
    }
}
