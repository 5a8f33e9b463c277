//! Scenarios with the rows that a worker left in PostgreSQL, and their comparison with ours.
//!
//! A test binary takes this in with `#[path = "golden/mod.rs"] mod golden;` and need not use all of it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod cases;
pub mod compare;
pub mod stream;
