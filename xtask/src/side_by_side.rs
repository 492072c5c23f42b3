//! Work that waits for something else than this machine's processors, done at the same time.

use std::{panic, thread};

/// What the work makes of each, in their order. Each has a thread; a panic of one goes on here.
pub(crate) fn side_by_side<T: Send, R: Send>(
    each: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let started: Vec<_> = each.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        let end = |one: thread::ScopedJoinHandle<'_, R>| {
            one.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        };
        started.into_iter().map(end).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::side_by_side;

    #[test]
    fn all_are_at_work_at_once_and_in_order() {
        let all_there = Barrier::new(3);
        let doubled = side_by_side([3, 1, 2], |one| {
            all_there.wait();
            one * 2
        });
        assert_eq!(doubled, [6, 2, 4]);
    }
}
