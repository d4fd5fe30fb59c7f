//! GRUB: its `grub.cfg` as `grub-mkconfig` writes it, and `grubenv`. The language is not interpreted: what depends on more than the
//! usual variables is left out, and said.

use super::entries;
use super::{Entry, Named, TEXT, release, release_of_name, unreadable};
use crate::initramfs::tree::Tree;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PLACES: [&str; 2] = ["/boot/grub", "/boot/grub2"];
/// More entries than any menu has.
const MAX_ENTRIES: usize = 1000;

/// The configuration, if there is one.
pub(super) fn config(tree: &Tree) -> Option<PathBuf> {
    configs().find_map(|path| tree.file(path))
}

/// Where it can be.
pub(super) fn configs() -> impl Iterator<Item = PathBuf> {
    PLACES.iter().map(|dir| Path::new(dir).join("grub.cfg"))
}

/// What would be booted, and why.
pub(super) fn next(tree: &Tree) -> Result<(Entry, Vec<String>), String> {
    let absent = || "GRUB is used, and there is no /boot/grub/grub.cfg (is /boot mounted?)".to_owned();
    let path = config(tree).ok_or_else(|| unreadable(tree).unwrap_or_else(absent))?;
    let text = tree.read(&path, TEXT).map_err(|error| error.to_string())?;
    let mut menu = Menu::parse(&String::from_utf8_lossy(&text), environment(tree, &path));
    let shown = path.display().to_string();
    let (wanted, why) = menu.wanted(&shown);
    if menu.snippets {
        return menu.snippet(tree, &wanted, why);
    }
    let (item, found) = menu.select(&wanted).ok_or_else(|| format!("{shown} has no entry"))?;
    let Item { title, id, linux, initrd, .. } = item;
    let Some((kernel, words)) = linux.split_first() else {
        return Err(format!("entry {title:?} of {shown} starts no Linux by itself"));
    };
    let mut because = vec![why];
    if !found {
        because.push(format!("it has no entry {wanted:?}, so the first one"));
    }
    because.push(format!("entry {title:?}"));
    let mut left_out = Vec::new();
    let words: Vec<String> = words.iter().map(|word| menu.expand(word, &mut left_out)).collect();
    let named = |name: &String| {
        let name = menu.expand(name, &mut Vec::new());
        Named { found: find(tree, &name), name }
    };
    let kernel = named(kernel);
    let release = kernel.found.as_ref().map_or_else(|| release_of_name(&kernel.name), |path| release(tree, path));
    let entry = Entry {
        title: title.clone(),
        id: id.clone(),
        source: path,
        images: initrd.iter().map(named).collect(),
        kernel,
        release,
        words: words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
        left_out,
    };
    Ok((entry, because))
}

/// Where a path of GRUB is in the tree: it begins at the top of the partition, of the pool's dataset (`/ROOT/debian@/boot/...`) or
/// of the disk (`(hd0,gpt2)/...`). The longest end of it that is there.
fn find(tree: &Tree, name: &str) -> Option<PathBuf> {
    let inside = name.split_once("/@/").or_else(|| name.split_once("@/")).map_or(name, |(_, inside)| inside);
    let parts: Vec<&str> = inside.split('/').filter(|part| !part.is_empty()).collect();
    let ends = (0..parts.len()).filter_map(|from| parts.get(from..));
    let mut places =
        ends.flat_map(|end| ["/", "/boot", "/boot/efi", "/efi"].map(|at| Path::new(at).join(end.join("/"))));
    places.find_map(|path| tree.file(path))
}

/// The environment block: `name=value` lines, padded with `#`.
fn environment(tree: &Tree, config: &Path) -> BTreeMap<String, String> {
    let dir = config.parent().unwrap_or(Path::new("/boot/grub"));
    let text = tree.read(dir.join("grubenv"), TEXT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.replace(char::is_control, "?"))).collect()
}

/// An entry or a submenu.
#[derive(Debug, Default)]
struct Item {
    title: String,
    id: String,
    linux: Vec<String>,
    initrd: Vec<String>,
    /// Of a submenu.
    items: Option<Vec<Item>>,
}

/// What is read of a configuration.
#[derive(Debug, Default)]
struct Menu {
    items: Vec<Item>,
    /// Of the environment and of simple `set` lines.
    variables: BTreeMap<String, String>,
    /// The last plain value of `default`.
    default: String,
    /// Whether an entry for one boot is asked for (`next_entry`).
    once: bool,
    /// Whether the entries are files below `/boot/loader/entries` (`blscfg`).
    snippets: bool,
}

/// What a brace opened.
enum Block {
    Entry(Item),
    Other,
}

