//! Where a node's log lines go: a file of bounded size, and standard error.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::options::{LogFormat, LogLevel, NodeOptions};

/// Warns of every vote and every unreachable peer, which are daily life: in the log, not
/// on standard error. What matters of it `weir_metadata` says itself.
const CHATTY: &str = "openraft";

/// Starts logging for this process, and logs panics.
///
/// # Errors
/// If the log file cannot be opened.
pub fn start(options: &NodeOptions) -> io::Result<()> {
    let level = match options.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let format = options.log.format;
    let log = Targets::new()
        .with_default(level)
        .with_target(CHATTY, level.min(LevelFilter::WARN));
    let mut layers = Vec::new();
    if let Some(path) = &options.log.file {
        let file = BoundedFile::open(path, options.log.file_bytes_max.0)?;
        layers.push(layer(format, file).with_filter(log));
        // Several nodes may share a terminal.
        let stderr = Prefixed(format!("node {}: ", options.node.id));
        let warnings = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target(CHATTY, LevelFilter::OFF);
        layers.push(layer(format, stderr).with_filter(warnings));
    } else {
        layers.push(layer(format, Prefixed(String::new())).with_filter(log));
    }
    let subscriber = tracing_subscriber::registry().with(layers);
    subscriber.try_init().map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(
            place,
            "panic: {}",
            panic.payload_as_str().unwrap_or("no message")
        );
    }));
    Ok(())
}

fn layer<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(false).with_writer(writer);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    }
}

/// Standard error, each line after a prefix.
struct Prefixed(String);

impl<'a> MakeWriter<'a> for Prefixed {
    type Writer = &'a Prefixed;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Prefixed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // One call per event, with the whole line.
        let mut whole = Vec::with_capacity(self.0.len() + line.len());
        whole.extend_from_slice(self.0.as_bytes());
        whole.extend_from_slice(line);
        io::stderr().write_all(&whole)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is set aside as `<file>.1` when it has grown to its bound, replacing
/// the one set aside before: on disk there is at most twice the bound.
struct BoundedFile {
    path: PathBuf,
    bytes_max: u64,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    bytes: u64,
}

impl BoundedFile {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = File::options().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            bytes_max,
            open: Mutex::new(Open { file, bytes }),
        })
    }

    fn set_aside(&self, open: &mut Open) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&self.path, aside)?;
        open.file = File::options().append(true).create(true).open(&self.path)?;
        open.bytes = 0;
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedFile {
    type Writer = &'a BoundedFile;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &BoundedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bytes >= self.bytes_max {
            self.set_aside(&mut open)?;
        }
        open.file.write_all(line)?;
        open.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_never_takes_more_than_twice_its_bound_and_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/weir.log");
        let line = [b'x'; 100];
        let file = BoundedFile::open(&path, 1_000).unwrap();
        for _ in 0..55 {
            (&file).write_all(&line).unwrap();
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert_eq!(size(&path), 500);
        assert_eq!(size(&path.with_extension("log.1")), 1_000);
        // Opened again it goes on where it was.
        let again = BoundedFile::open(&path, 1_000).unwrap();
        (&again).write_all(&line).unwrap();
        assert_eq!(size(&path), 600);
    }
}
