//! One binary for all targets: the variable `FUZZ_TARGET` names the one that runs.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(known, ..)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target {name:?}"));
    *target
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
