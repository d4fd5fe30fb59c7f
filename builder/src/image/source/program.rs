//! Programs that make a tree: with a time limit, and with all that they started gone when they are.

use crate::output::spawn;
use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of what a program said that are kept for the message about its end.
const LAST: usize = 40;
const PIECE: usize = 256 << 10;

/// Whether a program is there; else says what brings it.
pub(super) fn expect(program: &str, package: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if there { Ok(()) } else { bail!("expected {program}, which is not there; install {package}") }
}

/// Whether this process may make a user namespace. Tried in a child, and not for long: where it is refused some programs hang.
pub(super) fn user_namespace() -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "true"]);
    run(command, Duration::from_secs(10), &mut io::sink(), &mut |_| {}).map(|_| ()).map_err(|error| {
        anyhow!(
            "expected to be allowed a user namespace, was refused: {error:#}. Inside a chroot there are none; Ubuntu's AppArmor and \
             kernel.unprivileged_userns_clone=0 forbid them: run it as root, or make the archive elsewhere and say --tar"
        )
    })
}

/// What a program said on standard error, its last lines.
pub(super) type Said = Vec<String>;

/// Runs a program in a process group of its own. What it prints goes to `out`, each line of its complaints to `line`. An error if it
/// fails, or takes longer than it may; then all of its group is killed, as it is when this process ends, in whatever way.
pub(super) fn run(
    mut command: Command,
    limit: Duration,
    out: &mut dyn Write,
    line: &mut dyn FnMut(&str),
) -> Result<Said> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    let child = spawn(&mut command).with_context(|| format!("starting {program}"))?;
    let mut group = Group { child, over: false, watch: None };
    let (Some(stdout), Some(stderr)) = (group.child.stdout.take(), group.child.stderr.take()) else {
        bail!("{program}: its output is not there")
    };
    let watch = watch(group.child.id(), stdout.as_fd(), stderr.as_fd());
    group.watch = Some(watch.with_context(|| format!("starting what watches {program}"))?);
    let heard = listen(stdout, stderr);
    let deadline = Instant::now() + limit;
    let mut said = Said::new();
    loop {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Bytes(bytes)) => out.write_all(&bytes)?,
            Ok(Heard::Line(text)) => {
                line(&text);
                if said.len() == LAST {
                    said.remove(0);
                }
                said.push(text);
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("{program}: not done after {} s, given up{}", limit.as_secs(), last(&said))
            }
            // Both ends are closed: it has ended, or is about to.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = group.wait(deadline).with_context(|| format!("waiting for {program}"))?;
    match status {
        None => bail!("{program}: not done after {} s, given up{}", limit.as_secs(), last(&said)),
        Some(status) if !status.success() => bail!("{program} failed: {status}{}", last(&said)),
        Some(_) => Ok(said),
    }
}

/// The last lines of what was said, as the end of a message.
fn last(said: &[String]) -> String {
    let lines: Vec<&str> = said.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n  {}", lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n  "))
    }
}

enum Heard {
    Bytes(Vec<u8>),
    Line(String),
}

fn listen(mut stdout: impl Read + Send + 'static, stderr: impl Read + Send + 'static) -> Receiver<Heard> {
    let (send, heard) = sync_channel(8);
    let lines = send.clone();
    thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while let Ok(n @ 1..) = stdout.read(&mut piece) {
            let bytes = piece.get(..n).unwrap_or_default().to_vec();
            if send.send(Heard::Bytes(bytes)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(io::Result::ok) {
            // Of a progress line its last state.
            let line = line.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default().to_vec();
            if lines.send(Heard::Line(String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
        }
    });
    heard
}

/// What ends a group, politely at first, when the pipe that it reads is closed: by the end of this process, which has the only other end.
const WATCH: &str = "read -r nothing
kill -TERM -$1
for n in 0 1 2 3 4 5 6 7 8 9; do sleep 1; kill -0 -$1 || exit; done
kill -KILL -$1";

/// Watches a group. The ends of pipes are held open meanwhile: what it says when it is ended must not break its neck.
fn watch(group: u32, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", WATCH, "sh", &group.to_string()]);
    command.stdin(Stdio::piped()).stdout(stdout.try_clone_to_owned()?).stderr(stderr.try_clone_to_owned()?);
    // What a terminal sends to this process' group does not reach it.
    command.process_group(0);
    command.spawn()
}

/// A program with all that it started.
struct Group {
    child: Child,
    over: bool,
    /// Ends it if this process cannot.
    watch: Option<Child>,
}

impl Group {
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.over = true;
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(watch) = &mut self.watch {
            let _ = watch.kill();
            let _ = watch.wait();
        }
        if self.over {
            return;
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            // First politely: mmdebstrap unmounts and removes what it made.
            let _ = killpg(Pid::from_raw(id), Signal::SIGTERM);
            let until = Instant::now() + Duration::from_secs(10);
            if !matches!(self.wait(until), Ok(Some(_))) {
                let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
                let _ = self.child.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str, limit: Duration) -> (Result<Said>, Vec<u8>) {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        let mut out = Vec::new();
        (run(command, limit, &mut out, &mut |_| {}), out)
    }

    #[test]
    fn what_it_prints_and_what_it_says() {
        let (said, out) = shell("echo out; echo err >&2; printf 'a\\rb\\n' >&2", Duration::from_secs(60));
        assert_eq!((said.unwrap(), out.as_slice()), (vec!["err".to_owned(), "b".to_owned()], &b"out\n"[..]));
        let error = shell("echo no such mirror >&2; exit 7", Duration::from_secs(60)).0.unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.contains("no such mirror"), "{error}");
    }

    #[test]
    fn all_that_it_started_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let text = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let error = shell(&text, Duration::from_millis(700)).0.unwrap_err().to_string();
        assert!(error.contains("given up"), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z"))
        };
        for _ in 0..200 {
            if gone() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{} still runs", pid.trim());
    }

    /// As a process of its own, which is ended in the middle.
    #[test]
    fn it_does_not_outlive_us() {
        const CHILD: &str = "TAPROOT_TEST_GROUP";
        if let Some(dir) = std::env::var_os(CHILD) {
            let _cleanup = crate::output::Cleanup::on_signals();
            let mut command = Command::new("sh");
            let text = "trap 'touch ended; exit' TERM; touch begun; while :; do sleep 0.1; done";
            command.args(["-c", text]).current_dir(dir);
            run(command, Duration::from_secs(60), &mut io::sink(), &mut |_| {}).unwrap();
            return;
        }
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let dir = tempfile::tempdir().unwrap();
            let mut own = Command::new(std::env::current_exe().unwrap());
            own.args(["--exact", "image::source::program::tests::it_does_not_outlive_us"]).env(CHILD, dir.path());
            let mut own = own.stdout(Stdio::null()).spawn().unwrap();
            let appears = |name: &str| {
                (0..1000).any(|_| {
                    thread::sleep(Duration::from_millis(20));
                    dir.path().join(name).exists()
                })
            };
            assert!(appears("begun"));
            nix::sys::signal::kill(Pid::from_raw(i32::try_from(own.id()).unwrap()), signal).unwrap();
            assert!(!own.wait().unwrap().success());
            assert!(appears("ended"), "{signal}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        let error = expect("no-such-program", "a-package").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("install a-package"), "{error}");
        assert!(expect("sh", "dash").is_ok());
    }
}
