//! Scenario files: the options by name, and what happens by itself at set times after the start.
//!
//! ```toml
//! seed = 7
//! handsets = "online=70,slow=10,offline=10,returns=10"
//! faults = { loseAnswer = 0.5, tooManyRequests = 2 }
//!
//! [[at]]
//! after = "10s"
//! outage = "503"
//!
//! [[at]]
//! after = "20s"
//! outage = "none"
//!
//! [[at]]
//! after = "25s"
//! fault = { kind = "slow", count = 5, delay = "3s" }
//! ```

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;

use super::{
    args::{UnknownDelete, header_text},
    duration::Written,
    fault::{Chance, FaultKind, Order},
    handset::Behaviour,
    options::Options,
    platform::Outage,
    webhook::parse_url,
    wire::is_e164,
};

/// Something that happens by itself.
#[derive(Clone, Debug)]
pub struct Action {
    pub(super) after: Duration,
    pub(super) happening: Happening,
}

/// What can be made to happen, by a scenario or by the control API.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// Faults for the next requests that fit.
    Fault(Order),
    /// Another behaviour of a handset.
    Handset { phone: String, behaviour: Behaviour },
    /// A handset comes online.
    Connect { phone: String },
    /// The API fails as a whole, or is well again.
    Outage(Outage),
    /// All access tokens become bad.
    ExpireTokens,
}

/// A change of a handset, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HandsetChange {
    phone: String,
    behaviour: Name,
    delay: Option<Written>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Name {
    Online,
    Slow,
    Offline,
    Returns,
}

impl HandsetChange {
    /// Checks the change and completes it with the usual delays; an error names the field.
    pub(super) fn happening(self, options: &Options) -> Result<Happening, String> {
        let phone = checked_phone(self.phone)?;
        let delay = self.delay.map(|Written(delay)| delay);
        let behaviour = match self.behaviour {
            Name::Slow => Behaviour::Slow(delay.unwrap_or(options.slow_delay)),
            Name::Returns => Behaviour::Returns(delay.unwrap_or(options.returns_after)),
            _ if delay.is_some() => return Err("delay: only slow and returns have one".into()),
            Name::Online => Behaviour::Online,
            Name::Offline => Behaviour::Offline,
        };
        Ok(Happening::Handset { phone, behaviour })
    }
}

/// A phone number in E.164 form, or an error that names the field.
pub(super) fn checked_phone(phone: String) -> Result<String, String> {
    if is_e164(&phone) { Ok(phone) } else { Err("phone: not a number in E.164 form".into()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seed: Option<u64>,
    handsets: Option<String>,
    slow_delay: Option<Written>,
    returns_after: Option<Written>,
    read: Option<f64>,
    read_only: Option<f64>,
    early_events: Option<f64>,
    events_lost: Option<f64>,
    events_duplicated: Option<f64>,
    events_delayed: Option<f64>,
    events_delay: Option<Written>,
    token_lifetime: Option<Written>,
    rate: Option<u32>,
    retry_after: Option<String>,
    unknown_delete: Option<UnknownDelete>,
    webhook: Option<String>,
    client_token: Option<String>,
    #[serde(default)]
    faults: BTreeMap<FaultKind, f64>,
    #[serde(default)]
    at: Vec<toml::Spanned<At>>,
}

/// One timed action: exactly one of the fields beside `after`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    after: Written,
    fault: Option<Order>,
    handset: Option<HandsetChange>,
    connect: Option<String>,
    outage: Option<Outage>,
    #[serde(default)]
    expire_tokens: bool,
}

/// Reads a scenario file over the defaults.
pub(super) fn load(path: &Path) -> anyhow::Result<Options> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(&text).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.trim_end()))
}

