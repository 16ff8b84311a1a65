//! From the bytes of a registration to a [`Draft`], with the field named wherever something is wrong.

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::engine::{Draft, OnConflict, Own, Refusal, RefusalKind};
use crate::model::{
    AgentId, MessageId, Phone, Region, Timestamp, TrafficType, UseCase, id::NAME_BYTES_MAX, time::wire_duration,
};

/// Tags per message.
const TAGS_MAX: usize = 16;
/// Levels of it: more than anybody writes, and few enough for whoever reads it.
const FALLBACK_DEPTH_MAX: usize = 64;
/// Bytes of opaque fallback JSON per message.
const FALLBACK_BYTES_MAX: usize = 4096;

/// Each field is left as it was written, so that one that is wrong can be named.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    agent_id: Option<&'a RawValue>,
    phone: Option<&'a RawValue>,
    msisdn: Option<&'a RawValue>,
    message_id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    use_case: Option<&'a RawValue>,
    send_time: Option<&'a RawValue>,
    expire_time: Option<&'a RawValue>,
    ttl: Option<&'a RawValue>,
    region: Option<&'a RawValue>,
    message_traffic_type: Option<&'a RawValue>,
    tags: Option<&'a RawValue>,
    fallback: Option<&'a RawValue>,
    time_zone: Option<&'a RawValue>,
    on_conflict: Option<&'a RawValue>,
    /// Part of the platform's answer to a create, which may be passed on as it is. Not looked at and not kept.
    #[serde(rename = "contentMessage")]
    _content_message: Option<&'a RawValue>,
}

/// Reads one registration.
///
/// # Errors
/// 400 with the field named, in words that say what was expected.
pub(super) fn registration(body: &[u8]) -> Result<Draft, Refusal> {
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let named = name(fields.name)?;
    let phone = match (text(fields.phone, "phone")?, text(fields.msisdn, "msisdn")?) {
        (Some(_), Some(_)) => return Err(Refusal::invalid("msisdn", "give phone or msisdn, not both")),
        (Some(phone), None) => Some(field("phone", Phone::new(&phone))?),
        (None, Some(msisdn)) if msisdn.starts_with('+') => Some(field("msisdn", Phone::new(&msisdn))?),
        (None, Some(msisdn)) => Some(field("msisdn", Phone::new(&format!("+{msisdn}")))?),
        (None, None) => None,
    };
    let message_id =
        text(fields.message_id, "messageId")?.map(|id| field("messageId", MessageId::new(&id))).transpose()?;
    let (phone, message_id) = match named {
        None => (phone, message_id),
        Some((named_phone, named_id)) => {
            if phone.is_some_and(|phone| phone != named_phone) || message_id.as_ref().is_some_and(|id| *id != named_id)
            {
                return Err(Refusal::invalid(
                    "name",
                    "name says another phone or messageId than the fields of that name",
                ));
            }
            (Some(named_phone), Some(named_id))
        }
    };
    let expire_time = text(fields.expire_time, "expireTime")?;
    let ttl = text(fields.ttl, "ttl")?;
    let own = match (expire_time, ttl) {
        (Some(_), Some(_)) => return Err(Refusal::invalid("ttl", "give expireTime or ttl, not both")),
        (Some(at), None) => Some(Own::At(field("expireTime", Timestamp::parse(&at))?)),
        (None, Some(ttl)) => Some(Own::Ttl(field("ttl", wire_duration::parse(&ttl))?)),
        (None, None) => None,
    };
    let agent = required(text(fields.agent_id, "agentId")?, "agentId")?;
    let use_case = required(text(fields.use_case, "useCase")?, "useCase")?;
    Ok(Draft {
        agent: field("agentId", AgentId::new(&agent))?,
        message_id: required(message_id, "messageId")?,
        phone: required(phone, "phone")?,
        use_case: field("useCase", UseCase::new(&use_case))?,
        send_time: text(fields.send_time, "sendTime")?
            .map(|at| field("sendTime", Timestamp::parse(&at)))
            .transpose()?,
        own,
        region: word::<Region>(fields.region, "region", "one of us, europe, asia, global")?,
        traffic_type: word::<TrafficType>(
            fields.message_traffic_type,
            "messageTrafficType",
            "one of AUTHENTICATION, TRANSACTION, SERVICEREQUEST, ACKNOWLEDGEMENT, PROMOTION",
        )?,
        tags: tags(fields.tags)?,
        fallback: fallback(fields.fallback)?,
        time_zone: text(fields.time_zone, "timeZone")?.map(|name| field("timeZone", zone(name))).transpose()?,
        on_conflict: word::<OnConflict>(fields.on_conflict, "onConflict", "one of replace, keep, earliest, reject")?
            .unwrap_or_default(),
    })
}

