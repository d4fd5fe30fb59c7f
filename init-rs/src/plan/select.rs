//! Which pool and which dataset.

mod auto;
mod obstacle;

use super::facts::{Health, PoolFact};
use crate::cmdline::{Request, Selector};
use crate::image::ExpectedPool;
use crate::sorted;
use obstacle::{Obstacle, is_guid, obstacle, warnings};

pub use obstacle::{names, untouched};

/// The pool and dataset to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Pool name.
    pub pool: String,
    /// Pool guid; import by it.
    pub guid: u64,
    /// State of the pool; if [`Health::Degraded`], waiting for its missing members may help.
    pub health: Health,
    /// Root dataset, or a snapshot of it if that is the pool's `bootfs`; `None`: read `bootfs` from the imported pool.
    pub dataset: Option<String>,
    /// Why these, in a sentence.
    pub why: String,
    /// What is done against a rule, or passed over, and why: to be told as warnings.
    pub warnings: Vec<String>,
    /// Set when a better choice may still appear, and says which: wait for it until the deadline, then take this one.
    pub better: Option<String>,
    /// Set when it may be the wrong one: a disk that is on its way may show the right one, so that the machine is to come to rest
    /// before it is taken.
    pub unsure: bool,
    /// Whether its guid is named or expected: no other pool can be meant.
    pub certain: bool,
}

/// Nothing can be booted (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NoChoice {
    /// What was expected, what was found, what to do.
    pub message: String,
    /// Whether waiting for more devices may help.
    pub retry: bool,
}

impl NoChoice {
    fn new(message: String, retry: bool) -> Self {
        Self { message, retry }
    }
}

/// Chooses the pool and dataset. The answer does not depend on the order of `pools`.
pub fn choose(request: &Request, pools: &[PoolFact], expected: &[ExpectedPool]) -> Result<Choice, NoChoice> {
    let scene = Scene { request, asked: &request.root.why, pools, expected };
    match &request.root.value {
        Selector::Unusable(why) => Err(NoChoice::new(why.clone(), false)),
        Selector::Device(device) => Err(NoChoice::new(format!("{device} is a block device, not a pool"), false)),
        Selector::Medium => Err(NoChoice::new("a live medium is no pool".to_owned(), false)),
        Selector::Auto => scene.auto(),
        Selector::Pool(pool) => scene.named(pool, None),
        Selector::Dataset { pool, dataset } => scene.named(pool, Some(dataset)),
    }
}

/// Place of a pool among the expected ones: twice the index of the entry with its guid, one more if only the name agrees
/// (made anew, or a copy), and twice their number if neither does. Lower ones win.
pub fn rank(expected: &[ExpectedPool], name: &str, guid: u64) -> usize {
    let exact = |e: &ExpectedPool| e.guid == guid || (e.guid == 0 && e.name == name);
    let by_guid = expected.iter().position(exact).map(|at| 2 * at);
    let by_name = || expected.iter().position(|e| e.name == name).map(|at| 2 * at + 1);
    by_guid.or_else(by_name).unwrap_or(2 * expected.len())
}

struct Scene<'a> {
    request: &'a Request,
    /// The word that asked.
    asked: &'a str,
    pools: &'a [PoolFact],
    expected: &'a [ExpectedPool],
}

