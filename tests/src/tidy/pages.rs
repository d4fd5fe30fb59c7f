//! Pages below `docs/` name what the code has, and nothing else. That they name every word of the rescue, of the command line
//! and every field of `boot.json` is checked beside those tables; here is the other direction, and what has no table.

use std::collections::BTreeSet;
use std::fs;

use taproot_init::cmdline::known;

use super::source::{Source, body, product, words};
use super::{none, page, rust_files};

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// First cells of all table rows of a page, headings left out.
fn first_cells(page: &str) -> Vec<&str> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split(" | ").next());
    cells.filter(|cell| cell.contains('`')).collect()
}

fn is_kebab(word: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    word.split('-').all(part)
}

/// What functions called `code` that give a `&'static str` can say, and what fields called `code` are set to, with where
/// they stand.
fn codes(file: &Source) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for (name, at) in file.functions() {
        let is_product = words(&file.product, "fn").contains(&at.start);
        let Some(braces) = body(&file.code, at.start) else { continue };
        let head = &file.code[at.start..braces.start];
        if name != "code" || !is_product || !head.contains("str") {
            continue;
        }
        for literal in file.text[braces].split('"').skip(1).step_by(2) {
            list.push((literal.to_owned(), file.at(at.start)));
        }
    }
    for at in words(&file.product, "code") {
        if let Some(literal) = file.text[at..].strip_prefix("code: \"").and_then(|rest| rest.split('"').next()) {
            list.push((literal.to_owned(), file.at(at)));
        }
    }
    list
}

/// Codes on the page: rows of its section of that name.
fn documented_codes(page: &str) -> BTreeSet<String> {
    let section = page.split("\n## Codes\n").nth(1).unwrap_or_default().split("\n## ").next().unwrap_or_default();
    first_cells(section).into_iter().flat_map(quoted).map(str::to_owned).collect()
}

#[test]
fn every_failure_code_is_on_the_page_of_errors() {
    let said: Vec<(String, String)> = product(rust_files("init-rs/src")).iter().flat_map(codes).collect();
    assert!(!said.is_empty(), "no function `code` anywhere in init-rs/src");
    let page = documented_codes(&page("docs/errors.md"));
    let mut list: Vec<String> = said
        .iter()
        .filter(|(code, _)| !is_kebab(code))
        .map(|(code, at)| format!("{at}: {code:?} is not in kebab-case"))
        .collect();
    for (code, at) in said.iter().filter(|(code, _)| !page.contains(code)) {
        list.push(format!("{at}: docs/errors.md has no row for `{code}` among its codes"));
    }
    let known: BTreeSet<&str> = said.iter().map(|(code, _)| code.as_str()).collect();
    list.extend(
        page.iter()
            .filter(|code| !known.contains(code.as_str()))
            .map(|c| format!("docs/errors.md: no failure has the code {c}")),
    );
    none(&list, "each code of a failure has a row in docs/errors.md, and each row there is a code");
}

#[test]
fn codes_are_found() {
    let text = "impl A {\n  /// x \"not\"\n  fn code(&self) -> &'static str { match self { Self::X => \"pool-missing\", _ => \"no-root\" } }\n}\n\
        fn code() -> u32 { f(\"a-number\") }\n#[cfg(test)]\nmod t { fn code() -> &'static str { \"of-a-test\" } }";
    let file = Source::new("x.rs", text.to_owned());
    let found: Vec<String> = codes(&file).into_iter().map(|(code, at)| format!("{at} {code}")).collect();
    assert_eq!(found, ["x.rs:3 pool-missing", "x.rs:3 no-root"]);
    let field = Source::new("x.rs", "Explanation { code: \"bug\", x: code(), y: a.code }".to_owned());
    assert_eq!(codes(&field), [("bug".to_owned(), "x.rs:1".to_owned())]);
    let page = "| `x-y` | z |\n\n## Codes\n\n| code | x |\n|---|---|\n| `pool-missing` | y |\n| `bug` | z |\n\n## Next\n| `a-b` | z |\n";
    assert_eq!(documented_codes(page).into_iter().collect::<Vec<_>>(), ["bug", "pool-missing"]);
    assert!(!is_kebab("Pool-x") && !is_kebab("-pool") && !is_kebab("a--b") && is_kebab("key-2-wrong"));
}

/// The words of a table's first cells, without what may follow them.
fn words_of_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let tables = page.split(heading).skip(1).map(|rest| rest.split("\n\n").next().unwrap_or_default());
    let cells = tables.flat_map(|table| first_cells(table).into_iter().flat_map(quoted));
    // Spellings that begin with dots are ends of other words.
    cells
        .filter(|word| !word.starts_with('.'))
        .map(|word| word.split(['=', '[', ' ']).next().unwrap_or_default())
        .collect()
}

