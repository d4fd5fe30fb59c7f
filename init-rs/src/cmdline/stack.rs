//! A root made of layers by its name, where another root than that of the words is named: `layers:TOP:...:BOTTOM[@BASE]`.

use super::layers::names_of;
use super::{Request, Selector, root};
use std::fmt;

/// What such a name begins with.
const MARK: &str = "layers:";

/// Layers, and what they lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Their names, the topmost first.
    pub names: Vec<String>,
    /// Their base; `None`: that of the command line.
    pub base: Option<Selector>,
}

/// A root that stands in for the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// A dataset, a pool's `bootfs` or a block device.
    Root(Selector),
    /// Layers.
    Layers(Stack),
}

impl Stack {
    /// Reads such a name; `None` if it is none. No name of a layer holds a `/` or `=`, and every base does: the last `@` before
    /// the first of these stands between them.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix(MARK)?;
        let split = rest.find(['/', '=']).and_then(|mark| rest.get(..mark)?.rfind('@'));
        let (list, base) = match split.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?))) {
            Some((list, base)) => (list, Some(base)),
            None => (rest, None),
        };
        let read = || Ok(Self { names: names_of(list)?, base: base.map(root::fallback).transpose()? });
        Some(read().map_err(|why: String| format!("`{text}`: {why}")))
    }

    /// The layers that a request asks for, if it does.
    pub fn of(request: &Request) -> Option<Self> {
        // What is on a live medium has no such name.
        let layers = request.layers.as_ref().filter(|layers| layers.live.is_none())?;
        Some(Self { names: layers.names.value.clone(), base: Some(request.root.value.clone()) })
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}", self.names.join(":"))?;
        match &self.base {
            Some(Selector::Device(name)) => write!(f, "@{name}"),
            Some(Selector::Dataset { dataset, .. }) if dataset.contains('/') => write!(f, "@{dataset}"),
            Some(Selector::Dataset { dataset, .. }) => write!(f, "@ZFS={dataset}"),
            Some(Selector::Auto | Selector::Pool(_) | Selector::Medium | Selector::Unusable(_)) | None => Ok(()),
        }
    }
}

impl Fallback {
    /// Reads a root of `taproot.fallback=`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match Stack::parse(text) {
            Some(stack) => stack.map(Self::Layers),
            None => root::fallback(text).map(Self::Root),
        }
    }

    /// The root itself, or what its layers lie on.
    pub fn base(&self) -> Option<&Selector> {
        match self {
            Self::Root(root) => Some(root),
            Self::Layers(stack) => stack.base.as_ref(),
        }
    }

    /// What is named only by what the words as a whole say: the pool of a `bootfs`, the base of layers.
    pub(super) fn complete(&mut self, root: &Selector) {
        let base = match self {
            Self::Root(base) => base,
            Self::Layers(stack) => stack.base.get_or_insert_with(|| root.clone()),
        };
        if let (Selector::Auto, Selector::Pool(pool) | Selector::Dataset { pool, .. }) = (&*base, root) {
            *base = Selector::Pool(pool.clone());
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => root.fmt(f),
            Self::Layers(stack) => stack.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse;

    fn stack(text: &str) -> Result<Stack, String> {
        Stack::parse(text).unwrap()
    }

    #[test]
    fn layers_and_their_base() {
        let device = |spec: &str| Some(Selector::Device(spec.to_owned()));
        let dataset = |name: &str| {
            let pool = name.split('/').next().unwrap().to_owned();
            Some(Selector::Dataset { pool, dataset: name.to_owned() })
        };
        for (text, names, base) in [
            ("layers:site:base", vec!["site", "base"], None),
            ("layers:a@1:b@UUID=1-2", vec!["a@1", "b"], device("UUID=1-2")),
            ("layers:a@2@LABEL=x@y", vec!["a@2"], device("LABEL=x@y")),
            ("layers:a@/dev/vda2", vec!["a"], device("/dev/vda2")),
            ("layers:a:b@tank/sys", vec!["a", "b"], dataset("tank/sys")),
            ("layers:a@ZFS=tank", vec!["a"], dataset("tank")),
            ("layers:a@b", vec!["a@b"], None),
        ] {
            let read = stack(text).unwrap();
            assert_eq!(
                (read.names.clone(), read.base.clone()),
                (names.iter().map(|n| (*n).to_owned()).collect(), base)
            );
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(Stack::parse("tank/layers:a"), None);
        for (text, why) in [
            ("layers:", "empty"),
            ("layers:a:upper", "writable"),
            ("layers:a@tank/b@s", "no"),
            ("layers:a/b", "cannot be in a name"),
            ("layers:a@/x", "not a name"),
        ] {
            let said = stack(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn what_the_words_say_of_layers_holds_for_those_of_a_fallback() {
        let request =
            parse(b"root=UUID=1 taproot.upper=ram:1G taproot.fallback=layers:old:base,UUID=2,layers:x@t/a,bootfs");
        let told: Vec<String> = request.fallback.iter().map(|f| f.value.to_string()).collect();
        assert_eq!(told, ["layers:old:base@UUID=1", "UUID=2", "layers:x@t/a", "bootfs of a pool"]);
        assert_eq!(request.layers, None);
        let stacking = request.stacking.unwrap();
        assert!(matches!(stacking.upper.value, crate::cmdline::Upper::Ram { .. }));
        let request = parse(b"root=UUID=1 taproot.upper=x taproot.fallback=layers:old");
        assert_eq!(request.stacking, None);
        assert!(parse(b"taproot.fallback=layers:a:a,p/a").notes[0].message.contains("named twice; left out"));
        let request = parse(b"zfs=tank/a taproot.fallback=layers:a,layers:b@ZFS=bootfs");
        let told: Vec<String> = request.fallback.iter().map(|f| f.value.to_string()).collect();
        assert_eq!(told, ["layers:a@tank/a", "layers:b"]);
    }
}
