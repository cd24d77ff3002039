// SPDX-License-Identifier: Apache-2.0
//! The command line of `bench-routing`.

use std::path::PathBuf;

use crate::takers::Taker;

/// What `--help` prints.
pub const HELP: &str = "\
usage: bench-routing [options]

Measures our BGP speaker and agent beside BIRD, FRR and GoBGP, in private network namespaces; prints tables and writes
them as JSON. Needs root and the packages of .ci/peers.

  --strict            fail when a target is missed
  --only NAMES        of tables, kernel, mesh: comma-separated (default all)
  --rounds N          rounds of each table (default 5)
  --routes NUMBERS    how many routes the tables get: comma-separated (default 100000,1000000)
  --takers NAMES      only those contenders for the tables: of speaker, bird, frr, gobgp (default all)
  --json FILE         where the numbers go (default target/bench-routing.json)
";

/// How to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Fail when a target is missed.
    pub strict: bool,
    /// What to measure; empty for everything.
    pub only: Vec<String>,
    /// Rounds.
    pub rounds: usize,
    /// How many routes the tables get, one table after the other.
    pub routes: Vec<u32>,
    /// Contenders for the tables.
    pub takers: Vec<Taker>,
    /// Where the numbers go.
    pub json: PathBuf,
}

impl Options {
    /// Reads the arguments after the program's name; `None` asks for help. The error says which one is wrong.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            strict: false,
            only: Vec::new(),
            rounds: 5,
            routes: vec![100_000, 1_000_000],
            takers: Taker::TABLES.to_vec(),
            json: "target/bench-routing.json".into(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--strict" => options.strict = true,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| (1..=100).contains(rounds));
                    options.rounds =
                        rounds.ok_or_else(|| format!("{argument}: {text:?} is not a number of 1 to 100"))?;
                }
                "--routes" => options.routes = list(&argument, &value()?, |text| text.parse().ok())?,
                "--takers" => options.takers = list(&argument, &value()?, Taker::by_word)?,
                "--json" => options.json = value()?.into(),
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        let known = |name: &String| ["tables", "kernel", "mesh"].contains(&name.as_str());
        match options.only.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("--only: {name:?} is none of tables, kernel, mesh")),
            None => Ok(Some(options)),
        }
    }

    /// Whether something is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn list<T>(argument: &str, text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let item =
        |word: &str| read(word).ok_or_else(|| format!("{argument}: {word:?} is not known; see --help"));
    text.split(',').map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Option<Options>, String> {
        Options::read(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_read_and_wrong_ones_named() {
        let options = read("--only mesh,kernel --rounds 2 --strict").unwrap().unwrap();
        assert!(options.wants("mesh") && !options.wants("tables") && options.strict);
        assert_eq!(options.rounds, 2);
        assert!(read("").unwrap().unwrap().wants("tables"));
        assert_eq!(read("--help"), Ok(None));
        for (words, named) in [
            ("--only x", "\"x\""),
            ("--rounds 0", "\"0\""),
            ("--rounds", "--rounds"),
            ("--routes 1,z", "\"z\""),
            ("--takers quagga", "quagga"),
            ("y", "\"y\""),
        ] {
            assert!(read(words).unwrap_err().contains(named), "{words}");
        }
    }
}
