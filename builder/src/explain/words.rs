//! What one word of the command line does.

use taproot_init::cmdline::{Note, OnFailure, Request, Setting, known, parse, settings, tokenize};

/// Words with a dot that are read by programs of the booted system, not by a module.
const PROGRAMS: [&str; 4] = ["systemd", "udev", "luks", "plymouth"];
/// Where the words that need no value of their own are explained by their meaning alone.
const SILENT: [&str; 8] = [
    "rootfstype",
    "boot",
    "rd.shell",
    "modprobe.blacklist",
    "module_blacklist",
    "dozfs",
    "zfs_boot_only",
    "zfs_ignorecache",
];

/// What one word does.
pub(super) fn meaning(word: &str, request: &Request, all: &[Setting]) -> String {
    let Some(token) = tokenize(word.as_bytes()).into_iter().next() else { return String::new() };
    // In our own words `-` is as good as `_`.
    let key = if token.key.starts_with("taproot.") { token.key.replace('-', "_") } else { token.key.clone() };
    let mut parts: Vec<String> = all
        .iter()
        .filter(|s| !s.default && (s.why == word || s.why.strip_suffix('=') == Some(&key)))
        .map(|s| format!("{}: {}{}", s.name, s.value, overruled(s, request)))
        .collect();
    let said = |notes: &[Note]| -> Vec<String> {
        notes.iter().filter(|n| n.word == word).map(|n| n.message.clone()).collect()
    };
    parts.extend(said(&request.problems));
    parts.extend(said(&request.notes));
    let value = token.value.as_deref();
    if let ("rootdelay" | "resumedelay", Some(v)) = (key.as_str(), value)
        && parts.iter().any(|part| part.ends_with(" s") && !part.ends_with(&format!(" {v} s")))
    {
        parts.push("never less than the default".to_owned());
    }
    if !parts.is_empty() {
        return parts.join("; ");
    }
    if let Some(known) = known::find(&key) {
        let types = value.unwrap_or_default();
        let expected = match known.word {
            "rootfstype" => Some("rootfstype=zfs has one"),
            "boot" => Some("boot=zfs, boot=live and boot=casper have one"),
            _ => None,
        };
        if let Some(expected) = expected.filter(|_| !types.split(',').any(|t| t == "zfs")) {
            return format!("no effect; {expected}");
        }
        // What it would do if it stood alone tells whether another word has taken its place.
        let alone: Vec<Setting> = settings(&parse(word.as_bytes())).into_iter().filter(|s| !s.default).collect();
        return match known.word {
            "zfs" if token.is_switch() => {
                "switches services of some systems; no effect on the choice of root".to_owned()
            }
            "resume" if token.is_off() || value == Some("none") => "takes an earlier resume= back".to_owned(),
            "taproot.rescue" if token.is_off() => "takes an earlier taproot.rescue=now back".to_owned(),
            _ if !alone.is_empty() => format!("{}: {}", known.meaning, instead(&alone, all)),
            _ if value == Some("") => "empty: asks for nothing".to_owned(),
            word if SILENT.contains(&word) => known.meaning.to_owned(),
            _ if token.is_off() => format!("switched off: {}", known.meaning),
            _ if is_of_layers(word) => format!("{}: not done, because no layers can be had", known.meaning),
            word if is_of_live(word) => known.meaning.to_owned(),
            word => format!("no effect; expected {word}{}", known.form),
        };
    }
    match key.as_str() {
        "rd.timeout" | "rd.retry" => return "is for dracut; here it would be taproot.wait=SECONDS".to_owned(),
        "rd.driver.blacklist" => return "is for dracut; here it would be modprobe.blacklist=MODULE,...".to_owned(),
        _ => {}
    }
    match token.key.split_once('.') {
        Some((program, _)) if PROGRAMS.contains(&program) => "left to the booted system".to_owned(),
        Some((module, param)) if is_option(request, module, param) => format!("option {param} of module {module}"),
        _ => "left to the kernel and the booted system".to_owned(),
    }
}

/// Whether a word means something beside a list of layers.
fn is_of_layers(word: &str) -> bool {
    const LIST: &str = "taproot.layers=base";
    let set = |line: &str| settings(&parse(line.as_bytes())).into_iter().filter(|setting| !setting.default).count();
    set(&format!("{LIST} {word}")) > set(LIST)
}

/// Of these a note says what they do, where it is not what the table says.
fn is_of_live(word: &str) -> bool {
    known::LIVE.iter().any(|known| known.word == word)
}

