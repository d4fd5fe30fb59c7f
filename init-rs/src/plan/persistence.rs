//! `persistence.conf` of live systems: which directories are kept on a medium, and how (pure). The grammar is live-boot's
//! (persistence.conf(5)); what that program stops the boot for, or decides by chance, is told and left out here.

use super::names;
use std::collections::BTreeMap;

/// Longest file that is read, bytes; more is no list of directories.
pub const MAX: usize = 64 << 10;

/// How a directory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The directory of the medium stands in the place of the root's; filled from it the first time. The default.
    Bind,
    /// An overlay: changes lie in `rw` below the directory of the medium.
    Union,
    /// Links in the root to each file below the directory of the medium.
    Link,
}

/// One directory that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Absolute path in the root, without `/` at its end; `/` itself for the whole root.
    pub dir: String,
    /// How.
    pub how: How,
    /// Path on the medium, without `/` at either end; empty for its top directory.
    pub source: String,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// The directories, those above others first.
    pub kept: Vec<Kept>,
    /// Lines that are passed over, and why.
    pub warnings: Vec<String>,
}

/// Reads a file.
pub fn parse(text: &str) -> Conf {
    let mut conf = Conf::default();
    let mut by_dir: BTreeMap<String, (usize, Kept)> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        // As words are told apart: what is a blank in Unicode alone is part of a name.
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match kept(line) {
            Err(why) => conf.warnings.push(format!("line {number} ({line}) is passed over: {why}")),
            Ok(kept) => {
                if let Some((first, _)) = by_dir.get(&kept.dir) {
                    let dir = &kept.dir;
                    conf.warnings.push(format!("line {number} is passed over: {dir} is kept by line {first}"));
                } else if let Some((other, _)) = by_dir.values().find(|(_, other)| overlap(&other.source, &kept.source))
                {
                    conf.warnings.push(format!(
                        "line {number} ({line}) is passed over: what it keeps would lie within what line {other} keeps, or around it; \
                         source= names another directory of the medium"
                    ));
                } else {
                    by_dir.insert(kept.dir.clone(), (number, kept));
                }
            }
        }
    }
    // In this order `/a` comes before `/a/b`.
    conf.kept = by_dir.into_values().map(|(_, kept)| kept).collect();
    conf
}

/// One line.
fn kept(line: &str) -> Result<Kept, String> {
    let mut parts = line.split_ascii_whitespace();
    let dir = parts.next().unwrap_or_default();
    let options = parts.next().unwrap_or_default();
    if let Some(third) = parts.next() {
        return Err(format!("expected a directory and options separated by commas, found {third} behind them"));
    }
    let dir = names::check_kept(dir)?;
    let mut how = None;
    let mut source = dir.trim_start_matches('/').to_owned();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let mean = match option {
            "bind" => How::Bind,
            "union" => How::Union,
            "link" => How::Link,
            _ => {
                let Some(value) = option.strip_prefix("source=") else {
                    return Err(format!("{option} is no option; bind, union, link and source=DIRECTORY are"));
                };
                source = place_on_medium(value)?;
                continue;
            }
        };
        if how.is_some_and(|how| how != mean) {
            return Err("it can be kept in one way only: bind, union or link".to_owned());
        }
        how = Some(mean);
    }
    let how = how.unwrap_or(How::Bind);
    if dir == "/" && how != How::Union {
        return Err("the whole root can be kept by `/ union` only".to_owned());
    }
    Ok(Kept { dir, how, source })
}

/// `source=`.
fn place_on_medium(value: &str) -> Result<String, String> {
    match value {
        "." => Ok(String::new()),
        "" => Err("source= names no directory".to_owned()),
        _ if value.starts_with('/') => {
            Err("source= is a path below the top of the medium, without `/` before it".to_owned())
        }
        _ => names::clean_path(value),
    }
}

/// Whether one directory is the other, or lies in it.
fn overlap(a: &str, b: &str) -> bool {
    let within = |name: &str, above: &str| above.is_empty() || names::is_within(name, above);
    within(a, b) || within(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keeps(text: &str) -> Vec<(String, How, String)> {
        let conf = parse(text);
        assert_eq!(conf.warnings, Vec::<String>::new(), "{text}");
        conf.kept.into_iter().map(|kept| (kept.dir, kept.how, kept.source)).collect()
    }

    #[test]
    fn lines_that_people_write() {
        let entry = |dir: &str, how, source: &str| (dir.to_owned(), how, source.to_owned());
        assert_eq!(keeps("/ union\n"), [entry("/", How::Union, "")]);
        assert_eq!(keeps("/ union,source=.\n"), [entry("/", How::Union, "")]);
        assert_eq!(keeps("/a source=b\u{b}"), [entry("/a", How::Bind, "b\u{b}")]);
        assert_eq!(keeps("# mine\n\n  /home  \n"), [entry("/home", How::Bind, "home")]);
        assert_eq!(keeps("/home/user/.ssh bind,source=keys"), [entry("/home/user/.ssh", How::Bind, "keys")]);
        assert_eq!(keeps("/home/user link,source=dots//files/"), [entry("/home/user", How::Link, "dots/files")]);
        // The seven of the zvol variant; what lies above comes first.
        let seven = "/etc union\n/usr union\n/var union\n/home union\n/root union\n/srv union\n/opt union\n";
        let dirs: Vec<String> = keeps(seven).into_iter().map(|(dir, ..)| dir).collect();
        assert_eq!(dirs, ["/etc", "/home", "/opt", "/root", "/srv", "/usr", "/var"]);
        let nested = keeps("/var/lib/x source=x\n/var source=v");
        assert_eq!(nested.first().map(|(dir, ..)| dir.as_str()), Some("/var"));
    }

    #[test]
    fn lines_that_are_passed_over() {
        for (line, says) in [
            ("home", "absolute path"),
            ("/home unon", "no option"),
            ("/home union,bind", "one way only"),
            ("/home union bind", "behind them"),
            ("/lib/modules", "/lib..."),
            ("/lib64 union", "/lib..."),
            ("/run/live/x", "/run belongs"),
            ("/run union", "/run belongs"),
            ("/a/../b", "`..`"),
            ("/a source=../b", "`..`"),
            ("/a source=/b", "without `/`"),
            ("/a\0 union", "a NUL"),
            ("/a source=b\0", "a NUL"),
            ("/a source=", "names no directory"),
            ("/ bind", "`/ union` only"),
        ] {
            let conf = parse(line);
            assert!(conf.kept.is_empty(), "{line}");
            assert!(conf.warnings.iter().any(|warning| warning.contains(says)), "{line}: {:?}", conf.warnings);
        }
    }

    #[test]
    fn of_two_lines_that_exclude_each_other_the_first_counts() {
        for text in ["/a\n/a union", "/a\n/b source=a", "/a/b\n/c source=a", "/ union\n/home"] {
            let conf = parse(text);
            assert_eq!((conf.kept.len(), conf.warnings.len()), (1, 1), "{text}: {conf:?}");
            assert!(text.starts_with(&conf.kept.first().unwrap().dir), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_says_no_two_directories_share_a_place_on_the_medium(text in "([/a-c. \n#]|union|bind|link|source=|,){0,40}") {
            let conf = parse(&text);
            for (index, kept) in conf.kept.iter().enumerate() {
                prop_assert!(kept.dir.starts_with('/') && kept.dir.split('/').all(|name| name != ".."));
                for other in conf.kept.iter().skip(index + 1) {
                    prop_assert!(kept.dir != other.dir && !overlap(&kept.source, &other.source));
                }
            }
        }
    }
}
