// SPDX-License-Identifier: Apache-2.0
//! The plugins' log: standard error always, and the file of `log_file_path`. Lines look like Calico's, so that the
//! same tools read them: `2026-01-02 15:04:05.000 [INFO][4711] cni-plugin: message key="value"`.
//!
//! A line is one write to a file opened for appending, so lines of concurrent plugins do not mix. Logging never
//! fails an operation: a file that cannot be written is said once on standard error.

use std::{
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use model::Timestamp;

/// How important a line is. The order is that of `log_level`: a level shows itself and what is above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Debug,
    /// What was done.
    #[default]
    Info,
    /// Something to look at; the operation went on.
    Warning,
    /// The operation failed.
    Error,
}

impl Level {
    /// `debug`, `info`, `error` in any case (and `warning`); everything else is info, as in Calico.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "warning" | "warn" => Self::Warning,
            "error" => Self::Error,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Where lines go and how long they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Least important level that is written.
    pub level: Level,
    /// Also write here; directories are made as needed.
    pub file: Option<PathBuf>,
    /// Size in megabytes at which a file is put aside.
    pub max_megabytes: u64,
    /// Days after which a file put aside is removed.
    pub max_days: u64,
    /// How many files put aside are kept.
    pub max_files: usize,
}

/// The log of one run.
#[derive(Debug, Default)]
pub struct Log {
    level: Level,
    component: &'static str,
    file: Option<File>,
}

impl Log {
    /// Opens the log. Cannot fail: without the file, standard error remains.
    pub fn open(component: &'static str, settings: &LogSettings) -> Self {
        let mut log = Self {
            level: settings.level,
            component,
            file: None,
        };
        if let Some(path) = &settings.file {
            match open_file(path, settings) {
                Ok(file) => log.file = Some(file),
                Err(error) => log.warning(format_args!(
                    "cannot write log_file_path {}: {error}",
                    path.display()
                )),
            }
        }
        log
    }

    /// A line for developers.
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Debug, message);
    }

    /// A line for operators.
    pub fn info(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Info, message);
    }

    /// A line about something to look at.
    pub fn warning(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Warning, message);
    }

    /// A line about a failure.
    pub fn error(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Error, message);
    }

    fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        if level < self.level {
            return;
        }
        let mut line = String::with_capacity(160);
        let now = Timestamp::from(SystemTime::now());
        let time = now.to_string();
        let milliseconds = now.unix_nanos() / 1_000_000 % 1000;
        // RFC 3339 is `2026-01-02T15:04:05Z`; Calico's lines have a blank and milliseconds instead.
        let (date, clock) = (
            time.get(..10).unwrap_or_default(),
            time.get(11..19).unwrap_or_default(),
        );
        let process = std::process::id();
        let _ = write!(
            line,
            "{date} {clock}.{milliseconds:03} [{}][{process}] {}: {message}",
            level.name(),
            self.component
        );
        // A value with a line break must not look like a line of its own.
        let mut line = line.replace(['\n', '\r'], " ");
        line.push('\n');
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

fn open_file(path: &Path, settings: &LogSettings) -> std::io::Result<File> {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            // Who reads a pipe is not waited for.
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
    };
    let file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open()?
        }
        other => other?,
    };
    if file.metadata()?.len() < settings.max_megabytes.max(1) * 1_000_000 {
        return Ok(file);
    }
    put_aside(path, settings)?;
    open()
}

/// Renames a full file to `<name>-<time>.<extension>` and removes those that are too old or too many. Two plugins
/// may do this at once: the loser's rename finds a fresh, small file or none, both harmless.
fn put_aside(path: &Path, settings: &LogSettings) -> std::io::Result<()> {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let now = SystemTime::now();
    let time = Timestamp::from(now).to_string().replace(':', "-");
    fs::rename(path, path.with_file_name(format!("{stem}-{time}.{extension}")))?;

    let mut aside = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{stem}-")) && name.ends_with(&format!(".{extension}")) {
            let modified = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .unwrap_or(now);
            aside.push((modified, entry.path()));
        }
    }
    aside.sort();
    let too_many = aside.len().saturating_sub(settings.max_files);
    let age_limit = Duration::from_secs(settings.max_days.max(1) * 86_400);
    for (index, (modified, path)) in aside.iter().enumerate() {
        let too_old = now.duration_since(*modified).is_ok_and(|age| age > age_limit);
        if index < too_many || too_old {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: PathBuf) -> LogSettings {
        LogSettings {
            level: Level::Info,
            file: Some(file),
            max_megabytes: 1,
            max_days: 30,
            max_files: 2,
        }
    }

    #[test]
    fn lines_have_the_form_of_calico_and_stay_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/cni.log");
        let log = Log::open("cni-plugin", &settings(path.clone()));
        log.info(format_args!("assigned address=\"10.0.0.1\"\ninjected"));
        log.debug(format_args!("not shown"));
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let (date, rest) = text.split_at(10);
        assert_eq!(date.split('-').count(), 3);
        assert!(
            rest.contains(&format!("[INFO][{}] cni-plugin: assigned", std::process::id())),
            "{rest}"
        );
    }

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.log");
        for name in ["cni-2020-01-01T00-00-00Z.log", "cni-2020-01-02T00-00-00Z.log"] {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        fs::write(&path, vec![b'x'; 1_000_001]).unwrap();
        Log::open("cni-plugin", &settings(path.clone())).info(format_args!("fresh"));
        assert!(fs::metadata(&path).unwrap().len() < 200);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            3,
            "the fresh one and max_files put aside"
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_does_not_stop_anything() {
        let log = Log::open("cni-plugin", &settings(PathBuf::from("/proc/nowhere/cni.log")));
        assert!(log.file.is_none());
        log.error(format_args!("still on standard error"));
    }
}
