//! The order in which people sort texts: `a`, `B`, `é`, `z`. Ranges of texts go by it.

use std::cmp::Ordering;
use std::sync::LazyLock;

use icu_collator::options::CollatorOptions;
use icu_collator::{CollatorBorrowed, CollatorPreferences};

/// Unicode's collation for no language in particular, as JavaScript's `localeCompare` has it for English.
static COLLATOR: LazyLock<Option<CollatorBorrowed<'static>>> =
    LazyLock::new(|| CollatorBorrowed::try_new(CollatorPreferences::default(), CollatorOptions::default()).ok());

pub(super) fn collate(left: &str, right: &str) -> Ordering {
    match &*COLLATOR {
        Some(collator) => collator.compare(left, right),
        None => left.cmp(right), // the data is compiled in, so this doesn't come
    }
}
