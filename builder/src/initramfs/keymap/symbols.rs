//! What the words of a keymap mean: numbers that the kernel takes for a key in Unicode mode (`linux/keyboard.h`).
//!
//! An action is its kind times 256 and its value. A character above ASCII is its number with the uppermost four bits turned round,
//! by which the kernel tells it from actions.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Nothing happens.
pub const HOLE: u16 = 0x200;
const LATIN: u16 = 0;
const FN: u16 = 0x100;
const CONSOLE: u16 = 0x500;
const META: u16 = 0x800;
/// A letter: Caps Lock counts as shift.
const LETTER: u16 = 0xb00;
/// Turns characters round.
const UNICODE: u16 = 0xf000;

/// The number of a character; `None` if the kernel's tables have no room for it.
fn character(c: char) -> Option<u16> {
    match u16::try_from(u32::from(c)).ok()? {
        ascii @ ..0x80 => Some(LATIN | ascii),
        code @ ..UNICODE => Some(code ^ UNICODE),
        _ => None,
    }
}

/// The character that a number stands for.
pub fn typed(code: u16) -> Option<char> {
    let code = match code {
        0..0x80 => code,
        LETTER..0xc00 => code - LETTER,
        0x1000.. => code ^ UNICODE,
        _ => return None,
    };
    char::from_u32(code.into())
}

/// Makes Caps Lock count: the kernel can do it for Latin-1 alone.
fn letter(code: u16) -> u16 {
    match typed(code) {
        Some(c) if u32::from(c) < 0x100 => LETTER | u16::try_from(u32::from(c)).unwrap_or_default(),
        _ => code,
    }
}

/// What one letter by itself means with these modifiers, as keymaps(5) has it; `None` for anything but an ASCII letter.
pub fn letter_with(code: u16, modifiers: u8) -> Option<u16> {
    let c = typed(code).filter(char::is_ascii_alphabetic)?;
    let c = u16::try_from(u32::from(c)).ok()?;
    let base = match (modifiers & 4 != 0, modifiers & 1 != 0) {
        (true, _) => c & 0x1f,
        (false, true) => c ^ 0x20,
        (false, false) => c,
    };
    Some(match (modifiers & 8 != 0, modifiers & 4 != 0) {
        (true, _) => META | base,
        (false, true) => base,
        (false, false) => LETTER | base,
    })
}

/// The same with alt, which many keymaps mean without saying it of each key.
pub fn meta(code: u16) -> Option<u16> {
    let c = typed(code).filter(char::is_ascii)?;
    Some(META | u16::try_from(u32::from(c)).ok()?)
}

/// A character set of 8 bits, by its upper characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charset(Option<&'static str>);

impl Charset {
    /// By its name; Latin-1 for one that is not known.
    pub fn named(name: &str) -> Self {
        let lines = include_str!("charsets.txt").lines().filter(|line| !line.starts_with('#'));
        let mut sets = lines.filter_map(|line| line.split_once(' '));
        Self(sets.find(|(set, _)| set.eq_ignore_ascii_case(name)).map(|(_, upper)| upper))
    }

    /// What a byte stands for.
    pub fn decode(self, byte: u8) -> Option<char> {
        match (self.0, byte.checked_sub(0xa0)) {
            (Some(upper), Some(at)) => upper.chars().nth(at.into()).filter(|c| *c != '?'),
            _ => Some(byte.into()),
        }
    }
}

/// Accents, the letters they go with, and what these make: the usual ones, which a kernel has until it gets others.
const ACCENTS: [(char, &str, &str); 9] = [
    ('`', "AEIOUaeiou", "ÀÈÌÒÙàèìòù"),
    ('\'', "AEIOUYaeiouy", "ÁÉÍÓÚÝáéíóúý"),
    ('^', "AEIOUaeiou", "ÂÊÎÔÛâêîôû"),
    ('~', "ANOano", "ÃÑÕãñõ"),
    ('"', "AEIOUaeiouy", "ÄËÏÖÜäëïöüÿ"),
    (',', "Cc", "Çç"),
    ('/', "Oo", "Øø"),
    ('-', "Dd", "Ðð"),
    ('*', "Aa", "Åå"),
];

/// The usual accents: accent, letter, what they make.
pub fn usual_accents() -> impl Iterator<Item = [char; 3]> {
    let pairs = ["AAÅ", "aaå", "OAÅ", "oaå", "AEÆ", "aeæ", "THÞ", "thþ", "ssß", "szß", "ijÿ"];
    let pairs = pairs.into_iter().filter_map(|chars| chars.chars().collect::<Vec<_>>().try_into().ok());
    let with = |(accent, letters, made): (char, &'static str, &'static str)| {
        letters.chars().zip(made.chars()).map(move |(letter, made)| [accent, letter, made])
    };
    ACCENTS.into_iter().flat_map(with).chain(pairs)
}

/// Names to numbers.
fn names() -> &'static BTreeMap<&'static str, u16> {
    static NAMES: OnceLock<BTreeMap<&'static str, u16>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = BTreeMap::new();
        let mut turn = LATIN;
        for line in include_str!("symbols.txt").lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let first = words.next().unwrap_or_default();
            if first == "characters" {
                turn = UNICODE;
            }
            let Ok(first) = u16::from_str_radix(first, 16) else { continue };
            for (code, word) in (first..).zip(words) {
                let code = if code < 0x80 { code } else { code ^ turn };
                names.extend(word.split('/').map(|name| (name, code)));
            }
        }
        names
    })
}

/// Reads a number as C has them.
pub fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if word.len() > 1 && word.starts_with('0') => u32::from_str_radix(word, 8).ok(),
        None => word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten(),
    }
}

