//! What of a fall of the host's memory is in no container and no unit: how much, through what, and what to do about it.

use super::{
    growth::{self, Grower},
    host::{Host, KINDS},
    named,
};
use crate::quantity::bytes;

/// What grows in no row: a process outside every container and unit, or the kernel.
pub(super) struct Outside {
    pub rate: f64,
    /// At least half of the fall.
    pub is_most: bool,
    what: Option<What>,
    pub process: Option<Grower>,
}

/// Where most of that goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    /// One of `KINDS`.
    Kind(&'static str),
    /// Into nothing that the kernel counts by kind.
    Uncounted,
}

impl Outside {
    pub fn of(fall: Option<f64>, attributed: f64, course: &Host) -> Option<Outside> {
        let fall = fall?;
        let rate = Some(fall - attributed).filter(|rate| *rate > 0.0)?;
        let kinds = course.by_kind();
        let known = kinds.iter().filter_map(|(kind, rate)| Some((*kind, (*rate)?)));
        let most = known.clone().max_by(|a, b| a.1.total_cmp(&b.1));
        let counted: f64 = known.clone().map(|(_, rate)| rate.max(0.0)).sum();
        let what = match most {
            Some((kind, most)) if most >= rate / 2.0 => Some(What::Kind(kind)),
            _ if known.count() == KINDS.len() && counted < rate / 4.0 => Some(What::Uncounted),
            _ => None,
        };
        let grows = |top: &Grower| top.bytes_per_s.is_some_and(|grows| grows >= rate / 2.0);
        Some(Outside { rate, is_most: rate >= fall / 2.0, what, process: course.top_process().filter(grows) })
    }

    pub fn says(&self) -> String {
        let what = match self.what {
            Some(What::Kind(kind)) => format!(": {}", words(kind)),
            Some(What::Uncounted) => {
                ": pages that the kernel counts under no kind, as those of a driver or of a balloon"
                    .to_owned()
            }
            None => String::new(),
        };
        let process = self.process.as_ref().map(|top| format!(", in {}", named(&top.process)));
        format!(
            "; {}/s of that is in no container and no unit{what}{}",
            bytes(self.rate),
            process.unwrap_or_default()
        )
    }

    pub fn advice(&self) -> Vec<String> {
        let lines: &[&str] = match self.what {
            Some(What::Kind("anon")) if let Some(top) = &self.process => {
                return vec![
                    "No limit holds this process. Stop it, or start it as a unit that has one (systemd-run -p \
                     MemoryMax=)."
                        .to_owned(),
                    format!("$ kill {}", top.process.pid),
                ];
            }
            Some(What::Kind("anon")) => {
                &["Look for the process that grows.", "$ ps -eo pid,rss,comm,cgroup --sort=-rss | head"]
            }
            Some(What::Kind("shmem")) => &[
                "Look for files on a tmpfs and for shared memory that nobody removes: their pages belong to no container \
                 where who wrote them was in none, or is gone.",
                "$ df -t tmpfs",
                "$ ipcs -m",
            ],
            Some(What::Kind("slab")) => &["See which kernel objects grow.", "$ slabtop -o"],
            Some(What::Kind("percpu")) => &[
                "Removed cgroups, network namespaces and BPF maps take memory for each processor: look for whoever makes them \
                 again and again.",
                "$ memtrace cgroups",
            ],
            Some(What::Kind("vmalloc")) => &[
                "See which kernel function takes it.",
                "$ awk '{ sum[$3] += $2 } END { for (f in sum) print sum[f], f }' /proc/vmallocinfo | sort -rn | head",
            ],
            Some(What::Kind("page_tables")) => &[
                "See whose page tables are the largest: whoever maps much memory many times.",
                "$ grep -H VmPTE /proc/[0-9]*/status | sort -k 2 -rn | head",
            ],
            Some(What::Kind("kernel_stack")) => &[
                "Each thread takes a stack: see who has the most.",
                "$ ps -eo nlwp,pid,comm --sort=-nlwp | head",
            ],
            Some(What::Kind("hugetlb")) => &[
                "Huge pages are set aside, used or not. See who raises their number, and give back what is not needed (sysctl \
                 vm.nr_hugepages).",
                "$ grep . /sys/kernel/mm/hugepages/*/*_hugepages",
            ],
            Some(What::Uncounted) => &[
                "In a virtual machine ask whoever runs it whether its balloon takes the memory away; else look at drivers \
                 that keep pages of their own: graphics, RDMA, ZFS.",
                "$ grep -E 'balloon|zfs' /proc/modules",
            ],
            Some(What::Kind(_)) | None => {
                &["See which kind of memory grows.", "$ slabtop -o", "$ cat /proc/meminfo"]
            }
        };
        lines.iter().map(|line| (*line).to_owned()).collect()
    }
}

/// One of `KINDS` in words.
fn words(kind: &'static str) -> &'static str {
    match kind {
        "percpu" => "the kernel's memory for each processor (percpu)",
        "vmalloc" => "memory that the kernel maps for itself (vmalloc)",
        "page_tables" => "page tables",
        "kernel_stack" => "kernel stacks of threads",
        "hugetlb" => "huge pages that are set aside",
        other => growth::words(other),
    }
}
