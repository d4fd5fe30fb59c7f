//! Trees as distributions make them.

use super::*;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

const GERMAN: &str = "keymaps 0-1\ninclude \"base\"\nkeycode 21 = z\nkeycode 44 = y\n";
const BASE: &str = "keycode 16 = q\nkeycode 21 = y\nkeycode 44 = z\n";
const MADE: &str = "keymaps 0-1\nkeycode 21 = +U+007a +U+005a\n";

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = this.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let gz = path.extension().is_some_and(|end| end == "gz");
            std::fs::write(path, if gz { gzip(text) } else { text.as_bytes().to_vec() }).unwrap();
        }
        this
    }

    fn find(&self, choice: &Choice) -> Result<Keyboard> {
        find(&Tree::open(self.0.path()).unwrap(), choice)
    }

    /// Name and origin of the layout that the tree's own system uses, and the notes.
    fn configured(&self) -> (Option<(String, String)>, Vec<String>) {
        let keyboard = self.find(&Choice::Configured).unwrap();
        (keyboard.layout.map(|(layout, from)| (layout.name, from)), keyboard.notes)
    }

    fn older(&self, path: &str) {
        let file = std::fs::File::options().write(true).open(self.0.path().join(path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    gz.write_all(text.as_bytes()).unwrap();
    gz.finish().unwrap()
}

fn named(name: &str, from: &str) -> (Option<(String, String)>, Vec<String>) {
    (Some((name.to_owned(), from.to_owned())), vec![])
}

#[test]
fn arch_with_kbds_tree() {
    let dir = "usr/share/kbd/keymaps";
    let de = format!("{dir}/i386/qwertz/de-latin1.map.gz");
    let files = Files::new(&[
        (&de, GERMAN),
        (&format!("{dir}/mac/all/de-latin1.map.gz"), "keycode 1 = a\n"),
        (&format!("{dir}/i386/include/base.inc"), BASE),
        ("etc/vconsole.conf", "# comment\nKEYMAP=us\nKEYMAP=\"de-latin1\"\nXKBLAYOUT=fr\n"),
    ]);
    assert_eq!(files.configured(), named("de-latin1", &format!("/{de}")));
    let keyboard = files.find(&Choice::Name("de-latin1".to_owned())).unwrap();
    let tables = &keyboard.layout.unwrap().0.keymap.tables;
    assert_eq!((tables[&0][&16], tables[&0][&21], tables[&1][&44]), (0xb71, 0xb7a, 0xb59));
    for file in ["de-latin1.map", "de-latin1.map.gz"] {
        let keyboard = files.find(&Choice::Name(file.to_owned())).unwrap();
        assert_eq!(keyboard.layout.unwrap().0.keymap.tables, *tables, "{file}, as loadkeys takes it");
    }
    let error = format!("{:#}", files.find(&Choice::Name("xx".to_owned())).unwrap_err());
    assert!(error.contains("--keymap xx: no such keymap in"), "{error}");
}

#[test]
fn debian_with_console_setups_cache() {
    let cache = "etc/console-setup/cached_UTF-8_del.kmap.gz";
    let keyboard = "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"de\"\nXKBVARIANT=\"nodeadkeys\"\n";
    let files = Files::new(&[
        (cache, MADE),
        ("etc/console-setup/cached_ISO-8859-1_del.kmap.gz", "junk"),
        ("etc/default/keyboard", keyboard),
    ]);
    files.older("etc/default/keyboard");
    assert_eq!(files.configured(), named("de(nodeadkeys)", &format!("/{cache}")));
    // Made of what was configured before.
    std::fs::write(files.0.path().join("etc/default/keyboard"), keyboard).unwrap();
    files.older(cache);
    let (none, notes) = files.configured();
    assert!(
        none.is_none() && notes[0].contains("is older; run setupcon --save-only, or give --keymap FILE"),
        "{notes:?}"
    );
}

#[test]
fn layouts_of_x_have_other_names_in_kbd() {
    let keymap = "usr/share/keymaps/i386/qwerty/uk.kmap.gz";
    let files = Files::new(&[(keymap, MADE), ("etc/default/keyboard", "XKBLAYOUT=gb,us\n")]);
    assert_eq!(files.configured(), named("gb", &format!("/{keymap}")));
    let keymap = "usr/lib/kbd/keymaps/xkb/fr-oss.map.gz";
    let files = Files::new(&[(keymap, MADE), ("etc/vconsole.conf", "XKBLAYOUT='fr'\nXKBVARIANT='oss'\n")]);
    assert_eq!(files.configured(), named("fr(oss)", &format!("/{keymap}")));
}

#[test]
fn alpine_names_a_binary_keymap_by_its_path() {
    let mut bytes = b"bkeymap\x01".to_vec();
    bytes.resize(7 + 256, 0);
    bytes.resize(7 + 256 + 256, 1);
    let files = Files::new(&[("etc/conf.d/loadkmap", "KEYMAP=/etc/keymap/de.bmap.gz\n")]);
    std::fs::create_dir_all(files.0.path().join("etc/keymap")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    gz.write_all(&bytes).unwrap();
    std::fs::write(files.0.path().join("etc/keymap/de.bmap.gz"), gz.finish().unwrap()).unwrap();
    assert_eq!(files.configured(), named("de", "/etc/keymap/de.bmap.gz"));
}

#[test]
fn a_us_layout_packs_nothing_and_says_nothing() {
    for (path, text) in [
        ("etc/vconsole.conf", "KEYMAP=us\n"),
        ("etc/vconsole.conf", "FONT=x\n"),
        ("etc/default/keyboard", "XKBLAYOUT=\"us\"\nXKBVARIANT=\"\"\n"),
        ("etc/rc.conf", "KEYMAP='us' # comment\n"),
    ] {
        assert_eq!(Files::new(&[(path, text)]).configured(), (None, vec![]), "{text}");
    }
}

#[test]
fn a_keymap_that_is_missing_or_broken_is_told() {
    let notes = |files: &[(&str, &str)]| Files::new(files).configured().1.join("; ");
    let missing = notes(&[("etc/vconsole.conf", "KEYMAP=de\n")]);
    let rest = "or give --keymap FILE; until then people type on the US layout at the prompt";
    let wanted = "keyboard layout de (KEYMAP in /etc/vconsole.conf): no such keymap in the tree; install kbd there, ";
    assert_eq!(missing, format!("{wanted}{rest}"));
    let missing = notes(&[("etc/default/keyboard", "XKBLAYOUT=de\n")]);
    assert!(missing.contains("install console-setup") && missing.ends_with(rest), "{missing}");
    let broken = notes(&[("etc/vconsole.conf", "KEYMAP=de\n"), ("usr/share/keymaps/de.map", "keycode 1 a\n")]);
    assert!(broken.contains("/usr/share/keymaps/de.map, line 1: expected keycode NUMBER"), "{broken}");
}

#[test]
fn files_that_are_named_lie_here_or_in_the_tree() {
    let files =
        Files::new(&[("maps/mine.map", GERMAN), ("maps/base.inc", BASE), ("maps/x.map", "keycode 1 = a thai_kokai\n")]);
    let here = files.0.path().join("maps/mine.map");
    let found = files.find(&Choice::new(here.to_str().unwrap(), Named::Here)).unwrap();
    assert_eq!(found.layout.unwrap().0.name, "mine");
    let found = files.find(&Choice::new("/maps/x.map", Named::InTree)).unwrap();
    assert_eq!(found.notes, ["/maps/x.map: what is not known does nothing at the prompt: thai_kokai"]);
    assert!(files.find(&Choice::new("/maps/none.map", Named::InTree)).is_err());
    assert_eq!(Choice::new("none", Named::Here), Choice::None);
    assert_eq!(Choice::new("de", Named::Here), Choice::Name("de".to_owned()));
}

#[test]
fn values_as_a_shell_reads_them() {
    let text = "A=1\n A='2 3'#\nB=\"x\" # c\nC=y # c\nAB=4\nD=\n";
    for (key, expected) in [("A", Some("2 3")), ("B", Some("x")), ("C", Some("y")), ("D", Some("")), ("E", None)] {
        assert_eq!(value(text, key).as_deref(), expected, "{key}");
    }
}
