//! What takes what is written: found, mounted, made ready; or what comes in its place.

use super::{PartDevice, part_of};
use crate::cmdline::{LayerSettings, Upper, UpperFallback};
use crate::devices::filesystems::never_written;
use crate::plan::failure::{Code, Failure};
use crate::plan::layers::{BASE, UPPER, UPPERS, UpperDirs, is_on_base};
use crate::plan::mounts::{Foreign, MountStep};
use crate::plan::next::facts::{Memory, Zvol};
use crate::plan::next::step::Mount;
use crate::plan::next::{LayerStep, Moment, Next, Part, Settled, Step, Wait, end_of, fail};
use crate::plan::options::MountOptions;
use crate::plan::root::Root;
use std::time::Duration;

/// Memory that is left to everything else before any is promised to an upper.
pub(super) const RESERVE: u64 = 64 << 20;
/// How long a zvol's device is waited for after its pool was imported.
const ZVOL_WAIT: Duration = Duration::from_secs(10);

impl Moment<'_> {
    /// What is to take what is written, as far as is known and no medium says another.
    pub(super) fn upper_to_take(self, settings: &LayerSettings) -> Settled<Upper> {
        match (self.facts.attempt.layers.no_upper.as_slice(), settings.fallback.value) {
            ([], _) => Ok(settings.upper.value.clone()),
            ([_], UpperFallback::Ram) => Ok(Upper::Ram { size: None, inodes: None }),
            ([_], UpperFallback::ReadOnly) => Ok(Upper::None),
            (reasons, _) => fail(no_upper(settings, reasons)),
        }
    }

    /// What takes what is written, and its directories, ready.
    pub(super) fn upper(self, settings: &LayerSettings, base: &Root) -> Settled<(Upper, Option<UpperDirs>)> {
        let known = &self.facts.attempt.layers;
        if let Some(root) = known.media.root().filter(|_| known.no_upper.is_empty() && !settings.by_state()) {
            let dirs = UpperDirs::of_live(&root.source());
            let upper = Upper::Medium(root.medium.clone());
            if let Some(dirs) = &known.upper {
                return Ok((upper, Some(dirs.clone())));
            }
            self.set_aside(settings, &upper, &dirs.dir)?;
            return Err(Next::Do(Step::Layer(LayerStep::MakeUpper { dirs, whiteout: true })));
        }
        let upper = self.upper_to_take(settings)?;
        if upper == Upper::None || known.upper.is_some() {
            let dirs = known.upper.clone().filter(|_| upper != Upper::None);
            return Ok((upper, dirs));
        }
        let disk = !matches!(upper, Upper::Ram { .. });
        let read_only = &self.request.import.read_only;
        let why = if disk && read_only.value {
            format!("{} keeps everything on disks as it is; taproot.upper=ram writes to memory", read_only.why)
        } else {
            match self.part_of_upper(settings, &upper, base)? {
                Ok((dir, whiteout)) => {
                    if !settings.by_state() {
                        self.set_aside(settings, &upper, &dir)?;
                    }
                    let dirs = UpperDirs::within(&dir);
                    return Err(Next::Do(Step::Layer(LayerStep::MakeUpper { dirs, whiteout })));
                }
                Err(why) => why,
            }
        };
        Err(Next::Do(Step::Layer(LayerStep::DoWithoutUpper { why })))
    }

    /// Whether what is written to the root goes to memory.
    pub(super) fn upper_is_memory(self, settings: &LayerSettings) -> bool {
        let known = &self.facts.attempt.layers;
        match (known.no_upper.is_empty(), settings.fallback.value) {
            (true, _) => known.media.root().is_none() && matches!(settings.upper.value, Upper::Ram { .. }),
            (false, fallback) => fallback == UpperFallback::Ram,
        }
    }

    /// The directory that the upper is to be made in, and whether it has to be seen whether whiteouts can be made there; the
    /// inner error says why it cannot be had.
    fn part_of_upper(
        self,
        settings: &LayerSettings,
        upper: &Upper,
        base: &Root,
    ) -> Settled<Result<(String, bool), String>> {
        let known = &self.facts.attempt.layers;
        let word = settings.upper.why.as_str();
        let step = part_of(&upper.to_string(), UPPER, word);
        let dir = || format!("{UPPER}/upper");
        let live = self.live_upper().filter(|_| !matches!(upper, Upper::Ram { .. } | Upper::None));
        if let Some(live) = live {
            let top = if is_on_base(upper) { BASE } else { UPPERS };
            let on_zfs = matches!(upper, Upper::Dataset(_)) || top == BASE && base.dataset().is_some();
            return Ok(Ok((format!("{top}/{live}"), on_zfs)));
        }
        let mount = match upper {
            Upper::Directory(dir) => return Ok(Ok((format!("{BASE}/{dir}"), base.dataset().is_some()))),
            Upper::Ram { .. } if known.upper_mounted => return Ok(Ok((UPPER.to_owned(), false))),
            Upper::Dataset(_) if known.upper_mounted => return Ok(Ok((dir(), true))),
            _ if known.upper_mounted => return Ok(Ok((dir(), false))),
            Upper::Ram { size, inodes } => match budget(known.memory, size.as_deref(), *inodes) {
                Ok(data) => Mount {
                    step: MountStep { options: MountOptions { flags: 0, data }, foreign: Some(in_memory()), ..step },
                    source: "taproot-upper".to_owned(),
                    fstype: "tmpfs".to_owned(),
                },
                Err(why) => return Ok(Err(why)),
            },
            _ => match self.upper_mount(upper, word, base, step, false)? {
                Ok(mount) => mount,
                Err(why) => return Ok(Err(why)),
            },
        };
        Err(Next::Do(Step::Layer(LayerStep::Mount { part: Part::Upper, mount: Box::new(mount) })))
    }

    /// The mount of what an upper lies on that is neither the base nor memory; the inner error says why it cannot be had.
    pub(super) fn upper_mount(
        self,
        upper: &Upper,
        word: &str,
        base: &Root,
        step: MountStep,
        read_only: bool,
    ) -> Settled<Result<Mount, String>> {
        let mount = match upper {
            Upper::Dataset(name) => match self.part_dataset(name, word)? {
                Ok(dataset) if base.dataset().is_some_and(|base| base.name == *dataset.name) => {
                    return Ok(Err(on_base(name)));
                }
                Ok(dataset) => Self::dataset_mount(&dataset, read_only, step),
                Err(why) => return Ok(Err(why)),
            },
            Upper::Zvol(name) => match self.zvol(name, word, read_only)? {
                Ok(device) => self.device_mount(device, step, read_only),
                Err(why) => return Ok(Err(why)),
            },
            Upper::Device(spec) => match self.part_device("the device of the upper", spec, &[], read_only)? {
                Ok(device) if matches!(base, Root::Device(base) if base.node == device.node) => {
                    return Ok(Err(on_base(spec)));
                }
                Ok(device) if never_written(&device.fstype) => {
                    return Ok(Err(format!("{spec} holds {}, which cannot be written", device.fstype)));
                }
                Ok(device) => self.device_mount(device, step, read_only),
                Err(why) => return Ok(Err(format!("{spec}: {why}"))),
            },
            Upper::Directory(_) | Upper::Ram { .. } | Upper::Medium(_) | Upper::None => {
                return Ok(Err(format!("{upper} is not mounted")));
            }
        };
        Ok(Ok(mount))
    }

    /// The block device of a zvol, once its pool is imported and its key is there. Nodes come some time after the import, and
    /// nobody makes links to them: the kernel is asked whose each is.
    pub(super) fn zvol(self, name: &str, word: &str, read_only: bool) -> Settled<Result<PartDevice, String>> {
        if let Err(why) = self.part_dataset(name, word)? {
            return Ok(Err(why));
        }
        let known = &self.facts.attempt.layers;
        let until = end_of(self.facts.attempt.last_step, ZVOL_WAIT);
        let nodes = self.hardware.devices.values().filter(|d| d.disk.is_none() && d.name.starts_with("zd"));
        let nodes: Vec<String> = nodes.map(|device| device.node.clone()).collect();
        let (found, due) = known.zvols.get(name).cloned().unzip();
        let due = due.flatten();
        match &found {
            Some(Zvol::There { node, fstype }) => {
                self.filesystem(fstype, self.facts.attempt.last_step)?;
                if let Some(Err(why)) = (!read_only).then(|| self.check(node, fstype)).transpose()? {
                    return Ok(Err(why));
                }
                Ok(Ok(PartDevice { node: node.clone(), fstype: fstype.clone() }))
            }
            Some(Zvol::Lacking { why, .. }) if self.now >= due.unwrap_or(self.now) => Ok(Err(why.clone())),
            Some(Zvol::Lacking { nodes: asked, .. }) if *asked == nodes => {
                Err(Next::Wait(Wait::until(format!("the device of zvol {name}"), due)))
            }
            _ => Err(Next::Do(Step::Layer(LayerStep::FindZvol {
                dataset: name.to_owned(),
                nodes,
                until: due.or(until),
            }))),
        }
    }
}

