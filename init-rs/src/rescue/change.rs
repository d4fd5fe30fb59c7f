//! Words of the command line that are typed at the prompt: whether they can still do anything, and what may be lost by them.

use super::desk::Desk;
use crate::cmdline::{Request, Word, another_root, edit, known, parse, tokenize};
use std::path::Path;

/// What a person types after `boot`: a root, whose name may have blanks in it, and words.
pub(super) fn split(rest: &[&str]) -> (String, String) {
    let is_word = |part: &&str| part.contains('=') || known::find(&part.replace('-', "_")).is_some();
    let at = rest.iter().skip(1).position(is_word).map_or(rest.len(), |at| at + 1);
    let (name, words) = rest.split_at_checked(at).unwrap_or((rest, &[]));
    (name.join(" "), words.join(" "))
}

/// Makes sure that words which change those that there are can do it, and that a person wants what may be lost by it.
pub(super) fn agree(desk: &mut Desk<'_>, typed: &str) -> Result<(), String> {
    if typed.is_empty() {
        return Ok(());
    }
    let Some(line) = desk.words.clone() else {
        return Err("the kernel's command line could not be read, so its words cannot be changed; \
                    `cmdline WORDS` gives all of them"
            .to_owned());
    };
    if tokenize(typed.as_bytes()).iter().any(Word::ends_parameters) {
        return Err(
            "the kernel hands what stands behind `--` to init itself; the boot loader alone can change it".into()
        );
    }
    let alone = parse(typed.as_bytes());
    too_late(desk, &alone)?;
    let (before, after) = (parse(line.as_bytes()), parse(edit::edit(&line, typed).as_bytes()));
    let noted = about(&alone, &after);
    if edit::same(&before, &after) {
        return Err(if noted.is_empty() {
            "these words change nothing: they are not there, or another word wins; `cmdline` shows those that hold"
                .into()
        } else {
            noted.trim_end().to_owned()
        });
    }
    desk.talk.say(&noted);
    confirm(desk, edit::dangers(&before, &after))
}

/// The same for words that stand instead of all that the kernel was given.
pub(super) fn other_words(desk: &mut Desk<'_>, typed: &str) -> Result<(), String> {
    let after = parse(format!("{} {typed}", desk.packed).as_bytes());
    let dangers = match &desk.words {
        Some(line) => edit::dangers(&parse(line.as_bytes()), &after),
        None if after.import.read_only.value => vec![],
        None => {
            vec!["The kernel's command line could not be read; it may say that nothing is to be written.".to_owned()]
        }
    };
    confirm(desk, dangers)
}

/// Another root than layers that had to be as they were sealed: a person wants that.
pub(super) fn unchecked(desk: &mut Desk<'_>) -> Result<(), String> {
    let danger = another_root(&desk.request);
    confirm(desk, danger.into_iter().collect())
}

fn confirm(desk: &mut Desk<'_>, dangers: Vec<String>) -> Result<(), String> {
    for danger in dangers {
        if !desk.talk.confirm(&danger) {
            return Err("nothing was done".to_owned());
        }
    }
    Ok(())
}

/// What the parser has to say of the words that were typed.
fn about(alone: &Request, after: &Request) -> String {
    let notes = after.problems.iter().chain(&after.notes).filter(|note| alone.words.contains(&note.word));
    let lines: Vec<String> = notes.map(|note| format!("{}: {}\n", note.word, note.message)).collect();
    lines.concat()
}

/// Words that could only have done something before a module was loaded. A hostid can be given to one that is.
fn too_late(desk: &Desk<'_>, typed: &Request) -> Result<(), String> {
    let loaded = |module: &str| desk.system.exists(&Path::new("/sys/module").join(module));
    for option in &typed.module_options {
        let (module, param) = (option.module.as_str(), option.param.as_str());
        if (module, param) != ("spl", "spl_hostid") && loaded(module) {
            return Err(format!(
                "{module}.{param}: module {module} is loaded already, and has read its options; what can be changed \
                 now is in /sys/module/{module}/parameters (shell)"
            ));
        }
    }
    match typed.module_blacklist.iter().find(|module| loaded(module)) {
        Some(module) => Err(format!("module {module} is loaded already, so it cannot be kept out any more")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_and_the_words_behind_it() {
        let split = |line: &str| split(&line.split_whitespace().collect::<Vec<_>>());
        for (line, name, words) in [
            ("", "", ""),
            ("t/a", "t/a", ""),
            ("t/a b@s", "t/a b@s", ""),
            ("t/a b ro init=", "t/a b", "ro init="),
            ("UUID=1-2 rootflags=x ro", "UUID=1-2", "rootflags=x ro"),
            ("2 taproot.mounts=none", "2", "taproot.mounts=none"),
        ] {
            assert_eq!(split(line), (name.to_owned(), words.to_owned()), "{line}");
        }
    }
}
