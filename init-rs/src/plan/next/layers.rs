//! A root made of layers: the base is mounted aside, the layers are found on it and on the layer device, the upper is made
//! ready, and what is mounted for the root is the overlay of them.

use super::others::Needed;
use super::step::Mount;
use super::{Code, Failure, MODULE_LIMIT, Moment, Named, Next, Root, Settled, Step, Wait, end_of, fail};
use crate::cmdline::{Decided, ITSELF, LayerSettings, Request, Selector, Upper};
use crate::devices::filesystems::{never_written, without_replay};
use crate::devices::known::Reading;
use crate::devices::probe::Wanted;
use crate::plan::candidates::device_lines;
use crate::plan::facts::Dataset;
use crate::plan::layers::{self, BASE, DEVICE, EMPTY, KEPT, LayerFile, LayerKind, UPPERS, UpperDirs, is_on_base};
use crate::plan::mounts::{Foreign, MountStep, Origin, root_step};
use crate::plan::names;
use crate::plan::next::facts::LayerFacts;
use crate::plan::options::{MountOptions, mount_options};
use crate::plan::root::LayeredRoot;
use std::time::Duration;

pub mod integrity;
mod kept;
mod kept_step;
mod medium;
mod parts;
mod persistence;
mod state;
mod step;
mod to_ram;
mod upper;

pub use kept_step::KeptStep;
pub use persistence::not_kept;
pub use state::entry;
use state::only_looks;
pub use step::{LayerStep, Part};
pub use to_ram::{Copying, Release, not_copied};

/// The device of a part.
struct PartDevice {
    node: String,
    fstype: String,
}