#[test]
fn no_word_of_the_command_line_is_made_up() {
    let page = page("docs/boot-parameters.md");
    let listed = words_of_cells(&page, "\n| word |");
    assert!(listed.len() > 50, "only {} words are in the tables of the page", listed.len());
    // A value by itself, and what stands for any option of any module.
    let no_words = ["AUTO", "module.param"];
    let known = |word: &str| known::find(word).is_some() || no_words.contains(&word);
    let unknown = listed.iter().filter(|word| !known(word));
    let list: Vec<String> = unknown.map(|word| format!("docs/boot-parameters.md: {word}")).collect();
    none(&list, "each word in the tables of the page is in cmdline/known.rs");
}

/// RuckusRD's words, as its `parse_boot_params` and its pages have them.
const RUCKUSRD: &str = "root CDLABEL rootflags rootfstype rw ro init quiet verbose sqsh_layers sqsh_layerdev sqsh_layerdir sqshfstype \
    overlayflags ram_layer to_ram root_true_rw shell shell_mountdevs shell_sqshprep shell_mountoverlay maint firstboot hoststamp modinject \
    fwdev modules-early blacklist initramsys initramsys-net initramsys-installer squashfs squashdev overlay_size";
/// live-boot's words, as live-boot(7) has them; those that are not understood yet are not asked of the page.
const LIVE_BOOT: &str = "boot live-media live-media-path live-media-encryption live-media-offset live-media-timeout module toram todisk \
    findiso fromiso isofrom fetch ftpfs httpfs netboot nfsroot nfsopts nopersistence persistence persistence-encryption persistence-label \
    persistence-media persistence-method persistence-path persistence-read-only persistence-remove persistence-storage persistence-zfs \
    union ignore_uuid verify-checksums noeject swap swapon integrity-check ip";

/// Somebody who comes from RuckusRD or live-boot finds every word.
#[test]
fn the_page_of_layers_has_the_words_of_those_who_come() {
    let page = page("docs/layers.md");
    let written: BTreeSet<&str> = quoted(&page).into_iter().flat_map(|code| code.split(['=', '[', ' '])).collect();
    let live = LIVE_BOOT.split_whitespace().filter(|word| *word != "boot" && known::find(word).is_some());
    let missing = RUCKUSRD.split_whitespace().chain(live).filter(|word| !written.contains(word));
    let list: Vec<String> = missing.map(|word| format!("docs/layers.md: {word}")).collect();
    none(&list, "each word of RuckusRD, and each of live-boot that is understood, stands on the page");
}

#[test]
fn no_word_of_the_rescue_is_made_up() {
    let table = page("init-rs/src/rescue/words.rs");
    let rescue = page("docs/rescue.md");
    let listed = words_of_cells(&rescue, "\n| word |");
    assert!(listed.len() > 15, "only {} words are in the table of the page", listed.len());
    let unknown = listed.iter().filter(|word| !table.contains(&format!("(\"{word}\", ")));
    let list: Vec<String> = unknown.map(|word| format!("docs/rescue.md: {word}")).collect();
    none(&list, "each word in the table of the page is in rescue/words.rs");
}

/// Paths in the map of the sources, as they are written there: below the checkout, `init-rs/src` or its `boot/`.
#[test]
fn the_map_of_the_sources_leads_somewhere() {
    let map = page("docs/ARCHITECTURE.md");
    let is_path = |word: &&str| word.ends_with('/') || [".rs", ".md", ".sh"].iter().any(|end| word.ends_with(end));
    let paths: Vec<&str> = quoted(&map).into_iter().filter(|word| is_path(word) && !word.starts_with('/')).collect();
    assert!(paths.len() > 30, "only {} paths are on the page", paths.len());
    let checkout = crate::checkout();
    let there =
        |path: &str| ["", "init-rs/src", "init-rs/src/boot"].iter().any(|dir| checkout.join(dir).join(path).exists());
    let list: Vec<String> =
        paths.into_iter().filter(|path| !there(path)).map(|path| format!("docs/ARCHITECTURE.md: {path}")).collect();
    none(&list, "each path on the map exists");
}

/// Decisions are numbered without gaps, and each says why.
#[test]
fn decisions_have_a_form() {
    let dir = crate::checkout().join("docs/decisions");
    let mut names: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    let mut list = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let title = name.strip_prefix(&format!("{:04}-", number + 1)).and_then(|rest| rest.strip_suffix(".md"));
        if title.is_none_or(|title| !is_kebab(title)) {
            list.push(format!("docs/decisions/{name}: expected {:04}-title.md", number + 1));
        }
        let text = page(&format!("docs/decisions/{name}"));
        for part in ["\n## Context\n", "\n## Decision\n", "\n## Consequence\n"] {
            if !text.contains(part) {
                list.push(format!("docs/decisions/{name}: no heading {}", part.trim()));
            }
        }
    }
    none(&list, "docs/decisions/NNNN-title.md with Context, Decision and Consequence");
}
