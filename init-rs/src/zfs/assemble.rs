//! From the labels of all devices to the pools they make up: pure, and independent of the order of discovery.
//!
//! The kernel re-reads every label and takes the final tree from the pool itself, so a candidate needs to be just good
//! enough to open the devices. The newest configuration wins throughout, so that a member that was away does not bring
//! an old layout back. Labels come from whatever is plugged in: counts, ids and depth are bounded.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use super::label::{Label, PoolState};
use super::nvlist::{NvList, Value};
use crate::sorted;

pub use tree::{set_leaf_path, set_leaf_paths};

/// Most top-level slots a candidate may have; a label claiming more is not believed.
pub const MAX_TOPS: u64 = 4096;

/// A device and the label found on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The device's node, such as `/dev/sda1`.
    pub device: String,
    /// Its label.
    pub label: Label,
    /// The place on a disk that it is, the same by every path to that disk; `None` where the disk has no identifier.
    pub place: Option<String>,
    /// How far the label is to be believed.
    pub standing: Standing,
    /// Whether it is on the disk that the machine was started from, as far as anything tells.
    pub started: bool,
}

/// How far the label on a device is to be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// As far as can be seen the device is what the label says.
    #[default]
    Sound,
    /// It may be left over, or the device a leg of something else.
    Doubtful(Doubt),
    /// It is left over from what the device was before, and why: the device is no part of the pool any more.
    Leftover(String),
}

/// Why a pool may not be what its labels say: writing to it could destroy something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// In a sentence.
    pub text: String,
    /// Whether something else is known to be there.
    pub grave: bool,
}

/// What is known of a device's label, where it is.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// See [`Seen`].
    pub device: &'a str,
    /// See [`Seen`].
    pub label: &'a Label,
    /// See [`Seen`].
    pub place: Option<&'a str>,
    /// See [`Seen`].
    pub standing: &'a Standing,
    /// See [`Seen`].
    pub started: bool,
}

impl Seen {
    /// A device that is what its label says.
    pub fn sound(device: String, label: Label) -> Self {
        Self { device, label, place: None, standing: Standing::Sound, started: false }
    }

    fn sight(&self) -> Sight<'_> {
        let Self { device, label, place, standing, started } = self;
        Sight { device, label, place: place.as_deref(), standing, started: *started }
    }
}

impl Sight<'_> {
    fn is_leftover(&self) -> bool {
        matches!(self.standing, Standing::Leftover(_))
    }
}

/// A spare or cache. Its label does not say whose it is: it belongs to whichever pool lists its guid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aux {
    /// The vdev's guid.
    pub guid: u64,
    /// The device that carries it.
    pub device: String,
    /// The path that its label records; labels that OpenZFS before 2.2.3 wrote have none.
    pub recorded_path: Option<String>,
}

/// A device of a pool, found or awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The vdev's guid.
    pub guid: u64,
    /// The path that the labels record, for people.
    pub recorded_path: Option<String>,
    /// The device that carries this guid; `None` while it has not been found.
    pub device: Option<String>,
    /// The slot of the top-level vdev it belongs to.
    pub top_id: u64,
    /// The vdev type: `disk` or `file`.
    pub kind: String,
}

/// Something about a candidate that people should know. Only [`Problem::Duplicate`] without a choice makes an import
/// unsafe; the kernel copes with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Several devices are byte copies of one vdev.
    #[error(
        "{} carry the same label (vdev {guid}): copies of one disk, of which only one may be attached{}",
        devices.join(" and "),
        chosen(*taken)
    )]
    Duplicate {
        /// The vdev's guid.
        guid: u64,
        /// The devices, sorted.
        devices: Vec<String>,
        /// Why one of them was taken; `None`: it cannot be told which one is meant.
        taken: Option<Taken>,
    },
    /// Several paths lead to the same place of one disk.
    #[error("{} are one disk (vdev {guid}), reached by several paths; {taken} is used", devices.join(" and "))]
    Paths {
        /// The vdev's guid.
        guid: u64,
        /// The devices, sorted.
        devices: Vec<String>,
        /// The one that is used.
        taken: String,
    },
    /// A device names this pool, but the pool's newest configuration does not know it, or knows a newer copy of it.
    #[error("{device} carries an outdated label of this pool and is left out (detached, replaced or an old copy)")]
    Outdated {
        /// The device.
        device: String,
    },
    /// A device's label lacks what every label has.
    #[error("{device} names this pool, but its label is malformed ({what}); it is left out")]
    Malformed {
        /// The device.
        device: String,
        /// What is missing or impossible.
        what: &'static str,
    },
    /// The labels claim an impossible number of top-level vdevs.
    #[error(
        "the newest label claims {claimed} top-level vdevs (at most {MAX_TOPS} are believed); the number is ignored"
    )]
    TooManyTops {
        /// The number claimed.
        claimed: u64,
    },
}

