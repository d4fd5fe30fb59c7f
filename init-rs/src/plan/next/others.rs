//! Pools beside the root's: one that holds what the boot needs before init is found and imported as the root's is, once the root's
//! fstab is known.

use super::pool::Search;
use super::{Moment, Next, Root, Settled, Step, end_of};
use crate::cmdline::{Decided, Request, Selector};
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts;
use crate::plan::names;
use crate::plan::select::choose;

/// What an init may need before it has mounted anything itself; `/lib` stands for `/lib*`.
const INIT_TREES: [&str; 5] = ["/usr", "/etc", "/bin", "/sbin", "/lib"];

/// A pool that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    /// Name or guid.
    pub(super) pool: String,
    /// The word, or the line of fstab.
    pub(super) why: String,
    /// It is taken if it is there, and not waited for.
    pub(super) optional: bool,
}

/// Pools beside the one of the root that words and its fstab name, each once.
fn needed(request: &Request, fstab: &[FstabEntry], root: &str) -> Vec<Needed> {
    let words = request.import.also.iter().map(|pool| Needed {
        pool: pool.value.clone(),
        why: pool.why.clone(),
        optional: false,
    });
    let datasets = mounts::named(&[], request).into_iter().map(|name| Needed {
        pool: names::pool_of(name).to_owned(),
        why: format!("taproot.also= or taproot.mounts= ({name})"),
        optional: false,
    });
    let lines = fstab.iter().filter(|_| request.mounts.fstab.value).filter(|line| early(line)).map(|line| Needed {
        pool: names::pool_of(&line.source).to_owned(),
        why: format!("fstab line {} ({} on {})", line.line, line.source, line.target),
        optional: line.has("nofail"),
    });
    let mut all: Vec<Needed> = Vec::new();
    for one in words.chain(datasets).chain(lines).filter(|one| one.pool != root) {
        match all.iter_mut().find(|other| other.pool == one.pool) {
            Some(other) => other.optional &= one.optional,
            None => all.push(one),
        }
    }
    all
}

/// Whether the boot mounts a line's dataset because nothing starts without it. The booted system imports the pools of the others.
fn early(line: &FstabEntry) -> bool {
    let of_init = INIT_TREES.iter().any(|tree| names::is_within(&line.target, tree)) || line.target.starts_with("/lib");
    let dataset = line.fstype == "zfs" && names::check(&line.source).is_ok();
    dataset && !line.has("noauto") && (of_init || line.has("x-initrd.mount"))
}

impl Moment<'_> {
    /// Every pool beside the root's that is needed: imported, or done without.
    pub(super) fn other_pools(self, root: &Root, fstab: &[FstabEntry]) -> Settled<()> {
        let Some(root) = root.dataset() else { return Ok(()) };
        for needed in needed(self.request, fstab, names::pool_of(&root.name)) {
            if !self.facts.attempt.others.contains_key(&needed.pool) {
                self.other_pool(&needed)?;
            }
        }
        Ok(())
    }

    /// One of them.
    pub(super) fn other_pool(self, needed: &Needed) -> Settled<()> {
        let zfs = self.zfs()?;
        let Some(imported) = &self.facts.imported else { return Err(Next::Do(Step::AskImported)) };
        let Needed { pool, why, optional } = needed;
        if imported.iter().any(|fact| fact.name == *pool || pool.parse() == Ok(fact.guid)) {
            return Ok(());
        }
        // The same policies hold as for a root in that pool, which this names.
        let root = Decided::new(Selector::Pool(pool.clone()), why.as_str());
        let request = Request { root, snapshot: None, ..self.request.clone() };
        let moment = Moment { request: &request, ..self };
        let patience = if *optional { std::time::Duration::ZERO } else { request.wait.value };
        let mut search = Search::new(moment, zfs, imported, end_of(self.facts.attempt.last_step, patience));
        search.open_next()?;
        Err(match choose(&request, search.facts(), &self.facts.expected) {
            Ok(choice) if search.late() || search.enough(&choice) => {
                Next::Do(Step::ImportOther { wanted: pool.clone(), found: Box::new(search.found(choice)) })
            }
            Err(no) if search.is_final(&no) => {
                Next::Do(Step::DoWithout { wanted: pool.clone(), why: no.message, warn: !optional })
            }
            _ => Next::Wait(search.wait()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;
    use crate::plan::fstab;

    fn all(words: &str, lines: &str) -> Vec<String> {
        let needed = needed(&parse(words.as_bytes()), &fstab::parse(lines.as_bytes()), "tank");
        needed.into_iter().map(|n| format!("{}{}", n.pool, if n.optional { "?" } else { "" })).collect()
    }

    #[test]
    fn what_nothing_starts_without() {
        assert_eq!(all("", "u/usr /usr zfs defaults\ntank/etc /etc zfs\n"), ["u"]);
        assert_eq!(all("", "l/m /lib/modules zfs\nk/k /keys zfs x-initrd.mount\n"), ["l", "k"]);
        assert_eq!(all("", "d/d /data zfs\nu/u /usr zfs noauto\nUUID=1 /usr ext4\nx:y /usr nfs\n"), [""; 0]);
        assert_eq!(all("", "u/usr /usr zfs nofail\n"), ["u?"]);
        assert_eq!(all("", "u/usr /usr zfs nofail\nu/x /etc zfs\n"), ["u"]);
        assert_eq!(all("taproot.fstab=no", "u/usr /usr zfs\n"), [""; 0]);
        assert_eq!(all("taproot.also_pools=a,7,tank taproot.also=b/x,tank/y", ""), ["a", "7", "b"]);
        assert_eq!(all("taproot.mounts=m/x", "m/y /usr zfs nofail\n"), ["m"]);
    }
}
