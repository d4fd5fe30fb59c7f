//! Debian, made anew: mmdebstrap writes an archive to its standard output.

use super::feed::{Fed, feed};
use super::program;
use crate::image::config::sources::Mmdebstrap;
use anyhow::{Result, bail, ensure};
use std::process::Command;
use std::time::Duration;

/// What the program is called with.
fn words(asked: &Mmdebstrap) -> Vec<String> {
    let mut words =
        vec![format!("--mode={}", asked.mode), format!("--variant={}", asked.variant), "--format=tar".to_owned()];
    for (option, list) in [("include", &asked.include), ("components", &asked.components)] {
        if !list.is_empty() {
            words.push(format!("--{option}={}", list.join(",")));
        }
    }
    if let Some(arch) = &asked.arch {
        words.push(format!("--architectures={arch}"));
    }
    words.extend([asked.suite.clone(), "-".to_owned()]);
    words.extend(asked.mirror.clone());
    words
}

/// Begins to make it. Errors that can be known before are found before.
pub fn stream(asked: Mmdebstrap, time: i64) -> Result<Fed> {
    let root = nix::unistd::geteuid().is_root();
    match asked.mode.as_str() {
        "root" => ensure!(
            root,
            "source.mmdebstrap.mode = \"root\": expected to be root; say \"unshare\", which needs a user namespace"
        ),
        "unshare" => {}
        other => bail!("source.mmdebstrap.mode: expected unshare or root, found {other:?}"),
    }
    program::expect("mmdebstrap", "mmdebstrap")?;
    if asked.mode == "unshare" {
        program::user_namespace()?;
        if !root {
            program::expect(
                "newuidmap",
                "uidmap (and give yourself numbers: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER)",
            )?;
        }
    }
    Ok(feed(move |out| {
        let mut command = Command::new("mmdebstrap");
        command.args(words(&asked)).env("SOURCE_DATE_EPOCH", time.to_string());
        let show = &mut |line: &str| eprintln!("mmdebstrap: {line}");
        program::run(command, Duration::from_secs(asked.timeout), out, show)?;
        Ok(Vec::new())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_called_with() {
        let asked = Mmdebstrap {
            suite: "bookworm".into(),
            mirror: Some("http://m/debian".into()),
            include: vec!["a".into(), "b".into()],
            components: vec!["main".into()],
            variant: "minbase".into(),
            mode: "unshare".into(),
            arch: Some("arm64".into()),
            timeout: 1,
        };
        let wanted = "--mode=unshare --variant=minbase --format=tar --include=a,b --components=main --architectures=arm64 bookworm - http://m/debian";
        assert_eq!(words(&asked).join(" "), wanted);
        let error = stream(Mmdebstrap { mode: "chrootless".into(), ..asked }, 0).unwrap_err().to_string();
        assert!(error.contains("expected unshare or root"), "{error}");
    }
}
