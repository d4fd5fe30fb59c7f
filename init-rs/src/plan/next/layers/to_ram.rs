//! Layers in memory: whether there is room for them, what is copied, and what is given back then.

use super::upper::{RESERVE, bytes_of};
use crate::cmdline::{LayerSettings, Selector, ToRam, Upper};
use crate::plan::failure::{Code, Failure};
use crate::plan::layers::{BASE, Copied, DEVICE, Extent, KEPT, UPPERS, in_ram};
use crate::plan::live::HOST;
use crate::plan::names;
use crate::plan::next::facts::{LayerFacts, Memory};
use crate::plan::next::{LayerStep, Moment, Next, Settled, Step, fail};
use crate::plan::root::Root;
use std::collections::BTreeSet;

/// What an upper in memory is left at least, where no word says how large it is.
const UPPER_MIN: u64 = 64 << 20;
/// What a file takes besides its bytes, and what the kernel's index of pages takes of these (one in so many).
const PER_FILE: u64 = 1 << 10;
const INDEX: u64 = 256;

/// How far layers are copied to memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Copying {
    /// Not at all.
    #[default]
    Wanted,
    /// It is known how much there is to copy.
    Measured(Extent),
    /// They are in memory.
    Copied,
    /// They are in memory, and what they came from is given back.
    Released,
    /// They stay where they are.
    Left,
}

/// What is given back once the layers are in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// What is unmounted, in this order.
    pub places: Vec<String>,
    /// Pools that are exported then: name and guid.
    pub pools: Vec<(String, u64)>,
    /// What stays in use, and why.
    pub kept: Option<String>,
}

impl LayerFacts {
    /// Whether a root with this upper lies on nothing but memory.
    pub fn only_memory(&self, upper: &Upper) -> bool {
        self.released.contains(BASE) && matches!(upper, Upper::Ram { .. } | Upper::None)
    }

    /// The layers are in memory: that is where they are from now on.
    pub fn copied(&mut self) {
        for file in self.found.iter_mut().flatten() {
            file.path = in_ram(&file.path);
        }
        self.retained = self.retained.take().map(|path| in_ram(&path));
        self.integrity.moved(in_ram);
        self.to_ram = Copying::Copied;
    }
}

impl Moment<'_> {
    /// Brings the layers to memory, if that is asked for, and gives back what they lay on.
    pub(super) fn to_ram(self, settings: &LayerSettings, base: &Root) -> Settled<()> {
        let known = &self.facts.attempt.layers;
        let Some(asked) = &settings.to_ram else { return Ok(()) };
        let copies = || copies(known);
        let step = match known.to_ram {
            Copying::Wanted => LayerStep::Measure { copies: copies() },
            Copying::Measured(extent) => match room(known.memory, extent, &settings.upper.value) {
                Ok(()) => LayerStep::CopyToRam { copies: copies(), extent },
                Err(why) if asked.value == ToRam::IfItFits => LayerStep::LeaveOnMedium { why },
                Err(why) => return fail(too_little(&asked.why, &why)),
            },
            Copying::Copied => LayerStep::Release(self.release(settings, base)),
            Copying::Released | Copying::Left => return Ok(()),
        };
        Err(Next::Do(Step::Layer(step)))
    }

    /// What nothing is needed of any more: the layer device; the base, unless the upper is a directory of it; their pools, unless
    /// something else of them is wanted.
    fn release(self, settings: &LayerSettings, base: &Root) -> Release {
        let keeps_base = matches!(settings.upper.value, Upper::Directory(_));
        let device = settings.device.as_ref().map(|device| &device.value);
        let retained = settings.retained.as_ref().map(|retained| &retained.value);
        let on_its_own = retained.is_some_and(|upper| !matches!(upper, Upper::Directory(_)));
        let host = self.facts.attempt.layers.live.host.is_some();
        let places = [
            (if settings.by_state() { UPPERS } else { KEPT }, on_its_own),
            (DEVICE, device.is_some()),
            (BASE, !keeps_base),
            (HOST, host),
        ];
        let kept = keeps_base.then(|| {
            format!(
                "the layers are in memory, but {} is still in use: the upper, {}, is on it ({}); with taproot.upper=ram nothing is",
                base.name(),
                settings.upper.value,
                settings.upper.why
            )
        });
        let of_device = match device {
            Some(Selector::Dataset { dataset, .. }) => Some(dataset.as_str()),
            _ => None,
        };
        let of_base = base.dataset().map(|base| base.name.as_str());
        let on_zfs = |upper: &'_ Upper| match upper {
            Upper::Zvol(name) | Upper::Dataset(name) => Some(name.clone()),
            _ => None,
        };
        let (of_upper, of_retained) = (on_zfs(&settings.upper.value), retained.and_then(on_zfs));
        let pools = |names: &[Option<&str>]| -> BTreeSet<String> {
            names.iter().flatten().map(|name| names::pool_of(name).to_owned()).collect()
        };
        let medium = settings.persistence.as_ref().and_then(|kept| kept.zvol.as_ref()).map(|zvol| zvol.value.as_str());
        let used = pools(&[of_upper.as_deref(), of_base.filter(|_| keeps_base), medium]);
        let left = pools(&[of_device, of_retained.as_deref(), of_base.filter(|_| !keeps_base)]);
        let also = &self.request.import.also;
        let wanted =
            |guid: u64, pool: &str| also.iter().any(|also| also.value == pool || also.value.parse() == Ok(guid));
        let ours = self.facts.ours.iter().map(|(guid, import)| (import.pool.clone(), *guid));
        Release {
            places: places.into_iter().filter(|(_, go)| *go).map(|(place, _)| place.to_owned()).collect(),
            pools: ours
                .filter(|(pool, guid)| left.contains(pool) && !used.contains(pool) && !wanted(*guid, pool))
                .collect(),
            kept,
        }
    }
}