impl Scene<'_> {
    fn obstacle(&self, pool: &PoolFact) -> Option<Obstacle> {
        obstacle(self.request, pool, self.expected)
    }

    fn untouched(&self, pool: &PoolFact) -> bool {
        untouched(self.request, pool, self.expected).is_some()
    }

    fn choice(&self, pick: Pick<'_>, dataset: Option<String>) -> Choice {
        let Pick { pool, why, better, warnings: mut more } = pick;
        let mut warnings = warnings(self.request, pool, self.expected);
        warnings.append(&mut more);
        let certain = self.expects(pool) || is_guid(self.request, pool.guid);
        let unsure = pool.doubt.is_some() && !certain;
        let PoolFact { name, guid, health, .. } = pool;
        Choice { pool: name.clone(), guid: *guid, health: *health, dataset, why, warnings, better, unsure, certain }
    }

    /// Whether the image was packed for this very pool.
    fn expects(&self, pool: &PoolFact) -> bool {
        self.expected.iter().any(|e| e.guid == pool.guid)
    }

    /// The pool called `wanted` (name, or guid in decimal).
    fn named(&self, wanted: &str, dataset: Option<&str>) -> Result<Choice, NoChoice> {
        let mut pick = self.find(wanted)?;
        let pool = pick.pool;
        if let Some(Obstacle { text, wait }) = self.obstacle(pool) {
            let message = format!("{} asks for pool {wanted}, but it cannot be imported: {text}", self.asked);
            return Err(NoChoice::new(message, wait));
        }
        let dataset = match dataset {
            // A guid in place of the pool's name is no dataset name: put the name there.
            Some(full) => Some(format!("{}{}", pool.name, full.strip_prefix(wanted).unwrap_or_default())),
            None => pool.bootfs.clone(),
        };
        pick.why.insert_str(0, if pool.bootfs == dataset { "bootfs of " } else { "dataset of " });
        Ok(self.choice(pick, dataset))
    }

    /// Finds the pool called `wanted`.
    fn find(&self, wanted: &str) -> Result<Pick<'_>, NoChoice> {
        let mut namesakes: Vec<_> = self.pools.iter().filter(|p| p.name == wanted).collect();
        // A pool that is left alone anyway (destroyed, another system's) is no rival, nor one that may be left over where
        // another one surely is not.
        keep(&mut namesakes, |p| !self.untouched(p));
        keep(&mut namesakes, |p| p.doubt.as_ref().is_none_or(|doubt| !doubt.grave && self.expects(p)));
        let why = format!("pool {wanted}, named by {}", self.asked);
        if namesakes.is_empty() {
            return self.by_guid(wanted);
        }
        let hint = self.expected.iter().find(|e| e.name == wanted && e.guid != 0);
        let is_hinted = |p: &&&PoolFact| hint.is_some_and(|hint| p.guid == hint.guid);
        let usable: Vec<_> = namesakes.iter().filter(|p| self.obstacle(p).is_none()).copied().collect();
        let expected = usable.iter().find(is_hinted).copied();
        let started = started(&usable).filter(|_| expected.is_none() && usable.len() > 1);
        let pool: &PoolFact = match (expected.or(started), usable.as_slice(), namesakes.as_slice()) {
            (Some(pool), ..) | (None, &[pool], _) | (None, [], &[pool]) => pool,
            (None, [], several) => return Err(self.none_of(wanted, several, hint.is_some())),
            (None, several, _) => return Err(NoChoice::new(ambiguous(wanted, several), hint.is_some())),
        };
        let hinted = namesakes.iter().any(|p| is_hinted(&p));
        let others: Vec<_> = namesakes.into_iter().filter(|p| p.guid != pool.guid).collect();
        if self.expects(pool) {
            let note = if others.is_empty() { "" } else { ", the one of that name with the guid the image expects" };
            return Ok(Pick { pool, why: why + note, better: None, warnings: self.hindered(&others) });
        }
        let note = if started.is_some() { ", the one that the machine was started from" } else { "" };
        let mut pick = Pick { pool, why: why + note, better: self.may_work(&others), warnings: self.hindered(&others) };
        if let Some(hint) = hint {
            pick.warnings.push(other_guid(pool, hint));
            if !hinted {
                let (guid, found) = (hint.guid, pool.guid);
                let better = format!("pool {wanted} with guid {guid}, which the image expects (found: guid {found})");
                pick.better.get_or_insert(better);
            }
        }
        Ok(pick)
    }

    /// The pool with the guid `wanted`, where none is called so.
    fn by_guid(&self, wanted: &str) -> Result<Pick<'_>, NoChoice> {
        if let Some(pool) = self.pools.iter().find(|p| wanted.parse() == Ok(p.guid)) {
            let why = format!("pool {}, guid named by {}", pool.name, self.asked);
            return Ok(Pick { pool, why, better: None, warnings: Vec::new() });
        }
        let (asked, found) = (self.asked, self.found());
        let message = format!(
            "{asked} asks for pool {wanted}, which was not found; {found}; check that its disks are attached and that the image \
             holds their drivers"
        );
        Err(NoChoice::new(message, true))
    }

    /// Pools of the chosen one's name that cannot be imported are no rivals, but they are told of.
    fn hindered(&self, namesakes: &[&PoolFact]) -> Vec<String> {
        let hindered = namesakes.iter().filter_map(|other| Some((other, self.obstacle(other)?)));
        let line = |(other, obstacle): (&&PoolFact, Obstacle)| {
            let PoolFact { name, guid, .. } = other;
            format!("another pool is called {name}: guid {guid}{}; it cannot be imported: {}", on(other), obstacle.text)
        };
        hindered.map(line).collect()
    }

    /// One of these that waiting may help, so that it is not passed over before the time.
    fn may_work(&self, namesakes: &[&PoolFact]) -> Option<String> {
        let other = namesakes.iter().find(|other| self.obstacle(other).is_some_and(|obstacle| obstacle.wait))?;
        Some(format!("the other pool called {} (guid {}) may still become complete", other.name, other.guid))
    }

    /// Several pools of one name, none of which can be imported.
    fn none_of(&self, wanted: &str, pools: &[&PoolFact], retry: bool) -> NoChoice {
        let obstacles: Vec<_> = pools.iter().filter_map(|p| Some((p, self.obstacle(p)?))).collect();
        let wait = obstacles.iter().any(|(_, obstacle)| obstacle.wait);
        let line = |(p, o): &(&&PoolFact, Obstacle)| format!("guid {}{}: {}", p.guid, on(p), o.text);
        let mut lines: Vec<String> = obstacles.iter().map(line).collect();
        lines.sort();
        let (asked, count, lines) = (self.asked, pools.len(), lines.join("; "));
        let message = format!(
            "{asked} asks for pool {wanted}; {count} pools are called so, and none of them can be imported: {lines}"
        );
        NoChoice::new(message, wait || retry)
    }

    /// What was seen, and what of the expectation was not.
    fn found(&self) -> String {
        let mut lines: Vec<String> = self.pools.iter().map(|pool| self.describe(pool)).collect();
        lines.sort();
        let mut text = match lines.len() {
            0 => "no pool was found on any disk".to_owned(),
            _ => format!("found: {}", lines.join("; ")),
        };
        let missing: Vec<_> = self
            .expected
            .iter()
            .filter(|e| !self.pools.iter().any(|p| p.guid == e.guid || p.name == e.name))
            .map(|e| match e.vdevs.as_slice() {
                [] => e.name.clone(),
                vdevs => format!("{} (on {})", e.name, vdevs.join(", ")),
            })
            .collect();
        if !missing.is_empty() {
            text = format!("{text}; the image expects: {}", missing.join(", "));
        }
        text
    }

    fn describe(&self, pool: &PoolFact) -> String {
        let health = match pool.health {
            _ if pool.destroyed => "destroyed",
            Health::Online => "online",
            Health::Degraded => "degraded",
            Health::Unavailable => "unavailable",
        };
        let bootfs = match &pool.bootfs {
            Some(bootfs) => format!("bootfs {bootfs}"),
            None if pool.bootfs_unknown => "bootfs not known".to_owned(),
            None => "no bootfs".to_owned(),
        };
        // That another pool is asked for is said already.
        let elsewhere = matches!(self.request.root.value, Selector::Pool(_) | Selector::Dataset { .. })
            && !names(self.request, &pool.name, pool.guid);
        match self.obstacle(pool).filter(|_| !elsewhere) {
            Some(Obstacle { text, .. }) => format!("pool {} ({health}, {bootfs}, {text})", pool.name),
            None => format!("pool {} ({health}, {bootfs})", pool.name),
        }
    }
}

