//! Who charged what through which kernel stack, for the rows that are followed. Time is an argument.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::resolve::{
    Container,
    stack::{Kind, Stack},
};

/// One process and one kernel stack. Sampled: a stack stands for a batch of pages.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    pub pid: u32,
    pub comm: Arc<str>,
    pub stack: Arc<Stack>,
    /// Bytes since the row is followed.
    pub charged: u64,
    /// Stacks that this rests on.
    pub samples: u64,
}

/// Of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowSites {
    pub container: Arc<Container>,
    /// For how long it was, or has been, followed.
    pub watched_s: f64,
    /// Largest first.
    pub sites: Vec<Site>,
}

impl RowSites {
    pub fn charged(&self) -> u64 {
        self.sites.iter().map(|site| site.charged).sum()
    }

    /// (pid, comm, bytes) by process, largest first.
    pub fn processes(&self) -> Vec<(u32, Arc<str>, u64)> {
        let mut by_pid: HashMap<u32, (u32, Arc<str>, u64)> = HashMap::new();
        for site in &self.sites {
            by_pid.entry(site.pid).or_insert_with(|| (site.pid, Arc::clone(&site.comm), 0)).2 += site.charged;
        }
        let mut processes: Vec<_> = by_pid.into_values().collect();
        processes.sort_by_key(|(pid, _, charged)| (std::cmp::Reverse(*charged), *pid));
        processes
    }

    /// (kind, bytes), largest first; kinds that charged nothing are left out.
    pub fn kinds(&self) -> Vec<(Kind, u64)> {
        let of = |kind: Kind| {
            (kind, self.sites.iter().filter(|site| site.stack.kind == kind).map(|site| site.charged).sum())
        };
        let mut kinds: Vec<(Kind, u64)> = Kind::ALL.into_iter().map(of).filter(|(_, sum)| *sum > 0).collect();
        kinds.sort_by_key(|(kind, charged)| (std::cmp::Reverse(*charged), *kind));
        kinds
    }
}

/// What is known of the rows that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteReport {
    /// The hook that serves, and what its numbers are worth.
    pub how: String,
    /// It still counts.
    pub running: bool,
    /// By path.
    pub rows: Vec<RowSites>,
}

/// A row that is followed.
struct Followed {
    container: Arc<Container>,
    since: Duration,
    until: Duration,
}

/// What a site is told apart by: memory cgroup, process, stack.
type Key = (u64, u32, Option<u64>);

/// State of one run of the probe.
#[derive(Default)]
pub struct Sites {
    rows: HashMap<u64, Followed>,
    sites: HashMap<Key, (u64, Site)>,
}

impl Sites {
    /// A row is followed now; called at each tick while it is.
    pub fn follow(&mut self, row: u64, container: &Container, at: Duration) {
        let followed = self.rows.entry(row).or_insert_with(|| Followed {
            container: Arc::new(container.clone()),
            since: at,
            until: at,
        });
        followed.until = at;
        if *followed.container != *container {
            followed.container = Arc::new(container.clone());
        }
    }

    /// The totals of a site, which counts for `row`.
    pub fn charged(&mut self, row: u64, key: Key, site: Site) {
        self.sites.insert(key, (row, site));
    }

    pub fn report(&self, how: String, running: bool) -> SiteReport {
        let mut by_row: HashMap<u64, Vec<Site>> = HashMap::new();
        // A process bears one name: the one of its most sampled site.
        let mut names: HashMap<u32, (u64, Arc<str>)> = HashMap::new();
        for (_, site) in self.sites.values() {
            let name = names.entry(site.pid).or_insert_with(|| (0, Arc::clone(&site.comm)));
            if site.samples > name.0 {
                *name = (site.samples, Arc::clone(&site.comm));
            }
        }
        for (row, site) in self.sites.values() {
            let mut site = site.clone();
            if let Some((_, comm)) = names.get(&site.pid) {
                site.comm = Arc::clone(comm);
            }
            let sites = by_row.entry(*row).or_default();
            // A container's own cgroups may charge through the same stack.
            match sites
                .iter_mut()
                .find(|other| other.pid == site.pid && Arc::ptr_eq(&other.stack, &site.stack))
            {
                Some(other) => {
                    other.charged += site.charged;
                    other.samples += site.samples;
                }
                None => sites.push(site),
            }
        }
        let mut rows: Vec<RowSites> = self
            .rows
            .iter()
            .map(|(id, followed)| {
                let mut sites = by_row.remove(id).unwrap_or_default();
                sites.sort_by(|a, b| {
                    b.charged
                        .cmp(&a.charged)
                        .then(a.pid.cmp(&b.pid))
                        .then(a.stack.frames.cmp(&b.stack.frames))
                });
                RowSites {
                    container: Arc::clone(&followed.container),
                    watched_s: followed.until.saturating_sub(followed.since).as_secs_f64(),
                    sites,
                }
            })
            .collect();
        rows.sort_by(|a, b| a.container.cgroup.path.cmp(&b.container.cgroup.path));
        SiteReport { how, running, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Cgroup, Runtime};

    fn container(id: u64) -> Container {
        Container {
            runtime: Runtime::Cgroup,
            id: format!("/{id}"),
            name: None,
            pod: None,
            namespace: None,
            image: None,
            sandbox: false,
            cgroup: Cgroup { id, path: format!("/{id}") },
        }
    }

    fn site(pid: u32, comm: &str, stack: &Arc<Stack>, charged: u64) -> Site {
        Site { pid, comm: Arc::from(comm), stack: Arc::clone(stack), charged, samples: charged / 128 }
    }

    #[test]
    fn sites_add_up_by_process_and_by_kind() {
        let anon = Arc::new(Stack::new(vec![Arc::from("do_anonymous_page")]));
        let read = Arc::new(Stack::new(vec![Arc::from("filemap_read")]));
        let mut sites = Sites::default();
        let at = Duration::from_secs;
        for second in [1, 4] {
            sites.follow(7, &container(7), at(second));
            sites.follow(8, &container(8), at(second));
        }
        sites.charged(7, (7, 1, Some(1)), site(1, "sh", &anon, 1024));
        // Totals, not differences.
        sites.charged(7, (7, 1, Some(1)), site(1, "sh", &anon, 4096));
        sites.charged(7, (70, 1, Some(1)), site(1, "app", &anon, 8192));
        sites.charged(7, (7, 2, Some(2)), site(2, "cat", &read, 2048));
        sites.charged(8, (8, 3, None), site(3, "cat", &Arc::new(Stack::unknown()), 512));
        let report = sites.report("hook".to_owned(), true);
        let [seven, eight] = &report.rows[..] else { panic!("two rows: {report:?}") };
        assert_eq!((seven.watched_s, seven.charged(), seven.sites.len()), (3.0, 14336, 2));
        assert_eq!(seven.processes(), [(1, Arc::from("app"), 12288), (2, Arc::from("cat"), 2048)]);
        assert_eq!(seven.kinds(), [(Kind::AnonFault, 12288), (Kind::FileRead, 2048)]);
        assert_eq!(eight.kinds(), [(Kind::Other, 512)]);
    }
}
