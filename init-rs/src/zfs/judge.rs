//! What TRYIMPORT's reply says about a pool (pure). The ioctl succeeds even for a pool that cannot be opened; the truth is
//! in the root vdev's state (reference zfs-ioctl 4.3).

use super::label::printable;
use super::nvlist::NvList;
use std::fmt;

/// Depth of a vdev tree as far as we follow it; real ones have at most four levels (root, top, replacing, leaf).
const MAX_DEPTH: u32 = 16;

/// Vdev states (`vdev_state_t`, include/sys/fs/zfs.h).
const CANNOT_OPEN: u64 = 4;
const DEGRADED: u64 = 6;
const ONLINE: u64 = 7;
/// Why a vdev cannot be opened (`vdev_aux_t`).
const CORRUPT_DATA: u64 = 2;
const NO_REPLICAS: u64 = 3;
const BAD_GUID_SUM: u64 = 4;
const VERSION_NEWER: u64 = 7;
const UNSUP_FEAT: u64 = 9;
const BAD_LOG: u64 = 13;
const ACTIVE: u64 = 18;
/// `VDEV_STATE_FAULTED` in words.
const FAULTED_WORD: &str = "faulted";
/// `mmp_state_t`.
const MMP_NO_HOSTID: u64 = 2;

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
    /// The kernel did not get as far as `bootfs`: there may be one.
    pub bootfs_unknown: bool,
    /// What is there of the pool cannot be read: an older state of it may.
    pub damaged: bool,
    /// Leaves that are not healthy.
    pub bad: Vec<BadVdev>,
    /// Top-level log devices that are missing: an import needs leave to do without them.
    pub missing_logs: Vec<String>,
    /// Set when the pool can be imported read-only and not otherwise: why.
    pub unwritable: Option<String>,
    /// Waiting for devices may help.
    pub wait_helps: bool,
}

impl Judgement {
    /// The verdict where the kernel did not give one.
    pub fn failed(reason: String) -> Self {
        Self {
            health: Health::Unavailable,
            reason,
            bootfs: None,
            bootfs_unknown: true,
            damaged: false,
            bad: vec![],
            missing_logs: vec![],
            unwritable: None,
            wait_helps: true,
        }
    }
}

/// A vdev that an import misses, as `load_info` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingVdev {
    /// It is a log device.
    pub log: bool,
    /// Recorded path, or type and guid.
    pub name: String,
}

impl fmt::Display for MissingVdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.log { "log device " } else { "" }, self.name)
    }
}

/// A `bootfs` in words.
pub fn bootfs_text(bootfs: Option<&str>, unknown: bool) -> &str {
    bootfs.unwrap_or(if unknown { "not known" } else { "not set" })
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.reason.is_empty() { "" } else { ": " };
        let bootfs = bootfs_text(self.bootfs.as_deref(), self.bootfs_unknown);
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
        5 => FAULTED_WORD,
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
    if state != ONLINE && !is_placeholder(node) {
        bad.push(BadVdev {
            guid: node.u64("guid").unwrap_or(0),
            kind,
            path: node.text("path").map(std::borrow::Cow::into_owned),
            state: state_words(state),
        });
    }
}

