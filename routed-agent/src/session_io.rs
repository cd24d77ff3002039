// SPDX-License-Identifier: Apache-2.0
//! The sockets of BGP sessions: listening, dialling, reading, writing. What the bytes mean is the speaker's business; a
//! peer that does not read is not waited for, and one that sends too fast is slowed down by TCP.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{IpAddr, Shutdown, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bgp::{
    PeerId,
    session::{ConnectionId, Event},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, spawn_local},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Bytes read at once.
const READ: usize = 16 * 1024;
/// Bytes of routes taken at once.
const ROOM: usize = 256 * 1024;
/// A peer that takes no byte for so long is gone (RFC 9687).
const SEND_LIMIT: Duration = Duration::from_secs(480);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a socket needs to know of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSocket {
    /// Where it is dialled.
    pub remote: Option<SocketAddr>,
    /// Own address to dial from; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Key for TCP MD5 (RFC 2385).
    pub password: Option<String>,
    /// TTL security (RFC 5082): how many hops the peer may be away.
    pub ttl_hops: Option<u8>,
}

/// What the sockets report to, and take routes from.
pub trait Driver {
    /// An event of a peer's session.
    fn event(&self, peer: PeerId, event: Event<'_>);
    /// The own address of a connection, before its first event.
    fn local_address(&self, peer: PeerId, connection: ConnectionId, address: IpAddr);
    /// Routes for a peer.
    fn take_routes(&self, peer: PeerId, room: usize) -> Option<(ConnectionId, Vec<u8>)>;
    /// The peer that a connection from an address belongs to.
    fn peer_of(&self, address: IpAddr) -> Option<PeerId>;
    /// Something an operator should know.
    fn problem(&self, text: String);
}

/// All sockets.
pub struct Sessions {
    driver: Rc<dyn Driver>,
    inner: RefCell<Inner>,
    /// What is being read, whichever session it is of: all are on one thread.
    buffer: RefCell<Box<[u8]>>,
}

#[derive(Default)]
struct Inner {
    peers: BTreeMap<PeerId, PeerSocket>,
    dials: BTreeMap<PeerId, AbortHandle>,
    connections: BTreeMap<(PeerId, ConnectionId), Connection>,
    listeners: Vec<(Rc<TcpListener>, AbortHandle)>,
    next: u64,
}

struct Connection {
    orders: mpsc::UnboundedSender<Order>,
    reader: AbortHandle,
    stream: Rc<TcpStream>,
}

enum Order {
    Bytes(Vec<u8>),
    Routes,
    Close,
}

impl Sessions {
    /// No sockets yet.
    pub fn new(driver: Rc<dyn Driver>) -> Rc<Self> {
        Rc::new(Self {
            driver,
            inner: RefCell::default(),
            buffer: RefCell::new(vec![0; READ].into_boxed_slice()),
        })
    }

    /// Listens on these addresses instead of those before.
    pub fn listen(self: &Rc<Self>, addresses: &[SocketAddr]) -> io::Result<()> {
        let mut listeners = Vec::new();
        for address in addresses {
            let listener = Rc::new(listener(*address)?);
            listeners.push(listener);
        }
        let earlier = std::mem::take(&mut self.inner.borrow_mut().listeners);
        for (_, task) in earlier {
            task.abort();
        }
        for listener in listeners {
            let (this, socket) = (Rc::clone(self), Rc::clone(&listener));
            let task = spawn_local(async move { this.accept_all(&socket).await }).abort_handle();
            self.inner.borrow_mut().listeners.push((listener, task));
        }
        let peers: Vec<PeerSocket> = self.inner.borrow().peers.values().cloned().collect();
        for peer in peers {
            self.set_key(&peer, None);
        }
        Ok(())
    }

    /// What a peer is from now on; its connections stay. Another password holds for them at once: what is lost until the
    /// peer has it too is sent again by TCP, as long as the hold time lasts.
    pub fn set_peer(&self, id: PeerId, socket: &PeerSocket) {
        let earlier = self.inner.borrow_mut().peers.insert(id, socket.clone());
        if earlier.as_ref() == Some(socket) {
            return;
        }
        self.set_key(socket, earlier.as_ref());
        if earlier.is_some_and(|earlier| earlier.password != socket.password) {
            let inner = self.inner.borrow();
            let own = inner.connections.range((id, ConnectionId(0))..);
            for (_, connection) in own.take_while(|((of, _), _)| *of == id) {
                if let Err(problem) = set_stream_key(&connection.stream, socket) {
                    let remote = socket
                        .remote
                        .map(|remote| remote.ip().to_string())
                        .unwrap_or_default();
                    self.driver.problem(format!(
                        "password of peer {remote}: {problem}; its open connection keeps the earlier one"
                    ));
                }
            }
        }
    }