/// What keeps a setting from being done, with the word that does; else nothing.
fn overruled(setting: &Setting, request: &Request) -> String {
    let (policy, import) = (&request.rescue.on_failure, &request.import.read_only);
    match setting.name {
        "stop before" | "menu" if policy.value.headless() => {
            format!("; ignored, because nobody is to be asked ({})", policy.why)
        }
        "menu" if policy.value == OnFailure::Locked => {
            format!("; passed over, because the rescue is locked ({})", policy.why)
        }
        "root's mount" if import.value && setting.value == "rw" => format!("; read-only all the same ({})", import.why),
        _ => String::new(),
    }
}

/// Which word decides what `alone` would have set.
fn instead(alone: &[Setting], all: &[Setting]) -> String {
    let decided = |like: &Setting, same: bool| {
        all.iter().find(|s| s.name == like.name && !s.default && (!same || s.value == like.value)).map(|s| &s.why)
    };
    // Of stages there can be several.
    let other = |like: &Setting| decided(like, false).filter(|_| like.name != "stop before");
    match alone.iter().find_map(|like| decided(like, true).or_else(|| other(like))) {
        Some(why) => format!("decided by {why}"),
        None => "taken back by another word".to_owned(),
    }
}

fn is_option(request: &Request, module: &str, param: &str) -> bool {
    let module = module.replace('-', "_");
    request.module_options.iter().any(|o| o.module == module && o.param == param)
}

#[cfg(test)]
mod tests {
    use crate::explain::{Explanation, explain};

