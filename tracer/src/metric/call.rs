//! One description per number of a system call of a row, as `metric` has them of rows.

use super::{Metric, Unit, metric};
use crate::aggregator::call::Call;

/// The default word of `--sort`.
pub const TIME: &str = "time";

/// The metric of that name.
pub fn find(name: &str) -> Option<&'static Metric<Call>> {
    CALLS.iter().find(|metric| metric.name == name)
}

/// Every word that `--sort` of `syscalls` takes.
pub fn sort_words() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|metric| metric.name).chain([super::NAME])
}

/// The part of `docs/metrics.md` on system calls.
pub fn markdown() -> String {
    let mut page = String::from(
        "\n# The numbers of a system call\n\n\
         *Name* is the word of `--sort` of `memtrace syscalls`, *JSON* the place in an entry of `calls` of `memtrace \
         syscalls --json`. A call counts when it returns; `exit` and `exit_group` never do. `--sort name` goes by call. \
         Beside: `errors_by_errno` and `buckets`, how many calls took how long (upper bound in microseconds, calls).\n\n",
    );
    page.push_str(&super::rows(CALLS));
    page
}

/// In the order of the documentation and of `--help`.
#[rustfmt::skip]
pub const CALLS: &[Metric<Call>] = &[
    metric(TIME, "TIME", Unit::Time, "total_s",
        |call: &Call| Some(call.total_s),
        "time in the call since it is counted, over all tasks; the default order"),
    metric("share", "SHARE", Unit::Share, "time_share",
        |call: &Call| call.share,
        "of the time of all calls of the container, waiting included"),
    metric("count", "CALLS", Unit::Count, "count",
        |call: &Call| Some(call.count as f64),
        "calls that returned"),
    metric("errors", "ERRORS", Unit::Count, "errors",
        |call: &Call| Some(call.errors as f64),
        "of these, those that returned an error; a call that the kernel starts again is one"),
    metric("rate", "CALLS/s", Unit::PerSecond, "count_per_s",
        |call: &Call| call.count_per_s,
        "calls in the last interval"),
    metric("busy", "TIME/s", Unit::Time, "time_per_s",
        |call: &Call| call.time_per_s,
        "time in the call per second of the last interval, over all tasks: how many tasks were in it on average"),
    metric("p50", "P50", Unit::Microseconds, "p50_us",
        |call: &Call| call.p50_us,
        "half of the calls took no longer; within 1.6 %"),
    metric("p99", "P99", Unit::Microseconds, "p99_us",
        |call: &Call| call.p99_us,
        "99 of 100 took no longer; within 1.6 %"),
    metric("max", "MAX", Unit::Microseconds, "max_us",
        |call: &Call| call.max_us,
        "the longest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_the_page_has_each_once() {
        let page = markdown();
        for (index, metric) in CALLS.iter().enumerate() {
            assert!(
                metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
                "{metric:?}"
            );
            assert_eq!(CALLS.iter().position(|other| other == metric), Some(index), "{metric:?} twice");
            assert!(!metric.help.contains('|'), "{metric:?} breaks the table");
            assert_eq!(page.matches(&format!("\n| `{}` |", metric.name)).count(), 1, "{metric:?}");
        }
        assert!(find(TIME).is_some());
    }
}
