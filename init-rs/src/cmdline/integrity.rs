//! What layers must be: root hashes of their trees, a signed list, sums beside them.

use super::state::State;
use super::values::{boolean, directory};
use super::{Decided, LayerSettings, Request, Word};
use crate::devices::verity::{Digest, OnCorruption, root_hash};
use crate::plan::names;
use std::collections::BTreeMap;

/// Our own words, without `taproot.`.
pub(super) const OWN: [&str; 4] = ["roothash", "layerlist", "layer_sums", "verity"];
/// The list's file where keys are packed and no word names another one.
pub const LIST_FILE: &str = "layers.list";
const ROOT_HASH: &str = "taproot.roothash=LAYER:DIGITS[,...], 64 hexadecimal digits each";
const VERITY: &str = "taproot.verity=lazy, restart or panic, with commas between";
const SUMS: &str = "taproot.layer_sums=yes or no";
const LIST: &str = "taproot.layerlist=FILE, below the directory of the layers";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integrity {
    /// `taproot.roothash=`: what the tree of a layer must come to.
    pub roots: BTreeMap<String, Decided<Digest>>,
    /// `roothash=`, as systemd has it: that of the only layer.
    pub only: Option<Decided<Digest>>,
    /// `taproot.layerlist=`: the file of a signed list, below the directory of the layers.
    pub list: Option<Decided<String>>,
    /// `taproot.layer_sums=no`: sums beside layers are not looked at.
    pub sums: Decided<bool>,
    /// `taproot.verity=lazy`: a layer with a tree is not read whole before it is mounted.
    pub lazy: Decided<bool>,
    /// `taproot.verity=restart`, `panic`: what the kernel does about a block that is not what the tree says.
    pub on_corruption: Decided<OnCorruption>,
}

impl Default for Integrity {
    fn default() -> Self {
        Self {
            roots: BTreeMap::new(),
            only: None,
            list: None,
            sums: Decided::new(true, "default (yes)"),
            lazy: Decided::new(false, "default (all of it)"),
            on_corruption: Decided::new(OnCorruption::Error, "default (the read fails)"),
        }
    }
}

impl Integrity {
    /// Layers of which the words say a root hash, of these.
    pub fn rooted<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a str> {
        let only = self.only.as_ref().and(names.first()).map(String::as_str);
        self.roots.keys().map(String::as_str).chain(only)
    }

    /// The words by which something must be as it was sealed.
    pub(super) fn words(&self) -> Vec<&str> {
        let roots = self.roots.values().chain(&self.only).map(|root| root.why.as_str());
        let mut words: Vec<&str> = roots.chain(self.list.as_ref().map(|list| list.why.as_str())).collect();
        words.dedup();
        words
    }

    /// Whether these words ask for less than those: something that had to be as it was sealed need not be so any more.
    fn asks_less(&self, than: &Self) -> bool {
        let value = |root: &Option<Decided<Digest>>| root.as_ref().map(|root| root.value);
        let lost = |(name, root): (&String, &Decided<Digest>)| {
            self.roots.get(name).is_none_or(|other| other.value != root.value)
        };
        let file = |list: &Option<Decided<String>>| list.as_ref().map(|list| list.value.clone());
        than.roots.iter().any(lost)
            || than.only.is_some() && value(&self.only) != value(&than.only)
            || than.list.is_some() && file(&self.list) != file(&than.list)
            || than.sums.value && !self.sums.value
    }
}

/// What may be mounted unchecked because of a change of words, a line each.
pub(super) fn dangers(before: &Request, after: &Request) -> Vec<String> {
    let Some(was) = &before.layers else { return Vec::new() };
    let words = was.integrity.words();
    let less = match &after.layers {
        None => !words.is_empty(),
        Some(is) => is.integrity.asks_less(&was.integrity) || !words.is_empty() && others(was, is),
    };
    let what = if words.is_empty() { "sums of layers were to be checked".to_owned() } else { words.join(" ") };
    let line = || format!("{what}: the next attempt can boot what nothing vouches for.");
    less.then(line).into_iter().collect()
}

/// What a root that a person names instead is not checked by.
pub fn another_root(request: &Request) -> Option<String> {
    let words = request.layers.as_ref()?.integrity.words();
    let line = || format!("{}: that does not hold for another root; nothing vouches for that one.", words.join(" "));
    (!words.is_empty()).then(line)
}

fn others(was: &LayerSettings, is: &LayerSettings) -> bool {
    is.names.value.iter().any(|name| !was.names.value.contains(name))
}

impl State {
    /// `taproot.roothash=` and its kin, without `taproot.`; whether the value is understood.
    pub(super) fn own_integrity(&mut self, word: &Word, name: &str, value: Option<&str>) -> bool {
        let why = word.text.as_str();
        self.layers.mentioned(why);
        let asked = &mut self.layers.integrity;
        match (name, value) {
            ("roothash", Some(v)) => {
                for part in v.split(',') {
                    let pair = part.rsplit_once(':').filter(|(name, _)| names::check_layer(name).is_ok());
                    let Some((name, Some(root))) = pair.map(|(name, digits)| (name, Digest::parse(digits))) else {
                        return self.problem(word, ROOT_HASH);
                    };
                    asked.roots.insert(name.to_owned(), Decided::new(root, why));
                }
            }
            ("layerlist", Some(v)) => match directory(v).filter(|file| !file.is_empty()) {
                Some(file) => asked.list = Some(Decided::new(file, why)),
                None => return self.problem(word, LIST),
            },
            ("layer_sums", v) => match boolean(v) {
                Some(on) => asked.sums = Decided::new(on, why),
                None => return self.problem(word, SUMS),
            },
            ("verity", Some(v)) => {
                for option in v.split(',') {
                    match (option, OnCorruption::parse(option)) {
                        ("lazy", _) => asked.lazy = Decided::new(true, why),
                        (_, Ok(then)) => asked.on_corruption = Decided::new(then, why),
                        (_, Err(_)) => return self.problem(word, VERITY),
                    }
                }
            }
            _ => return self.problem(word, "a value"),
        }
        true
    }

