//! The same questions to a kernel and to its model: what a real kernel answered is kept in `tests/golden/`, and the model must
//! answer alike.
//!
//! The pools are those of the kit: `psnap` (a root with snapshots), half of the mirror `pmirror`, `plog` without its log, and
//! `praw` (keys). `make golden` asks the kernels again.

pub mod compare;

use std::collections::BTreeSet;
use std::path::Path;
use taproot_init::sys::{System, ZfsCall, ZfsReply};
use taproot_init::zfs::assemble::{Candidate, Seen, assemble};
use taproot_init::zfs::nvlist::{NvList, Value};

/// Where datasets are mounted for this.
const POINT: &str = "/run/golden";
/// The key of `praw/ROOT`.
const KEY: &[u8; 32] = b"0123456789abcdef-praw-6789ABCDEF";
/// Deepest nesting that is written down.
const DEPTH: u32 = 12;

/// What is in a list: each name with the type of its value, and the values that tell how a vdev does.
pub fn shape(list: &NvList) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    walk(list, "", 0, &mut lines);
    lines
}

fn walk(list: &NvList, prefix: &str, depth: u32, lines: &mut BTreeSet<String>) {
    for (name, value) in list.iter() {
        let path = format!("{prefix}{}", String::from_utf8_lossy(name));
        lines.insert(format!("{path} {}", kind(value)));
        match value {
            // Features are the kernel's affair, and statistics of no interest.
            Value::List(_) if path.ends_with("vdev_stats_ex") || path.contains("feat") => {}
            Value::List(inner) if depth < DEPTH => walk(inner, &format!("{path}."), depth + 1, lines),
            Value::ListArray(inner) if depth < DEPTH => {
                for inner in inner {
                    walk(inner, &format!("{path}[]."), depth + 1, lines);
                }
            }
            // State and reason.
            Value::U64Array(numbers) if path.ends_with("vdev_stats") => {
                let told: Vec<String> = numbers.iter().skip(1).take(2).map(ToString::to_string).collect();
                lines.insert(format!("{path} = {}", told.join(" ")));
            }
            _ => {}
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Boolean => "boolean",
        Value::U16(_) => "u16",
        Value::I32(_) => "i32",
        Value::U32(_) => "u32",
        Value::U64(_) => "u64",
        Value::Str(_) => "string",
        Value::U64Array(_) => "u64[]",
        Value::List(_) => "list",
        Value::ListArray(_) => "list[]",
        Value::BooleanValue(_) => "boolean value",
        _ => "other",
    }
}

/// Asks, and hands every answer to `say`: the question, the errno, and what the reply has.
pub fn ask(system: &dyn System, seen: &[Seen], say: &mut dyn FnMut(&str, i32, &BTreeSet<String>)) {
    let mut talk = Talk { system, say };
    let pools = assemble(seen);
    let pool = |name: &str| pools.iter().find(|pool| pool.name == name);
    talk.plain("unknown", 0x7f, "");
    talk.plain("stats of none", 0x05, "nosuch");
    talk.plain("props of none", 0x27, "nosuch");
    talk.plain("objset of none", 0x12, "nosuch/x");
    talk.plain("list of none", 0x14, "nosuch");
    if let Some(pool) = pool("psnap") {
        talk.snapshots(pool);
    }
    if let Some(pool) = pool("pmirror") {
        talk.try_import("half", pool);
    }
    if let Some(pool) = pool("plog")
        && let Some(reply) = talk.try_import("log", pool)
    {
        talk.import("log", pool, &reply, 0);
        talk.import("log, with leave", pool, &reply, 4);
        talk.plain("export", 0x03, "plog");
    }
    if let Some(pool) = pool("praw") {
        talk.keys(pool);
    }
}

struct Talk<'a> {
    system: &'a dyn System,
    say: &'a mut dyn FnMut(&str, i32, &BTreeSet<String>),
}

fn list(pairs: &[(&str, Value)]) -> NvList {
    pairs.iter().map(|(name, value)| (*name, value.clone())).collect()
}

