//! Images that follow the installed kernels: made when a kernel comes, removed when it goes.

pub mod files;
