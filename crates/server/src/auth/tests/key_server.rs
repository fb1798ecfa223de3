//! Publishes keys over HTTP on this machine, well or badly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the server answers.
#[derive(Clone)]
pub enum Reply {
    /// A key set of these keys.
    Keys(Vec<String>),
    /// This text as the body.
    Text(&'static str),
    /// This status, and the keys in the body all the same.
    Status(u16, Vec<String>),
    /// Another place to look at.
    Redirect(String),
    /// A body of 100 MB, or of as much as the client takes.
    Huge,
    /// Nothing, for as long as the client waits.
    Nothing,
}

pub struct KeyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    reply: Mutex<Reply>,
    requests: AtomicUsize,
}

impl KeyServer {
    /// It serves until the tests end.
    pub fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { reply: Mutex::new(reply), requests: AtomicUsize::new(0) });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub fn answer(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        if !read_head(&mut stream) {
            return;
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let reply = self.reply.lock().unwrap().clone();
        // A client that has read enough goes away, which is its right.
        let _ = reply.write(&mut stream);
    }
}

impl Reply {
    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        match self {
            Self::Keys(keys) => write(stream, 200, "", &key_set(keys)),
            Self::Text(text) => write(stream, 200, "", text),
            Self::Status(status, keys) => write(stream, *status, "", &key_set(keys)),
            Self::Redirect(to) => write(stream, 302, &format!("location: {to}\r\n"), ""),
            Self::Huge => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                (0..100).try_for_each(|_| stream.write_all(&vec![b' '; 1 << 20]))
            }
            Self::Nothing => stream.read_to_end(&mut Vec::new()).map(|_| ()),
        }
    }
}

fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        head.push(byte[0]);
    }
    true
}

fn write(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn key_set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}
