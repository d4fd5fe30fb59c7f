//! Importing a pool, and what the kernel's refusals mean.

use super::Pools;
use super::progress::Work;
use crate::zfs::ioctl::{ImportFlags, Zfs, describe};
use crate::zfs::judge;
use crate::zfs::nvlist::{NvList, Value};
use crate::zfs::rewind::{Earlier, Rewind};

/// A pool to import.
#[derive(Debug, Clone, Copy)]
pub struct ImportRequest<'a> {
    /// Its name, as the labels have it: another one would rename the pool.
    pub pool: &'a str,
    /// Its guid.
    pub guid: u64,
    /// TRYIMPORT's reply (see [`crate::plan::candidates::Opened`]), whole.
    pub config: &'a NvList,
    /// Import read-only: nothing is written, and no log is replayed.
    pub read_only: bool,
    /// Import without a log device that is missing, giving up what only it holds.
    pub missing_log: bool,
    /// Go back to the pool's checkpoint; final unless read-only.
    pub checkpoint: bool,
    /// Go back to an older state, or ask how far that would be.
    pub rewind: Option<Rewind>,
}

/// An import that failed, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pool {pool} could not be imported: {reason}")]
pub struct ImportError {
    /// Pool name.
    pub pool: String,
    /// The kernel's reason in words.
    pub reason: String,
    /// What the kernel named, a line each.
    pub detail: Vec<String>,
    /// What helps, a line each.
    pub advice: Vec<String>,
    /// An older state that could be loaded.
    pub earlier: Option<Box<Earlier>>,
}

impl Pools<'_> {
    /// Imports a pool under its own name; `cachefile=none`, else the kernel writes `/etc/zfs/zpool.cache`.
    pub fn import(&self, request: &ImportRequest<'_>) -> Result<(), ImportError> {
        let ImportRequest { pool, guid, config, .. } = *request;
        let mut properties = NvList::new();
        properties.set("cachefile", Value::Str(b"none".to_vec()));
        if request.read_only {
            properties.set("readonly", Value::U64(1));
        }
        let flags = ImportFlags { missing_log: request.missing_log, checkpoint: request.checkpoint };
        let work = Work { what: "importing", pool, guid };
        let hidden = self.hide(config).map_err(|reason| ImportError {
            pool: pool.to_owned(),
            reason,
            detail: Vec::new(),
            advice: vec!["detach the disk that does not answer, then retry".to_owned()],
            earlier: None,
        })?;
        let back = request.rewind.map(|rewind| {
            let mut config = config.clone();
            rewind.put_into(&mut config);
            config
        });
        let config = back.as_ref().unwrap_or(config);
        let result = self.phases.time("import", || {
            work.watched(self.system, self.log, || Zfs::new(self.system).import(pool, guid, config, &properties, flags))
        });
        drop(hidden);
        result.map_err(|e| explain(pool, e.error.errno, e.detail.as_ref().and_then(|reply| reply.list("load_info"))))
    }
}

