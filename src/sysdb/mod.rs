//! All SQL on the `dbos` schema: migrate, claim, commit, recover, query. One file an operation family.

pub mod schema;
