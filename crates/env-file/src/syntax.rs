//! What a line of `.env` means: the rules of node's dotenv, which are one regular expression there.

/// One `NAME=value`.
#[derive(Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Where its name stands, from 1 on.
    pub(crate) line: usize,
}

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// All variables in order. A line that is none is an error here, where node's dotenv passes over it: it may be a misspelt one.
pub(crate) fn variables(text: &str) -> Result<Vec<Variable>, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut variables = Vec::new();
    let mut rest = skip_blanks(&text);
    while !rest.is_empty() {
        if rest.starts_with('#') {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = skip_blanks(&rest[end..]);
            continue;
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (name, after) = name(rest).ok_or_else(|| {
            format!("line {line} is not NAME=value (a value over several lines needs quotes)")
        })?;
        let quoted = after;
        let (value, after) = value(after);
        if is_cut_url(quoted, &value, after) {
            return Err(format!(
                "in line {line} a `#` ends the URL, because it begins a comment: write it as %23, or put the value in quotes"
            ));
        }
        if value.contains('\0') {
            return Err(format!("line {line} has a zero byte"));
        }
        let name = name.to_owned();
        variables.push(Variable { name, value, line });
        rest = skip_blanks(after);
    }
    Ok(variables)
}

/// Whether a comment begins in the midst of a URL: it would be a part of its password, and the rest be taken for another one.
fn is_cut_url(text: &str, value: &str, rest: &str) -> bool {
    let before = &text[..text.len() - rest.len()];
    value.contains("://")
        && rest.starts_with('#')
        && before.ends_with(|c| !is_blank(c))
        && before.trim_start_matches(is_blank) == value
}

/// `NAME=` or `NAME: `, also behind `export`, and what comes then.
fn name(text: &str) -> Option<(&str, &str)> {
    let exported = text.strip_prefix("export");
    let exported = exported.filter(|rest| rest.starts_with(is_blank));
    let named = exported.and_then(|rest| assignment(skip_blanks(rest)));
    named.or_else(|| assignment(text))
}

fn assignment(text: &str) -> Option<(&str, &str)> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let end = text.find(|c| !of_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let value = match skip_blanks(rest).strip_prefix('=') {
        Some(value) => value,
        None => rest.strip_prefix(':')?.strip_prefix(is_blank)?,
    };
    (!name.is_empty()).then_some((name, value))
}

/// The value at the beginning, and what comes behind it: at most a comment in the rest of the line.
fn value(text: &str) -> (String, &str) {
    let quoted = skip_blanks(text);
    let quote = quoted.chars().next().filter(|c| QUOTES.contains(c));
    if let Some(quote) = quote
        && let Some(end) = closing(quoted, quote)
    {
        let value = &quoted[1..end];
        return (expanded(value, quote), &quoted[end + 1..]);
    }
    let end = text.find(['#', '\n']).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let value = value.trim_matches(is_blank);
    let first = value.chars().next().unwrap_or_default();
    // Quotes with others between them: `"a" and "b"`.
    let inner = QUOTES
        .contains(&first)
        .then(|| value[1..].strip_suffix(first));
    (expanded(inner.flatten().unwrap_or(value), first), rest)
}

/// Where the quote at the beginning ends: the last before which there is a backslash, or the first without one, if the line
/// ends there.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut found = None;
    for (at, _) in text.match_indices(quote).skip(1) {
        let rest = text[at + 1..].trim_start_matches(|c| is_blank(c) && c != '\n');
        if rest.is_empty() || rest.starts_with(['\n', '#']) {
            found = Some(at);
        }
        if !text[..at].ends_with('\\') {
            break;
        }
    }
    found
}

/// Between double quotes, `\n` and `\r` are ends of lines; everything else is what it is.
fn expanded(value: &str, quote: char) -> String {
    match quote {
        '"' => value.replace("\\n", "\n").replace("\\r", "\r"),
        _ => value.to_owned(),
    }
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches(is_blank)
}

/// JavaScript's `\s`: with the mark at the beginning of a file (BOM), without U+0085.
fn is_blank(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}
