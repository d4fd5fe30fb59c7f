//! Going back to an older state of a pool whose newest one cannot be loaded (`zpool import -F`): what is asked of the kernel,
//! and what it tells. TRYIMPORT does not look at the policy; an IMPORT that fails does, and writes nothing then (`spa_load_best`
//! in module/zfs/spa.c; reference zfs-ioctl 4.4).

use super::nvlist::{NvList, Value};
use std::time::Duration;

/// `ZPOOL_LOAD_POLICY`, the list in a configuration.
const POLICY: &str = "load-policy";
/// `ZPOOL_LOAD_REWIND_POLICY`; a `uint32`, else the kernel does not see it.
const REWIND: &str = "load-rewind-policy";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewind {
    /// To be told how far it would go back (`ZPOOL_TRY_REWIND`). A pool that can be imported as it is is imported.
    Try,
    /// To go back; final unless read-only (`ZPOOL_DO_REWIND`).
    Do,
}

impl Rewind {
    /// Puts it into the configuration that an import is given.
    pub fn put_into(self, config: &mut NvList) {
        let policy = match self {
            Self::Try => 4,
            Self::Do => 8,
        };
        config.set(POLICY, Value::List([(REWIND, Value::U32(policy))].into_iter().collect()));
    }

    /// Whether a configuration asks for anything of the kind.
    pub fn asked_in(config: &NvList) -> bool {
        config.get(POLICY).is_some()
    }
}

/// An older state that the kernel could load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// When it was written, seconds since 1970.
    pub time: u64,
    /// How much later the newest one was written, if that is told.
    pub loss: Option<Duration>,
    /// Blocks of data among those written last that cannot be read even so.
    pub data_errors: u64,
}

impl Earlier {
    /// From `load_info` of a failed import; `None` if no older state could be loaded either.
    pub fn of(load_info: &NvList) -> Option<Self> {
        let info = load_info.list("rewind_info")?;
        let loss = match info.get("seconds_of_rewind") {
            Some(Value::I64(seconds)) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            _ => None,
        };
        Some(Self { time: info.u64("rewind_txg_ts")?, loss, data_errors: info.u64("verify_data_errors").unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_what_the_kernel_looks_for() {
        for (rewind, number) in [(Rewind::Try, 4), (Rewind::Do, 8)] {
            let mut config: NvList = [("name", Value::text("tank"))].into_iter().collect();
            assert!(!Rewind::asked_in(&config));
            rewind.put_into(&mut config);
            let sent = NvList::decode(&config.encode_native()).unwrap();
            assert!(Rewind::asked_in(&sent) && sent.text("name").is_some());
            assert_eq!(sent.list("load-policy").unwrap().get("load-rewind-policy"), Some(&Value::U32(number)));
        }
    }

    #[test]
    fn what_a_failed_import_tells() {
        let info = |pairs: &[(&str, Value)]| -> NvList {
            let rewind: NvList = pairs.iter().cloned().collect();
            [("rewind_info", Value::List(rewind))].into_iter().collect()
        };
        let whole = [
            ("rewind_txg_ts", Value::U64(1_700_000_000)),
            ("seconds_of_rewind", Value::I64(7)),
            ("verify_data_errors", Value::U64(2)),
        ];
        let earlier = Earlier { time: 1_700_000_000, loss: Some(Duration::from_secs(7)), data_errors: 2 };
        assert_eq!(Earlier::of(&info(&whole)), Some(earlier));
        // A clock that was set back meanwhile.
        let odd = [whole[0].clone(), ("seconds_of_rewind", Value::I64(-7))];
        assert_eq!(Earlier::of(&info(&odd)), Some(Earlier { loss: None, data_errors: 0, ..earlier }));
        assert_eq!(Earlier::of(&info(&[("mmp_result", Value::U32(0))])), None, "nothing could be loaded");
        assert_eq!(Earlier::of(&NvList::new()), None);
    }
}
