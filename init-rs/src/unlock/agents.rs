//! In a hook the initramfs may have somebody who asks for passphrases already: plymouth on its splash screen, or systemd's
//! password agents. Both are programs; where neither works, the consoles are asked.

use crate::sys::consoles::Secret;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest answer that is read.
const ANSWER_MAX: usize = 4096;
/// How often the caller's own condition is looked at.
const TURN: u8 = 200;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Directories with programs, in order.
    path: Vec<PathBuf>,
    /// Exists where systemd's agents run.
    socket_dir: PathBuf,
}

/// How long plymouth's daemon may take to say that it is there, and how often it is looked for its answer.
const PING_MAX: Duration = Duration::from_secs(2);
const PING_TURN: Duration = Duration::from_millis(10);

/// What an agent brought.
#[derive(Debug)]
pub(super) enum AgentAnswer {
    /// A line, without its newline.
    Line {
        text: Secret,
        agent: &'static str,
    },
    Stopped,
    TimedOut,
    /// Neither is there.
    NoAgent,
    /// One is there and did not do it.
    Failed(String),
}

impl Agents {
    /// Those of the running system: `PATH`, or the usual directories.
    pub fn of_system() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin:/usr/sbin:/sbin".into());
        Self::new(std::env::split_paths(&path).collect(), PathBuf::from("/run/systemd/ask-password"))
    }

    /// Those in `path`; systemd's only where `socket_dir` exists.
    pub fn new(path: Vec<PathBuf>, socket_dir: PathBuf) -> Self {
        Self { path, socket_dir }
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|dir| dir.join(name)).find(|file| file.is_file())
    }

    /// Asks through the first that is there.
    pub(super) fn ask(
        &self,
        question: &str,
        root: &str,
        timeout: Option<Duration>,
        stop: &mut dyn FnMut() -> bool,
    ) -> AgentAnswer {
        let question = question.trim_end_matches([':', ' ']);
        if let Some(plymouth) = self.program("plymouth").filter(|file| answers(file)) {
            let mut command = Command::new(plymouth);
            command.arg("ask-for-password").arg(format!("--prompt={question}"));
            return run(command, "plymouth", timeout, stop);
        }
        if let Some(systemd) = self.program("systemd-ask-password").filter(|_| self.socket_dir.is_dir()) {
            let mut command = Command::new(systemd);
            // Its own limit is 90 s by default; ours ends it.
            command.arg("--timeout=0").arg(format!("--id=zfs:{root}")).arg(question);
            return run(command, "systemd-ask-password", timeout, stop);
        }
        AgentAnswer::NoAgent
    }
}

/// Whether plymouth's daemon runs, and answers in time.
fn answers(plymouth: &Path) -> bool {
    let mut command = Command::new(plymouth);
    command.arg("--ping").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let began = Instant::now();
    while began.elapsed() < PING_MAX {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(PING_TURN),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
    let _ = end(&mut child);
    false
}

fn run(
    mut command: Command,
    agent: &'static str,
    timeout: Option<Duration>,
    stop: &mut dyn FnMut() -> bool,
) -> AgentAnswer {
    let failed = |why: &dyn std::fmt::Display| AgentAnswer::Failed(format!("{agent} brought no passphrase: {why}"));
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return failed(&e),
    };
    let Some(mut out) = child.stdout.take() else { return failed(&"no pipe") };
    let answer = read(&mut out, timeout, stop);
    let ended = match &answer {
        Ok(_) => child.wait(),
        Err(_) => end(&mut child),
    };
    match (answer, ended) {
        (Ok(text), Ok(status)) if status.success() => AgentAnswer::Line { text, agent },
        (Ok(_), Ok(status)) => failed(&status),
        (Ok(_), Err(e)) => failed(&e),
        (Err(early), _) => early,
    }
}

/// Ends an agent that is not needed any more.
fn end(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let _ = child.kill();
    child.wait()
}

/// All that the program prints, up to the first newline.
fn read(
    out: &mut ChildStdout,
    timeout: Option<Duration>,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Secret, AgentAnswer> {
    let began = Instant::now();
    let _ = fcntl(out.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    // Full size from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(vec![0; ANSWER_MAX]);
    let mut filled = 0;
    loop {
        if stop() {
            return Err(AgentAnswer::Stopped);
        }
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            return Err(AgentAnswer::TimedOut);
        }
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(TURN));
        match out.read(text.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(AgentAnswer::Failed(format!("reading its answer: {e}"))),
        }
    }
    let end = text.iter().take(filled).position(|b| *b == b'\n').unwrap_or(filled);
    if let Some(rest) = text.get_mut(end..) {
        rest.fill(0);
    }
    text.truncate(end);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new(programs: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("bin")).unwrap();
            for (name, script) in programs {
                let path = dir.path().join("bin").join(name);
                fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self(dir)
        }

        fn ask(&self, timeout: Option<Duration>, stop: &mut dyn FnMut() -> bool) -> AgentAnswer {
            let agents = Agents::new(vec![self.0.path().join("bin")], self.0.path().join("ask-password"));
            agents.ask("Passphrase for tank/e: ", "tank/e", timeout, stop)
        }

        fn line(&self) -> (String, &'static str) {
            match self.ask(None, &mut || false) {
                AgentAnswer::Line { text, agent } => (String::from_utf8(text.to_vec()).unwrap(), agent),
                other => panic!("{other:?}"),
            }
        }
    }

    const PLYMOUTH: &str = "case $1 in --ping) exit ${PING:-0};; ask-for-password) printf 'p:%s' \"$2\";; esac";

    #[test]
    fn plymouth_first_if_its_daemon_runs() {
        let place = Place::new(&[("plymouth", PLYMOUTH), ("systemd-ask-password", "echo sd")]);
        assert_eq!(place.line(), ("p:--prompt=Passphrase for tank/e".into(), "plymouth"));
        let place = Place::new(&[("plymouth", "exit 1"), ("systemd-ask-password", "echo \"$1 $2 $3\"; echo more")]);
        assert!(matches!(place.ask(None, &mut || false), AgentAnswer::NoAgent));
        fs::create_dir(place.0.path().join("ask-password")).unwrap();
        assert_eq!(place.line(), ("--timeout=0 --id=zfs:tank/e Passphrase for tank/e".into(), "systemd-ask-password"));
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let place = Place::new(&[("plymouth", "exec sleep 100")]);
        let began = Instant::now();
        assert!(matches!(place.ask(None, &mut || false), AgentAnswer::NoAgent));
        assert!(began.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn an_agent_that_fails_is_told_of() {
        let place = Place::new(&[("plymouth", "case $1 in --ping) exit 0;; esac; exit 3")]);
        let AgentAnswer::Failed(why) = place.ask(None, &mut || false) else { panic!("no failure") };
        assert!(why.contains("plymouth") && why.contains('3'), "{why}");
    }

    #[test]
    fn a_key_that_arrives_ends_the_question() {
        let place = Place::new(&[("plymouth", "case $1 in --ping) exit 0;; esac; exec sleep 100")]);
        let mut turns = 0;
        let answer = place.ask(None, &mut || {
            turns += 1;
            turns > 1
        });
        assert!(matches!(answer, AgentAnswer::Stopped), "{answer:?}");
        let answer = place.ask(Some(Duration::from_millis(50)), &mut || false);
        assert!(matches!(answer, AgentAnswer::TimedOut), "{answer:?}");
    }
}