/// A pool that was found, and why it is the one.
struct Pick<'a> {
    pool: &'a PoolFact,
    why: String,
    better: Option<String>,
    warnings: Vec<String>,
}

/// Leaves out what does not fit, unless nothing does.
fn keep(pools: &mut Vec<&PoolFact>, fits: impl Fn(&PoolFact) -> bool) {
    if pools.iter().any(|pool| fits(pool)) {
        pools.retain(|pool| fits(pool));
    }
}

/// Where a pool is, for people.
fn on(pool: &PoolFact) -> String {
    if pool.devices.is_empty() { String::new() } else { format!(" on {}", pool.devices.join(" ")) }
}

fn other_guid(pool: &PoolFact, hint: &ExpectedPool) -> String {
    format!(
        "pool {} has guid {}, but the image expects guid {}: it was made anew since the image was packed, or is a copy",
        pool.name, pool.guid, hint.guid
    )
}

/// Of pools of one name, the one on the disk that the machine was started from.
fn started<'a>(namesakes: &[&'a PoolFact]) -> Option<&'a PoolFact> {
    let mut started = namesakes.iter().filter(|pool| pool.started);
    started.next().copied().filter(|_| started.next().is_none())
}

/// All of them can be imported.
fn ambiguous(name: &str, pools: &[&PoolFact]) -> String {
    let mut list: Vec<_> = pools.iter().map(|p| (p.guid, format!("{}{}", p.guid, on(p)))).collect();
    sorted::by(&mut list, Ord::cmp);
    let first = list.first().map(|(guid, _)| *guid).unwrap_or_default();
    let guids: Vec<_> = list.into_iter().map(|(_, text)| text).collect();
    format!(
        "{} pools are called {name} (guids {}), so it is not clear which one is meant; detach the disks of the others, or \
         name one by its guid: boot {first}/DATASET here, zfs={first}/DATASET on the kernel command line",
        guids.len(),
        guids.join(", ")
    )
}

#[cfg(test)]
mod tests;
