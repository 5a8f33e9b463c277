//! Why a pickle was not read.

/// A pickle that can't be read as plain data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// Not base64.
    #[error("py_pickle payload is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Ends before its STOP opcode, or in the middle of an operand.
    #[error("pickle ends at byte {offset}, within {opcode}")]
    Truncated {
        /// The opcode that wanted more.
        opcode: &'static str,
        /// The pickle's length.
        offset: usize,
    },
    /// An opcode that makes or calls Python objects.
    #[error(
        "pickle opcode {opcode} at byte {offset} is refused, because it would build a Python object: \
         use only None, bool, int, float, str, bytes, list, tuple, set and dict, or send it as portable JSON"
    )]
    Refused {
        /// Its name in Python's `pickletools`.
        opcode: &'static str,
        /// Where it stands.
        offset: usize,
    },
    /// A byte that is no opcode.
    #[error("byte {byte:#04x} at offset {offset} is no pickle opcode")]
    Unknown {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: usize,
    },
    /// An opcode whose operands are not what it needs.
    #[error("pickle opcode {opcode} at byte {offset} expected {expected}")]
    Malformed {
        /// Its name in Python's `pickletools`.
        opcode: &'static str,
        /// Where it stands.
        offset: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A dict key that has no text form in JSON.
    #[error("pickle has a dict key that is {0}; JSON keys are text: send it as portable JSON")]
    Key(&'static str),
    /// More than is read at all.
    #[error("pickle has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is read.
        limit: usize,
    },
}
