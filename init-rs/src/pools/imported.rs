//! Pools that are imported already: after a second attempt, or by hand.

use super::Pools;
use crate::plan::facts::PoolFact;
use crate::report::slow;
use crate::zfs::ioctl::Zfs;

impl Pools<'_> {
    /// Pools that are imported already: a second attempt after the rescue, or an import by hand.
    pub fn imported(&self) -> Vec<PoolFact> {
        let fact = |(name, guid): (String, u64)| {
            let named = PoolFact::named(&name, guid);
            match self.ask(&name) {
                Ok(told) => PoolFact {
                    bootfs_unknown: told.bootfs.is_err(),
                    bootfs: told.bootfs.ok().flatten(),
                    health: told.health,
                    ..named
                },
                Err(why) => {
                    PoolFact { bootfs_unknown: true, problem: Some(format!("it is imported, but {why}")), ..named }
                }
            }
        };
        let imported = slow::asked(self.system, self.log, "asking for the imported pools", || {
            Zfs::new(self.system).imported_pools().unwrap_or_default()
        });
        imported.into_iter().map(fact).collect()
    }
}
