//! Entries of the Boot Loader Specification, and how systemd-boot chooses among them (UAPI.1; sd-boot(7), loader.conf(5)).

use super::firmware::Firmware;
use super::{Entry, Named, PARTITIONS, TEXT, release, release_of_name};
use crate::initramfs::tree::{BINARY, Tree};
use crate::uki;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use taproot_init::devices::aliases::glob;

/// More entries than any menu has.
const MAX_ENTRIES: usize = 1000;

/// What systemd-boot reads first, on its partition.
pub(super) const CONFIG: &str = "loader/loader.conf";

/// Whether systemd-boot, or another loader that reads the same files, is set up.
pub(super) fn is_set_up(tree: &Tree) -> bool {
    PARTITIONS.iter().any(|at| tree.file(Path::new(at).join(CONFIG)).is_some())
}

/// What systemd-boot would boot, and why.
pub(super) fn next(tree: &Tree, firmware: &Firmware) -> Result<(Entry, Vec<String>), String> {
    let mut all = files(tree, &PARTITIONS);
    all.extend(programs(tree));
    all.sort_by(order);
    let configured = configured(tree);
    let saved = |wanted: &str| if wanted == "@saved" { firmware.last.clone() } else { Some(wanted.to_owned()) };
    let asked = [
        (firmware.one_shot.clone(), "LoaderEntryOneShot, for one boot"),
        (firmware.default.as_deref().and_then(saved), "LoaderEntryDefault"),
        (configured.as_deref().and_then(saved), "default in loader.conf"),
    ];
    let mut because = Vec::new();
    for (wanted, by) in asked {
        let Some(wanted) = wanted else { continue };
        let pattern = wanted.to_lowercase();
        let found = all.iter().find(|entry| glob(pattern.as_bytes(), entry.id.to_lowercase().as_bytes()));
        if let Some(found) = found {
            because.push(format!("systemd-boot boots {} ({wanted:?}: {by})", found.id));
            return Ok((found.entry(tree), because));
        }
        because.push(format!("no entry is {wanted:?} ({by})"));
    }
    let first = all.first().ok_or(
        "systemd-boot is used, and there is no entry in loader/entries or EFI/Linux (is its partition mounted?)",
    )?;
    because.push(format!("systemd-boot boots {}, the first in its order", first.id));
    Ok((first.entry(tree), because))
}

/// `default` of loader.conf.
fn configured(tree: &Tree) -> Option<String> {
    let path = PARTITIONS.iter().find_map(|at| tree.file(Path::new(at).join("loader/loader.conf")))?;
    let text = String::from_utf8_lossy(&tree.read(path, TEXT).ok()?).into_owned();
    fields(&text).filter(|(key, _)| *key == "default").map(|(_, value)| value.to_owned()).last()
}

/// Lines of key and value.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(char::is_whitespace)).map(|(key, value)| (key, value.trim()))
}

/// An entry as its file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snippet {
    /// Name of the file, without what counts its tries.
    pub id: String,
    path: PathBuf,
    /// Where its partition is mounted.
    partition: PathBuf,
    title: String,
    version: String,
    sort_key: String,
    machine: String,
    linux: String,
    initrd: Vec<String>,
    options: Vec<String>,
    /// Whether it has been tried too often.
    bad: bool,
    /// Of a unified kernel image: its own command line.
    unified: bool,
    release: Option<String>,
}

impl Snippet {
    /// The title that a menu shows.
    pub(super) fn title(&self) -> &str {
        if self.title.is_empty() { &self.id } else { &self.title }
    }

    /// The entry with its files.
    pub(super) fn entry(&self, tree: &Tree) -> Entry {
        let named = |name: &String| {
            let path = self.partition.join(name.trim_start_matches('/'));
            Named { found: tree.file(path), name: name.clone() }
        };
        let kernel = named(&self.linux);
        let by_file = kernel.found.as_ref().map_or_else(|| release_of_name(&kernel.name), |path| release(tree, path));
        let images = if self.unified { vec![kernel.clone()] } else { self.initrd.iter().map(named).collect() };
        Entry {
            title: self.title().to_owned(),
            id: self.id.clone(),
            source: self.path.clone(),
            release: self.release.clone().or(by_file),
            kernel,
            images,
            words: self.options.join(" "),
            left_out: Vec::new(),
        }
    }
}