/// What a word means.
pub fn action(word: &str, charset: Charset) -> Option<u16> {
    match word.strip_prefix('+') {
        Some(word) => plain(word, charset).map(letter),
        None => plain(word, charset),
    }
}

fn plain(word: &str, charset: Charset) -> Option<u16> {
    if let Some(hex) = word.strip_prefix("U+") {
        return character(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
    }
    if let Some(number) = number(word) {
        return match u8::try_from(number) {
            Ok(byte) => charset.decode(byte).and_then(character),
            // Actions of kinds that the kernel knows: beyond are characters, which have another spelling.
            Err(_) => u16::try_from(number).ok().filter(|code| *code < 0xf00),
        };
    }
    let mut chars = word.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return c.is_ascii_alphabetic().then(|| character(c)).flatten();
    }
    if let Some(code) = names().get(word) {
        return Some(*code);
    }
    if let Some(name) = word.strip_prefix("Meta_") {
        let c = plain(name, charset).and_then(typed).filter(|c| u32::from(*c) < 0x100)?;
        return Some(META | u16::try_from(u32::from(c)).ok()?);
    }
    if let Some(n) = word.strip_prefix("Console_").and_then(|n| n.parse::<u16>().ok()) {
        return (1..=63).contains(&n).then(|| CONSOLE + n - 1);
    }
    // Behind F20 stand the keys of old terminals: Find to Pause.
    match word.strip_prefix('F').and_then(|n| n.parse::<u16>().ok()) {
        Some(n @ 1..=20) => Some(FN + n - 1),
        Some(n @ 21..=246) => Some(FN + n + 9),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `loadkeys --unicode` of kbd has them.
    #[test]
    fn words_as_loadkeys_means_them() {
        let latin = Charset::default();
        for (word, code) in [
            ("a", 0x61),
            ("+a", 0xb61),
            ("one", 0x31),
            ("ssharp", 0xf0df),
            ("+adiaeresis", 0xbe4),
            ("euro", 0xd0ac),
            ("U+0061", 0x61),
            ("+U+0061", 0xb61),
            ("U+20ac", 0xd0ac),
            ("+U+0142", 0xf142),
            ("lstroke", 0xf142),
            ("Oslash", 0xf0d8),
            ("dead_acute", 0x401),
            ("dead_caron", 0x402),
            ("VoidSymbol", HOLE),
            ("nul", 0),
            ("Escape", 0x1b),
            ("Control_c", 3),
            ("Delete", 0x7f),
            ("Meta_a", 0x861),
            ("Meta_Control_c", 0x803),
            ("Meta_Escape", 0x81b),
            ("Meta_acute", 0x8b4),
            ("F1", 0x100),
            ("F20", 0x113),
            ("F21", 0x11e),
            ("Backtab", 0x1ff),
            ("F246", 0x1ff),
            ("Find", 0x114),
            ("Console_12", 0x50b),
            ("AltGr", 0x701),
            ("Uncaps_Shift", 0x708),
            ("KP_7", 0x307),
            ("0x080d", 0x80d),
            ("0361", 0xf0f1),
            ("tilde", 0x7e),
            ("cyrillic_small_letter_ya", 0xf44f),
            ("Hex_F", 0x919),
            ("Left", 0x601),
        ] {
            assert_eq!(action(word, latin), Some(code), "{word}");
        }
        for unknown in [
            "",
            "+",
            "U+",
            "U+f000",
            "U+1f600",
            "U+d800",
            "Console_0",
            "Console_64",
            "F0",
            "F247",
            "0x",
            "09",
            "xyz",
            "ß",
            "65536",
            "0xf00",
        ] {
            assert_eq!(action(unknown, latin), None, "{unknown:?}");
        }
        assert_eq!(action("0xb1", Charset::named("ISO-8859-2")), Some(0xf105));
        assert_eq!(action("+0xb1", Charset::named("iso-8859-5")), Some(0x0411 ^ UNICODE));
        assert_eq!(action("0xff", Charset::named("iso-8859-7")), None);
        assert_eq!(Charset::named("klingon"), Charset::default());
    }

    #[test]
    fn every_name_of_the_table_means_something() {
        assert!(names().len() > 500, "{}", names().len());
        for (name, code) in names() {
            assert_eq!(action(name, Charset::default()), Some(*code), "{name}");
        }
        for line in include_str!("charsets.txt").lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split_once(' ').unwrap().1.chars().count(), 96, "{line}");
        }
    }

    #[test]
    fn the_usual_accents_are_whole() {
        assert_eq!(usual_accents().count(), 10 + 12 + 10 + 6 + 11 + 4 * 2 + 11);
        assert!(ACCENTS.iter().all(|(_, letters, made)| letters.chars().count() == made.chars().count()));
        assert!(
            usual_accents().any(|chars| chars == ['\'', 'e', 'é'])
                && usual_accents().any(|chars| chars == ['s', 's', 'ß'])
        );
    }

    #[test]
    fn a_letter_by_itself_has_its_meaning_with_each_modifier() {
        let all: Vec<u16> = (0..16).map(|modifiers| letter_with(0x71, modifiers).unwrap()).collect();
        let plain = [0xb71, 0xb51, 0xb71, 0xb51, 0x11, 0x11, 0x11, 0x11];
        let meta = [0x871, 0x851, 0x871, 0x851, 0x811, 0x811, 0x811, 0x811];
        assert_eq!(all, [plain, meta].concat());
        assert_eq!((letter_with(0x31, 1), letter_with(0xf0df, 0)), (None, None));
    }
}
