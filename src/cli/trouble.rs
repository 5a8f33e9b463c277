//! Commands that look again and again live through what passes: a restart of the server, a lock.

use super::output;
use crate::sysdb::operator::OperatorError;

/// Whether looks fail just now. It is said once, when it begins.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    told: bool,
}

impl Trouble {
    /// What was seen; `None` where it has to be looked at again.
    ///
    /// # Errors
    /// What doesn't pass.
    pub fn or<T>(&mut self, seen: Result<T, OperatorError>) -> Result<Option<T>, OperatorError> {
        match seen {
            Ok(seen) => {
                self.told = false;
                Ok(Some(seen))
            }
            Err(error) if error.is_transient() => {
                if !std::mem::replace(&mut self.told, true) {
                    output::note(format!("can't look: {error}; trying again"));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysdb::SysdbError;

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_an_error() {
        let mut trouble = Trouble::default();
        let away = || Err::<(), _>(OperatorError::from(SysdbError::Pool(deadpool_postgres::PoolError::Closed)));
        assert!(matches!(trouble.or(away()), Ok(None)) && trouble.told);
        assert!(matches!(trouble.or(Ok(1)), Ok(Some(1))) && !trouble.told);
        assert!(trouble.or(Err::<(), _>(OperatorError::NoWorker("w".into()))).is_err());
    }
}
