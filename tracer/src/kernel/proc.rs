//! Files of `/proc`. How long one is lies with whoever it is about, so none is read further than its reader allows.

use std::{fs::File, io::Read as _};

pub fn text(path: &str, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The state, of `/proc/PID/task/TID/stat`. The name before it may hold any character.
pub fn state(stat: &str) -> Option<char> {
    stat.get(stat.rfind(')')? + 1..)?.trim_start().chars().next().filter(char::is_ascii_alphabetic)
}

/// Of `/proc/PID/cgroup`, whose lines are `NUMBER:CONTROLLERS:PATH` (cgroups(7)): the path in the hierarchy of version 1 that
/// has this controller, or with none in that of version 2.
pub fn cgroup<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|word| word == controller).then_some(path)
    })
}

/// The same for memory, which is version 2's where version 1 has it not.
pub fn memory_cgroup(text: &str) -> Option<&str> {
    cgroup(text, "memory").or_else(|| cgroup(text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        assert_eq!(state("12 (a) S 1) D 1 12 12 0 -1"), Some('D'));
        assert_eq!(state("12 (cat"), None);
        assert_eq!(state("12 (cat) "), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC{0,200}") {
            state(&text);
        }
    }

    #[test]
    fn the_memory_hierarchy_s_path_is_taken() {
        assert_eq!(memory_cgroup("12:pids:/a\n4:cpu,memory:/b:c\n0::/d\n"), Some("/b:c"));
        assert_eq!(memory_cgroup("0::/d\n4:cpu,memory:/b\n"), Some("/b"));
        assert_eq!(memory_cgroup("12:pids:/a\n1:name=systemd:/e\n0::/d\n"), Some("/d"));
        assert_eq!(memory_cgroup("nothing"), None);
        assert_eq!(cgroup("12:freezer:/a\n0::/d\n", "freezer"), Some("/a"));
    }

    #[test]
    fn a_file_is_read_as_far_as_is_allowed() {
        assert_eq!(text("/proc/self/comm", 2).map(|text| text.len()), Some(2));
        assert_eq!(text("/proc/self/none", 2), None);
    }
}
