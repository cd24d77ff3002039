// SPDX-License-Identifier: Apache-2.0
//! What of the journal is on disk: three files of lines of JSON, for routes, for addresses and for everything else, so that none
//! pushes out another. A file that is full is put aside as `NAME.previous`, and the one before that goes. A line that was
//! cut off by the machine's end, or by a full disk, costs itself.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::line::{Kind, Line, Names};

/// Bytes at which a file is put aside.
const MAX_SIZE: u64 = 8 * 1024 * 1024;
/// How long a file that cannot be opened is left alone.
const RETRY: Duration = Duration::from_secs(5);

/// All files.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    files: [Lines; 3],
}

/// One file and its predecessor.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// The last line has no end.
    torn: bool,
    retry_at: Option<Instant>,
    max_size: u64,
}

/// What could not be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) lines: u64,
    pub(super) problem: Option<String>,
}

/// Which of the files a line belongs to.
const fn file_of(kind: Kind) -> usize {
    match kind {
        Kind::Route | Kind::Selection | Kind::Repair | Kind::Refusal => 1,
        Kind::Addresses => 2,
        _ => 0,
    }
}

impl Disk {
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_size(folder, MAX_SIZE)
    }

    fn with_size(folder: &Path, max_size: u64) -> Self {
        let lines = |name: &str| Lines {
            path: folder.join(name),
            file: None,
            size: 0,
            torn: false,
            retry_at: None,
            max_size,
        };
        Self {
            folder: folder.to_owned(),
            files: [lines("events"), lines("routes"), lines("addresses")],
        }
    }

    /// Everything that is there, by number; and how many lines could not be read.
    pub(super) fn read(&self) -> (Vec<Line>, usize) {
        let mut names = Names::default();
        let mut found = Vec::new();
        let mut broken = 0;
        for lines in &self.files {
            for path in [lines.previous(), lines.path.clone()] {
                let Ok(file) = File::open(&path) else { continue };
                let mut bytes = Vec::new();
                // What can be read of a damaged file is better than nothing.
                let _ = file.take(2 * lines.max_size).read_to_end(&mut bytes);
                for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
                    match Line::read_json(text, &mut names) {
                        Some(line) => found.push(line),
                        None => broken += 1,
                    }
                }
            }
        }
        found.sort_by_key(|line| line.sequence);
        (found, broken)
    }

    /// Writes lines. A full disk costs lines, nothing else.
    pub(super) fn write<'a>(&mut self, lines: impl Iterator<Item = &'a Line>, unwritten: &mut Unwritten) {
        let mut lots = [const { (Vec::new(), 0) }; 3];
        for line in lines {
            let (bytes, count) = &mut lots[file_of(line.kind)];
            line.write_json(bytes);
            *count += 1;
        }
        let mut found = None;
        for (file, (bytes, count)) in self.files.iter_mut().zip(lots) {
            if let Err(problem) = file.write(&self.folder, &bytes) {
                unwritten.lines += count;
                found = Some(format!("{}: {problem}", file.path.display()));
            }
        }
        unwritten.problem = found;
    }
}

impl Lines {
    fn previous(&self) -> PathBuf {
        self.path.with_extension("previous")
    }

    fn open(&mut self, folder: &Path) -> std::io::Result<()> {
        if self.retry_at.is_some_and(|time| time > Instant::now()) {
            return Err(std::io::Error::other("could not be opened; tried again soon"));
        }
        self.retry_at = Some(Instant::now() + RETRY);
        fs::create_dir_all(folder)?;
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)?;
        self.size = file.metadata()?.len();
        self.torn = self.size > 0 && !ends_a_line(&mut file);
        self.file = Some(file);
        self.retry_at = None;
        Ok(())
    }

    /// In pieces of whole lines, so that a file is no larger than it may be.
    fn write(&mut self, folder: &Path, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            if self.file.is_none() {
                self.open(folder)?;
            }
            let room = usize::try_from(self.max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let fits = if bytes.len() <= room {
                bytes.len()
            } else {
                let end = bytes[..room].iter().rposition(|byte| *byte == b'\n');
                end.map_or(0, |end| end + 1)
            };
            if fits == 0 && self.size > 0 {
                self.put_aside()?;
                continue;
            }
            // A line that is larger than a file may be is written all the same: there is none.
            let (piece, rest) = bytes.split_at(if fits == 0 { bytes.len() } else { fits });
            let Some(file) = &mut self.file else { continue };
            if std::mem::take(&mut self.torn) {
                self.torn = true;
                file.write_all(b"\n")?;
                self.torn = false;
                self.size += 1;
            }
            if let Err(problem) = file.write_all(piece) {
                // How much has been written is not known.
                self.size = file.metadata().map_or(self.size, |data| data.len());
                self.torn = true;
                return Err(problem);
            }
            self.size += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn put_aside(&mut self) -> std::io::Result<()> {
        self.torn = false;
        self.size = 0;
        if fs::rename(&self.path, self.previous()).is_ok() {
            self.file = None;
            return Ok(());
        }
        // It has to stay bounded, whatever the folder allows.
        self.file.as_ref().map_or(Ok(()), |file| file.set_len(0))
    }
}

/// Whether a file's last byte ends a line.
fn ends_a_line(file: &mut File) -> bool {
    use std::io::{Seek as _, SeekFrom};
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).is_ok() && file.read_exact(&mut last).is_ok() && last == *b"\n"
}

