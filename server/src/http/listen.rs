//! How connections are taken: limits of number, time and silence that hold before any route is known.

use std::{fmt, io, net::TcpListener, sync::Arc, time::Duration};

use actix_http::{HttpService, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_tls::accept::{
    TlsError, max_concurrent_tls_connect,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    body::MessageBody,
    dev::{AppConfig, Extensions},
    rt::net::TcpStream,
};
use rustix::net::sockopt;

use super::auth::{PeerCertificate, PeerIdentity};
use crate::tls;

mod patient;

use patient::Patient;
pub(crate) use patient::Progress;

/// Connections of one worker: an idle one costs some 20 KB, so at most 500 MB a core. As many handshakes at once: the
/// library's own limit of 256 lets a few hundred silent connections keep every device out.
const CONNECTIONS: usize = 25_000;
/// A handshake over a bad link takes seconds; one that takes longer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Time for the head of a connection's first request: a trickle is an attack or a dead link.
const REQUEST_HEAD: Duration = Duration::from_secs(15);
/// Agents keep a connection over one cycle, not from poll to poll.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Time in which a client that is still sending can read the answer that it got early.
const LINGER: Duration = Duration::from_secs(1);
/// Time for requests in flight when the server stops.
const STOP_WITHIN_S: u64 = 10;

/// One listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Without it connections are plain.
    pub(crate) tls: Option<rustls::ServerConfig>,
    pub(crate) workers: usize,
    pub(crate) times: Times,
    /// A client that says nothing more may still wait for its answer. Otherwise it has hung up, and what is worked out
    /// for it is given up.
    pub(crate) allow_half_closed: bool,
}

/// How long a connection waits for the other side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For a request to arrive. What takes longer is answered so where it can be, and cut off a little later.
    pub(crate) request: Duration,
    /// For it to take a byte of an answer.
    pub(crate) stall: Duration,
}

impl Times {
    /// Longer than whoever answers waits, so that there is an answer.
    fn patience(self) -> Duration {
        self.request + self.request / 4
    }
}

impl Listener {
    /// Takes connections for the application that `app` makes, one for each worker.
    pub(crate) fn serve<F, I, S, B>(self, app: F) -> io::Result<Server>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<actix_web::Error> + 'static,
        S::InitError: fmt::Debug,
        S::Response: Into<Response<B>> + 'static,
        <S::Service as Service<Request>>::Future: 'static,
        S::Service: 'static,
        B: MessageBody + 'static,
    {
        let Self { socket, tls, workers, times, allow_half_closed } = self;
        let name = socket.local_addr()?.to_string();
        max_concurrent_tls_connect(CONNECTIONS);
        let builder = Server::build()
            .workers(workers)
            .max_concurrent_connections(CONNECTIONS)
            .shutdown_timeout(STOP_WITHIN_S)
            .disable_signals();
        let stopping = builder.graceful_shutdown_signal();
        let http = move || {
            let (stopping, app) = (stopping.clone(), app().into_factory());
            let app = map_config(app.map_err(|error| error.into().error_response()), |_| AppConfig::default());
            let stopping = move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            };
            (stopping, app)
        };
        let builder = match tls {
            Some(tls) => builder.listen(name, socket, move || {
                let mut acceptor = Acceptor::new(tls.clone());
                acceptor.set_handshake_timeout(HANDSHAKE);
                let (stopping, app) = http();
                acceptor
                    .map_init_err(|_| ())
                    .map_err(TlsError::into_service_error)
                    .and_then(move |io: TlsStream<TcpStream>| async move {
                        let peer = prepare(io.get_ref().0, times);
                        Ok((Patient::new(io, times.patience()), peer))
                    })
                    .and_then(
                        HttpService::build()
                            .graceful_shutdown_signal(stopping)
                            .client_request_timeout(REQUEST_HEAD)
                            .client_disconnect_timeout(LINGER)
                            .keep_alive(KEEP_ALIVE)
                            .h1_allow_half_closed(allow_half_closed)
                            .on_connect_ext(|io: &Patient<TlsStream<TcpStream>>, data: &mut Extensions| {
                                data.insert(io.progress());
                                note_peer(io.inner(), data);
                            })
                            .h1(app)
                            .map_err(TlsError::Service),
                    )
            }),
            None => builder.listen(name, socket, move || {
                let (stopping, app) = http();
                fn_service(move |io: TcpStream| async move {
                    let peer = prepare(&io, times);
                    Ok((Patient::new(io, times.patience()), peer))
                })
                .and_then(
                    HttpService::build()
                        .graceful_shutdown_signal(stopping)
                        .client_request_timeout(REQUEST_HEAD)
                        .client_disconnect_timeout(LINGER)
                        .keep_alive(KEEP_ALIVE)
                        .h1_allow_half_closed(allow_half_closed)
                        .on_connect_ext(|io: &Patient<TcpStream>, data: &mut Extensions| {
                            data.insert(io.progress());
                        })
                        .h1(app),
                )
            }),
        };
        Ok(builder?.run())
    }
}

/// Sets a socket up; gives whom it leads to.
fn prepare(socket: &TcpStream, times: Times) -> Option<std::net::SocketAddr> {
    let stall_ms = u32::try_from(times.stall.as_millis()).unwrap_or(u32::MAX);
    // Neither can fail on a socket that is open; on one that is closed it does not matter.
    let _ = socket.set_nodelay(true);
    // Counted by the kernel, which knows what the other side has taken, where a program sees only its own buffers.
    let _ = sockopt::set_tcp_user_timeout(socket, stall_ms);
    socket.peer_addr().ok()
}

/// Puts the device's identity on its connection, from the certificate that the handshake verified.
fn note_peer(stream: &TlsStream<TcpStream>, data: &mut Extensions) {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    if let Some(peer) = tls::peer(chain) {
        data.insert(PeerIdentity::from(peer));
        if let Some(leaf) = chain.first() {
            data.insert(PeerCertificate(Arc::new(leaf.clone().into_owned())));
        }
    }
}