    /// A peer is gone.
    pub fn remove_peer(&self, id: PeerId) {
        let earlier = self.inner.borrow_mut().peers.remove(&id);
        if let Some(earlier) = earlier {
            let none = PeerSocket {
                password: None,
                ..earlier.clone()
            };
            self.set_key(&none, Some(&earlier));
        }
        self.cancel_dial(id);
    }

    /// Keys are the listeners' too: a peer's SYN is checked before anything is accepted.
    fn set_key(&self, socket: &PeerSocket, earlier: Option<&PeerSocket>) {
        let Some(remote) = socket.remote.map(|remote| remote.ip()) else {
            return;
        };
        for (listener, _) in &self.inner.borrow().listeners {
            let same_family = listener
                .local_addr()
                .is_ok_and(|own| own.is_ipv4() == remote.is_ipv4());
            if !same_family {
                continue;
            }
            let result = match &socket.password {
                Some(password) => kernel::tcp::set_md5_key(&**listener, remote, password.as_bytes()),
                None if earlier.is_some_and(|earlier| earlier.password.is_some()) => {
                    kernel::tcp::remove_md5_key(&**listener, remote).map(drop)
                }
                None => Ok(()),
            };
            if let Err(problem) = result {
                self.driver
                    .problem(format!("password of peer {remote}: {problem}"));
            }
        }
    }

    /// Dials a peer.
    pub fn dial(self: &Rc<Self>, id: PeerId) {
        let Some(socket) = self.inner.borrow().peers.get(&id).cloned() else {
            return;
        };
        let this = Rc::clone(self);
        let task = spawn_local(async move {
            let stream = connect(&socket).await;
            this.inner.borrow_mut().dials.remove(&id);
            match stream {
                Ok(stream) => this.begin(id, stream, true),
                Err(_) => this.driver.event(id, Event::DialFailed),
            }
        });
        self.inner.borrow_mut().dials.insert(id, task.abort_handle());
    }

    /// Gives up dialling a peer.
    pub fn cancel_dial(&self, id: PeerId) {
        if let Some(task) = self.inner.borrow_mut().dials.remove(&id) {
            task.abort();
        }
    }

    /// Sends bytes.
    pub fn send(&self, id: PeerId, connection: ConnectionId, bytes: Vec<u8>) {
        self.order(id, connection, Order::Bytes(bytes));
    }

    /// Routes wait to be taken.
    pub fn ready(&self, id: PeerId, connection: ConnectionId) {
        self.order(id, connection, Order::Routes);
    }

    /// Closes a connection after what was sent on it. Nothing is read from it any more.
    pub fn close(&self, id: PeerId, connection: ConnectionId) {
        if let Some(found) = self.inner.borrow_mut().connections.remove(&(id, connection)) {
            found.reader.abort();
            let _ = found.orders.send(Order::Close);
        }
    }

    fn order(&self, id: PeerId, connection: ConnectionId, order: Order) {
        if let Some(found) = self.inner.borrow().connections.get(&(id, connection)) {
            let _ = found.orders.send(order);
        }
    }

    async fn accept_all(self: Rc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    if let Some(id) = self.driver.peer_of(from.ip().to_canonical()) {
                        self.begin(id, stream, false);
                    }
                }
                // Out of descriptors, or a connection that ended before it was taken.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A connection is there.
    fn begin(self: &Rc<Self>, id: PeerId, stream: TcpStream, dialled: bool) {
        let settings = self.inner.borrow().peers.get(&id).cloned().unwrap_or_default();
        if let Err(problem) = prepare(&stream, &settings) {
            self.driver
                .problem(format!("connection of {:?}: {problem}", settings.remote));
        }
        let Ok(local) = stream.local_addr() else {
            if dialled {
                self.driver.event(id, Event::DialFailed);
            }
            return;
        };
        let connection = {
            let mut inner = self.inner.borrow_mut();
            inner.next += 1;
            ConnectionId(inner.next)
        };
        let stream = Rc::new(stream);
        let (orders, inbox) = mpsc::unbounded_channel();
        let (this, read) = (Rc::clone(self), Rc::clone(&stream));
        let reader = spawn_local(async move { this.read_all(id, connection, &read).await }).abort_handle();
        let (this, write) = (Rc::clone(self), Rc::clone(&stream));
        spawn_local(async move { this.write_all(id, connection, &write, inbox).await });
        let started = Connection {
            orders,
            reader,
            stream,
        };
        self.inner
            .borrow_mut()
            .connections
            .insert((id, connection), started);
        self.driver
            .local_address(id, connection, local.ip().to_canonical());
        let event = if dialled {
            Event::Dialled(connection)
        } else {
            Event::Accepted(connection)
        };
        self.driver.event(id, event);
    }