/// What is wrong with some JSON, without what stands there: it may be a phone number.
pub(super) fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid type") || found.starts_with("invalid value") => {
            format!("expected {expected}")
        }
        _ => text,
    }
}

/// A JSON error as a refusal. An unknown or repeated field is named; serde says its name between backticks.
fn malformed(error: &serde_json::Error) -> Refusal {
    let text = words(error);
    let named = text.split('`').nth(1).map(str::to_owned);
    match named {
        // The list of what is known is long, and in the documentation; the one that is not is what helps.
        Some(name) if text.starts_with("unknown field") => {
            Refusal::invalid(name, "no such field in a registration: is it misspelt?")
        }
        Some(name) if text.starts_with("duplicate field") => Refusal::invalid(name, "given twice"),
        _ => {
            let message = format!("the body is not the JSON object of a registration: {text}");
            Refusal { kind: RefusalKind::Invalid, message, field: None }
        }
    }
}

fn field<T>(name: &'static str, result: Result<T, String>) -> Result<T, Refusal> {
    result.map_err(|message| Refusal::invalid(name, message))
}

fn zone(name: String) -> Result<Box<str>, String> {
    match TimeZone::get(&name) {
        Ok(_) => Ok(name.into()),
        Err(_) => Err(format!("{name:?} is not the name of a time zone such as Europe/Berlin")),
    }
}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::invalid(name, format!("{name} is missing")))
}

fn text(raw: Option<&RawValue>, name: &'static str) -> Result<Option<String>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| Refusal::invalid(name, format!("{name} must be a string")))
}

fn word<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &'static str,
    expected: &str,
) -> Result<Option<T>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| Refusal::invalid(name, format!("{name} must be {expected}")))
}

/// `phones/{E.164}/agentMessages/{messageId}`, as the platform's answer to a create has it.
fn name(raw: Option<&RawValue>) -> Result<Option<(Phone, MessageId)>, Refusal> {
    let Some(name) = text(raw, "name")? else { return Ok(None) };
    let parts: Vec<&str> = name.split('/').collect();
    let &["phones", phone, "agentMessages", id] = parts.as_slice() else {
        return Err(Refusal::invalid("name", "name must be phones/{E.164}/agentMessages/{messageId}"));
    };
    Ok(Some((field("name", Phone::new(phone))?, field("name", MessageId::new(id))?)))
}

fn tags(raw: Option<&RawValue>) -> Result<Vec<Box<str>>, Refusal> {
    let tags: Vec<Box<str>> = word(raw, "tags", "a list of strings")?.unwrap_or_default();
    let fits = |tag: &str| !tag.is_empty() && tag.len() <= NAME_BYTES_MAX && !tag.chars().any(char::is_control);
    if tags.len() > TAGS_MAX || !tags.iter().all(|tag| fits(tag)) {
        let message = format!("at most {TAGS_MAX} tags of 1 to {NAME_BYTES_MAX} bytes");
        return Err(Refusal::invalid("tags", message));
    }
    Ok(tags)
}

fn fallback(raw: Option<&RawValue>) -> Result<Option<Box<str>>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    if raw.get().len() > FALLBACK_BYTES_MAX {
        let message = format!("at most {FALLBACK_BYTES_MAX} bytes: keep the text yourself, and a reference to it here");
        return Err(Refusal::invalid("fallback", message));
    }
    match depth(raw.get()) {
        Some(levels) if levels <= FALLBACK_DEPTH_MAX => {}
        Some(_) => {
            return Err(Refusal::invalid("fallback", format!("more than {FALLBACK_DEPTH_MAX} levels of [ and {{")));
        }
        None => {
            return Err(Refusal::invalid("fallback", "a text in it is not Unicode: half a surrogate pair (\\ud800)"));
        }
    }
    Ok(Some(raw.get().into()))
}

