//! Sockets that systemd holds: each is known by its name, and one that nobody wants is a mistake in a unit.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use serde_json::json;

use crate::{
    daemon::{Daemon, run_to_end_with},
    rig::{Rig, draft, exists},
};

/// EX_CONFIG of sysexits.h.
const CONFIG: i32 = 78;

/// As it is made by a unit.
fn api(rig: &Rig) -> OwnedFd {
    UnixListener::bind(rig.path("held.sock")).unwrap().into()
}

fn tcp() -> (String, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().to_string(), listener.into())
}

#[tokio::test]
async fn each_is_taken_by_its_name_in_whatever_order_they_come() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    std::fs::write(rig.path("token"), "SJENCPGJESMGUFPY").unwrap();
    let (address, webhook) = tcp();
    let more = format!("[webhook]\nlisten = {address:?}\nclient_token_files = [{:?}]\n", rig.path("token"));
    let config = rig.configure("held.toml", "held.sock", "store", &more);
    rig.daemon = Some(Daemon::start_with(&config, "webhook:api", [webhook, api(&rig)]).await);
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).unix_socket(rig.path("held.sock"));
    let asked = client.build().unwrap().post("http://revoked/v1/messages").body(draft("m1", "promo").to_string());
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 201);
    let shake = json!({"clientToken": "SJENCPGJESMGUFPY", "secret": "1234567890"}).to_string();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let answer = client.post(format!("http://{address}/")).body(shake).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("1234567890"), "the webhook listens on the socket that was passed");
    assert!(!rig.daemon().log().contains("systemd passed"), "nothing to complain of:\n{}", rig.daemon().log());
}

#[tokio::test]
async fn one_that_nobody_wants_is_told_of_and_no_client_waits_in_it() {
    let rig = Rig::start().await;
    // The webhook is not configured, "apy" is nothing, and there is one API only.
    for (names, word) in [("api:webhook", "\"webhook\""), ("api:apy", "\"apy\""), ("api:api", "\"api\""), ("", "\"\"")]
    {
        let config = rig.configure("held.toml", "held.sock", "other", "");
        let ended = run_to_end_with(&config, names, [api(&rig), tcp().1]).await;
        let words = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(CONFIG), "{names}: {words}");
        assert!(words.contains(word), "{names}: {words}");
        std::fs::remove_file(rig.path("held.sock")).unwrap();
    }
    assert!(exists(&rig.path("sock")));
}