impl Moment<'_> {
    /// The root, once all of its parts are mounted.
    pub(super) fn layers(self, settings: &LayerSettings) -> Settled<Root> {
        let known = &self.facts.attempt.layers;
        let Some(base) = &known.base else {
            return self.mount_base(settings);
        };
        let completed;
        let settings = match &settings.live {
            Some(live) if settings.names.value.is_empty() => {
                completed = self.named_on_medium(settings, live)?;
                &completed
            }
            _ => settings,
        };
        self.layer_device(settings, base)?;
        if settings.by_state() {
            self.stack(settings, base)?;
        } else {
            self.kept_upper(settings, base)?;
        }
        self.believed_list(settings)?;
        self.found_layers(settings)?;
        self.looked_beside(settings)?;
        self.to_ram(settings, base)?;
        let files = known.found.as_deref().unwrap_or_default();
        // The base is mounted already.
        let to_mount = |file: &&LayerFile| file.name != ITSELF && !known.mounted.contains(&file.name);
        for file in files.iter().filter(to_mount) {
            self.mount_layer(settings, file)?;
        }
        self.persistence(settings, base)?;
        let (upper, dirs) = self.upper(settings, base)?;
        let dir = dirs.as_ref().map(|dirs| dirs.dir.as_str());
        self.keep_serial(settings, &upper, dir)?;
        self.note_lowers(&upper, dir, files)?;
        self.filesystem("overlay", self.facts.attempt.last_step)?;
        let upper = match (upper, self.live_upper()) {
            (Upper::Directory(_), Some(live)) => Upper::Directory(live),
            (upper, _) => upper,
        };
        let names = files.iter().map(|file| file.name.clone()).collect();
        Ok(Root::Layers(Box::new(layered_root(settings, known, base, names, (upper, dirs)))))
    }

    /// Whether what `root=` names is written to: as the root, or as what holds the upper.
    pub(super) fn base_is_written(self) -> bool {
        self.request.layers.as_ref().is_none_or(|layers| matches!(layers.upper.value, Upper::Directory(_)))
    }

    fn mount_base(self, settings: &LayerSettings) -> Settled<Root> {
        let (base, image) = match &settings.live {
            Some(live) => self.medium(settings, live)?,
            None => (self.base_root()?, false),
        };
        let written = match settings.upper.value {
            Upper::Directory(_) => !image,
            // The state is.
            Upper::Ram { .. } => settings.by_state() && is_on_base(settings.home()),
            _ => false,
        };
        let writable = written && !only_looks(settings, self.request.import.read_only.value);
        let mount = Box::new(self.base_mount(&base, writable));
        let base = Box::new(base);
        let part = if image { Part::Image(base) } else { Part::Base(base) };
        Err(Next::Do(Step::Layer(LayerStep::Mount { part, mount })))
    }

    /// The base, read-only unless the upper is a directory of it.
    fn base_mount(self, base: &Root, writable: bool) -> Mount {
        // `ro` is for the root, which it does not concern either.
        let request = Request { read_only: None, ..self.request.clone() };
        let step = part_step(&root_step(base, &request), BASE);
        match base {
            Root::Dataset(dataset) => Self::dataset_mount(dataset, !writable, step),
            Root::Device(device) => {
                let mut mount = Mount::of_device(device, step);
                mount.step.options.flags &= !libc::MS_RDONLY;
                if !writable || never_written(&device.fstype) {
                    mount.step.options.flags |= libc::MS_RDONLY;
                }
                mount
            }
            // A base is none.
            Root::Layers(layers) => Mount { step, source: layers.name.clone(), fstype: "overlay".to_owned() },
        }
    }

    fn dataset_mount(dataset: &Dataset, read_only: bool, mut step: MountStep) -> Mount {
        step.options = mount_options(dataset, Some(read_only), &step.target, &[]);
        Mount { step, source: dataset.name.clone(), fstype: "zfs".to_owned() }
    }

    /// The layer device, mounted read-only.
    fn layer_device(self, settings: &LayerSettings, base: &Root) -> Settled<()> {
        let Some(named) = settings.device.as_ref().filter(|_| !self.facts.attempt.layers.device) else {
            return Ok(());
        };
        let found = match &named.value {
            Selector::Dataset { dataset, .. } if base.dataset().is_some_and(|base| base.name == *dataset) => {
                return Err(Next::Do(Step::Layer(LayerStep::SameDevice)));
            }
            Selector::Dataset { dataset, .. } => self.part_dataset(dataset, &named.why)?.map(|dataset| {
                let step = part_of(&dataset.name, DEVICE, &named.why);
                Self::dataset_mount(&dataset, true, step)
            }),
            selector => {
                let spec = selector.to_string();
                let types = settings.device_types.as_ref().map(|types| types.value.as_slice()).unwrap_or_default();
                match self.part_device("the layer device", &spec, types, true)? {
                    Ok(device) if matches!(base, Root::Device(base) if base.node == device.node) => {
                        return Err(Next::Do(Step::Layer(LayerStep::SameDevice)));
                    }
                    found => found.map(|device| self.device_mount(device, part_of(&spec, DEVICE, &named.why), true)),
                }
            }
        };
        match found {
            Ok(mount) => Err(Next::Do(Step::Layer(LayerStep::Mount { part: Part::Device, mount: Box::new(mount) }))),
            Err(why) => fail(self.no_layer_device(named, &why)),
        }
    }

    fn device_mount(self, device: PartDevice, mut step: MountStep, read_only: bool) -> Mount {
        let PartDevice { node, fstype } = device;
        let nothing_written = self.request.import.read_only.value;
        if read_only || nothing_written || never_written(&fstype) {
            step.options.flags |= libc::MS_RDONLY;
        }
        if nothing_written {
            without_replay(&fstype).clone_into(&mut step.options.data);
        }
        step.foreign = Some(Foreign { fstype: fstype.clone(), device: true, wait: Duration::ZERO });
        Mount { step, source: node, fstype }
    }

    /// The dataset of a part, with its key loaded; the inner error says why it cannot be had.
    fn part_dataset(self, name: &str, word: &str) -> Settled<Result<Dataset, String>> {
        let pool = names::pool_of(name).to_owned();
        match self.facts.attempt.others.get(&pool) {
            Some(Err(why)) => return Ok(Err(why.clone())),
            Some(Ok(_)) => {}
            None => self.other_pool(&Needed { pool, why: word.to_owned(), optional: false })?,
        }
        match self.facts.attempt.layers.datasets.get(name) {
            None => Err(Next::Do(Step::Layer(LayerStep::Ask { dataset: name.to_owned() }))),
            Some(Err(why)) => Ok(Err(why.clone())),
            Some(Ok(dataset)) if dataset.key_available == Some(false) => {
                self.key_devices()?;
                let (dataset, key, ask) = (dataset.name.clone(), dataset.key().to_owned(), dataset.key_is_typed());
                Err(Next::Do(Step::LoadKey { dataset, key, ask }))
            }
            Some(Ok(dataset)) => Ok(Ok(dataset.clone())),
        }
    }

    /// The block device of a part, waited for, read, with its driver loaded, and checked if it is to be written to: others may be
    /// using one that is only read, or it may be one that nobody can write to. The inner error says why it cannot be had. The time
    /// for it counts from the beginning, as for the root's.
    fn part_device(
        self,
        what: &str,
        spec: &str,
        types: &[String],
        read_only: bool,
    ) -> Settled<Result<PartDevice, String>> {
        let Some(wanted) = Wanted::parse(spec) else { return Ok(Err(format!("{spec} names no device"))) };
        let wait = self.request.wait.value;
        let until = end_of(self.facts.attempt.began, wait);
        let over = self.is_over(until);
        let later = |again| Err(Next::Wait(Wait { what: format!("{what} {spec}"), until, again }));
        let device = match self.named(&wanted, over) {
            Named::There(device) => device,
            Named::Several(ambiguous) => return Ok(Err(ambiguous.to_string())),
            Named::Awaited { .. } if over => return Ok(Err(format!("it did not appear within {} s", wait.as_secs()))),
            Named::Awaited { again } => return later(again),
        };
        let kind = match &device.content {
            Reading::Waiting if !over => return later(None),
            Reading::Waiting => return Ok(Err("it does not answer".to_owned())),
            Reading::Failed(why) => return Ok(Err(format!("{} cannot be read: {why}", device.node))),
            Reading::Never if device.has_no_medium() && !over => return later(None),
            Reading::Never if device.has_no_medium() => return Ok(Err(format!("{} has no medium", device.node))),
            Reading::Done(_) | Reading::Never => device.superblock().map(|superblock| superblock.kind.clone()),
        };
        if let Some(why) = self.is_no_file_system(device) {
            return Ok(Err(format!("{}: {why}", device.node)));
        }
        let listed = kind.clone().filter(|kind| types.contains(kind));
        let said = types.iter().find(|kind| *kind != "auto").cloned();
        let Some(fstype) = listed.or(said).or(kind) else {
            return Ok(Err(format!("{} holds no known file system", device.node)));
        };
        let node = device.node.clone();
        self.filesystem(&fstype, self.facts.attempt.last_step)?;
        if let Some(Err(why)) = (!read_only).then(|| self.check(&node, &fstype)).transpose()? {
            return Ok(Err(why));
        }
        Ok(Ok(PartDevice { node, fstype }))
    }

    /// What the names of the layers lead to, each of them something that can be mounted.
    fn found_layers(&self, settings: &LayerSettings) -> Settled<()> {
        let roots = [Some(BASE), settings.device.as_ref().map(|_| DEVICE)];
        let roots: Vec<String> =
            roots.into_iter().flatten().map(|root| layers::below(root, &settings.dir.value)).collect();
        let Some(files) = &self.facts.attempt.layers.found else {
            if let Some(entered) = &self.facts.attempt.layers.entered {
                return Err(Next::Do(Step::Layer(Self::find_stack(settings, &self.upper_to_take(settings)?, entered))));
            }
            let retained = self.kept_at(settings);
            return Err(Next::Do(Step::Layer(LayerStep::Find {
                names: settings.names.value.clone(),
                roots,
                retained,
            })));
        };
        let missing: Vec<&LayerFile> = files.iter().filter(|file| file.kind == LayerKind::Missing).collect();
        if let Some(first) = missing.first() {
            return fail(no_layer(settings, first, &missing, &roots));
        }
        for file in files {
            match &file.kind {
                LayerKind::Image { needs, size, .. } if size < needs => {
                    let why = format!("it has {size} bytes, and {needs} are needed: it is cut off");
                    return fail(broken_layer(file, &why));
                }
                LayerKind::Unknown { why } => return fail(broken_layer(file, why)),
                LayerKind::Directory if file.identity == EMPTY => return fail(empty_layer(file)),
                LayerKind::Image { .. } | LayerKind::Directory | LayerKind::Missing => {}
            }
        }
        Ok(())
    }

    fn mount_layer(self, settings: &LayerSettings, file: &LayerFile) -> Settled<()> {
        if let LayerKind::Image { fstype, .. } = &file.kind {
            let since = self.facts.attempt.last_step;
            let _ = self.module("loop", since, MODULE_LIMIT)?;
            self.filesystem(fstype, since)?;
        }
        let check = self.check_of(settings, file)?;
        Err(Next::Do(Step::Layer(LayerStep::MountImage { file: Box::new(file.clone()), check })))
    }

    fn no_layer_device(self, named: &Decided<Selector>, why: &str) -> Failure {
        Failure::new(
            Code::NoLayerDevice,
            format!("the layer device {} cannot be had ({}): {why}", named.value, named.why),
            "a file system with layers that the base does not have",
            device_lines(self.hardware, None, self.now),
            &[
                "attach it and type retry; taproot.wait=SECONDS waits longer",
                "retry taproot.layerdev=UUID=... here names another one, taproot.layerdev=UUID=... on the kernel command line",
            ],
        )
    }
}

