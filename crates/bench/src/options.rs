// SPDX-License-Identifier: Apache-2.0
//! The command line of `bench`.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
usage: bench [options]

Measures ADD and DEL of our plugin, of ptp + host-local and of the bare kernel operations, in turns, in a private
network and mount namespace; prints a table and writes it as JSON. Needs root.

  --strict            fail when a target is missed
  --rounds N          timed rounds of one ADD and one DEL each (default 200)
  --burst N           ADDs started at once (default 250)
  --addresses N       addresses in use for the full store (default 50000)
  --folder DIR        where stores and logs are kept meanwhile; not a tmpfs (default target/bench)
  --json FILE         where the numbers go (default target/bench.json)
  --bare PROGRAM      the program with the bare kernel operations (default: bare, beside this one)

Environment: CALICO_BIN_DIR has our plugins (default: beside this program); CNI_PEER_DIR has ptp and host-local
(default /usr/lib/cni, from the package containernetworking-plugins).
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Job {
    /// Print the help.
    Help,
    /// Run this program with its input and print how much memory it had at most: `bench` starts itself so.
    PeakMemory(PathBuf),
    /// Measure.
    Compare(Options),
}

/// How to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Fail when a target is missed.
    pub strict: bool,
    /// Timed rounds.
    pub rounds: usize,
    /// ADDs started at once.
    pub burst: usize,
    /// Addresses in use in the full store.
    pub addresses: usize,
    /// Where stores and logs are kept meanwhile.
    pub folder: PathBuf,
    /// Where the numbers go.
    pub json: PathBuf,
    /// The program with the bare kernel operations.
    pub bare: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: false,
            rounds: 200,
            burst: 250,
            addresses: 50_000,
            folder: "target/bench".into(),
            json: "target/bench.json".into(),
            bare: None,
        }
    }
}

impl Job {
    /// Reads the arguments after the program's name; the error says which one is wrong.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options::default();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--peak-memory" => return Ok(Self::PeakMemory(OsString::from(value()?).into())),
                "--strict" => options.strict = true,
                "--rounds" => options.rounds = count(&argument, &value()?)?,
                "--burst" => options.burst = count(&argument, &value()?)?,
                "--addresses" => options.addresses = count(&argument, &value()?)?,
                "--folder" => options.folder = value()?.into(),
                "--json" => options.json = value()?.into(),
                "--bare" => options.bare = Some(value()?.into()),
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        Ok(Self::Compare(options))
    }
}

fn count(argument: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{argument}: {text:?} is not a positive number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Job, String> {
        Job::read(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments() {
        assert_eq!(read(""), Ok(Job::Compare(Options::default())));
        let options = Options {
            strict: true,
            rounds: 5,
            json: "x.json".into(),
            ..Options::default()
        };
        assert_eq!(
            read("--strict --rounds 5 --json x.json"),
            Ok(Job::Compare(options))
        );
        assert_eq!(read("--rounds 5 --help"), Ok(Job::Help));
        assert_eq!(
            read("--rounds none"),
            Err("--rounds: \"none\" is not a positive number".into())
        );
        assert_eq!(read("--folder"), Err("--folder needs a value".into()));
        assert_eq!(read("--fast"), Err("unknown argument \"--fast\"".into()));
    }
}
