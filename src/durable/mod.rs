//! Workflow context: steps that replay, messages, streams, cancellation. Knows no SQL.
