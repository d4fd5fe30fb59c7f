//! `taproot layer`.

mod look;
mod make;
mod unpack;

use crate::cli::layer::Layer;
use crate::layer::node::Namespace;
use crate::layer::tree::Source;
use crate::output::print;
use anyhow::Result;
use std::path::PathBuf;

/// Does what was asked for; whether the answer is yes.
pub fn run(action: &Layer) -> Result<bool> {
    let done = |()| true;
    match action {
        Layer::Init(args) => make::init(args).map(done),
        Layer::Merge(args) => make::merge(args).map(done),
        Layer::Convert(args) => unpack::convert(args).map(done),
        Layer::List(args) => look::list(args),
        Layer::Verify(args) => look::verify(args),
        Layer::Diff(args) => look::diff(args),
    }
}

fn namespace(userxattr: bool) -> Namespace {
    if userxattr { Namespace::User } else { Namespace::Trusted }
}

fn open(layers: &[PathBuf], userxattr: bool) -> Result<Vec<Source>> {
    layers.iter().map(|path| Source::open(path, namespace(userxattr))).collect()
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
