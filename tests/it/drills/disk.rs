//! A disk of which only that survives a power cut what was flushed, and an arbitrary part of what was not.
//!
//! `tests/power/power.c`, preloaded into the service, journals every change and every flush; here they are played back.
//! Harder than real disks: what was written and not flushed survives in any combination of 64 bytes, and a name that
//! was made, moved or removed is durable only once its folder was flushed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use tempfile::TempDir;

use super::dice;

/// Whether the disk does what it is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flushes {
    /// It does.
    Done,
    /// Those of the write-ahead log only as often as SQLite would ask with `synchronous=NORMAL`: when the log begins
    /// anew, and before its content is moved into the database.
    AsWithNormal,
}

/// The disk below a folder.
pub(super) struct Disk {
    root: PathBuf,
    /// The library, its journal and its fuse.
    plug: TempDir,
    flushes: Flushes,
    tree: Tree,
}

impl Disk {
    /// Takes what is below a folder now for durable.
    pub(super) fn below(root: &Path, flushes: Flushes) -> Self {
        let plug = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/power.c");
        let compiled = std::process::Command::new("cc")
            .args([
                "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .arg(plug.path().join(LIBRARY))
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success(), "a C compiler is needed");
        fs::write(plug.path().join(FUSE), 0_u64.to_ne_bytes()).unwrap();
        Self {
            root: root.to_owned(),
            plug,
            flushes,
            tree: Tree::new(),
        }
    }

    /// What a process needs in its environment to write to this disk.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 4] {
        let plug = |name| self.plug.path().join(name);
        [
            ("LD_PRELOAD", plug(LIBRARY)),
            ("POWER_ROOT", self.root.clone()),
            ("POWER_JOURNAL", plug(JOURNAL)),
            ("POWER_FUSE", plug(FUSE)),
        ]
    }

    /// Cuts the power before that many further changes, counted from one; with zero it stays on.
    pub(super) fn cut_before(&self, changes: usize) {
        let fuse = fs::OpenOptions::new()
            .write(true)
            .open(self.plug.path().join(FUSE));
        let changes = changes as u64;
        fuse.unwrap()
            .write_all_at(&changes.to_ne_bytes(), 0)
            .unwrap();
    }

    /// Puts into the folder what has survived, once the process has ended. Returns how many changes were not durable.
    pub(super) fn restore(&mut self) -> usize {
        let journal = self.plug.path().join(JOURNAL);
        let bytes = fs::read(&journal).unwrap();
        fs::remove_file(&journal).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let record = Record::read(&mut rest);
            self.tree.play(&record, self.flushes);
        }
        for name in self.tree.names() {
            let path = self.root.join(&name);
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                // It was made on this disk and is not there any more.
                Err(_) => {}
            }
            // SQLite makes it anew after a crash.
            let _ = fs::remove_file(self.root.join(format!("{name}-shm")));
        }
        let undecided = self.tree.cut();
        self.tree.write(ROOT, &self.root);
        undecided
    }
}

/// A change or a flush, as the library recorded it.
struct Record<'a> {
    kind: u8,
    path: PathBuf,
    to: PathBuf,
    data: &'a [u8],
    offset: usize,
}

impl<'a> Record<'a> {
    fn read(rest: &mut &'a [u8]) -> Self {
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at(length);
            *rest = left;
            taken
        };
        let kind = take(1)[0];
        let path = u16::from_ne_bytes(take(2).try_into().unwrap());
        let to = u16::from_ne_bytes(take(2).try_into().unwrap());
        let length = u32::from_ne_bytes(take(4).try_into().unwrap());
        let offset = u64::from_ne_bytes(take(8).try_into().unwrap());
        let text = |bytes| PathBuf::from(str::from_utf8(bytes).unwrap());
        Self {
            kind,
            path: text(take(path.into())),
            to: text(take(to.into())),
            data: take(length as usize),
            offset: usize::try_from(offset).unwrap(),
        }
    }
}

/// Files and folders by number.
struct Tree(Vec<Node>);

enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// How many of the pending changes a flush was asked for that is done later.
    deferred: usize,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Default)]
struct Folder {
    durable: BTreeMap<String, usize>,
    current: BTreeMap<String, usize>,
    pending: Vec<Naming>,
}

enum Naming {
    Enter(String, usize),
    Leave(String),
    Move(String, String),
}

impl Tree {
    fn new() -> Self {
        Self(vec![Node::Folder(Folder::default())])
    }

    /// The names right below the root that this disk has to do with.
    fn names(&mut self) -> Vec<String> {
        let root = self.folder(ROOT);
        let all = root.durable.keys().chain(root.current.keys());
        all.cloned().collect()
    }

    fn play(&mut self, record: &Record<'_>, flushes: Flushes) {
        match record.kind {
            b'c' => self.enter(&record.path, Node::File(File::default())),
            b'd' => self.enter(&record.path, Node::Folder(Folder::default())),
            b'w' => self.change(&record.path, Change::write(record.offset, record.data)),
            b't' => self.change(&record.path, Change::Truncate(record.offset)),
            b'f' => self.flush(&record.path, flushes),
            b'r' => {
                assert_eq!(record.path.parent(), record.to.parent());
                let (folder, from) = self.place(&record.path);
                self.rename(folder, Naming::Move(from, name(&record.to)));
            }
            b'u' => {
                let (folder, name) = self.place(&record.path);
                self.rename(folder, Naming::Leave(name));
            }
            kind => panic!("a record of kind {kind}"),
        }
    }

    fn enter(&mut self, path: &Path, node: Node) {
        let (folder, name) = self.place(path);
        self.0.push(node);
        let id = self.0.len() - 1;
        self.rename(folder, Naming::Enter(name, id));
    }

