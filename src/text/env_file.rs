//! The syntax of an env file: dotenv, without expansion. docs/env-files.md describes it, and compares it with that of
//! other programs. What python-dotenv reads and hupwrap reads as well has the same value, except where the page says
//! why not. A line that cannot be read is an error. Pure.

/// A variable: its name, and its value.
pub type Variable = (Vec<u8>, Vec<u8>);

/// Reads an env file: its variables in their order. If a name is repeated, the last value is meant to count.
///
/// # Errors
/// Which line is wrong, and how. The text of the line is not repeated, because it may be a secret.
pub fn parse(text: &[u8]) -> Result<Vec<Variable>, String> {
    let text = with_newlines(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let mut text = Text { rest: &text, line: 1 };
    if let Some((before, _)) = split(text.rest, |byte| byte == 0) {
        text.take(before.len());
        return Err(format!("line {}: it holds a NUL byte, which no variable can; want plain text", text.line));
    }
    let mut entries = Vec::new();
    while !text.rest.is_empty() {
        let wrong = |line, what| format!("line {line}: {what}");
        let begun = text.line;
        let line = text.upcoming_line();
        if line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with(b"#") {
            text.take_line();
            continue;
        }
        let Some((before, _)) = split(line, |byte| byte == b'=') else {
            return Err(wrong(begun, "it has no '='; want NAME=VALUE, or a comment that begins with '#'"));
        };
        let Some(name) = name(before) else {
            return Err(wrong(begun, "what is before the '=' is no name; want letters, digits, '_', '.' and '-'"));
        };
        text.take(before.len().saturating_add(1));
        let value = match quote(text.upcoming_line()) {
            None => bare(text.take_line()),
            Some((blanks, quote)) => {
                text.take(blanks.saturating_add(1));
                let Some(value) = text.take_quoted(quote) else {
                    return Err(wrong(begun, "its quote is not closed"));
                };
                // Of the line the quote ends on.
                let ended = text.line;
                if !is_comment(text.take_line()) {
                    return Err(wrong(
                        ended,
                        "something follows the closing quote; a quote in the value is \\\" in \"\"",
                    ));
                }
                value
            }
        };
        entries.push((name.to_owned(), value));
    }
    Ok(entries)
}

/// The rest of the text, and the number of its first line.
struct Text<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Text<'a> {
    /// Moves on by this many bytes, or to the end.
    fn take(&mut self, len: usize) {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.line = self.line.saturating_add(taken.iter().filter(|byte| **byte == b'\n').count());
        self.rest = rest;
    }

    /// The text up to the end of the line.
    fn upcoming_line(&self) -> &'a [u8] {
        split(self.rest, |byte| byte == b'\n').map_or(self.rest, |(line, _)| line)
    }

    fn take_line(&mut self) -> &'a [u8] {
        let line = self.upcoming_line();
        self.take(line.len().saturating_add(1));
        line
    }

    /// Takes the text up to the closing quote, and that quote. None if the quote is not closed.
    fn take_quoted(&mut self, quote: u8) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            let (byte, rest) = self.rest.split_first()?;
            let next = rest.first().copied();
            let (said, len) = match (*byte, next) {
                (byte, _) if byte == quote => {
                    self.take(1);
                    return Some(value);
                }
                (b'\\', Some(next)) if quote == b'"' => escaped(next).map_or((b'\\', 1), |byte| (byte, 2)),
                (byte, _) => (byte, 1),
            };
            value.push(said);
            self.take(len);
        }
    }
}

/// The byte that a backslash and this one stand for between double quotes.
fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'a' => 0x07,
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 0x0b,
        b'f' => 0x0c,
        b'r' => b'\r',
        b'\\' | b'"' | b'\'' | b'$' => byte,
        _ => return None,
    })
}

/// CRLF and CR are ends of lines as well.
fn with_newlines(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len());
    let mut before = 0;
    for byte in text {
        match (before, *byte) {
            (b'\r', b'\n') => {}
            (_, b'\r') => lines.push(b'\n'),
            (_, byte) => lines.push(byte),
        }
        before = *byte;
    }
    lines
}

/// Splits before the first byte of a kind.
fn split(bytes: &[u8], is: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.iter().position(|byte| is(*byte))?)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The name in the text before the `=`.
fn name(before: &[u8]) -> Option<&[u8]> {
    let name = before.trim_ascii();
    // `export` alone is a name as well.
    let name = match name.strip_prefix(b"export") {
        Some(rest) if rest.first().is_some_and(|byte| is_blank(*byte)) => rest.trim_ascii_start(),
        _ => name,
    };
    let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (!name.is_empty() && name.iter().all(is_valid)).then_some(name)
}

/// The quote a value begins with, and how many blanks are before it.
fn quote(value: &[u8]) -> Option<(usize, u8)> {
    let (blanks, rest) = split(value, |byte| !is_blank(byte))?;
    let first = *rest.first()?;
    matches!(first, b'\'' | b'"').then_some((blanks.len(), first))
}

/// A value without quotes around it.
fn bare(said: &[u8]) -> Vec<u8> {
    let comment = said.windows(2).position(|pair| matches!(pair, [blank, b'#'] if is_blank(*blank)));
    said.get(..comment.unwrap_or(said.len())).unwrap_or(said).trim_ascii().to_owned()
}

