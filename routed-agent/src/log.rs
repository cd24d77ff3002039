// SPDX-License-Identifier: Apache-2.0
//! The agent's log lines: to standard error, and to two files where readers of Calico's logs look for them,
//! `bird/current` for BGP and `felix/current` for everything else, in a folder of their own. Levels change while it runs;
//! a file that is full is put aside as `previous`, and the one before that goes. A disk that is full costs lines, nothing
//! else.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::SystemTime,
};

use model::Timestamp;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

/// Bytes at which a file is put aside.
const MAX_SIZE: u64 = 10 * 1024 * 1024;

/// The target of lines that belong to BGP.
pub(crate) const BGP: &str = "bgp";

/// What is written where. Levels are those of [`rank`].
#[derive(Debug, Default)]
struct Sinks {
    screen: AtomicU8,
    felix: AtomicU8,
    bird: AtomicU8,
    files: Mutex<Option<[LogFile; 2]>>,
}

static SINKS: OnceLock<Sinks> = OnceLock::new();

fn sinks() -> &'static Sinks {
    SINKS.get_or_init(|| {
        let info = || AtomicU8::new(rank(Level::INFO));
        Sinks {
            screen: info(),
            felix: info(),
            bird: info(),
            files: Mutex::new(None),
        }
    })
}

/// 1 is an error, 5 everything; 0 as a limit lets nothing through.
const fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The levels of the three logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) screen: Option<Level>,
    pub(crate) felix: Option<Level>,
    pub(crate) bird: Option<Level>,
}

/// Begins to log to standard error.
pub(crate) fn start() {
    let subscriber = tracing_subscriber::registry().with(Writer);
    // A second start in one process finds the first.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Sets levels; `None` is silence.
pub(crate) fn set_levels(levels: Levels) {
    let limit = |level: Option<Level>| level.map_or(0, rank);
    let sinks = sinks();
    sinks.screen.store(limit(levels.screen), Ordering::Relaxed);
    sinks.felix.store(limit(levels.felix), Ordering::Relaxed);
    sinks.bird.store(limit(levels.bird), Ordering::Relaxed);
}

/// Logs to files in this folder as well.
pub(crate) fn set_folder(folder: &Path) -> std::io::Result<()> {
    let open = |name: &str| LogFile::open(&folder.join(name));
    let files = [open("felix")?, open("bird")?];
    *sinks().files.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
    Ok(())
}

struct Writer;

impl<S: Subscriber> Layer<S> for Writer {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        // Levels change: nothing is decided once and for all.
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let sinks = sinks();
        let limits = [&sinks.screen, &sinks.felix, &sinks.bird];
        limits
            .iter()
            .any(|limit| rank(*metadata.level()) <= limit.load(Ordering::Relaxed))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        // The libraries' own targets are of no interest here.
        let is_bgp = metadata.target() == BGP || text.kind.as_deref() == Some("session");
        let level = rank(*metadata.level());
        let time = Timestamp::from(SystemTime::now()).to_string();
        let name = if is_bgp { "bird" } else { "felix" };
        let word = metadata.level().as_str();
        let line = format!(
            "{time} [{word}][{}] {name}: {}\n",
            std::process::id(),
            text.message
        );
        let sinks = sinks();
        if level <= sinks.screen.load(Ordering::Relaxed) {
            // Nobody to tell that nobody reads.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        let limit = if is_bgp { &sinks.bird } else { &sinks.felix };
        if level <= limit.load(Ordering::Relaxed)
            && let Some(files) = sinks
                .files
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_mut()
        {
            files[usize::from(is_bgp)].write(line.as_bytes());
        }
    }
}

/// A line's words.
#[derive(Default)]
struct Text {
    message: String,
    kind: Option<String>,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "kind" => self.kind = Some(value.to_owned()),
            name => {
                let _ = write!(self.message, " {name}={value:?}");
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Before fields that came earlier. One event is one line.
            let text = format!("{value:?}").replace('\n', "\\n");
            self.message.insert_str(0, &text);
        } else {
            let _ = write!(self.message, " {}={value:?}", field.name());
        }
    }
}

/// A log that does not grow without end.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    fn open(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("current");
        let file = File::options().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size })
    }

    fn write(&mut self, line: &[u8]) {
        if self.size + line.len() as u64 > MAX_SIZE {
            self.put_aside();
        }
        // A full disk: the line is lost, the next may fit.
        if self.file.write_all(line).is_ok() {
            self.size += line.len() as u64;
        }
    }

    fn put_aside(&mut self) {
        let renamed = fs::rename(&self.path, self.path.with_file_name("previous"));
        let opened = renamed.and_then(|()| File::options().create(true).append(true).open(&self.path));
        match opened {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            // It has to stay bounded, whatever the folder allows.
            Err(_) => {
                if self.file.set_len(0).is_ok() {
                    self.size = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_one_before_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::open(&folder.path().join("bird")).unwrap();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..35 {
            file.write(&line);
        }
        let sizes: Vec<u64> = ["current", "previous"]
            .map(|name| fs::metadata(folder.path().join("bird").join(name)).unwrap().len())
            .into();
        assert!(
            sizes.iter().all(|size| (1..=MAX_SIZE).contains(size)),
            "{sizes:?}"
        );
        assert_eq!(fs::read_dir(folder.path().join("bird")).unwrap().count(), 2);
    }
}