/// Why one of several copies was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The machine was started from it.
    Started,
    /// It is at the path that the pool records.
    Recorded,
}

fn chosen(taken: Option<Taken>) -> &'static str {
    match taken {
        Some(Taken::Started) => "; the one that the machine was started from is used",
        Some(Taken::Recorded) => "; the one at the recorded path is used",
        None => "; detach all but one",
    }
}

/// A pool as its labels describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Pool guid.
    pub guid: u64,
    /// Pool name, for people.
    pub name: String,
    /// State in the newest label; destroyed pools are listed too.
    pub state: PoolState,
    /// The last importer's hostid, absent if it had none.
    pub hostid: Option<u64>,
    /// The last importer's host name, for people.
    pub hostname: Option<String>,
    /// Transaction group of the newest configuration.
    pub txg: u64,
    /// The configuration for TRYIMPORT, with the paths that the labels record.
    pub config: NvList,
    /// All devices the pool is made of, found or not, in the order of the tree.
    pub leaves: Vec<Leaf>,
    /// What people should know.
    pub problems: Vec<Problem>,
    /// Why it may not be what it seems.
    pub doubts: Vec<Doubt>,
    /// Whether a device of it is on the disk that the machine was started from.
    pub started: bool,
}

impl Candidate {
    /// The devices that were not found.
    pub fn missing(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter().filter(|leaf| leaf.device.is_none())
    }

    /// Top-level slots of which no label was found. Slots of removed vdevs are among them: they have no label, and the
    /// kernel knows them from the pool itself.
    pub fn missing_tops(&self) -> u64 {
        let tops = self.config.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap_or_default();
        tops.iter().map(|top| u64::from(top.string("type") == Some(b"missing"))).sum()
    }

    /// True when several devices are copies of one.
    pub fn has_copies(&self) -> bool {
        self.problems.iter().any(|p| matches!(p, Problem::Duplicate { .. }))
    }

    /// True when it cannot be told which of several copies of a disk is the pool's.
    pub fn is_ambiguous(&self) -> bool {
        self.problems.iter().any(|p| matches!(p, Problem::Duplicate { taken: None, .. }))
    }

    /// A disk that is given to something else since still stands in the pool: should the kernel find it at the path that the pool
    /// records, it would write to it.
    fn doubt_without(&mut self, leftovers: &[Sight<'_>]) {
        for left in leftovers.iter().filter(|left| left.label.pool_guid() == Some(self.guid)) {
            if self.missing().any(|leaf| Some(leaf.guid) == left.label.guid()) {
                let text = format!("{} was a disk of it and is something else now", left.device);
                self.doubts.push(Doubt { text, grave: true });
            }
        }
    }

    /// Has vdevs, by their guids, opened at these paths. When that changes a path, the strings that described the old place
    /// go.
    pub fn set_paths(&mut self, paths: &BTreeMap<u64, String>) {
        if let Some(tree) = self.config.list_mut("vdev_tree") {
            set_leaf_paths(tree, paths);
        }
    }
}

/// [`aux_labels`] of devices.
pub fn aux_devices(seen: &[Seen]) -> Vec<Aux> {
    aux_labels(seen.iter().map(Seen::sight))
}

/// Spares and caches among the devices, sorted.
pub fn aux_labels<'a>(seen: impl Iterator<Item = Sight<'a>>) -> Vec<Aux> {
    let aux = |Sight { device, label, .. }: Sight<'_>| {
        // One that would steer a terminal is not kept.
        let recorded_path = label.config.text("path").filter(|path| !path.contains(char::is_control));
        let recorded_path = recorded_path.map(std::borrow::Cow::into_owned);
        Some(Aux { guid: label.guid()?, device: device.to_owned(), recorded_path })
    };
    let mut found: Vec<Aux> =
        seen.filter(|sight| sight.label.is_aux() && !sight.is_leftover()).filter_map(aux).collect();
    sorted::by(&mut found, Ord::cmp);
    found.dedup();
    found
}

/// [`assemble_labels`] of devices.
pub fn assemble(seen: &[Seen]) -> Vec<Candidate> {
    assemble_labels(seen.iter().map(Seen::sight))
}

