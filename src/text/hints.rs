//! What somebody may have meant: hints for near misses and for habits from other programs. Pure.

use crate::text::{cut, words};

/// How long a value is at most that a hint repeats.
const LONGEST: usize = 200;

/// The words as a list for people: `own or shared`, `no, on-failure or always`.
pub(crate) fn any_of(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// `; did you mean 'WORD'?` where one of the words is near to what was said, otherwise nothing.
pub(crate) fn did_you_mean(said: &str, words: &[&str]) -> String {
    near(said, words).map_or_else(String::new, suggest)
}

/// `; did you mean 'WORD'?` with the first of these words that would be accepted, otherwise nothing.
pub(crate) fn first_accepted(words: &[String], accepts: &dyn Fn(&str) -> bool) -> String {
    words.iter().find(|word| accepts(word)).map_or_else(String::new, |word| suggest(word))
}

fn suggest(word: &str) -> String {
    format!("; did you mean '{}'?", cut(word, LONGEST))
}

/// The word that is nearest to what was said, if one is near enough: it differs in case, in hyphens, or in few letters.
pub(crate) fn near<'a>(said: &str, words: &[&'a str]) -> Option<&'a str> {
    let said = plain(said);
    // Less than half of it.
    let allowed = (said.chars().count().saturating_sub(1) / 2).min(2);
    let rated = words.iter().map(|word| (distance(&said, &plain(word)), *word));
    let is_near = |(distance, word): &(usize, &str)| *distance <= allowed && *distance < word.len().div_ceil(2);
    rated.filter(is_near).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// A word without what is most often wrong about it: its case, and its hyphens.
pub(crate) fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace(['-', '_'], "")
}

