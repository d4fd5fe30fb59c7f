//! `taproot layer`.

mod integrity;
mod look;
mod make;
mod stack;
mod unpack;

use crate::cli::layer::Layer;
use crate::layer::node::Namespace;
use crate::layer::stack::ask::Ask;
use crate::layer::tree::Source;
use crate::output::print;
use anyhow::Result;
use std::path::PathBuf;

/// Does what was asked for; whether the answer is yes.
pub fn run(action: &Layer) -> Result<bool> {
    let done = |()| true;
    match action {
        Layer::Init(args) => make::init(args).map(done),
        Layer::Merge(args) if args.offline => make::merge(args).map(done),
        Layer::Merge(args) => stack::merge(args).map(done),
        Layer::Commit(args) => stack::commit(args).map(done),
        Layer::Rollback(args) => stack::simple(&Ask::Rollback(args.past), &args.ask).map(done),
        Layer::Withdraw(args) => stack::simple(&Ask::Withdraw(args.name.clone()), &args.ask).map(done),
        Layer::Retry(args) => stack::simple(&Ask::Retry(args.name.clone()), &args.ask).map(done),
        Layer::Forget(args) => stack::simple(&Ask::Forget(args.past), &args.ask).map(done),
        Layer::Status(args) => stack::status(args),
        Layer::Work(args) => stack::work(args).map(done),
        Layer::Confirm => stack::confirm().map(done),
        Layer::Convert(args) => unpack::convert(args).map(done),
        Layer::List(args) => look::list(args),
        Layer::Verify(args) => look::verify(args),
        Layer::Diff(args) => look::diff(args),
        Layer::Seal(args) => integrity::seal(args).map(done),
        Layer::Sign(args) => integrity::sign(args).map(done),
        Layer::Keygen(args) => integrity::keygen(args).map(done),
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
