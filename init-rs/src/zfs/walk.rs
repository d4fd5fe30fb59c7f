//! Every dataset of a pool, with as little work for the kernel as its calls allow.
//!
//! `DATASET_LIST_NEXT` opens the dataset it names, and all above it, each time anew unless the kernel still holds them open; a
//! pool has thousands. The time is the kernel's, on the processor that asks: so two threads ask, each for the children of what
//! was listed last.

use super::calls::DATASET_LIST_NEXT;
use super::ioctl::{Objset, ObjsetKind, Zfs, ZfsError, text};
use crate::sorted;
use crate::sys::ZfsCall;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Room for the properties of one dataset, usually 3 KB; the kernel says when it needs more.
const ONE_DATASET: usize = 16 * 1024;

/// What a walk found.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Sorted by name: the kernel's order is that of a hash.
    pub found: Vec<Objset>,
    /// False if it was given up because there are more than the limit.
    pub complete: bool,
}

/// A walk under way, for the threads that are at it.
struct Walking<'f> {
    limit: usize,
    enter: &'f (dyn Fn(&Objset) -> bool + Sync),
    state: Mutex<State>,
    /// There is something to be asked, or nothing more.
    news: Condvar,
}

#[derive(Default)]
struct State {
    found: Vec<Objset>,
    /// What was not asked for its children yet.
    parents: Vec<String>,
    /// Threads that are asking.
    asking: usize,
    failed: Option<ZfsError>,
}

