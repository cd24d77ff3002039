// SPDX-License-Identifier: Apache-2.0
//! One connection of a session: its bytes, its state, its timers.

use std::time::Duration;

use super::{
    config::{ConnectionId, SessionConfig, Time},
    event::Reason,
    negotiation::Negotiated,
};
use crate::message::{
    Encoding, Message, Notification, frame,
    notification::{cease, code},
};

/// How far a connection is, by RFC 4271 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// OPEN was sent.
    OpenSent,
    /// The peer's OPEN has come and was good.
    OpenConfirm,
    /// The session is up.
    Established,
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Whether this side has made it.
    pub(super) outgoing: bool,
    /// Since when it is there.
    pub(super) begun: Time,
    /// Since when the session is up on it.
    pub(super) established: Option<Time>,
    pub(super) state: State,
    /// Once the peer's OPEN has come.
    pub(super) negotiated: Option<Negotiated>,
    /// The peer has to be heard before.
    hold: Option<Time>,
    /// The peer's OPEN has been answered with a KEEPALIVE.
    pub(super) confirmed: bool,
    /// The peer has answered the own OPEN.
    pub(super) acknowledged: bool,
    /// The answer waits until then, or until the other connection is decided.
    pub(super) deferred: Option<Time>,
    keepalive: Option<Time>,
    /// Bytes that are no whole message yet.
    partial: Vec<u8>,
}

impl Connection {
    pub(super) const fn new(id: ConnectionId, outgoing: bool, now: Time, open_by: Time) -> Self {
        Self {
            id,
            outgoing,
            begun: now,
            established: None,
            state: State::OpenSent,
            negotiated: None,
            hold: Some(open_by),
            confirmed: false,
            acknowledged: false,
            deferred: None,
            keepalive: None,
            partial: Vec::new(),
        }
    }

    /// Takes bytes and reads what messages there are, but nothing behind an OPEN, which changes how the rest is to be
    /// read: then `true` comes back, and it is to be called again.
    pub(super) fn read(&mut self, bytes: &[u8], messages: &mut Vec<Message>) -> Result<bool, Notification> {
        let encoding = self
            .negotiated
            .as_ref()
            .map_or_else(Encoding::default, |agreed| agreed.encoding);
        self.partial.extend_from_slice(bytes);
        let mut read = 0;
        let result = loop {
            let found = match frame(&self.partial[read..], encoding.extended_message) {
                Ok(Some(found)) => found,
                Ok(None) => break Ok(false),
                Err(notification) => break Err(notification),
            };
            read += found.length;
            match Message::read(&found, encoding) {
                Ok(message) => {
                    let changes = matches!(message, Message::Open(_));
                    messages.push(message);
                    if changes {
                        break Ok(read < self.partial.len());
                    }
                }
                Err(notification) => break Err(notification),
            }
        };
        self.partial.drain(..read);
        result
    }

    /// The peer's OPEN was good.
    pub(super) fn confirm(&mut self, negotiated: Negotiated, now: Time) {
        self.state = State::OpenConfirm;
        self.hold = (!negotiated.hold_time.is_zero()).then(|| now + negotiated.hold_time);
        self.keepalive = (!negotiated.keepalive_time.is_zero()).then(|| now + negotiated.keepalive_time);
        self.negotiated = Some(negotiated);
    }

    pub(super) fn establish(&mut self, now: Time) {
        self.state = State::Established;
        self.established = Some(now);
        self.heard(now);
    }

    /// The peer is alive.
    pub(super) fn heard(&mut self, now: Time) {
        let time = self.negotiated.as_ref().map(|negotiated| negotiated.hold_time);
        self.hold = time.filter(|time| !time.is_zero()).map(|time| now + time);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let times = self
            .hold
            .into_iter()
            .chain(self.keepalive.filter(|_| self.confirmed));
        times.chain(self.deferred).min()
    }

    pub(super) fn hold_expired(&self, now: Time) -> bool {
        self.hold.is_some_and(|time| time <= now)
    }

    pub(super) fn keepalive_due(&self, now: Time) -> bool {
        self.confirmed && self.keepalive.is_some_and(|time| time <= now)
    }

    pub(super) fn keepalive_time(&self) -> Duration {
        self.negotiated
            .as_ref()
            .map(|negotiated| negotiated.keepalive_time)
            .unwrap_or_default()
    }

    pub(super) const fn set_keepalive(&mut self, next: Time) {
        self.keepalive = Some(next);
    }

    /// Whether a new connection of the peer's means that it has restarted (RFC 4724 4.2).
    pub(super) fn expects_restart(&self) -> bool {
        self.negotiated
            .as_ref()
            .is_some_and(|negotiated| negotiated.peer_restart.is_some())
    }

    /// Whether both sides take a NOTIFICATION for a restart (RFC 8538 2).
    fn survives_notifications(&self, config: &SessionConfig) -> bool {
        let theirs = self
            .negotiated
            .as_ref()
            .and_then(|agreed| agreed.peer_restart.as_ref());
        let own = config.graceful_restart.as_ref();
        theirs.is_some_and(|theirs| theirs.notification) && own.is_some_and(|own| own.notification)
    }

    /// A NOTIFICATION that makes the peer drop the routes: as a hard reset where another would be taken for a restart
    /// (RFC 8538 3.1).
    pub(super) fn for_good(&self, config: &SessionConfig, notification: &Notification) -> Notification {
        // A reset and a change of the configuration are restarts indeed.
        let is_restart = matches!(
            notification.subcode,
            cease::RESET | cease::CONFIGURATION | cease::HARD_RESET
        );
        if !self.survives_notifications(config) || is_restart {
            return notification.clone();
        }
        let mut data = vec![notification.code, notification.subcode];
        data.extend(&notification.data);
        Notification::new(code::CEASE, cease::HARD_RESET).with(data)
    }

    /// Whether the peer's routes are to be kept after an end like this.
    pub(super) fn is_graceful_end(&self, config: &SessionConfig, reason: &Reason) -> bool {
        let Some(restart) = self
            .negotiated
            .as_ref()
            .and_then(|negotiated| negotiated.peer_restart.as_ref())
        else {
            return false;
        };
        let notification = self.survives_notifications(config);
        let is_hard = |found: &Notification| found.code == code::CEASE && found.subcode == cease::HARD_RESET;
        !restart.families.is_empty()
            && match reason {
                Reason::Closed | Reason::Replaced => true,
                Reason::Received(found) => notification && !is_hard(found),
                Reason::Sent(found) => notification && found.code == code::HOLD_TIMER,
                Reason::Unreachable | Reason::Stopped | Reason::Collision => false,
            }
    }
}
