//! Nothing of what is secret, and no phone number, in anything that a daemon says: looked for in the whole output of every
//! daemon that the tests start, with the log at its most talkative.

/// What tests use as phone numbers, keys, tokens, secrets and texts. A handset's number without its `+`.
const PLANTED: [&str; 8] = [
    "5550100",
    // Client tokens and what a handshake gives away.
    crate::webhook::TOKEN,
    // What the sandbox hands out, and signs with.
    "ya29.",
    "PRIVATE KEY",
    // A hook's header, and what agents want to have sent.
    "c2lkOnRva2Vu",
    "code for ",
    "code%20for",
    "planted text",
];

/// Fails where any of it is found.
pub(crate) fn is_nowhere_in(what: &str, output: &str) {
    for secret in PLANTED {
        if let Some(line) = output.lines().find(|line| line.contains(secret)) {
            panic!("{what} says {secret:?}: {line}");
        }
    }
}
