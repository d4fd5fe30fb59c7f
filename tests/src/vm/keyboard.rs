//! A keyboard and a screen: keys pressed through QMP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::running::Running;

/// QEMU arguments for a machine with a screen (`tty0`) and a USB keyboard, and no other.
pub const SCREEN: [&str; 8] =
    ["-machine", "pc,i8042=off", "-vga", "std", "-device", "qemu-xhci,id=keys", "-device", "usb-kbd,bus=keys.0"];

/// How long a key stays down, ms.
const HELD: u32 = 40;
/// From key to key: a USB keyboard drops what comes faster than the guest asks it.
const PACE: Duration = Duration::from_millis(150);

/// The keys that make a character on a US keyboard, by QEMU's names.
fn keys(character: char) -> Option<Vec<String>> {
    let one = |name: &str| Some(vec![name.to_owned()]);
    match character {
        'a'..='z' | '0'..='9' => one(&character.to_string()),
        ' ' => one("spc"),
        '\n' => one("ret"),
        '/' => one("slash"),
        '-' => one("minus"),
        '>' => Some(vec!["shift".to_owned(), "dot".to_owned()]),
        'A'..='Z' => Some(vec!["shift".to_owned(), character.to_ascii_lowercase().to_string()]),
        _ => None,
    }
}

/// The keys that make a character on a German keyboard; those of letters that lie where they do on a US one are [`keys`].
fn german_keys(character: char) -> Option<Vec<String>> {
    let with = |held: &str, name: &str| {
        Some([held, name].iter().filter(|key| !key.is_empty()).map(ToString::to_string).collect())
    };
    match character {
        'y' => with("", "z"),
        'z' => with("", "y"),
        'Y' => with("shift", "z"),
        'Z' => with("shift", "y"),
        '-' => with("", "slash"),
        '/' => with("shift", "7"),
        '>' => with("shift", "less"),
        'ü' => with("", "bracket_left"),
        'ö' => with("", "semicolon"),
        'ä' => with("", "apostrophe"),
        'Ü' => with("shift", "bracket_left"),
        'ß' => with("", "minus"),
        '@' => with("alt_r", "q"),
        '€' => with("alt_r", "e"),
        other => keys(other),
    }
}

/// What the kernel says last of a keyboard that it begins to use.
const CONNECTED: &str = "USB HID v1.11 Keyboard";
/// Reports are let through a moment later (`hid_device_probe`).
const SETTLED: Duration = Duration::from_millis(500);

impl Running {
    /// Waits until the guest takes keys: what is pressed before is lost. `seconds` are those of KVM.
    pub fn await_keyboard(&self, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + self.accel.limit(seconds);
        // It may have been said long ago.
        while !self.console.text().contains(CONNECTED) {
            ensure!(Instant::now() < deadline, "{}; expected {CONNECTED:?} on the console", self.console.late());
            std::thread::sleep(PACE);
        }
        std::thread::sleep(SETTLED);
        Ok(())
    }

    /// Types a line on the keyboard of a machine with a [`SCREEN`].
    pub fn type_on_keyboard(&mut self, line: &str) -> Result<()> {
        self.press(line, keys)
    }

    /// The same where the machine takes it for a German keyboard.
    pub fn type_on_german_keyboard(&mut self, line: &str) -> Result<()> {
        self.press(line, german_keys)
    }

    fn press(&mut self, line: &str, keys: fn(char) -> Option<Vec<String>>) -> Result<()> {
        for character in line.chars().chain(['\n']) {
            let keys = keys(character).with_context(|| format!("no key is known for {character:?}"))?;
            let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
            self.qmp.execute("send-key", &json!({ "keys": keys, "hold-time": HELD }))?;
            std::thread::sleep(PACE);
        }
        Ok(())
    }
}
