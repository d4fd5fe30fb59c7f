//! `persistence.conf` of a medium, of any bytes: directories that share no place in the root or on the medium, those above others
//! first, and of each line at most one directory or one warning; what is written again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::plan::persistence::{How, Kept, parse};

/// A line that says the same.
fn line(kept: &Kept) -> String {
    let how = match kept.how {
        How::Bind => "bind",
        How::Union => "union",
        How::Link => "link",
    };
    // One with a comma cannot be spelled otherwise.
    if kept.source == kept.dir.trim_start_matches('/') {
        return format!("{} {how}\n", kept.dir);
    }
    let source = if kept.source.is_empty() { "." } else { &kept.source };
    format!("{} {how},source={source}\n", kept.dir)
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let conf = parse(&text);
    assert!(conf.kept.len() + conf.warnings.len() <= text.lines().count());
    for (kept, next) in conf.kept.iter().zip(conf.kept.iter().skip(1)) {
        assert!(kept.dir < next.dir);
    }
    for kept in &conf.kept {
        for path in [kept.dir.trim_start_matches('/'), &kept.source] {
            let good = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
            assert!(path.is_empty() || path.split('/').all(good), "{kept:?}");
        }
        assert!(kept.dir.starts_with('/') && (kept.dir != "/" || kept.how == How::Union));
    }
    let again = parse(&conf.kept.iter().map(line).collect::<String>());
    assert_eq!((again.kept, again.warnings), (conf.kept, Vec::new()));
});