    /// `roothash=`; whether the word is that.
    pub(super) fn root_hash(&mut self, word: &Word, value: Option<&str>) -> bool {
        if word.key != "roothash" {
            return false;
        }
        self.layers.mentioned(&word.text);
        match root_hash(value.unwrap_or_default()) {
            Ok(root) => self.layers.integrity.only = Some(Decided::new(root, word.text.as_str())),
            Err(_) => return self.problem(word, "roothash= and the 64 hexadecimal digits of the only layer"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{Selector, edit, parse};

    fn root(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn asked(line: &str) -> Integrity {
        let request = parse(format!("taproot.layers=top:base {line}").as_bytes());
        *request.layers.unwrap_or_else(|| panic!("{line}: {:?}", request.problems)).integrity
    }

    #[test]
    fn hashes_by_layer_and_for_the_only_one() {
        let (a, b) = (root('a'), root('B'));
        let both = asked(&format!("taproot.roothash=base:{a},top:{b}"));
        assert_eq!(both, Integrity { roots: both.roots.clone(), ..Integrity::default() });
        assert_eq!(both.roots["top"].value.to_string(), b.to_lowercase());
        assert_eq!(
            asked(&format!("taproot.roothash=base:{b} taproot.roothash=base:{a}")).roots["base"].value.to_string(),
            a
        );
        assert_eq!(asked(&format!("roothash={a}")).only.unwrap().value.to_string(), a);
        let names = ["x".to_owned()];
        assert_eq!(asked(&format!("roothash={a}")).rooted(&names).collect::<Vec<_>>(), ["x"]);
        let how = asked("taproot.verity=lazy,restart-on-corruption taproot.layer-sums=no taproot.layerlist=/x//y");
        assert!(how.lazy.value && !how.sums.value && how.list.unwrap().value == "x/y");
        assert_eq!(how.on_corruption.value, OnCorruption::Restart);
    }

    #[test]
    fn what_is_not_understood_boots_nothing() {
        for word in [
            "taproot.roothash",
            "taproot.roothash=base",
            "taproot.roothash=base:12",
            &format!("taproot.roothash={}", root('a')),
            &format!("taproot.roothash=../x:{}", root('a')),
            &format!("taproot.roothash=base:{},", root('a')),
            "roothash=",
            "roothash",
            "roothash=12",
            "taproot.verity=ignore",
            "taproot.verity=ignore-corruption",
            "taproot.layerlist=",
            "taproot.layerlist=../x",
            "taproot.layer_sums=perhaps",
        ] {
            let request = parse(format!("root=UUID=1 taproot.layers=base {word}").as_bytes());
            assert!(matches!(request.root.value, Selector::Unusable(_)) && request.layers.is_none(), "{word}");
        }
    }

    /// Something was to be checked, and there are no layers that could be.
    #[test]
    fn a_hash_without_layers_boots_nothing() {
        for word in
            [&format!("roothash={}", root('a')), &format!("taproot.roothash=a:{}", root('a')), "taproot.layerlist=x"]
        {
            let request = parse(format!("root=UUID=1 {word}").as_bytes());
            assert!(
                matches!(&request.root.value, Selector::Unusable(why) if why.contains("taproot.layers=")),
                "{word}"
            );
        }
        assert_eq!(parse(b"root=UUID=1 taproot.layer_sums=no").root.value, Selector::Device("UUID=1".into()));
    }

    #[test]
    fn words_at_the_prompt_are_no_silent_way_round() {
        let line = format!("root=UUID=1 taproot.layers=top:base taproot.roothash=base:{}", root('a'));
        let ask = |typed: &str| {
            let after = parse(edit::edit(&line, typed).as_bytes());
            edit::dangers(&parse(line.as_bytes()), &after)
        };
        for typed in [
            "taproot.roothash=",
            &format!("taproot.roothash=base:{}", root('b')),
            "taproot.layers=",
            "taproot.layers=other:base",
            "taproot.layer_sums=no",
            "taproot.layers= taproot.import=ro",
        ] {
            let said = ask(typed);
            assert!(said.iter().any(|line| line.contains("nothing vouches for")), "{typed}: {said:?}");
        }
        for typed in
            ["quiet", "taproot.layers=base", &format!("taproot.roothash=base:{}", root('a')), "taproot.verity=lazy"]
        {
            assert_eq!(ask(typed), [""; 0], "{typed}");
        }
        assert!(another_root(&parse(line.as_bytes())).is_some());
        assert_eq!(another_root(&parse(b"root=UUID=1 taproot.layers=base")), None);
    }
}
