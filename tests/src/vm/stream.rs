//! One serial line of a guest: everything it says goes to a log file and a buffer that can be waited on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::unmix;
use crate::words;

/// What the kernel prints when PID 1 dies.
const PANIC: &str = "Kernel panic";
/// What it prints when a processor's timer has stopped (`kernel/rcu/tree_stall.h`).
const LOST_TIMER: &str = "Possible timer handling issue on cpu";
/// Its first line, and the one before its first program.
const BEGUN: &str = "Linux version ";
const FIRST_PROGRAM: &str = " as init process";

#[derive(Debug, Default)]
struct State {
    text: String,
    /// Everything before this was already matched.
    cursor: usize,
    closed: bool,
}

/// A serial line.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<(Mutex<State>, Condvar)>,
    writer: UnixStream,
    /// The log file.
    pub log: PathBuf,
}

fn lock(shared: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    /// Starts to read from `socket`, writing what comes to `log`.
    pub fn new(socket: UnixStream, log: &Path) -> Result<Self> {
        let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut reader = socket.try_clone().context("cloning a serial socket")?;
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut filter = Filter::default();
            let mut buf = [0u8; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buf) {
                let bytes = buf.get(..count).unwrap_or_default();
                // A full disk must not stop the test's own view.
                let _ = file.write_all(bytes);
                let text = filter.feed(bytes);
                lock(&theirs).text.push_str(&text);
                theirs.1.notify_all();
            }
            lock(&theirs).closed = true;
            theirs.1.notify_all();
        });
        Ok(Self { shared, writer: socket, log: log.to_owned() })
    }

    /// Waits until one of `patterns` appears after the last match, be it with messages of the kernel in between; returns
    /// which, and moves behind it.
    /// Fails at once on a kernel panic, or when the guest is gone.
    pub fn expect_any(&self, patterns: &[&str], deadline: Instant) -> Result<usize> {
        let mut state = lock(&self.shared);
        loop {
            let found = patterns.iter().enumerate().filter_map(|(index, pattern)| {
                let at = unmix::find(&state.text, state.cursor, pattern)?;
                Some((at.start, index, at.end))
            });
            if let Some((_, index, end)) = found.min() {
                state.cursor = end;
                return Ok(index);
            }
            if !patterns.contains(&PANIC)
                && let Some(what) = died_of(&state.text)
            {
                bail!("{what} while waiting for {patterns:?} ({})", self.log.display());
            }
            if state.closed {
                bail!("the guest is gone; expected {patterns:?} ({})", self.log.display());
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("{}; expected {patterns:?} ({})", late_of(&state.text), self.log.display());
            };
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the other end is closed.
    pub fn expect_end(&self, deadline: Instant) -> Result<()> {
        let mut state = lock(&self.shared);
        while !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("{}; expected the guest to leave ({})", late_of(&state.text), self.log.display());
            };
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Everything said so far.
    pub fn text(&self) -> String {
        lock(&self.shared).text.clone()
    }

    /// What was said between these bytes of [`Self::text`], with the kernel's messages behind everything else.
    pub fn unmixed(&self, range: std::ops::Range<usize>) -> String {
        unmix::unmixed(lock(&self.shared).text.get(range).unwrap_or_default())
    }

    /// Whether it shows a text anywhere, be it with messages of the kernel in between.
    pub fn shows(&self, what: &str) -> bool {
        unmix::find(&lock(&self.shared).text, 0, what).is_some()
    }

    /// As [`Self::shows`], since the last match.
    pub fn shows_anew(&self, what: &str) -> bool {
        let state = lock(&self.shared);
        unmix::find(&state.text, state.cursor, what).is_some()
    }

    /// How far the matches have come, in bytes of [`Self::text`].
    pub fn cursor(&self) -> usize {
        lock(&self.shared).cursor
    }

    /// What to say of a kernel that cannot go on; `None` if nothing says so.
    pub fn dead(&self) -> Option<&'static str> {
        died_of(&lock(&self.shared).text)
    }

    /// What to say of a guest that has not done in time what it should.
    pub fn late(&self) -> &'static str {
        late_of(&lock(&self.shared).text)
    }

    /// Puts in front what a machine had shown before this one went on from its state; counts as matched.
    pub(super) fn was_shown(&self, text: &str) {
        let mut state = lock(&self.shared);
        state.text.insert_str(0, text);
        state.cursor += text.len();
    }

    /// Types text, as it is.
    pub fn send(&self, text: &str) -> Result<()> {
        (&self.writer).write_all(text.as_bytes()).context("typing into the serial line")
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        for line in lines.get(lines.len().saturating_sub(count)..).unwrap_or_default() {
            let _ = writeln!(out, "{line}");
        }
        out
    }
}

