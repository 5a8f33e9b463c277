//! Findings on flows with one mistake each are in `tests/flow_cli.rs`, with their places.
