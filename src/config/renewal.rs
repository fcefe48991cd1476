//! Renewals without a signal: `--watch` and `--max-age` (contract, section 7). Pure.

use std::time::Duration;

use super::actions::Action;
use super::duration::duration;
use super::value::optional;
use crate::cli::Args;

/// Reads `--max-age`.
///
/// # Errors
/// One line that names the option and its value, and says what would be right.
pub(super) fn max_age(args: &Args) -> Result<Option<Duration>, String> {
    let age = |said: &str| match duration(said) {
        Ok(Duration::ZERO) => Err("a child is never that young; want more than 0, such as 24h".to_owned()),
        Err(_) if said == "never" => Err("without --max-age no age is too old; remove it".to_owned()),
        read => read,
    };
    optional("--max-age", &args.max_age, age)
}

/// Checks that what HUP does is a renewal, where one of the options asks for it.
///
/// # Errors
/// One line that names the option, its value, and what HUP does.
pub(super) fn check(args: &Args, on_hup: Action) -> Result<(), String> {
    let watch = args.watch.first().map(|path| ("--watch", path.to_string_lossy()));
    let max_age = args.max_age.as_ref().map(|age| ("--max-age", age.into()));
    match watch.or(max_age) {
        Some((option, said)) if !on_hup.is_request() || on_hup == Action::Upgrade => Err(format!(
            "{option} '{said}': acts as a HUP, and HUP means {on_hup}; want restart, reexec, replace or upgrade+replace \
             for HUP"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(change: impl FnOnce(&mut Args)) -> Result<Config, String> {
        let mut args = Args { command: vec!["true".into()], ..Args::default() };
        change(&mut args);
        Config::new(args)
    }

    #[test]
    fn values() {
        let age = |said: &str| config(|args| args.max_age = Some(said.to_owned())).map(|config| config.max_age);
        assert_eq!(age("1h"), Ok(Some(Duration::from_secs(3600))));
        for (said, error) in [
            ("0", "a child is never that young; want more than 0, such as 24h"),
            ("0ms", "a child is never that young; want more than 0, such as 24h"),
            ("never", "without --max-age no age is too old; remove it"),
            ("soon", "want a duration such as 10s, 1m30s, 250ms or 1.5 (seconds)"),
        ] {
            assert_eq!(age(said), Err(format!("--max-age '{said}': {error}")));
        }
        let watch = |paths: &[&str]| config(|args| args.watch = paths.iter().map(Into::into).collect());
        assert_eq!(watch(&["src", "src"]).unwrap().watch, ["src", "src"]);
        let error = "--watch '': the path is empty; want a file or a directory, which need not exist yet";
        assert_eq!(watch(&["src", ""]).unwrap_err(), error);
    }

    #[test]
    fn hup_must_renew() {
        for hup in ["restart", "reexec", "replace", "upgrade+replace"] {
            let set = |args: &mut Args| {
                (args.watch, args.max_age) = (vec!["src".into()], Some("1h".to_owned()));
                args.on_hup = vec![hup.to_owned()];
            };
            assert!(config(set).is_ok(), "{hup}");
        }
        for hup in ["stop", "stop:INT", "ignore", "forward", "forward:USR1", "upgrade"] {
            for (watch, age, begins) in [(&["src"][..], None, "--watch 'src'"), (&[], Some("1h"), "--max-age '1h'")] {
                let set = |args: &mut Args| {
                    args.watch = watch.iter().map(Into::into).collect();
                    args.max_age = age.map(str::to_owned);
                    args.on = vec![format!("HUP={hup}")];
                };
                let error = format!(
                    "{begins}: acts as a HUP, and HUP means {hup}; want restart, reexec, replace or upgrade+replace for HUP"
                );
                assert_eq!(config(set).unwrap_err(), error);
            }
        }
    }
}
