//! Who may see and do what: TLS and logins to PostgreSQL, the rights of roles, the admin listener, and where secrets must not be.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "security/admin.rs"]
mod admin;
#[path = "security/passwords.rs"]
mod passwords;
#[path = "security/pki.rs"]
mod pki;
#[path = "security/rights.rs"]
mod rights;
#[path = "security/secrets.rs"]
mod secrets;
#[path = "security/supply_chain.rs"]
mod supply_chain;
mod support;
#[path = "security/tls.rs"]
mod tls;
