//! The stages of `tracer` in one direction: a stage that names a later one is an arrow back.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// From the kernel to the screen. `pipeline`, `main`, `lib`, `cli` and `config` are no stages: they may see all;
/// `quantity` is none either: it sees nothing.
const STAGES: &[&str] =
    &["kernel", "probe", "event", "resolve", "aggregator", "finding", "snapshot", "metric", "view"];

pub(super) fn check() -> Result<()> {
    let root = workspace::root().join("tracer/src");
    let mut arrows = Vec::new();
    for path in super::file_size::rust_files(&root)? {
        let inside = path.strip_prefix(&root).unwrap_or(&path);
        let Some(stage) = stage_of(inside) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (line, later) in arrows_back(stage, &text) {
            let shown = Path::new("tracer/src").join(inside);
            arrows.push(format!(
                "{}:{line}: `{}` names `{later}`, a later stage; move what it needs to the earlier one",
                shown.display(),
                STAGES[stage]
            ));
        }
    }
    if !arrows.is_empty() {
        bail!("{} arrows back:\n{}", arrows.len(), arrows.join("\n"));
    }
    Ok(())
}

/// Which stage a file below `tracer/src` belongs to, by its folder or its name.
fn stage_of(inside: &Path) -> Option<usize> {
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    STAGES.iter().position(|stage| *stage == name)
}

/// Line numbers and names of the later stages that a text reaches through `crate::`, also in a `use crate::{...}` over
/// several lines. Comments do not count.
fn arrows_back(stage: usize, text: &str) -> Vec<(usize, &'static str)> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut arrows = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        for (offset, name) in roots(&code[at + "crate::".len()..]) {
            let at = at + "crate::".len() + offset;
            let later = STAGES.iter().skip(stage + 1).find(|later| **later == name);
            arrows.extend(later.map(|later| (code[..at].matches('\n').count() + 1, *later)));
        }
    }
    arrows
}

/// The first names of what follows `crate::`: one, or those directly inside its braces, with their offsets.
fn roots(text: &str) -> Vec<(usize, &str)> {
    let name = |at: usize| {
        let end = text[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - at);
        (at, &text[at..at + end])
    };
    if !text.starts_with('{') {
        return vec![name(0)];
    }
    let (mut depth, mut fresh, mut names) = (0, false, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            '{' | ',' if depth == 1 => fresh = true,
            _ if depth == 0 => break,
            _ if fresh && !c.is_whitespace() => {
                names.push(name(at));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(stage: &str, text: &str) -> Vec<(usize, &'static str)> {
        arrows_back(STAGES.iter().position(|known| *known == stage).unwrap(), text)
    }

    #[test]
    fn an_earlier_stage_may_be_named() {
        assert_eq!(arrows("probe", "use crate::kernel::Facts;\nuse crate::config::Config;\n"), []);
        assert_eq!(arrows("view", "use crate::{metric, snapshot::Snapshot};"), []);
    }

    #[test]
    fn a_later_stage_is_an_arrow_back() {
        assert_eq!(arrows("probe", "//! x\nuse crate::view::Table;\n"), [(2, "view")]);
        assert_eq!(arrows("event", "fn f() { crate::aggregator::g() }"), [(1, "aggregator")]);
        assert_eq!(arrows("event", "pub(crate) use crate::snapshot;"), [(1, "snapshot")]);
    }

    #[test]
    fn braces_over_several_lines_are_read() {
        let text =
            "use crate::{\n    kernel::{btf::view, Facts},\n    view::{table, json},\n    metric,\n};\n";
        assert_eq!(arrows("probe", text), [(3, "view"), (4, "metric")]);
    }

    #[test]
    fn comments_other_crates_and_own_names_do_not_count() {
        assert_eq!(
            arrows("kernel", "// crate::view is later\nuse my_crate::view;\nuse crate::viewer;\n"),
            []
        );
        assert_eq!(arrows("kernel", "/// see `crate::probe::plan`\nfn f() {}\n"), []);
    }

    #[test]
    fn stages_are_found_by_folder_or_file() {
        assert_eq!(stage_of(Path::new("view/tui/term.rs")), Some(8));
        assert_eq!(stage_of(Path::new("snapshot.rs")), Some(6));
        assert_eq!(stage_of(Path::new("pipeline.rs")), None);
    }
}
