//! Quiet consoles while somebody types.

use crate::sys::System;
use std::path::Path;

/// The kernel's level for its consoles.
const PRINTK: &str = "/proc/sys/kernel/printk";
/// While somebody types, only errors may scroll the question away.
const CALM: u8 = 4;

/// Keeps the kernel's lesser messages off the consoles while a question stands there; they are in its log all the same.
/// Not where `debug` asked for all of them.
pub struct Calm<'a> {
    system: &'a dyn System,
    /// The level to go back to.
    before: Option<u8>,
}

impl<'a> Calm<'a> {
    /// From now on, until this is dropped.
    pub fn start(system: &'a dyn System) -> Self {
        let level = system.text(PRINTK).split_whitespace().next().and_then(|level| level.parse::<u8>().ok());
        let level = level.filter(|level| (CALM + 1..8).contains(level));
        Self { system, before: level.filter(|_| set_level(system, CALM)) }
    }
}

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        if let Some(level) = self.before {
            set_level(self.system, level);
        }
    }
}

fn set_level(system: &dyn System, level: u8) -> bool {
    system.write(Path::new(PRINTK), level.to_string().as_bytes()).is_ok()
}

impl std::fmt::Debug for Calm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calm").field("before", &self.before).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn the_level_is_lowered_for_that_time_alone() {
        for (level, meanwhile) in
            [("7\t4\t1\t7", "4"), ("5 4 1 7", "4"), ("4 4 1 7", "4 4 1 7"), ("8 4 1 7", "8 4 1 7")]
        {
            let tree = Tree::new().with(PRINTK, level);
            let calm = Calm::start(&tree);
            assert_eq!(tree.text(PRINTK), meanwhile, "{level}");
            drop(calm);
            assert_eq!(tree.text(PRINTK).get(..1), level.get(..1), "{level}");
        }
        drop(Calm::start(&Tree::new()));
    }
}
