// SPDX-License-Identifier: Apache-2.0
//! How the playground writes: headings, explanations, tables, what a shell would print. Colour on terminals only, and not
//! where `NO_COLOR` is set (no-color.org).

use std::env;
use std::io::{IsTerminal as _, Stdout, Write as _, stdout};
use std::time::Duration;

/// What is left of a line of 100 columns after the margin.
const WIDTH: usize = 96;
const MARGIN: &str = "   ";

#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
    Red,
}

/// The paper.
pub(crate) struct Page {
    output: Stdout,
    coloured: bool,
    sections: u32,
    step: String,
}

impl Page {
    pub(crate) fn to_standard_output() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            output: stdout(),
            coloured: stdout().is_terminal() && !refused,
            sections: 0,
            step: "the beginning".to_owned(),
        }
    }

    /// The first line.
    pub(crate) fn title(&mut self, text: &str) {
        let text = self.paint(Style::Bold, text);
        self.print(&text);
    }

    /// A numbered section.
    pub(crate) fn section(&mut self, text: &str) {
        self.sections += 1;
        let heading = self.paint(Style::Bold, &format!("{}  {text}", self.sections));
        self.space();
        self.print(&heading);
    }

    /// Notes what is being done, for the case that it fails.
    pub(crate) fn step(&mut self, what: impl Into<String>) {
        self.step = what.into();
    }

    /// An explanation, broken into lines.
    pub(crate) fn explain(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&self.paint(Style::Dim, &line));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&self.paint(Style::Dim, &line));
        self.space();
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, text: &str) {
        self.print(&format!("{MARGIN}{text}"));
    }

    /// An empty line.
    pub(crate) fn space(&mut self) {
        self.print("");
    }

    /// A command and what it would print.
    pub(crate) fn command(&mut self, command: &str, output: &[String]) {
        self.line(&self.paint(Style::Bold, &format!("$ {command}")));
        for line in output {
            self.line(line);
        }
    }

    /// Columns as wide as their widest cell; the header is left out where it is empty.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
                    .max(width(header[column]))
            })
            .collect();
        let aligned = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(&widths).map(|(text, width)| format!("{text:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        if header.iter().any(|name| !name.is_empty()) {
            let names = aligned(&mut header.iter().copied());
            self.line(&self.paint(Style::Dim, &names));
        }
        for row in rows {
            self.line(&aligned(&mut row.iter().map(String::as_str)));
        }
    }

    /// Something that was to be shown is so.
    pub(crate) fn success(&mut self, text: &str) {
        let ok = self.paint(Style::Green, "ok");
        self.line(&format!("{ok} {text}"));
    }

    /// The last words of a playground that failed.
    pub(crate) fn failure(&mut self, error: &anyhow::Error) {
        let failed = self.paint(Style::Red, "FAILED:");
        self.space();
        self.print(&format!("{failed} {}", self.step));
        for line in format!("{error:#}").lines() {
            self.line(line);
        }
        self.line(&self.paint(Style::Dim, "Everything made so far has been removed again."));
    }

    /// Writes a line. Where nobody reads any more, nothing is left to say.
    fn print(&mut self, line: &str) {
        let _ = writeln!(self.output, "{line}");
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Green => 32,
            Style::Red => 31,
        };
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A duration the way people say it.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1e-3 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}
