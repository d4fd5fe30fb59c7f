//! All active consoles at once: what is said appears on each, and whichever is typed on first has the answer.
//!
//! Lines are edited by the kernel's line discipline (canonical mode). With echo off it also clears its own buffer after
//! the read, so that a passphrase does not stay in kernel memory (`zero_buffer` in `drivers/tty/n_tty.c`).

use super::keymap::{self, Keymap};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Bytes that are overwritten when they are dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// Longest line the kernel gives in canonical mode (`N_TTY_BUF_SIZE`).
const LINE_MAX: usize = 4096;
/// How often the caller's own condition is looked at while nobody types.
const TURN: Duration = Duration::from_millis(200);
/// How long a console may take no output (flow control) before it is left alone.
const STUCK: Duration = Duration::from_secs(2);
/// Switches a control character off (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// For ever.
    Never,
    /// This long, which begins anew while somebody types.
    Idle(Duration),
    /// This long, but for ever once somebody types.
    Untouched(Duration),
}

impl Timeout {
    /// The time.
    pub fn time(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Idle(time) | Self::Untouched(time) => Some(time),
        }
    }
}

impl From<Option<Duration>> for Timeout {
    fn from(time: Option<Duration>) -> Self {
        time.map_or(Self::Never, Self::Idle)
    }
}

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    /// A line, without its newline, and the console it was typed on.
    Line {
        /// Index for [`Consoles::path`].
        console: usize,
        /// The line.
        text: Secret,
    },
    /// The time was over.
    TimedOut,
    /// The caller's condition came true.
    Stopped,
    /// There is no console that gives input.
    NoConsole,
}

#[derive(Debug)]
struct Console {
    path: PathBuf,
    file: File,
    /// A console that returned an error or end-of-file gives no more input.
    dead: bool,
    /// The beginning of a line that was taken out of the kernel before its end; see [`Tty::someone_types`].
    begun: Secret,
}

/// Terminals that a person is talked to on, all at once.
pub trait Consoles: std::fmt::Debug + Send + Sync {
    /// Path of the terminal with this index. The last one is the preferred one.
    fn path(&self, console: usize) -> Option<PathBuf>;
    /// Writes to every console; one that is gone or stuck is no reason to stop.
    fn print(&self, text: &str);
    /// Whether one of them is a screen of the kernel's, on which people type with this machine's keyboard.
    fn has_screen(&self) -> bool;
    /// Writes to the screens alone.
    fn print_on_screens(&self, text: &str);
    /// Gives the keyboard of the screens this keymap.
    fn load_keymap(&self, keymap: &Keymap) -> io::Result<()>;
    /// Asks on every console and returns the first line that is typed. Without `echo` nothing typed is shown, and what was
    /// typed before the question is thrown away. `stop` is asked a few times a second whether the question became needless.
    fn ask(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer;
}

/// The terminal of the process that called us.
#[derive(Debug)]
pub(super) struct OwnTerminal(Tty);

impl OwnTerminal {
    pub(super) fn open() -> Self {
        Self(Tty::open_terminals(&[PathBuf::from("/dev/tty")]))
    }
}

impl Consoles for OwnTerminal {
    fn path(&self, console: usize) -> Option<PathBuf> {
        self.0.path(console)
    }

    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    // What its keyboard has was said, and is known, where this program was started.
    fn has_screen(&self) -> bool {
        false
    }

    fn print_on_screens(&self, _: &str) {}

    fn load_keymap(&self, _: &Keymap) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn ask(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        self.0.ask(question, echo, timeout, stop)
    }
}

/// The active consoles of this machine.
#[derive(Debug)]
pub struct Tty(Vec<Console>);

/// The terminals behind the kernel's active consoles, the preferred one last; `/dev/console` itself where sysfs does
/// not tell. `tty0` stands for whichever screen is shown; the first one is taken for it.
fn terminals() -> Vec<PathBuf> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut paths: Vec<PathBuf> = active
        .split_whitespace()
        .map(|name| Path::new("/dev").join(if name == "tty0" { "tty1" } else { name }))
        .filter(|path| path.exists())
        .collect();
    if paths.is_empty() && Path::new("/dev/console").exists() {
        paths.push(PathBuf::from("/dev/console"));
    }
    paths
}

