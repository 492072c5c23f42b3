//! What the files of /proc about one task say. Their text is a stranger's: nothing is trusted, everything is bounded.

/// Frames of a stack that are kept.
const FRAMES: usize = 32;
/// The longest name or path that is kept.
const NAME: usize = 256;

/// SIGKILL in a mask of signals.
const SIGKILL: u64 = 1 << 8;

/// `/proc/TID/status`, as far as it is about a sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The group leader's number.
    pub pid: u32,
    pub state: char,
    /// How often it left a processor, whether it wanted to or not.
    pub switches: Option<u64>,
    /// SIGKILL waits for the task or its group.
    pub sigkill_pending: Option<bool>,
    /// It has memory of its own, as no thread of the kernel has.
    pub has_memory: bool,
}

impl Status {
    pub fn parse(status: &str) -> Option<Status> {
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let mask = |key: &str| u64::from_str_radix(field(key)?, 16).ok();
        let count = |key: &str| field(key)?.parse::<u64>().ok();
        let own = count("voluntary_ctxt_switches:");
        Some(Status {
            pid: field("Tgid:")?.parse().ok()?,
            state: field("State:")?.chars().next()?,
            switches: own.zip(count("nonvoluntary_ctxt_switches:")).map(|(own, forced)| own + forced),
            has_memory: field("VmSize:").is_some(),
            sigkill_pending: mask("SigPnd:")
                .zip(mask("ShdPnd:"))
                .map(|(own, group)| (own | group) & SIGKILL != 0),
        })
    }
}

/// The names of `/proc/PID/task/TID/stack`, the innermost first: `[<0>] percpu_rwsem_wait+0x15f/0x1d0 [module]`.
pub fn stack(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, frame) = line.split_once("] ")?;
        let name = frame.split(['+', ' ', '.']).next()?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (!name.is_empty() && is_name).then(|| bounded(name))
    };
    text.lines().filter_map(name).take(FRAMES).collect()
}

/// The function of `/proc/PID/wchan`; 5.10 says `0` of every task.
pub fn wchan(text: &str) -> Option<String> {
    let name = text.trim();
    (!name.is_empty() && name != "0").then(|| bounded(name))
}

/// A system call that is under way, of `/proc/PID/task/TID/syscall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub number: u64,
    /// The first of them.
    pub arguments: [u64; 3],
    /// It was made from code and with a stack below 4 GiB: by a 32-bit program, whose calls have other numbers.
    pub compat: bool,
}

/// `None`: it is in none, but for instance in a page fault, or it runs.
pub fn call(text: &str) -> Option<Call> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let arguments: Vec<u64> = words.map_while(hex).take(8).collect();
    let [first, second, third, .., stack, code] = arguments[..] else { return None };
    Some(Call { number, arguments: [first, second, third], compat: stack >> 32 == 0 && code >> 32 == 0 })
}

/// The mount that a descriptor is of, of `/proc/PID/fdinfo/N`.
pub fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Not longer than what is kept of a name.
pub fn bounded(text: &str) -> String {
    match text.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_waits_for_the_task_or_for_its_group() {
        let status = |task, group| {
            let text = format!(
                "Name:\tx\nState:\tD (disk sleep)\nTgid:\t12\nVmSize:\t8 kB\nSigPnd:\t{task:016x}\nShdPnd:\t{group:016x}\n\
                 voluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n"
            );
            Status::parse(&text).expect("it is whole")
        };
        assert_eq!(
            status(0x100, 0),
            Status { pid: 12, state: 'D', switches: Some(42), sigkill_pending: Some(true), has_memory: true }
        );
        assert_eq!(status(0, 0x4100).sigkill_pending, Some(true));
        assert_eq!(status(0x4000, 0x80).sigkill_pending, Some(false));
        let bare = Status::parse("State:\tS (sleeping)\nTgid:\t1\n").expect("it tells who it is");
        assert_eq!((bare.switches, bare.sigkill_pending, bare.has_memory), (None, None, false));
        assert_eq!(Status::parse("Name:\tx\n"), None);
    }

    #[test]
    fn frames_lose_their_offsets_and_modules() {
        let text =
            "[<0>] nfs_wait_bit_killable+0x2e/0xa0 [nfs]\n[<ffffffff81>] do_fault.part.0+0x1/0x2\nnonsense\n";
        assert_eq!(stack(text), ["nfs_wait_bit_killable", "do_fault"]);
        assert_eq!(stack(&"[<0>] f+0x0/0x1\n".repeat(100)).len(), FRAMES);
        assert_eq!(wchan("0"), None);
        assert_eq!(wchan("percpu_rwsem_wait\n").as_deref(), Some("percpu_rwsem_wait"));
    }

    #[test]
    fn a_call_is_told_from_a_fault() {
        let text = "1 0x3 0x7fdf03551fa0 0x1 0x0 0x0 0x0 0x7ffc13a0a2c8 0x7fdf02f16350";
        assert_eq!(call(text), Some(Call { number: 1, arguments: [3, 0x7fdf_0355_1fa0, 1], compat: false }));
        let text = "4 0x1 0x80 0x1 0x0 0x0 0x0 0xffc13a0a 0x8048000";
        assert_eq!(call(text), Some(Call { number: 4, arguments: [1, 0x80, 1], compat: true }));
        assert_eq!(call("-1 0x7ffc13a0a330 0x7fdf02727b03"), None);
        assert_eq!(call("running"), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = "ü".repeat(10_000);
        assert_eq!(bounded(&long).chars().count(), NAME + 3);
        assert_eq!(mount_id("pos:\t0\nmnt_id:\t42\nino:\t12\n"), Some(42));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC{0,200}") {
            Status::parse(&text);
            stack(&text);
            call(&text);
            mount_id(&text);
        }
    }
}
