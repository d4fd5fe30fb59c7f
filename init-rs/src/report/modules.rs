//! Kernel modules in the record of a boot.

use super::json::Json;
use std::time::Duration;

/// What became of one kernel module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleDone {
    /// Name.
    pub name: String,
    /// Time inside `finit_module(2)` or `init_module(2)`, which is mostly the module's own initialisation.
    pub took: Duration,
    /// Why it is not loaded; `None` if it is.
    pub error: Option<String>,
}

/// `{name, ms, error}`.
pub(super) fn module(done: &ModuleDone) -> Json {
    Json::Object(vec![
        ("name", done.name.as_str().into()),
        ("ms", super::boot::millis(done.took)),
        ("error", done.error.as_deref().into()),
    ])
}
