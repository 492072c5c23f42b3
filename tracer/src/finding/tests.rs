//! Findings over hand-made runs: what must be found, how bad it is, and what must not be.

use serde_json::Value;

use super::{
    example::{MIB, endless, incident, logs, process, reader, row, run, stream, tick_of},
    *,
};
use crate::{
    aggregator::{
        row::Memory,
        stream::{Reader, Role, Stream},
    },
    resolve::Cgroup,
};

type Findings = Vec<Arc<Finding>>;

fn kinds(findings: &Findings) -> Vec<(Kind, Severity)> {
    findings.iter().map(|finding| (finding.kind, finding.severity)).collect()
}

fn last(findings: Vec<Findings>) -> Findings {
    findings.into_iter().last().expect("a tick")
}

/// The worst that was ever told, and when first.
fn worst(findings: &[Findings]) -> Option<(Severity, usize)> {
    let all =
        findings.iter().enumerate().flat_map(|(tick, open)| open.iter().map(move |f| (f.severity, tick)));
    all.min_by_key(|(severity, tick)| (Reverse(*severity), *tick))
}

fn evidence(finding: &Finding) -> Value {
    serde_json::to_value(&finding.evidence).expect("JSON")
}

const LINE: Kind = Kind::UnterminatedLine;

#[test]
fn the_endless_line_is_critical_and_proven() {
    let findings = incident(15);
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical)]);
    let finding = &findings[0];
    assert_eq!(
        finding.summary,
        "shop/web-7/app has written 750 MiB to stdout without a newline (50.0 MiB/s); containerd[812] holds it all: \
         its memory grew 768 MiB meanwhile"
    );
    assert_eq!(finding.daemon, Some(process(812, "containerd")));
    let evidence = evidence(finding);
    assert_eq!(evidence["stream"], "stdout");
    assert_eq!(evidence["open_line_bytes"], 750 * MIB);
    assert_eq!(evidence["open_line_before_how"], "inferred");
    assert_eq!(evidence["bytes_per_s"], 50.0 * MIB as f64);
    assert_eq!(evidence["held_bytes"], 750 * MIB);
    assert_eq!(evidence["held_bytes_how"], "inferred");
    assert_eq!(evidence["daemon_growth"], 768 * MIB);
    assert_eq!(evidence["daemon_rss"], 1168 * MIB);
    assert_eq!(evidence["via"][0]["comm"], "containerd-shim");
    assert!(finding.advice.contains(&"$ kubectl -n shop delete pod web-7".to_owned()));
    assert!(finding.id.starts_with("unterminated-line:") && finding.id.ends_with(":stdout"));
}

#[test]
fn it_is_found_after_two_intervals_and_not_before() {
    let findings = run(6, |tick| {
        let written = 50 * MIB * tick;
        logs([endless(1, "web-7", written, written)], [reader(400 * MIB + written)])
    });
    assert_eq!(worst(&findings), Some((Severity::Critical, 2)));
    assert!(findings[..2].iter().all(Vec::is_empty));
}

#[test]
fn a_slow_hoard_is_found_too() {
    let findings = run(16, |tick| {
        let written = 300 * 1024 * tick;
        logs([endless(1, "web-7", written, written)], [reader(400 * MIB + written * 3 / 4)])
    });
    assert_eq!(kinds(&last(findings)), [(LINE, Severity::Critical)]);
}

#[test]
fn held_without_growth_is_a_warning() {
    // What was given up by others makes room for it: the daemon does not grow.
    let findings = run(16, |tick| {
        let written = 5 * MIB * tick;
        logs([endless(1, "web-7", written, written)], [reader(400 * MIB + written / 4)])
    });
    let findings = last(findings);
    assert_eq!(kinds(&findings), [(LINE, Severity::Warning)]);
    assert!(
        findings[0].summary.ends_with("holds it all, though its memory grew by 18.8 MiB only"),
        "{findings:?}"
    );
    // Nor is a warning lost where its memory is not known.
    let findings = last(run(16, |tick| {
        let written = 5 * MIB * tick;
        logs([endless(1, "web-7", written, written)], [Reader { anon: None, ..reader(0) }])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Warning)]);
    assert!(evidence(&findings[0])["daemon_rss"].is_null());
}

