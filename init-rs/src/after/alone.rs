//! Whether the booted system can come upon anything of another boot environment at all. Where it cannot, nothing is left for
//! it: a copy of this program in `/run` takes memory for as long as the system runs.

use crate::plan::facts::Dataset;
use crate::plan::{listcache, mounts, names};
use crate::sys::System;
use crate::sys::beneath::resolve;
use crate::zfs::nvlist::NvList;
use std::path::Path;

/// The pools that a system imports when it starts.
const CACHE: &str = "/etc/zfs/zpool.cache";
/// Bytes of a list that are read.
const LIST_MAX: usize = 16 << 20;

/// Whether a system with this root, in the directory `place`, mounts by itself just what it would with us: `datasets` are all
/// those of the root's pool, `mounted` those that are mounted, with where the booted system sees them. Another pool that it
/// imports, or has a list of, may hold another system.
pub fn is_alone(
    system: &dyn System,
    place: &Path,
    root: &Dataset,
    datasets: &[Dataset],
    mounted: &[(String, String)],
) -> bool {
    let pool = names::pool_of(&root.name);
    mounts::rest(root, datasets, mounted).left.is_empty()
        && mounts::foreign(root, datasets).is_empty()
        && imports_no_other(system, place, pool)
        && lists_no_other(system, place, root, pool)
}

/// One that cannot be read may name any pool.
fn imports_no_other(system: &dyn System, place: &Path, pool: &str) -> bool {
    let bytes = resolve(system, place, Path::new(CACHE)).and_then(|path| system.read(&path, LIST_MAX));
    match bytes {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(bytes) if bytes.is_empty() => true,
        Ok(bytes) => NvList::decode(&bytes).is_ok_and(|list| list.iter().all(|(name, _)| name == pool.as_bytes())),
    }
}

fn lists_no_other(system: &dyn System, place: &Path, root: &Dataset, pool: &str) -> bool {
    let Ok(dir) = resolve(system, place, Path::new(listcache::DIR)) else { return true };
    let listed = system.list(&dir).unwrap_or_default();
    listed.iter().all(|name| {
        let text = String::from_utf8_lossy(&system.read(&dir.join(name), LIST_MAX).unwrap_or_default()).into_owned();
        let datasets = listcache::datasets(&text);
        // A list without lines only asks ZED to keep it.
        datasets.is_empty() || (name == pool && mounts::foreign(root, &datasets).is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::{CanMount, Mountpoint};
    use crate::sys::fake::Tree;
    use crate::zfs::nvlist::Value;

    fn dataset(name: &str, canmount: CanMount, path: &str) -> Dataset {
        Dataset { canmount, mountpoint: Mountpoint::Path(path.into()), ..Dataset::with_defaults(name) }
    }

    fn alone(tree: &Tree, more: &[Dataset]) -> bool {
        let root = dataset("p/ROOT/a", CanMount::NoAuto, "/");
        let container = |name: &str| Dataset { mountpoint: Mountpoint::None, ..dataset(name, CanMount::Off, "") };
        let mut all = vec![container("p"), container("p/ROOT"), root.clone(), dataset("p/home", CanMount::On, "/home")];
        all.extend_from_slice(more);
        let mounted = [("p/ROOT/a".into(), "/".into()), ("p/home".into(), "/home".into())];
        is_alone(tree, Path::new("/newroot"), &root, &all, &mounted)
    }

    #[test]
    fn one_environment_and_nothing_else() {
        assert!(alone(&Tree::new(), &[]));
        assert!(alone(&Tree::new(), &[dataset("p/late", CanMount::On, "/late")]));
        assert!(!alone(&Tree::new(), &[dataset("p/ROOT/b", CanMount::NoAuto, "/")]), "another environment");
        assert!(!alone(&Tree::new(), &[dataset("p/old/home", CanMount::On, "/home")]), "two for one directory");
    }

    #[test]
    fn another_pool_may_hold_another_system() {
        let cache = |pools: &[&str]| {
            let list: NvList = pools.iter().map(|pool| (*pool, Value::List(NvList::new()))).collect();
            let tree = Tree::new().with("/newroot/etc/zfs/zpool.cache", "");
            tree.write(Path::new("/newroot/etc/zfs/zpool.cache"), &list.encode_xdr()).unwrap();
            tree
        };
        assert!(alone(&cache(&["p"]), &[]));
        assert!(!alone(&cache(&["p", "backup"]), &[]));
        assert!(alone(&Tree::new().with("/newroot/etc/zfs/zpool.cache", ""), &[]));
        assert!(!alone(&Tree::new().with("/newroot/etc/zfs/zpool.cache", "x"), &[]), "cannot be read");
        let list = |pool: &str, line: &str| Tree::new().with(&format!("/newroot/etc/zfs/zfs-list.cache/{pool}"), line);
        assert!(alone(&list("p", "p/home\t/home\ton\n"), &[]));
        assert!(alone(&list("backup", ""), &[]));
        assert!(!alone(&list("backup", "backup/x\t/x\ton\n"), &[]));
        assert!(!alone(&list("p", "p/ROOT/gone\t/\tnoauto\n"), &[]), "its unit would be made");
    }
}
