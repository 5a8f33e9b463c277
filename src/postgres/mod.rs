//! Pool, TLS, listener, and the embedded server for `dev` and the tests.

pub mod embedded;