/// Takes terminal control out of what a guest prints: carriage returns and escape sequences.
#[derive(Debug, Default)]
struct Filter {
    state: Escape,
    /// Bytes of an unfinished UTF-8 character.
    pending: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Filter {
    fn feed(&mut self, bytes: &[u8]) -> String {
        let mut out = std::mem::take(&mut self.pending);
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => Escape::Started,
                (Escape::Started, b'[') => Escape::Sequence,
                (Escape::Sequence, b'@'..=b'~') | (Escape::Started, _) | (Escape::None, b'\r' | 0) => Escape::None,
                (Escape::Sequence, _) => Escape::Sequence,
                (Escape::None, _) => {
                    out.push(byte);
                    Escape::None
                }
            };
        }
        // A character cut in two waits for its rest.
        let keep = match std::str::from_utf8(&out) {
            Err(e) if e.error_len().is_none() => out.split_off(e.valid_up_to()),
            _ => Vec::new(),
        };
        self.pending = keep;
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Names what a kernel died of, by its console. Two faults are QEMU's, whose multi-threaded TCG has races:
///
/// - It trips over a breakpoint instruction of its own: it patches its code while it runs (static keys), by way of `int3`,
///   and a virtual processor sometimes runs that instruction when the patch is long complete. Once in a hundred boots.
/// - The timer of a processor stops: an interrupt was lost, and the one-shot timer is set again by its handler only. The
///   kernel's watch over RCU says so every 21 s. Once in a thousand boots. One such message can also be a host too busy to
///   run the guest, so a second one is waited for.
fn died_of(text: &str) -> Option<&'static str> {
    match (text.contains(PANIC), text.contains("Oops: int3")) {
        (false, _) => (text.matches(LOST_TIMER).count() > 1).then_some(words::EMULATOR_FAULT),
        (true, true) => Some(words::EMULATOR_FAULT),
        (true, false) => Some("the guest's kernel panicked"),
    }
}

/// Names what a guest that is late suffers from. A kernel that has begun and stops before it starts any program has lost an interrupt,
/// too, and so early that nothing watches over it: nothing of ours has run by then.
pub fn late_of(text: &str) -> &'static str {
    let stopped = text.contains(BEGUN) && !text.contains(FIRST_PROGRAM) && !text.contains(PANIC);
    if stopped || text.contains(LOST_TIMER) { words::EMULATOR_FAULT } else { "time is up" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn filter_drops_escapes_across_reads() {
        let mut filter = Filter::default();
        let mut text = filter.feed(b"a\x1b[0;1");
        text += &filter.feed(b"mb\r\nc\xc3");
        text += &filter.feed(b"\xa4");
        assert_eq!(text, "ab\nc\u{e4}");
    }

    fn pair() -> (Stream, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(ours, &dir.path().join("log")).unwrap(), theirs, dir)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn expect_moves_behind_the_match() {
        let (stream, mut guest, _dir) = pair();
        guest.write_all(b"one two one").unwrap();
        assert_eq!(stream.expect_any(&["two", "one"], soon()).unwrap(), 1);
        assert_eq!(stream.expect_any(&["one"], soon()).unwrap(), 0);
        drop(guest);
        let gone = stream.expect_any(&["one"], soon()).unwrap_err().to_string();
        assert!(gone.contains("guest is gone"), "{gone}");
    }

    #[test]
    fn the_kernel_may_interrupt_what_is_expected() {
        let (stream, mut guest, _dir) = pair();
        guest.write_all(b"(taproot) # [   33.104242] input: USB Keyboard\r\nshell\r\n").unwrap();
        assert_eq!(stream.expect_any(&["USB Mouse", "(taproot) # shell"], soon()).unwrap(), 1);
        assert!(
            stream.shows("(taproot) # shell\n")
                && stream.shows("input: USB Keyboard")
                && !stream.shows("Keyboard shell")
        );
        assert!(!stream.shows_anew("shell"));
        assert_eq!(stream.unmixed(0..stream.cursor()), "(taproot) # shell\n[   33.104242] input: USB Keyboard\n");
    }

    #[test]
    fn panic_fails_at_once() {
        let (stream, mut guest, _dir) = pair();
        guest.write_all(b"Kernel panic - not syncing").unwrap();
        let error = stream.expect_any(&["login:"], soon()).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }

    #[test]
    fn emulator_faults_are_told_from_panics() {
        assert_eq!(died_of("Oops: int3: 0000 [#1]\nKernel panic - not syncing"), Some(words::EMULATOR_FAULT));
        assert_eq!(died_of("Kernel panic - not syncing: Attempted to kill init!"), Some("the guest's kernel panicked"));
        assert_eq!(died_of("Oops: int3: 0000"), None);
    }

    #[test]
    fn a_lost_timer_is_told_from_a_late_guest() {
        let stall = "rcu: Possible timer handling issue on cpu=1 timer-softirq=5\n";
        assert_eq!((died_of(stall), late_of(stall)), (None, words::EMULATOR_FAULT));
        assert_eq!(died_of(&stall.repeat(2)), Some(words::EMULATOR_FAULT));
        // A kernel that is only slow says less.
        let slow = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n".repeat(3);
        assert_eq!((died_of(&slow), late_of(&slow)), (None, "time is up"));
    }

    #[test]
    fn a_kernel_that_stops_before_the_first_program_is_told_from_a_late_one() {
        let kernel = "[    0.000000] Linux version 6.12\n[    1.696020] i8042: PNP: PS/2 Controller\n";
        assert_eq!(late_of(kernel), words::EMULATOR_FAULT);
        // With a program it is not the kernel alone, and without a line of it no kernel may have begun.
        for text in
            [&format!("{kernel}[    1.8] Run /init as init process\n"), "BdsDxe: failed to start Boot0001\n", ""]
        {
            assert_eq!(late_of(text), "time is up", "{text}");
        }
    }

    #[test]
    fn time_runs_out() {
        let (stream, _guest, _dir) = pair();
        let error = stream.expect_any(&["x"], Instant::now()).unwrap_err().to_string();
        assert!(error.contains("time is up"), "{error}");
    }
}
