//! The body of a request, from a template that the operator wrote.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};

use super::Granted;

/// Steps that a template may take: a loop that does not end is a mistake, and must not hold up a thread.
const FUEL: u64 = 100_000;
/// Guesses at what `fallback` is, for one template; they take well under a second.
const GUESSES_MAX: usize = 1000;
/// Lists in lists in it.
const LISTS_MAX: u8 = 3;

/// A template that is known to be good: it was tried on a message when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(String);

impl Template {
    /// Tries it on a message that has everything; what an agent puts into `fallback` is taken to be there, and to be what the
    /// template takes it for.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let sample = context! {
            grantId => "00ff-1", agentId => "agent", messageId => "message", phone => "+12223334444", useCase => "otp",
            outcome => "REVOKED", tags => ["tag"],
            sendTime => "2026-11-22T17:00:00.000Z", deadline => "2026-11-22T17:10:00.000Z",
            validUntil => "2026-11-23T17:10:00.000Z",
        };
        let environment = environment();
        let template = environment.template_from_str(text).map_err(|error| in_words(&error))?;
        let uses_fallback = template.undeclared_variables(false).contains("fallback");
        let (mut guess, mut furthest) = (Arc::new(Guess::default()), None);
        for _ in 0..GUESSES_MAX {
            let mut made = Vec::new();
            let sample = context! { fallback => guess.value("/".to_owned(), LISTS_MAX), ..sample.clone() };
            let Err(error) = template.render_captured_to(sample, &mut made) else { return Ok(Self(text.to_owned())) };
            // Where it is of other kinds that it fails, no other guess will do better.
            if !uses_fallback || furthest.is_none() && !is_of_kinds(&error) {
                return Err(in_words(&error));
            }
            if furthest.as_ref().is_none_or(|(length, _)| made.len() > *length) {
                furthest = Some((made.len(), in_words(&error)));
            }
            match guess.next() {
                Some(next) => guess = Arc::new(next),
                // Whatever is in `fallback`, it fails, and here.
                None => return Err(furthest.map(|(_, words)| words).unwrap_or_default()),
            }
        }
        // Too many parts of `fallback` to try: the rest of it is tried on real messages only.
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

/// What the parts of `fallback` are taken to be, in one try. Nobody but the agents knows, so kind after kind is tried of each
/// part that the template asks for, until one will do.
#[derive(Debug, Default)]
struct Guess {
    /// By the order in which the parts are first asked for; of those that are not here, the first kind.
    kinds: Vec<u8>,
    asked_for: Mutex<Vec<String>>,
}

const KINDS: u8 = 5;
const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const PAIR: u8 = 3;
const MAP: u8 = 4;

impl Guess {
    fn asked_for(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at this path, which ends with a slash.
    fn value(self: &Arc<Self>, path: String, lists: u8) -> Value {
        let mut asked_for = self.asked_for();
        let at = asked_for.iter().position(|asked| *asked == path).unwrap_or(asked_for.len());
        if at == asked_for.len() {
            asked_for.push(path.clone());
        }
        match self.kinds.get(at).copied().unwrap_or(0) {
            TEXT => "7".into(),
            NUMBER => 7.into(),
            kind => Value::from_object(Anything { guess: Arc::clone(self), path, kind, lists }),
        }
    }

    /// The next guess: what was asked for last is the first to change. What something was found in is what it has to be.
    fn next(&self) -> Option<Self> {
        let asked_for = self.asked_for();
        let mut kinds: Vec<_> = (0..asked_for.len()).map(|at| self.kinds.get(at).copied().unwrap_or(0)).collect();
        while let Some(kind) = kinds.pop() {
            let path = &asked_for[kinds.len()];
            // What has names in it can only be what is above it, or a map.
            let names = |other: &String| {
                other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_digit()))
            };
            let next = if asked_for.iter().any(names) { MAP } else { kind + 1 };
            if kind < next && next < KINDS {
                kinds.push(next);
                return Some(Self { kinds, asked_for: Mutex::default() });
            }
        }
        None
    }
}

/// Has whatever is asked of it, and is a list of one such thing, in a list, and so on: but not for ever, since some write
/// down all of it. As a pair it is two of them, and as a map it has a key.
#[derive(Debug)]
struct Anything {
    guess: Arc<Guess>,
    path: String,
    kind: u8,
    lists: u8,
}

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.kind {
            MAP => ObjectRepr::Map,
            _ if self.lists > 0 => ObjectRepr::Seq,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let lists = if key.is_integer() { self.lists.saturating_sub(1) } else { self.lists };
        Some(self.guess.value(format!("{}{key}/", self.path), lists))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.kind {
            MAP => Enumerator::Str(&["key"]),
            PAIR => Enumerator::Seq(2),
            _ if self.lists > 0 => Enumerator::Seq(1),
            _ => Enumerator::NonEnumerable,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::tests::granted;

    const FALLBACK: &str = r#"{"map":{"a":1},"number":7,"rows":[["x",2]],"text":"a & b = 100%","to":["x"]}"#;

    fn render(text: &str) -> Result<String, String> {
        let granted = Granted { fallback: Some(FALLBACK.into()), ..granted() };
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
            ("{% for key, value in fallback | items %}{{ key }} {% endfor %}", "map number rows text to "),
            ("{{ fallback.to | join(',') }} {{ fallback.text ~ '.' }}", "x a & b = 100%."),
            ("{{ 1 + fallback.number * 2 }}{{ fallback.text ~ '.' }}", "15a & b = 100%."),
            ("{{ fallback.number + fallback.rows[0][1] }}", "9"),
            ("{% for name, number in fallback.rows %}{{ name }}{{ number - 1 }}{% endfor %}", "x1"),
            ("{% for n in range(fallback.number) %}{{ n }}{% endfor %}", "0123456"),
            ("{{ dict(fallback.map, more=1) | length }}", "2"),
            ("{{ fallback.text | split(' ') | first if fallback.text is string else 1 + fallback.number }}", "a"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(made), "{text}");
        }
    }

    #[test]
    fn a_slip_is_found_before_the_first_message() {
        for (text, says) in [
            ("{{ fallback.text[:3] }}{{ phon }}", "undefined"),
            ("{{ fallback.text[:3] }}{{ phone + 1 }}", "invalid operation"),
            ("{{ 1 + fallback.number }}\n{{ phon }}", "undefined value on line 2"),
            ("{% for a, b in tags %}{{ fallback[a] }}{% endfor %}", "unpack"),
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