/// Groups devices by pool and assembles each pool's configuration; sorted by name, then guid. What it costs grows with the
/// size of all labels together, each of which is looked at once; only one tree of each top-level vdev is copied.
pub fn assemble_labels<'a>(seen: impl Iterator<Item = Sight<'a>>) -> Vec<Candidate> {
    let mut pools: BTreeMap<u64, Vec<Sight<'_>>> = BTreeMap::new();
    let mut leftovers: Vec<Sight<'_>> = Vec::new();
    for sight in seen.filter(|sight| !sight.label.is_aux()) {
        if sight.is_leftover() {
            leftovers.push(sight);
        } else if let Some(guid) = sight.label.pool_guid().filter(|guid| *guid != 0) {
            pools.entry(guid).or_default().push(sight);
        }
    }
    let mut candidates: Vec<Candidate> =
        pools.into_iter().filter_map(|(guid, devices)| assemble_pool(guid, devices)).collect();
    let key = |left: &Sight<'_>| (left.label.pool_guid(), left.label.guid(), left.device.to_owned());
    sorted::by_key(&mut leftovers, key);
    leftovers.dedup_by_key(|left| key(left));
    for candidate in &mut candidates {
        candidate.doubt_without(&leftovers);
    }
    sorted::by(&mut candidates, |a, b| (&a.name, a.guid).cmp(&(&b.name, b.guid)));
    candidates
}

/// A device whose label has everything that assembling needs.
struct Member<'a> {
    device: &'a str,
    label: &'a Label,
    place: Option<&'a str>,
    standing: &'a Standing,
    started: bool,
    guid: u64,
    txg: u64,
    top_guid: u64,
    top_id: u64,
    top: &'a NvList,
}

impl<'a> Member<'a> {
    /// `known`: guids of top-level vdevs of which a newer tree was found good, so that this one's is not used.
    fn of(sight: Sight<'a>, known: &BTreeSet<u64>) -> Result<Self, &'static str> {
        let Sight { device, label, .. } = sight;
        let top = label.config.list("vdev_tree").ok_or("no vdev tree")?;
        // The kernel would refuse it too, but it is shown to people before.
        if label.pool_name().is_none_or(|name| name.is_empty() || name.contains(char::is_control)) {
            return Err("no possible pool name");
        }
        let top_guid = label.top_guid().ok_or("no top-level guid")?;
        if !known.contains(&top_guid) && !tree::is_shallow(top) {
            return Err("vdev tree nested too deep");
        }
        let top_id = top.u64("id").ok_or("no top-level id")?;
        if top_id >= MAX_TOPS {
            return Err("impossible top-level id");
        }
        Ok(Member {
            device,
            label,
            place: sight.place,
            standing: sight.standing,
            started: sight.started,
            guid: label.guid().ok_or("no vdev guid")?,
            txg: label.txg().ok_or("no transaction group")?,
            top_guid,
            top_id,
            top,
        })
    }
}

fn assemble_pool(guid: u64, mut devices: Vec<Sight<'_>>) -> Option<Candidate> {
    // Newest first; the rest of the key makes the result independent of the order given.
    sorted::by(&mut devices, |a, b| {
        let newer = b.label.txg().cmp(&a.label.txg()).then_with(|| a.device.cmp(b.device));
        newer.then_with(|| a.label.config.encode_xdr().cmp(&b.label.config.encode_xdr()))
    });
    devices.dedup_by(|a, b| a.device == b.device && a.label.config == b.label.config);
    let mut problems = Vec::new();
    let mut members = Vec::new();
    let mut known = BTreeSet::new();
    for sight in devices {
        match Member::of(sight, &known) {
            Ok(member) => {
                known.insert(member.top_guid);
                members.push(member);
            }
            Err(what) => problems.push(Problem::Malformed { device: sight.device.to_owned(), what }),
        }
    }
    let newest = members.first()?;
    let tops = choose_tops(&members);
    let slots = slot_count(newest.label, &tops, &mut problems);
    let children = fill_slots(newest.label, &tops, slots);

    let mut leaves: Vec<Leaf> = children.iter().flat_map(tree::leaves).collect();
    assign_devices(&mut leaves, &members, &mut problems);
    let used = |member: &&Member<'_>| leaves.iter().any(|leaf| leaf.device.as_deref() == Some(member.device));
    let doubt = |member: &Member<'_>| match member.standing {
        Standing::Doubtful(doubt) => Some(doubt.clone()),
        Standing::Sound | Standing::Leftover(_) => None,
    };
    let doubts = members.iter().filter(used).filter_map(doubt).collect();
    let started = members.iter().filter(used).any(|member| member.started);
    Some(Candidate {
        guid,
        name: newest.label.pool_name()?.into_owned(),
        state: newest.label.state(),
        hostid: newest.label.hostid(),
        hostname: newest.label.hostname(),
        txg: newest.txg,
        config: pool_config(newest.label, guid, children),
        leaves,
        problems,
        doubts,
        started,
    })
}

