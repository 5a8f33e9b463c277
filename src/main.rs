//! The `fireflow-worker` binary: parse, dispatch, exit code. Nothing else.

fn main() {}
