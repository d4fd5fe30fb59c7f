//! Steps with layers, pretended.

use super::Play;
use crate::cmdline::{Images, LiveSettings};
use crate::devices::known::Superblock;
use crate::devices::probe::Wanted;
use crate::devices::verity::Digest;
use crate::layers::boot::{Disk, Entry};
use crate::layers::state::{self, Flags, Image};
use crate::layers::store::{Entered, Loaded, Looked, Slot};
use crate::layers::{self, State};
use crate::plan::facts::Dataset;
use crate::plan::kept::{Keeping, Medium};
use crate::plan::layerlist::{Layer, LayerList, Seal};
use crate::plan::layers::{Extent, LayerFile, LayerKind};
use crate::plan::live::{self, Listing, Sight};
use crate::plan::mounts;
use crate::plan::next::facts::{Memory, Zvol};
use crate::plan::next::layers::integrity::Beside;
use crate::plan::next::{Copying, KeptStep, LayerStep, Release};
use crate::plan::persistence::{Conf, How, Kept};
use crate::plan::root::{LayeredRoot, Root};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A state of which nothing is known but that it is there.
fn unknown_state() -> Result<Looked, String> {
    let file = "as-the-layer-state-says.sqsh".to_owned();
    let image = Image { digest: state::Digest { size: 0, sha256: [0; 32] }, made: false };
    let state = State::new(BTreeMap::from([(file.clone(), image)]), vec![file.clone()], Flags::portable())?;
    let disk = Disk { files: BTreeMap::from([(file, 0)]), uppers: BTreeSet::from([state.stack.upper]) };
    Ok(Looked { loaded: Loaded { state, from: Slot::State }, disk })
}

