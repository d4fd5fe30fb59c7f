//! An upper that is there already: kept as a layer, set aside, or written to again, whatever lies under it now.

use super::{Moment, Next, Settled, Step, fail, part_of, upper::no_upper};
use crate::cmdline::{LayerSettings, Upper, UpperFallback};
use crate::plan::layers::{self, KEPT, LayerFile};
use crate::plan::lowers;
use crate::plan::next::{LayerStep, Part};
use crate::plan::root::Root;

impl Moment<'_> {
    /// Mounts what the upper lies on that is to be a layer, read-only. A directory of the base needs nothing.
    pub(super) fn kept_upper(self, settings: &LayerSettings, base: &Root) -> Settled<()> {
        let known = &self.facts.attempt.layers;
        let Some(kept) = settings.retained.as_ref().filter(|_| !known.kept) else { return Ok(()) };
        if matches!(kept.value, Upper::Directory(_)) {
            return Ok(());
        }
        if !known.no_upper.is_empty() {
            return match settings.fallback.value {
                UpperFallback::Fail => fail(no_upper(settings, &known.no_upper)),
                UpperFallback::Ram | UpperFallback::ReadOnly => Ok(()),
            };
        }
        let step = part_of(&kept.value.to_string(), KEPT, &kept.why);
        match self.upper_mount(&kept.value, &kept.why, base, step, true)? {
            Ok(mount) => Err(Next::Do(Step::Layer(LayerStep::Mount { part: Part::Kept, mount: Box::new(mount) }))),
            Err(why) => Err(Next::Do(Step::Layer(LayerStep::DoWithoutUpper { why }))),
        }
    }

    /// Where the upper that is to be a layer is, if there may be one.
    pub(super) fn kept_at(self, settings: &LayerSettings) -> Option<String> {
        let kept = &settings.retained.as_ref()?.value;
        let there = matches!(kept, Upper::Directory(_)) || self.facts.attempt.layers.kept;
        there.then(|| layers::kept(kept))
    }

    /// Sets the upper that is there aside, where that is asked for. One in memory is a fresh one.
    pub(super) fn set_aside(self, settings: &LayerSettings, upper: &Upper, dir: &str) -> Settled<()> {
        match &settings.fresh {
            Some(word) if on_disk(upper) && !self.facts.attempt.layers.set_aside => {
                let (dir, word) = (dir.to_owned(), word.clone());
                Err(Next::Do(Step::Layer(LayerStep::SetAside { dir, word })))
            }
            _ => Ok(()),
        }
    }

    /// Has it noted what lies under the upper, and told if that is something else than before.
    /// With a layer state they are what it says.
    pub(super) fn note_lowers(self, upper: &Upper, dir: Option<&str>, files: &[LayerFile]) -> Settled<()> {
        if self.facts.attempt.layers.entered.is_some() {
            return Ok(());
        }
        // Where a state file says what lies under an upper, its layers change by what it says.
        let unnoted = !self.facts.attempt.layers.noted && self.live_upper().is_none();
        let Some(dir) = dir.filter(|_| on_disk(upper) && unnoted) else { return Ok(()) };
        let text = lowers::note(files.iter().map(|file| (file.name.as_str(), file.identity.as_str())));
        Err(Next::Do(Step::Layer(LayerStep::NoteLowers { note: format!("{dir}/{}", lowers::NOTE), text })))
    }
}

fn on_disk(upper: &Upper) -> bool {
    !matches!(upper, Upper::Ram { .. } | Upper::None)
}
