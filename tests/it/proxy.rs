//! Between us and the platform may stand a proxy.

use std::fs;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

use crate::daemon::{Daemon, soon};
use crate::rig::{Rig, draft};

#[tokio::test]
async fn requests_to_the_platform_go_through_the_proxy_that_the_environment_names() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let key = fs::read_to_string(rig.sandbox.key_path()).unwrap();
    let mut key: Value = serde_json::from_str(&key).unwrap();
    key["token_uri"] = "https://oauth2.invalid/token".into();
    fs::write(rig.path("key.json"), key.to_string()).unwrap();
    let config = fs::read_to_string(rig.path("config.toml")).unwrap();
    let config = config
        .replace(&format!("{:?}", rig.sandbox.base_url()), "\"https://rbm.invalid\"")
        .replace(&format!("{:?}", rig.sandbox.key_path()), &format!("{:?}", rig.path("key.json")));
    fs::write(rig.path("config.toml"), config).unwrap();

    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", proxy.local_addr().unwrap());
    let environment = [("HTTPS_PROXY", at.as_str()), ("NO_PROXY", ""), ("no_proxy", "")];
    rig.daemon = Some(Daemon::start_in(&rig.path("config.toml"), &environment).await);
    assert_eq!(rig.register(&draft("m1", "otp")).await.0, 201);
    let (stream, _) = soon("a connection to the proxy", proxy.accept()).await.unwrap();
    let mut asked = String::new();
    BufReader::new(stream).read_line(&mut asked).await.unwrap();
    assert_eq!(asked, "CONNECT oauth2.invalid:443 HTTP/1.1\r\n");
}
