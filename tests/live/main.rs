//! Tests that need root and a kernel: `cargo xtask test` runs them here, `cargo xtask vm` in a machine. A new
//! test goes into the file of its subject; what it drives (a runtime, a workload, memtrace) is in `driver/`.
