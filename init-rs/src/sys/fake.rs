//! For tests: the parts of a [`System`](super::System) that a fake has no opinion on.

/// Every method but those for `/dev/zfs` and mounts, answered by the [`Linux`](super::linux::Linux) in a field.
#[macro_export]
#[doc(hidden)]
macro_rules! otherwise_linux {
    ($field:ident) => {
        $crate::otherwise_linux!($field, but scout and time);
        $crate::delegate_clock_and_scout!($field);
    };
    // Those of the clock and of the scout are the fake's as well.
    ($field:ident, but scout and time) => {
        $crate::delegate_files!($field);
        $crate::delegate_writes!($field);
        $crate::delegate_layers!($field);
        $crate::delegate_kept!($field);
        $crate::delegate_log!($field);
        $crate::delegate_watched!($field);
        $crate::delegate_others!($field);
    };
}

pub(crate) use crate::otherwise_linux;

mod machine;
mod tree;
pub(crate) use machine::{Machine, Said};
pub(crate) use tree::Tree;
