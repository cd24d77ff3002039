// SPDX-License-Identifier: Apache-2.0
//! A change asked of the kernel, and several of them in one send.
//!
//! Each subject (`link`, `address`, `route`, `neighbour`) adds its constructors to [`Request`]; the socket executes.

use crate::wire::Message;

/// One change: a link, address, route or neighbour to be made, altered or removed. Carries the words of its error
/// message.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until a socket executes it"]
pub struct Request {
    pub(crate) message: Message,
    pub(crate) operation: String,
}

impl Request {
    pub(crate) fn new(message: Message, operation: String) -> Self {
        Self { message, operation }
    }

    /// What it does, with its object: the beginning of its error message.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Replaces the words of the error message, where the caller knows more than an interface number.
    pub fn described_as(mut self, operation: impl Into<String>) -> Self {
        self.operation = operation.into();
        self
    }
}

/// Requests that go out together, in order. Not a transaction: each stands alone.
#[derive(Debug, Clone, Default)]
#[must_use = "a batch does nothing until a socket applies it"]
pub struct Batch(Vec<Request>);

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a request.
    pub fn push(&mut self, request: Request) {
        self.0.push(request);
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_requests(self) -> Vec<Request> {
        self.0
    }
}

impl Extend<Request> for Batch {
    fn extend<I: IntoIterator<Item = Request>>(&mut self, requests: I) {
        self.0.extend(requests);
    }
}

impl FromIterator<Request> for Batch {
    fn from_iter<I: IntoIterator<Item = Request>>(requests: I) -> Self {
        Self(requests.into_iter().collect())
    }
}
