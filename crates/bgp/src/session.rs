// SPDX-License-Identifier: Apache-2.0
//! One peer: dialling and being dialled, the finite state machine of RFC 4271 8, collisions (6.8, RFC 6286), timers.
//!
//! ```text
//!            Start             dialled or accepted        OPEN received         KEEPALIVE received
//!   Idle ──────────► Connect ──────────────► OpenSent ──────────► OpenConfirm ──────────► Established
//!     ▲              Active     OPEN sent              KEEPALIVE sent
//!     └── Stop ◄── (from anywhere: back to Connect or Active after a pause, unless stopped)
//! ```
//!
//! The states up to Active belong to the peer, the later ones to each connection: there may be two, one of either
//! side's making, until a collision is resolved. Events go in with the time, actions come out; [`Session::deadline`]
//! says when the next [`Event::Time`] is due. Nothing here touches a socket or a clock.

mod config;
mod connection;
mod event;
mod negotiation;
#[cfg(test)]
mod tests;

use std::{mem, time::Duration};

pub use config::{ConnectionId, RestartOffer, SessionConfig, Time, Waits};
pub use connection::State as ConnectionState;
pub use event::{Action, Down, Event, Reason};
pub use negotiation::Negotiated;

use crate::message::{
    Message, Notification, keepalive,
    notification::{cease, code, fsm},
};
use connection::{Connection, State};

/// The state of a session, by RFC 4271.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Not wanted.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting to dial, or to be dialled.
    Active,
    /// OPEN was sent.
    OpenSent,
    /// OPENs were exchanged.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// One peer's session. See the module.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    wanted: bool,
    dialling: bool,
    /// When to dial, or to give up dialling.
    dial_timer: Option<Time>,
    retry: Duration,
    connections: Vec<Connection>,
    random: u64,
}

