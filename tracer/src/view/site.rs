//! Charges by process and kernel site: as JSON, as plain text, and as folded stacks for flame graphs.

use serde::Serialize;

use crate::{
    aggregator::{
        row::How,
        site::{RowSites, Site, SiteReport},
    },
    resolve::{Container, stack::Kind},
    view::{
        label,
        text::{self, Charset},
        unit,
    },
};

/// Stacks of one container that an interval of JSON lists; the folded file has all.
const STACKS: usize = 50;
/// Lines of plain text about one container.
const LINES: usize = 10;
/// Functions of a site that fit a line.
const FRAMES: usize = 5;

#[derive(Serialize)]
pub struct Json<'a> {
    how: &'a str,
    running: bool,
    containers: Vec<ContainerJson<'a>>,
}

#[derive(Serialize)]
struct ContainerJson<'a> {
    container: &'a Container,
    watched_s: f64,
    charged: u64,
    charged_how: How,
    samples: u64,
    processes: Vec<ProcessJson<'a>>,
    kinds: Vec<KindJson>,
    stacks: Vec<StackJson<'a>>,
    stacks_left_out: usize,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    comm: std::borrow::Cow<'a, str>,
    charged: u64,
    charged_how: How,
}

#[derive(Serialize)]
struct KindJson {
    kind: Kind,
    charged: u64,
    charged_how: How,
}

#[derive(Serialize)]
struct StackJson<'a> {
    pid: u32,
    comm: &'a str,
    kind: Kind,
    charged: u64,
    charged_how: How,
    samples: u64,
    /// The charge first.
    stack: Vec<&'a str>,
}

/// For `top --json`.
pub fn json(report: &SiteReport) -> Json<'_> {
    let containers = report.rows.iter().map(container_json);
    Json { how: &report.how, running: report.running, containers: containers.collect() }
}

fn container_json(row: &RowSites) -> ContainerJson<'_> {
    let charged_how = How::Sampled;
    let processes = row.processes().into_iter().map(|(pid, comm, charged)| ProcessJson {
        pid,
        comm: comm.to_string().into(),
        charged,
        charged_how,
    });
    let kinds = row.kinds().into_iter().map(|(kind, charged)| KindJson { kind, charged, charged_how });
    let stacks = row.sites.iter().take(STACKS).map(|site| StackJson {
        pid: site.pid,
        comm: &site.comm,
        kind: site.stack.kind,
        charged: site.charged,
        charged_how,
        samples: site.samples,
        stack: site.stack.frames.iter().map(AsRef::as_ref).collect(),
    });
    ContainerJson {
        container: &row.container,
        watched_s: row.watched_s,
        charged: row.charged(),
        charged_how,
        samples: row.sites.iter().map(|site| site.samples).sum(),
        processes: processes.collect(),
        kinds: kinds.collect(),
        stacks: stacks.collect(),
        stacks_left_out: row.sites.len().saturating_sub(STACKS),
    }
}

/// Functions between the hook and what was going on: charges of many kinds go through them.
const MACHINERY: &[&str] = &[
    "page_counter_",
    "try_charge",
    "charge_memcg",
    "mem_cgroup_charge",
    "obj_cgroup_charge",
    "memcg_kmem_charge",
    "mod_memcg_",
    "mod_lruvec_",
    "mod_node_",
    "lruvec_stat_",
    "folio_mod_stat",
    "folio_add_new_",
    "filemap_add_folio",
    "filemap_get_folio",
    "folio_alloc",
    "alloc_pages",
    "alloc_frozen_pages",
    "mod_objcg_",
    "memcg_slab_",
    "slab_pre_alloc_hook",
    "kmem_cache_alloc",
    "kmalloc",
    "kvmalloc",
];

fn is_machinery(frame: &str) -> bool {
    let bare = frame.trim_start_matches('_');
    MACHINERY.iter().any(|start| bare.starts_with(start))
}

/// The functions that tell most, the charge first, as many as fit: `do_anonymous_page < handle_mm_fault < ...`.
pub fn place(site: &Site, columns: usize, charset: Charset) -> String {
    let mut frames = site.stack.frames.iter().skip_while(|frame| is_machinery(frame)).take(FRAMES);
    let Some(first) = frames.next() else { return "unknown".to_owned() };
    let mut place = text::fit(first, columns, charset);
    for frame in frames {
        let more = format!("{place} < {}", text::clean(frame, charset));
        if text::width(&more) > columns {
            break;
        }
        place = more;
    }
    place
}

/// `anonymous fault 94 %, page tables 4 %`.
pub fn kinds(row: &RowSites) -> String {
    let all = row.charged();
    let kinds = row.kinds();
    let words = kinds.iter().map(|(kind, charged)| format!("{} {}", kind.title(), share(*charged, all)));
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing charged yet".to_owned() } else { words.join(", ") }
}

/// A part of what was charged.
pub fn share(part: u64, all: u64) -> String {
    let share = (all > 0).then(|| part as f64 / all as f64);
    unit::format(crate::metric::Unit::Share, share)
}

/// A sampled size.
pub fn size(bytes: u64) -> String {
    unit::format_marked(crate::metric::Unit::Bytes, Some(bytes as f64), Some(How::Sampled))
}