fn set(names: &[&str]) -> Value {
    Value::List(names.iter().map(|name| (*name, Value::Boolean)).collect())
}

impl Talk<'_> {
    fn call(&mut self, what: &str, call: &ZfsCall<'_>) -> Option<ZfsReply> {
        let call = ZfsCall { dst_capacity: 4 << 20, ..call.clone() };
        let reply = self.system.zfs(&call).ok()?;
        let lines = NvList::decode(&reply.dst).map(|list| shape(&list)).unwrap_or_default();
        (self.say)(what, reply.errno, &lines);
        Some(reply)
    }

    fn plain(&mut self, what: &str, number: u32, name: &str) -> Option<ZfsReply> {
        self.call(what, &ZfsCall { number, name: name.as_bytes(), ..ZfsCall::default() })
    }

    fn with(&mut self, what: &str, number: u32, name: &str, src: &NvList) {
        let src = src.encode_native();
        self.call(what, &ZfsCall { number, name: name.as_bytes(), src: &src, ..ZfsCall::default() });
    }

    fn try_import(&mut self, what: &str, pool: &Candidate) -> Option<NvList> {
        let conf = pool.config.encode_native();
        let call = ZfsCall { number: 0x06, conf: &conf, ..ZfsCall::default() };
        let reply = self.call(&format!("tryimport: {what}"), &call)?;
        NvList::decode(&reply.dst).ok()
    }

    fn import(&mut self, what: &str, pool: &Candidate, conf: &NvList, flags: u64) {
        let conf = conf.encode_native();
        let src = list(&[("cachefile", Value::text("none"))]).encode_native();
        let (name, guid) = (pool.name.as_bytes(), pool.guid);
        let call = ZfsCall { number: 0x02, name, conf: &conf, src: &src, cookie: flags, guid, ..ZfsCall::default() };
        self.call(&format!("import: {what}"), &call);
    }

    /// Everything about datasets and snapshots.
    fn snapshots(&mut self, pool: &Candidate) {
        let Some(reply) = self.try_import("whole", pool) else { return };
        let mut wrong = pool.clone();
        wrong.guid = wrong.guid.wrapping_add(1);
        self.import("wrong guid", &wrong, &reply, 0);
        self.import("whole", pool, &reply, 0);
        self.import("again", pool, &reply, 0);
        self.try_import("imported", pool);
        let root = "psnap/ROOT/default";
        self.plain("stats", 0x05, "psnap");
        self.plain("props", 0x27, "psnap");
        self.plain("objset", 0x12, root);
        self.plain("objset of a snapshot", 0x12, &format!("{root}@old"));
        self.plain("objset of none in it", 0x12, "psnap/nosuch");
        for (what, number) in [("datasets", 0x14), ("snapshots", 0x15)] {
            let first = self.plain(&format!("first of {what}"), number, root);
            let mut cookie = first.map_or(0, |reply| reply.cookie);
            // To the end, which says so.
            for _ in 0..20 {
                let call =
                    ZfsCall { number, name: root.as_bytes(), cookie, dst_capacity: 1 << 20, ..ZfsCall::default() };
                let Ok(reply) = self.system.zfs(&call) else { break };
                if reply.errno != 0 {
                    (self.say)(&format!("end of {what}"), reply.errno, &BTreeSet::new());
                    break;
                }
                cookie = reply.cookie;
            }
        }
        let at = |name: &str| format!("{root}@{name}");
        self.with("rollback, not the newest", 0x19, root, &list(&[("target", Value::text(at("old")))]));
        self.with("rollback to none", 0x19, root, &list(&[("target", Value::text(at("nosuch")))]));
        self.with("snapshot that is there", 0x23, "psnap", &list(&[("snaps", set(&[&at("old")]))]));
        self.with("snapshot of none", 0x23, "psnap", &list(&[("snaps", set(&["psnap/nosuch@x"]))]));
        self.with("snapshot with a bad name", 0x23, "psnap", &list(&[("snaps", set(&[&at("a+b")]))]));
        let origin = ("origin", Value::text(at("old")));
        self.with("clone that is there", 0x42, "psnap/ROOT/taken", &list(std::slice::from_ref(&origin)));
        let props = |name: &str, value: Value| ("props", Value::List(list(&[(name, value)])));
        let text = props("canmount", Value::text("noauto"));
        self.with("clone with a bad property", 0x42, "psnap/ROOT/c", &list(&[origin.clone(), text]));
        self.with("clone of none", 0x42, "psnap/ROOT/c", &list(&[("origin", Value::text(at("nosuch")))]));
        self.with("clone below none", 0x42, "psnap/nosuch/c", &list(std::slice::from_ref(&origin)));
        self.with("clone", 0x42, "psnap/ROOT/c", &list(&[origin, props("canmount", Value::U64(2))]));
        self.plain("objset of a clone", 0x12, "psnap/ROOT/c");
        self.with("destroy a snapshot with a clone", 0x3b, "psnap", &list(&[("snaps", set(&[&at("old")]))]));
        self.with("set a property", 0x16, "psnap/ROOT/c", &list(&[("readonly", Value::U64(1))]));
        self.with("set a bad property", 0x16, "psnap/ROOT/c", &list(&[("readonly", Value::text("on"))]));
        self.plain("destroy one with children", 0x18, "psnap/ROOT");
        self.plain("destroy one with snapshots", 0x18, root);
        self.plain("destroy", 0x18, "psnap/ROOT/c");
        self.mounted(root);
    }

    /// What a mount changes, and the pool's end.
    fn mounted(&mut self, root: &str) {
        let point = Path::new(POINT);
        let _ = self.system.make_dirs(point);
        let mut mount = |what: &str, source: &str, flags: u64| {
            let result = self.system.mount(source, point, "zfs", flags, "");
            let errno = result.map_or_else(|e| e.raw_os_error().unwrap_or(-1), |()| 0);
            (self.say)(&format!("mount: {what}"), errno, &BTreeSet::new());
        };
        mount("none", "psnap/nosuch", 0);
        mount("it", root, 0);
        mount("it again, read-only", root, libc::MS_RDONLY);
        self.plain("export while mounted", 0x03, "psnap");
        let _ = self.system.unmount(point, false);
        self.plain("export", 0x03, "psnap");
        self.plain("stats of an exported pool", 0x05, "psnap");
    }

    fn keys(&mut self, pool: &Candidate) {
        let Some(reply) = self.try_import("keys", pool) else { return };
        self.import("keys", pool, &reply, 0);
        self.plain("objset of an encryption root", 0x12, "praw/ROOT");
        self.plain("objset below an encryption root", 0x12, "praw/ROOT/default");
        let _ = self.system.make_dirs(Path::new(POINT));
        let locked = self.system.mount("praw/ROOT/default", Path::new(POINT), "zfs", 0, "");
        let errno = locked.map_or_else(|e| e.raw_os_error().unwrap_or(-1), |()| 0);
        (self.say)("mount: locked", errno, &BTreeSet::new());
        let key = |bytes: &[u8]| {
            let hidden = list(&[("wkeydata", Value::U8Array(bytes.to_vec()))]);
            list(&[("hidden_args", Value::List(hidden))])
        };
        self.with("no key", 0x49, "praw/ROOT", &NvList::new());
        self.with("wrong key", 0x49, "praw/ROOT", &key(&[1; 32]));
        self.with("short key", 0x49, "praw/ROOT", &key(&[1; 31]));
        self.with("key of a child", 0x49, "praw/ROOT/default", &key(KEY));
        self.with("right key", 0x49, "praw/ROOT", &key(KEY));
        self.with("key that is there", 0x49, "praw/ROOT", &key(KEY));
        self.plain("objset with its key", 0x12, "praw/ROOT");
        self.plain("export", 0x03, "praw");
    }
}

#[cfg(test)]
mod tests;