    fn meaning_of<'a>(explanation: &'a Explanation, word: &str) -> &'a str {
        &explanation.words.iter().find(|w| w.word == word).unwrap().meaning
    }

    #[test]
    fn every_word_is_explained() {
        let line = "root=ZFS=a/b ro quiet splash zfs.zfs_arc_max=1 taproot.wiat=5 taproot.wait=3 taproot.wait=9 \
                    taproot.also=a/c taproot.skip-pools=x taproot.key-wait=3 \
                    taproot.key-wait=4 \"taproot.also=a/b c\" boot=zfs rootfstype=ext4 spl.spl_hostid=00bab10c zfs_force=0 zfs_boot_only -- single";
        let e = explain(line, "here", None, None);
        assert_eq!(meaning_of(&e, "root=ZFS=a/b"), "root: dataset a/b");
        assert_eq!(meaning_of(&e, "ro"), "root's mount: ro");
        assert_eq!(meaning_of(&e, "splash"), "left to the kernel and the booted system");
        assert_eq!(meaning_of(&e, "zfs.zfs_arc_max=1"), "option zfs_arc_max of module zfs");
        assert!(meaning_of(&e, "taproot.wiat=5").contains("did you mean taproot.wait?"));
        assert_eq!(
            meaning_of(&e, "taproot.wait=3"),
            "how long to wait for the wanted pool or root device: decided by taproot.wait=9"
        );
        assert_eq!(meaning_of(&e, "taproot.wait=9"), "wait for the pool: 9 s");
        assert_eq!(meaning_of(&e, "taproot.also=a/c"), "also mounted: a/c, a/b c");
        assert_eq!(meaning_of(&e, "\"taproot.also=a/b c\""), "also mounted: a/c, a/b c");
        assert_eq!(meaning_of(&e, "taproot.skip-pools=x"), "pools to leave alone: x");
        assert!(meaning_of(&e, "taproot.key-wait=3").ends_with("decided by taproot.key-wait=4"));
        assert!(meaning_of(&e, "spl.spl_hostid=00bab10c").contains("0x00bab10c would do"));
        assert!(meaning_of(&e, "boot=zfs").starts_with("`zfs`: root=POOL/DATASET is a dataset"));
        assert!(meaning_of(&e, "zfs_force=0").starts_with("switched off: "));
        assert_eq!(meaning_of(&e, "rootfstype=ext4"), "root's type: ext4");
        assert_eq!(e.init_args, ["single"]);
        assert_eq!(e.problems.len(), 1);
        assert!(e.boot.is_none());
    }

    #[test]
    fn a_word_without_effect_is_not_said_to_have_one() {
        let meaning = |word: &str| explain(word, "here", None, None).words[0].meaning.clone();
        for (word, text) in [
            ("zfs=off", "switches services of some systems; no effect on the choice of root"),
            ("zfs=on", "switches services of some systems; no effect on the choice of root"),
            ("dozfs", "ZFS is looked for in any case; dozfs=force also imports a pool that another system used last"),
            ("dozfs=force", "pool of another system: imported"),
            ("resume=none", "takes an earlier resume= back"),
            ("rootfs=ZFS=p/d", "nothing reads rootfs=, ignored; did you mean root=ZFS=p/d?"),
            ("root=", "empty: asks for nothing"),
            ("break=", "empty: asks for nothing"),
            ("module_blacklist=", "empty: asks for nothing"),
            ("ro=1", "no effect; expected ro"),
            ("hibernate=yes", "no effect; expected hibernate=noresume|no"),
            ("spl_hostid", "no effect; expected spl_hostid=8 hexadecimal digits, or 0xHEX"),
            ("rd.shell=1", "with no: a failure gives nobody a shell"),
            ("noresume=0", "switched off: an image of a hibernated system is not resumed"),
            ("taproot.rescue=no", "takes an earlier taproot.rescue=now back"),
            ("quiet=1", "console level: 4"),
            ("rootdelay=5", "wait for the pool: 30 s; never less than the default"),
            ("rootdelay=50", "wait for the pool: 50 s"),
            ("systemd.unit=x", "left to the booted system"),
            ("rd.timeout=5", "is for dracut; here it would be taproot.wait=SECONDS"),
            ("rd.driver.blacklist=x", "is for dracut; here it would be modprobe.blacklist=MODULE,..."),
            ("boot=local", "no effect; boot=zfs, boot=live and boot=casper have one"),
            (
                "findiso=/x.iso",
                "means nothing without boot=live, boot=casper, root=live:... or archisobasedir=; ignored",
            ),
            ("rd.luks.uuid=x", "left to the kernel and the booted system"),
        ] {
            assert_eq!(meaning(word), text, "{word}");
        }
    }

    /// Lines of systems that exist hold no word that is known and said to be misspelt.
    #[test]
    fn the_corpus_of_command_lines() {
        let corpus = include_str!("../../../init-rs/src/cmdline/corpus.txt");
        let lines: Vec<&str> = corpus.lines().filter_map(|line| line.strip_prefix("line: ")).collect();
        assert!(lines.len() >= 60, "{}", lines.len());
        for line in lines {
            for word in explain(line, "here", None, None).words {
                assert!(
                    !word.meaning.contains("expected ") || word.word.starts_with("root="),
                    "{line}: {}: {}",
                    word.word,
                    word.meaning
                );
            }
        }
    }

    #[test]
    fn what_is_not_done_because_of_another_word_says_so() {
        for (line, word, end) in [
            ("panic=3 break=mount", "break=mount", ": mounting; ignored, because nobody is to be asked (panic=3)"),
            ("taproot.menu=5 panic=3", "taproot.menu=5", ": 5 s; ignored, because nobody is to be asked (panic=3)"),
            ("rd.shell=0 taproot.menu=5", "taproot.menu=5", "; passed over, because the rescue is locked (rd.shell=0)"),
            ("rw taproot.import=ro", "rw", "; read-only all the same (taproot.import=ro)"),
            ("ro taproot.import=ro", "ro", "root's mount: ro"),
            ("taproot.rescue=shell taproot.menu=5", "taproot.menu=5", "menu: 5 s"),
        ] {
            let e = explain(line, "here", None, None);
            assert!(meaning_of(&e, word).ends_with(end), "{line}: {}", meaning_of(&e, word));
        }
    }

    #[test]
    fn the_word_that_decides_is_named() {
        let line = "root=ZFS=p/a zfs=p/b panic=5 taproot.rescue=menu bootfs=p/c rpool=q bootfs= quiet debug break=mount \
                    rd.break=mount taproot.rescue taproot.rescue=no";
        let e = explain(line, "here", None, None);
        assert_eq!(meaning_of(&e, "root=ZFS=p/a"), "zfs=p/b wins over root=");
        assert!(meaning_of(&e, "panic=5").ends_with(": decided by taproot.rescue=menu"));
        assert!(meaning_of(&e, "bootfs=p/c").ends_with(": decided by zfs=p/b"));
        assert!(meaning_of(&e, "quiet").ends_with(": decided by debug"));
        assert!(meaning_of(&e, "rd.break=mount").ends_with(": decided by break=mount"));
        assert!(meaning_of(&e, "taproot.rescue").ends_with(": taken back by another word"));
    }
}
