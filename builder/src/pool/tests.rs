//! Whole pools.
