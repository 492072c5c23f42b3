use proptest::prelude::*;

use super::*;

const MEMCG_V1: &str = include_str!("../../../../../tests/fixtures/kmsg/6.18-v1-memcg.txt");
const GLOBAL: &str = include_str!("../../../../../tests/fixtures/kmsg/6.18-global-headless.txt");
const GROUP: &str = include_str!("../../../../../tests/fixtures/kmsg/v2-group.txt");
const OLD: &str = include_str!("../../../../../tests/fixtures/kmsg/5.10-v2.txt");

fn kills(text: &str) -> Vec<KernelKill> {
    let mut parser = Parser::default();
    text.lines().filter_map(|line| parser.line(line.as_bytes())).collect()
}

#[test]
fn v1_with_a_name_of_several_lines() {
    let kills = kills(MEMCG_V1);
    let [kill] = kills.as_slice() else { panic!("{kills:?}") };
    assert_eq!((kill.pid, kill.comm.as_str(), kill.memcg), (15856, "eat (x) y\n", true));
    let wanted = Resident { anon: Some(35272 << 10), file: Some(6624 << 10), shmem: Some(0) };
    assert_eq!(kill.resident, wanted);
    let constraint = kill.constraint.as_ref().expect("a line");
    assert_eq!(constraint.limit.as_deref(), Some("/job"));
    assert_eq!(constraint.victim.as_deref(), Some("/job/step"));
    let report = kill.report.as_ref().expect("a report");
    assert_eq!(report.trigger_comm.as_deref(), Some("eat (x) y\n"));
    assert_eq!((report.trigger_tid, report.path.as_deref()), (Some(15856), Some("/job")));
    assert_eq!((report.usage, report.limit), (Some(32768 << 10), Some(32768 << 10)));
    let stat = &report.stat;
    assert_eq!((stat.anon, stat.file, stat.shmem), (Some(29_278_208), Some(4_194_304), Some(4_194_304)));
    assert_eq!((stat.dirty, stat.writeback, stat.kernel), (Some(0), Some(0), Some(80 << 10)));
    assert_eq!((stat.slab, stat.sock), (None, None), "v1 does not tell");
    let wanted =
        Process { pid: 15856, comm: "eat (x) y\n".into(), rss: 10474 * 4096, anon: Some(8818 * 4096) };
    assert_eq!(report.processes, [wanted]);
}

/// The log is a ring: of the oldest report only the end may be there.
#[test]
fn a_report_without_its_head() {
    let kills = kills(GLOBAL);
    let [kill] = kills.as_slice() else { panic!("{kills:?}") };
    assert_eq!((kill.pid, kill.memcg), (9010, false));
    let constraint = kill.constraint.as_ref().expect("a line");
    assert_eq!((constraint.global, constraint.victim.as_deref()), (true, Some("/job/step")));
    assert_eq!(kill.report.as_ref().expect("a report").usage, None);
}

#[test]
fn a_group_is_told_once_each() {
    let kills = kills(GROUP);
    let told: Vec<(u32, &str)> = kills.iter().map(|kill| (kill.pid, kill.comm.as_str())).collect();
    assert_eq!(told, [(129, "eat"), (130, "a b) c")]);
    for kill in &kills {
        let limit = kill.constraint.as_ref().and_then(|constraint| constraint.limit.as_deref());
        assert_eq!(limit, Some("/job"));
        let report = kill.report.as_ref().expect("a report");
        assert_eq!((report.stat.shmem, report.stat.slab), (Some(663_552), Some(102_400)));
        assert_eq!((report.stat.dirty, report.stat.writeback), (Some(4096), Some(8192)));
        assert_eq!(report.path.as_deref(), Some("/job"), "its colon came in another piece");
        assert_eq!((report.processes[1].comm.as_str(), report.processes.len()), ("a b) c", 2));
    }
    assert_eq!(kills[0].constraint.as_ref().and_then(|of| of.victim.as_deref()), Some("/job/step"));
    assert_eq!(kills[1].constraint.as_ref().and_then(|of| of.victim.as_deref()), None, "not told");
    assert_eq!(kills[1].report.as_ref().and_then(|of| of.group.as_deref()), Some("/job"));
}

/// 5.10 prints its statistics in one piece, which may be cut, and has fewer columns; the second kill's report was left out.
#[test]
fn old_texts_and_a_kill_without_report() {
    let kills = kills(OLD);
    assert_eq!(kills.len(), 2);
    let report = kills[0].report.as_ref().expect("a report");
    let stat = &report.stat;
    assert_eq!((stat.anon, stat.file, stat.dirty), (Some(41_738_240), Some(270_336), Some(135_168)));
    assert_eq!((stat.kernel, stat.slab), (None, None));
    assert_eq!(report.processes[0].anon, None);
    assert_eq!((kills[1].pid, kills[1].report.as_ref(), kills[1].memcg), (102, None, true));
    assert_eq!(kills[1].constraint, None);
}

#[test]
fn two_reports_by_two_callers_keep_apart() {
    let mark = |text: &str, caller: &str, pid: &str| {
        text.replace(",-;", &format!(",-,caller={caller};"))
            .replace(",c;", &format!(",c,caller={caller};"))
            .replace("129", pid)
    };
    let (one, two) = (mark(GROUP, "T1", "129"), mark(GROUP, "T2", "777").replace("/job", "/other"));
    let mut parser = Parser::default();
    let both = one.lines().zip(two.lines()).flat_map(|(one, two)| [one, two]);
    let kills: Vec<KernelKill> = both.filter_map(|line| parser.line(line.as_bytes())).collect();
    let limits: Vec<(u32, &str)> = kills
        .iter()
        .map(|kill| {
            (kill.pid, kill.constraint.as_ref().and_then(|of| of.limit.as_deref()).unwrap_or_default())
        })
        .collect();
    assert_eq!(limits, [(129, "/job"), (777, "/other"), (130, "/job"), (130, "/other")]);
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut parser = Parser::default();
        for line in lines {
            let _ = parser.line(&line);
        }
    }

    /// Every line cut anywhere, some left out: whatever is told is of that kill.
    #[test]
    fn cut_lines_are_no_panic_and_no_lie(
        which in 0usize..4, cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 90),
    ) {
        let text = [MEMCG_V1, GLOBAL, GROUP, OLD][which];
        let mut parser = Parser::default();
        for (line, (cut, whole)) in text.lines().zip(cuts.iter().cycle()) {
            let length = if *whole { line.len() } else { cut.index(line.len() + 1) };
            let bytes = line.as_bytes().get(..length).unwrap_or_default();
            if let Some(kill) = parser.line(bytes) {
                let limit = kill.constraint.and_then(|constraint| constraint.limit);
                prop_assert!(limit.is_none_or(|limit| limit == "/job"));
            }
        }
    }

    #[test]
    fn any_words_are_no_panic(
        texts in proptest::collection::vec("(oom-kill:|Memory cgroup stats for |: Killed process |\\[  pid  \\]|\\[|\\]|Tasks in |CPU: | PID: |memory: usage |kB|,pid=|,uid=|1| |\\(|\\)|/|:|\\PC){0,12}", 0..30),
    ) {
        let mut parser = Parser::default();
        for text in texts {
            let _ = parser.line(format!("4,1,2,-;{text}\n").as_bytes());
        }
    }
}
