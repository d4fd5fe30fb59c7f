//! The order in which keys are tried, against a kernel that knows the right ones.

use super::*;
use crate::cmdline::{Decided, KeyFile};
use crate::sys::consoles::Tty;
use crate::sys::consoles::tests::Pty;
use crate::sys::linux::Linux;
use crate::sys::{ZfsCall, ZfsReply};
use crate::zfs::nvlist::{NvList, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Mutex;

/// One encryption root of the fake kernel.
struct Lock {
    format: KeyFormat,
    location: &'static str,
    key: Vec<u8>,
    open: bool,
    asked: u32,
}

struct Kernel {
    locks: Mutex<BTreeMap<&'static str, Lock>>,
    linux: Linux,
}

impl Kernel {
    fn new(locks: &[(&'static str, KeyFormat, &'static str, &[u8])]) -> Self {
        let lock = |(name, format, location, content): &(&'static str, KeyFormat, &'static str, &[u8])| {
            let facts = facts(name, *format, location);
            let key = derive::key(&facts, content).unwrap().bytes().to_vec();
            (*name, Lock { format: *format, location, key, open: false, asked: 0 })
        };
        Self { locks: Mutex::new(locks.iter().map(lock).collect()), linux: Linux::new() }
    }

    fn open(&self, name: &str) -> bool {
        self.locks.lock().unwrap()[name].open
    }

    fn asked(&self, name: &str) -> u32 {
        self.locks.lock().unwrap()[name].asked
    }
}

fn facts(name: &str, format: KeyFormat, location: &str) -> Encryption {
    let salt = name.len() as u64;
    Encryption {
        root: name.into(),
        format: Some(format),
        location: location.into(),
        salt,
        iterations: 10,
        available: false,
    }
}

impl System for Kernel {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        let mut locks = self.locks.lock().unwrap();
        let name = String::from_utf8(call.name.to_vec()).unwrap();
        let Some(lock) = locks.get_mut(name.as_str()) else {
            return Ok(ZfsReply { errno: libc::ENOENT, ..ZfsReply::default() });
        };
        if call.number == 0x49 {
            lock.asked += 1;
            let list = NvList::decode(call.src).unwrap();
            let right = list.list("hidden_args").unwrap().get("wkeydata") == Some(&Value::U8Array(lock.key.clone()));
            lock.open |= right;
            return Ok(ZfsReply { errno: if right { 0 } else { libc::EACCES }, ..ZfsReply::default() });
        }
        let format = match lock.format {
            KeyFormat::Raw => 1,
            KeyFormat::Hex => 2,
            KeyFormat::Passphrase => 3,
        };
        let values = [
            ("keystatus", Value::U64(if lock.open { 2 } else { 1 })),
            ("keyformat", Value::U64(format)),
            ("keylocation", Value::text(lock.location)),
            ("encryptionroot", Value::text(&name)),
            ("pbkdf2salt", Value::U64(name.len() as u64)),
            ("pbkdf2iters", Value::U64(10)),
        ];
        let wrapped = |(name, value)| (name, Value::List([("value", value)].into_iter().collect()));
        let list: NvList = values.into_iter().map(wrapped).collect();
        Ok(ZfsReply { dst: list.encode_native(), objset_type: 2, ..ZfsReply::default() })
    }
    fn mount(&self, _: &str, _: &Path, _: &str, _: u64, _: &str) -> io::Result<()> {
        unreachable!("no device is named")
    }
    fn unmount(&self, _: &Path, _: bool) -> io::Result<()> {
        unreachable!("no device is named")
    }
    crate::sys::fake::otherwise_linux!(linux);
}

fn settings(files: &[&str]) -> KeySettings {
    let file = |path: &&str| KeyFile { device: None, path: (*path).to_owned(), why: format!("taproot.key={path}") };
    KeySettings {
        files: files.iter().map(file).collect(),
        file_wait: Decided::new(Duration::ZERO, "test"),
        prompt: Decided::new(false, "panic=5"),
        tries: Decided::new(3, "test"),
        timeout: Decided::new(Some(Duration::from_secs(20)), "test"),
    }
}

/// An image with files, and the log.
struct Place {
    image: tempfile::TempDir,
    log: Log,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let image = tempfile::tempdir().unwrap();
        for (path, content) in files {
            fs::create_dir_all(image.path().join(path).parent().unwrap()).unwrap();
            fs::write(image.path().join(path), content).unwrap();
        }
        Self { image, log: Log::new(std::sync::Arc::new(crate::sys::linux::Linux::new())) }
    }

    fn unlocker<'a>(&'a self, kernel: &'a Kernel, settings: &KeySettings) -> Unlocker<'a> {
        let mut unlocker = Unlocker::new(kernel, &self.log, settings);
        unlocker.image = self.image.path().to_owned();
        unlocker
    }
}

