//! Why the kernel did not take a program, in a sentence.

use std::io;

use aya::programs::ProgramError;

use super::{plan::LOCKED_DOWN, registry::Kind};

/// Lines of a verifier log that are worth printing: it may be hundreds of thousands long.
const LOG_TAIL: usize = 6;

/// Says what could not be attached to what.
pub fn failed(kind: Kind, target: &str) -> impl Fn(ProgramError) -> String {
    move |error| format!("{kind} {target}: {}", explain(kind, &error))
}

fn explain(kind: Kind, error: &ProgramError) -> String {
    let refused = matches!(
        error,
        ProgramError::LoadError { io_error, verifier_log }
            if io_error.kind() == io::ErrorKind::PermissionDenied && verifier_log.to_string().trim().is_empty()
    );
    if refused && kind == Kind::Fentry {
        return "this kernel refuses trampolines in its text (EPERM with an empty verifier log)".to_owned();
    }
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        // The helper is there but not given out; `/sys/kernel/security` may not be mounted to say so.
        if log.contains("unknown func bpf_probe_read") {
            return LOCKED_DOWN.to_owned();
        }
        let tail: Vec<&str> = log.lines().rev().take(LOG_TAIL).collect();
        let tail: Vec<&str> = tail.into_iter().rev().map(str::trim).collect();
        return format!("the kernel refused the program: {io_error}: {}", tail.join(" | "));
    }
    chain(error)
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