fn parse(text: &str) -> Result<Options, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut options = Options::default();
    let percent = |name: &str, value: Option<f64>| match value {
        Some(value) if !(0.0..=100.0).contains(&value) => Err(format!("{name}: {value} is not a share in percent")),
        value => Ok(value.unwrap_or(0.0)),
    };
    let wait = |value: Option<Written>, usual| value.map_or(usual, |Written(duration)| duration);
    options.seed = file.seed.unwrap_or(options.seed);
    if let Some(mix) = file.handsets {
        options.handsets = mix.parse().map_err(|error| format!("handsets: {error}"))?;
    }
    options.slow_delay = wait(file.slow_delay, options.slow_delay);
    options.returns_after = wait(file.returns_after, options.returns_after);
    options.read = percent("read", file.read)?;
    options.read_only = percent("read_only", file.read_only)?;
    options.early_events = percent("early_events", file.early_events)?;
    options.events_lost = percent("events_lost", file.events_lost)?;
    options.events_duplicated = percent("events_duplicated", file.events_duplicated)?;
    options.events_delayed = percent("events_delayed", file.events_delayed)?;
    options.events_delay = wait(file.events_delay, options.events_delay);
    options.token_lifetime = wait(file.token_lifetime, options.token_lifetime);
    if file.rate == Some(0) {
        return Err("rate: must be at least 1".into());
    }
    options.rate = file.rate;
    let header = |text: String| header_text(&text).map_err(|error| format!("retry_after: {error}"));
    options.retry_after = file.retry_after.map(header).transpose()?;
    options.unknown_delete_ok = file.unknown_delete == Some(UnknownDelete::Ok);
    let url = |text: String| parse_url(&text).map(|_| text).map_err(|error| format!("webhook: {error}"));
    options.webhook = file.webhook.map(url).transpose()?;
    options.client_token = file.client_token;
    for (kind, share) in file.faults {
        options.faults.push(Chance::new(kind, share).map_err(|error| format!("faults.{}: {error}", kind.name()))?);
    }
    for at in file.at {
        let line = text[..at.span().start].matches('\n').count() + 1;
        let action = action(at.into_inner(), &options).map_err(|error| format!("[[at]] in line {line}: {error}"))?;
        options.actions.push(action);
    }
    Ok(options)
}

fn action(at: At, options: &Options) -> Result<Action, String> {
    let mut happenings = Vec::new();
    if let Some(order) = at.fault {
        order.check().map_err(|error| format!("fault.{error}"))?;
        happenings.push(Happening::Fault(order));
    }
    if let Some(change) = at.handset {
        happenings.push(change.happening(options).map_err(|error| format!("handset.{error}"))?);
    }
    if let Some(phone) = at.connect {
        let phone = checked_phone(phone).map_err(|_| "connect: not a number in E.164 form")?;
        happenings.push(Happening::Connect { phone });
    }
    happenings.extend(at.outage.map(Happening::Outage));
    happenings.extend(at.expire_tokens.then_some(Happening::ExpireTokens));
    match (happenings.pop(), happenings.pop()) {
        (Some(happening), None) => Ok(Action { after: at.after.0, happening }),
        _ => Err("one of fault, handset, connect, outage and expire_tokens is needed, and only one".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_holds_options_and_what_happens_when() {
        let options = parse(
            "seed = 7\nhandsets = \"online=50,offline=50\"\nfaults = { loseAnswer = 0.5, slow = 2 }\nread = 30\nunknown_delete = \"ok\"\n\
             [[at]]\nafter = \"10s\"\noutage = \"503\"\n\
             [[at]]\nafter = \"20s\"\nhandset = { phone = \"+15550001\", behaviour = \"slow\", delay = \"2s\" }\n\
             [[at]]\nafter = \"30s\"\nfault = { kind = \"slow\", count = 5, delay = \"3s\", message_id = \"m\" }\n\
             [[at]]\nafter = \"40s\"\nexpire_tokens = true\n",
        )
        .unwrap();
        assert_eq!((options.seed, options.handsets.offline, options.faults.len()), (7, 50, 2));
        assert!(options.unknown_delete_ok);
        assert_eq!(options.actions.len(), 4);
        assert!(matches!(options.actions[0].happening, Happening::Outage(Outage::Unavailable)));
        assert_eq!(options.actions[1].after, Duration::from_secs(20));
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        for (text, place, name) in [
            ("seed = 7\nrat = 5\n", "line 2", "rat"),
            ("handsets = \"online=5\"\n", "handsets", "add up to 5"),
            ("events_lost = 101\n", "events_lost", "percent"),
            ("rate = 0\n", "rate", "at least 1"),
            ("webhook = \"ftp://x\"\n", "webhook", "ftp"),
            ("retry_after = \"\\n\"\n", "retry_after", "header"),
            ("faults = { lose = 1 }\n", "line 1", "lose"),
            ("[[at]]\nafter = \"1s\"\n", "line 1", "only one"),
            ("[[at]]\nafter = \"1s\"\noutage = \"maybe\"\n", "line 3", "maybe"),
            ("\n[[at]]\nafter = \"1s\"\nfault = { kind = \"reset\", delay = \"1s\" }\n", "line 2", "fault.delay"),
            ("[[at]]\nafter = \"1s\"\nconnect = \"555\"\n", "line 1", "connect"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place) && error.contains(name), "{text}: {error}");
        }
    }
}