fn part_step(of: &MountStep, target: &str) -> MountStep {
    MountStep { target: target.to_owned(), place: target.to_owned(), ..of.clone() }
}

/// A part of the root that is mounted outside of it.
fn part_of(source: &str, target: &str, word: &str) -> MountStep {
    MountStep {
        dataset: source.to_owned(),
        target: target.to_owned(),
        place: target.to_owned(),
        options: MountOptions { flags: 0, data: String::new() },
        why: word.to_owned(),
        origin: Origin::Root,
        nofail: false,
        foreign: None,
        key: None,
        overlay: true,
    }
}

fn layered_root(
    settings: &LayerSettings,
    known: &LayerFacts,
    base: &Root,
    names: Vec<String>,
    (upper, dirs): (Upper, Option<UpperDirs>),
) -> LayeredRoot {
    let on_zfs = |selector: &Selector| match selector {
        Selector::Dataset { dataset, .. } => Some(dataset.clone()),
        _ => None,
    };
    let device = settings.device.as_ref().and_then(|device| on_zfs(&device.value));
    let of_upper = |upper: &Upper| match upper {
        Upper::Zvol(name) | Upper::Dataset(name) => Some(name.clone()),
        _ => None,
    };
    let kept = settings.retained.as_ref().filter(|_| known.entered.is_none()).and_then(|kept| of_upper(&kept.value));
    let home = known.entered.as_ref().and_then(|_| of_upper(settings.home()));
    let home = home.filter(|_| !known.released.contains(UPPERS));
    let upper_dataset = of_upper(&upper);
    let itself = settings.itself();
    let medium = settings.persistence.as_ref().and_then(|kept| kept.zvol.as_ref()).map(|zvol| zvol.value.clone());
    let medium = medium.filter(|zvol| known.media.media.contains_key(zvol));
    let base_dataset = base.dataset().map(|dataset| dataset.name.clone());
    // What was kept of the root is over what RuckusRD kept.
    let lower = known.media.root_lower();
    let retained: Vec<&str> = lower.as_deref().into_iter().chain(known.retained.as_deref()).collect();
    LayeredRoot {
        name: format!("layers {} on {}", names.join(":"), base.name()),
        dir: dirs.as_ref().map(|dirs| dirs.dir.clone()),
        overlay: layers::overlay(settings, &names, &retained, dirs, state::flags(settings, known.entered.as_ref())),
        itself,
        dataset: base.dataset().filter(|_| itself && settings.dir.value.is_empty()).cloned(),
        layers: names,
        read_only: upper == Upper::None,
        why: settings.names.why.clone(),
        datasets: [
            base_dataset.filter(|_| !known.released.contains(BASE)),
            device.filter(|_| !known.released.contains(DEVICE)),
            upper_dataset,
            medium,
            kept.filter(|_| !known.released.contains(KEPT)),
            home,
        ]
        .into_iter()
        .flatten()
        .collect(),
        upper,
        places: settings.places,
    }
}

