//! Keymaps written for these tests; what is expected of them is what `loadkeys --unicode --mktable` makes of the same lines.

use super::*;

fn source(path: &str, text: impl AsRef<[u8]>) -> Source {
    Source { path: path.to_owned(), bytes: text.as_ref().to_vec() }
}

fn compiled(text: impl AsRef<[u8]>) -> Compiled {
    compile(&source("x.map", text), &mut |_, _| None).unwrap()
}

fn wrong(text: &str) -> String {
    compile(&source("x.map", text), &mut |_, _| None).unwrap_err().to_string()
}

/// What the keys of one table do.
fn table(compiled: &Compiled, table: u8) -> Vec<(u8, u16)> {
    compiled.keymap.tables.get(&table).unwrap().iter().map(|(key, code)| (*key, *code)).collect()
}

#[test]
fn columns_single_letters_and_single_modifiers() {
    let text = "# comment\n! another\nkeymaps 0-2,4-5, 8,12\nalt_is_meta\nkeycode 30 = a A at\nkeycode 31 = b\n\
        altgr keycode 31 = at # comment\nkeycode 32 = +c +C\nkeycode 33 = one exclam\nkeycode 34 = Escape\n\
        Shift Keycode 35 = x\nkeycode 36 = udiaeresis \\\n Udiaeresis\ncontrol altgr keycode 0x24 = nul\nkeycode 300 = a\r\n";
    let found = compiled(text);
    assert_eq!(table(&found, 0), [(30, 0x61), (31, 0xb62), (32, 0xb63), (33, 0x31), (34, 0x1b), (36, 0xf0fc)]);
    assert_eq!(
        table(&found, 1),
        [(30, 0x41), (31, 0xb42), (32, 0xb43), (33, 0x21), (34, 0x1b), (35, 0x78), (36, 0xf0dc)]
    );
    let hole = HOLE;
    assert_eq!(table(&found, 2), [(30, 0x40), (31, 0x40), (32, hole), (33, hole), (34, 0x1b), (36, hole)]);
    assert_eq!(table(&found, 4), [(30, hole), (31, 2), (32, hole), (33, hole), (34, 0x1b), (36, hole)]);
    assert_eq!(
        table(&found, 8),
        [(30, 0x861), (31, 0x862), (32, 0x863), (33, 0x831), (34, 0x81b), (36, hole)],
        "alt is meta"
    );
    assert_eq!(table(&found, 12)[1], (31, 0x802));
    assert_eq!(found.keymap.tables.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 8, 12]);
    assert!(found.keymap.complete && found.unknown.is_empty());
}

#[test]
fn without_a_line_of_tables_there_are_as_many_as_columns() {
    let found = compiled("keycode 30 = a A at\nkeycode 31 = b\nkeycode 31 = q Q\nplain keycode 31 = U+00e9\n");
    assert!(!found.keymap.complete);
    assert_eq!(table(&found, 0), [(30, 0x61), (31, 0xf0e9)]);
    assert_eq!(
        table(&found, 2),
        [(30, 0x40), (31, 0xf0e9)],
        "one action was for all tables, and it is another one now"
    );
}

#[test]
fn columns_that_are_left_off_keep_what_an_earlier_line_said() {
    let found = compiled(
        "plain keycode 30 = a\nkeymaps 1-2\naltgr keycode 31 = at\nkeycode 31 = x y\nkeycode 30 =\nkeycode 32 =\n",
    );
    assert_eq!(table(&found, 0), [(30, HOLE), (31, 0x78), (32, HOLE)], "defined before the line of tables");
    assert_eq!(table(&found, 1), [(30, HOLE), (31, 0x79), (32, HOLE)]);
    assert_eq!(table(&found, 2), [(30, HOLE), (31, 0x40), (32, HOLE)]);
}