/// How many letters must be inserted, removed or replaced to turn one word into the other (Levenshtein). Letters in
/// another order count as one mistake.
fn distance(one: &str, other: &str) -> usize {
    let mut letters: Vec<char> = one.chars().collect();
    let mut take = |letter| letters.iter().position(|known| *known == letter).map(|at| letters.swap_remove(at));
    if one != other && other.chars().all(|letter| take(letter).is_some()) && letters.is_empty() {
        return 1;
    }
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (before, a) in one.chars().enumerate() {
        let line = before.saturating_add(1);
        let (mut diagonal, mut left) = (before, line);
        for (above, b) in row.iter_mut().skip(1).zip(other.chars()) {
            let replaced = diagonal.saturating_add(usize::from(a != b));
            diagonal = *above;
            left = replaced.min(left.saturating_add(1)).min(above.saturating_add(1));
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What is known of a command that could not be found or executed.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CommandFacts {
    /// A regular file of that name is in the child's working directory.
    pub is_here: bool,
    /// What was found is a regular file, and nobody has permission to execute it.
    pub not_executable: bool,
}

/// What somebody who typed a command that cannot be run may have meant; nothing, or text to follow the reason.
pub(crate) fn for_command(command: &str, facts: CommandFacts) -> String {
    let command = &*cut(command, LONGEST);
    let quoted = shell_words::quote(command);
    let assignment = command.split_once('=').filter(|(name, _)| words::is_variable(name));
    // A file that was found in PATH belongs to somebody else.
    if facts.not_executable && command.contains('/') {
        return format!("; did you mean to 'chmod +x {quoted}' first{}?", or_interpreter(command));
    }
    if let Some((name, value)) = assignment {
        if value.contains(char::is_whitespace) {
            return format!(
                "; {name}=VALUE in front of a command is shell syntax: want the words without quotes around them \
                 (env {command}), or sh -c {quoted}"
            );
        }
        let value = shell_words::quote(value);
        return format!(
            "; {name}=VALUE in front of a command is shell syntax: want 'env {name}={value} COMMAND', or --env-file"
        );
    }
    // With './' in front it would be no more executable.
    if facts.is_here && !facts.not_executable && !command.contains('/') {
        return format!("; did you mean './{command}'{}?", or_interpreter(command));
    }
    if FORMS.contains(&command) {
        return format!("; did you mean '--{command} FILE'?");
    }
    if command.starts_with(|c: char| c.is_ascii_digit())
        && command.trim_end_matches(['s', 'm', 'h', 'd']).chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return format!("; for a time limit: 'timeout {command} COMMAND'");
    }
    if BUILTINS.contains(&command) {
        return format!("; '{command}' is part of the shell, not a program: want sh -c '{command} …'");
    }
    match words::shell_syntax(command) {
        Some(syntax) if syntax == "'~'" => return "; only a shell expands '~': want the whole path".to_owned(),
        Some(syntax) => return format!("; {syntax} is shell syntax: want sh -c {quoted}"),
        None => {}
    }
    if let Some(first) = command.split_whitespace().next().filter(|first| *first != command) {
        return format!(
            "; the name contains a space: want the words without quotes around them ({first} …), or sh -c {quoted}"
        );
    }
    String::new()
}

/// What hupwrap does by an option.
const FORMS: [&str; 4] = ["reload", "stop", "status", "wait-ready"];

/// What shells know by themselves (POSIX, `sh`, 2.4 and 2.14), and no program of that name is there.
const BUILTINS: [&str; 20] = [
    "!", ".", ":", "[[", "alias", "cd", "eval", "exec", "exit", "export", "for", "if", "set", "source", "trap",
    "ulimit", "umask", "until", "while", "{",
];

/// The program that runs files with such a name, as `, or 'php app.php'`.
fn or_interpreter(command: &str) -> String {
    let interpreter = match command.rsplit_once('.').map(|(_, extension)| extension) {
        Some("php") => "php",
        Some("py") => "python3",
        Some("rb") => "ruby",
        Some("js" | "mjs" | "cjs") => "node",
        Some("pl") => "perl",
        Some("sh") => "sh",
        Some("bash") => "bash",
        Some("jar") => "java -jar",
        Some("lua") => "lua",
        _ => return String::new(),
    };
    format!(", or '{interpreter} {}'", shell_words::quote(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        let words = ["no", "on-failure", "always", "mode", "restart", "reexec"];
        for (said, want) in [
            ("onfailure", Some("on-failure")),
            ("ON_FAILURE", Some("on-failure")),
            ("No", Some("no")),
            ("alwasy", Some("always")),
            ("mdoe", Some("mode")),
            ("mod", Some("mode")),
            ("re-exec", Some("reexec")),
            ("restrat", Some("restart")),
            ("on", None),
            ("made", Some("mode")),
            ("nods", None),
            ("x", None),
            ("", None),
            ("perhaps", None),
        ] {
            assert_eq!(near(said, &words), want, "{said}");
        }
        assert_eq!(any_of(&["own", "shared"]), "own or shared");
        assert_eq!(any_of(&["no", "on-failure", "always"]), "no, on-failure or always");
        assert_eq!(any_of(&[]), "");
    }

    #[test]
    fn distances() {
        for (one, other, want) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("term", "trem", 1), ("ä", "a", 1)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (want, want), "{one} {other}");
        }
    }

    #[test]
    fn commands() {
        let none = CommandFacts::default();
        let here = CommandFacts { is_here: true, ..none };
        let no_x = CommandFacts { not_executable: true, ..none };
        for (command, facts, want) in [
            ("nothing", none, ""),
            ("app.php", none, ""),
            ("app.php", here, "; did you mean './app.php', or 'php app.php'?"),
            ("run", here, "; did you mean './run'?"),
            ("./run", no_x, "; did you mean to 'chmod +x ./run' first?"),
            ("run", no_x, ""),
            ("run", CommandFacts { is_here: true, ..no_x }, ""),
            ("./run.py", no_x, "; did you mean to 'chmod +x ./run.py' first, or 'python3 ./run.py'?"),
            (
                "FOO=b r",
                none,
                "; FOO=VALUE in front of a command is shell syntax: want the words without quotes around them \
                 (env FOO=b r), or sh -c 'FOO=b r'",
            ),
            (
                "FOO=b",
                none,
                "; FOO=VALUE in front of a command is shell syntax: want 'env FOO=b COMMAND', or --env-file",
            ),
            ("1=b", none, ""),
            (
                "sleep 1",
                none,
                "; the name contains a space: want the words without quotes around them (sleep …), or sh -c 'sleep 1'",
            ),
            ("ls|wc", none, "; '|' is shell syntax: want sh -c 'ls|wc'"),
            ("a && b", none, "; '&&' is shell syntax: want sh -c 'a && b'"),
            ("~/x", none, "; only a shell expands '~': want the whole path"),
            ("cd", none, "; 'cd' is part of the shell, not a program: want sh -c 'cd …'"),
            ("!", none, "; '!' is part of the shell, not a program: want sh -c '! …'"),
            ("cd", here, "; did you mean './cd'?"),
            ("5s", none, "; for a time limit: 'timeout 5s COMMAND'"),
            ("1.5", none, "; for a time limit: 'timeout 1.5 COMMAND'"),
            ("7z", none, ""),
            ("reload", none, "; did you mean '--reload FILE'?"),
            ("stop", here, "; did you mean './stop'?"),
            ("", none, ""),
            (" ", none, ""),
        ] {
            assert_eq!(for_command(command, facts), want, "{command}");
        }
        for command in ["sleep 1 ".to_owned(), "A=".to_owned(), String::new(), "./".to_owned(), "a; ".to_owned()] {
            for facts in [none, here, no_x] {
                assert!(for_command(&format!("{command}{}", "#".repeat(5000)), facts).len() < 600, "{command}");
            }
        }
    }
}
