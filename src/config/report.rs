//! What is wrong with a file, told so that it can be put right: the line, a caret, and a remedy.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Renderer, Snippet};

/// Where in the text something stands, in bytes.
pub type Span = Range<usize>;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The file can't be used.
    Error,
    /// It can, but is it meant?
    Warning,
}

/// A place in the file, and what is to be said about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The place.
    pub span: Span,
    /// Stands under it.
    pub label: String,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// In one line.
    pub title: String,
    /// Where: the place itself first, then what it clashes with. None where the trouble is with the file as a whole.
    pub marks: Vec<Mark>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// The file can't be used.
    pub(super) fn error(title: impl Into<String>) -> Self {
        Self { level: Level::Error, title: title.into(), marks: Vec::new(), help: None }
    }

    /// The file can be used, but somebody should look.
    pub(super) fn warning(title: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(title) }
    }

    /// It is here.
    pub(super) fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.marks.push(Mark { span, label: label.into() });
        self
    }

    /// That is what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Tells the line instead of showing it, if one of the hidden ones would be among those shown: what lies between two marks
    /// may be, too.
    fn hide(&mut self, text: &str, hidden: &[Span]) {
        let spans = || self.marks.iter().map(|mark| &mark.span);
        let (Some(start), Some(end)) = (spans().map(|span| span.start).min(), spans().map(|span| span.end).max())
        else {
            return;
        };
        let shown = whole_lines(text, &(start..end));
        if hidden.iter().any(|lines| lines.start < shown.end && shown.start < lines.end) {
            let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            let told = self.marks.drain(..).map(|Mark { span, label }| format!("line {}: {label}", line(span.start)));
            self.help = Some(told.chain(self.help.take()).collect::<Vec<_>>().join("; "));
        }
    }

    /// Where the place itself is.
    pub fn span(&self) -> Option<Span> {
        self.marks.first().map(|mark| mark.span.clone())
    }
}

/// All that is wrong with one file, in the order of its lines; what concerns the whole file first.
///
/// `Display` is for logs and pipes. On a terminal, print [`Report::styled`] through `anstream`, which takes the colours
/// out again where they are not wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    name: String,
    text: String,
    problems: Vec<Problem>,
}

impl Report {
    /// `secrets` is where something stands that is not to be shown, whatever is wrong beside it: a report may end in a log.
    pub(super) fn new(name: &str, text: &str, secrets: &[Span], mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span().map(|span| span.start));
        let hidden: Vec<_> =
            secrets.iter().cloned().chain(passwords(text)).map(|span| whole_lines(text, &span)).collect();
        problems.iter_mut().for_each(|problem| problem.hide(text, &hidden));
        Self { name: name.to_owned(), text: text.to_owned(), problems }
    }

    /// Each on its own.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the file can't be used.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.level == Level::Error)
    }

    /// With the colours of a terminal.
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let all: Vec<_> = self.problems.iter().map(|problem| renderer.render(&[self.group(problem)])).collect();
        all.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.level {
            Level::Error => annotate_snippets::Level::ERROR,
            Level::Warning => annotate_snippets::Level::WARNING,
        };
        let title = level.primary_title(&problem.title);
        let mut group = if problem.marks.is_empty() {
            title.element(annotate_snippets::Origin::path(&self.name))
        } else {
            let kinds = std::iter::once(AnnotationKind::Primary).chain(std::iter::repeat(AnnotationKind::Context));
            let marks = kinds.zip(&problem.marks).map(|(kind, mark)| kind.span(mark.span.clone()).label(&mark.label));
            title.element(Snippet::source(&self.text).path(&self.name).annotations(marks))
        };
        if let Some(help) = &problem.help {
            group = group.element(annotate_snippets::Level::HELP.message(wrap(help)));
        }
        group
    }
}

/// What looks like a URL with a user in it, on lines that may not even be TOML.
fn passwords(text: &str) -> impl Iterator<Item = Span> {
    text.match_indices("://").filter_map(|(at, _)| {
        let rest = &text[at..];
        let url = &rest[..rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(rest.len())];
        url.contains('@').then(|| at..at + url.len())
    })
}

/// From the beginning of its first line to the end of its last one.
fn whole_lines(text: &str, span: &Span) -> Span {
    let bytes = text.as_bytes();
    let (start, end) = (span.start.min(bytes.len()), span.end.min(bytes.len()));
    let before = bytes[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let after = bytes[end..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| end + at + 1);
    before..after
}

/// In lines that fit on a terminal of 80 columns behind `  = help: `.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_inclusive([' ', '\n']) {
        if column > 0 && column + word.trim_end().len() > 70 {
            wrapped.truncate(wrapped.trim_end().len());
            wrapped.push('\n');
            column = 0;
        }
        wrapped += word;
        column = if word.ends_with('\n') { 0 } else { column + word.len() };
    }
    wrapped
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Report {}