impl Walking<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next dataset to ask for its children; `None` once no more will come.
    fn next(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() || state.found.len() > self.limit {
                return None;
            }
            if let Some(parent) = state.parents.pop() {
                state.asking += 1;
                return Some(parent);
            }
            if state.asking == 0 {
                return None;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One of a dataset's children; false if the walk is over.
    fn found(&self, parent: &str, child: Objset) -> bool {
        // A name that is not longer than its parent's would lead in a circle.
        let below = child.kind == ObjsetKind::Filesystem && child.name.len() > parent.len();
        let enter = (below && (self.enter)(&child)).then(|| child.name.clone());
        let mut state = self.lock();
        state.found.push(child);
        state.parents.extend(enter);
        self.news.notify_one();
        state.failed.is_none() && state.found.len() <= self.limit
    }

    /// A dataset has no more children.
    fn asked(&self, result: Result<(), ZfsError>) {
        let mut state = self.lock();
        state.asking -= 1;
        if let (Err(error), None) = (result, &state.failed) {
            state.failed = Some(error);
        }
        self.news.notify_all();
    }
}

impl Zfs<'_> {
    /// Every dataset below `top` and `top` itself, sorted by name.
    pub fn datasets(self, top: &str) -> Result<Vec<Objset>, ZfsError> {
        self.walk(top, usize::MAX, &|_| true).map(|walk| walk.found)
    }

    /// As [`Zfs::datasets`], but what lies below a dataset is looked at only where `enter` says so, and with more than
    /// `limit` datasets the walk is given up.
    pub fn walk(self, top: &str, limit: usize, enter: &(dyn Fn(&Objset) -> bool + Sync)) -> Result<Walk, ZfsError> {
        let top = self.objset(top)?;
        let parents = (top.kind == ObjsetKind::Filesystem).then(|| top.name.clone());
        let state = State { found: vec![top], parents: parents.into_iter().collect(), ..State::default() };
        let walking = Walking { limit, enter, state: Mutex::new(state), news: Condvar::new() };
        self.system().together(&|| {
            while let Some(parent) = walking.next() {
                walking.asked(self.children(&parent, &walking));
            }
        });
        let State { mut found, failed, .. } = walking.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed {
            return Err(error);
        }
        sorted::by(&mut found, |a, b| a.name.cmp(&b.name));
        let complete = found.len() <= limit;
        Ok(Walk { found, complete })
    }

    /// The children of `parent`, unless there is too much already.
    fn children(self, parent: &str, walking: &Walking<'_>) -> Result<(), ZfsError> {
        let mut cookie = 0;
        loop {
            let call = ZfsCall {
                number: DATASET_LIST_NEXT,
                name: parent.as_bytes(),
                cookie,
                dst_capacity: ONE_DATASET,
                ..ZfsCall::default()
            };
            let reply = match self.query("DATASET_LIST_NEXT", &call) {
                Ok(reply) => reply,
                Err(e) if e.errno == libc::ESRCH => return Ok(()),
                Err(e) => return Err(e),
            };
            // A kernel that does not advance would keep us here for ever.
            if reply.cookie == cookie {
                return Ok(());
            }
            cookie = reply.cookie;
            // `$` and `%` mark internal names.
            if reply.name.iter().any(|b| matches!(b, b'$' | b'%')) {
                continue;
            }
            let properties = Self::decode("DATASET_LIST_NEXT", &reply.name, &reply)?;
            let child = Objset { name: text(&reply.name), kind: reply.objset_type.into(), properties };
            if !walking.found(parent, child) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ZfsReply;
    use crate::zfs::fake::Fake;
    use crate::zfs::nvlist::NvList;
    use std::collections::BTreeMap;

    /// A pool of names.
    struct Pool {
        children: BTreeMap<String, Vec<String>>,
        advances: bool,
    }

    impl Pool {
        fn new(names: &[&str]) -> Self {
            let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for name in names {
                let parent = name.rsplit_once('/').unwrap().0;
                children.entry(parent.to_owned()).or_default().push((*name).to_owned());
            }
            Self { children, advances: true }
        }

        fn answer(&self, call: &ZfsCall<'_>) -> ZfsReply {
            let found = ZfsReply { objset_type: 2, dst: NvList::new().encode_native(), ..ZfsReply::default() };
            if call.number != DATASET_LIST_NEXT {
                return found;
            }
            let children = self.children.get(&text(call.name));
            let Some(child) = children.and_then(|c| c.get(usize::try_from(call.cookie).unwrap())) else {
                return ZfsReply { errno: libc::ESRCH, ..ZfsReply::default() };
            };
            let objset_type = if child.contains("vol") { 3 } else { 2 };
            let cookie = call.cookie + u64::from(self.advances);
            ZfsReply { name: child.clone().into_bytes(), cookie, objset_type, ..found }
        }
    }

    fn names(walk: &Walk) -> Vec<&str> {
        walk.found.iter().map(|o| o.name.as_str()).collect()
    }

    #[test]
    fn sorted_and_without_internal_names() {
        let pool = Pool::new(&["t/z", "t/$ORIGIN", "t/a", "t/a/x", "t/a/%recv", "t/a/vol", "t/a/x/deep", "t/b"]);
        let kernel = Fake::new(|call| pool.answer(call));
        let walk = Zfs::new(&kernel).walk("t", usize::MAX, &|_| true).unwrap();
        assert_eq!(names(&walk), ["t", "t/a", "t/a/vol", "t/a/x", "t/a/x/deep", "t/b", "t/z"]);
        assert!(walk.complete);
        assert!(!kernel.asked().iter().any(|a| a.name.contains("vol")), "a volume has no children");
    }

    #[test]
    fn a_branch_that_is_not_entered_is_not_asked_about() {
        let pool = Pool::new(&["t/a", "t/a/x", "t/a/x/y", "t/b", "t/b/x"]);
        let kernel = Fake::new(|call| pool.answer(call));
        let walk = Zfs::new(&kernel).walk("t", usize::MAX, &|o| o.name != "t/a/x" && o.name != "t/b").unwrap();
        assert_eq!(names(&walk), ["t", "t/a", "t/a/x", "t/b"]);
        assert!(!kernel.asked().iter().any(|a| a.name == "t/a/x" || a.name == "t/b"));
    }

    #[test]
    fn too_many_end_it() {
        let many: Vec<String> = (0..1000).map(|n| format!("t/a/{n}")).chain(["t/a".to_owned()]).collect();
        let pool = Pool::new(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let kernel = Fake::new(|call| pool.answer(call));
        assert!(!Zfs::new(&kernel).walk("t", 20, &|_| true).unwrap().complete);
        assert!(kernel.asked().len() < 60);
        let all = Zfs::new(&kernel).walk("t", 1002, &|_| true).unwrap();
        assert!(all.complete && all.found.len() == 1002);
    }

    #[test]
    fn a_list_that_does_not_advance_ends() {
        let pool = Pool { advances: false, ..Pool::new(&["t/a"]) };
        let kernel = Fake::new(|call| pool.answer(call));
        assert_eq!(Zfs::new(&kernel).datasets("t").unwrap().len(), 1);
    }
}
