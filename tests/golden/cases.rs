//! Where the recorded scenarios are, and the form that they have.
//!
//! A scenario is one JSON file: `name`, `about`, `steps` (what was done, in order), `flow` (the stored document), `task`
//! (the argument as enqueued), and `executions`: the rows that were there after the last step, table by table, of the
//! execution itself, then of its children by level and start. Own scenarios may also have `settings` of the worker that
//! differ from the original's.
//!
//! | value | stands for |
//! |---|---|
//! | `"$EX0"`, `"$EX1"`, ... | the id of the execution, of its children, anywhere, also inside of texts |
//! | `{"$json": X}` | a text that is the JSON X, written compactly |
//! | `{"$ms": n}` | milliseconds since the epoch; n is counted from the creation of the execution's row |
//! | `{"$ts": n}`, `{"$iso": n}` | the same in a `timestamp` column (UTC), as an ISO text |
//! | `{"$took": n}` | a duration in milliseconds |
//! | `{"$uuid": true}`, `{"$stack": true}` | a random UUID, a stack trace |
//! | `{"$errorText": true}` | a text in the worker's own words |
//! | `{"$text": T}` | literally T |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// The folder of what the original worker left, by `FIREFLOW_GOLDEN` or beside this package; often there is none.
pub fn original() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let folder = std::env::var_os("FIREFLOW_GOLDEN").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// The names of a folder's scenarios.
pub fn names(folder: &Path) -> BTreeSet<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let scenarios = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    scenarios.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// A scenario of a folder.
pub fn load(folder: &Path, name: &str) -> Json {
    let path = folder.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
