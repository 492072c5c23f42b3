//! Manual pages: names, synopsis and options from the command line's definitions, keys and marks from the screen's
//! own tables, the rest is here.

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::NAME;
use crate::view::{severity, tui::input};

/// A heading, and what stands below it: paragraphs, or words with what they mean.
struct Section {
    title: &'static str,
    text: &'static [&'static str],
    entries: Vec<(&'static str, &'static str)>,
}

/// No hyphens and no stretched blanks: both hurt options and examples.
const PLAIN: &str = ".nh\n.ad l\n";

/// On every page, in this order, after what is the page's own.
fn common() -> Vec<Section> {
    vec![
        Section {
            title: "EXIT STATUS",
            text: &[],
            entries: vec![
                (
                    "0",
                    "Done. Also after SIGINT, SIGTERM or SIGHUP: the last interval is shown and every probe detached.",
                ),
                ("1", "Failed at run time."),
                ("2", "Wrong usage."),
                (
                    "3",
                    "Not permitted, or the kernel lacks what is needed; one line says which capability or option, and what to do.",
                ),
            ],
        },
        Section {
            title: "ENVIRONMENT",
            text: &[],
            entries: vec![
                ("NO_COLOR", "Set to anything, it turns colours off. Nothing is told by colour alone."),
                (
                    "LC_ALL, LC_CTYPE, LANG",
                    "The first that is set decides: a locale without UTF-8 has the effect of --ascii.",
                ),
            ],
        },
        Section {
            title: "FILES",
            text: &[
                "There is no configuration, and nothing is written but the output. Names are read from disk, never \
                     from a daemon's socket.",
            ],
            entries: vec![
                ("/sys/fs/cgroup", "Sizes, limits, tasks and kills of each memory cgroup."),
                ("/proc/meminfo, /proc/cgroups", "The host's memory, and its removed cgroups."),
                (
                    "/sys/kernel/btf/vmlinux, /sys/kernel/tracing",
                    "What this kernel is made of, and its hooks.",
                ),
                (
                    "/run/containerd, /var/lib/docker, /var/lib/containers, /run/containers, /var/log/pods",
                    "What runtimes write about their containers: names, pods, images.",
                ),
                ("/proc/PID", "Where a container's process or its shim leads to what its runtime wrote."),
            ],
        },
    ]
}

/// What a command's page has beside its options.
fn own(command: &str) -> Vec<Section> {
    match command {
        NAME => vec![Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace top", "Which container's memory grows, live."),
                ("sudo memtrace lines", "How long each container's log lines are, and who reads them."),
                ("sudo memtrace dirty", "Who makes page cache dirty, and of which file."),
                ("sudo memtrace diagnose", "What is wrong, who causes it, and what to do."),
                (
                    "sudo memtrace doctor",
                    "What this kernel allows, and what is lost where a hook is missing.",
                ),
            ],
        }],
        "top" => top(),
        "lines" => lines(),
        "dirty" => dirty(),
        "cgroups" => cgroups(),
        "stuck" => stuck(),
        "syscalls" => syscalls(),
        "diagnose" => diagnose(),
        "doctor" => vec![Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace doctor", "For a person."),
                ("sudo memtrace doctor --json", "To go with a bug report."),
            ],
        }],
        _ => Vec::new(),
    }
}

fn diagnose() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "While it watches, one line for each finding above info as soon as it is sure. At the end all findings, worst \
                 first: who, by which mechanism, with the numbers and how each is known, what would refute it, and what \
                 to do; or that nothing is wrong, and what could not be seen. With --json one object at the end.",
                "SIGINT, SIGTERM and SIGHUP end it early, with the report so far.",
            ],
            entries: vec![],
        },
        Section {
            title: "SEVERITIES",
            text: &[],
            entries: vec![
                ("critical", "Is trouble now."),
                ("warning", "Will be trouble if it goes on."),
                ("info", "Worth knowing; nothing is wrong."),
            ],
        },
        Section {
            title: "FINDINGS",
            text: &[],
            entries: vec![
                (
                    "unterminated-line",
                    "A container writes without a newline, and whoever reads its log holds what was written.",
                ),
                (
                    "request-pileup",
                    "More requests come than end, and each holds memory until then: which children they wait for.",
                ),
                ("cpu-throttled-backlog", "A CPU quota makes work wait, and there is ever more of it."),
                (
                    "unkillable-task",
                    "A task has SIGKILL pending and sleeps where no signal is looked at; who tries again.",
                ),
                (
                    "daemon-leak",
                    "A daemon that serves containers opens descriptors or threads and closes none.",
                ),
                ("blocked-io", "Tasks sleep uninterruptibly for long: what they wait on."),
                ("log-flood", "A container logs so much that the disk of the log files is soon full."),
            ],
        },
        Section {
            title: "EXIT STATUS OF --exit-code",
            text: &[],
            entries: vec![("10", "A finding is critical.")],
        },
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace diagnose", "Watch for 15 seconds and report."),
                ("sudo memtrace diagnose -d 60 -c 'shop/*'", "A minute, the containers of one namespace."),
                (
                    "sudo memtrace diagnose --json | jq -r '.findings[] | .severity + \": \" + .summary'",
                    "One line a finding, for a script.",
                ),
                (
                    "sudo memtrace diagnose --exit-code >report.txt || mail -s memtrace root <report.txt",
                    "Alarm when a finding is critical.",
                ),
            ],
        },
    ]
}

