// SPDX-License-Identifier: Apache-2.0
//! Where log lines go.

use tracing_subscriber::{filter::LevelFilter, fmt};

/// Begins to log to standard error.
pub(crate) fn start() {
    let subscriber = fmt()
        .with_writer(std::io::stderr)
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        .finish();
    // A second start in one process finds the first.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
