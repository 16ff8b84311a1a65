//! The body of a request, from a template that the operator wrote.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};

use super::Granted;

/// Steps that a template may take: a loop that does not end is a mistake, and must not hold up a thread.
const FUEL: u64 = 100_000;

/// A template that is known to be good: it was tried on a message when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(String);

impl Template {
    /// Tries it on a message that has everything; what an agent puts into `fallback` is taken to be there, and to be what the
    /// template takes it for. Where it can't be that, the rest of it is tried on real messages only.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let sample = context! {
            grantId => "00ff-1", agentId => "agent", messageId => "message", phone => "+12223334444", useCase => "otp",
            outcome => "REVOKED", fallback => Value::from_object(Anything { lists: 3 }), tags => ["tag"],
            sendTime => "2026-11-22T17:00:00.000Z", deadline => "2026-11-22T17:10:00.000Z",
            validUntil => "2026-11-23T17:10:00.000Z",
        };
        let environment = environment();
        let uses_fallback = || {
            let template = environment.template_from_str(text);
            template.is_ok_and(|template| template.undeclared_variables(false).contains("fallback"))
        };
        match environment.render_str(text, sample) {
            Ok(_) => {}
            // Something was to be counted with, or taken apart, of which nobody knows what it will be.
            Err(error) if is_of_kinds(&error) && uses_fallback() => {}
            Err(error) => return Err(in_words(&error)),
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The body for one grant.
    ///
    /// # Errors
    /// If it asks for something that this grant has not, in words.
    pub(super) fn render(&self, granted: &Granted) -> Result<String, String> {
        let told =
            serde_json::to_value(granted).map_err(|_| "its fallback holds a number without bounds".to_owned())?;
        environment().render_str(&self.0, Value::from(Serde(told))).map_err(|error| in_words(&error))
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A text that is not there must not become an SMS without it.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment
}

/// A mistake in what kinds of values were put together, and not in how.
fn is_of_kinds(error: &minijinja::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidOperation | ErrorKind::CannotUnpack)
}

/// What kind of mistake, and on which line. The error's own words may quote what was to be rendered.
fn in_words(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" on line {line} of the template")).unwrap_or_default();
    match (error.kind(), error.detail()) {
        (ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownFunction, Some(detail)) => {
            format!("{}{line}: {detail}", error.kind())
        }
        (kind, _) => format!("{kind}{line}"),
    }
}

/// Has whatever is asked of it, and is a list of one such thing, in a list, and so on: but not for ever, since some write
/// down all of it.
#[derive(Debug)]
struct Anything {
    lists: u8,
}

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.lists > 0 { ObjectRepr::Seq } else { ObjectRepr::Plain }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let lists = if key.is_integer() { self.lists.saturating_sub(1) } else { self.lists };
        Some(Value::from_object(Self { lists }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        if self.lists > 0 { Enumerator::Seq(1) } else { Enumerator::NonEnumerable }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::tests::granted;

    fn render(text: &str) -> Result<String, String> {
        let granted = Granted { fallback: Some(r#"{"text":"a & b = 100%","to":["x"]}"#.into()), ..granted() };
        Template::new(text).unwrap().render(&granted)
    }

    #[test]
    fn a_form_and_a_json_body_can_be_made_of_a_grant() {
        let form = "To={{ phone | urlencode }}&Body={{ fallback.text | urlencode }}";
        assert_eq!(render(form).unwrap(), "To=%2B12223334444&Body=a%20%26%20b%20%3D%20100%25");
        let json = r#"{"to":{{ phone | tojson }},"text":{{ fallback.text | tojson }},"all":{{ fallback | tojson }}}"#;
        let made: serde_json::Value = serde_json::from_str(&render(json).unwrap()).unwrap();
        assert_eq!((&made["text"], &made["all"]["to"][0]), (&"a & b = 100%".into(), &"x".into()));
        let every = "{{ grantId }} {{ agentId }} {{ messageId }} {{ useCase }} {{ outcome }} {{ tags[0] }} {{ sendTime }} \
                     {{ deadline }} {{ validUntil }}";
        let made = "00ff-1 shop m1 otp REVOKED blue 2026-11-22T17:00:00.000Z 2026-11-22T17:10:00.000Z \
                    2026-11-23T17:10:00.000Z";
        assert_eq!(render(every).unwrap(), made);
    }

    #[test]
    fn what_an_agent_did_not_give_is_an_error_and_no_empty_sms() {
        let error = render("line one\n{{ fallback.txt }}").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("100%"), "{error}");
    }

    #[test]
    fn what_is_in_fallback_may_be_anything_that_a_template_takes_it_for() {
        for (text, made) in [
            ("{% for to in fallback.to %}{{ to }};{% endfor %}", "x;"),
            ("{{ fallback.text[:3] }}", "a &"),
            ("{{ fallback.to[0] | upper }}{{ fallback.to | length }}", "X1"),
            ("{{ fallback.text | replace('&', '+') }}{% if 'b' in fallback.text %}!{% endif %}", "a + b = 100%!"),
            ("{% for key, value in fallback | items %}{{ key }} {% endfor %}", "text to "),
            ("{{ fallback.to | join(',') }} {{ fallback.text ~ '.' }}", "x a & b = 100%."),
            ("{{ fallback.text | split(' ') | first if fallback.text is string else 1 + fallback.number }}", "a"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(made), "{text}");
        }
    }

    #[test]
    fn a_slip_is_found_before_the_first_message() {
        for (text, says) in [
            ("{{ fallback.text[:3] }}{{ phon }}", "undefined"),
            ("{{ phone + 1 }}", "invalid operation"),
            ("{{ phone", "syntax"),
            ("{{ phon }}", "undefined"),
            ("{{ phone | urlencod }}", "urlencod"),
            ("{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}", "fuel"),
        ] {
            let error = Template::new(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