/// Entries that are files in `loader/entries` of these partitions.
pub(super) fn files(tree: &Tree, partitions: &[&str]) -> Vec<Snippet> {
    let mut all = Vec::new();
    for at in partitions {
        let dir = Path::new(at).join("loader/entries");
        for name in tree.list(&dir).unwrap_or_default().into_iter().take(MAX_ENTRIES) {
            let (Some(stem), path) = (name.strip_suffix(".conf"), dir.join(&name)) else { continue };
            let Ok(text) = tree.read(&path, TEXT) else { continue };
            let (id, bad) = tries(stem);
            let snippet =
                Snippet { id: format!("{id}.conf"), bad, path, partition: PathBuf::from(at), ..Snippet::default() };
            all.push(parse(&String::from_utf8_lossy(&text), snippet));
        }
    }
    all
}

/// The name without its counters (`name+LEFT-DONE`), and whether none is left.
fn tries(stem: &str) -> (&str, bool) {
    let counted = stem.rsplit_once('+').and_then(|(name, count)| {
        let left = count.split_once('-').map_or(count, |(left, _)| left);
        Some((name, left.parse::<u32>().ok()? == 0))
    });
    counted.unwrap_or((stem, false))
}

fn parse(text: &str, mut snippet: Snippet) -> Snippet {
    for (key, value) in fields(text) {
        match key {
            "title" => value.clone_into(&mut snippet.title),
            "version" => value.clone_into(&mut snippet.version),
            "sort-key" => value.clone_into(&mut snippet.sort_key),
            "machine-id" => value.clone_into(&mut snippet.machine),
            "linux" | "efi" | "uki" => {
                value.clone_into(&mut snippet.linux);
                snippet.unified = key == "uki";
            }
            // Several stand on one line where GRUB reads them too.
            "initrd" => snippet.initrd.extend(value.split_whitespace().map(str::to_owned)),
            "options" => snippet.options.push(value.to_owned()),
            _ => {}
        }
    }
    // `version` is for people, too; that it is a release is seen by its beginning.
    let is_release = snippet.version.starts_with(|c: char| c.is_ascii_digit()) && !snippet.version.contains(' ');
    snippet.release = is_release.then(|| snippet.version.clone());
    snippet
}

/// Unified kernel images, which are entries by themselves.
fn programs(tree: &Tree) -> Vec<Snippet> {
    let mut all = Vec::new();
    for at in PARTITIONS {
        let dir = Path::new(at).join("EFI/Linux");
        for name in tree
            .list(&dir)
            .unwrap_or_default()
            .into_iter()
            .filter(|name| name.strip_suffix(".efi").is_some())
            .take(MAX_ENTRIES)
        {
            all.extend(program(tree, &dir.join(name)));
        }
    }
    all
}

/// The entry that the firmware starts by itself.
pub(super) fn unified(tree: &Tree, path: &Path) -> Option<Entry> {
    program(tree, path).map(|snippet| snippet.entry(tree))
}

fn program(tree: &Tree, path: &Path) -> Option<Snippet> {
    let bytes = tree.read(path, BINARY).ok()?;
    uki::section(&bytes, ".linux")?;
    let about = uki::text(&bytes, ".osrel").unwrap_or_default();
    let field = |names: &[&str]| {
        let value = |name: &str| {
            let lines = about.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches(['"', '\'']).to_owned()).next()
        };
        names.iter().find_map(|name| value(name)).unwrap_or_default()
    };
    let name = path.file_name()?.to_string_lossy().into_owned();
    let (id, bad) = tries(name.strip_suffix(".efi")?);
    let release = uki::text(&bytes, ".uname").or_else(|| uki::section(&bytes, ".linux").and_then(uki::release));
    Some(Snippet {
        id: format!("{id}.efi"),
        bad,
        path: path.to_owned(),
        partition: PathBuf::from("/"),
        title: field(&["PRETTY_NAME"]),
        version: field(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]),
        sort_key: field(&["IMAGE_ID", "ID"]),
        linux: path.to_string_lossy().into_owned(),
        options: uki::text(&bytes, ".cmdline").into_iter().collect(),
        unified: true,
        release,
        ..Snippet::default()
    })
}

/// Puts the newest first, as GRUB shows them: by name, backwards.
pub(super) fn newest_first(all: &mut [Snippet]) {
    all.sort_by(|a, b| version(&b.id, &a.id));
}