#[test]
fn a_giant_line_that_is_written_on_is_info() {
    let findings = run(16, |tick| {
        logs([endless(1, "web-7", 50 * MIB * tick, 16 * 1024)], [reader(400 * MIB + tick * MIB)])
    });
    assert_eq!(worst(&findings).map(|(severity, _)| severity), Some(Severity::Info));
    let findings = last(findings);
    assert_eq!(kinds(&findings), [(LINE, Severity::Info)]);
    assert!(findings[0].summary.contains("which is harmless"), "{}", findings[0].summary);
}

#[test]
fn a_reader_that_gathers_and_writes_on_is_no_hoarder_in_the_end() {
    let findings = last(run(16, |tick| {
        let written = 3 * MIB * tick;
        logs([endless(1, "web-7", written, written % (8 * MIB))], [reader(400 * MIB + 8 * MIB)])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Info)]);
}

#[test]
fn what_nobody_knows_is_info_and_says_so() {
    let unread = |tick: u64| Stream {
        hops: Vec::new(),
        held: None,
        held_how: None,
        ..endless(1, "web-7", 9 * MIB * tick, 0)
    };
    let findings = last(run(6, |tick| logs([unread(tick)], [])));
    assert_eq!(kinds(&findings), [(LINE, Severity::Info)]);
    assert!(findings[0].summary.ends_with("who reads it was not seen"));
    assert_eq!(findings[0].daemon, None);
    let evidence = evidence(&findings[0]);
    for key in ["held_bytes", "daemon_growth", "daemon_rss"] {
        assert!(evidence[key].is_null(), "{key}");
    }
    assert!(evidence["held_bytes_how"].is_null());
}

#[test]
fn growth_with_the_line_is_a_warning_where_held_is_not_known() {
    let findings = last(run(6, |tick| {
        let stream = Stream { held: None, held_how: None, ..endless(1, "web-7", 9 * MIB * tick, 0) };
        logs([stream], [reader(400 * MIB + 9 * MIB * tick)])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Warning)]);
}

#[test]
fn two_hoarded_streams_share_the_growth() {
    let findings = last(run(16, |tick| {
        let (one, two) = (40 * MIB * tick, 10 * MIB * tick);
        let second = Stream { role: Role::Stderr, ..endless(2, "api-3", two, two) };
        logs([endless(1, "web-7", one, one), second], [reader(400 * MIB + one + two)])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical), (LINE, Severity::Critical)]);
    assert_eq!(evidence(&findings[0])["daemon_growth_share"], 600 * MIB);
    assert_eq!(evidence(&findings[0])["daemon_growth_share_how"], "inferred");
    assert_eq!(evidence(&findings[1])["daemon_growth_share"], 150 * MIB);
    assert_eq!(evidence(&findings[1])["daemon_growth"], 750 * MIB);
    assert!(findings[1].summary.ends_with("grew 750 MiB meanwhile, 150 MiB of that by this stream"));
}

/// The second line begins when the first has long been there: what the daemon grew by before is not the second's.
#[test]
fn a_later_line_is_judged_by_its_own_time() {
    let findings = last(run(16, |tick| {
        let (one, two) = (40 * MIB * tick, 10 * MIB * tick.saturating_sub(10));
        let second = (tick > 10).then(|| endless(2, "api-3", two, two));
        logs(
            [Some(endless(1, "web-7", one, one)), second].into_iter().flatten(),
            [reader(400 * MIB + one + two)],
        )
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical), (LINE, Severity::Critical)]);
    assert_eq!(evidence(&findings[1])["daemon_growth_share"], 50 * MIB);
    assert_eq!(evidence(&findings[1])["bytes_per_s"], 10.0 * MIB as f64);
}

/// One is hoarded, the other is not: all of the growth belongs to the first.
#[test]
fn a_splitting_neighbour_has_no_share() {
    let findings = last(run(16, |tick| {
        let one = 40 * MIB * tick;
        let second = endless(2, "api-3", 20 * MIB * tick, 16 * 1024);
        logs([endless(1, "web-7", one, one), second], [reader(400 * MIB + one)])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical), (LINE, Severity::Info)]);
    assert!(evidence(&findings[0])["daemon_growth_share"].is_null());
}

