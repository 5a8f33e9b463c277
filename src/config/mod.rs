//! Settings: defaults, layers (file, environment, flags) and validation that names the key at fault.
