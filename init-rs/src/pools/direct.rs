//! Importing a pool with one load instead of two, where its labels leave nothing to be asked.
//!
//! TRYIMPORT loads a pool to tell what is in it, and IMPORT loads it again. IMPORT would take the configuration that the labels
//! make up (what it is given only has to lead to the devices; the pool's own configuration replaces it), but it drops the spares
//! and caches that it does not find in there, and labels do not list them: the next spare that is added would then replace them
//! all. So the pool is made known to the kernel without being loaded (`ZFS_IMPORT_VERBATIM`), and loaded by the first question
//! about it, which takes spares and caches from the pool: as a kernel does that finds a pool in its cache file, and as FreeBSD's
//! does with its root pool, also from the labels (`spa_import_rootpool`). On this way the kernel looks for activity of other
//! hosts (multihost) and for log devices that are missing as on the other, and for the last user's hostid besides; not for the
//! state in the labels, so a destroyed pool must not go this way.
//!
//! Whether a pool is imported so is decided by `plan/select/direct.rs`.

use super::Pools;
use super::import::{ImportError, explain};
use super::progress::Work;
use crate::zfs::assemble::{Aux, Candidate};
use crate::zfs::ioctl::{self, ImportFlags, Zfs};
use crate::zfs::judge::{Judgement, judge};
use crate::zfs::nvlist::{NvList, Value};

impl Pools<'_> {
    /// Whether the labels leave nothing open that the kernel would have to be asked about before an import: each device of the
    /// pool is there, once, and whatever spares and caches there are will be found where the pool has them.
    pub fn labels_suffice(&self, candidate: &Candidate, aux: &[Aux]) -> bool {
        candidate.problems.is_empty()
            && !candidate.leaves.is_empty()
            && candidate.missing().next().is_none()
            && candidate.missing_tops() == 0
            && self.link_aux(aux)
    }

    /// Imports a pool from its labels, under its own name and writable. Returns what the kernel says of its health then;
    /// `bootfs` is to be asked of the imported pool. After a failure it is not imported, and [`Pools::open`] tells why.
    pub fn import_directly(&self, candidate: &mut Candidate) -> Result<Judgement, ImportError> {
        self.settle_paths(candidate);
        let hidden = self.hide(&candidate.config);
        let Candidate { name, guid, config, .. } = &*candidate;
        let work = Work { what: "importing", pool: name, guid: *guid };
        let zfs = Zfs::new(self.system);
        let result =
            self.phases.time("import", || work.watched(self.system, self.log, || load(zfs, name, *guid, config)));
        drop(hidden);
        let stats = result.map_err(|e| refusal(name, &e))?;
        let judgement = judge(&stats);
        self.log.info(format!("pool {name} ({guid}) is imported from its labels: {judgement}"));
        Ok(judgement)
    }
}

/// Makes the pool known, and loads it. One that cannot be loaded is not left behind, or it would be taken for an imported one.
fn load(zfs: Zfs<'_>, name: &str, guid: u64, config: &NvList) -> Result<NvList, ioctl::ImportError> {
    let mut properties = NvList::new();
    properties.set("cachefile", Value::Str(b"none".to_vec()));
    let flags = ImportFlags { verbatim: true, ..ImportFlags::default() };
    zfs.import(name, guid, config, &properties, flags)?;
    zfs.load(name).inspect_err(|e| {
        if e.error.errno != libc::ENOENT {
            // The first failure is the one to tell; a pool that stays known is found by whoever asks for the imported ones.
            let _ = zfs.export(name);
        }
    })
}