impl Session {
    /// A session that is not started. `seed` spreads its timers: two sides that dial and retry in step would collide
    /// for ever.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        Self {
            retry: config.waits.retry,
            config,
            wanted: false,
            dialling: false,
            dial_timer: None,
            connections: Vec::new(),
            random: seed | 1,
        }
    }

    /// What it is.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The own restart is over: later OPENs do not speak of it any more (RFC 4724 4.1).
    pub fn restart_is_over(&mut self) {
        if let Some(restart) = &mut self.config.graceful_restart {
            restart.restarted = false;
        }
    }

    /// Its state: that of its most advanced connection.
    pub fn state(&self) -> SessionState {
        let furthest = self.connections.iter().map(|connection| connection.state).max();
        match furthest {
            Some(State::Established) => SessionState::Established,
            Some(State::OpenConfirm) => SessionState::OpenConfirm,
            Some(State::OpenSent) => SessionState::OpenSent,
            None if !self.wanted => SessionState::Idle,
            None if self.dialling => SessionState::Connect,
            None => SessionState::Active,
        }
    }

    /// When the next [`Event::Time`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let of_connections = self.connections.iter().filter_map(Connection::deadline);
        of_connections.chain(self.dial_timer).min()
    }

    /// Takes an event; what is to be done about it is appended to `actions`.
    pub fn handle(&mut self, event: Event<'_>, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Start => self.start(now, actions),
            Event::Stop(notification) => self.stop(notification.as_ref(), actions),
            Event::Dialled(id) => {
                if !mem::take(&mut self.dialling) {
                    actions.push(Action::Close(id));
                    return;
                }
                self.dial_timer = None;
                self.begin(id, true, now, actions);
            }
            Event::DialFailed => {
                if mem::take(&mut self.dialling) {
                    actions.push(Action::Failed(Reason::Unreachable));
                    self.pause(now);
                }
            }
            Event::Accepted(id) => self.accept(id, now, actions),
            Event::Received(id, bytes) => self.receive(id, bytes, now, actions),
            Event::Closed(id) => self.end(id, Reason::Closed, now, actions),
            Event::Time => self.pass(now, actions),
        }
    }

    fn start(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.wanted {
            self.wanted = true;
            self.retry = self.config.waits.retry;
            self.dial(now, actions);
        }
    }

    fn stop(&mut self, notification: Option<&Notification>, actions: &mut Vec<Action>) {
        self.wanted = false;
        self.dial_timer = None;
        self.cancel_dial(actions);
        for connection in mem::take(&mut self.connections) {
            if let Some(notification) = notification {
                let sent = connection.for_good(&self.config, notification);
                actions.push(Action::Send(connection.id, sent.to_bytes()));
            }
            actions.push(Action::Close(connection.id));
            if connection.state == State::Established {
                let reason = notification.map_or(Reason::Stopped, |sent| Reason::Sent(sent.clone()));
                actions.push(Action::Down(Down {
                    reason,
                    graceful: false,
                }));
            }
        }
    }

    fn dial(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.dial_timer = None;
        if self.wanted && !self.config.passive && !self.dialling && self.connections.is_empty() {
            self.dialling = true;
            self.dial_timer = Some(now + self.config.waits.connect);
            actions.push(Action::Dial);
        }
    }

    fn cancel_dial(&mut self, actions: &mut Vec<Action>) {
        if mem::take(&mut self.dialling) {
            self.dial_timer = None;
            actions.push(Action::CancelDial);
        }
    }

    /// Before the next attempt to dial.
    fn pause(&mut self, now: Time) {
        if self.wanted && !self.config.passive && self.connections.is_empty() {
            self.dial_timer = Some(now + self.spread(self.retry));
            self.retry = (self.retry * 2).min(self.config.waits.longest_retry);
        }
    }

    /// Three to four quarters of a time (RFC 4271 10).
    fn spread(&mut self, time: Duration) -> Duration {
        // xorshift64: nothing here needs to be unpredictable.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = u32::try_from(self.random % 256).unwrap_or_default();
        time * (768 + part) / 1024
    }

    /// Begins with a connection that is there.
    fn begin(&mut self, id: ConnectionId, outgoing: bool, now: Time, actions: &mut Vec<Action>) {
        let open = negotiation::offer(&self.config);
        actions.push(Action::Send(id, open.to_bytes()));
        let open_by = now + self.config.waits.open;
        self.connections.push(Connection::new(id, outgoing, now, open_by));
    }

    fn accept(&mut self, id: ConnectionId, now: Time, actions: &mut Vec<Action>) {
        let incoming = self.connections.iter().filter(|connection| !connection.outgoing);
        // The peer gives up an earlier connection of its making before it makes another.
        let superseded = incoming
            .filter(|connection| connection.state != State::Established)
            .map(|connection| connection.id)
            .collect::<Vec<_>>();
        if !self.wanted {
            let notification = Notification::new(code::CEASE, cease::REJECTED);
            actions.push(Action::Send(id, notification.to_bytes()));
            actions.push(Action::Close(id));
            return;
        }
        for earlier in superseded {
            self.drop_silently(earlier, Reason::Closed, actions);
        }
        self.begin(id, false, now, actions);
    }

    fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Time, actions: &mut Vec<Action>) {
        let Some(mut connection) = self.take(id) else {
            return;
        };
        let mut messages = Vec::new();
        let result = connection.read(bytes, &mut messages);
        self.connections.push(connection);
        for message in messages {
            self.take_message(id, message, now, actions);
            if !self.connections.iter().any(|connection| connection.id == id) {
                return;
            }
            // What follows an OPEN is read as the OPEN has settled it.
        }
        match result {
            Ok(more) if more => self.receive(id, &[], now, actions),
            Ok(_) => {}
            Err(notification) => self.refuse(id, notification, now, actions),
        }
    }

    fn take_message(&mut self, id: ConnectionId, message: Message, now: Time, actions: &mut Vec<Action>) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if let Message::Notification(notification) = message {
            self.end(id, Reason::Received(notification), now, actions);
            return;
        }
        match (connection.state, message) {
            (State::OpenSent, Message::Open(open)) => match negotiation::agree(&self.config, &open) {
                Ok(negotiated) => {
                    connection.confirm(negotiated, now);
                    self.resolve_collision(id, now, actions);
                    self.acknowledge(now, actions);
                }
                Err(notification) => self.refuse(id, notification, now, actions),
            },
            (State::OpenConfirm, Message::Keepalive) => {
                connection.acknowledged = true;
                self.acknowledge(now, actions);
            }
            (State::Established, Message::Keepalive) => connection.heard(now),
            (State::Established, Message::Update(update)) => {
                connection.heard(now);
                actions.push(Action::Update(update));
            }
            (State::Established, Message::RouteRefresh(refresh)) => {
                connection.heard(now);
                actions.push(Action::RouteRefresh(refresh));
            }
            (state, _) => {
                let subcode = match state {
                    State::OpenSent => fsm::IN_OPEN_SENT,
                    State::OpenConfirm => fsm::IN_OPEN_CONFIRM,
                    State::Established => fsm::IN_ESTABLISHED,
                };
                self.refuse(id, Notification::new(code::FSM, subcode), now, actions);
            }
        }
    }

    /// An OPEN has come on this connection: if there is another, one of the two goes, now or when its OPEN has come too
    /// (RFC 4271 6.8). The peer's identifier is known now, so the other need not have heard it itself.
    fn resolve_collision(&mut self, id: ConnectionId, now: Time, actions: &mut Vec<Action>) {
        self.cancel_dial(actions);
        let Some(this) = self.connections.iter().find(|connection| connection.id == id) else {
            return;
        };
        let Some(other) = self.connections.iter().find(|other| other.id != id) else {
            return;
        };
        let other_id = other.id;
        if let Some(since) = other.established {
            // One that was under way when the session came up has just lost; a later one means that the peer has begun
            // anew (RFC 4724 4.2).
            let is_late = this.begun >= since + self.config.waits.connect;
            if is_late && !this.outgoing && other.expects_restart() {
                self.end(other_id, Reason::Replaced, now, actions);
            } else {
                self.give_up(id, now, actions);
            }
            return;
        }
        // The higher identifier's connection stays; with equal ones the higher AS number's (RFC 6286 2.3).
        let negotiated = this.negotiated.as_ref();
        let theirs = negotiated.map(|negotiated| (negotiated.identifier, negotiated.peer_as));
        let keep_outgoing = Some((self.config.identifier, self.config.local_as)) > theirs;
        if this.outgoing == keep_outgoing {
            self.give_up(other_id, now, actions);
        } else if other.state == State::OpenConfirm {
            self.give_up(id, now, actions);
        } else if let Some(this) = self.connections.iter_mut().find(|connection| connection.id == id) {
            // Not to come up on a connection that is about to lose, and at the peer's not either.
            this.deferred = Some(now + self.config.waits.collision);
        }
    }

    /// Answers OPENs that have come and gone through, unless the other of two connections is waited for; comes up where
    /// the peer has done the same.
    fn acknowledge(&mut self, now: Time, actions: &mut Vec<Action>) {
        let is_alone = self.connections.len() == 1;
        let mut came_up = false;
        for connection in &mut self.connections {
            let is_due = |time: Time| is_alone || time <= now;
            if connection.state != State::OpenConfirm || !connection.deferred.is_none_or(is_due) {
                continue;
            }
            connection.deferred = None;
            if !connection.confirmed {
                connection.confirmed = true;
                actions.push(Action::Send(connection.id, keepalive()));
            }
            if connection.acknowledged {
                connection.establish(now);
                let negotiated = connection.negotiated.clone().unwrap_or_default();
                self.retry = self.config.waits.retry;
                actions.push(Action::Up(connection.id, negotiated));
                came_up = true;
            }
        }
        let others = self
            .connections
            .iter()
            .filter(|connection| connection.state != State::Established);
        let others: Vec<ConnectionId> = others.map(|connection| connection.id).collect();
        for other in others.into_iter().filter(|_| came_up) {
            self.give_up(other, now, actions);
        }
    }

    /// Closes one of two connections.
    fn give_up(&mut self, id: ConnectionId, now: Time, actions: &mut Vec<Action>) {
        let notification = Notification::new(code::CEASE, cease::COLLISION);
        actions.push(Action::Send(id, notification.to_bytes()));
        actions.push(Action::Close(id));
        self.finish(id, Reason::Collision, now, actions);
    }

    /// Ends a connection with a NOTIFICATION.
    fn refuse(&mut self, id: ConnectionId, notification: Notification, now: Time, actions: &mut Vec<Action>) {
        actions.push(Action::Send(id, notification.to_bytes()));
        actions.push(Action::Close(id));
        self.finish(id, Reason::Sent(notification), now, actions);
    }

    fn drop_silently(&mut self, id: ConnectionId, reason: Reason, actions: &mut Vec<Action>) {
        if self.take(id).is_some() {
            actions.push(Action::Close(id));
            actions.push(Action::Failed(reason));
        }
    }

    /// A connection ends without a word of this side.
    fn end(&mut self, id: ConnectionId, reason: Reason, now: Time, actions: &mut Vec<Action>) {
        if self.connections.iter().any(|connection| connection.id == id) {
            if reason != Reason::Closed {
                actions.push(Action::Close(id));
            }
            self.finish(id, reason, now, actions);
        }
    }

    /// A connection is gone; the session may be down with it.
    fn finish(&mut self, id: ConnectionId, reason: Reason, now: Time, actions: &mut Vec<Action>) {
        let Some(connection) = self.take(id) else { return };
        actions.push(if connection.state == State::Established {
            let graceful = connection.is_graceful_end(&self.config, &reason);
            Action::Down(Down { reason, graceful })
        } else {
            Action::Failed(reason)
        });
        self.acknowledge(now, actions);
        self.pause(now);
    }

    fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let at = self
            .connections
            .iter()
            .position(|connection| connection.id == id)?;
        Some(self.connections.remove(at))
    }

    fn pass(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.dial_timer.is_some_and(|time| time <= now) {
            if self.dialling {
                self.cancel_dial(actions);
                actions.push(Action::Failed(Reason::Unreachable));
                self.pause(now);
            } else {
                self.dial(now, actions);
            }
        }
        let expired: Vec<ConnectionId> = (self.connections.iter())
            .filter(|connection| connection.hold_expired(now))
            .map(|connection| connection.id)
            .collect();
        for id in expired {
            self.refuse(id, Notification::new(code::HOLD_TIMER, 0), now, actions);
        }
        self.acknowledge(now, actions);
        let mut due = Vec::new();
        for connection in &mut self.connections {
            if connection.keepalive_due(now) {
                due.push((connection.id, connection.keepalive_time()));
            }
        }
        for (id, time) in due {
            let next = now + self.spread(time);
            actions.push(Action::Send(id, keepalive()));
            if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                connection.set_keepalive(next);
            }
        }
    }
}
