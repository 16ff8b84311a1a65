//! What the platform does to a DELETE, and what we make of it.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, USER_AGENT};
use tokio::io::AsyncReadExt;

use super::*;

async fn answer_to(response: impl Fn() -> Response + Send + Sync + 'static) -> Answer {
    Fake::new(move |_, _| Some(response())).await.client().revoke(order()).await
}

fn answered(status: u16, body: &'static str) -> Response {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn the_request_is_the_documented_one() {
    let fake = Fake::new(|_, request| {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(request.uri(), "/v1/phones/%2B12223334444/agentMessages/msg-1?agentId=welcome-bot");
        assert_eq!(header(AUTHORIZATION), "Bearer token-1");
        assert_eq!(header(USER_AGENT), concat!("revoked/", env!("CARGO_PKG_VERSION")));
        Some(answered(200, "{}"))
    })
    .await;
    assert_eq!(fake.client().revoke(order()).await, Answer::Revoked);
}

#[tokio::test]
async fn a_404_is_not_found_when_the_platform_says_so() {
    assert_eq!(answer_to(|| error(404, "Requested entity was not found.")).await, Answer::NotFound);
    assert!(matches!(answer_to(|| answered(404, "<html>nginx</html>")).await, Answer::Lost(_)));
}

#[tokio::test]
async fn a_429_brings_its_wait_in_each_form_and_garbage_is_no_wish() {
    let limited = |wait: String| move || ([(RETRY_AFTER, wait.clone())], error(429, "slow down")).into_response();
    assert_eq!(answer_to(|| error(429, "slow down")).await, Answer::TooManyRequests(None));
    let thirty = answer_to(limited("30".to_owned())).await;
    assert_eq!(thirty, Answer::TooManyRequests(Some(Duration::from_secs(30))));
    let huge = answer_to(limited("999999999999999999999999".to_owned())).await;
    assert_eq!(huge, Answer::TooManyRequests(Some(Duration::from_secs(3600))));
    for garbage in ["", "soon", "-1", "1.5", "Sun, 32 Foo 2026 25:00:00 GMT"] {
        assert_eq!(answer_to(limited(garbage.to_owned())).await, Answer::TooManyRequests(None), "{garbage:?}");
    }

    let at = crate::clock::wall().plus(Duration::from_secs(120)).to_chrono();
    let date = answer_to(limited(at.format("%a, %d %b %Y %H:%M:%S GMT").to_string())).await;
    let Answer::TooManyRequests(Some(wait)) = date else { panic!("{date:?}") };
    assert!((60..=120).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn a_403_a_400_a_409_and_a_500_are_told_apart() {
    let kinds = [(403, "403"), (400, "rejected"), (409, "rejected"), (500, "lost"), (503, "lost"), (408, "lost")];
    for (status, kind) in kinds {
        let answer = answer_to(move || error(status, "words for +12223334444")).await;
        assert_eq!(answer.kind(), kind, "{status}");
        assert!(format!("{answer:?}").contains(&format!("HTTP {status} STATUS: words for +…")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_stale_token_is_renewed_and_the_request_sent_again() {
    let fake = Fake::new(|_, request| match request.headers()[AUTHORIZATION].to_str() {
        Ok("Bearer token-1") => Some(error(401, "expired")),
        _ => Some(answered(200, "{}")),
    })
    .await;
    assert_eq!(fake.client().revoke(order()).await, Answer::Revoked);
    assert_eq!((fake.deletes(), fake.tokens()), (2, 2));
}

#[tokio::test]
async fn a_401_in_spite_of_a_new_token_is_unauthorized_after_two_requests() {
    let fake = Fake::new(|_, _| Some(error(401, "no"))).await;
    let answer = fake.client().revoke(order()).await;
    assert_eq!(answer, Answer::Unauthorized("HTTP 401 STATUS: no".into()));
    assert_eq!((fake.deletes(), fake.tokens()), (2, 2));
}

#[tokio::test]
async fn a_request_without_an_answer_in_time_is_lost() {
    let fake = Fake::new(|_, _| None).await;
    let timeouts = Timeouts { request: Duration::from_millis(300), ..Timeouts::default() };
    let answer = RbmClient::new(Settings { timeouts, ..fake.settings() }).unwrap().revoke(order()).await;
    assert!(matches!(&answer, Answer::Lost(words) if words.contains("no answer in time from 127.0.0.1")), "{answer:?}");
    assert_eq!(fake.deletes(), 1);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_lost_and_never_tried_again() {
    let fake = Fake::new(|_, _| None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let answer = fake.client_of(&endpoint).revoke(order()).await;
    assert!(matches!(&answer, Answer::Lost(words) if words.starts_with("no answer from 127.0.0.1")), "{answer:?}");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_host_were_not_sent() {
    let fake = Fake::new(|_, _| None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for endpoint in [closed.as_str(), "http://no-such-host.invalid"] {
        let answer = fake.client_of(endpoint).revoke(order()).await;
        assert!(matches!(&answer, Answer::NotSent(words) if words.starts_with("no connection to ")), "{answer:?}");
        assert!(!format!("{answer:?}").contains("222333"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_of_an_endpoint_with_tls_does_not_talk_to_a_token_endpoint_without() {
    let fake = Fake::new(|_, _| None).await;
    let answer = fake.client_of(&fake.url.replace("http:", "https:")).revoke(order()).await;
    assert!(matches!(&answer, Answer::NotSent(words) if words.contains("URL scheme is not allowed")), "{answer:?}");
    assert_eq!((fake.deletes(), fake.tokens()), (0, 0));
}

#[tokio::test]
async fn garbage_with_a_200_is_lost() {
    let answer = answer_to(|| answered(200, "<html>Please log in to the WiFi</html>")).await;
    assert_eq!(answer, Answer::Lost("HTTP 200: garbage answer".into()));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::new(|_, _| Some(answered(200, "{}"))).await;
    let target = format!("{}/v1/phones/%2B12223334444/agentMessages/msg-1", elsewhere.url);
    for status in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let answer = answer_to(move || ([(LOCATION, target.clone())], answered(status, "")).into_response()).await;
        assert!(matches!(&answer, Answer::NotSent(words) if words.contains("redirect")), "{answer:?}");
    }
    assert_eq!((elsewhere.deletes(), elsewhere.tokens()), (0, 0));
}

#[tokio::test]
async fn an_endless_body_is_read_to_its_bound_only() {
    let endless = || {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 8192]));
        Response::builder().status(200).body(Body::from_stream(chunks)).unwrap()
    };
    assert_eq!(answer_to(endless).await, Answer::Lost("HTTP 200: garbage answer".into()));
}

#[tokio::test]
async fn a_huge_body_of_good_json_is_not_read_to_its_end() {
    let answer = answer_to(|| answered(200, Box::leak(format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20)).into()))).await;
    assert_eq!(answer, Answer::Lost("HTTP 200: garbage answer".into()));
}

#[tokio::test]
async fn connections_are_replaced_in_time_so_that_dns_is_asked_again() {
    for (life, connections) in [(Duration::from_secs(300), 1), (Duration::ZERO, 4)] {
        let peers = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
        let seen = Arc::clone(&peers);
        let fake = Fake::new(move |_, request| {
            let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().unwrap();
            seen.lock().unwrap().insert(*peer);
            Some(answered(200, "{}"))
        })
        .await;
        let timeouts = Timeouts { life, ..Timeouts::default() };
        let client = RbmClient::new(Settings { timeouts, ..fake.settings() }).unwrap();
        let renewed = async {
            loop {
                for _ in 0..8 {
                    assert_eq!(client.revoke(order()).await, Answer::Revoked);
                }
                if peers.lock().unwrap().len() >= connections {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("new connections");
        let used = peers.lock().unwrap().len();
        assert!(if life.is_zero() { used >= connections } else { used == connections }, "{used} connections");
    }
}

#[tokio::test]
async fn setting_up_names_what_is_wrong() {
    let fake = Fake::new(|_, _| None).await;
    let good = Settings { endpoint: None, ..fake.settings() };
    assert!(RbmClient::new(good.clone()).is_ok());
    for (settings, told) in [
        (Settings { key_file: Some("/nowhere".into()), ..good.clone() }, "there is no key file /nowhere"),
        (
            Settings {
                accounts: vec![Account { key_file: "/gone".into(), agents: vec![order().agent] }],
                ..good.clone()
            },
            "there is no key file /gone",
        ),
        (Settings { endpoint: Some("nonsense".into()), ..good.clone() }, "\"nonsense\" is not an endpoint"),
        (Settings { ca_file: Some("/nowhere.pem".into()), ..good.clone() }, "certificates in /nowhere.pem: No such"),
        (Settings { ca_file: Some(fake.key_file), ..good }, "key.json: there are none"),
    ] {
        let error = RbmClient::new(settings).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
