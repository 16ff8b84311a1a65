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
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span().map(|span| span.start));
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