/// The newest tree of each top-level vdev, by slot. Where two vdevs claim a slot (one was replaced there) the newer one
/// has it. `members` are sorted newest first.
fn choose_tops<'a>(members: &[Member<'a>]) -> BTreeMap<u64, &'a NvList> {
    let mut known = BTreeSet::new();
    let mut tops = BTreeMap::new();
    for member in members {
        if known.insert(member.top_guid) {
            tops.entry(member.top_id).or_insert(member.top);
        }
    }
    tops
}

/// How many top-level slots the pool has: what the newest label says, or enough for the vdevs found.
fn slot_count(newest: &Label, tops: &BTreeMap<u64, &NvList>, problems: &mut Vec<Problem>) -> u64 {
    let needed = tops.last_key_value().map_or(0, |(id, _)| id + 1);
    match newest.vdev_children() {
        Some(claimed) if claimed > MAX_TOPS => {
            problems.push(Problem::TooManyTops { claimed });
            needed
        }
        Some(0) | None => needed,
        Some(claimed) => claimed,
    }
}

/// One tree for each slot: the vdev found, or that it is a hole or missing. Vdevs beyond the last slot drop out.
fn fill_slots(newest: &Label, tops: &BTreeMap<u64, &NvList>, slots: u64) -> Vec<NvList> {
    let holes = newest.config.u64s("hole_array").unwrap_or_default();
    let holes: BTreeSet<u64> = holes.iter().copied().collect();
    let placeholder = |kind: &str, id: u64| -> NvList {
        [("type", Value::text(kind)), ("id", Value::U64(id)), ("guid", Value::U64(0))].into_iter().collect()
    };
    let slot = |id: u64| match tops.get(&id) {
        _ if holes.contains(&id) => placeholder("hole", id),
        Some(top) => NvList::clone(top),
        None => placeholder("missing", id),
    };
    (0..slots).map(slot).collect()
}

/// The configuration for TRYIMPORT: the newest label's facts on the pool as a whole over the assembled tree.
fn pool_config(newest: &Label, guid: u64, children: Vec<NvList>) -> NvList {
    let mut config = NvList::new();
    let slots = u64::try_from(children.len()).unwrap_or(0);
    for key in ["version", "name", "state", "hostid", "hostname", "comment", "compatibility", "hole_array"] {
        if let Some(value) = newest.config.get(key) {
            config.set(key, value.clone());
        }
    }
    config.set("pool_guid", Value::U64(guid));
    config.set("vdev_children", Value::U64(slots));
    let mut root = NvList::new();
    root.set("type", Value::text("root"));
    root.set("id", Value::U64(0));
    root.set("guid", Value::U64(guid));
    root.set("children", Value::ListArray(children));
    config.set("vdev_tree", Value::List(root));
    config
}

/// Finds each leaf's device, and says which devices have no place.
fn assign_devices(leaves: &mut [Leaf], members: &[Member<'_>], problems: &mut Vec<Problem>) {
    let mut by_guid: BTreeMap<u64, Vec<&Member<'_>>> = BTreeMap::new();
    for member in members {
        by_guid.entry(member.guid).or_default().push(member);
    }
    for leaf in leaves {
        // A guid occurs once in a sane tree; a second leaf of that guid finds no device.
        let Some(mut found) = by_guid.get_mut(&leaf.guid).map(std::mem::take) else { continue };
        let newest = found.iter().map(|m| m.txg).max();
        found.retain(|member| {
            let current = Some(member.txg) == newest;
            if !current {
                problems.push(Problem::Outdated { device: member.device.to_owned() });
            }
            current
        });
        let started = found.iter().find(|m| m.started);
        let recorded = found.iter().find(|m| Some(m.device) == leaf.recorded_path.as_deref());
        leaf.device = started.or(recorded).or(found.first()).map(|m| m.device.to_owned());
        let devices: BTreeSet<String> = found.iter().map(|m| m.device.to_owned()).collect();
        let devices: Vec<String> = devices.into_iter().collect();
        let Some(taken) = leaf.device.clone().filter(|_| devices.len() > 1) else { continue };
        let place = found.first().and_then(|m| m.place);
        problems.push(if place.is_some() && found.iter().all(|m| m.place == place) {
            Problem::Paths { guid: leaf.guid, devices, taken }
        } else {
            let why = started.map(|_| Taken::Started).or(recorded.map(|_| Taken::Recorded));
            Problem::Duplicate { guid: leaf.guid, devices, taken: why }
        });
    }
    for member in by_guid.values().flatten() {
        problems.push(Problem::Outdated { device: member.device.to_owned() });
    }
}
