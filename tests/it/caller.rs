//! A client that is somebody: a connection to the daemon's socket made by a user of its own, who the kernel vouches for.

use std::{os::unix::net::UnixStream as StdStream, path::Path, thread};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::{
    process::{Gid, Uid, getgid, getuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde_json::Value;
use tokio::net::UnixStream;

/// Who connects: user and group.
pub(crate) type Who = (u32, u32);

/// Whether this process can be anybody, and mount what it likes.
pub(crate) fn is_root() -> bool {
    getuid().is_root()
}

/// A test, or the better part of one, can't be had here. `.ci/run` says where it must be: there that is a failure.
#[expect(clippy::print_stderr, reason = "what was not tested is a result")]
pub(crate) fn left_out(what: &str) {
    assert!(std::env::var_os("REVOKED_TESTS_AS_ROOT").is_none(), "left out: {what}");
    eprintln!("left out, since it takes root: {what}");
}

/// Whoever runs the test.
pub(crate) fn me() -> Who {
    (getuid().as_raw(), getgid().as_raw())
}

/// See the module's documentation.
pub(crate) struct Caller(http1::SendRequest<Full<Bytes>>);

impl Caller {
    /// Connects as somebody; as another than oneself only for root.
    pub(crate) async fn connect(socket: &Path, (uid, gid): Who) -> Caller {
        let path = socket.to_owned();
        // The kernel knows users by thread; this one ends as who it became.
        let connecting = thread::spawn(move || {
            if (uid, gid) != me() {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                set_thread_groups(&[]).unwrap();
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
            }
            StdStream::connect(path).unwrap()
        });
        let stream = connecting.join().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TokioIo::new(UnixStream::from_std(stream).unwrap());
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Caller(sender)
    }

    /// Asks, and tells the answer as text.
    pub(crate) async fn text(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("host", "revoked");
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    /// The same with an answer that is one JSON value.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.text(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}")))
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "").await
    }

    /// Asks for what is refused, and tells why.
    pub(crate) async fn refused(&mut self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.ask(method, path, body).await;
        let error = &answer["error"];
        assert_eq!((status, error["status"].as_str()), (403, Some("PERMISSION_DENIED")), "{method} {path}: {answer}");
        error["message"].as_str().unwrap().to_owned()
    }
}
