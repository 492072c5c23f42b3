//! Foreign text made harmless and fitted to a width. Names of containers, pods, cgroups and images are input
//! that anybody on the host can choose: whatever a terminal obeys or does not draw is written out instead.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What the reader's terminal can draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    #[default]
    Unicode,
    Ascii,
}

impl Charset {
    /// By the locale of the environment: the first of these variables that is set decides.
    pub fn of_environment() -> Charset {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(std::env::var_os)
            .find(|value| !value.is_empty())
            .map(|value| value.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        if locale.contains("utf-8") || locale.contains("utf8") { Charset::Unicode } else { Charset::Ascii }
    }

    fn ellipsis(self) -> &'static str {
        match self {
            Charset::Unicode => "…",
            Charset::Ascii => "..",
        }
    }
}

/// Whether a terminal would act on the character, hide it, or let it change its neighbours.
pub fn is_hostile(c: char) -> bool {
    match c {
        ' '..='~' => false,
        // Blank but of positive width: Hangul fillers, the empty braille cell.
        '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => true,
        // Variation selectors, tags, interlinear marks, private use: drawn differently everywhere or not at all.
        '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' => true,
        c if c as u32 >= 0xe_0000 => true,
        // Anything without width of its own: joiners, bidi marks and overrides, combining marks, control characters.
        _ => c.is_control() || c.is_whitespace() || c.width().unwrap_or(0) == 0,
    }
}

fn must_escape(c: char, charset: Charset) -> bool {
    is_hostile(c) || (charset == Charset::Ascii && !c.is_ascii())
}

/// The text with every hostile character written out: `\x1b`, `\u{202e}`.
pub fn clean(text: &str, charset: Charset) -> Cow<'_, str> {
    if !text.chars().any(|c| must_escape(c, charset)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if !must_escape(c, charset) {
            out.push(c);
        } else if (c as u32) < 0x100 {
            out.push_str(&format!("\\x{:02x}", c as u32));
        } else {
            out.push_str(&format!("\\u{{{:x}}}", c as u32));
        }
    }
    Cow::Owned(out)
}

/// Columns the text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, cleaned, in at most `columns`. What does not fit is cut in the middle: the tail of a cgroup path or
/// of `namespace/pod/container` says more than its head.
pub fn fit(text: &str, columns: usize, charset: Charset) -> String {
    cut(text, columns, charset, |text, room, ellipsis| {
        let head = room * 2 / 5;
        let tail: String = take(text.chars().rev(), room - head).chars().rev().collect();
        format!("{}{ellipsis}{tail}", take(text.chars(), head))
    })
}

/// The same of a phrase: it is its end that is cut.
pub fn head(text: &str, columns: usize, charset: Charset) -> String {
    cut(text, columns, charset, |text, room, ellipsis| {
        format!("{}{ellipsis}", take(text.chars(), room).trim_end())
    })
}

/// The text, cleaned; `short` makes it so many columns and an ellipsis where it does not fit.
fn cut(text: &str, columns: usize, charset: Charset, short: impl Fn(&str, usize, &str) -> String) -> String {
    let text = clean(text, charset);
    if width(&text) <= columns {
        return text.into_owned();
    }
    let ellipsis = charset.ellipsis();
    let Some(room) = columns.checked_sub(width(ellipsis)) else {
        return String::new();
    };
    let cut = short(&text, room, ellipsis);
    // Scripts with ligatures can measure otherwise than the sum of their characters.
    if width(&cut) <= columns { cut } else { take(ellipsis.chars(), columns) }
}

/// As many characters as fit.
fn take(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// The text in exactly `columns`, at the left.
pub fn left(text: &str, columns: usize, charset: Charset) -> String {
    let mut text = fit(text, columns, charset);
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&text))));
    text
}

/// The text in exactly `columns`, at the right.
pub fn right(text: &str, columns: usize, charset: Charset) -> String {
    let text = fit(text, columns, charset);
    let mut out = " ".repeat(columns.saturating_sub(width(&text)));
    out.push_str(&text);
    out
}

