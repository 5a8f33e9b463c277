//! Password files as libpq has them: `~/.pgpass`, or the one that PGPASSFILE or the parameter `passfile` names.
//!
//! A line is `host:port:database:user:password`. The first line that fits counts. A field that is `*` alone fits all, and a
//! backslash takes the meaning from the character after it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config::secret_file;

/// Longest file, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// Folders where a server's socket is by default. To password files they are "localhost".
const SOCKET_FOLDERS: [&[u8]; 3] = [b"/var/run/postgresql", b"/run/postgresql", b"/tmp"];

/// What a connection is made to, as far as it decides about the password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Name, address, or folder of the socket.
    pub host: &'a [u8],
    /// Port.
    pub port: u16,
    /// Database.
    pub database: &'a str,
    /// User.
    pub user: &'a str,
}

/// The password for a place, if a line of the file has one.
///
/// # Errors
/// Why the file isn't used, which is no failure by itself: the server may need no password, or another source has it.
pub(super) fn find(file: &Path, place: &Place<'_>) -> Result<Option<Vec<u8>>, String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".into());
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("others may use it (mode {mode:04o}); chmod 0600"));
    }
    let text = secret_file::read_up_to(file, LONGEST).map_err(|error| error.to_string())?;
    Ok(text.split(|byte| *byte == b'\n').find_map(|line| password(line, place)))
}

/// The password of a line that fits.
fn password(line: &[u8], place: &Place<'_>) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let host = if place.host.is_empty() || SOCKET_FOLDERS.contains(&place.host) { b"localhost" } else { place.host };
    let port = place.port.to_string();
    let wanted = [host, port.as_bytes(), place.database.as_bytes(), place.user.as_bytes()];
    let rest = wanted.iter().try_fold(line, |rest, wanted| field(rest, wanted))?;
    let mut password = Vec::new();
    let mut bytes = rest.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(*bytes.next().unwrap_or(byte)),
            byte => password.push(*byte),
        }
    }
    // As for libpq, an empty one is none.
    (!password.is_empty()).then_some(password)
}

/// What follows the first field, if that fits.
fn field<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let (mut line, mut wanted) = (line, wanted);
    loop {
        match (line, wanted) {
            ([b':', rest @ ..], []) => return Some(rest),
            ([b'\\', byte, rest @ ..] | [byte, rest @ ..], [first, others @ ..]) if byte == first => {
                (line, wanted) = (rest, others);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { host: b"db.example", port: 5432, database: "shop", user: "ada" };

    fn of(line: &str) -> Option<String> {
        password(line.as_bytes(), &PLACE).map(|password| String::from_utf8(password).unwrap())
    }

    /// Compared with libpq 15.
    #[test]
    fn lines_fit_as_they_do_for_libpq() {
        for (line, expected) in [
            ("db.example:5432:shop:ada:hush", Some("hush")),
            ("*:*:*:*:hush", Some("hush")),
            ("db.example:*:shop:*:hush\r", Some("hush")),
            ("db.example:5432:shop:ada:a\\:b\\\\c", Some("a:b\\c")),
            ("db.example:5432:shop:ada:a:b", Some("a")),
            ("db.example:5432:shop:ada:hush\\", Some("hush\\")),
            (r"d\b.example:5432:shop:ada:hush", Some("hush")),
            ("db.example:5433:shop:ada:hush", None),
            ("db.exampl:5432:shop:ada:hush", None),
            ("db.example.:5432:shop:ada:hush", None),
            ("*.example:5432:shop:ada:hush", None),
            ("# db.example:5432:shop:ada:hush", None),
            ("#*:*:*:*:hush", None),
            (" db.example:5432:shop:ada:hush", None),
            ("db.example:5432:shop:ada", None),
            ("db.example:5432:shop:ada:", None),
            ("**:5432:shop:ada:hush", None),
            ("", None),
        ] {
            assert_eq!(of(line).as_deref(), expected, "{line:?}");
        }
        let odd = Place { host: b"::1", user: "a:b\\c", ..PLACE };
        assert_eq!(password(br"\:\:1:5432:shop:a\:b\\c:hush", &odd).as_deref(), Some(&b"hush"[..]));
        for folder in ["/run/postgresql", "/var/run/postgresql", "/tmp", ""] {
            let socket = Place { host: folder.as_bytes(), ..PLACE };
            assert!(password(b"localhost:5432:shop:ada:hush", &socket).is_some(), "{folder}");
        }
        let elsewhere = Place { host: b"/srv/socket", ..PLACE };
        assert!(password(b"localhost:5432:shop:ada:hush", &elsewhere).is_none());
        assert!(password(b"/srv/socket:5432:shop:ada:hush", &elsewhere).is_some());
    }

    #[test]
    fn the_first_line_that_fits_counts_and_a_file_for_all_to_read_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, "# passwords\nother:*:*:*:no\ndb.example:*:*:ada:first\n*:*:*:*:second\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(find(&file, &PLACE).unwrap().as_deref(), Some(&b"first"[..]));
        mode(0o640);
        assert!(find(&file, &PLACE).unwrap_err().contains("chmod 0600"));
        assert!(find(folder.path(), &PLACE).unwrap_err().contains("no regular file"));
        assert!(find(Path::new("/dev/null"), &PLACE).unwrap_err().contains("no regular file"));
        assert!(find(Path::new("/nowhere/pgpass"), &PLACE).is_err());
    }
}
