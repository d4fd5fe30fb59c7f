//! Consoles and persons, on pseudo-terminals.

use super::*;
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::ttyname;

/// A terminal and the person before it.
pub(crate) struct Pty {
    pub(crate) person: File,
    pub(crate) path: PathBuf,
    _terminal: std::os::fd::OwnedFd,
}

impl Pty {
    pub(crate) fn new() -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        Self { person: master.into(), path: ttyname(&slave).unwrap(), _terminal: slave }
    }

    /// Waits for a text on the terminal; returns all that was seen up to it.
    pub(crate) fn expect(&self, text: &str) -> String {
        let mut seen = String::new();
        let began = Instant::now();
        while !seen.contains(text) {
            assert!(began.elapsed() < Duration::from_secs(10), "{text:?} is not in {seen:?}");
            if readable_now(&self.person) {
                let mut buf = [0; 256];
                let n = (&self.person).read(&mut buf).unwrap();
                seen.push_str(&String::from_utf8_lossy(&buf[..n]));
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        seen
    }

    pub(crate) fn types(&self, text: &str) {
        (&self.person).write_all(text.as_bytes()).unwrap();
    }

    fn echo(&self) -> bool {
        let file = File::open(&self.path).unwrap();
        tcgetattr(&file).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

fn line(answer: &Answer) -> (usize, String) {
    match answer {
        Answer::Line { console, text } => (*console, String::from_utf8(text.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_line_on_any_console_answers_and_is_not_shown() {
    let (a, b) = (Pty::new(), Pty::new());
    let mut consoles = Tty::open_terminals(&[a.path.clone(), b.path.clone()]);
    b.types("typed before the question\r");
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            a.expect("Passphrase: ");
            a.types("not finished");
            b.expect("Passphrase: ");
            // Ctrl-C and Ctrl-D do nothing, backspace and Ctrl-U edit.
            b.types("\x03\x04nonsense\x15se\x7fecret\r");
        });
        consoles.ask("Passphrase: ", false, Timeout::Never, &mut || false)
    });
    let (console, text) = line(&answer);
    assert_eq!((console, text.trim_start_matches(['\x03', '\x04'])), (1, "secret"));
    assert!(a.echo() && b.echo(), "echo is back");
    consoles.print("end");
    let seen = b.expect("end");
    assert!(!seen.contains("secret") && seen.starts_with("\r\n"), "{seen:?}");
    // What was begun on the other console is gone.
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            a.expect("Name: ");
            a.types("pool\r");
        });
        consoles.ask("Name: ", true, Timeout::Never, &mut || false)
    });
    assert_eq!(line(&answer), (0, "pool".to_owned()));
    a.expect("pool\r\n");
}

#[test]
fn the_time_runs_out_only_while_nobody_types() {
    let a = Pty::new();
    let mut consoles = Tty::open_terminals(std::slice::from_ref(&a.path));
    let short = Timeout::Idle(Duration::from_millis(50));
    assert!(matches!(consoles.ask("First: ", false, short, &mut || false), Answer::TimedOut));
    // All in all longer than the time that is given; each pause is far shorter, for a busy machine's sake.
    let time = Timeout::Idle(Duration::from_millis(1500));
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            a.expect("Q: ");
            for text in ["slow", "ly ", "typed", "\r"] {
                a.types(text);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        consoles.ask("Q: ", false, time, &mut || false)
    });
    assert_eq!(line(&answer).1, "slowly typed");
}

/// As on a serial line, where nobody but us tells the kernel that it is UTF-8.
#[test]
fn characters_are_erased_whole() {
    let a = Pty::new();
    let mut consoles = Tty::open_terminals(std::slice::from_ref(&a.path));
    assert!(!consoles.has_screen() && consoles.load_keymap(&Keymap::default()).is_err());
    consoles.print_on_screens("not here");
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!a.expect("Q: ").contains("not here"));
            a.types("aü€\x7f\x7fb\r");
        });
        consoles.ask("Q: ", false, Timeout::Never, &mut || false)
    });
    assert_eq!(line(&answer).1, "ab");
}

#[test]
fn whoever_begins_to_type_has_all_the_time() {
    let a = Pty::new();
    let mut consoles = Tty::open_terminals(std::slice::from_ref(&a.path));
    let short = Timeout::Untouched(Duration::from_millis(50));
    assert!(matches!(consoles.ask("First: ", true, short, &mut || false), Answer::TimedOut));
    a.types("be");
    let began = std::time::Instant::now();
    let mut typed = false;
    let answer = consoles.ask("Q: ", true, short, &mut || {
        // Far longer than the time that is given.
        if !typed && began.elapsed() > Duration::from_secs(1) {
            a.types("gun\r");
            typed = true;
        }
        false
    });
    assert_eq!(line(&answer).1, "begun");
}

#[test]
fn a_question_can_become_needless() {
    let a = Pty::new();
    let mut consoles = Tty::open_terminals(std::slice::from_ref(&a.path));
    let mut turns = 0;
    let answer = consoles.ask("Q: ", false, Timeout::Never, &mut || {
        turns += 1;
        turns > 2
    });
    assert!(matches!(answer, Answer::Stopped), "{answer:?}");
}

#[test]
fn a_console_that_hangs_up_is_no_console() {
    let a = Pty::new();
    let mut consoles = Tty::open_terminals(std::slice::from_ref(&a.path));
    drop(a);
    assert!(matches!(consoles.ask("Q: ", false, Timeout::Never, &mut || false), Answer::NoConsole));
    assert!(matches!(Tty::open_terminals(&[]).ask("Q: ", false, Timeout::Never, &mut || false), Answer::NoConsole));
}