    fn rename(&mut self, folder: usize, naming: Naming) {
        let folder = self.folder(folder);
        naming.apply(&mut folder.current);
        folder.pending.push(naming);
    }

    fn change(&mut self, path: &Path, change: Change) {
        // What SQLite moves into the database was flushed in its write-ahead log.
        let log = path.with_file_name(format!("{}-wal", name(path)));
        if let Some(Node::File(log)) = self.find(&log) {
            let deferred = std::mem::take(&mut log.deferred);
            log.flush(deferred);
        }
        match self.find(path) {
            Some(Node::File(file)) => file.pending.push(change),
            _ => panic!("{} was changed and never made", path.display()),
        }
    }

    fn flush(&mut self, path: &Path, flushes: Flushes) {
        match self.find(path) {
            Some(Node::Folder(folder)) => folder.flush(folder.pending.len()),
            Some(Node::File(file)) => {
                let all = file.pending.len();
                let lazy = flushes == Flushes::AsWithNormal && name(path).ends_with("-wal");
                match file.pending.last() {
                    Some(Change::Write { offset, .. }) if lazy && *offset > 0 => {
                        file.deferred = all
                    }
                    _ => file.flush(all),
                }
            }
            // A folder that was there before.
            None => drop(self.place(&path.join("any"))),
        }
    }

    /// The number of the folder that a path is in, and its name there. Folders that nobody made were there before.
    fn place(&mut self, path: &Path) -> (usize, String) {
        let mut folder = ROOT;
        let parent = path.parent().unwrap();
        for part in parent
            .components()
            .filter(|part| *part != Component::CurDir)
        {
            let name = part.as_os_str().to_str().unwrap().to_owned();
            let known = self.folder(folder).current.get(&name).copied();
            folder = known.unwrap_or_else(|| {
                self.0.push(Node::Folder(Folder::default()));
                let id = self.0.len() - 1;
                let above = self.folder(folder);
                above.current.insert(name.clone(), id);
                above.durable.insert(name, id);
                id
            });
        }
        (folder, name(path))
    }

    fn find(&mut self, path: &Path) -> Option<&mut Node> {
        if path.as_os_str().is_empty() {
            return self.0.get_mut(ROOT);
        }
        let (folder, name) = self.place(path);
        let id = *self.folder(folder).current.get(&name)?;
        self.0.get_mut(id)
    }

    fn folder(&mut self, id: usize) -> &mut Folder {
        match &mut self.0[id] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("a file is no folder"),
        }
    }

    /// Lets chance decide what becomes of all that was not flushed. Returns how much that was.
    fn cut(&mut self) -> usize {
        let mut undecided = 0;
        for node in &mut self.0 {
            match node {
                Node::File(file) => {
                    undecided += file.pending.len();
                    file.cut();
                }
                // Names are kept in the order of their changes, as file systems journal them.
                Node::Folder(folder) => {
                    undecided += folder.pending.len();
                    folder.flush(dice::below(folder.pending.len() + 1));
                    folder.pending.clear();
                    folder.current = folder.durable.clone();
                }
            }
        }
        undecided
    }

    /// Writes what is durable.
    fn write(&self, folder: usize, path: &Path) {
        let Node::Folder(folder) = &self.0[folder] else {
            panic!("a file is no folder");
        };
        for (name, id) in &folder.durable {
            let path = path.join(name);
            match &self.0[*id] {
                Node::Folder(_) => {
                    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
                    self.write(*id, &path);
                }
                Node::File(file) => {
                    let mut new = fs::OpenOptions::new();
                    let new = new.write(true).create_new(true).mode(0o600).open(&path);
                    new.unwrap().write_all(&file.durable).unwrap();
                }
            }
        }
    }
}

impl File {
    /// Makes the first of the pending changes durable.
    fn flush(&mut self, changes: usize) {
        for change in self.pending.drain(..changes) {
            change.apply(&mut self.durable, |_| true);
        }
        self.deferred = self.deferred.saturating_sub(changes);
    }

    fn cut(&mut self) {
        let mood = dice::below(3);
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable, |_| match mood {
                0 => false,
                1 => true,
                _ => dice::below(2) == 0,
            });
        }
        self.deferred = 0;
    }
}

impl Change {
    fn write(offset: usize, data: &[u8]) -> Self {
        let data = data.to_vec();
        Self::Write { offset, data }
    }

    /// Applies those pieces that survive.
    fn apply(&self, content: &mut Vec<u8>, mut survives: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate(length) if survives(0) => content.resize(*length, 0),
            Self::Truncate(_) => {}
            Self::Write { offset, data } => {
                let mut at = *offset;
                let end = offset + data.len();
                while at < end {
                    let until = (at / PIECE * PIECE + PIECE).min(end);
                    if survives(at) {
                        content.resize(content.len().max(until), 0);
                        content[at..until].copy_from_slice(&data[at - offset..until - offset]);
                    }
                    at = until;
                }
            }
        }
    }
}

impl Folder {
    /// Makes the first of the pending changes durable.
    fn flush(&mut self, changes: usize) {
        for naming in self.pending.drain(..changes) {
            naming.apply(&mut self.durable);
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Enter(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Leave(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                let id = names.remove(from).expect("a name that was entered before");
                names.insert(to.clone(), id);
            }
        }
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a path with a name");
    name.to_str().unwrap().to_owned()
}

const ROOT: usize = 0;
/// What survives, or not, as one. Smaller than any sector, so that even a short line is torn.
const PIECE: usize = 64;
const LIBRARY: &str = "power.so";
const JOURNAL: &str = "journal";
const FUSE: &str = "fuse";
