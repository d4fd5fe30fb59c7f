//! Progress of long work: a spinner on a terminal, plain lines elsewhere, nothing when asked to be quiet.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Bytes as megabytes (10^6) with two decimals.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

/// Where progress goes.
#[derive(Debug)]
pub enum Progress {
    /// A spinner.
    Terminal(ProgressBar),
    /// Lines with the time since the start.
    Lines(Instant),
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// The right kind for standard error.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Instant::now());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Terminal(bar)
    }

    /// What is done now.
    pub fn step(&self, text: &str) {
        match self {
            Self::Terminal(bar) => bar.set_message(text.to_owned()),
            Self::Lines(start) => eprintln!("[{:6.2}s] {text}", start.elapsed().as_secs_f64()),
            Self::Quiet => {}
        }
    }

    /// How far it has come, where that can be shown in place.
    pub fn part(&self, text: &str, done: u64, of: u64) {
        if let Self::Terminal(bar) = self {
            let percent = done.saturating_mul(100) / of.max(1);
            bar.set_message(format!("{text}: {} of {}, {percent} %", megabytes(done), megabytes(of)));
        }
    }

    /// Does something that writes to the terminal itself.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match self {
            Self::Terminal(bar) => bar.suspend(act),
            Self::Lines(_) | Self::Quiet => act(),
        }
    }

    /// Something the user should know; shown even when quiet.
    pub fn note(&self, text: &str) {
        match self {
            Self::Terminal(bar) => bar.println(format!("note: {text}")),
            Self::Lines(_) | Self::Quiet => eprintln!("note: {text}"),
        }
    }

    /// Clears the spinner.
    pub fn finish(&self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}