#[test]
fn ordinary_lines_are_silent() {
    // Short open lines, a busy container, and lines of 1 MB of which one is always under way and held.
    let findings = run(30, |tick| {
        let short =
            Stream { bytes: 3 * MIB * tick, lines: 30_000 * tick, open_line: 80, ..stream(1, "web-7") };
        let megabytes = Stream {
            bytes: 5_000_000 * tick,
            lines: 5 * tick,
            max: 1_000_000,
            open_line: 999_999 * (tick % 2),
            held: Some(999_999 * (tick % 2)),
            ..stream(2, "api-3")
        };
        logs(
            [short, megabytes],
            [Reader { disk_free: Some(100 << 30), ..reader(400 * MIB + tick % 7 * MIB) }],
        )
    });
    assert_eq!(worst(&findings), None);
}

#[test]
fn long_lines_that_end_are_not_above_info() {
    // Each of 6 MB, hoarded until it ends.
    let findings = run(30, |tick| {
        let bytes = 4_000_000 * tick;
        let (lines, open) = (bytes / 6_000_000, bytes % 6_000_000);
        let stream =
            Stream { bytes, lines, max: 6_000_000, open_line: open, held: Some(open), ..stream(1, "web-7") };
        logs([stream], [reader(400 * MIB + open)])
    });
    assert!(worst(&findings).is_none_or(|(severity, _)| severity == Severity::Info), "{findings:?}");
}

#[test]
fn a_daemon_that_grows_for_another_reason_is_not_blamed_on_logs() {
    let findings = run(30, |tick| {
        let stream = Stream {
            bytes: 9 * MIB * tick,
            lines: tick,
            open_line: 70_000,
            held: Some(70_000),
            ..stream(1, "web-7")
        };
        logs([stream], [reader(400 * MIB + 80 * MIB * tick)])
    });
    assert_eq!(worst(&findings), None);
    // Nor where a giant line is passed on beside it.
    let findings = run(30, |tick| {
        logs([endless(1, "web-7", 50 * MIB * tick, 4096)], [reader(400 * MIB + 80 * MIB * tick)])
    });
    assert_eq!(worst(&findings).map(|(severity, _)| severity), Some(Severity::Info));
}

#[test]
fn an_ended_line_is_told_as_over_and_then_no_more() {
    let findings = run(80, |tick| {
        let written = 50 * MIB * tick.min(8);
        let stream = match tick {
            0..10 => endless(1, "web-7", written, written),
            _ => Stream { bytes: written + 1, lines: 1, max: written, ..stream(1, "web-7") },
        };
        let held = stream.held.unwrap_or(0);
        logs([stream], [reader(400 * MIB + held)])
    });
    assert_eq!(kinds(&findings[9]), [(LINE, Severity::Critical)]);
    assert_eq!(kinds(&findings[12]), [(LINE, Severity::Info)]);
    assert!(findings[12][0].summary.ends_with("that is over"), "{}", findings[12][0].summary);
    assert_eq!(kinds(&last(findings)), []);
}

#[test]
fn another_reader_begins_anew() {
    // containerd is restarted at second 8: the new one holds nothing of what the old one took.
    let findings = last(run(16, |tick| {
        let written = 50 * MIB * tick;
        let mut stream = endless(1, "web-7", written, written);
        if tick < 8 {
            return logs([stream], [reader(400 * MIB + written)]);
        }
        stream.hops[1].process = process(999, "containerd");
        stream.held = Some(4096);
        logs([stream], [Reader { process: process(999, "containerd"), ..reader(60 * MIB) }])
    }));
    assert_eq!(kinds(&findings).first().map(|(_, severity)| *severity), Some(Severity::Info));
    assert_eq!(findings[0].daemon, Some(process(999, "containerd")));
}

#[test]
fn a_container_s_own_conmon_is_no_daemon_and_its_memory_is_told() {
    let container = endless(1, "web-7", 0, 0).container;
    let mut scope = Container::clone(&container);
    scope.cgroup = Cgroup { id: 77, path: format!("/machine.slice/conmon-{}.scope", scope.id) };
    let own = Memory { current: Some(23 * MIB), ..Memory::default() };
    let rows = [row(Arc::clone(&container), own), row(Arc::new(scope), Memory::default())].map(Arc::new);
    let mut watch = Watch::default();
    let mut found = Vec::new();
    for tick in 0..6 {
        let written = 9 * MIB * tick;
        let conmon = Reader { row: Some(77), ..reader(MIB + written) };
        let logs = logs([endless(1, "web-7", written, written)], [conmon]);
        found = tick_of(&mut watch, tick, Some(&logs), &rows);
    }
    assert_eq!(kinds(&found), [(LINE, Severity::Critical)]);
    assert_eq!(found[0].daemon, None);
    let evidence = evidence(&found[0]);
    assert_eq!(evidence["shims"][0]["pid"], 812);
    assert_eq!(evidence["container_memory"], 23 * MIB);
}

