//! Names that end up in SQL text, checked and quoted once.

use std::fmt;
use std::str::FromStr;

/// PostgreSQL cuts longer names, so that two long ones may meet.
const LONGEST_NAME: usize = 63;
/// Leaves room for the longest name that is made of a prefix.
const LONGEST_PREFIX: usize = 30;

/// A name can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Of the schema.
    #[error("{0:?} can't be a schema's name: use 1 to 63 bytes without control characters, not beginning with pg_")]
    Schema(String),
    /// Of the tables' prefix.
    #[error("{0:?} can't be a prefix of tables: use up to 30 of a-z, 0-9 and _, not beginning with a digit")]
    Prefix(String),
}

/// The schema of the system tables; `dbos` unless configured otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName {
    name: String,
    quoted: String,
}

impl SchemaName {
    /// As it is stored in the catalogue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in SQL text, with quotes.
    pub fn quoted(&self) -> &str {
        &self.quoted
    }
}

impl Default for SchemaName {
    fn default() -> SchemaName {
        SchemaName { name: "dbos".into(), quoted: "\"dbos\"".into() }
    }
}

impl FromStr for SchemaName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<SchemaName, NameError> {
        // `$fireflow$` would end a function's body in the baseline.
        let bad = name.is_empty()
            || name.len() > LONGEST_NAME
            || name.starts_with("pg_")
            || name.chars().any(char::is_control)
            || name.contains("$fireflow$");
        if bad {
            return Err(NameError::Schema(name.into()));
        }
        Ok(SchemaName { name: name.into(), quoted: format!("\"{}\"", name.replace('"', "\"\"")) })
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What the names of the application tables begin with; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A table's name as it stands in SQL text, with quotes.
    pub fn table(&self, name: &str) -> String {
        format!("\"{}{name}\"", self.0)
    }
}

impl FromStr for Prefix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Prefix, NameError> {
        let allowed = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !allowed || text.len() > LONGEST_PREFIX || text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(NameError::Prefix(text.into()));
        }
        Ok(Prefix(text.into()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_out_of_sql_are_quoted_or_refused() {
        assert_eq!("od\"d".parse::<SchemaName>().unwrap().quoted(), "\"od\"\"d\"");
        for name in ["", "pg_mine", "a\0b", "x$fireflow$", &"é".repeat(32)] {
            assert!(name.parse::<SchemaName>().is_err(), "{name:?}");
        }
        assert_eq!("chaingraph_".parse::<Prefix>().unwrap().table("flows"), "\"chaingraph_flows\"");
        for prefix in ["a\"", "1a", "Upper", "a-b", &"a".repeat(31)] {
            assert!(prefix.parse::<Prefix>().is_err(), "{prefix:?}");
        }
    }
}
