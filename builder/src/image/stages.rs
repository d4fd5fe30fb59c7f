//! What the stages of an image are run with: hooks, what those are told, and where progress goes.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::config::Config;
use super::config::hooks::{Hooks, Surroundings};
use crate::progress::Progress;

/// The configuration, in the directory of hooks.
const CONFIG: &str = "config.json";
/// Functions for scripts, beside it.
const HELPERS: (&str, &str) = ("image-helpers.sh", include_str!("../../image-helpers.sh"));

/// All of it.
#[derive(Debug, Clone)]
pub struct Stages<'a> {
    /// The hooks.
    pub hooks: Hooks,
    /// What they are told.
    pub around: Surroundings,
    /// Where progress goes.
    pub progress: &'a Progress,
}

impl<'a> Stages<'a> {
    /// Without hooks.
    pub fn none(progress: &'a Progress) -> Self {
        Self { hooks: Hooks::default(), around: Surroundings::default(), progress }
    }

    /// Those of a configuration, with a directory that is made for them, if there are any.
    pub fn of(config: &Config, work: &Path, output: &Path, progress: &'a Progress) -> Result<Self> {
        let hooks = config.hooks();
        let words = config.words();
        let mut around = Surroundings {
            root: None,
            output: Some(std::path::absolute(output).context("the current directory")?),
            work: std::path::absolute(work).context("the current directory")?,
            config: None,
            arch: words.arch,
            pool: words.name,
            time: config.time,
            more: std::collections::BTreeMap::new(),
        };
        let failed = || format!("{}: making a directory for hooks", work.display());
        DirBuilder::new().mode(0o700).create(work).with_context(failed)?;
        if !hooks.0.is_empty() {
            let file = around.work.join(CONFIG);
            fs::write(&file, config.json().to_string()).with_context(failed)?;
            around.config = Some(file);
            let helpers = around.work.join(HELPERS.0);
            fs::write(&helpers, HELPERS.1).with_context(failed)?;
            around.more.insert("TAPROOT_HELPERS", helpers.into());
        }
        Ok(Self { hooks, around, progress })
    }

    /// The same with one thing more to tell.
    #[must_use]
    pub fn with(&self, name: &'static str, value: impl Into<OsString>) -> Self {
        let mut more = self.clone();
        more.around.more.insert(name, value.into());
        more
    }

    /// The same with a tree.
    #[must_use]
    pub fn at(&self, root: &Path) -> Self {
        let mut more = self.clone();
        more.around.root = Some(root.to_owned());
        more
    }

    /// Whether there is a hook of which the name begins so.
    pub fn has(&self, start: &str) -> bool {
        self.hooks.has(start)
    }

    /// Runs the hooks of one place; whether there were any.
    pub fn run(&self, stage: &str, place: &str) -> Result<bool> {
        self.hooks.run(stage, place, &self.around, self.progress)
    }

    /// Runs a stage, whose own part a hook may take the place of.
    pub fn stage<T>(&self, stage: &str, own: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.hooks.stage(stage, &self.around, self.progress, own)
    }
}
