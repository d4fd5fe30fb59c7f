//! Imported pools, asked by a process of their own: one that loses a disk which it cannot do without may never answer, and that can
//! happen between any two questions. Such a process is left behind; PID 1 goes on.

use super::trouble::state;
use super::{Pools, waits};
use crate::report::slow;
use crate::sys::{Ended, Program, System};
use crate::zfs::ioctl::Zfs;
use crate::zfs::judge::{Health, judge};
use std::fmt::Write as _;
use std::time::Duration;

/// What such a process is called with; the pool's name follows.
pub const ASK: &str = "ask-pool";

/// How long a pool may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// As much of what it says is read.
const LONGEST: usize = 16 << 10;

/// What an imported pool says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether all of it is there.
    pub health: Health,
    /// Whether it is imported read-only.
    pub read_only: bool,
    /// Property `bootfs`, or the errno with which it could not be read.
    pub bootfs: Result<Option<String>, i32>,
}

impl Pools<'_> {
    /// Asks an imported pool. Otherwise why it does not answer, as the end of a sentence that begins with the pool.
    pub fn ask(&self, pool: &str) -> Result<Told, String> {
        // What is no PID 1 may wait.
        if !self.system.is_init() {
            return told(self.system, pool);
        }
        // Not by its own path: after a hand-over that failed nothing is there.
        let program = Program {
            path: "/proc/self/exe".into(),
            name: Some("taproot-init".to_owned()),
            args: vec![ASK.to_owned(), pool.to_owned()],
            ..Program::default()
        };
        let mut tell = slow::still(self.system, self.log, format!("asking pool {pool}"));
        let unknown = |why: String| format!("could not be asked whether it waits for a disk: {why}");
        let finished = self.system.run(&program, Some(PATIENCE), LONGEST, &mut tell);
        let finished = finished.map_err(|e| unknown(format!("no process could be started for that: {e}")))?;
        match finished.ended {
            Ended::Exit(0) => read(&String::from_utf8_lossy(&finished.output)),
            Ended::Late | Ended::Stopped => Err(format!(
                "has not answered for {} s: it waits for a disk; nothing that needs it goes on, but reboot works",
                PATIENCE.as_secs()
            )),
            Ended::Exit(status) => Err(unknown(format!("the process for that ended with status {status}"))),
            Ended::Signal(signal) => Err(unknown(format!("the process for that was ended by signal {signal}"))),
        }
    }

    /// Why an imported pool is better not asked for anything, as the end of a sentence that begins with it. Of one that is not
    /// imported the kernel says so at once.
    pub fn keeps(&self, pool: &str) -> Option<String> {
        if state(self.system, pool).is_empty() { None } else { self.ask(pool).err() }
    }
}

/// What the process prints that asks this pool.
pub fn answer(system: &dyn System, pool: &str) -> String {
    let told = match told(system, pool) {
        Ok(told) => told,
        Err(why) => return format!("waits {}\n", why.replace('\n', " ")),
    };
    let health = match told.health {
        Health::Online => "online",
        Health::Degraded => "degraded",
        Health::Unavailable => "unavailable",
    };
    let mut out = format!("health {health}\n");
    if told.read_only {
        out.push_str("read-only\n");
    }
    let _ = match told.bootfs {
        Ok(bootfs) => writeln!(out, "bootfs {}", bootfs.unwrap_or_default()),
        Err(errno) => writeln!(out, "no-bootfs {errno}"),
    };
    out
}

fn told(system: &dyn System, pool: &str) -> Result<Told, String> {
    if let Some(why) = waits(system, pool) {
        return Err(why);
    }
    let zfs = Zfs::new(system);
    Ok(Told {
        health: zfs.pool_stats(pool).map_or(Health::Online, |stats| judge(&stats).health),
        read_only: zfs.is_read_only(pool),
        bootfs: zfs.bootfs(pool).map_err(|e| e.errno),
    })
}

/// Reads what [`answer`] has written; what is not understood is left out.
fn read(text: &str) -> Result<Told, String> {
    let mut told = Told { health: Health::Online, read_only: false, bootfs: Err(libc::EIO) };
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("waits", why) => return Err(why.to_owned()),
            ("health", "degraded") => told.health = Health::Degraded,
            ("health", "unavailable") => told.health = Health::Unavailable,
            ("read-only", _) => told.read_only = true,
            ("no-bootfs", errno) => told.bootfs = Err(errno.parse().unwrap_or(libc::EIO)),
            ("bootfs", name) => told.bootfs = Ok(Some(name.to_owned()).filter(|name| !name.is_empty())),
            _ => {}
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ZfsReply;
    use crate::sys::fake::Tree;
    use crate::zfs::calls::{POOL_GET_PROPS, POOL_STATS};
    use crate::zfs::nvlist::{NvList, Value};

    fn list(items: Vec<(&str, Value)>) -> NvList {
        items.into_iter().collect()
    }

    /// A kernel with a pool that says this.
    fn kernel(stats: Result<NvList, i32>, properties: Result<NvList, i32>) -> Tree {
        Tree::answering(move |_, call| {
            let said = match call.number {
                POOL_STATS => &stats,
                POOL_GET_PROPS => &properties,
                other => unreachable!("{other}"),
            };
            match said {
                Ok(list) => ZfsReply { dst: list.encode_native(), ..ZfsReply::default() },
                Err(errno) => ZfsReply { errno: *errno, ..ZfsReply::default() },
            }
        })
    }

    fn property(name: &str, value: Value) -> (&str, Value) {
        (name, Value::List(list(vec![("value", value)])))
    }

    #[test]
    fn what_a_process_says_is_what_was_told() {
        let stats = || Ok(list(vec![("pool_guid", Value::U64(7))]));
        let of = |items: Vec<(&str, Value)>| Ok(list(items));
        for properties in [
            of(vec![property("bootfs", Value::text("tank/r")), property("readonly", Value::U64(1))]),
            of(vec![property("readonly", Value::U64(0))]),
            Err(libc::EIO),
        ] {
            let system = kernel(stats(), properties.clone());
            let direct = told(&system, "tank").unwrap();
            assert_eq!(read(&answer(&system, "tank")), Ok(direct.clone()), "{properties:?}");
            assert_eq!(direct.bootfs.is_err(), properties.is_err());
        }
    }

    #[test]
    fn one_that_waits_is_not_asked_for_more() {
        let lost = list(vec![("suspended", Value::U64(0))]);
        let system = Tree::answering(move |_, call| {
            assert_eq!(call.number, POOL_STATS);
            ZfsReply { dst: lost.encode_native(), ..ZfsReply::default() }
        });
        let why = read(&answer(&system, "tank")).unwrap_err();
        assert!(why.starts_with("waits for a disk that is gone"), "{why}");
    }

    #[test]
    fn any_text_is_read() {
        let nothing = Told { health: Health::Online, read_only: false, bootfs: Err(libc::EIO) };
        for text in ["", "\n\n", "health", "bootfs", "read-only x\nhealth y", "\0", "waitsx"] {
            assert!(read(text).is_ok(), "{text:?}");
        }
        assert_eq!(read("x y\nhealth nonsense\n"), Ok(nothing.clone()));
        assert_eq!(
            read("health degraded\nbootfs a b\n"),
            Ok(Told { health: Health::Degraded, bootfs: Ok(Some("a b".into())), ..nothing })
        );
    }
}