fn no_layer(settings: &LayerSettings, first: &LayerFile, missing: &[&LayerFile], roots: &[String]) -> Failure {
    let more = match missing.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let mut found: Vec<String> = roots.iter().map(|root| format!("looked in {root}")).collect();
    found.extend(missing.iter().take(8).map(|file| format!("no {}", file.name)));
    let name = &first.name;
    Failure::new(
        Code::NoLayer,
        format!("layer {name}{more} is missing ({})", settings.names.why),
        format!(
            "{name}.sqsh, {name}.squashfs, {name}.erofs or a directory {name}, on the root device or the layer device"
        ),
        found,
        &[
            "retry taproot.layers=NAME:... here, with the names that are there, or that word on the kernel command line",
            "retry taproot.layerdir=DIRECTORY or taproot.layerdev=UUID=... says where else layers are",
        ],
    )
}

/// A directory that another file system is mounted on where the layer was made.
fn empty_layer(file: &LayerFile) -> Failure {
    Failure::new(
        Code::BrokenLayer,
        format!("layer {} is an empty directory: {}", file.name, file.path),
        "a directory with something in it; what is mounted there elsewhere is no part of it",
        vec![],
        &[
            "retry taproot.layerdev=ZFS=POOL/DATASET says where else layers are",
            "retry taproot.layers=NAME:... here boots without it",
        ],
    )
}

