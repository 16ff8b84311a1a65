//! The body of a request, from a template that the operator wrote.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};

use super::Granted;

/// Steps that a template may take: a loop that does not end is a mistake, and must not hold up a thread.
const FUEL: u64 = 100_000;

/// A template that is known to be good: it was tried on a message when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(String);

impl Template {
    /// Tries it on a message that has everything; what an agent puts into `fallback` is taken to be there.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let sample = context! {
            grantId => "00ff-1", agentId => "agent", messageId => "message", phone => "+12223334444", useCase => "otp",
            outcome => "REVOKED", fallback => Value::from_object(Anything), tags => ["tag"],
            sendTime => "2026-11-22T17:00:00.000Z", deadline => "2026-11-22T17:10:00.000Z",
            validUntil => "2026-11-23T17:10:00.000Z",
        };
        environment().render_str(text, sample).map_err(|error| in_words(&error))?;
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

/// Has whatever is asked of it.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(Arc::clone(self)))
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
    fn a_slip_is_found_before_the_first_message() {
        for (text, says) in [
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
