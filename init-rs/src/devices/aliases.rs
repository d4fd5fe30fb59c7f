//! Which packed modules a device's modalias asks for: thousands of fnmatch patterns, asked hundreds of times, on
//! machines as slow as an emulator. Patterns are found by a hash of their literal beginning, so that each question
//! runs the matcher on the few patterns that can match.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::table::{ModuleTable, canonical_name};

/// Longest literal beginning that is hashed: one bit of a `u64` for each length in use.
const KEY_MAX: usize = 63;

/// FNV-1a, taken because it goes on byte by byte: one pass over a modalias gives the hashes of all its beginnings.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// `-` and `_` are one character in module names and aliases (as in kmod).
const fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[derive(Debug)]
struct Entry {
    /// Hash of the literal beginning, see [`key`].
    hash: u64,
    /// Pairs of neighbouring literal bytes, see [`pairs`]: what a text must have to match. Without it each ACPI device
    /// would run through all patterns that begin with `acpi*:`.
    pairs: u64,
    /// Where the pattern stands in the arena; ascending in the order of the table.
    pattern: Range<usize>,
    module: usize,
}

/// All aliases of the packed modules, ready to be matched.
#[derive(Debug, Default)]
pub struct AliasIndex {
    /// All patterns, one behind the other.
    arena: String,
    /// Sorted by hash.
    entries: Vec<Entry>,
    /// Bit n: some pattern's key is n bytes long.
    lengths: u64,
}

impl AliasIndex {
    /// Compiles the aliases of `table`, without those of blacklisted or unknown modules.
    pub fn new(table: &ModuleTable) -> Self {
        let names: HashMap<&str, usize> =
            table.modules.iter().enumerate().rev().map(|(i, m)| (m.name.as_str(), i)).collect();
        let blacklist: HashSet<String> = table.blacklist.iter().map(|name| canonical_name(name)).collect();
        let resolve = |name: &str| {
            let index = names.get(name).or_else(|| names.get(canonical_name(name).as_str())).copied()?;
            (!blacklist.contains(&canonical_name(name))).then_some(index)
        };

        let mut index = Self {
            arena: String::with_capacity(table.aliases.iter().map(|(pattern, _)| pattern.len() + 1).sum()),
            entries: Vec::with_capacity(table.aliases.len()),
            lengths: 0,
        };
        // Aliases of one module stand together: one look-up for all of them.
        let mut last: Option<(&str, Option<usize>)> = None;
        for (pattern, name) in &table.aliases {
            let module = match last {
                Some((known, module)) if known == name => module,
                _ => resolve(name),
            };
            last = Some((name, module));
            let Some(module) = module else { continue };
            let pattern_bytes = pattern.as_bytes();
            let (length, hash) = key(pattern_bytes);
            index.lengths |= 1 << length;
            let start = index.arena.len();
            index.arena.push_str(pattern);
            let pattern = start..index.arena.len();
            // Without something between them empty patterns would all begin at one place.
            index.arena.push('\n');
            index.entries.push(Entry { hash, pairs: pairs(pattern_bytes, true), pattern, module });
        }
        index.entries.sort_by_key(|a| (a.hash, a.pattern.start));
        index
    }

    /// Indices into the table of the modules that `modalias` asks for, each once, in the order of the aliases.
    pub fn matches(&self, modalias: &str) -> Vec<usize> {
        let text = modalias.as_bytes();
        let present = pairs(text, false);
        let mut hits: Vec<(usize, usize)> = Vec::new();
        let mut hash = FNV_START;
        for length in 0..=text.len().min(KEY_MAX) {
            if length > 0 {
                hash = fnv(hash, text.get(length - 1).copied().map_or(0, fold));
            }
            if self.lengths & (1 << length) == 0 {
                continue;
            }
            let first = self.entries.partition_point(|e| e.hash < hash);
            for entry in self.entries.iter().skip(first).take_while(|e| e.hash == hash) {
                if entry.pairs & !present != 0 {
                    continue;
                }
                let pattern = self.arena.get(entry.pattern.clone()).unwrap_or_default();
                if glob(pattern.as_bytes(), text) {
                    hits.push((entry.pattern.start, entry.module));
                }
            }
        }
        hits.sort_unstable();
        let mut modules: Vec<usize> = Vec::with_capacity(hits.len());
        for (_, module) in hits {
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
        modules
    }
}

/// Length and hash of the literal beginning of a pattern.
fn key(pattern: &[u8]) -> (usize, u64) {
    let literal = pattern.iter().take(KEY_MAX).take_while(|b| !matches!(b, b'*' | b'?' | b'[' | b'\\'));
    literal.fold((0, FNV_START), |(length, hash), &b| (length + 1, fnv(hash, fold(b))))
}

/// A bit for each pair of neighbouring bytes; in a pattern only of those that stand for themselves, up to the first
/// bracket or backslash.
fn pairs(bytes: &[u8], pattern: bool) -> u64 {
    let special = |b: u8| pattern && matches!(b, b'*' | b'?');
    let usable = bytes.iter().take_while(|&&b| !(pattern && matches!(b, b'[' | b'\\')));
    let (set, _) = usable.fold((0, None), |(set, last), &byte| match last {
        _ if special(byte) => (set, None),
        Some(last) => (set | 1_u64 << ((u32::from(last) * 5 + u32::from(fold(byte))) % 64), Some(fold(byte))),
        None => (set, Some(fold(byte))),
    });
    set
}

/// fnmatch(3) without flags, `-` equal to `_` outside brackets. Iterative: only the last `*` is ever retried, which is
/// enough without path separators, so the worst case is pattern times text.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        let step = match text.get(t) {
            Some(&byte) => match_one(pattern, p, byte),
            None if p == pattern.len() => return true,
            // The text is at its end: no later start can match more.
            None => return false,
        };
        if let Some(next) = step {
            p = next;
            t += 1;
        } else if let Some((star, from)) = retry {
            p = star;
            t = from + 1;
            retry = Some((star, t));
        } else {
            return false;
        }
    }
}