/// The words for a refusal: errno and what `load_info` of the reply adds.
pub(super) fn explain(pool: &str, errno: i32, info: Option<&NvList>) -> ImportError {
    let empty = NvList::new();
    let info = info.unwrap_or(&empty);
    let missing = judge::missing_vdevs(info);
    let features = judge::features(info);
    let mut detail: Vec<String> = missing.iter().map(|vdev| format!("missing: {vdev}")).collect();
    detail.extend(features.iter().map(|name| format!("unsupported feature: {name}")));
    let (reason, advice): (String, &[&str]) = match errno {
        libc::ENXIO if missing.iter().any(|vdev| vdev.log) => (
            "its log device is missing; what was written last may be only there".into(),
            &[
                "attach the log device, then retry",
                "give up the last seconds of synchronous writes: retry taproot.missing_log=yes here, or that word on the kernel command line",
            ],
        ),
        libc::ENXIO => (
            "devices are missing, or none of them holds a state that can be loaded".into(),
            &["attach what is missing, then retry"],
        ),
        libc::EREMOTEIO => (judge::multihost(info), &["do that, then retry"]),
        libc::ENOTSUP if info.flag("can_rdonly") => (
            format!("it uses features this OpenZFS does not have: {}", features.join(", ")),
            &[
                "boot it read-only: retry taproot.import=ro here, or that word on the kernel command line",
                "boot a system with a newer OpenZFS",
            ],
        ),
        libc::ENOTSUP => (
            format!("it uses features this OpenZFS does not have: {}", features.join(", ")),
            &["boot a system with a newer OpenZFS"],
        ),
        libc::EEXIST => (
            "another pool of that name is imported already".into(),
            &["export the other pool (zpool export), then retry"],
        ),
        libc::EBUSY => ("one of its devices is in use".into(), &["free the device (swap, md, dm), then retry"]),
        libc::EROFS | libc::EACCES => (
            "one of its devices can only be read (write-protected)".into(),
            &["import it read-only: import POOL ro here, taproot.import=ro on the kernel command line"],
        ),
        libc::ENOENT => ("none of its devices could be opened".into(), &["attach its disks, then retry"]),
        _ => (describe(errno), &["look at the log (log), attach what is missing, then retry"]),
    };
    let earlier = Earlier::of(info).map(Box::new);
    let back = earlier.as_ref().map(|_| {
        format!("an older state of it can be loaded: `import {pool} rewind` here says what would be lost, and asks")
    });
    let advice = back.into_iter().chain(advice.iter().map(|line| (*line).to_owned())).collect();
    ImportError { pool: pool.to_owned(), reason, detail, advice, earlier }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
        pairs.into_iter().collect()
    }

    #[test]
    fn a_missing_log_is_named_with_the_setting() {
        let log = list([("type", Value::text("disk")), ("is_log", Value::U64(1)), ("path", Value::text("/dev/log0"))]);
        let missing = list([("children", Value::ListArray(vec![log]))]);
        let error = explain("tank", libc::ENXIO, Some(&list([("missing_vdevs", Value::List(missing))])));
        assert_eq!(
            error.to_string(),
            "pool tank could not be imported: its log device is missing; what was written last may be only there"
        );
        assert_eq!(error.detail, ["missing: log device /dev/log0"]);
        assert!(error.advice[1].contains("taproot.missing_log=yes"), "{error:?}");
    }

    #[test]
    fn other_refusals() {
        let says = |errno, info: &NvList, part: &str| {
            let error = explain("tank", errno, Some(info));
            let all = format!("{error} {:?} {:?}", error.detail, error.advice);
            assert!(all.contains(part), "expected {part:?} in {all}");
        };
        let none = NvList::new();
        says(libc::ENXIO, &none, "devices are missing");
        says(libc::EREMOTEIO, &list([("mmp_state", Value::U64(2))]), "no hostid");
        let host = list([("mmp_hostname", Value::text("elsewhere")), ("mmp_hostid", Value::U64(0xabc))]);
        says(libc::EREMOTEIO, &host, "elsewhere (hostid 00000abc)");
        let features = || Value::List(list([("org.example:new", Value::text(""))]));
        says(libc::ENOTSUP, &list([("unsup_feat", features())]), "newer OpenZFS");
        let readable = list([("unsup_feat", features()), ("can_rdonly", Value::Boolean)]);
        says(libc::ENOTSUP, &readable, "taproot.import=ro");
        says(libc::ENOTSUP, &readable, "unsupported feature: org.example:new");
        says(libc::EEXIST, &none, "of that name");
        says(libc::EBUSY, &none, "in use");
        for errno in [libc::EROFS, libc::EACCES] {
            says(errno, &none, "write-protected");
            says(errno, &none, "taproot.import=ro");
        }
        says(libc::EIO, &none, "Input/output error");
        let rewind = list([("rewind_txg_ts", Value::U64(1_700_000_000)), ("seconds_of_rewind", Value::I64(7))]);
        let damaged = list([("rewind_info", Value::List(rewind))]);
        says(libc::EIO, &damaged, "`import tank rewind` here says what would be lost");
        assert!(
            explain("tank", libc::EIO, Some(&damaged)).earlier.is_some_and(|earlier| earlier.time == 1_700_000_000)
        );
        assert!(explain("tank", libc::EIO, Some(&none)).advice.iter().all(|line| !line.contains("rewind")));
    }
}