#[test]
fn files_are_included_and_overridden() {
    let mut asked = Vec::new();
    let mut include = |from: &str, name: &str| {
        asked.push(format!("{from}: {name}"));
        Some(source("base.inc", "keycode 21 = y\nkeycode 44 = z\n"))
    };
    let found = compile(&source("de.map", "keymaps 0-1\ninclude \"base\"\nkeycode 21 = z\n"), &mut include).unwrap();
    assert_eq!(table(&found, 0), [(21, 0xb7a), (44, 0xb7a)]);
    assert_eq!(table(&found, 1), [(21, 0xb5a), (44, 0xb5a)]);
    assert_eq!(asked, ["de.map: base"]);
    assert_eq!(wrong("include \"gone\"\n"), "x.map, line 1: includes \"gone\", which was not found");
    let mut endless = |_: &str, _: &str| Some(source("a", "include \"a\"\n"));
    assert!(matches!(compile(&source("a", "include \"a\""), &mut endless), Err(KmapError::Endless(_))));
}

#[test]
fn accents_in_every_spelling() {
    let text = b"keycode 1 = a\ncompose '`' 'a' to '\xc3\xa0'\n\
        charset \"iso-8859-2\"\ncompose '\\'' 'l' to '\xe5'\ncompose ''' '\\\\' to U+00e9\ncompose 0x22 '\\101' to 0304\n";
    let found = compiled(text).keymap.compose;
    assert_eq!(found, [['`', 'a', 'à'], ['\'', 'l', 'ĺ'], ['\'', '\\', 'é'], ['"', 'A', 'Ä']]);
    // They stand in the place of those that the kernel has, so the usual ones are among them only where a line says so.
    let usual = compiled([&b"compose as usual for \"iso-8859-1\"\n"[..], text].concat()).keymap.compose;
    assert_eq!(usual.len(), symbols::usual_accents().count() + 2, "two are the same");
    assert!(usual.contains(&['^', 'o', 'ô']) && usual.contains(&['\'', 'l', 'ĺ']));
    let many = (0..300).fold(String::new(), |text, n| text + &format!("compose 'a' 'b' to U+{:04x}\n", n + 0x100));
    assert_eq!(compiled(format!("keycode 1 = a\n{many}")).keymap.compose.len(), COMPOSE_MAX);
}

#[test]
fn what_is_not_known_does_nothing_and_is_told() {
    let found = compiled("keycode 16 = q thai_kokai at\n");
    assert_eq!((table(&found, 1), found.unknown), (vec![(16, HOLE)], BTreeSet::from(["thai_kokai".to_owned()])));
}

#[test]
fn what_is_no_keymap() {
    for (text, why) in [
        ("", "x.map: no key is defined"),
        ("shift keycode 1 = a\n", "x.map: no key is defined"),
        ("keycode 1 = a\nkeycode 2 a\n", "x.map, line 2: expected keycode NUMBER = ACTION..."),
        ("keycode x = a\n", "x.map, line 1: expected keycode NUMBER"),
        ("hyper keycode 1 = a\n", "x.map, line 1: expected keycode, modifiers"),
        ("\x7fELF\n", "x.map, line 1: expected keycode, modifiers"),
        ("\"text\"\n", "x.map, line 1: expected keycode"),
        ("keymaps x\n", "x.map, line 1: expected tables"),
        ("compose 'ab' 'c' to 'd'\n", "x.map, line 1: expected compose"),
        ("include \"x\n", "x.map, line 1: expected a quote"),
        ("bkeymap", "x.map: expected a whole binary keymap"),
    ] {
        assert!(wrong(text).starts_with(why), "{text:?}: {}", wrong(text));
    }
}

#[test]
fn binary_keymaps_of_busybox() {
    let mut bytes = b"bkeymap".to_vec();
    bytes.extend((0..256).map(|table| u8::from(table == 0 || table == 2)));
    let key = |value: u16| (0..128).flat_map(move |at| if at == 16 { value } else { HOLE }.to_le_bytes());
    bytes.extend(key(0xb71).chain(key(0x40)));
    let found = compiled(&bytes);
    assert_eq!(found.keymap.tables.keys().copied().collect::<Vec<_>>(), [0, 2]);
    assert_eq!((found.keymap.tables[&0][&16], found.keymap.tables[&2][&16]), (0xb71, 0x40));
    assert!(!found.keymap.complete && !found.keymap.tables[&0].contains_key(&0));
    bytes.pop();
    assert_eq!(compile(&source("x", bytes), &mut |_, _| None), Err(KmapError::Short("x".to_owned())));
}
