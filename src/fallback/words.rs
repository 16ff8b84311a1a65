//! What others say, fit for a log: one short line, and nothing of the person whom it is about.

use serde_json::Value;

use super::Granted;

/// As much of it as is kept.
const CHARS_MAX: usize = 160;
/// Runs of digits from this length on may be a phone number, or a code.
const DIGITS_MAX: usize = 4;
/// So much of what people write between the digits of a number does not end it.
const GAP_MAX: usize = 3;

/// One line of somebody else's words about this grant, without its phone number, the agent's text, or anything like a code.
pub(super) fn fit(line: &str, granted: &Granted) -> String {
    let mut line = line.to_owned();
    let fallback = granted.fallback.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut texts = Vec::new();
    collect(&fallback.unwrap_or_default(), &mut texts);
    for text in texts {
        line = line.replace(&text, "…");
    }
    let mut fit = String::new();
    // What was read since the first digit of a number, up to its last digit, and what may only stand between its digits.
    let (mut number, mut digits, mut gap) = (String::new(), 0, String::new());
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            number += &std::mem::take(&mut gap);
            number.push(c);
            digits += 1;
            continue;
        }
        if digits > 0 && " ().-/".contains(c) && gap.len() < GAP_MAX {
            gap.push(c);
            continue;
        }
        fit += if digits < DIGITS_MAX { &number } else { "…" };
        fit += &std::mem::take(&mut gap);
        (digits, number) = (0, String::new());
        fit.push(if c.is_control() { ' ' } else { c });
    }
    fit.trim().chars().take(CHARS_MAX).collect()
}

/// The texts in a value; one or two letters would only tear words apart.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.chars().count() > 2 => {
            texts.push(text.clone());
            // As it would be quoted, and in pieces where only one line of it comes back.
            texts.push(Value::from(text.as_str()).to_string().trim_matches('"').to_owned());
            texts.extend(text.lines().filter(|line| line.chars().count() > 2).map(str::to_owned));
        }
        Value::Array(all) => all.iter().for_each(|one| collect(one, texts)),
        Value::Object(all) => all.values().for_each(|one| collect(one, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::tests::granted;

    #[test]
    fn a_gateways_complaint_names_no_person_and_no_text() {
        let granted = Granted { fallback: Some(r#"{"text":"Your code is 77"}"#.into()), ..granted() };
        let said = "400: The 'To' number +12223334444 (2223334444) can't get \"Your code is 77\"\u{1b}[31m, error 211";
        let fit = fit(said, &granted);
        assert_eq!(fit, "400: The 'To' number +…) can't get \"…\" [31m, error 211");
    }

    #[test]
    fn a_number_is_one_however_it_is_written() {
        for (said, wanted) in [
            ("+33 6 12 34 56 78 is not mobile", "+… is not mobile"),
            ("call +1 (222) 333-4444!", "call +…!"),
            ("503 Service Unavailable", "503 Service Unavailable"),
            ("exit 3, took 12 s", "exit 3, took 12 s"),
        ] {
            assert_eq!(fit(said, &granted()), wanted);
        }
    }

    #[test]
    fn a_text_is_known_again_quoted_and_in_pieces() {
        let granted = Granted { fallback: Some(r#"{"text":"Dear \"Ann\",\nyour code"}"#.into()), ..granted() };
        assert_eq!(fit(r#"bad body: {"Body":"Dear \"Ann\",\nyour code"}"#, &granted), r#"bad body: {"Body":"…"}"#);
        assert_eq!(fit("bad line: your code", &granted), "bad line: …");
    }

    #[test]
    fn a_line_is_short() {
        assert_eq!(fit(&"ü".repeat(500), &granted()).chars().count(), CHARS_MAX);
    }
}