impl Tty {
    /// Opens every active console that can be opened.
    pub fn open() -> Self {
        Self::open_terminals(&terminals())
    }

    /// Opens these terminals instead, those that can be opened; `/dev/tty` alone for a program that a shell started.
    pub fn open_terminals(paths: &[PathBuf]) -> Self {
        // Without O_NONBLOCK one serial line whose other end holds it up would hold up the boot.
        let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let open = |path: &PathBuf| {
            let file = File::options().read(true).write(true).custom_flags(flags).open(path).ok()?;
            Some(Console { path: path.clone(), file, dead: false, begun: Secret::default() })
        };
        Self(paths.iter().filter_map(open).collect())
    }
}

impl Consoles for Tty {
    fn path(&self, console: usize) -> Option<PathBuf> {
        self.0.get(console).map(|c| c.path.clone())
    }

    fn print(&self, text: &str) {
        for console in &self.0 {
            write_patiently(&console.file, text.as_bytes());
        }
    }

    fn has_screen(&self) -> bool {
        self.screens().next().is_some()
    }

    fn print_on_screens(&self, text: &str) {
        for screen in self.screens() {
            write_patiently(screen, text.as_bytes());
        }
    }

    fn load_keymap(&self, keymap: &Keymap) -> io::Result<()> {
        keymap::load(&self.screens().collect::<Vec<_>>(), keymap)
    }

    fn ask(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        let modes: Vec<Option<Termios>> = self.0.iter().map(|c| line_mode(&c.file, echo)).collect();
        self.print(question);
        let answer = self.wait(timeout, stop);
        for (console, mode) in self.0.iter_mut().zip(modes) {
            console.begun = Secret::default();
            if let Some(mode) = mode {
                if !echo {
                    // What was begun elsewhere must not show up in the next question.
                    let _ = tcflush(&console.file, FlushArg::TCIFLUSH);
                }
                let _ = tcsetattr(&console.file, SetArg::TCSANOW, &mode);
            }
        }
        for (at, console) in self.0.iter().enumerate() {
            // With echo the newline is there already where it was typed.
            if !matches!(&answer, Answer::Line { console, .. } if echo && *console == at) {
                write_patiently(&console.file, b"\n");
            }
        }
        answer
    }
}

impl Tty {
    fn screens(&self) -> impl Iterator<Item = &File> {
        self.0.iter().map(|console| &console.file).filter(|file| keymap::is_screen(file))
    }

