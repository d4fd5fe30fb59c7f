//! Steps with the state file of layers: read, gone on with, and left for the one before where a stack on trial cannot be mounted.

use super::Boot;
use super::layers::{kind_of, memory};
use crate::layers::boot::Entry;
use crate::layers::store::Entered;
use crate::layers::{Layer, Places, Store};
use crate::plan::failure::Failure;
use crate::plan::layers::{LayerFile, LayerKind};
use crate::sys::FileKind;

impl Boot<'_> {
    pub(super) fn read_state(&mut self, places: &Places) {
        let system = self.system;
        let seen = match Store::new(&system, places).look() {
            Ok(Some(seen)) => Ok(seen),
            Ok(None) => Err(format!("there is none in {}", places.state.display())),
            Err(e) => Err(e.to_string()),
        };
        self.facts.attempt.layers.state = Some(seen);
    }

    pub(super) fn enter_state(&mut self, places: &Places, entry: Entry) {
        let system = self.system;
        if let Some(Ok(seen)) = &self.facts.attempt.layers.state {
            let entered = Store::new(&system, places).enter(&seen.loaded, entry);
            self.tell_of(&entered);
            self.facts.attempt.layers.entered = Some(entered);
        }
    }

    fn tell_of(&mut self, entered: &Entered) {
        let layers: Vec<String> = entered.stack.layers.iter().map(ToString::to_string).collect();
        let (generation, upper) = (entered.state.generation, entered.stack.upper);
        self.log.info(format!("layer state, generation {generation}: upper {upper} over {}", layers.join(" ")));
        for note in &entered.notes {
            if note.is_trouble() { self.trouble(note.to_string()) } else { self.log.info(note.to_string()) }
        }
    }

    /// The stack on trial is what failed: everything that was mounted of it is taken away, and the one before it is mounted instead,
    /// without another boot.
    pub(super) fn give_up(&mut self, places: &Places, why: &str) -> Result<(), Failure> {
        let failed = self.facts.attempt.failure.take();
        self.facts.attempt.layers.gave_up = true;
        let system = self.system;
        let entered = match (Store::new(&system, places).give_up(why), failed) {
            (Ok(Some(entered)), _) => entered,
            (_, Some(failure)) => return Err(failure),
            (_, None) => return Ok(()),
        };
        self.tell_of(&entered);
        let state = self.facts.attempt.layers.state.take();
        self.clear_layers();
        self.facts.trial_left(state, entered);
        Ok(())
    }

    /// Where the layers of the state are, by the names of their files.
    pub(super) fn find_stack(&mut self, stack: &[Layer], places: &Places) {
        let system = self.system;
        let find = |layer: &Layer| {
            let path = places.layer(layer, &system);
            let (kind, identity) = match system.stat(&path).map(|info| (info.kind, info.size)) {
                // A sealed upper in which nothing was written is as good as any.
                Ok((FileKind::Directory, _)) => (LayerKind::Directory, String::new()),
                Ok((FileKind::File, size)) => kind_of(system, &path, size),
                Ok(_) => (LayerKind::Unknown { why: "it is no file".to_owned() }, String::new()),
                Err(_) => (LayerKind::Missing, String::new()),
            };
            LayerFile { name: layer.name(), path: path.display().to_string(), kind, identity }
        };
        let found = stack.iter().map(find).collect();
        self.facts.attempt.layers.found = Some(found);
        self.facts.attempt.layers.memory = memory(system);
    }
}
