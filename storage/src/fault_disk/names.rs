//! The directory tree: as it is, and as it would be after a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use weir_base::Entropy;

/// Path to node; the root is not in it.
type Tree = BTreeMap<String, Node>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Default)]
pub(super) struct Names {
    live: Tree,
    durable: Tree,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Add(String, Node),
    Rename(String, String),
    Remove(String),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

impl Change {
    fn touches(&self, directory: &str) -> bool {
        match self {
            Change::Add(path, _) | Change::Remove(path) => parent(path) == directory,
            Change::Rename(from, to) => parent(from) == directory || parent(to) == directory,
        }
    }

    fn apply(self, tree: &mut Tree) {
        match self {
            Change::Add(path, node) => {
                tree.insert(path, node);
            }
            Change::Remove(path) => tree.retain(|name, _| *name != path && !is_below(name, &path)),
            Change::Rename(from, to) => {
                let moved: Vec<(String, Node)> = tree
                    .iter()
                    .filter(|(name, _)| **name == from || is_below(name, &from))
                    .map(|(name, node)| (name.clone(), *node))
                    .collect();
                for (name, node) in moved {
                    tree.remove(&name);
                    let rest = name.strip_prefix(&from).unwrap_or_default();
                    tree.insert(format!("{to}{rest}"), node);
                }
            }
        }
    }
}

impl Names {
    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.live);
        self.pending.push(change);
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        self.live
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_directory(&self, path: &str) -> io::Result<()> {
        if path.is_empty() || self.live.get(path) == Some(&Node::Directory) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        match self.node(path)? {
            Node::File(id) => Ok(id),
            Node::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn create(&mut self, path: &str, id: u64) -> io::Result<()> {
        self.check_directory(parent(path))?;
        self.change(Change::Add(path.to_owned(), Node::File(id)));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.node(from)?;
        self.check_directory(parent(to))?;
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.file(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn remove_directory_all(&mut self, path: &str) -> io::Result<()> {
        self.check_directory(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn create_directory_all(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let Some(prefix) = path.get(..end) else {
                continue;
            };
            if !prefix.is_empty() && !self.live.contains_key(prefix) {
                self.change(Change::Add(prefix.to_owned(), Node::Directory));
            }
        }
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.check_directory(path)?;
        let mut names: Vec<String> = self
            .live
            .iter()
            .filter(|(name, _)| parent(name) == path)
            .map(|(name, node)| {
                let last = name.rsplit('/').next().unwrap_or(name);
                match node {
                    Node::Directory => format!("{last}/"),
                    Node::File(_) => last.to_owned(),
                }
            })
            .collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn sync(&mut self, directory: &str) -> io::Result<()> {
        self.check_directory(directory)?;
        let (synced, left) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.touches(directory));
        self.pending = left;
        for change in synced {
            change.apply(&mut self.durable);
        }
        Ok(())
    }

    pub(super) fn power_loss(&mut self, entropy: &Entropy) {
        for change in std::mem::take(&mut self.pending) {
            if entropy.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        // A name in a directory that was lost is lost with it. Sorted, so a directory
        // comes before what is in it.
        let mut reachable = Tree::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            if parent(&path).is_empty() || reachable.contains_key(parent(&path)) {
                reachable.insert(path, node);
            }
        }
        self.durable = reachable;
        self.live = self.durable.clone();
    }

    pub(super) fn files(&self) -> Vec<String> {
        let is_file = |node: &Node| matches!(node, Node::File(_));
        self.live
            .iter()
            .filter(|(_, node)| is_file(node))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Files that a name leads to now.
    pub(super) fn live_file_ids(&self) -> BTreeSet<u64> {
        ids(self.live.values())
    }

    /// Files that a name, or one that a crash may bring back, leads to.
    pub(super) fn file_ids(&self) -> BTreeSet<u64> {
        // One that was made and removed meanwhile is back if only its removal is lost.
        let added = self.pending.iter().filter_map(|change| match change {
            Change::Add(_, node) => Some(node),
            Change::Rename(..) | Change::Remove(_) => None,
        });
        ids(self.live.values().chain(self.durable.values()).chain(added))
    }
}

fn ids<'a>(nodes: impl Iterator<Item = &'a Node>) -> BTreeSet<u64> {
    nodes
        .filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        })
        .collect()
}
