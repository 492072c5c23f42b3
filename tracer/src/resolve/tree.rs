//! The memory cgroups that exist, by id and by path, and which of them are rows. Filled by a walk at the
//! start, kept by events, and checked against the directories by a rescan, so that it is right also where no
//! probe reports cgroups.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::container::{self, Role, Shape};

/// More cgroups than any host has; what lies beyond is counted and not followed.
const LIMIT: usize = 65_536;
/// The kernel's own bound is the depth of paths that fit a page.
const DEPTH: usize = 128;

/// One memory cgroup.
#[derive(Debug, Clone)]
pub struct Node {
    pub path: String,
    pub shape: Shape,
    pub parent: Option<u64>,
    /// Directories in it, as known.
    children: u64,
    /// It has memory files (v2: the controller is enabled in its parent).
    memory: bool,
    /// The row that counts it: itself, or its nearest ancestor that is one. Kept, because a container may nest
    /// its own cgroups as deep as it likes.
    row: u64,
}

/// What became of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is a row now.
    Row(u64),
    /// Its directory is gone.
    Gone(u64),
}

/// All memory cgroups with a directory.
pub struct Tree {
    mount: PathBuf,
    /// The file that tells whether a cgroup has memory of its own.
    usage: &'static str,
    nodes: HashMap<u64, Node>,
    by_path: HashMap<String, u64>,
    root: u64,
    beyond: u64,
}

impl Tree {
    /// Walks the hierarchy mounted at `mount`.
    pub fn walk(mount: &Path, v2: bool) -> io::Result<Tree> {
        let root = fs::metadata(mount)?.ino();
        let mut tree = Tree {
            mount: mount.to_owned(),
            usage: if v2 { "memory.current" } else { "memory.usage_in_bytes" },
            nodes: HashMap::new(),
            by_path: HashMap::new(),
            root,
            beyond: 0,
        };
        let shape = container::classify("/");
        tree.by_path.insert("/".to_owned(), root);
        let node = Node { path: "/".to_owned(), shape, parent: None, children: 0, memory: true, row: root };
        tree.nodes.insert(root, node);
        tree.descend(root, 0, &mut Vec::new());
        Ok(tree)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Cgroups that were not followed because there are too many.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    pub fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The cgroup at a path now.
    pub fn at(&self, path: &str) -> Option<u64> {
        self.by_path.get(path).copied()
    }

    pub fn has_children(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.children > 0)
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    /// Every cgroup.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Whether what its tasks use is counted there, and not in one around it.
    pub fn has_memory_files(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.memory)
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.nodes.iter().filter(|(id, node)| node.row == **id).map(|(id, _)| *id)
    }

    pub fn is_row(&self, id: u64) -> bool {
        self.nearest_row(id) == Some(id)
    }

    /// The row that counts what this cgroup holds: itself or its nearest ancestor that is a row.
    pub fn nearest_row(&self, id: u64) -> Option<u64> {
        self.nodes.get(&id).map(|node| node.row)
    }

    /// The memory cgroups that these rows count.
    pub fn members(&self, rows: &HashSet<u64>) -> HashSet<u64> {
        self.nodes.iter().filter(|(_, node)| rows.contains(&node.row)).map(|(id, _)| *id).collect()
    }

