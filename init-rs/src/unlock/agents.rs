//! In a hook the initramfs may have somebody who asks for passphrases already: plymouth on its splash screen, or systemd's
//! password agents. Both are programs; where neither works, the consoles are asked.

use crate::sys::consoles::Secret;
use crate::sys::{Ended, FileKind, Finished, Program, System};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest answer that is read.
const ANSWER_MAX: usize = 4096;
/// Where programs are in an initramfs.
const PROGRAMS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How long plymouth's daemon may take to say that it is there.
const PING_MAX: Duration = Duration::from_secs(2);

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Directories with programs, in order.
    path: Vec<PathBuf>,
    /// Exists where systemd's agents run.
    socket_dir: PathBuf,
}

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
    /// Those of the running system.
    pub fn of_system() -> Self {
        Self::new(PROGRAMS.map(PathBuf::from).to_vec(), PathBuf::from("/run/systemd/ask-password"))
    }

    /// Those in `path`; systemd's only where `socket_dir` exists.
    pub fn new(path: Vec<PathBuf>, socket_dir: PathBuf) -> Self {
        Self { path, socket_dir }
    }

    fn program(&self, system: &dyn System, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|dir| dir.join(name)).find(|file| is(system, file, FileKind::File))
    }

    /// Asks through the first that is there.
    pub(super) fn ask(
        &self,
        system: &dyn System,
        question: &str,
        root: &str,
        timeout: Option<Duration>,
        stop: &mut dyn FnMut() -> bool,
    ) -> AgentAnswer {
        let question = question.trim_end_matches([':', ' ']);
        let program = |path, args| Program { path, args, ..Program::default() };
        if let Some(path) = self.program(system, "plymouth") {
            let ping = program(path.clone(), vec!["--ping".to_owned()]);
            let answers = system.run(&ping, Some(PING_MAX), 0, &mut || false);
            if answers.is_ok_and(|finished| finished.ended == Ended::Exit(0)) {
                let ask = program(path, vec!["ask-for-password".to_owned(), format!("--prompt={question}")]);
                return answer("plymouth", system.run(&ask, timeout, ANSWER_MAX, stop));
            }
        }
        if let Some(path) = self.program(system, "systemd-ask-password")
            && is(system, &self.socket_dir, FileKind::Directory)
        {
            // Its own limit is 90 s by default; ours ends it.
            let ask = program(path, vec!["--timeout=0".to_owned(), format!("--id=zfs:{root}"), question.to_owned()]);
            return answer("systemd-ask-password", system.run(&ask, timeout, ANSWER_MAX, stop));
        }
        AgentAnswer::NoAgent
    }
}

fn is(system: &dyn System, path: &Path, kind: FileKind) -> bool {
    system.stat(path).is_ok_and(|info| info.kind == kind)
}

/// What an agent printed, up to the first newline.
fn answer(agent: &'static str, ran: io::Result<Finished>) -> AgentAnswer {
    let failed = |why: &dyn std::fmt::Display| AgentAnswer::Failed(format!("{agent} brought no passphrase: {why}"));
    let finished = match ran {
        Ok(finished) => finished,
        Err(e) => return failed(&e),
    };
    match finished.ended {
        Ended::Exit(0) => {}
        Ended::Exit(status) => return failed(&format_args!("it ended with status {status}")),
        Ended::Signal(signal) => return failed(&format_args!("it was ended by signal {signal}")),
        Ended::Late => return AgentAnswer::TimedOut,
        Ended::Stopped => return AgentAnswer::Stopped,
    }
    let mut text = finished.output;
    let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
    if let Some(rest) = text.get_mut(end..) {
        rest.fill(0);
    }
    text.truncate(end);
    AgentAnswer::Line { text, agent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

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
            agents.ask(&Linux::new(), "Passphrase for tank/e: ", "tank/e", timeout, stop)
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