/// How many levels of lists and objects there are in some JSON that was found well formed; `None` if one of its texts is none:
/// half a surrogate pair, which whoever reads it would stumble over.
fn depth(json: &str) -> Option<usize> {
    let (mut depth, mut deepest, mut begun, mut escaped) = (0_usize, 0, None, false);
    for (at, byte) in json.bytes().enumerate() {
        match (byte, begun) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', None) => begun = Some(at),
            (b'"', Some(from)) => {
                begun = None;
                serde_json::from_str::<String>(&json[from..=at]).ok()?;
            }
            (b'[' | b'{', None) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (b']' | b'}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Some(deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"agentId":"bot@rbm.goog","phone":"+12223334444","messageId":"m1","useCase":"otp"}"#;

    fn with(extra: &str) -> String {
        format!("{}{extra}}}", &PLAIN[..PLAIN.len() - 1])
    }

    #[test]
    fn the_platforms_answer_to_a_create_can_be_passed_on_as_it_is() {
        let body = r#"{"agentId":"bot","useCase":"otp","name":"phones/+12223334444/agentMessages/m1",
            "sendTime":"2026-11-22T17:00:00.123456Z","contentMessage":{"text":"Your code is 1234"},
            "messageTrafficType":"AUTHENTICATION"}"#;
        let draft = registration(body.as_bytes()).unwrap();
        let plain = registration(PLAIN.as_bytes()).unwrap();
        assert_eq!((&draft.agent, &draft.message_id, draft.phone), (&plain.agent, &plain.message_id, plain.phone));
        assert_eq!(draft.traffic_type, Some(TrafficType::Authentication));
        assert_eq!(draft.send_time.unwrap().to_string(), "2026-11-22T17:00:00.123Z");
    }

    #[test]
    fn an_msisdn_may_come_with_or_without_its_plus() {
        for msisdn in ["12223334444", "+12223334444"] {
            let body = PLAIN.replace("phone", "msisdn").replace("+12223334444", msisdn);
            assert_eq!(registration(body.as_bytes()).unwrap().phone, Phone::new("+12223334444").unwrap());
        }
    }

    #[test]
    fn the_fallback_comes_back_byte_for_byte() {
        let draft = registration(with(r#","fallback":{"b": 1.0e400, "a":"é"}"#).as_bytes()).unwrap();
        assert_eq!(draft.fallback.as_deref(), Some(r#"{"b": 1.0e400, "a":"é"}"#));
    }

    #[test]
    fn each_fault_names_its_field() {
        let cases = [
            (PLAIN.replace("+1222", "1222"), "phone"),
            (PLAIN.replace("bot@rbm.goog", "a/b"), "agentId"),
            (PLAIN.replace("\"m1\"", "\"a/b\""), "messageId"),
            (PLAIN.replace("\"m1\"", "7"), "messageId"),
            (PLAIN.replace("\"otp\"", "\"o t p\""), "useCase"),
            (with(r#","ttl":"10m""#), "ttl"),
            (with(r#","ttl":"600s","expireTime":"2026-11-22T17:00:00Z""#), "ttl"),
            (with(r#","expireTime":"soon""#), "expireTime"),
            (with(r#","sendTime":12"#), "sendTime"),
            (with(r#","region":"mars""#), "region"),
            (with(r#","messageTrafficType":"SPAM""#), "messageTrafficType"),
            (with(r#","tags":["", "x"]"#), "tags"),
            (with(r#","tags":"x""#), "tags"),
            (with(r#","onConflict":"fight""#), "onConflict"),
            (with(r#","msisdn":"+12223334444""#), "msisdn"),
            (with(r#","name":"phones/+12223334444/agentMessages/m2""#), "name"),
            (with(r#","name":"m1""#), "name"),
            (with(&format!(r#","fallback":"{}""#, "x".repeat(5000))), "fallback"),
            (with(&format!(r#","fallback":{}1{}"#, "[".repeat(65), "]".repeat(65))), "fallback"),
        ];
        for (body, name) in cases {
            let refusal = registration(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(name), "{body}: {}", refusal.message);
            assert!(!refusal.message.contains("2223334444"), "{}", refusal.message);
        }
        for missing in ["agentId", "phone", "messageId", "useCase"] {
            let mut body: serde_json::Value = serde_json::from_str(PLAIN).unwrap();
            body.as_object_mut().unwrap().remove(missing);
            let refusal = registration(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(missing));
        }
    }

    #[test]
    fn brackets_in_a_text_are_no_levels() {
        for (json, levels) in [("1", 0), ("[]", 1), (r#"{"a":[{"b":1}],"c":[]}"#, 3), (r#"["[[\"[\\"]"#, 1)] {
            assert_eq!(depth(json), Some(levels), "{json}");
        }
        assert_eq!(depth(r#"{"a":"\ud800"}"#), None);
        assert_eq!(depth(r#"{"a":"\ud83d\ude00 \\ud800"}"#), Some(1));
    }

    #[test]
    fn an_unknown_field_is_named_and_noise_is_called_noise() {
        let refusal = registration(with(r#","uscase":"otp""#).as_bytes()).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("uscase"));
        for noise in ["", "null", "[]", "{", "\u{0}", "\"x\"", "{\"agentId\":"] {
            assert!(registration(noise.as_bytes()).is_err(), "{noise:?}");
        }
    }
}