impl Menu {
    fn parse(text: &str, environment: BTreeMap<String, String>) -> Self {
        let mut menu = Self { variables: environment, ..Self::default() };
        let mut blocks: Vec<Block> = Vec::new();
        let mut count = 0;
        for line in text.replace("\\\n", " ").lines() {
            let words = split(line);
            let inside = blocks.iter().rev().find_map(|block| matches!(block, Block::Entry(_)).then_some(()));
            match words.first().map(String::as_str) {
                Some(kind @ ("menuentry" | "submenu"))
                    if count < MAX_ENTRIES && words.last().is_some_and(|w| w == "{") =>
                {
                    count += 1;
                    blocks.push(Block::Entry(Item::new(&words, kind == "submenu")));
                }
                Some("}") => {
                    if let Some(Block::Entry(item)) = blocks.pop() {
                        menu.close(&mut blocks, item);
                    }
                }
                _ if words.last().is_some_and(|word| word == "{") => blocks.push(Block::Other),
                Some("set") if inside.is_none() => menu.set(words.get(1).map_or("", String::as_str)),
                Some("blscfg") if inside.is_none() => menu.snippets = true,
                Some(word) => {
                    let item = blocks.iter_mut().rev().find_map(|block| match block {
                        Block::Entry(item) => Some(item),
                        Block::Other => None,
                    });
                    let rest = words.iter().skip(1).cloned();
                    match item {
                        Some(item) if word.starts_with("linux") => item.linux = rest.collect(),
                        Some(item) if word.starts_with("initrd") => item.initrd.extend(rest),
                        _ => {}
                    }
                }
                None => {}
            }
        }
        menu
    }

    fn close(&mut self, blocks: &mut [Block], item: Item) {
        let above = blocks.iter_mut().rev().find_map(|block| match block {
            Block::Entry(Item { items: Some(items), .. }) => Some(items),
            _ => None,
        });
        above.unwrap_or(&mut self.items).push(item);
    }

    /// `set NAME=VALUE`.
    fn set(&mut self, assignment: &str) {
        let Some((name, value)) = assignment.split_once('=') else { return };
        match (name, value) {
            ("default", value) if value.contains("next_entry") => self.once = true,
            ("default", value) => value.clone_into(&mut self.default),
            // What the environment says is not reset where it is used up.
            (_, "") => {}
            (name, value) if !value.contains('$') => {
                self.variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
            _ => {}
        }
    }

    /// The entry that is asked for, and by what.
    fn wanted(&self, shown: &str) -> (String, String) {
        let of = |name: &str| self.variables.get(name).filter(|value| !value.is_empty());
        if let Some(next) = of("next_entry").filter(|_| self.once) {
            return (next.clone(), format!("GRUB boots {next:?} once (next_entry in grubenv)"));
        }
        if self.default.contains("saved_entry") {
            return match of("saved_entry") {
                Some(saved) => (saved.clone(), format!("GRUB boots {saved:?} (saved_entry in grubenv)")),
                None => (String::new(), format!("GRUB boots the first entry of {shown}: grubenv has no saved_entry")),
            };
        }
        let wanted = self.expand(&self.default, &mut Vec::new());
        (wanted.clone(), format!("GRUB boots {wanted:?} (default in {shown})"))
    }

    /// The entry that a default means, and whether there is one like it; else the first, as GRUB takes it.
    fn select(&self, wanted: &str) -> Option<(&Item, bool)> {
        let (mut items, mut found) = (&self.items, !wanted.is_empty());
        // `>` goes into a submenu, `>>` is a `>`.
        let wanted = wanted.replace(">>", "\0");
        for part in wanted.split('>').map(|part| part.replace('\0', ">")) {
            let named = |item: &&Item| item.id == part || item.title == part;
            let at = part.parse::<usize>().ok().and_then(|n| items.get(n)).or_else(|| items.iter().find(named));
            found &= at.is_some();
            let item = at.or_else(|| items.first())?;
            match &item.items {
                Some(inner) => items = inner,
                None => return Some((item, found)),
            }
        }
        // A submenu by itself: its first entry.
        let mut first = items.first()?;
        while let Some(inner) = first.items.as_ref().and_then(|items| items.first()) {
            first = inner;
        }
        Some((first, found))
    }

    /// Puts in what variables hold; those that are not known are left out.
    fn expand(&self, text: &str, left_out: &mut Vec<String>) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, behind) = braced.unwrap_or_else(|| {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            });
            match self.variables.get(name) {
                Some(value) => out.push_str(value),
                // Made up by the menu's own script for its graphics.
                None if name == "vt_handoff" => {}
                None => left_out.push(format!("${name}")),
            }
            rest = behind;
        }
        out + rest
    }

    /// The entry where they are files of the Boot Loader Specification (Fedora): the newest unless one is named.
    fn snippet(&mut self, tree: &Tree, wanted: &str, why: String) -> Result<(Entry, Vec<String>), String> {
        let mut all = entries::files(tree, &["/boot"]);
        entries::newest_first(&mut all);
        let by_number = wanted.parse::<usize>().ok().and_then(|n| all.get(n));
        let named = || all.iter().find(|entry| entry.id.trim_end_matches(".conf") == wanted || entry.title() == wanted);
        let found = by_number.or_else(named);
        let mut because = vec![why];
        if found.is_none() {
            because.push("no entry is called so: the first one".to_owned());
        }
        let snippet =
            found.or_else(|| all.first()).ok_or("GRUB takes its entries from /boot/loader/entries, which has none")?;
        let mut entry = snippet.entry(tree);
        let mut left_out = Vec::new();
        entry.words = self.expand(&entry.words, &mut left_out);
        for image in &mut entry.images {
            image.name = self.expand(&image.name, &mut left_out);
            image.found = image.found.take().or_else(|| find(tree, &image.name));
        }
        entry.images.retain(|image| !image.name.is_empty());
        entry.left_out = left_out;
        because.push(format!("entry {:?}", entry.title));
        Ok((entry, because))
    }
}

