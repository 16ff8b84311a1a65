//! `revoked check`: the file is read as the daemon would, and nothing is touched.

use crate::{
    daemon::run_to_end,
    rig::{Rig, exists},
};

/// EX_CONFIG of sysexits.h.
const CONFIG: i32 = 78;

#[tokio::test]
async fn a_good_file_is_called_good_and_nothing_is_bound_or_made() {
    let rig = Rig::start().await;
    let config = rig.configure("other.toml", "other.sock", "other", "");
    let checked = run_to_end("check", &config).await;
    let words = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{words}");
    assert!(words.contains("good") && words.contains("6 use cases"), "{words}");
    assert!(!exists(&rig.path("other.sock")) && !exists(&rig.path("other")));
    // Nor does it mind the daemon that runs with the same file.
    assert_eq!(run_to_end("check", &rig.path("config.toml")).await.status.code(), Some(0));
    assert_eq!(rig.get("/v1/status").await.0, 200);
}

#[tokio::test]
async fn a_wrong_file_gets_its_lines_a_caret_and_a_remedy_from_check_and_from_run() {
    let rig = Rig::start().await;
    let config = rig.configure("wrong.toml", "other.sock", "other", "[use_cases.late]\nttl = 600\nsettel = \"1s\"\n");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = 1 + text.lines().position(|line| line == "ttl = 600").unwrap();
    for subcommand in ["check", "run"] {
        let ended = run_to_end(subcommand, &config).await;
        let words = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(CONFIG), "{words}");
        for wanted in [
            &format!("wrong.toml:{line}:7"),
            "ttl = 600",
            "^^^",
            "600s",
            &format!("wrong.toml:{}:1", line + 1),
            "did you mean `settle`",
        ] {
            assert!(words.contains(wanted), "{subcommand}: no {wanted:?} in\n{words}");
        }
    }
    assert!(!exists(&rig.path("other.sock")) && !exists(&rig.path("other")));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_wrong_one() {
    let rig = Rig::start().await;
    let ended = run_to_end("check", &rig.path("nowhere.toml")).await;
    let words = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(CONFIG), "{words}");
    assert!(words.contains("config.toml.example"), "{words}");
}
