//! Who has which directory. Two that want one directory are told of, and so is what lies below a directory that another one
//! will get later.

use std::collections::BTreeMap;

use super::nearness::Nearness;
use super::{Made, MountStep, NAMED, Origin};
use crate::plan::names;

/// What an init may need before it has mounted anything itself; `/lib` stands for `/lib*`.
const INIT_TREES: [&str; 5] = ["/usr", "/etc", "/bin", "/sbin", "/lib"];

/// Whether a path lies in what an init may need.
pub(crate) fn in_init_tree(place: &str) -> bool {
    let first = place.split('/').nth(1).unwrap_or_default();
    INIT_TREES.iter().any(|tree| names::is_within(place, tree)) || first.starts_with("lib")
}

/// A directory that somebody has.
struct Claim {
    dataset: String,
    /// In words; empty for the root and what is mounted already.
    why: String,
    nearness: Option<Nearness>,
}

/// The directories of the new root.
pub(super) struct Claims {
    /// By place.
    taken: BTreeMap<String, Claim>,
    /// What the booted system will mount, by place.
    left: Vec<(String, String, Nearness)>,
    /// By place and the dataset that does not get it.
    conflicts: BTreeMap<(String, String), String>,
}

impl Claims {
    /// The root and what is mounted already have theirs.
    pub(super) fn new(root: &str, made: &BTreeMap<String, Made>) -> Self {
        let claim = |dataset: &str| Claim { dataset: dataset.to_owned(), why: String::new(), nearness: None };
        let made = made.iter().map(|(place, made)| (place.clone(), claim(&made.dataset)));
        Self {
            taken: made.chain([("/".to_owned(), claim(root))]).collect(),
            left: Vec::new(),
            conflicts: BTreeMap::new(),
        }
    }

    /// Where a dataset is mounted by what was planned so far.
    pub(super) fn place_of(&self, dataset: &str) -> Option<String> {
        self.taken.iter().find(|(_, claim)| claim.dataset == dataset).map(|(place, _)| place.clone())
    }

    /// Takes a place, or says who has it.
    pub(super) fn take(
        &mut self,
        place: &str,
        target: &str,
        dataset: &str,
        why: &str,
        origin: Origin,
    ) -> Result<(), String> {
        let Some(claim) = self.taken.get(place) else {
            let claim = Claim { dataset: dataset.to_owned(), why: why.to_owned(), nearness: None };
            self.taken.insert(place.to_owned(), claim);
            return Ok(());
        };
        let other = &claim.dataset;
        // The root has its place by name, and so has what is mounted there again.
        if place != "/" && other != dataset {
            let way_out = match origin {
                Origin::Property => format!("zfs set canmount=noauto {dataset}"),
                Origin::Also => "leave it out of taproot.also=, or name another place: =/where".to_owned(),
                Origin::Fstab | Origin::Root => "take one of the lines out of fstab".to_owned(),
            };
            let because = if claim.why.is_empty() { String::new() } else { format!(" ({})", claim.why) };
            let same = if place == target { String::new() } else { format!(", which leads to {place}") };
            let told = format!(
                "{other}{because} and {dataset} ({why}) are both to be mounted on {target}{same}: {other} is, {dataset} is \
                 not; to settle it: {way_out}"
            );
            self.conflicts.entry((place.to_owned(), dataset.to_owned())).or_insert(told);
        }
        Err(format!("{other} is mounted at {target}"))
    }

    /// How near the dataset is that has a place by its properties.
    pub(super) fn near(&mut self, place: &str, nearness: &Nearness) {
        if let Some(claim) = self.taken.get_mut(place) {
            claim.nearness = Some(nearness.clone());
        }
    }

    /// The booted system will mount this dataset here.
    pub(super) fn leave(&mut self, place: &str, dataset: &str, nearness: &Nearness) {
        self.left.push((place.to_owned(), dataset.to_owned(), nearness.clone()));
    }

    /// Takes steps away that the booted system would cover: what lies below what is left to it. Names them, with the reason.
    pub(super) fn covered(&self, steps: &mut Vec<MountStep>) -> Vec<(String, String)> {
        let above = |step: &MountStep| {
            let near = self.taken.get(&step.place)?.nearness.as_ref()?;
            let covers = |(place, _, left): &&(String, String, Nearness)| {
                step.place != *place
                    && names::is_within(&step.place, place)
                    && !self.taken.contains_key(place)
                    && left.precedes(near)
            };
            self.left.iter().find(covers)
        };
        let mut covered = Vec::new();
        steps.retain(|step| {
            let Some((place, dataset, _)) = above(step) else { return true };
            let why = format!("it lies below {place}, where {dataset} is left to the booted system");
            covered.push((step.dataset.clone(), why));
            false
        });
        covered
    }

    /// Two for one directory, a line each; of many the first.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut told: Vec<String> = self.conflicts.values().take(NAMED).cloned().collect();
        if let more @ 1.. = self.conflicts.len().saturating_sub(NAMED) {
            told.push(format!("{more} more directories are to have two datasets"));
        }
        told
    }
}
