//! The peer for payloads: nginx with the product's certificate, serving a copy of the same file.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use crate::process::{Process, Processors};

/// A running nginx.
pub(crate) struct Nginx {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) version: String,
}

impl Nginx {
    /// Starts it to serve files under `root`; `None` where there is none.
    pub(crate) fn start(
        data: &Path,
        scratch: &Path,
        root: &Path,
        processors: &Processors,
    ) -> anyhow::Result<Option<Self>> {
        let Some(version) = version() else {
            return Ok(None);
        };
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = scratch.join("nginx.conf");
        fs::write(&config, settings(data, scratch, root, addr, processors.of_servers()))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-p").arg(scratch).stdout(Stdio::null());
        let mut process = Process::start(&mut command, processors)?;
        process.until(|| TcpStream::connect(addr).ok())?;
        Ok(Some(Self { process, addr, version }))
    }
}

fn version() -> Option<String> {
    let output = Command::new("nginx").arg("-v").output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.trim().rsplit_once(": ").map(|(_, version)| version.to_owned())
}

fn settings(data: &Path, scratch: &Path, root: &Path, addr: SocketAddr, workers: usize) -> String {
    let (data, scratch, root) = (data.display(), scratch.display(), root.display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|one| format!("    {one}_temp_path {scratch}/nginx-{one};\n"))
        .concat();
    format!(
        "daemon off;
worker_processes {workers};
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log warn;
user root;
events {{ worker_connections 1024; }}
http {{
{temporary}    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    server {{
        listen {addr} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {data}/server.pem;
        ssl_certificate_key {data}/server.key;
        ssl_client_certificate {data}/device-ca.pem;
        ssl_verify_client optional;
        root {root};
    }}
}}
"
    )
}