/// Whether only a comment follows a closing quote.
fn is_comment(rest: &[u8]) -> bool {
    bare(rest).is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Vec<(String, String)> {
        let text = text.as_ref();
        let entries = parse(text).unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()));
        let string = |bytes| String::from_utf8(bytes).unwrap();
        entries.into_iter().map(|(name, value)| (string(name), string(value))).collect()
    }

    /// The one value of a text, without its quotes and the like.
    fn value(said: &str) -> String {
        let mut entries = read(format!("A={said}"));
        assert_eq!(entries.len(), 1, "{said}");
        entries.remove(0).1
    }

    #[test]
    fn lines() {
        let text = "\u{feff}# a comment = none\n\nA=1\r\n  \t\r\n\t# another\nexport B=2\n export\tC.d-e_9 = 3 \nexport=4\n_=5\r2FA=6\nA=7";
        let want = [("A", "1"), ("B", "2"), ("C.d-e_9", "3"), ("export", "4"), ("_", "5"), ("2FA", "6"), ("A", "7")];
        assert_eq!(read(text), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for nothing in ["", "\n", "\r\n", "#", "\u{feff}", "  ", "# x\r\n# y"] {
            assert_eq!(read(nothing), []);
        }
    }

    #[test]
    fn bare_values() {
        for (said, want) in [
            ("", ""),
            ("  ", ""),
            ("\r\n", ""),
            ("1", "1"),
            ("  a b  ", "a b"),
            ("a=b=c", "a=b=c"),
            ("a # b", "a"),
            ("a\t#b", "a"),
            (" # b", ""),
            ("a#b", "a#b"),
            ("#b", "#b"),
            ("$HOME ${HOME} $(id) `id`", "$HOME ${HOME} $(id) `id`"),
            (r"C:\new\table\", r"C:\new\table\"),
            (r#"a "b" 'c'"#, r#"a "b" 'c'"#),
            ("it's", "it's"),
        ] {
            assert_eq!(value(said), want, "{said}");
        }
    }

    #[test]
    fn quoted_values() {
        for (said, want) in [
            ("''", ""),
            (r#""""#, ""),
            ("'a # b' # c", "a # b"),
            (r#"  "a # b"  "#, "a # b"),
            ("'a'\r\n", "a"),
            ("' a '", " a "),
            (r#"'$A \n \' #"#, r"$A \n \"),
            (r#"'"'"#, r#"""#),
            (r#""'""#, "'"),
            (r#""a\nb\rc\td\\e\"f\$g$h""#, "a\nb\rc\td\\e\"f$g$h"),
            (r#""\a\b\f\v\'""#, "\u{7}\u{8}\u{c}\u{b}'"),
            (r#""\d\`\ ""#, r"\d\`\ "),
            (r#""\\n""#, r"\n"),
            ("'a\nb\n\nc'", "a\nb\n\nc"),
            ("\"a\r\nb\"", "a\nb"),
            ("'a\rb'", "a\nb"),
        ] {
            assert_eq!(value(said), want, "{said}");
        }
        let key = "KEY=\"-----BEGIN-----\nQUJD=\n-----END-----\n\" # until here\nA=1";
        assert_eq!(read(key)[0].1, "-----BEGIN-----\nQUJD=\n-----END-----\n");
        assert_eq!(read(key)[1], ("A".to_owned(), "1".to_owned()));
    }

    #[test]
    fn any_bytes_are_a_value() {
        assert_eq!(
            parse(b"A=\xff\xfe\nB=\"\xff\x01\""),
            Ok(vec![(b"A".to_vec(), b"\xff\xfe".to_vec()), (b"B".to_vec(), b"\xff\x01".to_vec())])
        );
    }

    #[test]
    fn an_error_names_the_line_and_no_secret() {
        const NAME: &str = "what is before the '=' is no name";
        const BEHIND: &str = "something follows the closing quote";
        for (text, line, what) in [
            ("s3cret", 1, "it has no '='"),
            ("A=1\r\nexport s3cret\r\n", 2, "it has no '='"),
            ("=s3cret", 1, NAME),
            ("A=1\r\r+=s3cret", 3, NAME),
            ("A B=s3cret", 1, NAME),
            ("export export A=s3cret", 1, NAME),
            ("A: 's3cret=='", 1, NAME),
            (";A=s3cret", 1, NAME),
            ("\u{e4}=s3cret", 1, NAME),
            ("A='s3cret\n\n", 1, "its quote is not closed"),
            ("A=1\nB=\"s3cret\\\"\nC=2", 2, "its quote is not closed"),
            ("A='s3cret'x", 1, BEHIND),
            ("A='s3cret'#x", 1, BEHIND),
            ("A=\"\n\n\"s3cret", 3, BEHIND),
            (r"A='it\'s s3cret'", 1, BEHIND),
            ("A=1\nB=s3cret\0\n", 2, "it holds a NUL byte"),
            ("s\0e\0c\0", 1, "it holds a NUL byte"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(&format!("line {line}: {what}")), "{text:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = parse(&text);
        }

        #[test]
        fn no_syntax_panics(text in "([ABexport]|[\\x00=#\"'\\\\$n \t\r\n])*") {
            if let Ok(entries) = parse(text.as_bytes()) {
                prop_assert!(entries.iter().all(|(name, value)| !name.is_empty() && !value.contains(&0)));
            }
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^\0\r]*") {
            let double = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let text = format!("A=\"{double}\" # it\nB='{}'", value.replace('\'', ""));
            let want = [("A".to_owned(), value.clone()), ("B".to_owned(), value.replace('\'', ""))];
            prop_assert_eq!(read(text), want);
        }
    }
}