impl Item {
    /// `menuentry 'Title' --class x $menuentry_id_option 'id' {`.
    fn new(words: &[String], is_submenu: bool) -> Self {
        let mut item = Self { items: is_submenu.then(Vec::new), ..Self::default() };
        let mut rest = words.iter().skip(1);
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--class" | "--users" | "--hotkey" => {
                    rest.next();
                }
                "--id" | "$menuentry_id_option" | "${menuentry_id_option}" => {
                    item.id = rest.next().cloned().unwrap_or_default();
                }
                word if word.starts_with("--") || word == "{" => {}
                word if item.title.is_empty() => word.clone_into(&mut item.title),
                _ => {}
            }
        }
        item
    }
}

/// The words of a line as GRUB splits them; variables stay.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut any, mut quote) = (String::new(), false, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => word.extend(letters.next()),
            (None, '\'' | '"') => (quote, any) = (Some(letter), true),
            (None, '#') if word.is_empty() && !any => break,
            (None, letter) if letter.is_whitespace() || letter == ';' => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, letter) => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = r#"
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="DEFAULT"
fi
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple-x' {
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	linux	/ROOT/debian@/boot/vmlinuz-6.1.0-2-amd64 root=ZFS="rpool/ROOT/de bian" ro  quiet $vt_handoff ${extra}
	initrd	/ROOT/debian@/boot/initrd.img-6.1.0-2-amd64
}
submenu 'Advanced options >for you' $menuentry_id_option 'adv' {
	menuentry 'Old' --id old {
		linux /vmlinuz-6.1.0-1-amd64 zfs=x
		initrd /early.img /initrd.img-6.1.0-1-amd64
	}
	menuentry 'None' {
		chainloader +1
	}
}
"#;

    fn selected(default: &str, environment: &[(&str, &str)]) -> (String, bool, String) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let menu = Menu::parse(&DEBIAN.replace("DEFAULT", default), environment);
        let (wanted, why) = menu.wanted("grub.cfg");
        let (item, found) = menu.select(&wanted).unwrap();
        (item.title.clone(), found, why)
    }

    #[test]
    fn which_entry() {
        let title = |default: &str, environment: &[(&str, &str)]| selected(default, environment).0;
        assert_eq!(title("0", &[]), "Debian GNU/Linux");
        assert_eq!(title("gnulinux-simple-x", &[]), "Debian GNU/Linux");
        assert_eq!(title("1>0", &[]), "Old");
        assert_eq!(title("adv>old", &[]), "Old");
        assert_eq!(title("Advanced options >>for you>None", &[]), "None");
        assert_eq!(title("${saved_entry}", &[("saved_entry", "adv>old")]), "Old");
        assert_eq!(title("${saved_entry}", &[]), "Debian GNU/Linux");
        let once = selected("0", &[("next_entry", "adv>old")]);
        assert!(once.0 == "Old" && once.2.contains("once"), "{once:?}");
        assert_eq!(
            selected("gone", &[]),
            ("Debian GNU/Linux".to_owned(), false, "GRUB boots \"gone\" (default in grub.cfg)".to_owned())
        );
    }

    #[test]
    fn words_and_variables() {
        let menu = Menu::parse(DEBIAN, BTreeMap::new());
        let mut left_out = Vec::new();
        let words: Vec<String> = menu.items[0].linux.iter().map(|word| menu.expand(word, &mut left_out)).collect();
        assert_eq!(words[1..], ["root=ZFS=rpool/ROOT/de bian", "ro", "quiet", "", ""]);
        assert_eq!(left_out, ["$extra"]);
        assert_eq!(menu.items[1].items.as_ref().unwrap()[0].initrd.len(), 2);
        assert_eq!(split("a 'b c'\"d $e\" \\#x # y"), ["a", "b cd $e", "#x"]);
    }

    proptest! {
        #[test]
        fn total(text in "[a-z{}'\"\\\\$#;>\n ]{0,200}", at in 0_usize..1000, value in any::<char>()) {
            let mut damaged: Vec<char> = DEBIAN.chars().collect();
            let len = damaged.len();
            damaged[at % len] = value;
            for text in [text, damaged.into_iter().collect()] {
                let menu = Menu::parse(&text, BTreeMap::new());
                let (wanted, _) = menu.wanted("x");
                let _ = menu.select(&wanted);
            }
        }
    }
}
