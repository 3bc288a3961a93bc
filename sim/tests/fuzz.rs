//! Every fuzz target on its corpus and on changes of it, always the same ones. Finds
//! panics, hangs, and memory held out of proportion to the input.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failure is a failed test; and what hangs is noticed from another thread, by real time"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_base::Entropy;
use weir_sim::fuzz::{self, TARGETS, Target, seeds};

/// Inputs made of the corpus of a target, spread over its files; `WEIR_FUZZ_TIMES` times
/// as many for a longer look.
fn changes(target: &str) -> usize {
    let times = std::env::var("WEIR_FUZZ_TIMES").map_or(1, |times| times.parse().unwrap());
    times
        * match target {
            "kafka_session" | "segment_recovery" | "wal_recovery" | "peer_frame" => 1_000,
            _ => 8_000,
        }
}

/// The most that one run may hold at a time, whatever its input: what a node needs to
/// come up at all, and some hundred times the input.
const HELD_BYTES: usize = 8 * 1024 * 1024;
const HELD_PER_BYTE: usize = 100;
/// The longest that one input may take, on a machine that is busy with something else.
const HANGS: Duration = Duration::from_secs(20);

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: usize, freed: usize) {
    // Fails while the thread ends, when nothing is counted any more.
    HELD.try_with(|held| {
        held.set((held.get() + grown).saturating_sub(freed));
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    })
    .ok();
}

#[expect(
    unsafe_code,
    reason = "hands all to the system's allocator, and counts"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is wrong with a target on an input, if anything is.
fn failure(run: fn(&[u8]), input: &[u8]) -> Option<String> {
    let before = HELD.get();
    MOST.set(before);
    let ended = catch_unwind(AssertUnwindSafe(|| run(input)));
    let held = MOST.get().saturating_sub(before);
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Some(format!("panics: {}", text.unwrap_or("without a word")));
    }
    let limit = HELD_BYTES + HELD_PER_BYTE * input.len();
    (held > limit).then(|| format!("holds {held} bytes for {} of input", input.len()))
}

fn corpus_directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(corpus_directory(target)).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// The corpus, then its changes, until one fails.
fn first_failure(target: Target, changes: usize) -> Option<String> {
    let current = Arc::new(Mutex::new(Vec::new()));
    let (report, reports) = channel();
    let inside = Arc::clone(&current);
    std::thread::spawn(move || {
        let found = inputs(&target, changes, |name, input| {
            *inside.lock().unwrap() = input.to_vec();
            report.send(None).unwrap();
            failure(target.run, input).map(|what| told(&target, name, &what, input))
        });
        report.send(Some(found)).unwrap();
    });
    watch(&reports, HANGS).unwrap_or_else(|| {
        let input = current.lock().unwrap().clone();
        Some(told(&target, "some input", "hangs", &input))
    })
}

/// What the runner found; `None` if it does not come to the end of an input.
#[expect(clippy::option_option, reason = "hanging and finding nothing differ")]
fn watch(reports: &Receiver<Option<Option<String>>>, limit: Duration) -> Option<Option<String>> {
    loop {
        match reports.recv_timeout(limit) {
            Ok(None) => {}
            Ok(Some(found)) => return Some(found),
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the runner of inputs failed"),
        }
    }
}

fn inputs(
    target: &Target,
    changes: usize,
    mut fails: impl FnMut(&str, &[u8]) -> Option<String>,
) -> Option<String> {
    let files = corpus(target.name);
    assert!(!files.is_empty(), "{} has no corpus", target.name);
    for (name, input) in &files {
        if let Some(found) = fails(name, input) {
            return Some(found);
        }
    }
    let entropy = Entropy::from_seed([0x5e; 32]).fork(target.name);
    for (number, at) in (0..changes).zip((0..files.len()).cycle()) {
        let other = usize::try_from(entropy.below(files.len() as u64)).unwrap();
        let input = (target.change)(&entropy, &files[at].1, &files[other].1);
        let name = format!("change {number} of {}", files[at].0);
        if let Some(found) = fails(&name, &input) {
            return Some(found);
        }
    }
    None
}

/// The finding, with the input in a file for the corpus.
fn told(target: &Target, name: &str, what: &str, input: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("weir-fuzz-{}", target.name));
    std::fs::write(&path, input).unwrap();
    let path = path.display();
    format!("{}: {name} ({path}): {what}", target.name)
}

fn hold(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    assert_eq!(first_failure(*target, changes(name)), None);
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            hold(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(
    batch,
    kafka_session,
    segment_recovery,
    wal_recovery,
    peer_frame,
    metadata_command,
    group_record
);

#[test]
fn the_canaries_are_caught() {
    for (name, run, finding) in [
        ("canary", fuzz::canary as fn(&[u8]), "panics: "),
        ("greedy_canary", fuzz::greedy_canary, "holds "),
    ] {
        let change = fuzz::plainly;
        let target = Target { name, run, change };
        assert_eq!(first_failure(target, 0), None, "the corpus is honest");
        let found = first_failure(target, 2_000).expect("caught");
        assert!(found.contains(finding), "{found}");
        assert_eq!(first_failure(target, 2_000), Some(found), "repeatable");
    }
}

#[test]
fn a_hang_is_caught() {
    let (report, reports) = channel();
    // The runner is there and says nothing, as one in an endless loop would.
    report.send(None).unwrap();
    let started = std::time::Instant::now();
    assert!(watch(&reports, Duration::from_millis(50)).is_none());
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[test]
fn the_corpus_is_small() {
    let files = |target: &str| corpus(target).into_iter().map(|(_, input)| input.len());
    let bytes: usize = TARGETS.iter().flat_map(|target| files(target.name)).sum();
    assert!(bytes < 200 * 1024, "{bytes}");
}

#[test]
#[ignore = "writes the corpus: after a format or the captures changed"]
fn write_the_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = seeds::made();
    for capture in std::fs::read_dir(root.join("node/kafka/tests/captures")).unwrap() {
        let path = capture.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = seeds::with_topic_id(&std::fs::read(path).unwrap());
        all.push(("kafka_session", name, bytes));
    }
    let golden = std::fs::read(root.join("node/coordinator/testdata/records.bin"));
    all.push(("group_record", "golden".to_owned(), golden.unwrap()));
    let frame = std::fs::read(root.join("storage/testdata/frame.bin")).unwrap();
    all.push(("segment_recovery", "only-a-frame".to_owned(), frame));
    for (target, name, bytes) in all {
        let directory = corpus_directory(target);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
