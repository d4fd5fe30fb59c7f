//! Where no pool is named: any with a `bootfs`, the expected one first.

use super::obstacle::skipped;
use super::{Choice, NoChoice, Pick, Scene, ambiguous, on, other_guid, rank, started};
use crate::cmdline::{Automatic, Selector, parse};
use crate::image::ExpectedPool;
use crate::plan::facts::PoolFact;
use crate::sorted;

impl Scene<'_> {
    /// Any pool with a `bootfs`.
    pub(super) fn auto(&self) -> Result<Choice, NoChoice> {
        let mut usable: Vec<(usize, &PoolFact, &String)> = self
            .pools
            .iter()
            .filter(|pool| self.obstacle(pool).is_none())
            .filter_map(|pool| Some((self.rank(pool), pool, pool.bootfs.as_ref()?)))
            .collect();
        let key = |(rank, pool, _): &(usize, &PoolFact, &String)| (*rank, pool.name.clone(), !pool.started, pool.guid);
        sorted::by_key(&mut usable, key);
        let Some(&(rank, pool, bootfs)) = usable.first() else { return Err(self.nothing_bootable()) };
        let expected = rank < self.unexpected();
        if !expected && !self.expected.is_empty() && self.request.import.automatic.value == Automatic::Expected {
            return Err(self.only_expected(pool));
        }
        let namesakes: Vec<_> = usable.iter().map(|(_, p, _)| *p).filter(|p| p.name == pool.name).collect();
        let sure = self.expects(pool);
        if namesakes.len() > 1 && !sure && started(&namesakes).is_none() {
            return Err(NoChoice::new(ambiguous(&pool.name, &namesakes), self.may_improve(rank).is_some()));
        }
        let others: Vec<_> = usable.iter().skip(1).map(|(_, p, _)| p.name.as_str()).collect();
        let others = others.join(", ");
        let name = &pool.name;
        let why = match (others.is_empty(), expected) {
            // Others were not even opened.
            (true, true) => format!("bootfs of pool {name}, which the image expects"),
            (true, false) => format!("bootfs of pool {name}, the only usable pool that has one"),
            (false, true) => format!("bootfs of pool {name}, which the image expects; also with bootfs: {others}"),
            (false, false) => format!("bootfs of pool {name}, first by name of those with one; others: {others}"),
        };
        let same = |p: &&PoolFact| p.name == pool.name && p.guid != pool.guid && !self.untouched(p);
        let same: Vec<&PoolFact> = self.pools.iter().filter(same).collect();
        let mut warnings = self.hindered(&same);
        warnings.extend(self.passed_over(pool, rank));
        if !others.is_empty() && !expected {
            let example = self.example(pool);
            warnings.push(format!(
                "several pools have a bootfs: {name} is booted, being first by name, and passed over: {others}; name the \
                 one that is meant, e.g. zfs={example}"
            ));
        }
        let better = self.may_improve(rank).or_else(|| self.may_work(&same).filter(|_| !sure));
        Ok(self.choice(Pick { pool, why, better, warnings }, Some(bootfs.clone())))
    }

    pub(super) fn rank(&self, pool: &PoolFact) -> usize {
        rank(self.expected, &pool.name, pool.guid)
    }

    fn unexpected(&self) -> usize {
        2 * self.expected.len()
    }

    /// Expected pools that would come before `rank`, with the one that is there.
    fn before(&self, rank: usize) -> impl Iterator<Item = (&ExpectedPool, Option<&PoolFact>)> {
        let expected = self.expected.iter().enumerate().take_while(move |(at, _)| 2 * at < rank);
        let expected = expected.filter(|(_, expected)| !skipped(self.request, &expected.name, expected.guid));
        expected.map(|(at, expected)| (expected, self.pools.iter().find(|p| self.rank(p) == 2 * at)))
    }

    /// An expected pool that would come before `rank` and may still appear or become complete.
    fn may_improve(&self, rank: usize) -> Option<String> {
        self.before(rank).find_map(|(expected, pool)| {
            let name = &expected.name;
            match pool {
                None if expected.guid == 0 => Some(format!("pool {name}, which the image expects, was not found yet")),
                None => {
                    Some(format!("pool {name} (guid {}), which the image expects, was not found yet", expected.guid))
                }
                // Of one without its log device some kernels do not know the bootfs, even where it may be imported so.
                Some(pool) if self.obstacle(pool).map_or(pool.missing_log.is_some(), |obstacle| obstacle.wait) => {
                    Some(format!("pool {name}, which the image expects, is not complete yet"))
                }
                Some(_) => None,
            }
        })
    }

    /// What is in the way of each expected pool that would come before the one that is taken.
    fn passed_over(&self, taken: &PoolFact, rank: usize) -> Vec<String> {
        let line = |(expected, pool): (&ExpectedPool, Option<&PoolFact>)| {
            if pool.is_none() && expected.name == taken.name {
                return other_guid(taken, expected);
            }
            format!(
                "{}; pool {} is booted instead, which taproot.auto=expected would refuse",
                self.why_not(expected, pool),
                taken.name
            )
        };
        self.before(rank).map(line).collect()
    }

    /// Why an expected pool is not booted.
    fn why_not(&self, expected: &ExpectedPool, pool: Option<&PoolFact>) -> String {
        let ExpectedPool { name, guid, .. } = expected;
        let which = if *guid == 0 { name.clone() } else { format!("{name} (guid {guid})") };
        let why = match pool {
            None => "was not found".to_owned(),
            Some(pool) => match self.obstacle(pool) {
                Some(obstacle) => format!("cannot be booted{}: {}", on(pool), obstacle.text),
                None if pool.bootfs_unknown => {
                    format!(
                        "does not tell its bootfs before it is imported; if it is meant: zfs={}",
                        self.example(pool)
                    )
                }
                None => format!("has no bootfs; name its root: zfs={}/DATASET", self.example(pool)),
            },
        };
        format!("pool {which}, which the image expects, {why}")
    }

    /// Another pool than the expected ones could be had, and must not be taken.
    fn only_expected(&self, other: &PoolFact) -> NoChoice {
        let reasons: Vec<String> = self.before(self.unexpected()).map(|(e, pool)| self.why_not(e, pool)).collect();
        let (asked, word, reasons) = (self.asked, &self.request.import.automatic.why, reasons.join("; "));
        let (bootfs, example) = (other.bootfs.as_deref().unwrap_or_default(), self.example(other));
        let name = &other.name;
        let message = format!(
            "no root to boot ({asked}): {reasons}; pool {name} has a bootfs, but {word} takes no other; if it is meant, boot \
             {bootfs} here, or zfs={example} on the kernel command line"
        );
        NoChoice::new(message, self.may_improve(self.unexpected()).is_some())
    }

    /// A pool as `zfs=` can name it without any doubt: its name, or else its guid.
    pub(super) fn example(&self, pool: &PoolFact) -> String {
        let name = pool.name.replace(' ', "+");
        let alone = self.pools.iter().filter(|p| p.name == pool.name).count() == 1;
        let meant = parse(format!("zfs={name}").as_bytes()).root.value == Selector::Pool(pool.name.clone());
        if alone && meant { name } else { pool.guid.to_string() }
    }

    pub(super) fn nothing_bootable(&self) -> NoChoice {
        // One that was destroyed is as good as none: another may still come.
        let gone = self.pools.iter().any(|pool| pool.destroyed && self.rank(pool) < self.unexpected());
        // Where any pool would do, one that nobody expects may come, too.
        let complete = self.request.import.automatic.value == Automatic::Expected
            && !self.expected.is_empty()
            && !gone
            && self.may_improve(self.unexpected()).is_none();
        let mut message =
            format!("no root to boot ({}): a pool with bootfs was expected; {}", self.asked, self.found());
        if let Some(pool) = self.pools.iter().find(|p| self.obstacle(p).is_none()) {
            let (name, example) = (&pool.name, self.example(pool));
            let read = format!(
                "retry zfs={example} here, or that word on the kernel command line, imports the pool and reads its bootfs"
            );
            let set = format!("or set a bootfs in a running system: zpool set bootfs={name}/DATASET {name}");
            let bootfs = if pool.bootfs_unknown { read } else { set };
            message = format!(
                "{message}; name the root: boot {name}/DATASET here, zfs={example}/DATASET on the kernel command line; {bootfs}"
            );
        } else if self.pools.is_empty() {
            message.push_str("; check that the disks are attached and that the image holds their drivers");
        }
        // One that nobody expects would do as well, once it is complete, or its missing disks were waited for.
        let hopeful = self.pools.iter().any(|pool| self.obstacle(pool).is_some_and(|obstacle| obstacle.wait));
        NoChoice::new(message, !complete || hopeful)
    }
}
