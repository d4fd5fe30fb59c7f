//! The `/dev/zfs` calls about snapshots: list, take, clone, roll back, destroy. Reference zfs-ioctl sections 1.2, 5.2 and
//! 6.2; all of them but the list change the pool.

use super::calls::{CLONE, DESTROY, DESTROY_SNAPS, ROLLBACK, SET_PROP, SNAPSHOT, SNAPSHOT_LIST_NEXT};
use super::ioctl::{Zfs, ZfsError};
use super::nvlist::{NvList, Value};
use crate::sorted;
use crate::sys::ZfsCall;

/// Room for the list of what failed.
const ERRORS_ROOM: usize = 128 * 1024;

/// A snapshot of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Full name, `pool/dataset@snapshot`.
    pub name: String,
    /// Transaction group it was taken in: later snapshots have higher ones.
    pub createtxg: u64,
    /// Clones of it, by name.
    pub clones: Vec<String>,
    /// Holds (zfs-hold(8)) on it.
    pub holds: u64,
}

/// A call over several things that failed, and for which of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", item_text(.items))]
pub struct ActError {
    /// The call and its errno.
    pub error: ZfsError,
    /// Snapshot or property, and its errno.
    pub items: Vec<(String, i32)>,
}

fn item_text(items: &[(String, i32)]) -> String {
    let text: Vec<String> =
        items.iter().map(|(name, errno)| format!("{name}: {}", super::ioctl::describe(*errno))).collect();
    if text.is_empty() { String::new() } else { format!(" ({})", text.join("; ")) }
}

impl Zfs<'_> {
    /// Snapshots of this very dataset that were taken in a transaction group after `after`, oldest first.
    pub fn snapshots(self, dataset: &str, after: u64) -> Result<Vec<Snapshot>, ZfsError> {
        // Kernels that know the filter skip older ones without reading them; the others ignore it.
        let mut filter = NvList::new();
        filter.set("snap_iter_min_txg", Value::U64(after.saturating_add(1)));
        let src = filter.encode_native();
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            let call = ZfsCall {
                number: SNAPSHOT_LIST_NEXT,
                name: dataset.as_bytes(),
                src: &src,
                cookie,
                ..ZfsCall::default()
            };
            let reply = match self.query("SNAPSHOT_LIST_NEXT", &call) {
                Ok(reply) => reply,
                Err(e) if e.errno == libc::ESRCH => break,
                Err(e) => return Err(e),
            };
            // A kernel that does not advance would keep us here for ever.
            if reply.cookie == cookie {
                break;
            }
            cookie = reply.cookie;
            let properties = Self::decode("SNAPSHOT_LIST_NEXT", &reply.name, &reply)?;
            let snapshot = snapshot(&String::from_utf8_lossy(&reply.name), &properties);
            if snapshot.createtxg > after {
                all.push(snapshot);
            }
        }
        sorted::by(&mut all, |a, b| (a.createtxg, &a.name).cmp(&(b.createtxg, &b.name)));
        Ok(all)
    }

    /// One snapshot by its full name; `None` if there is none.
    pub fn snapshot(self, name: &str) -> Result<Option<Snapshot>, ZfsError> {
        match self.objset(name) {
            Ok(objset) => Ok(Some(snapshot(name, &objset.properties))),
            Err(e) if e.errno == libc::ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes a snapshot, of this dataset alone.
    pub fn take_snapshot(self, name: &str) -> Result<(), ActError> {
        let mut src = NvList::new();
        src.set("snaps", Value::List(name_set([name])));
        self.act("SNAPSHOT", SNAPSHOT, pool(name), &src)
    }

    /// Makes `to`, a clone of the snapshot `from`, with these properties set on it. If one cannot be set, there is no clone.
    pub fn clone_snapshot(self, from: &str, to: &str, properties: &[(String, Value)]) -> Result<(), ActError> {
        let mut list = NvList::new();
        for (name, value) in properties {
            list.set(name, value.clone());
        }
        let mut src = NvList::new();
        src.set("origin", Value::text(from));
        if !list.is_empty() {
            src.set("props", Value::List(list));
        }
        self.act("CLONE", CLONE, to, &src)
    }

    /// Rolls a dataset back to its newest snapshot, which must be `snapshot`.
    pub fn roll_back(self, snapshot: &str) -> Result<(), ActError> {
        let mut src = NvList::new();
        src.set("target", Value::text(snapshot));
        self.act("ROLLBACK", ROLLBACK, dataset(snapshot), &src)
    }

    /// Destroys snapshots of one pool: all of them, or none if one has clones or holds.
    pub fn destroy_snapshots(self, names: &[String]) -> Result<(), ActError> {
        let Some(first) = names.first() else { return Ok(()) };
        let mut src = NvList::new();
        src.set("snaps", Value::List(name_set(names.iter().map(String::as_str))));
        self.act("DESTROY_SNAPS", DESTROY_SNAPS, pool(first), &src)
    }

    /// Destroys a dataset that has neither children nor snapshots.
    pub fn destroy(self, name: &str) -> Result<(), ActError> {
        self.act("DESTROY", DESTROY, name, &NvList::new())
    }

    /// Sets a property.
    pub fn set_property(self, dataset: &str, property: &str, value: Value) -> Result<(), ActError> {
        let mut src = NvList::new();
        src.set(property, value);
        self.act("SET_PROP", SET_PROP, dataset, &src)
    }

    /// A call with an effect: sent once.
    fn act(self, what: &'static str, number: u32, name: &str, src: &NvList) -> Result<(), ActError> {
        let src = if src.is_empty() { Vec::new() } else { src.encode_native() };
        let call =
            ZfsCall { number, name: name.as_bytes(), src: &src, dst_capacity: ERRORS_ROOM, ..ZfsCall::default() };
        let reply = self.call(what, &call).map_err(|error| ActError { error, items: Vec::new() })?;
        if reply.errno == 0 {
            return Ok(());
        }
        let item = |(name, value): (&[u8], &Value)| match value {
            Value::I32(errno) => Some((String::from_utf8_lossy(name).into_owned(), *errno)),
            _ => None,
        };
        let items = NvList::decode(&reply.dst).map(|list| list.iter().filter_map(item).collect()).unwrap_or_default();
        Err(ActError { error: ZfsError { call: what, name: name.to_owned(), errno: reply.errno }, items })
    }
}

fn snapshot(name: &str, properties: &NvList) -> Snapshot {
    let number = |property: &str| properties.list(property).and_then(|p| p.u64("value")).unwrap_or(0);
    let clones = properties.list("clones").and_then(|p| p.list("value"));
    let clones = clones.into_iter().flat_map(NvList::iter).map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    Snapshot {
        name: name.to_owned(),
        createtxg: number("createtxg"),
        clones: clones.collect(),
        holds: number("userrefs"),
    }
}

/// Names as the kernel takes a set of them.
fn name_set<'a>(names: impl IntoIterator<Item = &'a str>) -> NvList {
    let mut set = NvList::new();
    for name in names {
        set.set(name, Value::Boolean);
    }
    set
}

