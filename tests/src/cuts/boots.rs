//! The boots of a simulated machine, as far as its layers are concerned.

use taproot_init::layers::store::Entered;
use taproot_init::layers::{Files as _, Layer, Note, State, Store, boot};

use super::World;
use super::work::{self, Content};

impl World {
    /// What a boot does with the state, by the functions that the boot calls for its steps and for what it decides.
    pub(super) fn enter(&self, words: &str) -> Result<Option<Entered>, String> {
        let request = taproot_init::cmdline::parse(format!("root=UUID=1 {words}").as_bytes());
        let (settings, read_only) = (request.layers.unwrap(), request.import.read_only.value);
        let store = Store::new(&self.disk, &self.places);
        let Some(seen) = store.look().map_err(|e| e.to_string())? else { return Ok(None) };
        let entry = taproot_init::plan::next::entry(&settings, read_only, &seen).map_err(|e| e.to_string())?;
        Ok(Some(store.enter(&seen.loaded, entry)))
    }

    /// A boot that may write nothing: it finds all that it needs, and changes nothing.
    pub(super) fn look(&mut self) {
        let changes = self.disk.changes();
        match self.enter("taproot.layers taproot.import=ro taproot.upper=ram") {
            Ok(Some(entered)) => {
                let images = entered.stack.layers.iter().filter_map(|layer| match layer {
                    Layer::Image(file) => Some(file.clone()),
                    Layer::Frozen(_) => None,
                });
                for file in images.collect::<Vec<_>>() {
                    self.is_whole(&entered.state, &file);
                }
                self.tell(format!("look: upper {}", entered.stack.upper));
            }
            Ok(None) => self.breach("there is no state to look at".to_owned()),
            Err(e) => self.breach(format!("no boot that writes nothing: {e}")),
        }
        if self.disk.changes() != changes {
            self.breach("a boot that may write nothing has written".to_owned());
        }
    }

    pub(super) fn is_whole(&mut self, state: &State, file: &str) -> bool {
        let path = self.places.layer(&Layer::Image(file.to_owned()), &self.disk);
        let bytes = self.disk.read(&path, usize::MAX).unwrap_or_default();
        let whole = state.images.get(file).map(|image| image.digest) == Some(work::digest(&bytes));
        if !whole {
            self.breach(format!("{file} is not whole"));
        }
        whole
    }

    pub(super) fn entered(&mut self, entered: Result<Option<Entered>, String>) -> Option<Entered> {
        match entered {
            Ok(Some(entered)) => {
                let layers: Vec<String> = entered.stack.layers.iter().map(ToString::to_string).collect();
                let notes: Vec<String> = entered.notes.iter().map(Note::to_string).collect();
                let (generation, upper) = (entered.state.generation, entered.stack.upper);
                self.tell(format!(
                    "boot: generation {generation}, upper {upper} over {}; {}",
                    layers.join(" "),
                    notes.join("; ")
                ));
                Some(entered)
            }
            Ok(None) => {
                self.breach("there is no state".to_owned());
                None
            }
            Err(e) => {
                self.breach(format!("no boot: {e}"));
                None
            }
        }
    }

    pub(super) fn what_a_boot_does(&self) -> &'static str {
        let store = Store::new(&self.disk, &self.places);
        let Some(state) = self.state() else { return "boot" };
        let Ok(Ok(entry)) = store.survey(&state).map(|disk| boot::enter(&state, &disk)) else { return "boot" };
        match entry.notes.first() {
            Some(Note::Sealed(_)) => "boot that seals",
            Some(Note::OnTrial { tries: 1, .. }) => "boot that adopts",
            Some(Note::OnTrial { .. }) => "boot that tries again",
            Some(Note::WentBack { .. }) => "boot that goes back",
            _ => "boot",
        }
    }

    /// Everything that the stack names is there and whole, and shows what it should.
    pub(super) fn check(&mut self, entered: &Entered) {
        let mut contents = Vec::new();
        for layer in &entered.stack.layers {
            if let Layer::Image(file) = layer
                && !self.is_whole(&entered.state, file)
            {
                return;
            }
            match work::layer(&self.disk, &self.places, layer) {
                Ok(content) => contents.push((layer.clone(), content)),
                Err(e) => {
                    self.breach(format!("{layer}: {e}"));
                    return;
                }
            }
        }
        match work::view(&self.disk, &self.places, &self.mounted, &Content::new()) {
            Ok(view) => {
                for line in self.watch.booted(entered, &contents, view) {
                    self.breach(line);
                }
            }
            Err(e) => self.breach(format!("upper {}: {e}", entered.stack.upper)),
        }
    }
}