fn top() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "On a terminal a full screen; into a pipe plain rows, an interval each; with --json one object an \
                 interval.",
                "A row is a container, a pod, a systemd unit, a slice or another cgroup. Rows are disjoint: each holds \
                 what no row within it holds, so that they add up. What the host uses outside every row is \
                 `unattributed'.",
            ],
            entries: vec![],
        },
        Section { title: "KEYS", text: &[], entries: input::HELP.to_vec() },
        Section { title: "MARKS", text: &["Before a name, worst first:"], entries: severity::RULES.to_vec() },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace top", "All rows, fastest-growing first."),
                (
                    "sudo memtrace top -c 'shop-*' --sort current -n 10",
                    "The ten greatest of some containers.",
                ),
                (
                    "sudo memtrace top -i 5 -d 60 | tee rows.txt",
                    "Plain rows, each five seconds, for a minute.",
                ),
                (
                    "sudo memtrace top --json -d 2 | jq -c '.containers[] | [.container.name, .memory.current]'",
                    "One interval, for a script.",
                ),
                ("sudo memtrace top --charges=10", "Count charges for ten seconds, whatever that costs."),
            ],
        },
    ]
}

fn units() -> Section {
    Section {
        title: "UNITS",
        text: &[
            "On the screen and in plain rows 1 KiB is 1024 bytes; where there is little room it is written 1.0K. In JSON \
             sizes are bytes, times seconds, rates per second.",
        ],
        entries: vec![
            ("-", "Not known here; null in JSON. It never stands for 0."),
            ("~", "Inferred or sampled, not simply measured."),
            (">=", "At least."),
        ],
    }
}

fn lines() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "On a terminal as into a pipe a block an interval: one line a stream that a container writes log lines \
                 to, with what needs a person first. On a terminal as many columns as fit; with --json one object an \
                 interval.",
                "A stream is what a container's init has as descriptor 1 (stdout) or 2 (stderr), its terminal (tty), or \
                 another that is read outside the container, such as an exec session's (other). Counts, percentiles and \
                 MAX are since attach, rates of the last interval. OPEN LINE is what was written since the last newline, \
                 HELD what the reader has taken and not written on. No text of the lines leaves the kernel.",
            ],
            entries: vec![],
        },
        Section {
            title: "MARKS",
            text: &["Before what is said of a stream, worst first:"],
            entries: severity::STREAM_RULES.to_vec(),
        },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace lines", "All streams: a line without an end first, then the busiest."),
                (
                    "sudo memtrace lines -c 'shop/*' --histogram -i 10",
                    "How long the lines of a namespace are, drawn, each ten seconds.",
                ),
                (
                    "sudo memtrace lines --flow -d 5",
                    "Where the lines go, what their readers hold, and how those grow.",
                ),
                (
                    "sudo memtrace lines --json -d 10 | jq '.streams[] | select(.open_line_bytes > 1048576)'",
                    "Streams whose line is over 1 MiB, for a script.",
                ),
            ],
        },
    ]
}

fn dirty() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "A block an interval: one line a row of which anything is or became dirty, below it the processes that did \
                 so and the files; with --json one object an interval, with every row.",
                "A page counts when it becomes dirty that was clean before, for the container that it is charged to and \
                 the process that made it so. DIRTY and WRITEBACK are what is outstanding now; THROTTLED is the time that \
                 tasks were made to sleep for it. tmpfs and direct writes make nothing dirty. WRITTEN is inferred (~) where only \
                 statistics of pages can be hooked, unless --written is given. What a process had written \
                 before attach comes from its own counters, direct writes included.",
                "A path is as the container sees it, also of a file that is deleted meanwhile; of one that nobody has open \
                 any more only device and inode are known. A file behind a loop device is dirtied once more by what is \
                 written to the file system on it.",
            ],
            entries: vec![],
        },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace dirty", "What becomes dirty, the busiest first."),
                (
                    "sudo memtrace dirty -c 'shop/*' --sort dirty",
                    "The containers of a namespace, with the most outstanding first.",
                ),
                (
                    "sudo memtrace dirty --json -d 10 | jq -c '.containers[] | [.container.name, .files[:3]]'",
                    "The files of each container, for a script.",
                ),
            ],
        },
    ]
}