fn broken_layer(file: &LayerFile, why: &str) -> Failure {
    Failure::new(
        Code::BrokenLayer,
        format!("layer {} cannot be used: {}: {why}", file.name, file.path),
        "a whole squashfs or erofs image",
        vec![],
        &["copy it anew, then retry", "retry taproot.layers=NAME:... here boots without it"],
    )
}

/// An image of a live medium holds no root, but another image.
pub fn nested_image(file: &LayerFile, inner: &str) -> Failure {
    Failure::new(
        Code::BrokenLayer,
        format!("image {} holds no root, but another image: {inner}", file.name),
        "an image with the root itself in it; what is in an image that is in an image is not mounted",
        vec![format!("{} in {}", inner, file.path)],
        &[
            "make one image of what is in the inner one, in a running system: mount both, then mksquashfs DIRECTORY NEW",
            "retry rd.live.squashimg=NAME here names another image of the medium",
        ],
    )
}

/// The parts could not be put together.
pub fn not_overlaid(root: &LayeredRoot, error: &str) -> Failure {
    let count = root.overlay.lowers.len();
    Failure::new(
        Code::Overlay,
        format!("{} could not be put together: {error}", root.name),
        "an overlay of its layers",
        vec![format!("{count} lowers, upper: {}", root.upper)],
        &["look at the log (log), where the kernel says why", "retry taproot.upper=ram here takes another upper"],
    )
}

/// A part could not be mounted.
pub fn part_not_mounted(part: &Part, mount: &Mount, errno: Option<i32>, error: &str) -> Result<Failure, String> {
    let name = &mount.step.dataset;
    match part {
        Part::Base(_) | Part::Image(_) | Part::Host(_) => Ok(super::not_mounted(name, &mount.fstype, errno, error)),
        Part::Device => Ok(Failure::new(
            Code::NoLayerDevice,
            format!("the layer device {name} could not be mounted: {error}"),
            "a mountable file system",
            vec![],
            &["look at the log (log)", "retry taproot.layerdev=UUID=... here names another one"],
        )),
        Part::Uppers => Ok(Failure::new(
            Code::LayerState,
            format!("{name}, which the layer state lies on, could not be mounted: {error}"),
            "a mountable file system",
            vec![],
            &["look at the log (log)", "retry taproot.layers=NAME:... taproot.upper=ram here goes without it"],
        )),
        Part::Upper | Part::Kept => Err(format!("{name} could not be mounted: {error}")),
    }
}

/// A layer could not be mounted.
pub fn layer_not_mounted(file: &LayerFile, error: &str) -> Failure {
    broken_layer(file, &format!("mounting it failed: {error}"))
}
