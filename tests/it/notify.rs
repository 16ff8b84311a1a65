//! What systemd is told, heard on a socket of our own: that the daemon is ready, lives, reloads, stops; and how it goes.

use std::{collections::BTreeMap, path::Path};

use tokio::net::UnixDatagram;

use crate::{
    daemon::{Daemon, soon},
    rig::Rig,
};

/// In the place of systemd.
struct Manager(UnixDatagram);

type Told = BTreeMap<String, String>;

impl Manager {
    fn listen(path: &Path) -> Manager {
        Manager(UnixDatagram::bind(path).unwrap())
    }

    /// One datagram.
    async fn next(&self) -> Told {
        let mut bytes = [0; 4096];
        let read = self.0.recv(&mut bytes).await.unwrap();
        let lines = str::from_utf8(&bytes[..read]).unwrap().lines();
        lines.map(|line| line.split_once('=').unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// The first that says this; and all that were told before it.
    async fn until(&self, wanted: impl Fn(&Told) -> bool) -> (Told, Vec<Told>) {
        let waiting = async {
            let mut before = Vec::new();
            loop {
                let told = self.next().await;
                if wanted(&told) {
                    return (told, before);
                }
                before.push(told);
            }
        };
        soon("a datagram", waiting).await
    }
}

fn says(key: &str) -> impl Fn(&Told) -> bool + use<'_> {
    move |told| told.contains_key(key)
}

#[tokio::test]
async fn systemd_hears_of_the_start_the_beats_a_reload_and_the_stop() {
    let mut rig = Rig::start().await;
    rig.send("m1", "promo").await;
    rig.stop().await;
    let path = rig.path("notify");
    let manager = Manager::listen(&path);
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    rig.daemon = Some(Daemon::start_in(&rig.path("config.toml"), &environment).await);

    let (_, before) = manager.until(says("READY")).await;
    let (first, last) = (before.first().unwrap(), before.last().unwrap());
    assert!(first["STATUS"].starts_with("opening the store: 0 % of "), "{first:?}");
    assert!(last["STATUS"].starts_with("opening the store: 100 % of "), "{last:?}");
    assert!(before.iter().all(says("EXTEND_TIMEOUT_USEC")), "{before:?}");
    assert!(!before.iter().any(says("WATCHDOG")), "the start is not watched");

    // The first one may come before the message is armed.
    let is_armed = |told: &Told| told.get("STATUS").is_some_and(|status| status.starts_with("1 armed, next due 20"));
    let (told, _) = manager.until(is_armed).await;
    assert!(told["STATUS"].contains("; store "), "{told:?}");
    for _ in 0..3 {
        assert_eq!(manager.until(says("WATCHDOG")).await.0["WATCHDOG"], "1");
    }

    rig.daemon().hang_up();
    let (reloading, _) = manager.until(says("RELOADING")).await;
    assert_eq!(reloading["RELOADING"], "1");
    assert!(reloading["MONOTONIC_USEC"].parse::<u64>().is_ok(), "in the same datagram: {reloading:?}");
    let (_, between) = manager.until(says("READY")).await;
    assert!(!between.iter().any(says("STOPPING")), "{between:?}");

    let mut daemon = rig.daemon.take().unwrap();
    daemon.terminate();
    manager.until(says("STOPPING")).await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn without_a_watchdog_only_a_line_that_is_new_is_told() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let path = rig.path("notify");
    let manager = Manager::listen(&path);
    rig.daemon = Some(Daemon::start_in(&rig.path("config.toml"), &[("NOTIFY_SOCKET", path.to_str().unwrap())]).await);
    manager.until(says("READY")).await;
    let told = soon("a line", manager.next()).await;
    assert!(told["STATUS"].starts_with("0 armed; store "), "{told:?}");
    rig.send("m1", "promo").await;
    let changed = soon("another line", manager.next()).await;
    assert!(changed["STATUS"].starts_with("1 armed, next due "), "{changed:?}");
    assert_eq!((told.len(), changed.len()), (1, 1), "no beat: {told:?} {changed:?}");
}