/// Who charged, cleaned.
pub fn process(comm: &str, pid: u32, charset: Charset) -> String {
    format!("{} [{pid}]", text::clean(comm, charset))
}

/// Plain text below the table of an interval.
pub fn plain(report: &SiteReport) -> String {
    let charset = Charset::Unicode;
    let state = if report.running { "" } else { " (ended)" };
    let mut out = format!("sites{state}: {}\n", text::clean(&report.how, charset));
    for row in &report.rows {
        let name = label::label(&row.container);
        out.push_str(&format!(
            "{} charged {} in {:.1} s: {}\n",
            text::clean(&name, charset),
            size(row.charged()),
            row.watched_s,
            kinds(row)
        ));
        if row.sites.is_empty() {
            continue;
        }
        out.push_str(&format!("{:>9} {:>6}  {:16} {:24} SITE\n", "CHARGED", "SHARE", "KIND", "PROCESS"));
        for site in row.sites.iter().take(LINES) {
            out.push_str(&format!(
                "{:>9} {:>6}  {:16} {} {}\n",
                size(site.charged),
                share(site.charged, row.charged()),
                site.stack.kind.title(),
                text::left(&process(&site.comm, site.pid, charset), 24, charset),
                place(site, usize::MAX, charset),
            ));
        }
        if row.sites.len() > LINES {
            out.push_str(&format!("and {} more stacks\n", row.sites.len() - LINES));
        }
    }
    out.push('\n');
    out
}

/// `container;process [pid];outermost;...;innermost bytes`, one line a stack, as flame graph tools read them.
pub fn folded(report: &SiteReport) -> String {
    let frame = |text: &str| text::clean(text, Charset::Unicode).replace(';', ":");
    let mut out = String::new();
    for row in &report.rows {
        let name = frame(&label::label(&row.container));
        for site in &row.sites {
            out.push_str(&format!("{name};{}", frame(&process(&site.comm, site.pid, Charset::Unicode))));
            if site.stack.frames.is_empty() {
                out.push_str(";[unknown]");
            }
            for function in site.stack.frames.iter().rev() {
                out.push(';');
                out.push_str(&frame(function));
            }
            out.push_str(&format!(" {}\n", site.charged));
        }
    }
    out
}

/// For `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "\n# Sites of charges\n\n\
         `memtrace top -c PATTERN --sites --json` adds `sites` to each interval, else `null`: `how` (the hook, and what its \
         numbers are worth), `running` (false when the time was up) and `containers`, one for each row that was followed:\n\n\
         | JSON | unit | what it is |\n|---|---|---|\n\
         | `container` | | as in `containers` |\n\
         | `watched_s` | seconds | since when it is, or for how long it was, followed |\n\
         | `charged` | bytes | charged to it meanwhile, whatever was uncharged again; sampled: a stack stands for each batch \
         of 32 or 64 pages of a CPU |\n\
         | `samples` | count | kernel stacks that this rests on |\n\
         | `processes` | | `pid` (thread group), `comm` (of the group leader) and `charged`: who ran when it was charged, largest \
         first. Usually the one it was charged for; a kernel thread where the kernel worked for it |\n\
         | `kinds` | | `kind` and `charged`, largest first |\n\
         | `stacks` | | `pid`, `comm`, `kind`, `charged`, `samples` and `stack` (functions, the charge first), the 50 largest |\n\
         | `stacks_left_out` | count | stacks beyond those; `--folded FILE` has all |\n\n\
         It is gross: a CPU that turns to another cgroup gives the rest of its batch back and charges a whole one when it returns. \
         Kinds or processes that take turns page by page may fall into step with the batch: then one is told for the other.\n\n\
         The kind is decided by the first function, from the charge outwards, that tells it (`tracer/src/resolve/stack.rs`, \
         names of 5.10 to 7.2): ",
    );
    let kinds = Kind::ALL
        .map(|kind| format!("{} ({})", serde_json::json!(kind).as_str().unwrap_or("?"), kind.title()));
    page.push_str(&kinds.join(", "));
    page.push_str(".\n");
    page
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::view::example;

    #[test]
    fn golden() {
        let report = example::sites();
        example::golden("top_sites", &plain(&report));
        example::golden("top_sites_json", &serde_json::to_string_pretty(&json(&report)).unwrap());
        example::golden("top_sites_folded", &folded(&report));
    }

    #[test]
    fn a_hostile_name_breaks_no_line() {
        let mut report = example::sites();
        let row = &mut report.rows[0];
        row.container =
            Arc::new(Container { name: Some("a;b\n\x1b[2Jc".into()), ..(*row.container).clone() });
        row.sites[0].comm = Arc::from("x; y\n9");
        let lines = folded(&report);
        assert_eq!(lines.lines().count(), report.rows.iter().map(|row| row.sites.len()).sum::<usize>());
        let first = lines.lines().next().unwrap();
        let (stack, bytes) = first.rsplit_once(' ').unwrap();
        assert_eq!(bytes.parse::<u64>().unwrap(), report.rows[0].sites[0].charged);
        assert_eq!(stack.split(';').count(), 2 + report.rows[0].sites[0].stack.frames.len());
        assert!(!plain(&report).chars().any(|c| c != '\n' && text::is_hostile(c)));
    }
}
