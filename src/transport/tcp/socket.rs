//! Sockets that never block a thread that has something else to do.
//!
//! Waiting is always for two things at once, a socket and a [`Waker`], so that closing never has to
//! wait for a peer. Connecting is done the same way: an address that swallows packets costs a task
//! nothing but the wait.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

/// How long an idle connection stands before it is probed, and how far apart probes are.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Probes without an answer that end a connection.
const KEEPALIVE_PROBES: u32 = 3;

/// Ends the waiting of one task.
#[derive(Debug)]
pub struct Waker {
    receiver: UnixStream,
    sender: UnixStream,
}

impl Waker {
    /// Takes two file descriptors.
    pub fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(Self { receiver, sender })
    }

    /// Ends the waiting that is going on, or else the next one.
    pub fn wake(&self) {
        // Where the pipe is full, waking is already on its way.
        let _ = (&self.sender).write(&[1]);
    }

    /// For [`poll`]; a waker that was awoken must be drained.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.receiver, PollFlags::IN)
    }

    /// Forgets that it was awoken.
    pub fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(64)) {}
    }
}

/// Waits until something is ready, or until the timeout. An interruption counts as nothing ready.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    if rustix::event::poll(fds, timeout.as_ref()).is_err() {
        for fd in fds {
            fd.clear_revents();
        }
    }
}

/// Waits until `socket` is ready for `wanted`, has ended, the waker was awoken, or the timeout is
/// over, and tells what the socket is ready for.
pub fn wait(
    socket: &TcpStream,
    wanted: PollFlags,
    waker: &Waker,
    timeout: Option<Duration>,
) -> PollFlags {
    let mut fds = [PollFd::new(socket, wanted), waker.poll_fd()];
    poll(&mut fds, timeout);
    let ready = fds[0].revents();
    if !fds[1].revents().is_empty() {
        waker.drain();
    }
    ready
}

/// Waits until the waker was awoken or the timeout is over.
pub fn pause(waker: &Waker, timeout: Duration) {
    let mut fds = [waker.poll_fd()];
    poll(&mut fds, Some(timeout));
    if !fds[0].revents().is_empty() {
        waker.drain();
    }
}

/// A connection to `address`, not blocking. Before each wait, `left` tells how long it may still
/// take; `None` is an error.
pub fn connect(
    address: SocketAddr,
    waker: &Waker,
    left: &dyn Fn() -> Option<Duration>,
) -> io::Result<TcpStream> {
    let socket = TcpStream::from(open(address)?);
    socket.set_nonblocking(true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => loop {
            let timeout = left().ok_or(io::ErrorKind::TimedOut)?;
            let ready = wait(&socket, PollFlags::OUT, waker, Some(timeout));
            if !ready.is_empty() {
                sockopt::socket_error(&socket)??;
                break;
            }
        },
        Err(err) => return Err(err.into()),
    }
    // A port from which nobody listens can be dialed from itself: TCP then connects both ends of
    // one socket, which would keep the peer from listening there.
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// Sets what every connection between replicas needs. What a platform lacks, it goes without.
pub fn configure(socket: &TcpStream, unacknowledged_timeout: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES);
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(unacknowledged_timeout.as_millis()).unwrap_or(u32::MAX);
        let _ = sockopt::set_tcp_user_timeout(socket, millis);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = unacknowledged_timeout;
    Ok(())
}

/// Sends as much of `bytes` as the socket takes without blocking; at least one byte, or an error.
pub fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    let flags = SendFlags::DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::send(socket, bytes, flags) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// Sends all of `bytes`, which are few and the first on their way: where they do not fit, the
/// connection is of no use.
pub fn send_first(socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match send(socket, bytes)? {
        count if count == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// What a read that does not block found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The connection ended.
    End,
}

/// Reads what is there; the socket does not block.
pub fn receive(mut socket: &TcpStream, room: &mut [u8]) -> Received {
    match socket.read(room) {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count),
        Err(err) if is_transient(&err) => Received::Nothing,
        Err(_) => Received::End,
    }
}

/// Whether to try again.
pub fn is_transient(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family(address), SocketType::STREAM, flags, None)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family(address), SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}
