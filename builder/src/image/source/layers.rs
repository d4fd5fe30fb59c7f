//! The layers of a root as one tree: what an overlay of them shows.

use super::feed::{Fed, feed};
use crate::layer::copy::As;
use crate::layer::exclude::Exclusions;
use crate::layer::merge::{Rules, plan};
use crate::layer::node::Namespace;
use crate::layer::tar;
use crate::layer::tree::Source;
use crate::progress::Progress;
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// Begins to read them, the topmost first.
pub fn stream(layers: &[PathBuf]) -> Result<Fed> {
    let sources = layers.iter().map(|path| Source::open(path, Namespace::default())).collect::<Result<Vec<_>>>()?;
    Ok(feed(move |out| {
        let merged = plan(&sources, Rules { complete: true, exclude: &Exclusions::none() })?;
        let written = tar::write(&merged, &sources, out, As::Root, true, &Progress::Quiet)?;
        ensure!(
            written.changed.is_empty(),
            "{}: it changed while it was read: no layer may be in use for writing",
            written.changed.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
        Ok(merged
            .foreign
            .iter()
            .map(|path| format!("/{}: another file system, what is in it was left out", path.display()))
            .collect())
    }))
}