fn dataset(snapshot: &str) -> &str {
    snapshot.split_once('@').map_or(snapshot, |(dataset, _)| dataset)
}

fn pool(name: &str) -> &str {
    name.split(['/', '@']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ZfsReply;
    use crate::zfs::fake::Fake;

    fn property(value: Value) -> Value {
        let mut pair = NvList::new();
        pair.set("value", value);
        Value::List(pair)
    }

    #[test]
    fn snapshots_come_by_age_and_only_newer_ones() {
        let table = [("t/a@new", 30), ("t/a@old", 10), ("t/a@mid", 20)];
        let answer = |call: &ZfsCall<'_>| {
            let Some((name, txg)) = table.get(usize::try_from(call.cookie).unwrap()) else {
                return ZfsReply { errno: libc::ESRCH, ..ZfsReply::default() };
            };
            let mut properties = NvList::new();
            properties.set("createtxg", property(Value::U64(*txg)));
            properties.set("userrefs", property(Value::U64(1)));
            properties.set("clones", property(Value::List(name_set(["t/c"]))));
            let name = name.as_bytes().to_vec();
            ZfsReply { name, cookie: call.cookie + 1, dst: properties.encode_native(), ..ZfsReply::default() }
        };
        let fake = Fake::new(answer);
        let names = |after| -> Vec<String> {
            Zfs::new(&fake).snapshots("t/a", after).unwrap().into_iter().map(|s| s.name).collect()
        };
        assert_eq!(names(0), ["t/a@old", "t/a@mid", "t/a@new"]);
        assert_eq!(names(10), ["t/a@mid", "t/a@new"]);
        let newest = Zfs::new(&fake).snapshots("t/a", 20).unwrap().remove(0);
        assert_eq!((newest.clones, newest.holds), (vec!["t/c".to_owned()], 1));
        let asked = fake.asked();
        assert!(asked.iter().all(|a| a.name == "t/a"), "{asked:?}");
        assert_eq!(asked.last().unwrap().src.u64("snap_iter_min_txg"), Some(21));
    }

    #[test]
    fn arguments_are_those_the_kernel_checks() {
        let fake = Fake::new(|_: &ZfsCall<'_>| ZfsReply::default());
        let zfs = Zfs::new(&fake);
        zfs.take_snapshot("t/a@s").unwrap();
        zfs.clone_snapshot("t/a@s", "t/c", &[("canmount".into(), Value::U64(2))]).unwrap();
        zfs.roll_back("t/a@s").unwrap();
        zfs.destroy_snapshots(&["t/a@x".into(), "t/b@y".into()]).unwrap();
        zfs.destroy_snapshots(&[]).unwrap();
        zfs.destroy("t/c").unwrap();
        let asked = fake.asked();
        let calls: Vec<(u32, &str)> = asked.iter().map(|a| (a.number, a.name.as_str())).collect();
        assert_eq!(calls, [(0x23, "t"), (0x42, "t/c"), (0x19, "t/a"), (0x3b, "t"), (0x18, "t/c")]);
        assert!(asked[0].src.list("snaps").unwrap().flag("t/a@s"));
        assert_eq!(asked[1].src.text("origin").unwrap(), "t/a@s");
        assert_eq!(asked[1].src.list("props").unwrap().u64("canmount"), Some(2));
        assert_eq!(asked[2].src.text("target").unwrap(), "t/a@s");
        assert!(asked[3].src.list("snaps").unwrap().flag("t/b@y"));
    }

    #[test]
    fn a_failure_names_its_items() {
        let answer = |_: &ZfsCall<'_>| {
            let mut errors = NvList::new();
            errors.set("t/a@x", Value::I32(libc::EEXIST));
            ZfsReply { errno: libc::EEXIST, dst: errors.encode_native(), ..ZfsReply::default() }
        };
        let fake = Fake::new(answer);
        let error = Zfs::new(&fake).destroy_snapshots(&["t/a@x".into()]).unwrap_err();
        assert_eq!((error.error.errno, error.items.clone()), (libc::EEXIST, vec![("t/a@x".into(), libc::EEXIST)]));
        assert!(error.to_string().contains("t/a@x: File exists"), "{error}");
    }
}
