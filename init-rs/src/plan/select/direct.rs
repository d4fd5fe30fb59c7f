//! Whether a pool may be imported from its labels, without being opened for a look before.

use super::{names, untouched};
use crate::cmdline::Request;
use crate::image::ExpectedPool;
use crate::plan::facts::PoolFact;

/// What is known of a pool before the kernel has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels {
    /// Its labels leave nothing open that the kernel would have to be asked about (`Pools::labels_suffice`).
    pub suffice: bool,
    /// It is known to be used by several hosts (`multihost=on`). Where that is not known the kernel finds out by itself, and
    /// makes sure of it; but only TRYIMPORT tells which host it is.
    pub multihost: bool,
}

/// Whether nothing is in doubt with a pool, so that it is imported at once: `pool` is one of `pools`, which are all that were
/// found, and `own_hostid` this system's hostid, 0 for none. Otherwise it is opened (TRYIMPORT) before: that tells its health,
/// its `bootfs` and what is in the way, and changes nothing.
pub fn directly(
    request: &Request,
    pool: &PoolFact,
    pools: &[PoolFact],
    expected: &[ExpectedPool],
    labels: Labels,
    own_hostid: u32,
) -> bool {
    let is_expected = expected.iter().any(|e| e.guid != 0 && e.guid == pool.guid);
    // The image knows a pool of this name, and it is another one.
    let another_expected = !is_expected && expected.iter().any(|e| e.guid != 0 && e.name == pool.name);
    let rival = pools.iter().any(|other| other.name == pool.name && other.guid != pool.guid);
    // Also of an exported pool: the kernel refuses it on this way, though nobody uses it.
    let other_hostid = pool.hostid != 0 && own_hostid != 0 && pool.hostid != own_hostid;
    let import = &request.import;
    labels.suffice
        && !labels.multihost
        && (is_expected || names(request, &pool.name, pool.guid))
        && !another_expected
        && !rival
        && !pool.destroyed
        && pool.foreign.is_none()
        && !other_hostid
        && untouched(request, pool, expected).is_none()
        && !import.read_only.value
        && !import.missing_log.value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;

    /// A case: what is asked for, and changes to what would be imported directly.
    struct Case {
        line: &'static str,
        pool: PoolFact,
        others: Vec<PoolFact>,
        expected: Vec<ExpectedPool>,
        labels: Labels,
        own_hostid: u32,
    }

    fn case(line: &'static str) -> Case {
        Case {
            line,
            pool: PoolFact { hostid: 5, ..PoolFact::named("tank", 7) },
            others: vec![PoolFact::named("data", 8)],
            expected: vec![],
            labels: Labels { suffice: true, multihost: false },
            own_hostid: 5,
        }
    }

    fn expect(name: &str, guid: u64) -> Vec<ExpectedPool> {
        vec![ExpectedPool { name: name.into(), guid, vdevs: vec![] }]
    }

    impl Case {
        fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
            change(&mut self);
            self
        }

        fn directly(&self) -> bool {
            let Self { line, pool, others, expected, labels, own_hostid } = self;
            let mut pools = others.clone();
            pools.push(pool.clone());
            directly(&parse(line.as_bytes()), pool, &pools, expected, *labels, *own_hostid)
        }
    }

    #[test]
    fn what_is_named_or_expected_and_beyond_doubt() {
        let named = || case("zfs=tank/ROOT/a");
        let auto = || case("root=zfs:AUTO");
        let yes = [
            ("named", named()),
            ("named by guid", case("root=zfs:7/ROOT/a")),
            ("named, for its bootfs", case("zfs=tank")),
            ("expected by guid", auto().with(|c| c.expected = expect("tank", 7))),
            ("named, and another name expected", named().with(|c| c.expected = expect("other", 3))),
            ("expected without a guid, but named", named().with(|c| c.expected = expect("tank", 0))),
            ("never used by a system with a hostid", named().with(|c| c.pool.hostid = 0)),
            ("no hostid of our own", named().with(|c| c.own_hostid = 0)),
            ("exported", named().with(|c| c.pool.exported = true)),
        ];
        for (what, case) in yes {
            assert!(case.directly(), "{what}");
        }
    }

    #[test]
    fn everything_else_is_looked_at_before() {
        let named = || case("zfs=tank/ROOT/a");
        let auto = || case("root=zfs:AUTO");
        let no = [
            ("nobody asks for it", case("zfs=data/ROOT/a")),
            ("one of several", auto()),
            ("expected by name alone", auto().with(|c| c.expected = expect("tank", 0))),
            ("named, and another of that name expected", named().with(|c| c.expected = expect("tank", 9))),
            ("another of that name", named().with(|c| c.others.push(PoolFact::named("tank", 9)))),
            ("labels that leave something open", named().with(|c| c.labels.suffice = false)),
            ("multihost", named().with(|c| c.labels.multihost = true)),
            ("destroyed", named().with(|c| c.pool.destroyed = true)),
            ("another system's", named().with(|c| c.pool.foreign = Some("last used by x".into()))),
            ("exported by another system", named().with(|c| c.pool.hostid = 6)),
            ("left out", case("root=zfs:AUTO taproot.skip_pools=tank").with(|c| c.expected = expect("tank", 7))),
            ("read-only", case("zfs=tank/ROOT/a taproot.import=ro")),
            ("to do without a log", case("zfs=tank/ROOT/a taproot.missing_log=yes")),
        ];
        for (what, case) in no {
            assert!(!case.directly(), "{what}");
        }
    }
}
