//! Pools that are imported already: after a second attempt, or by hand.

use super::Pools;
use crate::plan::facts::{Health, PoolFact};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::judge;

impl Pools<'_> {
    /// Pools that are imported already: a second attempt after the rescue, or an import by hand.
    pub fn imported(&self) -> Vec<PoolFact> {
        let zfs = Zfs::new(self.system);
        let fact = |(name, guid): (String, u64)| {
            let stats = zfs.pool_stats(&name).ok();
            let waits = super::waits(self.system, &name);
            // What a pool without its disks is asked for may never come.
            let bootfs = if waits.is_some() { None } else { zfs.bootfs(&name).ok() };
            PoolFact {
                bootfs_unknown: bootfs.is_none(),
                bootfs: bootfs.flatten(),
                health: stats.as_ref().map_or(Health::Online, |s| judge(s).health),
                problem: waits.map(|waits| format!("it is imported, but {waits}")),
                ..PoolFact::named(name, guid)
            }
        };
        zfs.imported_pools().unwrap_or_default().into_iter().map(fact).collect()
    }
}
