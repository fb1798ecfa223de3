//! Starts the server for a part and ends it afterwards.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Running;

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running `duplex serve`; dropping it ends it.
pub struct Server {
    running: Running,
    address: SocketAddr,
}

impl Server {
    /// Starts `program` on a free port and waits until it is ready. The error carries what it printed.
    pub fn start(program: &Path, options: &[&str], log: &Path) -> Result<Self, String> {
        let address = free_address().map_err(|e| format!("no free port: {e}"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", &address.to_string()]).args(options);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DUPLEX_")) {
            command.env_remove(name);
        }
        let running = Running::start(&mut command, log).map_err(|e| format!("{}: {e}", program.display()))?;
        let mut server = Self { running, address };
        server.wait_until_ready()?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// What went wrong inside while it was used: it ended, or it panicked.
    pub fn fault(&mut self) -> Option<String> {
        let ended = self.running.ended().map(|status| format!("the server ended: {status}"));
        let panicked = || self.output().contains("panicked at").then(|| "the server panicked".to_string());
        ended.or_else(panicked)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + READY_WITHIN;
        while !matches!(status(self.address, "/readyz"), Ok(200)) {
            if let Some(end) = self.running.ended() {
                return Err(format!("the server ended at once: {end}\n{}", self.output()));
            }
            if Instant::now() > until {
                let waited = READY_WITHIN.as_secs();
                return Err(format!("the server was not ready within {waited} s\n{}", self.output()));
            }
            thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The status that `GET path` is answered with.
fn status(address: SocketAddr, path: &str) -> io::Result<u16> {
    let patience = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let code = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 ")?.parse().ok());
    code.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let answerer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(status(address, "/readyz").unwrap(), 503);
        assert!(answerer.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_words() {
        let log = env::temp_dir().join(format!("xtask-server-{}", std::process::id()));
        let problem = Server::start(Path::new("false"), &[], &log).err().unwrap();
        assert!(problem.starts_with("the server ended at once: exit status: 1"), "{problem}");
        let _ = std::fs::remove_file(log);
    }
}
