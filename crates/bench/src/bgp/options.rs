// SPDX-License-Identifier: Apache-2.0
//! The command line of `bench-bgp`.

use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
usage: bench-bgp [options]

Measures routed-agent against BIRD, FRR and GoBGP, in private network namespaces; prints a table and writes it as
JSON. Needs root and those programs.

  --strict            fail when a target is missed
  --rounds N          rounds with the small table (default 5)
  --large-rounds N    rounds with the large table (default 3; GoBGP has one)
  --routes N          routes of the small table (default 100000)
  --large-routes N    routes of the large table (default 1000000)
  --only PART[,PART]  of: rib, mesh, change, idle, kernel
  --agent PROGRAM     the agent (default: routed-agent, beside this one)
  --json FILE         where the numbers go (default target/bench-bgp.json)
";

/// What there is to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Many routes of one peer.
    Rib,
    /// Many peers from cold.
    Mesh,
    /// One block changed.
    Change,
    /// Nothing happens.
    Idle,
    /// Routes into the kernel.
    Kernel,
}

/// All parts by name, in the order they are done.
const PARTS: [(&str, Part); 5] = [
    ("rib", Part::Rib),
    ("mesh", Part::Mesh),
    ("change", Part::Change),
    ("idle", Part::Idle),
    ("kernel", Part::Kernel),
];

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Job {
    /// Print the help.
    Help,
    /// Be the speaker that takes part alone: `bench-bgp` starts itself so.
    Speaker,
    /// Measure.
    Compare(Options),
}

/// How to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Fail when a target is missed.
    pub strict: bool,
    /// Rounds with the small table.
    pub rounds: usize,
    /// Rounds with the large table.
    pub large_rounds: usize,
    /// Routes of the small table.
    pub routes: usize,
    /// Routes of the large table.
    pub large_routes: usize,
    /// What is measured.
    pub parts: Vec<Part>,
    /// The agent.
    pub agent: Option<PathBuf>,
    /// Where the numbers go.
    pub json: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: false,
            rounds: 5,
            large_rounds: 3,
            routes: 100_000,
            large_routes: 1_000_000,
            parts: PARTS.map(|(_, part)| part).into(),
            agent: None,
            json: "target/bench-bgp.json".into(),
        }
    }
}

impl Options {
    /// Whether a part is wanted.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
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
                "--speaker" => return Ok(Self::Speaker),
                "--strict" => options.strict = true,
                "--rounds" => options.rounds = count(&argument, &value()?)?,
                "--large-rounds" => options.large_rounds = count(&argument, &value()?)?,
                "--routes" => options.routes = routes(&argument, &value()?)?,
                "--large-routes" => options.large_routes = routes(&argument, &value()?)?,
                "--only" => options.parts = parts(&value()?)?,
                "--agent" => options.agent = Some(value()?.into()),
                "--json" => options.json = value()?.into(),
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

/// Prefixes of /28 out of a /8.
fn routes(argument: &str, text: &str) -> Result<usize, String> {
    match count(argument, text)? {
        number if number <= 1 << 20 => Ok(number),
        _ => Err(format!("{argument}: {text} is more than {}", 1 << 20)),
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let find = |name: &str| {
        let found = PARTS.iter().find(|(known, _)| *known == name);
        let names = PARTS.map(|(known, _)| known).join(", ");
        found
            .map(|(_, part)| *part)
            .ok_or_else(|| format!("--only: no part {name:?}; there are {names}"))
    };
    text.split(',').map(find).collect()
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
            parts: vec![Part::Mesh, Part::Idle],
            large_routes: 5,
            ..Options::default()
        };
        assert_eq!(
            read("--only mesh,idle --large-routes 5"),
            Ok(Job::Compare(options))
        );
        assert_eq!(read("--rounds 5 -h"), Ok(Job::Help));
        assert_eq!(
            read("--only rip"),
            Err("--only: no part \"rip\"; there are rib, mesh, change, idle, kernel".into())
        );
        assert_eq!(
            read("--routes 1048577"),
            Err("--routes: 1048577 is more than 1048576".into())
        );
        assert_eq!(read("--rounds"), Err("--rounds needs a value".into()));
    }
}
