//! What TRYIMPORT's reply says about a pool (pure). The ioctl succeeds even for a pool that cannot be opened; the truth is
//! in the root vdev's state (reference zfs-ioctl 4.3).

use super::nvlist::NvList;
use std::fmt;

/// Depth of a vdev tree as far as we follow it; real ones have at most four levels (root, top, replacing, leaf).
const MAX_DEPTH: u32 = 16;

/// Whether a pool can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Every vdev is there.
    Online,
    /// Importable with redundancy lost.
    Degraded,
    /// Not importable now.
    Unavailable,
}

/// A vdev that the kernel could not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVdev {
    /// Its guid.
    pub guid: u64,
    /// `disk`, `file`, `missing`, ...
    pub kind: String,
    /// Recorded path, if it has one.
    pub path: Option<String>,
    /// In words: `cannot open`, `offline`, ...
    pub state: &'static str,
}

/// The reading of one reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it can be imported.
    pub health: Health,
    /// Why not, or why only degraded, in a sentence; empty when online.
    pub reason: String,
    /// `bootfs`, known before importing anything.
    pub bootfs: Option<String>,
    /// Leaves that are not healthy.
    pub bad: Vec<BadVdev>,
    /// Waiting for devices may help.
    pub wait_helps: bool,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.reason.is_empty() { "" } else { ": " };
        let bootfs = self.bootfs.as_deref().unwrap_or("not set");
        write!(f, "{:?}{colon}{}, bootfs {bootfs}", self.health, self.reason)
    }
}

fn state_of(node: &NvList) -> (u64, u64) {
    let stats = node.u64s("vdev_stats").unwrap_or(&[]);
    (stats.get(1).copied().unwrap_or(0), stats.get(2).copied().unwrap_or(0))
}

fn state_words(state: u64) -> &'static str {
    match state {
        1 => "closed",
        2 => "offline",
        3 => "removed",
        4 => "cannot open",
        5 => "faulted",
        6 => "degraded",
        7 => "online",
        _ => "unknown",
    }
}

fn collect_bad(node: &NvList, depth: u32, bad: &mut Vec<BadVdev>) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(children) = node.lists("children") {
        for child in children {
            collect_bad(child, depth + 1, bad);
        }
        return;
    }
    let kind = node.text("type").unwrap_or_default().into_owned();
    let (state, _) = state_of(node);
    if state != 7 && !matches!(kind.as_str(), "hole" | "indirect") {
        bad.push(BadVdev {
            guid: node.u64("guid").unwrap_or(0),
            kind,
            path: node.text("path").map(std::borrow::Cow::into_owned),
            state: state_words(state),
        });
    }
}

fn feature_names(info: &NvList) -> String {
    let Some(features) = info.list("unsup_feat") else { return "not named".into() };
    features.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join(", ")
}

/// Reads a TRYIMPORT reply.
pub fn judge(reply: &NvList) -> Judgement {
    let empty = NvList::new();
    let tree = reply.list("vdev_tree").unwrap_or(&empty);
    let info = reply.list("load_info").unwrap_or(&empty);
    let (state, aux) = state_of(tree);
    let mut bad = Vec::new();
    collect_bad(tree, 0, &mut bad);

    let (health, reason, wait_helps) = match (state, aux) {
        (7, _) => (Health::Online, String::new(), false),
        (6, _) => (Health::Degraded, "some vdevs are missing; the rest is enough".to_owned(), true),
        (_, 9) => {
            let way_out = if info.flag("can_rdonly") { "; a read-only import would work" } else { "" };
            let names = feature_names(info);
            (Health::Unavailable, format!("the pool uses features this OpenZFS does not have: {names}{way_out}"), false)
        }
        (_, 7) => (Health::Unavailable, "the pool has a newer version than this OpenZFS knows".to_owned(), false),
        (_, 13) => (Health::Unavailable, "its log device is damaged or missing".to_owned(), true),
        (_, 18) => {
            let host = info.text("mmp_hostname").unwrap_or_default();
            let reason = if info.u64("mmp_state") == Some(2) {
                "multihost is on and this system has no hostid (pack /etc/hostid)".to_owned()
            } else {
                format!("it is in use by another host {host:?} (multihost)")
            };
            (Health::Unavailable, reason, false)
        }
        (_, 2) => (Health::Unavailable, "its data cannot be read with the vdevs that are there".to_owned(), true),
        _ => (Health::Unavailable, "too many vdevs are missing".to_owned(), true),
    };
    let bootfs = reply.text("bootfs").map(std::borrow::Cow::into_owned).filter(|b| !b.is_empty());
    Judgement { health, reason, bootfs, bad, wait_helps }
}

#[cfg(test)]
mod tests {
    use super::super::nvlist::Value;
    use super::*;

    fn vdev(kind: &str, state: u64, aux: u64, children: Vec<NvList>) -> NvList {
        let mut list = NvList::new();
        list.set("type", Value::Str(kind.as_bytes().to_vec()));
        list.set("guid", Value::U64(5));
        list.set("vdev_stats", Value::U64Array(vec![0, state, aux]));
        if children.is_empty() {
            list.set("path", Value::Str(b"/dev/x".to_vec()));
        } else {
            list.set("children", Value::ListArray(children));
        }
        list
    }

    fn reply(tree: NvList) -> NvList {
        let mut list = NvList::new();
        list.set("vdev_tree", Value::List(tree));
        list.set("bootfs", Value::Str(b"tank/ROOT/a".to_vec()));
        list
    }

    #[test]
    fn online_with_bootfs() {
        let j = judge(&reply(vdev("root", 7, 0, vec![vdev("disk", 7, 0, vec![])])));
        assert_eq!((j.health, j.bootfs.as_deref(), j.bad.len()), (Health::Online, Some("tank/ROOT/a"), 0));
    }

    #[test]
    fn degraded_names_the_leaf() {
        let mirror = vdev("mirror", 6, 0, vec![vdev("disk", 7, 0, vec![]), vdev("disk", 4, 1, vec![])]);
        let j = judge(&reply(vdev("root", 6, 0, vec![mirror])));
        assert_eq!(j.health, Health::Degraded);
        assert_eq!(j.bad.len(), 1);
        assert_eq!(j.bad[0].state, "cannot open");
    }

    #[test]
    fn unsupported_features_are_named_and_waiting_is_pointless() {
        let mut list = reply(vdev("root", 4, 9, vec![]));
        let mut features = NvList::new();
        features.set("org.example:new", Value::Boolean);
        let mut info = NvList::new();
        info.set("unsup_feat", Value::List(features));
        info.set("can_rdonly", Value::Boolean);
        list.set("load_info", Value::List(info));
        let j = judge(&list);
        assert!(j.reason.contains("org.example:new") && j.reason.contains("read-only"), "{}", j.reason);
        assert!(!j.wait_helps);
    }

    #[test]
    fn an_empty_reply_is_unavailable() {
        assert_eq!(judge(&NvList::new()).health, Health::Unavailable);
    }
}
