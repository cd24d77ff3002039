// SPDX-License-Identifier: Apache-2.0
//! The smallest program around a session: one socket, one clock.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bgp::{
    Attributes, Family, Nlri,
    message::{
        Defect, EncodedAttributes, NextHop, Notification, RefreshSubtype, RouteRefresh, announce, end_of_rib,
        withdraw,
    },
    session::{Action, ConnectionId, Event, Negotiated, Session, SessionConfig, SessionState},
};

pub(crate) struct Driver {
    session: Session,
    peer: SocketAddr,
    begin: Instant,
    stream: Option<(ConnectionId, TcpStream)>,
    connections: u64,
    agreed: Option<Negotiated>,
    learned: BTreeMap<String, Attributes>,
    ended: Vec<Family>,
    defects: Vec<Defect>,
    /// What went wrong.
    trouble: Vec<Action>,
}

impl Driver {
    pub(crate) fn dial(config: SessionConfig, port: u16) -> Self {
        let mut driver = Self {
            session: Session::new(config, 42),
            peer: SocketAddr::from(([127, 0, 0, 1], port)),
            begin: Instant::now(),
            stream: None,
            connections: 0,
            agreed: None,
            learned: BTreeMap::new(),
            ended: Vec::new(),
            defects: Vec::new(),
            trouble: Vec::new(),
        };
        driver.event(Event::Start);
        driver
    }

    fn event(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.session.handle(event, self.begin.elapsed(), &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial => self.connect(),
            Action::Send(id, bytes) => self.send(id, &bytes),
            Action::Close(id) => {
                self.stream.take_if(|(open, _)| *open == id);
            }
            Action::Up(_, agreed) => self.agreed = Some(agreed),
            Action::Update(update) => {
                self.defects.extend(update.defects);
                self.ended.extend(update.end_of_rib);
                for nlri in update.withdrawn {
                    self.learned.remove(&nlri.prefix.to_string());
                }
                for nlri in update
                    .announced
                    .iter()
                    .flat_map(|announcement| &announcement.nlri)
                {
                    self.learned
                        .insert(nlri.prefix.to_string(), update.attributes.clone());
                }
            }
            Action::CancelDial | Action::RouteRefresh(_) => {}
            trouble @ (Action::Down(_) | Action::Failed(_)) => self.trouble.push(trouble),
        }
    }

    fn connect(&mut self) {
        match TcpStream::connect_timeout(&self.peer, Duration::from_secs(2)) {
            Ok(stream) => {
                stream
                    .set_read_timeout(Some(Duration::from_millis(20)))
                    .expect("a time-out");
                self.connections += 1;
                let id = ConnectionId(self.connections);
                self.stream = Some((id, stream));
                self.event(Event::Dialled(id));
            }
            Err(_) => self.event(Event::DialFailed),
        }
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some((open, stream)) = &mut self.stream
            && *open == id
        {
            // What fails here is seen when reading.
            let _ = stream.write_all(bytes);
        }
    }

    /// Reads once, and lets time pass.
    fn turn(&mut self) {
        let mut buffer = vec![0; 65_536];
        let received = if let Some((id, stream)) = &mut self.stream {
            Some((*id, stream.read(&mut buffer)))
        } else {
            std::thread::sleep(Duration::from_millis(20));
            None
        };
        match received {
            Some((id, Ok(0))) => {
                self.stream = None;
                self.event(Event::Closed(id));
            }
            Some((id, Ok(count))) => self.event(Event::Received(id, &buffer[..count])),
            Some((_, Err(problem)))
                if matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Some((id, Err(_))) => {
                self.stream = None;
                self.event(Event::Closed(id));
            }
            None => {}
        }
        if self
            .session
            .deadline()
            .is_some_and(|time| time <= self.begin.elapsed())
        {
            self.event(Event::Time);
        }
    }

    fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "not within {limit:?}: {what}; {:?}; {:?}",
                self.trouble,
                self.learned.keys()
            );
            self.turn();
        }
    }

    pub(crate) fn until_up(&mut self, limit: Duration) -> Negotiated {
        self.until(limit, "up", |driver| {
            driver.session.state() == SessionState::Established
        });
        self.agreed.clone().expect("up means agreed")
    }

    /// Waits for these routes and for the end of both families.
    pub(crate) fn until_learned(
        &mut self,
        prefixes: &[&str],
        limit: Duration,
    ) -> BTreeMap<String, Attributes> {
        self.until(limit, "learned", |driver| {
            prefixes.iter().all(|prefix| driver.learned.contains_key(*prefix))
        });
        self.learned.clone()
    }

    pub(crate) fn forget(&mut self) {
        self.learned.clear();
    }

    pub(crate) fn defects(&self) -> &[Defect] {
        &self.defects
    }

    fn say(&mut self, messages: Vec<Vec<u8>>) {
        let Some((id, _)) = self.stream else {
            panic!("the connection is gone: {:?}", self.trouble);
        };
        for message in messages {
            self.send(id, &message);
        }
        self.turn();
    }

    pub(crate) fn announce(&mut self, attributes: &Attributes, next_hop: NextHop, nlri: &[Nlri]) {
        let encoding = self.agreed.as_ref().expect("up").encoding;
        let encoded = EncodedAttributes::new(attributes, encoding);
        self.say(announce(&encoded, next_hop, nlri, encoding).expect("they fit"));
    }

    pub(crate) fn withdraw(&mut self, nlri: &[Nlri]) {
        let encoding = self.agreed.as_ref().expect("up").encoding;
        self.say(withdraw(nlri, encoding));
    }

    pub(crate) fn end_of_rib(&mut self) {
        self.say(Family::ALL.map(end_of_rib).to_vec());
    }

    pub(crate) fn refresh(&mut self) {
        let request = |family: Family| RouteRefresh {
            family: family.code(),
            subtype: RefreshSubtype::Request,
        };
        self.say(Family::ALL.map(|family| request(family).to_bytes()).to_vec());
    }

    pub(crate) fn stop(&mut self, notification: Notification) {
        // GoBGP sends the first callers away.
        let went_down = self
            .trouble
            .iter()
            .any(|trouble| matches!(trouble, Action::Down(_)));
        assert!(!went_down, "the session did not last: {:?}", self.trouble);
        self.event(Event::Stop(Some(notification)));
    }
}