impl Play<'_> {
    /// Does a step with a layered root.
    pub(super) fn layer_step(&mut self, step: LayerStep) {
        match step {
            LayerStep::Mount { part, mount } => {
                self.facts.attempt.layers.part_mounted(part);
                self.told.mounts.push(mount.step);
            }
            LayerStep::LookInto { node, since, .. } => self.look_into(node, since),
            LayerStep::ListImages { dir, lists } => self.list_images(&dir, lists),
            LayerStep::SameDevice => self.facts.attempt.layers.device = true,
            LayerStep::Ask { dataset } => self.ask_part(dataset),
            LayerStep::FindZvol { dataset, .. } => {
                let there = Zvol::There { node: "/dev/zd0".to_owned(), fstype: "ext4".to_owned() };
                self.facts.attempt.layers.zvols.insert(dataset, (there, None));
            }
            LayerStep::Find { names, roots, retained } => self.find_layers(names, &roots, retained),
            LayerStep::Measure { .. } => {
                self.remark("whether there is memory for the layers is not known here: it is taken to be there");
                self.facts.attempt.layers.to_ram = Copying::Measured(Extent::default());
            }
            LayerStep::CopyToRam { .. } => self.facts.attempt.layers.copied(),
            LayerStep::LeaveOnMedium { why } => {
                self.remark(why);
                self.facts.attempt.layers.to_ram = Copying::Left;
            }
            LayerStep::Release(release) => self.release(release),
            LayerStep::ReadState { .. } => {
                self.remark("what the layer state says is not known here");
                self.facts.attempt.layers.state = Some(unknown_state());
            }
            LayerStep::EnterState { entry, .. } => self.enter_state(*entry),
            // Nothing fails here that a trial could be left for.
            LayerStep::GiveUp { .. } => self.facts.attempt.layers.gave_up = true,
            LayerStep::FindStack { stack, places } => {
                let images: Vec<String> = places.images.iter().map(|path| path.display().to_string()).collect();
                self.find_layers(stack.iter().map(layers::Layer::name).collect(), &images, None);
            }
            LayerStep::MountImage { file, .. } => {
                self.facts.attempt.layers.mounted.insert(file.name);
            }
            LayerStep::SetAside { .. } => self.facts.attempt.layers.set_aside = true,
            LayerStep::NoteLowers { .. } => self.facts.attempt.layers.noted = true,
            LayerStep::Protect { mount, .. } => self.done(mount.step, true),
            LayerStep::ReadKeys => self.facts.attempt.layers.integrity.keys = Some(Ok(Vec::new())),
            LayerStep::ReadList { file, .. } => self.read_list(&file),
            LayerStep::LookBeside(file) => self.look_beside(file.name),
            LayerStep::KeepSerial { .. } => self.facts.attempt.layers.integrity.kept = true,
            LayerStep::MakeUpper { dirs, .. } => self.facts.attempt.layers.upper = Some(dirs),
            LayerStep::Kept(step) => self.kept_step(step),
            LayerStep::DoWithoutUpper { why } => {
                self.remark(format!("the upper that is asked for cannot be had: {why}"));
                self.facts.attempt.layers.without_upper(why);
            }
            LayerStep::Overlay(root) => self.mount_overlay(*root),
        }
    }

    /// What is on media is not known here: each is taken to have a `persistence.conf` of which nothing is known.
    fn kept_step(&mut self, step: KeptStep) {
        let kept = &mut self.facts.attempt.layers.media;
        match step {
            KeptStep::Mount { key, mount } | KeptStep::MountFile { key, mount, .. } => {
                let place = mount.step.target.clone();
                let any = Kept { dir: "/".to_owned(), how: How::Union, source: String::new() };
                let conf = Conf { kept: vec![any], warnings: Vec::new() };
                let medium = Medium { name: key.clone(), place, conf, read_only: true };
                kept.media.insert(key, Ok(medium));
                self.told.mounts.push(mount.step);
            }
            KeptStep::Refuse { key, why } => {
                kept.media.insert(key.clone(), Err(why.clone()));
                self.remark(format!("nothing is kept on {key}: {why}"));
            }
            KeptStep::Search { node, .. } => {
                kept.searched.insert(node.clone(), Vec::new());
                self.remark(format!("whether a file on {node} keeps anything is not known here"));
            }
            KeptStep::Host { node, .. } => {
                kept.hosts.insert(node, Ok(()));
            }
            KeptStep::Settle { .. } => {
                kept.keeping = Some(Keeping::default());
                self.remark(
                    "what is kept stands in the persistence.conf of its medium, which is not known here".to_owned(),
                );
            }
            KeptStep::DoWithout { why, upper } => {
                kept.keeping = Some(Keeping::default());
                self.remark(format!("nothing is kept: {why}"));
                if upper {
                    self.facts.attempt.layers.without_upper(why);
                }
            }
            KeptStep::Keep(keep) => {
                kept.done.insert(keep.placed.kept.dir.clone());
                self.told.mounts.push(keep.mount());
            }
        }
    }

    /// What is on file systems is not known here: the first one is taken to be the medium that is looked for.
    fn look_into(&mut self, node: String, since: Duration) {
        let Some(live) = self.request.layers.as_ref().and_then(|layers| layers.live.clone()) else { return };
        let looked = &self.facts.attempt.layers.live.looked;
        let result = if looked.values().any(|looked| looked.result.is_ok()) {
            Err("another one is taken to be the medium".to_owned())
        } else {
            Ok(pretended(&live))
        };
        if result.is_ok() {
            self.remark(format!("what is on {node} is not known here: it is taken to be the {}", live.medium()));
        }
        self.facts.attempt.layers.live.looked.insert(node, live::Looked { since, result });
    }

    fn list_images(&mut self, dir: &str, _: Vec<String>) {
        let live = self.request.layers.as_ref().and_then(|layers| layers.live.as_ref());
        let names = live.map(|live| pretended(live).names).unwrap_or_default();
        self.remark(format!(
            "which images are in the directory {dir} of the medium is not known here: {} is taken to be",
            names.join(", ")
        ));
        self.facts.attempt.layers.live.listing = Some(Listing { names, ..Listing::default() });
    }

    /// A dataset of which nothing is known is there, and needs no key.
    fn ask_part(&mut self, name: String) {
        let known = self.known.datasets.iter().find(|dataset| dataset.name == name).map(|dataset| self.locked(dataset));
        let dataset = known.unwrap_or_else(|| Dataset::with_defaults(&name));
        self.facts.attempt.layers.datasets.insert(name, Ok(dataset));
    }

    /// What is written is what was decided.
    fn enter_state(&mut self, entry: Entry) {
        let layers = &mut self.facts.attempt.layers;
        let before = layers.state.as_ref().and_then(|state| state.as_ref().ok()).map(|seen| &seen.loaded.state);
        let Some(state) = entry.state.or_else(|| before.cloned()) else { return };
        layers.entered = Some(Entered { state, stack: entry.stack, notes: entry.notes });
    }

    /// What is on file systems is not known here: every layer is taken to be there.
    fn find_layers(&mut self, names: Vec<String>, roots: &[String], retained: Option<String>) {
        self.remark("which layers are there is not known here: they are taken to be");
        let root = roots.first().cloned().unwrap_or_default();
        let image = |name: String| {
            let kind = LayerKind::Image { fstype: "squashfs".to_owned(), needs: 0, size: 0 };
            LayerFile { path: format!("{root}/{name}.sqsh"), name, kind, identity: String::new() }
        };
        let layers = &mut self.facts.attempt.layers;
        layers.found = Some(names.into_iter().map(image).collect());
        layers.memory = Some(Memory { total: u64::MAX, available: u64::MAX });
        layers.retained = retained;
    }

    fn release(&mut self, release: Release) {
        if let Some(kept) = release.kept {
            self.remark(kept);
        }
        let known = &mut self.facts.attempt.layers;
        known.to_ram = Copying::Released;
        self.told.mounts.retain(|mount| !release.places.contains(&mount.target));
        known.released.extend(release.places);
        for (_, guid) in release.pools {
            self.facts.exported(guid);
        }
    }

    /// What is in lists and trees is not known here either: they are taken to fit.
    fn read_list(&mut self, file: &str) {
        self.remark(format!("the signed list {file} is not read here: it is taken to be believed"));
        let Some(asked) = &self.request.layers else { return };
        let root =
            |name: &String| asked.integrity.roots.get(name).or(asked.integrity.only.as_ref()).map(|root| root.value);
        let layer = |name: &String| Layer {
            name: name.clone(),
            size: 0,
            seal: root(name).map_or(Seal::Sha256(Digest::new([0; Digest::LEN])), Seal::Verity),
        };
        let layers = asked.names.value.iter().map(layer).collect();
        self.facts.attempt.layers.integrity.list = Some(Ok(LayerList { serial: 0, layers }));
    }

    fn look_beside(&mut self, name: String) {
        let layers = &mut self.facts.attempt.layers;
        let asked = self.request.layers.as_ref();
        if asked.is_some_and(|asked| asked.integrity.rooted(&asked.names.value).any(|rooted| rooted == name)) {
            layers.mounted.insert(name);
        } else {
            layers.integrity.beside.insert(name, Beside::default());
        }
    }

    fn mount_overlay(&mut self, root: LayeredRoot) {
        self.told.root = Some(root.name.clone());
        let layers = Root::Layers(Box::new(root.clone()));
        self.told.mounts.push(mounts::root_step(&layers, &self.request));
        self.facts.overlay_mounted(root);
    }
}

/// What is seen of a medium as these settings look for it.
fn pretended(live: &LiveSettings) -> Sight {
    let names = match &live.images.value {
        Images::Listed(name) => vec![format!("{name}.squashfs")],
        Images::Named(names) => names.clone(),
        Images::FirstOf(names) => names.iter().take(1).cloned().collect(),
    };
    let (mut uuid, mut label) = (String::new(), String::new());
    match live.tag.as_ref().and_then(|tag| Wanted::parse(&tag.value)) {
        Some(Wanted::Label(wanted)) => label = wanted,
        Some(Wanted::Uuid(wanted)) => uuid = wanted,
        _ => {}
    }
    let iso = live.iso.is_some().then(|| (0, Some(Superblock { kind: "iso9660".to_owned(), uuid, label })));
    Sight { names, marker: true, iso }
}
