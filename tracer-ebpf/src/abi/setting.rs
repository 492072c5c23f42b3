//! What the tracer decides before the programs are loaded: read-only globals by these names.

/// Hierarchy id of the memory controller: 0 on cgroup v2, else the number in `/proc/cgroups`.
pub const MEMORY_HIERARCHY: &str = "MEMORY_HIERARCHY";
/// All of [`super::offsets::Symbol`], in order.
pub const OFFSETS: &str = "OFFSETS";
/// Numbers of the system calls by [`Call`], which differ between architectures.
pub const SYSCALLS: &str = "SYSCALLS";
/// 1: lengths of lines are wanted, not only their number.
pub const LENGTHS: &str = "WANT_LENGTHS";

/// 1: system calls of every memory cgroup are counted, not of chosen ones.
pub const EVERY_CALLER: &str = "EVERY_CALLER";
/// How many buckets and blocks of system calls a CPU has, powers of two.
pub const CALL_ROOM: &str = "CALL_ROOM";

/// 1: how long processes lived is wanted.
pub const LIVES: &str = "WANT_LIVES";

macro_rules! calls {
    ($($name:ident),+ $(,)?) => {
        /// A system call that moves bytes into or out of a stream, or does not return.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Call { $($name),+ }

        impl Call {
            pub const ALL: &'static [Call] = &[$(Call::$name),+];
            pub const COUNT: usize = Self::ALL.len();
        }
    };
}

calls! { Write, Writev, Pwritev2, Sendto, Sendmsg, Read, Readv, Preadv2, Splice, Tee, Vmsplice, Sendfile, Exit, ExitGroup, CompatExit, CompatExitGroup }
