//! One address of the admin listener for the whole demo, whichever server is behind it.
//!
//! The server is started anew for every scenario. A browser that asks meanwhile waits instead of being turned away,
//! so a page that refreshes itself goes on doing so.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::cli::stop::Stop;

/// How long a visitor waits for the next server.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// A door that leads to one server after the other.
pub(super) struct Door {
    address: SocketAddr,
    behind: Behind,
}

#[derive(Clone, Default)]
struct Behind(Arc<Mutex<Option<SocketAddr>>>);

impl Door {
    /// Opens it on a free port of this machine.
    pub(super) fn open(stop: &Stop) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let door = Self { address: listener.local_addr()?, behind: Behind::default() };
        let (behind, stop) = (door.behind.clone(), stop.clone());
        thread::Builder::new().name("door".to_owned()).spawn(move || {
            for visitor in listener.incoming().flatten() {
                let (behind, stop) = (behind.clone(), stop.clone());
                // A visitor who cannot be let in is one who comes again.
                let _ = thread::Builder::new().spawn(move || behind.let_in(&visitor, &stop));
            }
        })?;
        Ok(door)
    }

    /// For browsers and for the profile.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it leads there, or makes visitors wait.
    pub(super) fn lead_to(&self, server: Option<SocketAddr>) {
        *self.behind.0.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
}

impl Behind {
    fn let_in(&self, visitor: &TcpStream, stop: &Stop) -> io::Result<()> {
        let Some(server) = self.connect(stop) else { return Ok(()) };
        let (mut from, mut to) = (visitor.try_clone()?, server.try_clone()?);
        thread::Builder::new().spawn(move || {
            // Whoever ends a connection ends it for both.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        })?;
        let (mut from, mut to) = (server, visitor.try_clone()?);
        let _ = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both)
    }

    fn connect(&self, stop: &Stop) -> Option<TcpStream> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let server = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(stream) = server.and_then(|server| TcpStream::connect(server).ok()) {
                return Some(stream);
            }
            if stop.wait(LOOK) {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_visitor_waits_for_the_next_server() {
        let door = Door::open(&Stop::never()).expect("a door");
        let mut visitor = TcpStream::connect(door.address).expect("let in");
        visitor.write_all(b"hello").expect("sent");
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        door.lead_to(server.local_addr().ok());
        let (mut inside, _) = server.accept().expect("a visitor");
        let mut heard = [0; 5];
        inside.read_exact(&mut heard).expect("heard");
        inside.write_all(b"welcome").expect("answered");
        drop(inside);
        let mut answer = String::new();
        visitor.read_to_string(&mut answer).expect("an answer");
        assert_eq!((&heard, answer.as_str()), (b"hello", "welcome"));
    }
}
