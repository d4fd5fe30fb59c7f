//! Options that say which tree an image is made of, and what of a configuration is said on the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::image::config::Said;

/// The source, and keys of the configuration.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Configuration file (TOML); may be given several times, later ones win
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Set any key of the configuration; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The tree, as an archive, compressed or not; -: from standard input
    #[arg(long, value_name = "FILE")]
    pub tar: Option<String>,
    /// The tree, as a directory
    #[arg(long, value_name = "DIR")]
    pub directory: Option<String>,
}

impl SourceArgs {
    /// What the command line says, as keys of the configuration; `more` are the options of the command itself. `--set` wins.
    pub(super) fn said<'a>(
        &'a self,
        more: impl IntoIterator<Item = (&'a str, &'a str, &'a Option<String>)>,
    ) -> Result<Vec<Said<'a>>> {
        let own = [("--tar", "source.tar", &self.tar), ("--directory", "source.directory", &self.directory)];
        let options = own.into_iter().chain(more);
        let mut said: Vec<Said<'_>> =
            options.filter_map(|(option, key, value)| Some((option, key, value.clone()?))).collect();
        for text in &self.set {
            let (key, value) = text.split_once('=').with_context(|| format!("--set {text}: expected KEY=VALUE"))?;
            said.push(("--set", key, value.to_owned()));
        }
        Ok(said)
    }
}