/// systemd-boot's order: what may still be tried, then sort-key, machine, the newest version, and the name backwards.
fn order(a: &Snippet, b: &Snippet) -> Ordering {
    let keyed = |s: &Snippet| !s.sort_key.is_empty();
    a.bad.cmp(&b.bad).then_with(|| keyed(b).cmp(&keyed(a))).then_with(|| {
        let by_key = if keyed(a) && keyed(b) {
            let machine = a.machine.cmp(&b.machine);
            a.sort_key.cmp(&b.sort_key).then(machine).then_with(|| version(&b.version, &a.version))
        } else {
            Ordering::Equal
        };
        by_key.then_with(|| version(&b.id, &a.id))
    })
}

/// Compares names by their numbers and what stands between.
pub(crate) fn version(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let number = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
        match (number(a), number(b)) {
            (0, _) | (_, 0) => match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) if x == y => (a, b) = (rest_a, rest_b),
                // `~` comes before everything, the end included (Debian, RPM).
                (Some((b'~', _)), _) => return Ordering::Less,
                (_, Some((b'~', _))) => return Ordering::Greater,
                (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)),
            },
            (in_a, in_b) => {
                let ((x, rest_a), (y, rest_b)) = (a.split_at(in_a), b.split_at(in_b));
                let plain = |digits: &[u8]| digits.iter().copied().skip_while(|b| *b == b'0').collect::<Vec<u8>>();
                let (x, y) = (plain(x), plain(y));
                match x.len().cmp(&y.len()).then_with(|| x.cmp(&y)) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    other => return other,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (less, more) in
            [("6.9.1", "6.10"), ("6.1.0-9-amd64", "6.1.0-10-amd64"), ("6.1~rc1", "6.1"), ("a", "b"), ("6.1", "6.1.1")]
        {
            assert_eq!(version(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(version(more, less), Ordering::Greater);
        }
        assert_eq!(version("6.01", "6.1"), Ordering::Equal);
    }

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("efi/loader/loader.conf", b"timeout 3\n#default x\n");
        write(
            "efi/loader/entries/a.conf",
            b"title A\nversion 6.9.1\nlinux /k/6.9.1\ninitrd /i/one /i/two\noptions zfs=p/a\noptions ro\n",
        );
        write("efi/loader/entries/b.conf", b"title B\nversion 6.10.0\nlinux /k/6.10.0\n");
        write("efi/loader/entries/c+0-3.conf", b"version 7.0\nlinux /k/7\n");
        write("efi/i/two", b"");
        let uki = crate::made::program(&[
            (".linux", b"k"),
            (".osrel", b"ID=debian\nPRETTY_NAME=\"Debian\"\n"),
            (".uname", b"6.12"),
            (".cmdline", b"zfs=p/u"),
        ]);
        write("efi/EFI/Linux/u.efi", &uki);
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn which_entry_and_why() {
        let (dir, tree) = tree();
        let id = |firmware: &Firmware| super::next(&tree, firmware).unwrap();
        let (entry, because) = id(&Firmware::default());
        assert_eq!((entry.id.as_str(), entry.words.as_str()), ("u.efi", "zfs=p/u"), "a sort-key comes first");
        assert_eq!(entry.release.as_deref(), Some("6.12"));
        assert!(because[0].contains("the first in its order"));
        fs::remove_file(dir.path().join("efi/EFI/Linux/u.efi")).unwrap();
        assert_eq!(id(&Firmware::default()).0.id, "b.conf", "what was tried too often comes last");
        let named = |name: &str| Some(name.to_owned());
        let (entry, _) = id(&Firmware { default: named("A.*"), ..Firmware::default() });
        assert_eq!((entry.id.as_str(), entry.words.as_str()), ("a.conf", "zfs=p/a ro"));
        let found: Vec<bool> = entry.images.iter().map(|image| image.found.is_some()).collect();
        assert_eq!((found, entry.kernel.found), (vec![false, true], None));
        let both = Firmware { default: named("a.conf"), one_shot: named("c.conf"), ..Firmware::default() };
        let (entry, because) = id(&both);
        assert!(entry.id == "c.conf" && because[0].contains("for one boot"));
        fs::write(dir.path().join("efi/loader/loader.conf"), "default @saved\n").unwrap();
        assert_eq!(id(&Firmware { last: named("a.conf"), ..Firmware::default() }).0.id, "a.conf");
        fs::write(dir.path().join("efi/loader/loader.conf"), "default gone*\n").unwrap();
        let (entry, because) = id(&Firmware::default());
        assert!(entry.id == "b.conf" && because[0].contains("no entry is"), "{because:?}");
    }

    proptest! {
        #[test]
        fn total(text in ".{0,200}", a in ".{0,20}", b in ".{0,20}") {
            let _ = parse(&text, Snippet::default());
            let _ = (version(&a, &b), tries(&a));
        }
    }
}
