//! What a simulated machine should show, said in another way than by its state: files as they were written, layers as they were when
//! they were first seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use taproot_init::layers::request::Mounted;
use taproot_init::layers::store::Entered;
use taproot_init::layers::{Files as _, Layer, Operation, Phase};

use super::World;
use super::work::{self, Content, MACHINE};

/// What a system shows.
#[derive(Debug, Clone, Default)]
struct View {
    known: Content,
    /// Files that were not durable when the power failed: anything may have come of them.
    unsure: BTreeSet<String>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Watch {
    view: View,
    upper: u32,
    /// What was shown when an upper was left.
    left: BTreeMap<u32, View>,
    layers: BTreeMap<Layer, Content>,
    /// What a commit from RAM would show, if it was noted.
    ram: Option<Ram>,
    went_bad: bool,
    /// Files of which nobody knows what a write that failed made of them.
    wild: BTreeSet<String>,
    /// The machine's files in uppers that were made for a rollback.
    prepared: BTreeMap<u32, Content>,
    /// The last boot was one on trial.
    trial: bool,
    /// The machine's files that were deleted since they were written last.
    deleted: BTreeSet<String>,
}

#[derive(Debug)]
struct Ram {
    view: Option<Content>,
    /// The upper that was live when it was copied.
    before: u32,
    /// It was noted, under this upper.
    certain: Option<u32>,
}

impl Watch {
    /// From now on this is shown.
    pub(super) fn expect(&mut self, view: Content) {
        self.view = View { known: view, unsure: BTreeSet::new() };
        self.upper = 1;
    }

    /// The state went bad, and its copy is another one.
    pub(super) fn went_bad(&mut self, is_other: bool) {
        self.went_bad = true;
        if let Some(ram) = self.ram.as_mut().filter(|_| is_other) {
            ram.certain = None;
        }
    }

    /// Whether that ever happened.
    pub(super) fn ever_went_bad(&self) -> bool {
        self.went_bad
    }

    /// These images were removed: others can have their names.
    pub(super) fn removed(&mut self, files: &[String]) {
        self.layers.retain(|layer, _| !matches!(layer, Layer::Image(file) if files.contains(file)));
    }

    /// Everything that was written is durable.
    pub(super) fn all_durable(&mut self) {
        self.view.unsure = std::mem::take(&mut self.wild);
    }

    /// An upper for a rollback has these files.
    pub(super) fn prepared(&mut self, upper: u32, content: Content) {
        self.prepared.insert(upper, content);
    }

    /// The upper in RAM was copied.
    pub(super) fn ram_copied(&mut self, view: Content, upper: Option<u32>, mounted: &Mounted) {
        let before = mounted.stack.upper;
        let certain = upper.filter(|upper| *upper != before);
        self.ram = Some(Ram { view: Some(view), before, certain });
    }

    /// It may have been, or not.
    pub(super) fn ram_maybe(&mut self) {
        self.ram = Some(Ram { view: None, before: self.upper, certain: None });
    }

    /// A boot shows this; what is wrong with it.
    pub(super) fn booted(&mut self, entered: &Entered, contents: &[(Layer, Content)], view: Content) -> Vec<String> {
        let mut broken = Vec::new();
        let stack = &entered.stack;
        let rolled = |operation: &Operation| operation.phase == Phase::Trial && operation.file().is_none();
        let rolled = entered.state.operations.iter().any(rolled);
        let present: BTreeSet<&Layer> = contents.iter().map(|(layer, _)| layer).collect();
        for (layer, content) in contents {
            match self.layers.get(layer) {
                Some(known) if known != content => {
                    broken.push(format!("{layer} changed: expected {known:?}, found {content:?}"));
                }
                Some(_) => {}
                None => {
                    self.layers.insert(layer.clone(), content.clone());
                }
            }
        }
        let continues = stack.upper == self.upper || present.contains(&Layer::Frozen(self.upper));
        let ram = self.ram.take();
        let of_ram = ram.as_ref().filter(|ram| ram.before == self.upper && stack.upper != self.upper && !rolled);
        if let Some(certain) = ram.as_ref().and_then(|ram| ram.certain).filter(|upper| *upper != stack.upper) {
            // A trial that is left cannot be: nothing is copied while there is one.
            broken.push(format!("a copy of an upper in RAM was noted under upper {certain}, found {}", stack.upper));
        }
        let expected = if let Some(Ram { view: copied, .. }) = of_ram.filter(|_| !self.left.contains_key(&stack.upper))
        {
            View { known: copied.clone().unwrap_or_else(|| view.clone()), unsure: BTreeSet::new() }
        } else if continues {
            self.view.clone()
        } else {
            let gone_to = self.left.get(&stack.upper).cloned();
            self.left.insert(self.upper, self.view.clone());
            gone_to.unwrap_or_else(|| self.fresh(stack.upper, contents))
        };
        let names: BTreeSet<&String> = expected.known.keys().chain(view.keys()).collect();
        for name in names.into_iter().filter(|name| !expected.unsure.contains(*name)) {
            let (should, is) = (expected.known.get(name), view.get(name));
            // One of the machine's that was deleted over an image, which does not have it, shows again over the directory, which does.
            let goes_and_comes = should.is_none() || is.is_none();
            let on_trial = self.trial || entered.state.trial.is_some();
            let is_back = on_trial && goes_and_comes && self.deleted.contains(name);
            if should != is && !is_back {
                broken.push(format!("file {name}: expected {should:?}, found {is:?}"));
            }
        }
        self.upper = stack.upper;
        self.trial = entered.state.trial.is_some();
        self.view = View { known: view, unsure: BTreeSet::new() };
        self.wild.clear();
        broken
    }

