//! The line that names the cgroups of a kill:
//! `oom-kill:constraint=...,cpuset=NAME,mems_allowed=0,oom_memcg=PATH,task_memcg=PATH,task=COMM,pid=N,uid=N`.
//!
//! Names and paths may hold commas and anything that looks like a field: the line is read from its ends, and of several
//! readings the one that can be true is taken.

/// What the line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraint {
    /// The cgroup at its limit.
    pub limit: Option<String>,
    /// The victim's.
    pub victim: Option<String>,
    /// No cgroup was at its limit: the host.
    pub global: bool,
}

const LIMIT: &str = ",oom_memcg=/";
const GLOBAL: &str = ",global_oom,task_memcg=/";
const VICTIM: &str = ",task_memcg=";

/// The number of the task that is about to be killed.
pub fn pid(line: &str) -> Option<u32> {
    let (head, uid) = line.rsplit_once(",uid=")?;
    uid.parse::<u32>().ok()?;
    head.rsplit_once(",pid=")?.1.parse().ok()
}

/// Of a whole line; the victim's name is known from the line after it.
pub fn constraint(line: &str, comm: &str) -> Option<Constraint> {
    let pid = pid(line)?;
    let head = line.rsplit_once(&format!(",pid={pid},uid="))?.0;
    let paths = head.strip_suffix(comm)?.strip_suffix(",task=")?;
    // A cpuset's name stands before these, and holds no slash.
    let (limit, global) = (paths.find(LIMIT), paths.find(GLOBAL));
    match (limit, global) {
        (Some(at), global) if global.is_none_or(|global| at < global) => {
            let paths = &paths[at + LIMIT.len() - 1..];
            let (limit, victim) = paths.match_indices(VICTIM).find_map(|(at, _)| {
                let (limit, victim) = (&paths[..at], &paths[at + VICTIM.len()..]);
                is_within(victim, limit).then_some((limit, victim))
            })?;
            Some(Constraint { limit: Some(limit.to_owned()), victim: Some(victim.to_owned()), global: false })
        }
        (_, Some(at)) => {
            let victim = paths[at + GLOBAL.len() - 1..].to_owned();
            Some(Constraint { limit: None, victim: Some(victim), global: true })
        }
        _ => None,
    }
}

/// Killed is who is in the cgroup at its limit, or below it.
pub fn is_within(path: &str, of: &str) -> bool {
    of == "/" || path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(limit: &str, victim: &str, comm: &str) -> String {
        format!(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={limit},\
             task_memcg={victim},task={comm},pid=129,uid=0"
        )
    }

    #[test]
    fn names_both_cgroups() {
        let found = constraint(&line("/job", "/job/step", "eat"), "eat").expect("a line");
        assert_eq!((found.limit.as_deref(), found.victim.as_deref()), (Some("/job"), Some("/job/step")));
        let global = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
                      task_memcg=/a/b,task=live-ed05a97300,pid=9010,uid=0";
        let found = constraint(global, "live-ed05a97300").expect("a line");
        assert_eq!((found.limit, found.victim.as_deref(), found.global), (None, Some("/a/b"), true));
        assert_eq!(pid(global), Some(9010));
    }

    #[test]
    fn names_that_look_like_fields_move_nothing() {
        let hostile = line("/job", "/job/x,task_memcg=/victim,task=a", "y,pid=1,uid=0");
        let found = constraint(&hostile, "y,pid=1,uid=0").expect("a line");
        assert_eq!(pid(&hostile), Some(129));
        assert_eq!(found.limit.as_deref(), Some("/job"));
        assert_eq!(found.victim.as_deref(), Some("/job/x,task_memcg=/victim,task=a"));
        let cpuset = hostile.replace("cpuset=/", "cpuset=c,global_oom,task_memcg=c,oom_memcg=c");
        assert_eq!(constraint(&cpuset, "y,pid=1,uid=0"), Some(found));
        assert_eq!(constraint(&hostile, "other"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_no_panic(line in "(,oom_memcg=/|,task_memcg=|,global_oom|,task=|,pid=|,uid=|1|/|\\PC|\n){0,40}", comm in "\\PC{0,4}") {
            let _ = constraint(&line, &comm);
        }

        #[test]
        fn any_names_are_kept(limit in "/[a-z,=_/]{0,20}", below in "(/[a-z,=_]{1,20}){0,2}", comm in "[a-z,=_0-9]{0,15}") {
            let victim = format!("{limit}{below}");
            let text = line(&limit, &victim, &comm);
            if let Some(found) = constraint(&text, &comm) {
                prop_assert!(is_within(found.victim.as_deref().unwrap_or_default(), found.limit.as_deref().unwrap_or("?")));
            }
        }
    }
}