/// The layers, their trees, and an upper that is one of them.
fn copies(known: &LayerFacts) -> Vec<Copied> {
    let files = known.found.iter().flatten().map(|file| file.path.as_str());
    let paths = known.retained.as_deref().into_iter().chain(files).chain(known.integrity.trees());
    paths.map(|path| Copied { from: path.to_owned(), to: in_ram(path) }).collect()
}

/// Whether there is room for the layers, the upper and everything else. What the initramfs takes is taken already, and comes back
/// at the hand-over.
fn room(memory: Option<Memory>, extent: Extent, upper: &Upper) -> Result<(), String> {
    let Memory { total, available } = memory.unwrap_or_default();
    let upper = match upper {
        Upper::Ram { size: Some(size), .. } => bytes_of(size, total),
        Upper::Ram { size: None, .. } => UPPER_MIN,
        _ => 0,
    };
    let layers = extent.needed();
    let wanted = layers.saturating_add(upper).saturating_add(RESERVE);
    if wanted <= available {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "{} MiB for the layers, {} MiB for the upper and {} MiB that are kept make {} MiB, and {} MiB are free of {} MiB",
        mib(layers),
        mib(upper),
        mib(RESERVE),
        mib(wanted),
        available >> 20,
        total >> 20
    ))
}

impl Extent {
    /// Memory that it takes in a tmpfs, with what the kernel needs to find it.
    pub fn needed(self) -> u64 {
        self.bytes.saturating_add(self.bytes / INDEX).saturating_add(self.files.saturating_mul(PER_FILE))
    }

    /// Options of a tmpfs that holds it and no more.
    pub fn tmpfs(self) -> String {
        let kib = self.bytes.div_ceil(1 << 10).saturating_add(64);
        format!("mode=0755,size={kib}k,nr_inodes={}", self.files.saturating_add(16))
    }
}

fn too_little(word: &str, why: &str) -> Failure {
    Failure::new(
        Code::ToRam,
        format!("too little memory to copy the layers to ({word}): {why}"),
        "room for the layers and the system that runs on them",
        vec![],
        &[
            "retry taproot.to_ram=no here leaves them on their device, as taproot.to_ram=try does by itself where there is too little",
            "retry taproot.upper=ram:SIZE here takes less for what is written",
        ],
    )
}

/// The layers could not be copied.
pub fn not_copied(error: &str) -> Failure {
    Failure::new(
        Code::ToRam,
        format!("the layers could not be copied to memory: {error}"),
        "a medium that can be read to its end",
        vec![],
        &[
            "look at the log (log), where the kernel says what it could not read; try another port, reader or medium, then retry",
            "retry taproot.to_ram=no here leaves them on their device",
        ],
    )
}
