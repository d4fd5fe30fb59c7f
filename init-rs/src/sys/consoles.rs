//! All active consoles at once: what is said appears on each, and whichever is typed on first has the answer.
//!
//! Lines are edited by the kernel's line discipline (canonical mode). With echo off it also clears its own buffer after
//! the read, so that a passphrase does not stay in kernel memory (`zero_buffer` in `drivers/tty/n_tty.c`).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr,
};
use std::fs::File;
use std::io::{Read, Write};
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
}

/// The active consoles.
#[derive(Debug)]
pub struct Consoles(Vec<Console>);

/// The terminals behind the kernel's active consoles, the preferred one last; `/dev/console` itself where sysfs does
/// not tell. `tty0` stands for whichever screen is shown; the first one is taken for it.
pub fn terminals() -> Vec<PathBuf> {
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

impl Consoles {
    /// Opens every active console that can be opened.
    pub fn open() -> Self {
        Self(terminals().into_iter().filter_map(open_console).collect())
    }

    /// One terminal alone, such as `/dev/tty` for a program that a shell started.
    pub fn only(path: &Path) -> Self {
        Self(open_console(path.to_owned()).into_iter().collect())
    }

    /// Path of the terminal with this index.
    pub fn path(&self, console: usize) -> Option<&Path> {
        self.0.get(console).map(|c| c.path.as_path())
    }

    /// Writes to every console; one that is gone is no reason to stop.
    pub fn print(&self, text: &str) {
        for mut file in self.0.iter().map(|c| &c.file) {
            let _ = file.write_all(text.as_bytes());
        }
    }

    /// Asks on every console and returns the first line that is typed. Without `echo` nothing typed is shown, and what was
    /// typed before the question is thrown away. `stop` is asked a few times a second whether the question became needless.
    pub fn ask(
        &mut self,
        question: &str,
        echo: bool,
        timeout: Option<Duration>,
        stop: &mut dyn FnMut() -> bool,
    ) -> Answer {
        let modes: Vec<Option<Termios>> = self.0.iter().map(|c| line_mode(&c.file, echo)).collect();
        self.print(question);
        let answer = self.wait(timeout, stop);
        for (console, mode) in self.0.iter().zip(modes) {
            if let Some(mode) = mode {
                let _ = tcsetattr(&console.file, SetArg::TCSADRAIN, &mode);
            }
        }
        match &answer {
            // The newline was not echoed either.
            Answer::Line { .. } if !echo => self.print("\n"),
            Answer::Line { console, .. } => {
                for (at, mut file) in self.0.iter().map(|c| &c.file).enumerate() {
                    if at != *console {
                        let _ = file.write_all(b"\n");
                    }
                }
            }
            _ => self.print("\n"),
        }
        answer
    }

    fn wait(&mut self, timeout: Option<Duration>, stop: &mut dyn FnMut() -> bool) -> Answer {
        let began = Instant::now();
        loop {
            if self.0.iter().all(|c| c.dead) {
                return Answer::NoConsole;
            }
            if stop() {
                return Answer::Stopped;
            }
            let left = timeout.map(|t| t.saturating_sub(began.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Answer::TimedOut;
            }
            let turn = left.map_or(TURN, |left| left.min(TURN));
            for console in self.readable(turn) {
                if let Some(text) = self.read_line(console) {
                    return Answer::Line { console, text };
                }
            }
        }
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
        let mut text = Zeroizing::new(vec![0; LINE_MAX]);
        match console.file.read(&mut text) {
            Ok(0) | Err(_) => {
                console.dead = true;
                None
            }
            Ok(n) => {
                let end = text.iter().take(n).position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(n);
                if let Some(rest) = text.get_mut(end..) {
                    rest.fill(0);
                }
                text.truncate(end);
                Some(text)
            }
        }
    }
}

fn open_console(path: PathBuf) -> Option<Console> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open(&path);
    Some(Console { path, file: file.ok()?, dead: false })
}

/// Puts a terminal into line mode and returns the mode to go back to.
fn line_mode(file: &File, echo: bool) -> Option<Termios> {
    let before = tcgetattr(file).ok()?;
    let mut mode = before.clone();
    mode.input_flags.insert(InputFlags::ICRNL);
    mode.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    mode.local_flags.insert(LocalFlags::ICANON);
    mode.local_flags.set(LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK, echo);
    // A prompt outlives Ctrl-C.
    mode.local_flags.remove(LocalFlags::ISIG);
    if !echo {
        let _ = tcflush(file, FlushArg::TCIFLUSH);
    }
    tcsetattr(file, SetArg::TCSADRAIN, &mode).ok()?;
    Some(before)
}
