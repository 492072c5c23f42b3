//! What became of each way of attaching each probe on this kernel: a line of JSON each, which `cargo xtask vm --all` and
//! `cargo xtask test` gather into one table. A test that forces alternatives of a probe tells of each of them here.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
};

use serde_json::json;

use super::doctor::Alternative;

/// Word that a line starts with.
const MARK: &str = "matrix";

pub fn served(alternative: &Alternative) {
    tell(alternative, "served", None);
}

pub fn unusable(alternative: &Alternative, why: &str) {
    tell(alternative, "unusable", Some(why));
}

pub fn failed(alternative: &Alternative, why: &str) {
    tell(alternative, "failed", Some(why));
}

fn tell(alternative: &Alternative, became: &str, why: Option<&str>) {
    let line = json!({
        "order": alternative.order,
        "probe": alternative.probe,
        "attach": alternative.kind,
        "target": alternative.target,
        "became": became,
        "why": why,
        "attach_ms": alternative.attach_ms,
    });
    println!("{MARK} {line}");
}

/// Does the same with each of them, tells what became of it, and fails at the end if one did.
pub fn each(alternatives: &[Alternative], tells_the_truth: impl Fn(&Alternative)) {
    let mut wrong = Vec::new();
    for alternative in alternatives {
        match caught(|| tells_the_truth(alternative)) {
            Ok(()) => served(alternative),
            Err(why) => {
                failed(alternative, &why);
                wrong.push(format!("{}: {why}", alternative.word()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs what may panic, so that one alternative's failure leaves the others their turn.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked without a word").to_owned()
}