fn cgroups() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "A removed memory cgroup stays in the kernel while a page of it is left: page cache, files on tmpfs, what was \
                 swapped out. No directory tells of it any more. Each is found in the kernel's own lists, also those that \
                 died before memtrace came. PINNED is without kernel memory, which the cgroup around a dead one inherits.",
                "ORIGIN is the name that a container had while it was seen alive; else what is left of its path, with \
                 numbers and ids as *. -c takes a pattern of that. OLDEST is since the first of them died.",
            ],
            entries: vec![],
        },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace cgroups -d 2", "What the dead hold now."),
                (
                    "sudo memtrace cgroups --json -d 60 -i 10 | jq '.makers'",
                    "Which living cgroups the dead are made in, for a script.",
                ),
            ],
        },
    ]
}

fn stuck() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "Each task that has slept uninterruptibly (D) for the threshold, the longest first: since when, on what, in which \
                 system call, its kernel stack. ~ marks a time of a task that slept before memtrace came, taken from when it last \
                 had a processor; >= one of which only a lower bound is known. A task that waits for a FUSE server is in S until \
                 a fatal signal comes.",
                "Then for each container its sleeps that ended: how many, how long in all, and for a device.",
            ],
            entries: vec![],
        },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace stuck -d 2", "What is stuck now."),
                (
                    "sudo memtrace stuck --threshold 1 --json | jq '.tasks[].waits_on'",
                    "On what, for a script.",
                ),
            ],
        },
    ]
}

fn syscalls() -> Vec<Section> {
    vec![
        Section {
            title: "OUTPUT",
            text: &[
                "For each container a line with sums, then its calls. TIME is the time that tasks were in a call, waiting \
                 included; TIME/s says how many were in it on average. ERRORS is followed, after the name, by what they were. \
                 A call counts when it returns: exit(2) and exit_group(2) never do, and one that was under way when memtrace \
                 came is not counted. One that the kernel starts again after a signal counts twice, as strace(1) has it.",
                "Calls of 32-bit programs bear i386: before their name, those of x32 programs x32:, and are counted apart.",
                "Every system call of the chosen containers costs, so choose: calls of others pay for the look at their cgroup.",
            ],
            entries: vec![],
        },
        units(),
        Section {
            title: "EXAMPLES",
            text: &[],
            entries: vec![
                ("sudo memtrace syscalls -c 'shop-*'", "Which calls take the time of these containers."),
                ("sudo memtrace syscalls --sort errors -d 10 -n 5", "Whose calls fail most."),
                (
                    "sudo memtrace syscalls -c web --json | jq '.containers[].calls[] | {name, p50_us, p99_us}'",
                    "Percentiles, for a script.",
                ),
            ],
        },
    ]
}

/// A page for the tool and one for each command: the file's name and its text.
pub fn pages(command: &Command) -> Vec<(String, Vec<u8>)> {
    let mut whole = command.clone().disable_help_subcommand(true);
    whole.build();
    let commands: Vec<&Command> = whole.get_subcommands().collect();
    let titles: Vec<String> =
        commands.iter().map(|command| format!("{NAME}-{}", command.get_name())).collect();
    let mut pages = vec![(format!("{NAME}.1"), page(&whole, NAME, &titles))];
    for (command, title) in commands.into_iter().zip(&titles) {
        let others: Vec<String> = std::iter::once(NAME.to_owned())
            .chain(titles.iter().filter(|other| *other != title).cloned())
            .collect();
        pages.push((format!("{title}.1"), page(command, title, &others)));
    }
    pages
}

fn page(command: &Command, title: &str, others: &[String]) -> Vec<u8> {
    let man = Man::new(command.clone())
        .title(title)
        .section("1")
        // Not empty: an empty argument would be left out, and those after it move up.
        .date(" ")
        .source(concat!("memtrace ", env!("CARGO_PKG_VERSION")))
        .manual("Memory of containers");
    let mut text = Vec::new();
    // A buffer in memory takes whatever is written.
    let written = man
        .render_title(&mut text)
        .map(|()| text.extend(PLAIN.bytes()))
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut text),
            false => Ok(()),
        })
        .and_then(|()| man.render_options_section(&mut text));
    debug_assert!(written.is_ok(), "{written:?}");
    let mut roff = Roff::new();
    for section in own(command.get_name()).into_iter().chain(common()) {
        section.write(&mut roff);
    }
    roff.control("SH", ["SEE ALSO"]);
    let pages = others.iter().map(|other| format!("{other}(1)")).chain(["cgroups(7)".to_owned()]);
    roff.text([roman(pages.collect::<Vec<_>>().join(", "))]);
    text.extend(roff.render().into_bytes());
    text
}

impl Section {
    fn write(self, roff: &mut Roff) {
        roff.control("SH", [self.title]);
        for (index, paragraph) in self.text.iter().enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(*paragraph)]);
        }
        for (head, what) in self.entries {
            roff.control("TP", []);
            roff.text([bold(head)]);
            roff.text([roman(what)]);
        }
    }
}