fn refusal(pool: &str, e: &ioctl::ImportError) -> ImportError {
    let mut error = explain(pool, e.error.errno, e.detail.as_ref().and_then(|reply| reply.list("load_info")));
    if e.error.errno == libc::ENOENT {
        "its own record says that another system used it last, or its labels are not those of one pool"
            .clone_into(&mut error.reason);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::log::Log;
    use crate::report::phases::Phases;
    use crate::sys::fake::Tree;
    use crate::sys::{System as _, ZfsReply};
    use crate::zfs::assemble::{Leaf, Problem};
    use crate::zfs::judge::Health;
    use crate::zfs::label::PoolState;
    use std::sync::{Arc, Mutex};

    const IMPORT: u32 = 2;
    const EXPORT: u32 = 3;
    const STATS: u32 = 5;

    fn candidate() -> Candidate {
        let path = "/dev/disk/by-id/a".to_owned();
        let leaf: NvList =
            [("type", Value::text("disk")), ("guid", Value::U64(1)), ("path", Value::text(path.as_str()))]
                .into_iter()
                .collect();
        let root: NvList = [("children", Value::ListArray(vec![leaf]))].into_iter().collect();
        let device = Some("/dev/vda1".to_owned());
        Candidate {
            guid: 7,
            name: "tank".into(),
            state: PoolState::Active,
            hostid: None,
            hostname: None,
            txg: 4,
            config: [("pool_guid", Value::U64(7)), ("vdev_tree", Value::List(root))].into_iter().collect(),
            leaves: vec![Leaf { guid: 1, recorded_path: Some(path), device, top_id: 0, kind: "disk".into() }],
            problems: vec![],
        }
    }

    /// What comes of it with a kernel whose IMPORT fails with one errno and whose load with another, or with the second inside
    /// a reply; and which calls there were.
    fn import(refused: i32, missing: i32, not_loaded: i32) -> (Result<Judgement, ImportError>, Vec<u32>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let calls = Arc::clone(&asked);
        let tree = Tree::answering(move |tree, call| {
            calls.lock().unwrap().push(call.number);
            assert_eq!(call.name, b"tank");
            if call.number == IMPORT {
                assert_eq!((call.cookie, call.guid), (1, 7));
                assert_eq!(NvList::decode(call.src).unwrap().string("cachefile"), Some(&b"none"[..]));
                assert_eq!(NvList::decode(call.conf).unwrap().u64("pool_guid"), Some(7));
                assert_eq!(
                    tree.canonical(std::path::Path::new("/dev/disk/by-id/a")).unwrap().to_str(),
                    Some("/dev/vda1")
                );
                return ZfsReply { errno: refused, ..ZfsReply::default() };
            }
            let tree: NvList =
                [("type", Value::text("root")), ("vdev_stats", Value::U64Array(vec![0, 7, 0]))].into_iter().collect();
            let stats: NvList = [("pool_guid", Value::U64(8)), ("vdev_tree", Value::List(tree))].into_iter().collect();
            let cookie = u64::try_from(not_loaded).unwrap();
            let errno = if call.number == STATS { missing } else { 0 };
            ZfsReply { errno, cookie, dst: stats.encode_native(), ..ZfsReply::default() }
        });
        let tree = Arc::new(tree.with("/dev/vda1", ""));
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let result = Pools::new(&*tree, &log, &phases).import_directly(&mut candidate());
        let asked = asked.lock().unwrap().clone();
        (result, asked)
    }

    #[test]
    fn one_load_and_its_health() {
        let (result, asked) = import(0, 0, 0);
        assert_eq!((result.unwrap().health, asked), (Health::Online, vec![IMPORT, STATS]));
    }

    #[test]
    fn a_pool_that_cannot_be_loaded_is_not_left_behind() {
        let (result, asked) = import(0, 0, libc::EREMOTEIO);
        assert!(result.unwrap_err().to_string().contains("pool tank could not be imported"));
        assert_eq!(asked, [IMPORT, STATS, EXPORT]);
        // The kernel has dropped it itself.
        let (result, asked) = import(0, libc::ENOENT, 0);
        assert!(result.unwrap_err().reason.contains("another system"));
        assert_eq!(asked, [IMPORT, STATS]);
        let (result, asked) = import(libc::EINVAL, 0, 0);
        assert!(result.unwrap_err().reason.contains("Invalid argument"));
        assert_eq!(asked, [IMPORT]);
    }

    #[test]
    fn labels_must_leave_nothing_open() {
        let tree = Arc::new(Tree::new().with("/dev/vda1", "").with("/dev/vdb", ""));
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let pools = Pools::new(&*tree, &log, &phases);
        let aux = |recorded_path: Option<&str>| Aux {
            guid: 9,
            device: "/dev/vdb".into(),
            recorded_path: recorded_path.map(str::to_owned),
        };
        assert!(pools.labels_suffice(&candidate(), &[]));
        assert!(pools.labels_suffice(&candidate(), &[aux(Some("/dev/disk/by-id/spare"))]));
        assert!(!pools.labels_suffice(&candidate(), &[aux(None)]), "it may be this pool's");
        assert!(!pools.labels_suffice(&candidate(), &[aux(Some("/dev/vda1"))]), "the pool has it elsewhere");

        let mut missing = candidate();
        missing.leaves[0].device = None;
        let mut hole = candidate();
        let tops = vec![[("type", Value::text("missing"))].into_iter().collect()];
        hole.config.list_mut("vdev_tree").unwrap().set("children", Value::ListArray(tops));
        let mut odd = candidate();
        odd.problems.push(Problem::Outdated { device: "/dev/vdc".into() });
        for candidate in [missing, hole, odd] {
            assert!(!pools.labels_suffice(&candidate, &[]), "{candidate:?}");
        }
    }
}