/// Matches one byte against the pattern item at `p` (no `*`): the position behind the item, or `None`.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match bracket(pattern, p, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // Never closed: a plain bracket.
            None => (byte == b'[').then_some(p + 1),
        },
        b'\\' => (fold(*pattern.get(p + 1)?) == fold(byte)).then_some(p + 2),
        literal => (fold(literal) == fold(byte)).then_some(p + 1),
    }
}

/// A bracket expression starting at `p`: whether `byte` is in it, and the position behind it. `None` if not closed.
fn bracket(pattern: &[u8], p: usize, byte: u8) -> Option<(bool, usize)> {
    let mut at = p + 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut found = false;
    loop {
        let low = match *pattern.get(at)? {
            b']' if at > first => return Some((found != negated, at + 1)),
            b'\\' => {
                at += 1;
                *pattern.get(at)?
            }
            other => other,
        };
        at += 1;
        match (pattern.get(at), pattern.get(at + 1)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                at += 2;
            }
            _ => found |= low == byte,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::table::{Module, When};
    use proptest::prelude::*;
    use std::time::Instant;

    fn module(name: &str) -> Module {
        Module {
            name: name.into(),
            path: format!("/lib/modules/{name}.ko"),
            when: When::Device,
            deps: vec![],
            soft: vec![],
            params: String::new(),
        }
    }

    fn table(aliases: &[(&str, &str)]) -> ModuleTable {
        let mut table = ModuleTable::default();
        for (pattern, name) in aliases {
            if !table.modules.iter().any(|m| m.name == *name) {
                table.modules.push(module(name));
            }
            table.aliases.push(((*pattern).to_owned(), (*name).to_owned()));
        }
        table
    }

    fn names(table: &ModuleTable, modalias: &str) -> Vec<String> {
        AliasIndex::new(table).matches(modalias).into_iter().map(|i| table.modules[i].name.clone()).collect()
    }

    #[test]
    fn real_modaliases() {
        let table = table(&[
            ("virtio:d00000002v*", "virtio_blk"),
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", "virtio_pci"),
            ("pci:v*d*sv*sd*bc01sc06i01*", "ahci"),
            ("acpi*:PNP0F13:*", "psmouse"),
            ("of:N*T*Cvirtio,mmio", "virtio_mmio"),
            ("scsi:t-0x00*", "sd_mod"),
            ("usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*", "usb_storage"),
            ("hid:b0003g*v0000046Dp0000C5[23]*", "logitech"),
            ("*", "everything"),
        ]);
        assert_eq!(names(&table, "virtio:d00000002v00001AF4"), ["virtio_blk", "everything"]);
        let ahci = "pci:v00001AF4d00002922sv00001AF4sd00001100bc01sc06i01";
        assert_eq!(names(&table, ahci), ["virtio_pci", "ahci", "everything"]);
        assert_eq!(names(&table, "acpi:PNP0F13:"), ["psmouse", "everything"]);
        assert_eq!(names(&table, "scsi:t_0x00"), ["sd_mod", "everything"]);
        assert_eq!(names(&table, "hid:b0003g0001v0000046Dp0000C52B"), ["logitech", "everything"]);
        assert_eq!(names(&table, "hid:b0003g0001v0000046Dp0000C54B"), ["everything"]);
        assert_eq!(names(&table, ""), ["everything"]);
    }

    #[test]
    fn blacklist_and_unknown_modules() {
        let mut table = table(&[("pci:*", "nouveau-x"), ("pci:*", "nvme")]);
        table.aliases.push(("pci:*".into(), "not_packed".into()));
        table.blacklist.push("nouveau_x".into());
        assert_eq!(names(&table, "pci:v1"), ["nvme"]);
    }

    #[test]
    fn equal_patterns_keep_their_order() {
        let table = table(&[("", "b"), ("", "a"), ("x", "d"), ("x", "c")]);
        assert_eq!(names(&table, ""), ["b", "a"]);
        assert_eq!(names(&table, "x"), ["d", "c"]);
    }

    #[test]
    fn brackets_like_fnmatch() {
        for (pattern, text, expected) in [
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]x", "]x", true),
            ("[a-]x", "-x", true),
            ("[ax", "[ax", true),
            ("[a", "a", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a\\", "a\\", false),
            ("*a*b*", "xxaxxb", true),
            ("?", "", false),
            ("**", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_pattern_is_quick() {
        let pattern = "a*".repeat(2000) + "b";
        let text = "a".repeat(20_000);
        let start = Instant::now();
        assert!(!glob(pattern.as_bytes(), text.as_bytes()));
        assert!(start.elapsed().as_secs() < 5);
    }

    /// The definition, by recursion.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| naive(&pattern[1..], &text[skip..])),
            Some(_) => text
                .first()
                .and_then(|&b| match_one(pattern, 0, b))
                .is_some_and(|next| naive(&pattern[next..], &text[1..])),
        }
    }

    proptest! {
        #[test]
        fn glob_equals_naive(pattern in "[ab:*?_\\[\\]!^\\\\-]{0,10}", text in "[ab:_\\[\\]-]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn glob_is_total(pattern in ".{0,40}", text in ".{0,40}") {
            let _ = glob(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn index_equals_scan(
            patterns in proptest::collection::vec(("[ab:]{0,3}[ab:*?_-]{0,6}", 0_usize..5), 0..30),
            text in "[ab:_-]{0,8}",
        ) {
            let mut table = ModuleTable { modules: (0..5).map(|i| module(&format!("m{i}"))).collect(), ..ModuleTable::default() };
            table.aliases = patterns.into_iter().map(|(p, m)| (p, format!("m{m}"))).collect();
            let mut expected: Vec<usize> = Vec::new();
            for (pattern, name) in &table.aliases {
                let i = table.modules.iter().position(|m| m.name == *name).unwrap();
                if naive(pattern.as_bytes(), text.as_bytes()) && !expected.contains(&i) {
                    expected.push(i);
                }
            }
            prop_assert_eq!(AliasIndex::new(&table).matches(&text), expected);
        }
    }

    /// A pattern that ends in an unclosed bracket or backslash keeps its meaning in the index.
    #[test]
    fn index_with_brackets() {
        let table = table(&[("ab[cd]ef*", "m"), ("ab[", "open"), ("a\\b", "escaped")]);
        assert_eq!(names(&table, "abcefgh"), ["m"]);
        assert_eq!(names(&table, "ab["), ["open"]);
        assert_eq!(names(&table, "ab"), ["escaped"]);
    }

    /// Printed, not asserted: `cargo test -p taproot-init --release devices::aliases -- --nocapture figures`.
    #[test]
    fn figures() {
        let mut table =
            ModuleTable { modules: (0..200).map(|i| module(&format!("m{i}"))).collect(), ..ModuleTable::default() };
        for i in 0_u32..5000 {
            let pattern = match i % 5 {
                0..=2 => format!("pci:v{:08X}d{:08X}sv*sd*bc*sc*i*", 0x8086 + i % 7, i),
                3 => format!("usb:v{:04X}p{:04X}d*dc*dsc*dp*ic*isc*ip*in*", i % 900, i),
                _ => format!("acpi*:ABC{i:04}:*"),
            };
            table.aliases.push((pattern, format!("m{}", i / 25)));
        }
        let start = Instant::now();
        let index = AliasIndex::new(&table);
        let built = start.elapsed();
        let start = Instant::now();
        let hits: usize = (0_u32..400)
            .map(|i| {
                index.matches(&match i % 3 {
                    0 => format!("pci:v{:08X}d{:08X}sv00001AF4sd00001100bc01sc06i01", 0x8086 + i % 7, i),
                    1 => format!("usb:v{:04X}p{:04X}d0100dc00dsc00dp00ic08isc06ip50in00", i % 900, i),
                    _ => format!("acpi:ABC{i:04}:PNP0A08:"),
                })
            })
            .map(|m| m.len())
            .sum();
        println!("5000 aliases compiled in {built:?}; 400 modaliases in {:?}, {hits} hits", start.elapsed());
    }
}