    async fn read_all(self: Rc<Self>, id: PeerId, connection: ConnectionId, read: &TcpStream) {
        while read.readable().await.is_ok() {
            if !self.read_some(id, connection, read) {
                break;
            }
            // One that floods is not to keep the others waiting.
            tokio::task::yield_now().await;
        }
        self.end(id, connection);
    }

    /// Whether there is more to come.
    fn read_some(&self, id: PeerId, connection: ConnectionId, read: &TcpStream) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        match read.try_read(&mut buffer) {
            Err(problem) => problem.kind() == io::ErrorKind::WouldBlock,
            Ok(0) => false,
            Ok(count) => {
                let bytes = &buffer[..count];
                self.driver.event(id, Event::Received(connection, bytes));
                true
            }
        }
    }

    async fn write_all(
        self: Rc<Self>,
        id: PeerId,
        connection: ConnectionId,
        write: &TcpStream,
        mut inbox: mpsc::UnboundedReceiver<Order>,
    ) {
        while let Some(order) = inbox.recv().await {
            let (mut bytes, mut routes, mut close) = (Vec::new(), false, false);
            let mut next = Some(order);
            while let Some(order) = next {
                match order {
                    Order::Bytes(more) => bytes.extend(more),
                    Order::Routes => routes = true,
                    Order::Close => close = true,
                }
                next = inbox.try_recv().ok();
            }
            while routes && bytes.len() < ROOM {
                match self.driver.take_routes(id, ROOM - bytes.len()) {
                    Some((for_connection, more)) if for_connection == connection => bytes.extend(more),
                    _ => routes = false,
                }
            }
            if routes {
                self.ready(id, connection);
            }
            if close {
                let _ = tokio::time::timeout(FAREWELL, write_whole(write, &bytes)).await;
                let _ = SockRef::from(write).shutdown(Shutdown::Write);
                return;
            }
            let sent = tokio::time::timeout(SEND_LIMIT, write_whole(write, &bytes)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.end(id, connection);
                return;
            }
        }
    }

    /// A connection has ended.
    fn end(&self, id: PeerId, connection: ConnectionId) {
        let found = self.inner.borrow_mut().connections.remove(&(id, connection));
        if let Some(found) = found {
            self.driver.event(id, Event::Closed(connection));
            // The caller may be this very task: its last act.
            found.reader.abort();
        }
    }

    /// Ends everything, after what was sent.
    pub fn shut_down(&self) {
        let mut inner = self.inner.borrow_mut();
        for (_, task) in std::mem::take(&mut inner.listeners) {
            task.abort();
        }
        for (_, task) in std::mem::take(&mut inner.dials) {
            task.abort();
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn connect(peer: &PeerSocket) -> io::Result<TcpStream> {
    let remote = peer.remote.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(password) = &peer.password {
        kernel::tcp::set_md5_key(&socket, remote.ip(), password.as_bytes())
            .map_err(|problem| io::Error::other(problem.to_string()))?;
    }
    if peer.ttl_hops.is_some() {
        kernel::tcp::set_ttl(&socket, u8::MAX).map_err(|problem| io::Error::other(problem.to_string()))?;
    }
    if let Some(source) = peer.source.filter(|source| source.is_ipv4() == remote.is_ipv4()) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let stream: std::net::TcpStream = socket.into();
    tokio::net::TcpSocket::from_std_stream(stream)
        .connect(remote)
        .await
}

async fn write_whole(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

/// A connection has the peer's key, or none, from now on.
fn set_stream_key(stream: &TcpStream, peer: &PeerSocket) -> Result<(), String> {
    let remote = stream.peer_addr().map_err(|problem| problem.to_string())?.ip();
    let done = match &peer.password {
        Some(password) => kernel::tcp::set_md5_key(stream, remote, password.as_bytes()),
        None => kernel::tcp::remove_md5_key(stream, remote).map(drop),
    };
    done.map_err(|problem| problem.to_string())
}

/// Options that hold for either side's connections.
fn prepare(stream: &TcpStream, peer: &PeerSocket) -> Result<(), String> {
    let socket = SockRef::from(stream);
    socket
        .set_tcp_nodelay(true)
        .map_err(|problem| problem.to_string())?;
    // The password may be another than when the connection was begun.
    if peer.password.is_some() {
        set_stream_key(stream, peer)?;
    }
    if let Some(hops) = peer.ttl_hops {
        kernel::tcp::set_ttl(stream, u8::MAX).map_err(|problem| problem.to_string())?;
        let least = (u8::MAX - hops).saturating_add(1);
        kernel::tcp::set_minimum_ttl(stream, least).map_err(|problem| problem.to_string())?;
    }
    Ok(())
}
