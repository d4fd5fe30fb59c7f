//! Pools that are imported already: after a second attempt, or by hand.

use super::Pools;
use crate::plan::facts::PoolFact;
use crate::report::log::Log;
use crate::report::slow;
use crate::sys::System;
use crate::zfs::ioctl::{Zfs, ZfsError};

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
        let imported = imported(self.system, self.log).unwrap_or_default();
        imported.into_iter().map(fact).collect()
    }
}

/// Names and guids of the pools that are imported. A pool that waits for a disk can keep even that question.
pub fn imported(system: &dyn System, log: &Log) -> Result<Vec<(String, u64)>, ZfsError> {
    slow::asked(system, log, "asking for the imported pools", || Zfs::new(system).imported_pools())
}