use KeyFormat::{Hex, Passphrase, Raw};

#[test]
fn keys_from_files_and_one_passphrase_for_all() {
    let kernel = Kernel::new(&[
        ("p", Passphrase, "prompt", b"all of them"),
        ("p/raw", Raw, "file:///keys/raw", &[7; 32]),
        ("p/hex", Hex, "https://example.org/key", "0F".repeat(32).as_bytes()),
        ("p/same", Passphrase, "prompt", b"all of them"),
        ("p/root", Passphrase, "file:///etc/keys/in-root", b"in the root"),
    ]);
    let place = Place::new(&[
        ("keys/raw", &[7; 32]),
        ("keys/hex", "0f".repeat(32).as_bytes()),
        ("keys/pass", b"all of them\n"),
        ("newroot/etc/keys/in-root", b"in the root\n"),
    ]);
    let settings = settings(&["/keys/missing", "/keys/pass", "/keys/hex"]);
    let mut unlocker = place.unlocker(&kernel, &settings).with_root(&place.image.path().join("newroot"));
    for name in ["p", "p/raw", "p/hex", "p/same", "p/root"] {
        unlocker.unlock_with(name, Effort::Needed).unwrap();
        assert!(kernel.open(name), "{name}");
    }
    assert_eq!(kernel.asked("p/same"), 1);
    unlocker.unlock_with("p", Effort::Needed).unwrap();
    assert_eq!(kernel.asked("p"), 1, "what is open is not opened again");
    let log = place.log.text();
    assert!(log.contains("key of p/same loaded: it has the passphrase of p "), "{log}");
    assert!(!log.contains("all of them") && !log.contains("in the root\n"), "{log}");
}

#[test]
fn what_was_tried_is_told() {
    let kernel = Kernel::new(&[
        ("p", Raw, "file:///keys/raw", &[7; 32]),
        ("q", Passphrase, "prompt", b"right"),
        ("r", Passphrase, "prompt", b"silent"),
    ]);
    let place = Place::new(&[("keys/raw", &[7; 33]), ("keys/pass", b"wrong one\n")]);
    let settings = settings(&["/keys/pass"]);
    let mut unlocker = place.unlocker(&kernel, &settings);
    let error = unlocker.unlock_with("p", Effort::Needed).unwrap_err();
    assert!(matches!(&error, UnlockError::NoKey { why: Why::RawNotTyped, .. }), "{error:?}");
    assert!(error.expected().contains("raw key (32 bytes) of encryption root p (keylocation=file:///keys/raw)"));
    let found = error.found().join("\n");
    assert!(found.contains("/keys/raw (keylocation): a raw key is exactly 32 bytes, found 33"), "{found}");
    let error = unlocker.unlock_with("q", Effort::Needed).unwrap_err();
    assert_eq!(error.to_string(), "no key for q: no key at hand fits, and nobody is asked (panic=5)");
    assert_eq!(error.found(), ["taproot.key=/keys/pass: its passphrase is not the right one"]);
    let error = unlocker.unlock_with("r", Effort::Silent).unwrap_err();
    assert!(matches!(&error, UnlockError::NoKey { why: Why::NotAsked, .. }), "{error:?}");
    for text in [format!("{error:?} {unlocker:?}"), place.log.text()] {
        assert!(!text.contains("wrong one"), "{text}");
    }
}

/// What a person does: waits for a text, then types.
fn at_terminal(
    kernel: &Kernel,
    name: &str,
    effort: Effort,
    script: &[(&str, &str)],
) -> (Result<(), UnlockError>, String) {
    let place = Place::new(&[]);
    let pty = Pty::new();
    let mut settings = settings(&[]);
    settings.prompt = Decided::new(true, "default (yes)");
    let mut unlocker = place.unlocker(kernel, &settings);
    unlocker.consoles = Some(Box::new(Tty::open_terminals(std::slice::from_ref(&pty.path))));
    let result = std::thread::scope(|scope| {
        let (pty, result) = (&pty, &mut unlocker);
        scope.spawn(move || {
            for (text, line) in script {
                // What is typed before the question stands there is thrown away.
                let question = format!("for {name}");
                let seen = pty.expect(text);
                if !text.contains(&question) && !seen.rsplit(text).next().unwrap().contains(&question) {
                    pty.expect(&question);
                }
                pty.types(&format!("{line}\r"));
            }
        });
        result.unlock_with(name, effort)
    });
    (result, place.log.text())
}

