//! Files that hold a secret: read whole up to a limit, without the newline that editors add.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Longest secret, in bytes; tokens of clouds have a few thousand.
const LONGEST: u64 = 64 * 1024;

/// The bytes of a file that has at most so many: a wrong path may name a disk.
///
/// # Errors
/// It can't be read, or is longer.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// The secret in a file: one line, without its end.
///
/// # Errors
/// It can't be read, is empty, or has more than one line.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = read_up_to(path, LONGEST)?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if secret.is_empty() {
        return wrong("it is empty");
    }
    if secret.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return wrong("it has more than one line, or a zero byte");
    }
    Ok(secret)
}

/// Warn, once for a file in the life of the process, when everybody on the machine may read it. It is used all the same: container
/// runtimes mount secrets so, where nobody else is.
pub(crate) fn warn_if_open(key: &str, path: &Path) {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Some(mode) = open_to_all(path) else { return };
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
        let (file, mode) = (path.display(), format!("{mode:04o}"));
        tracing::warn!(key, %file, mode, "every user of this machine may read this file; chmod 0600, or 0640 for a group");
    }
}

/// The mode of a file that everybody may read.
pub(crate) fn open_to_all(path: &Path) -> Option<u32> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o007 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        for (text, secret) in [
            ("hush", Some("hush")),
            ("hush\n", Some("hush")),
            ("hush\r\n", Some("hush")),
            (" hush ", Some(" hush ")),
            ("", None),
            ("\n", None),
            ("hush\n\n", None),
            ("user\nhush\n", None),
            ("hu\0sh", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file).ok().as_deref(), secret.map(str::as_bytes), "{text:?}");
        }
        let endless = read(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.to_string().contains("longer than"), "{endless}");
    }
}
