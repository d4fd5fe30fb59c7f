//! Which pool and which dataset.

mod obstacle;

use super::facts::{Health, PoolFact};
use crate::cmdline::{Request, Selector};
use crate::image::ExpectedPool;
use obstacle::{Obstacle, obstacle, skipped, warnings};

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
    /// Root dataset, or a snapshot of it if that is the pool's `bootfs`; `None`: read `bootfs` from the imported pool (see [`no_bootfs`] if it has none).
    pub dataset: Option<String>,
    /// Why these, in a sentence.
    pub why: String,
    /// What is done against a rule, or passed over, and why: to be told as warnings.
    pub warnings: Vec<String>,
    /// Set when a better choice may still appear, and says which: wait for it until the deadline, then take this one.
    pub better: Option<String>,
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
        Selector::Auto => scene.auto(),
        Selector::Pool(pool) => scene.named(pool, None),
        Selector::Dataset { pool, dataset } => scene.named(pool, Some(dataset)),
    }
}

/// The explanation for a pool that was chosen for its `bootfs`, but has none.
pub fn no_bootfs(pool: &str) -> String {
    format!(
        "pool {pool} has no bootfs, so there is no root to boot; set one with `zpool set bootfs={pool}/DATASET {pool}`, \
         or name the root on the kernel command line: zfs={pool}/DATASET"
    )
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

    fn choice(&self, pool: &PoolFact, dataset: Option<String>, why: String, better: Option<String>) -> Choice {
        let warnings = warnings(self.request, pool, self.expected);
        Choice { pool: pool.name.clone(), guid: pool.guid, health: pool.health, dataset, why, warnings, better }
    }

    /// The pool called `wanted` (name, or guid in decimal).
    fn named(&self, wanted: &str, dataset: Option<&str>) -> Result<Choice, NoChoice> {
        let (pool, mut why, better) = self.find(wanted)?;
        if let Some(Obstacle { text, wait }) = self.obstacle(pool) {
            let message = format!("{} asks for pool {wanted}, but it cannot be imported: {text}", self.asked);
            return Err(NoChoice::new(message, wait));
        }
        let dataset = match dataset {
            // A guid in place of the pool's name is no dataset name: put the name there.
            Some(full) => Some(format!("{}{}", pool.name, full.strip_prefix(wanted).unwrap_or_default())),
            None => pool.bootfs.clone(),
        };
        why.insert_str(0, if pool.bootfs == dataset { "bootfs of " } else { "dataset of " });
        Ok(self.choice(pool, dataset, why, better))
    }

    /// Finds the pool called `wanted`: it, why it is the one, and what would be better.
    fn find(&self, wanted: &str) -> Result<(&PoolFact, String, Option<String>), NoChoice> {
        let mut by_name: Vec<_> = self.pools.iter().filter(|p| p.name == wanted).collect();
        // A pool that is left alone anyway (destroyed, another system's) is no rival.
        if by_name.iter().any(|p| !self.untouched(p)) {
            by_name.retain(|p| !self.untouched(p));
        }
        let why = format!("pool {wanted}, named by {}", self.asked);
        let hint = self.expected.iter().find(|e| e.name == wanted && e.guid != 0);
        if let Some(hint) = hint
            && let Some(pool) = by_name.iter().find(|p| p.guid == hint.guid)
        {
            let note = if by_name.len() > 1 { ", the one of that name with the guid the image expects" } else { "" };
            return Ok((pool, why + note, None));
        }
        match by_name.as_slice() {
            [pool] => {
                let better = hint.map(|hint| {
                    format!(
                        "pool {wanted} with guid {}, which the image expects (found: guid {})",
                        hint.guid, pool.guid
                    )
                });
                Ok((pool, why, better))
            }
            [] => match self.pools.iter().find(|p| wanted.parse() == Ok(p.guid)) {
                Some(pool) => Ok((pool, format!("pool {}, guid named by {}", pool.name, self.asked), None)),
                None => Err(NoChoice::new(
                    format!(
                        "{} asks for pool {wanted}, which was not found; {}; check that its disks are attached and that \
                         the image holds their drivers",
                        self.asked,
                        self.found()
                    ),
                    true,
                )),
            },
            several => Err(NoChoice::new(ambiguous(wanted, several), hint.is_some())),
        }
    }

    /// Any pool with a `bootfs`.
    fn auto(&self) -> Result<Choice, NoChoice> {
        let mut usable: Vec<(usize, &PoolFact, &String)> = self
            .pools
            .iter()
            .filter(|pool| self.obstacle(pool).is_none())
            .filter_map(|pool| Some((self.rank(pool), pool, pool.bootfs.as_ref()?)))
            .collect();
        usable.sort_by(|(a, x, _), (b, y, _)| (a, &x.name, x.guid).cmp(&(b, &y.name, y.guid)));
        let Some(&(rank, pool, bootfs)) = usable.first() else { return Err(self.nothing_bootable()) };

        let namesakes: Vec<_> = self.pools.iter().filter(|p| p.name == pool.name && !self.untouched(p)).collect();
        let sure = self.expected.iter().any(|e| e.guid == pool.guid);
        if namesakes.len() > 1 && !sure {
            return Err(NoChoice::new(ambiguous(&pool.name, &namesakes), self.may_improve(rank).is_some()));
        }
        let others: Vec<_> = usable.iter().skip(1).map(|(_, p, _)| p.name.as_str()).collect();
        let others = others.join(", ");
        let expected = rank < self.unexpected();
        let why = match (others.is_empty(), expected) {
            // Others were not even opened.
            (true, true) => format!("bootfs of pool {}, which the image expects", pool.name),
            (true, false) => format!("bootfs of pool {}, the only usable pool that has one", pool.name),
            (false, true) => {
                format!("bootfs of pool {}, which the image expects; also with bootfs: {others}", pool.name)
            }
            (false, false) => {
                format!("bootfs of pool {}, first by name of those with one; others: {others}", pool.name)
            }
        };
        let mut choice = self.choice(pool, Some(bootfs.clone()), why, self.may_improve(rank));
        if !others.is_empty() && !expected {
            let name = &pool.name;
            choice.warnings.push(format!(
                "several pools have a bootfs: {name} is booted, being first by name, and passed over: {others}; name the \
                 one that is meant, e.g. zfs={name}"
            ));
        }
        Ok(choice)
    }

    fn rank(&self, pool: &PoolFact) -> usize {
        rank(self.expected, &pool.name, pool.guid)
    }

    fn unexpected(&self) -> usize {
        2 * self.expected.len()
    }

    /// An expected pool that would come before `rank` and may still appear or become complete.
    fn may_improve(&self, rank: usize) -> Option<String> {
        self.expected.iter().enumerate().take_while(|(at, _)| 2 * at < rank).find_map(|(at, expected)| {
            let name = &expected.name;
            if skipped(self.request, name, expected.guid) {
                return None;
            }
            match self.pools.iter().find(|p| self.rank(p) == 2 * at) {
                None if expected.guid == 0 => Some(format!("pool {name}, which the image expects, was not found yet")),
                None => {
                    Some(format!("pool {name} (guid {}), which the image expects, was not found yet", expected.guid))
                }
                Some(p) if (p.health == Health::Unavailable || p.missing_log.is_some()) && !self.untouched(p) => {
                    Some(format!("pool {name}, which the image expects, is not complete yet"))
                }
                Some(_) => None,
            }
        })
    }

    fn nothing_bootable(&self) -> NoChoice {
        // One that was destroyed is as good as none: another may still come.
        let gone = self.pools.iter().any(|pool| pool.destroyed && self.rank(pool) < self.unexpected());
        let complete = !self.expected.is_empty() && !gone && self.may_improve(self.unexpected()).is_none();
        let mut message =
            format!("no root to boot ({}): a pool with bootfs was expected; {}", self.asked, self.found());
        if let Some(pool) = self.pools.iter().find(|p| self.obstacle(p).is_none()) {
            let name = &pool.name;
            message = format!(
                "{message}; set one with `zpool set bootfs={name}/DATASET {name}`, or name the root on the kernel command \
                 line: zfs={name}/DATASET"
            );
        } else if self.pools.is_empty() {
            message.push_str("; check that the disks are attached and that the image holds their drivers");
        }
        // One that nobody expects would do as well, once it is complete, or its missing disks were waited for.
        let hopeful = self.pools.iter().any(|pool| self.obstacle(pool).is_some_and(|obstacle| obstacle.wait));
        NoChoice::new(message, !complete || hopeful)
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
        let opened = pool.health != Health::Unavailable && pool.unwritable.is_none();
        let bootfs = match &pool.bootfs {
            Some(bootfs) => format!("bootfs {bootfs}"),
            None if opened => "no bootfs".to_owned(),
            None => "bootfs not known".to_owned(),
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

fn ambiguous(name: &str, pools: &[&PoolFact]) -> String {
    let mut guids: Vec<_> = pools.iter().map(|p| p.guid).collect();
    guids.sort_unstable();
    let list: Vec<_> = guids.iter().map(ToString::to_string).collect();
    let first = guids.first().copied().unwrap_or_default();
    format!(
        "{} pools are called {name} (guids {}), so it is not clear which one is meant; detach the disks of the others, or \
         name one by its guid: zfs={first}/DATASET",
        guids.len(),
        list.join(", ")
    )
}

#[cfg(test)]
mod tests;
