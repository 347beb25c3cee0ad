//! One TLS connection with HTTP/1.1 on it.

use std::time::Duration;

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{ClientError, Endpoint, way};
use crate::config::{Network, Way};

/// Read buffer: larger ones do not make a payload faster, and the agent is to stay small.
const BUFFER: usize = 64 * 1024;

/// An open connection; dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    once: bool,
}

impl Connection {
    /// Connects within `wait`.
    pub(super) async fn open(endpoint: &Endpoint, network: &Network, tls: &TlsConnector) -> Result<Self, ClientError> {
        timeout(network.connect, Self::connect(endpoint, &network.way, tls)).await.map_err(|_elapsed| {
            ClientError::Connect {
                address: endpoint.authority().to_owned(),
                source: std::io::ErrorKind::TimedOut.into(),
            }
        })?
    }

    async fn connect(endpoint: &Endpoint, way: &Way, tls: &TlsConnector) -> Result<Self, ClientError> {
        let address = || endpoint.authority().to_owned();
        let stream = way::open(endpoint, way).await?;
        let stream = tls.connect(endpoint.name().clone(), stream).await.map_err(|source| {
            let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
            match inner {
                Some(source) => ClientError::Tls { address: address(), source },
                None => ClientError::Connect { address: address(), source },
            }
        })?;
        Self::over(stream).await
    }

    /// Over a stream that is open.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, ClientError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
        let driver = tokio::spawn(async move {
            // Its errors also reach whoever waits for an answer.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Self { sender, driver, once: false })
    }

    /// Not to be kept after its one request.
    pub(super) const fn used_once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Sends a request; the head of the answer must arrive within `wait`.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        wait: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        timeout(wait, answer).await.map_err(|_elapsed| ClientError::Slow("the server"))?.map_err(ClientError::Http)
    }

    /// Whether another request may follow.
    pub(super) fn is_reusable(&self) -> bool {
        !self.once && !self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
