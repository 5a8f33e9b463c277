//! The daemon: lifecycle, lease, dispatch loop, recovery sweep, drain.