    /// Layers under a fresh upper that has the machine's files.
    fn fresh(&self, upper: u32, contents: &[(Layer, Content)]) -> View {
        let machine = self.prepared.get(&upper).cloned();
        let unsure = if machine.is_some() { BTreeSet::new() } else { BTreeSet::from(MACHINE.map(str::to_owned)) };
        let layers = contents.iter().map(|(_, content)| content.clone());
        let mut known = work::folded(machine.into_iter().chain(layers));
        known.retain(|_, content| content.is_some());
        View { known, unsure }
    }
}

impl World {
    pub(super) fn write(&mut self, name: &str, synced: bool) {
        self.number += 1;
        let content = format!("{name} {}", self.number);
        self.tell(format!("write {content}, {}", if synced { "synced" } else { "not synced" }));
        self.stage = "writing files";
        if self.mounted.ram {
            self.ram.insert(name.to_owned(), Some(content));
            return;
        }
        self.watch.view.unsure.insert(name.to_owned());
        let upper = self.places.upper(self.mounted.stack.upper).join("upper");
        let done = self.written(&upper, name, &content, synced);
        self.note(name, Some(content), &done, synced);
    }

    fn written(&self, upper: &Path, name: &str, content: &str, synced: bool) -> io::Result<()> {
        self.disk.write(&upper.join(name), content.as_bytes())?;
        if synced {
            self.disk.sync(&upper.join(name))?;
            self.disk.sync(upper)?;
        }
        Ok(())
    }

    /// As an overlay does it: a mark where a lower has the file, nothing otherwise.
    pub(super) fn delete(&mut self, name: &str) {
        self.tell(format!("delete {name}"));
        self.stage = "writing files";
        let below: Vec<Content> = self
            .mounted
            .stack
            .layers
            .iter()
            .filter_map(|layer| work::layer(&self.disk, &self.places, layer).ok())
            .collect();
        let upper = self.places.upper(self.mounted.stack.upper);
        if self.mounted.ram {
            let lower = work::directory(&self.disk, &upper.join("upper")).unwrap_or_default();
            if work::folded([lower].into_iter().chain(below)).get(name).is_some_and(Option::is_some) {
                self.ram.insert(name.to_owned(), None);
            } else {
                self.ram.remove(name);
            }
            return;
        }
        self.watch.view.unsure.insert(name.to_owned());
        if MACHINE.contains(&name) {
            self.watch.deleted.insert(name.to_owned());
        }
        let in_lower = work::folded(below).get(name).is_some_and(Option::is_some);
        let done = self.deleted(&upper, name, in_lower);
        self.note(name, None, &done, true);
    }

    fn deleted(&self, upper: &Path, name: &str, in_lower: bool) -> io::Result<()> {
        let file = upper.join("upper").join(name);
        if in_lower {
            let mark = Content::from([(name.to_owned(), None)]);
            work::fill(&self.disk, &upper.join("work"), &mark)?;
            self.disk.rename(&upper.join("work").join(name), &file)?;
        } else {
            self.disk.remove(&file)?;
        }
        self.disk.sync(&upper.join("upper"))
    }

    fn note(&mut self, name: &str, content: Option<String>, done: &io::Result<()>, synced: bool) {
        let view = &mut self.watch.view;
        if done.is_err() {
            self.watch.wild.insert(name.to_owned());
        } else if synced {
            view.unsure.remove(name);
            self.watch.wild.remove(name);
            if content.is_some() {
                self.watch.deleted.remove(name);
            }
        }
        match content {
            Some(content) => view.known.insert(name.to_owned(), Some(content)),
            None => view.known.remove(name),
        };
    }
}
