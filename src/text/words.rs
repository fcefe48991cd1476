//! A command in one option's value, as words. Pure.

use std::ffi::OsString;

use crate::text::cut;

/// Splits a command into words as a shell would: blanks, quotes, backslashes and comments mean the same. Nothing is
/// expanded, because no shell runs the command: shell syntax that is not quoted is an error. The result is never empty.
/// `option` and `prefix` are what the user typed before the command.
///
/// # Errors
/// Says what would be right.
pub(crate) fn split(option: &str, prefix: &str, said: &str) -> Result<Vec<OsString>, String> {
    let words = shell_words::split(said)
        .map_err(|_| "a quote is not closed; want a command as for a shell, such as 'nginx -t'".to_owned())?;
    if words.first().is_none_or(String::is_empty) {
        return Err("names no program; want a command, such as 'nginx -t'".to_owned());
    }
    if let Some(syntax) = shell_syntax(said) {
        return Err(format!(
            "{syntax} is shell syntax, and no shell runs CMD; want {}",
            with_shell(option, prefix, said)
        ));
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

/// Words as one command, quoted where `split` would not take them apart into the same words.
pub(crate) fn join<W: AsRef<str>>(words: &[W]) -> String {
    let shown = |word: &W| {
        let word = word.as_ref();
        // Between others: a first word could be a variable, and a last one end with a backslash.
        let is_plain = split("", "", &format!("- {word} -")).is_ok_and(|words| words == ["-", word, "-"]);
        if is_plain { word.to_owned() } else { single_quoted(word) }
    };
    words.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// The option with a shell that runs the command, as it can be typed into a shell.
fn with_shell(option: &str, prefix: &str, said: &str) -> String {
    let value = format!("{prefix}sh -c {}", single_quoted(&cut(said, LONGEST)));
    let mut quoted = String::new();
    for c in value.chars() {
        if matches!(c, '$' | '`' | '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    format!("{option} \"{quoted}\"")
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How long a command is at most that the fix repeats.
const LONGEST: usize = 400;

/// Whether this is the name of a shell variable.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What separates words. A line break separates commands as well.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// The first piece of a command that a shell would not take as part of a word, though it is not quoted.
pub(crate) fn shell_syntax(said: &str) -> Option<String> {
    let mut rest = said.trim_start_matches(BLANKS).chars().peekable();
    // What is known of the word so far: its text, as long as no part of it is quoted.
    let mut plain = Some(String::new());
    let (mut in_word, mut is_first, mut bracket) = (false, true, false);
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        match c {
            ' ' | '\t' => {
                is_first &= !in_word;
                (plain, in_word, bracket) = (Some(String::new()), false, false);
                continue;
            }
            '\'' => _ = rest.by_ref().find(|c| *c == '\''),
            '"' => skip_double_quoted(&mut rest),
            '\\' if next == Some('\n') => {
                rest.next();
                continue;
            }
            '\\' => _ = rest.next(),
            '#' if !in_word => {
                // A comment ends with its line, and that is an error below.
                while rest.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            // What follows is another command.
            '\n' if rest.clone().any(|c| !BLANKS.contains(&c)) => return Some("a line break".to_owned()),
            '\n' => return None,
            '&' | '|' if next == Some(c) => return Some(format!("'{c}{c}'")),
            '&' | '|' | ';' | '<' | '>' | '(' | ')' | '`' | '*' | '?' => return Some(format!("'{c}'")),
            ']' if bracket => return Some("'[…]'".to_owned()),
            '~' if !in_word => return Some("'~'".to_owned()),
            '=' if is_first && plain.as_deref().is_some_and(is_variable) => {
                return Some(format!("'{}=' in front of a command", plain.unwrap_or_default()));
            }
            '$' if next.is_some_and(expands) => {
                let name: String = rest.take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                return Some(format!("'${name}'"));
            }
            c => {
                bracket |= c == '[';
                plain.iter_mut().for_each(|plain| plain.push(c));
                in_word = true;
                continue;
            }
        }
        (plain, in_word) = (None, true);
    }
    None
}

/// Whether a `$` in front of this is an expansion, in one shell or another.
fn expands(next: char) -> bool {
    next.is_ascii_alphanumeric()
        || matches!(next, '_' | '{' | '(' | '\'' | '"' | '*' | '@' | '#' | '?' | '-' | '$' | '!')
}

fn skip_double_quoted(rest: &mut impl Iterator<Item = char>) {
    while let Some(c) = rest.next() {
        match c {
            '"' => return,
            '\\' => _ = rest.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a real shell is asked")]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn split(said: &str) -> Result<Vec<String>, String> {
        let words = super::split("--check", "", said)?;
        Ok(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    /// What a real shell makes of the words of a command.
    fn by_shell(words: &str) -> Option<Vec<String>> {
        let output = Command::new("sh").args(["-c", &format!("printf '%s\\0' {words}")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.split_terminator('\0').map(str::to_owned).collect())
    }

    #[test]
    fn as_a_shell_would() {
        for (said, want) in [
            ("nginx -t", &["nginx", "-t"][..]),
            ("  a\t'b c'  \"d e\"f ", &["a", "b c", "d ef"]),
            (r#"a\ b "c\"d" 'e\f' "\$x" ''"#, &["a b", "c\"d", r"e\f", "$x", ""]),
            ("a b#c # d", &["a", "b#c"]),
            ("sh -c 'test -e x && exit 1'", &["sh", "-c", "test -e x && exit 1"]),
            (r"a \| \> \; \& \* \? \$x \~ \`", &["a", "|", ">", ";", "&", "*", "?", "$x", "~", "`"]),
            ("a '|' \">\" '$x' '*' \"~\"", &["a", "|", ">", "$x", "*", "~"]),
            ("[ -e file ]", &["[", "-e", "file", "]"]),
            ("a b=c x=~ a~ $ b$ %", &["a", "b=c", "x=~", "a~", "$", "b$", "%"]),
            ("--x=y 1=2", &["--x=y", "1=2"]),
            ("a \\\nb", &["a", "b"]),
            ("\na\n", &["a"]),
            ("'A'=b c", &["A=b", "c"]),
        ] {
            assert_eq!(
                split(said).as_deref(),
                Ok(&want.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{said}"
            );
            assert_eq!(by_shell(said.trim_start()), split(said).ok(), "{said}");
        }
        // In double quotes a shell expands these. Here quoted means literal: an inner shell may expand them.
        assert_eq!(split(r#"sh -c "echo $HOME""#), Ok(vec!["sh".to_owned(), "-c".to_owned(), "echo $HOME".to_owned()]));
    }

    #[test]
    fn words_are_shown_as_they_can_be_typed() {
        for (words, want) in [
            (&["nginx", "-t"][..], "nginx -t"),
            (&["curl", "-f", "http://localhost:80/"], "curl -f http://localhost:80/"),
            (&["sh", "-c", "a > b"], "sh -c 'a > b'"),
            (&["env", "A=1", "it's", "", "*", "#"], r"env A=1 'it'\''s' '' '*' '#'"),
        ] {
            assert_eq!(join(words), want);
            assert_eq!(split(want).unwrap(), words);
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

    #[test]
    fn shell_syntax_is_an_error_that_shows_the_fix() {
        for (said, syntax, fix) in [
            ("true && false", "'&&'", "sh -c 'true && false'"),
            ("true || false", "'||'", "sh -c 'true || false'"),
            ("a | b", "'|'", "sh -c 'a | b'"),
            ("a|b", "'|'", "sh -c 'a|b'"),
            ("a; b", "';'", "sh -c 'a; b'"),
            ("a &", "'&'", "sh -c 'a &'"),
            ("a <b", "'<'", "sh -c 'a <b'"),
            ("a 2>/dev/null", "'>'", "sh -c 'a 2>/dev/null'"),
            ("test -e $FILE.x", "'$FILE'", r"sh -c 'test -e \$FILE.x'"),
            ("echo ${x}", "'$'", r"sh -c 'echo \${x}'"),
            ("echo $(id)", "'$'", r"sh -c 'echo \$(id)'"),
            ("a $?", "'$'", r"sh -c 'a \$?'"),
            ("a `b`", "'`'", r"sh -c 'a \`b\`'"),
            ("ls *.conf", "'*'", "sh -c 'ls *.conf'"),
            ("ls a?", "'?'", "sh -c 'ls a?'"),
            ("ls [ab]c", "'[…]'", "sh -c 'ls [ab]c'"),
            ("~/bin/check -x", "'~'", "sh -c '~/bin/check -x'"),
            ("test -d ~", "'~'", "sh -c 'test -d ~'"),
            ("FOO=bar cmd", "'FOO=' in front of a command", "sh -c 'FOO=bar cmd'"),
            ("F=1 G=\"x y\" cmd", "'F=' in front of a command", r#"sh -c 'F=1 G=\"x y\" cmd'"#),
            ("(a)", "'('", "sh -c '(a)'"),
            ("a\nb", "a line break", "sh -c 'a\nb'"),
            ("a # b\nc", "a line break", "sh -c 'a # b\nc'"),
            ("echo 'a b' | c", "'|'", r"sh -c 'echo '\\''a b'\\'' | c'"),
        ] {
            let want = format!("{syntax} is shell syntax, and no shell runs CMD; want --check \"{fix}\"");
            assert_eq!(split(said), Err(want), "{said}");
        }
        let error = super::split("--ready", "cmd:", "a && b").unwrap_err();
        assert!(error.ends_with("want --ready \"cmd:sh -c 'a && b'\""), "{error}");
    }

    /// Pieces that a shell treats specially, and some that it does not.
    fn command() -> impl Strategy<Value = String> {
        let pieces = [
            "a", "b=", "=", " ", "  ", "\t", "'", "\"", "\\", "\n", "#", "&", "|", ";", "<", ">", "(", ")", "`", "*",
            "?", "[", "]", "~", "$", "$x", "${", "!", "{", "}", "%", "-", "é", "'b c'", "\"d e\"", "\\ ", "/",
        ];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..9).prop_map(|pieces| pieces.concat())
    }

    /// What stands in double quotes is literal here, and expanded by a shell.
    fn expands_in_double_quotes(said: &str) -> bool {
        said.contains('"') && said.contains(['$', '`'])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn joined_words_are_the_same_words(words in proptest::collection::vec(command(), 0..4)) {
            let words: Vec<_> = ["x".to_owned()].into_iter().chain(words).collect();
            prop_assert_eq!(split(&join(&words)), Ok(words));
        }

        #[test]
        fn nothing_panics(said: String) {
            let _ = split(&said);
        }

        #[test]
        fn what_is_accepted_is_what_a_shell_reads(said in command()) {
            if let Ok(words) = split(&said) && !expands_in_double_quotes(&said) {
                prop_assert_eq!(by_shell(said.trim_start_matches(BLANKS)), Some(words));
            }
        }

        #[test]
        fn the_fix_can_be_typed_and_is_accepted(said in command()) {
            if let Err(error) = split(&said) && let Some((_, fix)) = error.split_once("; want --check ") {
                let typed = by_shell(fix);
                let typed = typed.as_deref().and_then(<[_]>::first).cloned().unwrap_or_default();
                let want = ["sh", "-c", &said].map(str::to_owned).to_vec();
                prop_assert_eq!(split(&typed), Ok(want));
            }
        }
    }
}
