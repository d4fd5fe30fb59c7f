//! What packing would say, without packing.

use super::{Selection, check, modules, preflight};
use crate::progress::Progress;
use crate::settings::Settings;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image for a kernel would be, were it packed now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Kernel release.
    pub kernel: String,
    /// Why it would be refused.
    pub problems: Vec<String>,
    /// What is to be said of this machine's root.
    pub notes: Vec<String>,
    /// Modules without which the root is not found and mounted, and why each is needed.
    pub needed: BTreeMap<String, String>,
    /// The key file of the root, if it has one: its path in the booted system.
    pub key: Option<String>,
}

/// Chooses and checks as [`build`] does, and packs nothing.
pub fn trial(settings: &Settings) -> Result<Trial> {
    let mut selection = Selection::new(settings, &Progress::Quiet)?;
    let Selection { index, version, chosen, .. } = &selection;
    selection.packed = modules::read(&settings.tree, index, version, chosen, None)?;
    let settings = Settings { preflight: false, ..settings.clone() };
    let (_, _, remarks) = check(&settings, &selection)?;
    let needed = preflight::wanted(&selection.index, &selection.root);
    let location = selection.root.key.as_ref().map(|key| key.location.as_str());
    Ok(Trial {
        problems: remarks.problems,
        needed: needed.into_iter().filter(|(name, _)| selection.chosen.contains_key(name)).collect(),
        key: location.and_then(|location| location.strip_prefix("file://")).map(str::to_owned),
        notes: selection.root.notes,
        kernel: selection.version,
    })
}