#[test]
fn a_person_may_err() {
    let kernel = Kernel::new(&[("p", Passphrase, "prompt", b"hunter two")]);
    let script = [("Passphrase for p: ", "wrong guess"), ("2 tries left", ""), ("for p: ", "hunter two")];
    let (result, log) = at_terminal(&kernel, "p", Effort::Needed, &script);
    result.unwrap();
    assert!(kernel.open("p"));
    assert!(log.contains("wrong passphrase for p, 2 tries left"), "{log}");
    assert!(!log.contains("hunter") && !log.contains("guess"), "{log}");
}

#[test]
fn not_for_ever() {
    let kernel = Kernel::new(&[("p", Hex, "prompt", "0F".repeat(32).as_bytes())]);
    let script =
        [("Hex key (64 digits) for p: ", "12"), ("found 2 characters, 2 tries left", "x"), ("1 try left", "y")];
    let (result, _) = at_terminal(&kernel, "p", Effort::Needed, &script);
    assert!(matches!(result.unwrap_err(), UnlockError::NoKey { why: Why::Wrong(3), .. }));
    let (result, _) = at_terminal(&kernel, "p", Effort::Optional, &[("for p (Enter skips it): ", "")]);
    assert!(matches!(result.unwrap_err(), UnlockError::NoKey { why: Why::Skipped, .. }));
    assert_eq!(kernel.asked("p"), 0);
}

#[test]
fn a_key_that_comes_another_way_ends_the_question() {
    let kernel = Kernel::new(&[("p", Passphrase, "prompt", b"elsewhere")]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            kernel.locks.lock().unwrap().get_mut("p").unwrap().open = true;
        });
        let (result, log) = at_terminal(&kernel, "p", Effort::Needed, &[]);
        result.unwrap();
        assert!(log.contains("loaded by somebody else"), "{log}");
    });
    assert_eq!(kernel.asked("p"), 0);
}

/// Where `needle`, given with every bit turned over, lies in this process's writable memory.
fn places_in_memory(turned: &[u8]) -> Vec<String> {
    use std::os::unix::fs::FileExt as _;
    let memory = fs::File::open("/proc/self/mem").unwrap();
    let mut places = Vec::new();
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let ends: Vec<u64> = range.split('-').map(|end| u64::from_str_radix(end, 16).unwrap()).collect();
        for page in (ends[0]..ends[1]).step_by(4096) {
            // Erased again, because what was read may be read again from here.
            let mut copy = zeroize::Zeroizing::new([0; 4096]);
            if memory.read_exact_at(copy.as_mut(), page).is_err() {
                continue;
            }
            let found = |at: &usize| copy[*at..*at + turned.len()].iter().zip(turned).all(|(a, b)| *a == !*b);
            let own = std::ptr::from_ref(&copy) as u64;
            let at = (0..4096 - turned.len()).find(found).filter(|_| own.abs_diff(page) > 8192);
            places.extend(at.map(|at| format!("{at:#x} of the page {page:#x} in {line}")));
        }
    }
    places
}

#[test]
fn nothing_of_a_passphrase_stays_in_memory() {
    // Never in one piece but where it is typed.
    let turned: Vec<u8> = (0..24_u8).map(|i| !(b'a' + i * 7 % 26)).collect();
    let plain = || zeroize::Zeroizing::new(turned.iter().map(|b| !b).collect::<Vec<u8>>());
    let kernel = Kernel::new(&[("p", Passphrase, "prompt", &plain()), ("p/same", Passphrase, "prompt", &plain())]);
    let place = Place::new(&[]);
    let pty = Pty::new();
    let mut settings = settings(&[]);
    settings.prompt = Decided::new(true, "default (yes)");
    let mut unlocker = place.unlocker(&kernel, &settings);
    unlocker.consoles = Some(Box::new(Tty::open_terminals(std::slice::from_ref(&pty.path))));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pty.expect("for p: ");
            io::Write::write_all(&mut &pty.person, &plain()).unwrap();
            pty.types("\r");
        });
        unlocker.unlock_with("p", Effort::Needed).unwrap();
        unlocker.unlock_with("p/same", Effort::Needed).unwrap();
    });
    assert_eq!(places_in_memory(&turned).len(), 1, "the search finds what the keyring holds");
    let mut keyring = unlocker.into_keyring();
    keyring.forget();
    assert_eq!(places_in_memory(&turned), Vec::<String>::new());
}
