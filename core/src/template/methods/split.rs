//! `str.split` and `str.rsplit`.

use crate::template::python::is_space;

/// Splits at runs of white space.
pub(super) fn split_space(text: &str, limit: i64, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end { rest.trim_end_matches(is_space) } else { rest.trim_start_matches(is_space) };
        if rest.is_empty() {
            break;
        }
        let at_limit = usize::try_from(limit).is_ok_and(|limit| parts.len() == limit);
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        match cut {
            Some(at) if !at_limit => {
                if from_end {
                    let width = rest.get(at..).and_then(|tail| tail.chars().next()).map_or(1, char::len_utf8);
                    parts.push(rest.get(at + width..).unwrap_or_default());
                    rest = rest.get(..at).unwrap_or_default();
                } else {
                    parts.push(rest.get(..at).unwrap_or_default());
                    rest = rest.get(at..).unwrap_or_default();
                }
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    parts
}

pub(super) fn split_by<'t>(text: &'t str, separator: &str, limit: i64, from_end: bool) -> Vec<&'t str> {
    let Ok(limit) = usize::try_from(limit) else { return text.split(separator).collect() };
    if from_end {
        let mut parts: Vec<_> = text.rsplitn(limit.saturating_add(1), separator).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(limit.saturating_add(1), separator).collect()
    }
}