    fn wait(&mut self, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        let mut began = Instant::now();
        let mut limit = timeout.time();
        loop {
            if self.0.iter().all(|c| c.dead) {
                return Answer::NoConsole;
            }
            if stop() {
                return Answer::Stopped;
            }
            let left = limit.map(|t| t.saturating_sub(began.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                if !self.someone_types() {
                    return Answer::TimedOut;
                }
                began = Instant::now();
                limit = limit.filter(|_| !matches!(timeout, Timeout::Untouched(_)));
                continue;
            }
            let turn = left.map_or(TURN, |left| left.min(TURN));
            for console in self.readable(turn) {
                if let Some(text) = self.read_line(console) {
                    return Answer::Line { console, text };
                }
            }
        }
    }

    /// Whether a line has been begun since the last look. In line mode the kernel does not tell of it, so it is left for a
    /// moment; what was typed so far then comes without a newline, and is kept.
    fn someone_types(&mut self) -> bool {
        let mut any = false;
        for console in self.0.iter_mut().filter(|c| !c.dead) {
            let Ok(mode) = tcgetattr(&console.file) else { continue };
            let mut raw = mode.clone();
            raw.local_flags.remove(LocalFlags::ICANON);
            for (at, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
                if let Some(character) = raw.control_chars.get_mut(at as usize) {
                    *character = value;
                }
            }
            let _ = tcsetattr(&console.file, SetArg::TCSANOW, &raw);
            let typed = readable_now(&console.file);
            let _ = tcsetattr(&console.file, SetArg::TCSANOW, &mode);
            any |= typed;
        }
        any
    }

    /// Indices of the consoles that have a line, after at most `turn`.
    fn readable(&self, turn: Duration) -> Vec<usize> {
        let live: Vec<usize> = self.0.iter().enumerate().filter(|(_, c)| !c.dead).map(|(at, _)| at).collect();
        let mut fds: Vec<PollFd<'_>> =
            live.iter().filter_map(|at| Some(PollFd::new(self.0.get(*at)?.file.as_fd(), PollFlags::POLLIN))).collect();
        let turn = PollTimeout::try_from(turn).unwrap_or(PollTimeout::from(200_u8));
        if poll(&mut fds, turn).is_err() {
            std::thread::sleep(Duration::from_millis(10));
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        live.iter().zip(ready).filter(|(_, ready)| *ready).map(|(at, _)| *at).collect()
    }

    fn read_line(&mut self, at: usize) -> Option<Secret> {
        let console = self.0.get_mut(at)?;
        // Full size from the start: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(vec![0; 2 * LINE_MAX]);
        let begun = console.begun.len().min(LINE_MAX);
        text.get_mut(..begun)?.copy_from_slice(console.begun.get(..begun)?);
        let n = match console.file.read(text.get_mut(begun..begun + LINE_MAX)?) {
            // Somebody else was faster.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return None,
            // Ctrl-D is switched off, so this is a hang-up.
            Ok(0) | Err(_) => {
                console.dead = true;
                return None;
            }
            Ok(n) => begun + n,
        };
        let end = text.iter().take(n).position(|b| matches!(b, b'\n' | b'\r'));
        if let Some(rest) = text.get_mut(end.unwrap_or(n)..) {
            rest.fill(0);
        }
        text.truncate(end.unwrap_or(n));
        if end.is_some() {
            console.begun = Secret::default();
            return Some(text);
        }
        console.begun = text;
        None
    }
}

fn readable_now(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Writes all, unless the terminal takes nothing for [`STUCK`].
fn write_patiently(mut file: &File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                let patience = PollTimeout::try_from(STUCK).unwrap_or(PollTimeout::from(200_u8));
                if !poll(&mut fds, patience).is_ok_and(|n| n > 0) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Puts a terminal into line mode and returns the mode to go back to. Nothing is waited for: a line whose other end holds
/// it up would never drain.
fn line_mode(file: &File, echo: bool) -> Option<Termios> {
    let mut before = tcgetattr(file).ok()?;
    // On a serial line the kernel would erase bytes, not characters. It stays: a shell's lines are edited, too.
    before.input_flags.insert(InputFlags::IUTF8);
    let mut mode = before.clone();
    mode.input_flags.insert(InputFlags::ICRNL);
    mode.input_flags.remove(InputFlags::IGNCR | InputFlags::INLCR | InputFlags::ISTRIP);
    mode.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    mode.local_flags.insert(LocalFlags::ICANON);
    mode.local_flags.set(LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK, echo);
    mode.local_flags.remove(LocalFlags::ECHONL);
    // A prompt outlives Ctrl-C and Ctrl-D.
    mode.local_flags.remove(LocalFlags::ISIG);
    for at in [SpecialCharacterIndices::VEOF, SpecialCharacterIndices::VEOL, SpecialCharacterIndices::VEOL2] {
        if let Some(character) = mode.control_chars.get_mut(at as usize) {
            *character = DISABLED;
        }
    }
    if !echo {
        let _ = tcflush(file, FlushArg::TCIFLUSH);
    }
    tcsetattr(file, SetArg::TCSANOW, &mode).ok()?;
    Some(before)
}

#[cfg(test)]
pub(crate) mod tests;