#[cfg(test)]
mod tests {
    use super::{
        super::line::{Change, Object},
        *,
    };

    fn line(sequence: u64, kind: Kind) -> Line {
        let object = Object::from(format!("10.0.{}.0/24", sequence % 256).as_str());
        let mut line = Line::new(kind, Change::Added, object, "a test".into());
        line.sequence = sequence;
        line
    }

    fn write(disk: &mut Disk, lines: &[Line]) -> Unwritten {
        let mut unwritten = Unwritten::default();
        disk.write(lines.iter(), &mut unwritten);
        unwritten
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("journal");
        let lines = [line(1, Kind::Session), line(2, Kind::Route), line(3, Kind::Store)];
        assert_eq!(write(&mut Disk::new(&folder), &lines), Unwritten::default());
        assert_eq!(Disk::new(&folder).read(), (lines.to_vec(), 0));
    }

    #[test]
    fn a_torn_line_costs_itself() {
        let folder = tempfile::tempdir().unwrap();
        write(
            &mut Disk::new(folder.path()),
            &[line(1, Kind::Route), line(2, Kind::Route)],
        );
        let path = folder.path().join("routes");
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            write(&mut Disk::new(folder.path()), &[line(3, Kind::Route)]);
            let (read, broken) = Disk::new(folder.path()).read();
            assert_eq!(read.last(), Some(&line_at(&read, 3)), "cut at {cut}");
            assert!(broken <= 1, "cut at {cut}");
        }
    }

    fn line_at(lines: &[Line], sequence: u64) -> Line {
        lines
            .iter()
            .find(|line| line.sequence == sequence)
            .unwrap()
            .clone()
    }

    #[test]
    fn files_are_bounded_and_neither_routes_nor_addresses_push_out_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::with_size(folder.path(), 10_000);
        write(&mut disk, &[line(1, Kind::Session)]);
        for lot in 0..20 {
            let lines: Vec<Line> = (0..100).map(|at| line(2 + lot * 100 + at, Kind::Route)).collect();
            assert_eq!(write(&mut disk, &lines), Unwritten::default());
        }
        // A file apart: what is looked at below are the others.
        let addresses: Vec<Line> = (0..1000).map(|at| line(9000 + at, Kind::Addresses)).collect();
        assert_eq!(write(&mut disk, &addresses), Unwritten::default());
        for file in fs::read_dir(folder.path()).unwrap() {
            assert!(file.unwrap().metadata().unwrap().len() <= 10_000);
        }
        let (mut read, broken) = disk.read();
        read.retain(|line| line.kind != Kind::Addresses);
        assert_eq!((read[0].kind, broken), (Kind::Session, 0));
        assert_eq!(read.last().unwrap().sequence, 2001);
        // Without gaps: two files' worth.
        let first = read[1].sequence;
        assert!(
            read[1..]
                .iter()
                .zip(first..)
                .all(|(line, number)| line.sequence == number)
        );
        assert!(read.len() > 60, "{}", read.len());
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut disk = Disk::with_size(folder.path(), 10_000);
        let unwritten = write(&mut disk, &[line(1, Kind::Session), line(2, Kind::Route)]);
        assert_eq!(unwritten.lines, 1);
        assert!(unwritten.problem.unwrap().contains("routes: "));
        assert_eq!(
            Disk::with_size(folder.path(), 10_000).read().0,
            [line_at(&disk.read().0, 1)]
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut disk = Disk::new(&file.join("journal"));
        assert_eq!(write(&mut disk, &[line(1, Kind::Route)]).lines, 1);
        assert_eq!(write(&mut disk, &[line(2, Kind::Route)]).lines, 1);
    }
}
