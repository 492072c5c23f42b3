//! Golden blocks, keys, and names that would do harm.
