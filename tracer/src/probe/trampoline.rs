//! ACTION: links of fentry and fexit programs. The kernel takes one away only after every task has once left the kernel of
//! its own accord (`ftrace_shutdown`: `synchronize_rcu_tasks`; up to 6.8 also when it puts one there), which takes seconds
//! where a crowd waits for a throttled cgroup's next slice, and whoever closes the link waits for it, in D. So they are put
//! there together, and are held by what the kernel takes apart in a worker of its own, also when this process is killed.

use std::{
    io, iter,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Mutex,
    thread,
};

use aya::{
    pin::PinError,
    programs::{Program, ProgramError, links::FdLink},
};
use rustix::io_uring::{IoringRegisterOp, io_uring_params, io_uring_register, io_uring_setup};

use crate::kernel::mount::detached;

/// One that attaches needs little.
const STACK: usize = 128 * 1024;

/// Attaches the programs, waiting for all at once. In any order.
pub fn attach<T: Send>(programs: Vec<(T, &mut Program)>) -> Vec<(T, Result<FdLink, ProgramError>)> {
    let others = programs.len().saturating_sub(1);
    let waiting = Mutex::new(programs);
    let done = Mutex::new(Vec::new());
    let work = || {
        // Nothing in here panics while it holds a lock.
        for (what, program) in iter::from_fn(|| waiting.lock().ok()?.pop()) {
            let link = attach_one(program);
            if let Ok(mut done) = done.lock() {
                done.push((what, link));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..others {
            // Where there may be no more threads, those that are there do it.
            let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        }
        work();
    });
    done.into_inner().unwrap_or_default()
}

fn attach_one(program: &mut Program) -> Result<FdLink, ProgramError> {
    match program {
        Program::FEntry(program) => {
            let link = program.attach()?;
            program.take_link(link).map(FdLink::from)
        }
        Program::FExit(program) => {
            let link = program.attach()?;
            program.take_link(link).map(FdLink::from)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Links, for as long as they are wanted.
#[expect(dead_code, reason = "they are there to be dropped")]
pub enum Held {
    /// The root of a mount that nobody else sees, whose files are the links. `fput` of a ring's files, `mntput` and so
    /// `bpf_link_put` are then a worker's (`io_ring_exit_work`).
    ByRing(OwnedFd),
    /// Where io_uring is not to be had. From 6.4 on the end of the mount leaves the links to a worker (ab5d47bd41b1); before,
    /// whoever drops it may have to wait.
    ByMount(OwnedFd),
    /// Where bpffs is not to be had either: whoever drops them waits.
    Themselves(Vec<FdLink>),
}

impl Held {
    pub fn new(links: Vec<FdLink>) -> Result<Held, PinError> {
        let Ok(root) = detached("bpf") else { return Ok(Held::Themselves(links)) };
        for (number, link) in links.into_iter().enumerate() {
            link.pin(format!("/proc/self/fd/{}/{number}", root.as_raw_fd()))?;
        }
        Ok(ring(&root).map_or(Held::ByMount(root), Held::ByRing))
    }
}

/// A ring that has it in its table of files, which takes no descriptor of a mere path.
fn ring(file: &OwnedFd) -> io::Result<OwnedFd> {
    let files = [file.as_raw_fd()];
    // SAFETY: nothing is ever submitted, and the table is an array that outlives the call.
    unsafe {
        let ring = io_uring_setup(1, &mut io_uring_params::default())?;
        io_uring_register(&ring, IoringRegisterOp::RegisterFiles, files.as_ptr().cast(), 1)?;
        Ok(ring)
    }
}