#[test]
fn what_was_not_looked_at_makes_the_line_inferred() {
    let findings = last(run(6, |tick| {
        let written = 50 * MIB * tick;
        let stream = Stream { unscanned: written / 2, ..endless(1, "web-7", written, written) };
        logs([stream], [reader(400 * MIB + written)])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical)]);
    assert_eq!(evidence(&findings[0])["open_line_bytes_how"], "inferred");
    assert_eq!(evidence(&findings[0])["unscanned_bytes"], 125 * MIB);
}

#[test]
fn without_the_probe_nothing_is_found() {
    let mut watch = Watch::default();
    assert!((0..5).all(|second| { tick_of(&mut watch, second, None, &[]).is_empty() }));
}

/// A container that logs so many bytes in so many lines a second, on a disk that has `free` and loses `fall` a second.
fn flood(rate: u64, free: Option<u64>, fall: u64) -> Vec<Findings> {
    run(16, |tick| {
        let stream = Stream {
            bytes: rate * tick,
            lines: 1000 * tick,
            bytes_per_s: (tick > 0).then_some(rate as f64),
            ..stream(1, "web-7")
        };
        logs([stream], [Reader { disk_free: free.map(|free| free - fall * tick), ..reader(400 * MIB) }])
    })
}

#[test]
fn a_flood_that_fills_the_disk_is_found() {
    let gib = 1024 * MIB;
    let findings = last(flood(40 * MIB, Some(10 * gib), 40 * MIB));
    assert_eq!(kinds(&findings), [(Kind::LogFlood, Severity::Critical)]);
    assert_eq!(
        findings[0].summary,
        "shop/web-7/app logs 40.0 MiB/s in 1000 lines/s; the disk that containerd[812] writes it to has 9.4 GiB left \
         and is full in 4m 01s"
    );
    let evidence = evidence(&findings[0]);
    assert_eq!(evidence["bytes_per_s"], 40.0 * MIB as f64);
    assert_eq!(evidence["seconds_to_full_how"], "inferred");
    assert_eq!(evidence["disk_free_growth"], -600 * (MIB as i64));
    assert_eq!(
        kinds(&last(flood(40 * MIB, Some(60 * gib), 40 * MIB))),
        [(Kind::LogFlood, Severity::Warning)]
    );
}

#[test]
fn no_flood_where_the_disk_keeps_up_or_others_fill_it() {
    let gib = 1024 * MIB;
    for (rate, free, fall, why) in [
        (40 * MIB, Some(10 * gib), 0, "rotation removes as much"),
        (40 * MIB, Some(999 * gib), 40 * MIB, "it lasts for hours"),
        (4 * MIB, Some(2 * gib), 4 * MIB, "a busy container"),
        (10 * MIB, Some(10 * gib), 90 * MIB, "somebody else fills it"),
        (30 * MIB, None, 0, "nothing is known of the disk"),
    ] {
        assert_eq!(worst(&flood(rate, free, fall)), None, "{why}");
    }
    assert_eq!(worst(&flood(90 * MIB, None, 0)).map(|(severity, _)| severity), Some(Severity::Info));
}

#[test]
fn what_is_hoarded_does_not_reach_the_disk() {
    let findings = last(run(16, |tick| {
        let written = 50 * MIB * tick;
        let stream = Stream { bytes_per_s: Some(50.0 * MIB as f64), ..endless(1, "web-7", written, written) };
        let free = 1024 * MIB - 30 * MIB * tick;
        logs([stream], [Reader { disk_free: Some(free), ..reader(400 * MIB + written) }])
    }));
    assert_eq!(kinds(&findings), [(LINE, Severity::Critical)]);
}

#[test]
fn a_harmless_giant_line_belongs_to_the_flood_it_is() {
    let findings = last(run(16, |tick| {
        let stream =
            Stream { bytes_per_s: Some(50.0 * MIB as f64), ..endless(1, "web-7", 50 * MIB * tick, 4096) };
        logs([stream], [Reader { disk_free: Some(1024 * MIB - 50 * MIB * tick), ..reader(400 * MIB) }])
    }));
    assert_eq!(kinds(&findings), [(Kind::LogFlood, Severity::Critical)]);
    assert_eq!(findings[0].also, [LINE]);
}
