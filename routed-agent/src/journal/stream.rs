// SPDX-License-Identifier: Apache-2.0
//! Reading along: the lines from now on, for a bounded number of readers. All share one bounded store of lines that are to
//! be read; a reader that falls behind it is told how many it has missed.

use std::sync::{Arc, atomic::Ordering};

use serde_json::json;
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use super::{Filter, Journal, MAX_READERS, News, Shared, line::now_ms, time_text};

/// Bytes after which lines are handed on.
const CHUNK: usize = 32 * 1024;

/// No further reader has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_READERS} readers follow the changes already; end one of them")]
pub struct TooManyReaders;

/// Whoever reads along.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    news: broadcast::Receiver<Arc<News>>,
    filter: Filter,
    /// What is to be said first.
    first: Option<Vec<u8>>,
}

impl Journal {
    /// Everything from now on that is asked for.
    pub fn read_along(&self, filter: Filter) -> Result<Reader, TooManyReaders> {
        let shared = Arc::clone(&self.shared);
        let has_place = |count: usize| (count < MAX_READERS).then_some(count + 1);
        if shared
            .readers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, has_place)
            .is_err()
        {
            return Err(TooManyReaders);
        }
        // Lines are numbered and sent under this lock: none is missed, none comes twice.
        let state = shared.state();
        let news = shared.news.subscribe();
        let sequence = state.sequence;
        drop(state);
        let begin = json!({ "kind": "begin", "sequence": sequence, "time": time_text(now_ms()) });
        Ok(Reader {
            shared,
            news,
            filter,
            first: Some(format!("{begin}\n").into_bytes()),
        })
    }
}

impl Reader {
    /// The next lines, once there are some; `None`: the journal has ended.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut chunk = Vec::new();
        while chunk.is_empty() {
            match self.news.recv().await {
                Ok(news) => self.take(&news, &mut chunk),
                Err(RecvError::Lagged(count)) => chunk = lost(count),
                Err(RecvError::Closed) => return None,
            }
        }
        while chunk.len() < CHUNK {
            match self.news.try_recv() {
                Ok(news) => self.take(&news, &mut chunk),
                Err(TryRecvError::Lagged(count)) => chunk.extend(lost(count)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(chunk)
    }

    fn take(&self, news: &News, chunk: &mut Vec<u8>) {
        if self.filter.wants(&news.line) {
            chunk.extend_from_slice(&news.json);
        }
    }
}

/// Tells a reader that it was too slow.
fn lost(count: u64) -> Vec<u8> {
    let line = json!({
        "kind": "lost", "time": time_text(now_ms()), "lost": count, "cause": "this reader was too slow",
    });
    format!("{line}\n").into_bytes()
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.readers.fetch_sub(1, Ordering::AcqRel);
    }
}
