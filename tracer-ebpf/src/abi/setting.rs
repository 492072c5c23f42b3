//! What the tracer decides before the programs are loaded: read-only globals by these names.

/// Hierarchy id of the memory controller: 0 on cgroup v2, else the number in `/proc/cgroups`.
pub const MEMORY_HIERARCHY: &str = "MEMORY_HIERARCHY";
/// All of [`super::offsets::Symbol`], in order.
pub const OFFSETS: &str = "OFFSETS";