/// Features that `load_info` names as unsupported.
pub fn features(info: &NvList) -> Vec<String> {
    let names = info.list("unsup_feat").into_iter().flat_map(NvList::iter);
    names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Vdevs that `load_info` names as missing.
pub fn missing_vdevs(info: &NvList) -> Vec<MissingVdev> {
    let tops = info.list("missing_vdevs").and_then(|list| list.lists("children")).unwrap_or_default();
    tops.iter().map(|top| MissingVdev { log: is_log(top), name: vdev_name(top) }).collect()
}

/// Why multihost protection refuses the pool, from `load_info`.
pub fn multihost(info: &NvList) -> String {
    if info.u64("mmp_state") == Some(MMP_NO_HOSTID) {
        return "multihost is on, and this system has no hostid: pack /etc/hostid into the image, or give one with \
                spl_hostid=0x..."
            .to_owned();
    }
    let host = info.text("mmp_hostname").map_or_else(|| "a host without a name".to_owned(), |name| printable(&name));
    let hostid = info.u64("mmp_hostid").map(|id| format!(" (hostid {id:08x})")).unwrap_or_default();
    format!(
        "it is in use by another system, {host}{hostid} (multihost); export it there or shut that system down, then retry"
    )
}

/// Whether an imported pool waits for its disks, from its configuration. The value is its `failmode`, 0 is `wait`.
pub fn suspended(stats: &NvList) -> bool {
    stats.get("suspended").is_some()
}

/// Why there is not enough of the pool, and whether waiting helps: not where the kernel has given vdevs up that are there.
fn lacking(bad: &[BadVdev]) -> (Health, String, bool) {
    let faulted: Vec<&str> = bad
        .iter()
        .filter(|vdev| vdev.state == FAULTED_WORD)
        .map(|vdev| vdev.path.as_deref().unwrap_or(vdev.kind.as_str()))
        .collect();
    if faulted.is_empty() {
        return (Health::Unavailable, "too many vdevs are missing".to_owned(), true);
    }
    let missing = faulted.len() < bad.len();
    let begin = if missing { "too many vdevs are missing or" } else { "its vdevs are there, but too many are" };
    let reason = format!(
        "{begin} given up after errors (faulted): {}; look at their cables and controllers, and clear the errors \
         in a system that can import the pool (zpool clear)",
        faulted.join(", ")
    );
    (Health::Unavailable, reason, missing)
}

/// A slot without devices: a removed vdev.
fn is_placeholder(vdev: &NvList) -> bool {
    matches!(vdev.string("type"), Some(b"hole" | b"indirect"))
}

fn is_log(vdev: &NvList) -> bool {
    vdev.u64("is_log") == Some(1)
}

/// The path of a disk, or the type and the paths of what it is made of.
fn vdev_name(vdev: &NvList) -> String {
    let kind = vdev.text("type").unwrap_or_default();
    match (vdev.text("path"), vdev.lists("children")) {
        (Some(path), _) => path.into_owned(),
        (None, Some(children)) => {
            let paths = children.iter().filter_map(|child| child.text("path"));
            format!("{kind} of {}", paths.collect::<Vec<_>>().join(", "))
        }
        (None, None) => format!("{kind} (guid {})", vdev.u64("guid").unwrap_or(0)),
    }
}

/// Reads a TRYIMPORT reply.
pub fn judge(reply: &NvList) -> Judgement {
    let empty = NvList::new();
    let tree = reply.list("vdev_tree").unwrap_or(&empty);
    let info = reply.list("load_info").unwrap_or(&empty);
    let (state, aux) = state_of(tree);
    let mut bad = Vec::new();
    collect_bad(tree, 0, &mut bad);

    let tops = tree.lists("children").unwrap_or_default();
    // Since 2.1.12 the kernel opens a pool without its log and refuses only the import; before, it refuses both alike, but
    // an import with leave to do without the log works in either.
    let missing_logs: Vec<String> =
        tops.iter().filter(|top| is_log(top) && state_of(top).0 == CANNOT_OPEN).map(vdev_name).collect();
    let only_logs_missing = !missing_logs.is_empty()
        && tops.iter().all(|top| is_log(top) || state_of(top).0 >= DEGRADED || is_placeholder(top));
    let mut unwritable = None;

    let (health, reason, wait_helps) = match (state, aux) {
        (ONLINE, _) => (Health::Online, String::new(), false),
        (DEGRADED, _) => (Health::Degraded, "some vdevs are missing; the rest is enough".to_owned(), true),
        (CANNOT_OPEN, BAD_GUID_SUM | NO_REPLICAS | 0) if only_logs_missing => {
            (Health::Degraded, "its log device is missing".to_owned(), true)
        }
        (_, UNSUP_FEAT) => {
            let names = features(info).join(", ");
            let reason = format!("the pool uses features this OpenZFS does not have: {names}");
            if info.flag("can_rdonly") {
                unwritable = Some(reason.clone());
                (if bad.is_empty() { Health::Online } else { Health::Degraded }, reason, false)
            } else {
                (Health::Unavailable, reason, false)
            }
        }
        (_, VERSION_NEWER) => {
            (Health::Unavailable, "the pool has a newer version than this OpenZFS knows".to_owned(), false)
        }
        (_, BAD_LOG) => {
            let text = "its log is damaged, or the log device missing; if it cannot be attached, import the pool in a \
                        system with `zpool import -m` or -F";
            (Health::Unavailable, text.to_owned(), true)
        }
        (_, ACTIVE) => (Health::Unavailable, multihost(info), false),
        (_, CORRUPT_DATA) => {
            (Health::Unavailable, "its data cannot be read with the vdevs that are there".to_owned(), true)
        }
        _ => lacking(&bad),
    };
    let bootfs = reply.text("bootfs").map(std::borrow::Cow::into_owned).filter(|b| !b.is_empty());
    // It is told of a pool that could be loaded, and of no other (`spa_tryimport` in module/zfs/spa.c).
    let bootfs_unknown = bootfs.is_none() && state < DEGRADED;
    let damaged = aux == CORRUPT_DATA && health == Health::Unavailable;
    Judgement { health, reason, bootfs, bootfs_unknown, damaged, bad, missing_logs, unwritable, wait_helps }
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
    fn what_was_given_up_is_not_missing() {
        let root = |states: [u64; 2]| {
            let leaves = states.into_iter().map(|state| vdev("disk", state, 1, vec![])).collect();
            judge(&reply(vdev("root", 4, 3, vec![vdev("mirror", 4, 3, leaves)])))
        };
        let gone = root([4, 4]);
        assert_eq!((gone.reason.as_str(), gone.wait_helps), ("too many vdevs are missing", true));
        let faulted = root([5, 5]);
        let begin = "its vdevs are there, but too many are given up after errors (faulted): /dev/x, /dev/x; look at";
        assert!(faulted.reason.starts_with(begin) && !faulted.wait_helps, "{}", faulted.reason);
        let both = root([4, 5]);
        let begin = "too many vdevs are missing or given up after errors (faulted): /dev/x; look at";
        assert!(both.reason.starts_with(begin) && both.wait_helps, "{}", both.reason);
    }

    #[test]
    fn a_bootfs_that_is_not_set_and_one_that_is_not_known() {
        let judged = |state, aux| {
            let mut list = reply(vdev("root", state, aux, vec![vdev("disk", 7, 0, vec![])]));
            list.remove("bootfs");
            judge(&list)
        };
        let says = |judgement: &Judgement, end: &str| judgement.to_string().ends_with(&format!("bootfs {end}"));
        assert!(says(&judged(7, 0), "not set") && says(&judged(6, 0), "not set"));
        let damaged = judged(4, 2);
        assert!(damaged.damaged && damaged.bootfs_unknown && says(&damaged, "not known"));
        assert!(says(&judged(4, 3), "not known") && !judged(4, 3).damaged);
        assert!(says(&Judgement::failed("x".into()), "not known"));
    }

    #[test]
    fn unsupported_features_are_named_and_waiting_is_pointless() {
        let mut list = reply(vdev("root", 4, 9, vec![vdev("disk", 7, 0, vec![])]));
        let mut features = NvList::new();
        features.set("org.example:new", Value::Boolean);
        let mut info = NvList::new();
        info.set("unsup_feat", Value::List(features));
        info.set("can_rdonly", Value::Boolean);
        list.set("load_info", Value::List(info));
        let j = judge(&list);
        assert!(j.reason.contains("org.example:new"), "{}", j.reason);
        assert!(!j.wait_helps);
        assert_eq!((j.health, j.unwritable), (Health::Online, Some(j.reason)));

        list.list_mut("load_info").unwrap().remove("can_rdonly");
        let j = judge(&list);
        assert_eq!((j.health, j.unwritable), (Health::Unavailable, None));
    }

    #[test]
    fn a_missing_log_is_named() {
        let mut log = vdev("disk", 4, 1, vec![]);
        log.set("is_log", Value::U64(1));
        let mut mirrored = vdev("mirror", 4, 3, vec![vdev("disk", 4, 1, vec![]), vdev("disk", 4, 1, vec![])]);
        mirrored.set("is_log", Value::U64(1));
        let mut there = vdev("disk", 7, 0, vec![]);
        there.set("is_log", Value::U64(1));
        let j = judge(&reply(vdev("root", 6, 0, vec![vdev("disk", 7, 0, vec![]), log, mirrored, there])));
        assert_eq!(
            (j.health, j.missing_logs),
            (Health::Degraded, vec!["/dev/x".into(), "mirror of /dev/x, /dev/x".into()])
        );
    }

    #[test]
    fn before_2_1_12_the_root_cannot_be_opened_without_the_log() {
        let mut log = vdev("disk", 4, 1, vec![]);
        log.set("is_log", Value::U64(1));
        let removed = vdev("hole", 0, 0, vec![]);
        let root = |data: u64| vdev("root", 4, 3, vec![vdev("disk", data, 0, vec![]), log.clone(), removed.clone()]);
        let j = judge(&reply(root(7)));
        assert_eq!(
            (j.health, j.missing_logs.len(), j.reason.as_str()),
            (Health::Degraded, 1, "its log device is missing")
        );
        let j = judge(&reply(root(4)));
        assert_eq!((j.health, j.missing_logs.len()), (Health::Unavailable, 1));
        let mut list = root(7);
        list.remove("bootfs");
        assert!(judge(&list).bootfs_unknown, "it opens no further");
    }

    #[test]
    fn multihost_says_who_or_what_is_missing() {
        let mut list = reply(vdev("root", 4, 18, vec![]));
        let mut info = NvList::new();
        info.set("mmp_hostname", Value::text("else\x1bwhere"));
        info.set("mmp_hostid", Value::U64(0xabc));
        list.set("load_info", Value::List(info.clone()));
        let j = judge(&list);
        assert_eq!(
            j.reason,
            "it is in use by another system, else?where (hostid 00000abc) (multihost); export it there or shut that system \
             down, then retry"
        );
        assert!(!j.wait_helps);
        info.set("mmp_state", Value::U64(2));
        list.set("load_info", Value::List(info));
        assert!(judge(&list).reason.contains("no hostid"));
    }

    #[test]
    fn an_empty_reply_is_unavailable() {
        assert_eq!(judge(&NvList::new()).health, Health::Unavailable);
    }
}
