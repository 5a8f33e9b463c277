//! The files of a folder as secrets: read once, and again when one was replaced or written to.
//!
//! A file's name is the secret's. Names with a dot or a slash can't be referred to, so there is no way out of the folder;
//! links in it are followed, since that is how some systems replace all files at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Held, MOST, is_name, usable};

/// The worker's own credentials, should the folder be that of systemd's credentials.
const RESERVED: [&str; 6] = [
    "database-url",
    "flows-database-url",
    "database-password",
    "flows-database-password",
    "admin-token",
    "trace-headers",
];

/// More files than these are not looked at.
const MOST_FILES: usize = 256;

/// The files as they were when they were looked at.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Files {
    known: BTreeMap<String, Known>,
    trouble: Option<String>,
}

#[derive(Clone, PartialEq)]
struct Known {
    stamp: Stamp,
    held: Held,
}

/// What changes when a file is replaced or written to: device, inode, size, times of change in nanoseconds.
#[derive(Clone, Copy, PartialEq)]
struct Stamp(u64, u64, u64, [i64; 4]);

impl Files {
    /// The folder as it is now, without the worker's `own` files, by whatever name they are in it. Files whose stamp is
    /// the known one aren't read.
    pub fn again(&self, folder: &Path, own: &[PathBuf]) -> Files {
        match self.look(folder, own) {
            Ok(known) => Files { known, trouble: None },
            Err(error) => Files { known: BTreeMap::new(), trouble: Some(error.to_string()) },
        }
    }

    fn look(&self, folder: &Path, own: &[PathBuf]) -> io::Result<BTreeMap<String, Known>> {
        let mut found = BTreeMap::new();
        let own: Vec<(u64, u64)> =
            own.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| (file.dev(), file.ino())).collect();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_name(&name) || RESERVED.contains(&name.as_str()) {
                continue;
            }
            let path = entry.path();
            let Some(stamp) = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|file| Stamp::of(&file))
            else {
                continue; // gone again, a folder, a pipe
            };
            if own.contains(&(stamp.0, stamp.1)) {
                continue;
            }
            if found.len() == MOST_FILES {
                tracing::warn!(folder = %folder.display(), "more than {MOST_FILES} files; the rest are no secrets");
                break;
            }
            let known = self.known.get(&name).filter(|known| known.stamp == stamp).cloned();
            let known = known.unwrap_or_else(|| Known { stamp, held: read(&path) });
            found.insert(name, known);
        }
        Ok(found)
    }

    /// The value of a file.
    pub fn get(&self, name: &str) -> Option<&Held> {
        self.known.get(name).map(|known| &known.held)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.known.iter().map(|(name, known)| (name.as_str(), &known.held))
    }

    /// Those that can be used.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.iter().filter_map(|(name, held)| Some((name, held.as_ref().ok()?)))
    }

    /// To refuse some.
    pub fn held_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.known.values_mut().map(|known| &mut known.held)
    }

    /// Why the folder can't be read.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Stamp {
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Stamp(file.dev(), file.ino(), file.size(), times)
    }
}

fn read(path: &Path) -> Held {
    let mut bytes = Vec::new();
    // Two more than allowed: the end of a line is taken off before it is measured.
    let most = MOST as u64 + 3;
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| format!("its file can't be read: {error}")).and_then(|_| usable(&bytes))
}
