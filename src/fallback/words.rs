//! What others say, fit for a log: one short line, and nothing of the person whom it is about.

use serde_json::Value;

use super::Granted;

/// As much of it as is kept.
const CHARS_MAX: usize = 160;
/// Runs of digits from this length on may be a phone number, or a code.
const DIGITS_MAX: usize = 4;

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
    let mut digits = String::new();
    for c in line.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        fit += if digits.len() < DIGITS_MAX { &digits } else { "…" };
        digits.clear();
        fit.push(if c.is_control() { ' ' } else { c });
    }
    fit.trim().chars().take(CHARS_MAX).collect()
}

/// The texts in a value; one or two letters would only tear words apart.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.chars().count() > 2 => texts.push(text.clone()),
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
        assert_eq!(fit, "400: The 'To' number +… (…) can't get \"…\" [31m, error 211");
    }

    #[test]
    fn a_line_is_short() {
        assert_eq!(fit(&"ü".repeat(500), &granted()).chars().count(), CHARS_MAX);
    }
}
