//! Counts of tests, read from what Rust's test harness and our own tests print.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Which tests failed, and why something was skipped or could not run.
    pub(crate) reasons: Vec<String>,
}

/// What a test left out of itself.
const PART: &str = "skipping a part, ";

impl Tally {
    /// From a run's output. A run that failed without a failing test (it did not build, it was killed) counts as one.
    pub(crate) fn of(lines: &[String], success: bool) -> Self {
        let mut tally = Self::default();
        let mut skips: Vec<String> = Vec::new();
        for line in lines {
            if let Some((passed, failed, ignored)) = result(line) {
                tally.passed += passed;
                tally.failed += failed;
                tally.skipped += ignored;
            } else if let Some(reason) = skip(line)
                && !skips.iter().any(|known| known == reason)
            {
                skips.push(reason.to_owned());
            } else if let Some(name) = failed(line) {
                let why = why(lines, name).map(|why| format!(": {why}")).unwrap_or_default();
                tally.reasons.push(format!("failed: {name}{why}"));
            }
        }
        // To the harness, a test that skipped itself has passed; one that left out a part has.
        let whole = skips.iter().filter(|skip| !skip.starts_with(PART)).count();
        let themselves = whole.min(tally.passed);
        tally.passed -= themselves;
        tally.skipped += themselves;
        tally.reasons.append(&mut skips);
        if !success && tally.failed == 0 {
            tally.failed = 1;
            tally.reasons.push("failed: it ended with an error though no test failed; see above".to_owned());
        }
        tally
    }

    pub(crate) fn skipped(name: &str, reason: &str) -> Self {
        Self { skipped: 1, reasons: vec![format!("skipping {name}: {reason}")], ..Self::default() }
    }

    pub(crate) fn broken(reason: &str) -> Self {
        Self { failed: 1, reasons: vec![format!("failed: {reason}")], ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// What did not apply, as `<test>: <reason>`.
    pub(crate) fn skips(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| reason.strip_prefix("skipping "))
    }

    /// What failed, as `<test>: <where and why>`.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| reason.strip_prefix("failed: "))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.20s`
fn result(line: &str) -> Option<(usize, usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |name: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(name))?;
        part.split(' ').next()?.parse().ok()
    };
    Some((count(" passed")?, count(" failed")?, count(" ignored")?))
}

/// `test <name> ... FAILED`
fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Of what a test said when it panicked, that much is enough for the sum: the whole is far above it.
const WHY_CHARS: usize = 600;

/// Where the test panicked and with what: `thread '<name>' (<id>) panicked at <place>:`, and the lines up to the stack.
fn why(lines: &[String], name: &str) -> Option<String> {
    let start = format!("thread '{name}' ");
    let at = lines.iter().position(|line| line.starts_with(&start) && line.contains(" panicked at "))?;
    let (_, place) = lines[at].split_once(" panicked at ")?;
    let ends = |line: &&String| !line.starts_with("stack backtrace:") && !line.starts_with("note: ");
    let words: Vec<&str> = std::iter::once(place)
        .chain(lines[at + 1..].iter().take_while(ends).map(|line| line.trim()))
        .filter(|line| !line.is_empty())
        .collect();
    Some(words.join(" ").chars().take(WHY_CHARS).collect())
}

/// `skipping <test>: <reason>`, on a line of its own or after the harness's `test <name> ... `.
fn skip(line: &str) -> Option<&str> {
    let line = line.trim();
    let text = match line.find(" ... skipping ") {
        Some(at) if line.starts_with("test ") => &line[at + " ... ".len()..],
        _ => line,
    };
    let (name, _) = text.strip_prefix("skipping ")?.split_once(": ")?;
    (!name.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str, success: bool) -> Tally {
        Tally::of(&text.lines().map(str::to_owned).collect::<Vec<_>>(), success)
    }

    #[test]
    fn results_are_summed_and_ignored_ones_are_skipped() {
        let found = tally(
            "running 2 tests\ntest a::b ... FAILED\ntest result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.20s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
            false,
        );
        assert_eq!((found.passed, found.failed, found.skipped), (8, 2, 1));
        assert_eq!(found.reasons, ["failed: a::b"]);
    }

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let found = tally(
            "test charge ... ok\nskipping cgroup_v1: this kernel mounts v2 only\ntest x ... skipping docker: no dockerd\n\
             skipping cgroup_v1: this kernel mounts v2 only\nskipping a part, a+b: no dockerd\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s",
            true,
        );
        assert_eq!((found.passed, found.failed, found.skipped), (2, 0, 2));
        assert_eq!(
            found.reasons,
            [
                "skipping cgroup_v1: this kernel mounts v2 only",
                "skipping docker: no dockerd",
                "skipping a part, a+b: no dockerd"
            ]
        );
    }

    #[test]
    fn a_failure_says_where_and_why() {
        let found = tally(
            "test a::b ... FAILED\n\nthread 'a::bc' (6) panicked at c.rs:1:1:\nanother\n\
             thread 'a::b' (7) panicked at tests/a.rs:8:5:\nassertion failed\n  left: 1\n right: 2\nstack backtrace:\n   0: f\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
            false,
        );
        assert_eq!(found.reasons, ["failed: a::b: tests/a.rs:8:5: assertion failed left: 1 right: 2"]);
    }

    #[test]
    fn a_run_that_breaks_off_is_a_failure() {
        let found = tally("error: could not compile `tracer`", false);
        assert_eq!((found.passed, found.failed, found.skipped), (0, 1, 0));
    }

    #[test]
    fn the_last_line_has_the_form_a_ci_reads() {
        assert_eq!(tally("", true).to_string(), "0 passed, 0 failed, 0 skipped");
    }
}
