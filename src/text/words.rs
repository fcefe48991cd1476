//! A command in one option's value, as words. Pure.

use std::ffi::OsString;

/// Splits a command into words as a shell would: blanks, quotes, backslashes and comments mean what they mean there.
/// Nothing is expanded, and `|`, `>`, `$` and their like are characters as any other. Never empty.
///
/// # Errors
/// Says what would be right.
pub fn split(said: &str) -> Result<Vec<OsString>, String> {
    let words = shell_words::split(said)
        .map_err(|_| "a quote is not closed; want a command as for a shell, such as 'nginx -t'".to_owned())?;
    if words.first().is_none_or(String::is_empty) {
        return Err("names no program; want a command, such as 'nginx -t'".to_owned());
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_a_shell_would() {
        for (said, want) in [
            ("nginx -t", &["nginx", "-t"][..]),
            ("  a\t'b c'  \"d e\"f ", &["a", "b c", "d ef"]),
            (r#"a\ b "c\"d" 'e\f' "\$x" ''"#, &["a b", "c\"d", r"e\f", "$x", ""]),
            ("a b#c # d", &["a", "b#c"]),
            ("a | b > c; d && $e *", &["a", "|", "b", ">", "c;", "d", "&&", "$e", "*"]),
            ("sh -c 'test -e x && exit 1'", &["sh", "-c", "test -e x && exit 1"]),
        ] {
            assert_eq!(split(said).unwrap(), want, "{said}");
        }
    }

    #[test]
    fn no_command() {
        for said in ["'a", "a \"b", "a \"b\\\""] {
            assert!(split(said).unwrap_err().starts_with("a quote is not closed; "), "{said}");
        }
        for said in ["", "  ", "# a", "''", "\"\" a"] {
            assert!(split(said).unwrap_err().starts_with("names no program; "), "{said}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(said: String) {
            let _ = split(&said);
        }
    }
}
