//! The HTTP listener: health and status.