/// The text, cleaned, over as many lines as it takes, broken at blanks; a longer word is cut with a sign.
pub fn wrap(text: &str, columns: usize, charset: Charset) -> Vec<String> {
    let text = clean(text, charset);
    flow(text.split(' ').map(str::to_owned), " ", columns, charset)
}

/// Pieces that are not to be broken, over as many lines as they take.
pub fn flow(
    pieces: impl IntoIterator<Item = String>,
    between: &str,
    columns: usize,
    charset: Charset,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        let piece = fit(&piece, columns, charset);
        match lines.last_mut() {
            Some(line) if width(line) + width(between) + width(&piece) <= columns => {
                line.push_str(between);
                line.push_str(&piece);
            }
            _ => lines.push(piece),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_characters_are_written_out() {
        assert_eq!(clean("\x1b[2Jweb\r\n\t", Charset::Unicode), r"\x1b[2Jweb\x0d\x0a\x09");
        assert_eq!(clean("a\u{202e}b\u{200b}c", Charset::Unicode), r"a\u{202e}b\u{200b}c");
        // The C1 form of CSI, which some terminals obey.
        assert_eq!(clean("\u{9b}31m", Charset::Unicode), r"\x9b31m");
        assert_eq!(clean("prod/web-1/app", Charset::Unicode), "prod/web-1/app");
        assert_eq!(clean("é漢", Charset::Unicode), "é漢");
        assert_eq!(clean("é漢", Charset::Ascii), r"\xe9\u{6f22}");
    }

    #[test]
    fn the_tail_is_kept() {
        let name = "production/importer-7d9f8c6b5-x2x4z/importer";
        assert_eq!(fit(name, 20, Charset::Unicode), "product…x4z/importer");
        assert_eq!(fit("abcdef", 6, Charset::Unicode), "abcdef");
        assert_eq!(fit("abcdef", 1, Charset::Unicode), "…");
        assert_eq!(fit("abcdef", 0, Charset::Unicode), "");
        assert_eq!(fit("abcdef", 5, Charset::Ascii), "a..ef");
        assert_eq!(head("block I/O on /dev/sda", 12, Charset::Unicode), "block I/O o…");
        assert_eq!(head("block I/O on /dev/sda", 12, Charset::Ascii), "block I/O..");
        assert_eq!(right("7", 3, Charset::Unicode), "  7");
        assert_eq!(left("漢", 3, Charset::Unicode), "漢 ");
    }

    #[test]
    fn sentences_wrap_at_words() {
        let wrap = |text, columns| wrap(text, columns, Charset::Unicode);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible", 4), ["i…le"]);
        assert_eq!(wrap("", 4), [""]);
        let pieces = ["a 1", "b 2", "c 3"].map(str::to_owned);
        assert_eq!(flow(pieces, "  ", 8, Charset::Unicode), ["a 1  b 2", "c 3"]);
    }

    proptest! {
        #[test]
        fn cleaned_text_is_harmless(text in any::<String>(), ascii in any::<bool>()) {
            let charset = if ascii { Charset::Ascii } else { Charset::Unicode };
            let cleaned = clean(&text, charset);
            prop_assert!(!cleaned.chars().any(is_hostile), "{cleaned:?}");
            prop_assert!(!ascii || cleaned.is_ascii());
            prop_assert_eq!(clean(&cleaned, charset), cleaned.clone());
        }

        #[test]
        fn fitted_text_never_exceeds_its_columns(text in any::<String>(), columns in 0usize..80, ascii in any::<bool>()) {
            let charset = if ascii { Charset::Ascii } else { Charset::Unicode };
            prop_assert!(width(&fit(&text, columns, charset)) <= columns);
            prop_assert!(!fit(&text, columns, charset).chars().any(is_hostile));
            prop_assert!(width(&head(&text, columns, charset)) <= columns);
            prop_assert!(!head(&text, columns, charset).chars().any(is_hostile));
            prop_assert_eq!(width(&left(&text, columns, charset)), columns);
            prop_assert!(wrap(&text, columns, charset).iter().all(|line| width(line) <= columns));
            prop_assert_eq!(width(&right(&text, columns, charset)), columns);
        }
    }
}
