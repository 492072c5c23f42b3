//! Walks over directories made for the test, and what events and rescans make of them.

use super::*;

/// A made-up v1 hierarchy: directories with a usage file.
fn cgroup(root: &Path, path: &str) -> u64 {
    let dir = root.join(path);
    fs::create_dir_all(&dir).expect("a cgroup");
    fs::write(dir.join("memory.usage_in_bytes"), "0\n").expect("a file");
    fs::metadata(dir).expect("a cgroup").ino()
}

#[test]
fn walks_and_knows_rows() {
    let root = tempfile::tempdir().expect("a directory");
    let docker = cgroup(root.path(), "docker");
    let container = cgroup(root.path(), &format!("docker/{}", "a".repeat(64)));
    let inner = cgroup(root.path(), &format!("docker/{}/init.scope", "a".repeat(64)));
    let tree = Tree::walk(root.path(), false).expect("a tree");
    assert!(tree.is_row(docker) && tree.is_row(container));
    assert!(!tree.is_row(inner), "what is in a container belongs to it");
    assert_eq!(tree.nearest_row(inner), Some(container));
    assert_eq!(tree.row_above(container), Some(docker));
    assert_eq!(tree.row_above(docker), Some(tree.root));
}

#[test]
fn rescan_finds_what_no_event_told() {
    let root = tempfile::tempdir().expect("a directory");
    let first = cgroup(root.path(), "first");
    let mut tree = Tree::walk(root.path(), false).expect("a tree");
    let second = cgroup(root.path(), "second");
    let below = cgroup(root.path(), "second/below");
    fs::remove_dir_all(root.path().join("first")).expect("removed");
    let mut changes = Vec::new();
    tree.rescan(&mut changes);
    tree.rescan(&mut changes);
    assert!(changes.contains(&Change::Gone(first)) && changes.contains(&Change::Row(second)));
    assert!(changes.contains(&Change::Row(below)));
    assert_eq!(changes.len(), 3, "each is told once: {changes:?}");
}

/// A container that nests its own cgroups must not make looking up rows dear.
#[test]
fn deep_nests_are_no_burden() {
    let root = tempfile::tempdir().expect("a directory");
    let container = cgroup(root.path(), &format!("docker/{}", "a".repeat(64)));
    let deep = format!("docker/{}{}", "a".repeat(64), "/x".repeat(100));
    let last = cgroup(root.path(), &deep);
    let tree = Tree::walk(root.path(), false).expect("a tree");
    assert_eq!(tree.nearest_row(last), Some(container));
}

#[test]
fn a_container_cannot_borrow_another_s_id() {
    let root = tempfile::tempdir().expect("a directory");
    let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
    cgroup(root.path(), &format!("docker/{a}"));
    let victim = cgroup(root.path(), &format!("docker/{b}"));
    let fake = cgroup(root.path(), &format!("docker/{a}/docker/{b}"));
    let nested = cgroup(root.path(), &format!("docker/{a}/docker/{c}"));
    let tree = Tree::walk(root.path(), false).expect("a tree");
    assert!(tree.is_row(fake) && tree.borrows_id(fake));
    assert!(!tree.borrows_id(victim) && !tree.borrows_id(nested), "docker in docker keeps its names");
    let pod = cgroup(root.path(), "kubepods/pod1");
    let fake = cgroup(root.path(), &format!("docker/{a}/kubepods/pod1"));
    let tree = Tree::walk(root.path(), false).expect("a tree");
    assert!(tree.borrows_id(fake) && !tree.borrows_id(pod));
}

/// v2: the controller may be enabled after the cgroup was made.
#[test]
fn memory_files_that_come_later_make_a_row() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("late/inner")).expect("cgroups without memory files");
    let mut tree = Tree::walk(root.path(), false).expect("a tree");
    let late = fs::metadata(root.path().join("late")).expect("a cgroup").ino();
    assert_eq!(tree.nearest_row(late), Some(tree.root));
    fs::write(root.path().join("late/memory.usage_in_bytes"), "0").expect("a file");
    let mut changes = Vec::new();
    tree.settle(late, &mut changes);
    let inner = fs::metadata(root.path().join("late/inner")).expect("a cgroup").ino();
    assert_eq!(changes, [Change::Row(late)]);
    assert_eq!(tree.nearest_row(inner), Some(late), "what is below it is counted there now");
}

#[test]
fn an_event_needs_no_directory_read() {
    let root = tempfile::tempdir().expect("a directory");
    let mut tree = Tree::walk(root.path(), false).expect("a tree");
    let id = cgroup(root.path(), "made");
    let mut changes = Vec::new();
    tree.made(id, Some("/made"), &mut changes);
    tree.made(id, Some("/made"), &mut changes);
    assert_eq!(changes, [Change::Row(id)]);
    tree.removed(id, &mut changes);
    assert_eq!(changes, [Change::Row(id), Change::Gone(id)]);
}
