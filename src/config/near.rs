//! Did you mean …?

/// The candidate that was probably meant: at most a third of the word's letters are wrong, as rustc has it.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut near: Vec<_> = candidates.into_iter().filter_map(|name| Some((distance(word, name)?, name))).collect();
    near.sort_unstable();
    near.first().map(|(_, name)| *name)
}

/// How many letters are wrong; nothing if that is too many to be a slip. Upper and lower case are the same.
pub(super) fn distance(word: &str, name: &str) -> Option<usize> {
    let wrong = strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase());
    (wrong <= word.len().max(3) / 3).then_some(wrong)
}

/// `"send"`, `"hold"` or `"drop"`.
pub(super) fn list(names: &[&str], quote: char) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{quote}{name}{quote}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let keys = ["ttl", "time_zone", "traffic_type", "settle"];
        assert_eq!(nearest("tll", keys), Some("ttl"));
        assert_eq!(nearest("timezone", keys), Some("time_zone"));
        assert_eq!(nearest("Settle", keys), Some("settle"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(list(&["a", "b", "c"], '"'), r#""a", "b" or "c""#);
        assert_eq!(list(&["a"], '`'), "`a`");
    }
}
