//! The disk: partitions, what is in those that are no pool, and the formats that it is written in.

pub mod device;
pub mod fat;
pub mod formats;
pub mod layout;
pub mod swap;
pub mod table;
pub mod window;