    /// A row turned out to be a container although its path does not say so: what it makes from now on belongs to it.
    pub fn claim(&mut self, id: u64, shape: Shape) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.shape = shape;
        }
    }

    /// Whether a cgroup inside a container bears the id of a container or pod elsewhere: a container may name its own
    /// cgroups as it likes, and must not borrow another's name by it.
    pub fn borrows_id(&self, id: u64) -> bool {
        let Some(node) = self.nodes.get(&id) else { return false };
        let is_container =
            |id: u64| self.nodes.get(&id).is_some_and(|node| node.shape.role == Role::Container);
        let mut above = self.row_above(id);
        while let Some(row) = above {
            if is_container(row) {
                return self.nodes.iter().any(|(other, twin)| {
                    *other != id && twin.shape.role == node.shape.role && twin.shape.id == node.shape.id
                });
            }
            above = self.row_above(row);
        }
        false
    }

    /// What `row` of a cgroup is, given its parent's.
    fn row_for(&self, id: u64, parent: u64, shape: &Shape, memory: bool) -> u64 {
        let above = self.nearest_row(parent).unwrap_or(self.root);
        let role = self.nodes.get(&above).map(|node| node.shape.role);
        if memory && shape.is_row(role) { id } else { above }
    }

    /// A cgroup has memory files now: it, and what is below it, may be other rows.
    fn enabled(&mut self, id: u64, changes: &mut Vec<Change>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.memory = true;
        let (own, prefix) = (node.path.clone(), format!("{}/", node.path));
        let mut below: Vec<(String, u64)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.path == own || node.path.starts_with(&prefix))
            .map(|(id, node)| (node.path.clone(), *id))
            .collect();
        // Parents first.
        below.sort_unstable();
        for (_, id) in below {
            let Some(node) = self.nodes.get(&id) else { continue };
            let Some(parent) = node.parent else { continue };
            let (before, row) = (node.row, self.row_for(id, parent, &node.shape, node.memory));
            if let Some(node) = self.nodes.get_mut(&id) {
                node.row = row;
            }
            changes.extend((before != id && row == id).then_some(Change::Row(id)));
        }
    }

    /// The row around a row.
    pub fn row_above(&self, id: u64) -> Option<u64> {
        self.nearest_row(self.nodes.get(&id)?.parent?)
    }

    /// A cgroup was made. `None` for the path: it is looked for.
    pub fn made(&mut self, id: u64, path: Option<&str>, changes: &mut Vec<Change>) {
        if self.nodes.contains_key(&id) {
            return;
        }
        let parent = path.and_then(|path| self.by_path.get(parent_path(path)?).copied());
        match (path, parent) {
            (Some(path), Some(parent)) => {
                if let Some(node) = self.nodes.get_mut(&parent) {
                    node.children += 1;
                }
                self.insert(id, path, parent, changes);
            }
            // Its parent is not known either, or the path was cut: the rescan finds it.
            _ => self.rescan(changes),
        }
    }

    /// A cgroup was renamed (v1 only): everything below it has another path.
    pub fn renamed(&mut self, changes: &mut Vec<Change>) {
        let old: Vec<u64> = self.nodes.keys().copied().filter(|id| *id != self.root).collect();
        changes.extend(old.into_iter().map(Change::Gone));
        self.nodes.retain(|id, _| *id == self.root);
        self.by_path.retain(|path, _| path == "/");
        self.descend(self.root, 0, changes);
    }

    pub fn removed(&mut self, id: u64, changes: &mut Vec<Change>) {
        if id == self.root {
            return;
        }
        if let Some(node) = self.nodes.remove(&id) {
            if self.by_path.get(&node.path) == Some(&id) {
                self.by_path.remove(&node.path);
            }
            if let Some(parent) = node.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
                parent.children = parent.children.saturating_sub(1);
            }
            changes.push(Change::Gone(id));
        }
    }

    /// Compares the tree with the directories. A directory's link count tells how many it holds, so that only
    /// those are read that changed: about 2 us a cgroup.
    pub fn rescan(&mut self, changes: &mut Vec<Change>) {
        let mut known: Vec<(u64, String)> =
            self.nodes.iter().map(|(id, node)| (*id, node.path.clone())).collect();
        known.sort_by(|a, b| a.1.cmp(&b.1));
        for (id, path) in known {
            let Some(node) = self.nodes.get(&id) else { continue };
            let (children, memory) = (node.children, node.memory);
            match fs::metadata(self.directory(&path)) {
                Ok(found) if found.ino() == id => {
                    if found.nlink().saturating_sub(2) != children {
                        self.descend(id, path.matches('/').count(), changes);
                    }
                    if !memory && self.has_memory(&path) {
                        self.enabled(id, changes);
                    }
                }
                Ok(_) => {
                    // The same name, made anew.
                    let parent = node.parent.unwrap_or(self.root);
                    self.removed(id, changes);
                    self.descend(parent, path.matches('/').count(), changes);
                }
                Err(_) => self.removed(id, changes),
            }
        }
    }

    /// Whether a cgroup that had no memory files when it was made has them now: they become visible a moment
    /// after the event.
    pub fn settle(&mut self, id: u64, changes: &mut Vec<Change>) {
        let Some(node) = self.nodes.get(&id) else { return };
        if !node.memory && self.has_memory(&node.path) {
            self.enabled(id, changes);
        }
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    fn has_memory(&self, path: &str) -> bool {
        self.directory(path).join(self.usage).exists()
    }

    fn insert(&mut self, id: u64, path: &str, parent: u64, changes: &mut Vec<Change>) {
        if self.nodes.len() >= LIMIT {
            self.beyond += 1;
            return;
        }
        let (shape, memory) = (container::classify(path), self.has_memory(path));
        let row = self.row_for(id, parent, &shape, memory);
        let node = Node { path: path.to_owned(), shape, parent: Some(parent), children: 0, memory, row };
        self.by_path.insert(node.path.clone(), id);
        self.nodes.insert(id, node);
        changes.extend((row == id).then_some(Change::Row(id)));
    }

    /// Reads a directory and what is new below it.
    fn descend(&mut self, id: u64, depth: usize, changes: &mut Vec<Change>) {
        let Some(path) = self.nodes.get(&id).map(|node| node.path.clone()) else { return };
        let Ok(entries) = fs::read_dir(self.directory(&path)) else { return };
        let mut found = 0;
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(child) = entry.metadata() else { continue };
            found += 1;
            let name = entry.file_name();
            let below = format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy());
            if !self.nodes.contains_key(&child.ino()) {
                self.insert(child.ino(), &below, id, changes);
                if depth < DEPTH {
                    self.descend(child.ino(), depth + 1, changes);
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.children = found;
        }
    }
}

fn parent_path(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

#[cfg(test)]
mod tests;
