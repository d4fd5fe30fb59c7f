//! Questions that may never be answered: what lies on a pool that lost its disks, or is asked of its module, can block a process
//! for ever, and not even a signal ends it then. So each question is put to a process of its own, which is this program anew, and
//! after a time it is left where it is.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often a process is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long the output of one that has ended is waited for: what it has started, and left behind, can hold the other end.
const REST: Duration = Duration::from_millis(300);
/// More than any answer has.
const LONGEST: u64 = 64 << 20;
const LONGEST_ERROR: u64 = 64 << 10;

/// What came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines of standard output.
    pub lines: Vec<String>,
    /// Standard error.
    pub error: String,
    /// How it ended.
    pub end: End,
}

impl Answer {
    /// Why there is no answer, as it says.
    pub fn reason(&self) -> String {
        self.error.trim_start_matches("taproot: ").to_owned()
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// It was killed, by itself or another.
    #[default]
    Killed,
    /// It gave no answer in time, and was left.
    Late,
}

enum Part {
    Line(String),
    Error(String),
    End,
}

/// Asks this program.
pub fn ask<S: AsRef<OsStr>>(args: &[S], patience: Duration) -> Answer {
    let mut command = Command::new("/proc/self/exe");
    command.args(args);
    run(&mut command, patience)
}

/// Runs a program for at most so long.
fn run(command: &mut Command, patience: Duration) -> Answer {
    let end = Instant::now() + patience;
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Answer { error: format!("cannot start this program anew: {error}"), ..Answer::default() },
    };
    let parts = listen(&mut child);
    let (mut answer, mut open, mut over) = (Answer::default(), 2, None);
    while open > 0 && Instant::now() < over.unwrap_or(end) {
        match parts.recv_timeout(TICK) {
            Ok(Part::Line(line)) => answer.lines.push(line),
            Ok(Part::Error(text)) => answer.error = text,
            Ok(Part::End) => open -= 1,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if over.is_none() && matches!(child.try_wait(), Ok(Some(_))) {
                    over = Some(Instant::now() + REST);
                }
            }
        }
    }
    answer.end = ended(&mut child, end);
    answer
}

/// Threads that read what it says.
fn listen(child: &mut Child) -> std::sync::mpsc::Receiver<Part> {
    let (sender, parts) = channel();
    if let Some(out) = child.stdout.take() {
        let sender: Sender<Part> = sender.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(out.take(LONGEST));
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(Part::Line(text)).is_err() {
                    return;
                }
            }
            let _ = sender.send(Part::End);
        });
    }
    if let Some(out) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = out.take(LONGEST_ERROR).read_to_end(&mut text);
            let _ = sender.send(Part::Error(String::from_utf8_lossy(&text).trim().to_owned()));
            let _ = sender.send(Part::End);
        });
    }
    parts
}

fn ended(child: &mut Child, end: Instant) -> End {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().map_or(End::Killed, End::Code),
            Ok(None) if Instant::now() < end => std::thread::sleep(TICK),
            _ => {
                // It may not even end by this; whoever reaps orphans reaps it then.
                let _ = child.kill();
                return End::Late;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Answer {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(&mut command, patience)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_said_and_how_it_ends() {
        let answer = shell("echo a; echo b; echo c >&2; exit 3", LONG);
        assert_eq!(answer, Answer { lines: vec!["a".into(), "b".into()], error: "c".into(), end: End::Code(3) });
        assert_eq!(shell("kill -9 $$", LONG).end, End::Killed);
    }

    #[test]
    fn what_does_not_answer_is_left_and_what_it_said_is_kept() {
        let answer = shell("echo a; exec sleep 1000", Duration::from_millis(300));
        assert_eq!((answer.lines, answer.end), (vec!["a".to_owned()], End::Late));
        // One that has ended, and left another behind that holds the pipe.
        let answer = shell("sleep 5 & echo a", LONG);
        assert_eq!((answer.lines, answer.end), (vec!["a".to_owned()], End::Code(0)));
    }

    #[test]
    fn an_endless_answer_ends() {
        let answer = shell("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", Duration::from_millis(300));
        assert_eq!(answer.end, End::Late);
    }
}