fn on_base(name: &str) -> String {
    format!("{name} is what the layers lie on; taproot.upper=dir:DIRECTORY takes a directory of it")
}

fn in_memory() -> Foreign {
    Foreign { fstype: "tmpfs".to_owned(), device: false, wait: Duration::ZERO }
}

/// The options of an upper in memory, within what there is.
fn budget(memory: Option<Memory>, size: Option<&str>, inodes: Option<u64>) -> Result<String, String> {
    let Memory { total, available } = memory.unwrap_or_default();
    let room = available.saturating_sub(RESERVE);
    let mib = |bytes: u64| bytes >> 20;
    let bytes = match size {
        None => room / 2,
        Some(size) => bytes_of(size, total),
    };
    if bytes == 0 || bytes > room {
        let wanted = size.map_or_else(|| "some".to_owned(), |size| format!("{size} ({} MiB)", mib(bytes)));
        return Err(format!(
            "too little memory for an upper: {wanted} wanted, {} MiB free of {} MiB, of which {} MiB are kept",
            mib(available),
            mib(total),
            mib(RESERVE)
        ));
    }
    // The kernel's own number is for half of the memory, whatever the size.
    let inodes = inodes.unwrap_or((bytes / 2048).max(1 << 16));
    Ok(format!("mode=0755,size={}k,nr_inodes={inodes}", bytes >> 10))
}

/// A size as tmpfs takes it, in bytes.
pub(super) fn bytes_of(size: &str, total: u64) -> u64 {
    let digits: String = size.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().unwrap_or(u64::MAX);
    match size.chars().last() {
        Some('%') => total / 100 * number.min(100_000),
        Some('k' | 'K') => number.saturating_mul(1 << 10),
        Some('m' | 'M') => number.saturating_mul(1 << 20),
        Some('g' | 'G') => number.saturating_mul(1 << 30),
        _ => number,
    }
}

pub(super) fn no_upper(settings: &LayerSettings, reasons: &[String]) -> Failure {
    Failure::new(
        Code::NoUpper,
        format!("the upper, {}, cannot be had ({})", settings.upper.value, settings.upper.why),
        "a place for what is written",
        reasons.to_vec(),
        &[
            "retry taproot.upper=ram here writes to memory, until the machine is switched off",
            "taproot.upper_fallback=ram or ro on the kernel command line goes on so by itself",
            "retry taproot.upper=none here boots read-only",
        ],
    )
}
