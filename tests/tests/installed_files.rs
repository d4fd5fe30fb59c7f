//! `make install` and `make uninstall`: what comes is what goes.

#![allow(clippy::unwrap_used)] // a test says by its panic what went wrong

use std::path::{Path, PathBuf};
use std::process::Command;

fn make(target: &str, destdir: &Path) {
    let mut make = Command::new("make");
    make.args(["--no-print-directory", target, "PREFIX=/usr"]).arg(format!("DESTDIR={}", destdir.display()));
    let output = make.current_dir(taproot_tests::checkout()).output().unwrap();
    assert!(output.status.success(), "make {target}: {}", String::from_utf8_lossy(&output.stderr));
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn what_is_installed_is_uninstalled() {
    let dir = tempfile::tempdir().unwrap();
    make("install", dir.path());
    let has = |path: &str| assert!(dir.path().join(path).exists(), "{path} was not installed");
    for path in ["usr/bin/taproot", "usr/lib/taproot/taproot-init", "usr/share/doc/taproot/README.md"] {
        has(path);
    }
    for page in ["man1/taproot.1", "man7/taproot.7", "man8/taproot-init.8", "man5/taproot.toml.5"] {
        has(&format!("usr/share/man/{page}"));
    }
    let wants = dir.path().join("usr/lib/systemd/system/multi-user.target.wants");
    let units = [
        "taproot-layer-work.service",
        "taproot-layer-confirm.service",
        "taproot-first-boot.service",
        "taproot-grow.service",
    ];
    for unit in units {
        let text = std::fs::read_to_string(wants.join(unit)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=taproot ")).unwrap();
        let understood =
            Command::new(dir.path().join("usr/bin/taproot")).args(line.split(' ')).arg("--help").status().unwrap();
        assert!(understood.success(), "{unit}: {line}");
    }
    // What a person put there stays.
    let own = dir.path().join("etc/taproot/initramfs.toml");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "rescue = \"full\"\n").unwrap();
    make("uninstall", dir.path());
    let mut left = Vec::new();
    files(dir.path(), &mut left);
    assert_eq!(left, [own]);
}

#[test]
fn names_of_our_own_functions_are_left_for_the_backtrace_of_a_panic() {
    let program = std::fs::read(taproot_tests::image::boot_binary()).unwrap();
    let has = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    for name in ["taproot_init4boot4Boot", "taproot_init4plan4next", "taproot_init5scout"] {
        assert!(has(name), "{name} is in no symbol of taproot-init");
    }
}
