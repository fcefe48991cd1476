//! What the children tell: the log that they write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// CLOCK_MONOTONIC in nanoseconds.
pub type Time = u64;

/// What one generation has told of itself.
#[derive(Default, Debug)]
pub struct Told {
    pub start: Time,
    pub plan: usize,
    pub env: String,
    pub here: String,
    pub notify: String,
    /// The main process, by the pid that it has for itself.
    pub main: i32,
    /// Whether that one was surely named. Its predecessor may have been killed before.
    pub named: bool,
    /// When it was about to tell that it is ready.
    pub ready: Option<Time>,
    /// When it had told it.
    pub announced: Option<Time>,
    /// When it first got a stop signal.
    pub stopped: Option<Time>,
    /// How its main process was about to end: a status, or less than 0 by that signal.
    pub end: Option<(Time, i32)>,
    /// The status of a process that had named another one as the main process, if that ended so.
    pub handed_over: Option<i32>,
    pub idle: bool,
    pub frozen: bool,
    /// The signals that it has heard.
    pub heard: Vec<(Time, i32)>,
    /// Its last line.
    pub last: Time,
}

pub struct Log {
    file: File,
    rest: String,
    pub told: BTreeMap<u64, Told>,
}

impl Log {
    pub fn new(path: &Path) -> Self {
        let file = File::options().read(true).append(true).create(true).open(path).expect("a log");
        Self { file, rest: String::new(), told: BTreeMap::new() }
    }

    /// Reads what was added.
    pub fn read(&mut self) {
        self.file.read_to_string(&mut self.rest).expect("a log");
        let Some(end) = self.rest.rfind('\n') else {
            return;
        };
        let whole: String = self.rest.drain(..=end).collect();
        whole.lines().for_each(|line| self.line(line));
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("a number in '{line}'"));
        let small = |at: usize| i32::try_from(number(at)).expect("a small number");
        let (time, generation) = (number(0), number(1));
        let is_new = words[3] == "start";
        assert_ne!(self.told.contains_key(&generation), is_new, "generation {generation} starts once: '{line}'");
        let told = self.told.entry(generation).or_default();
        told.last = time;
        match words[3] {
            "start" => {
                (told.start, told.main, told.named) = (time, small(2), true);
                told.plan = usize::try_from(number(4)).expect("a number");
                [&mut told.env, &mut told.here, &mut told.notify]
                    .into_iter()
                    .zip(&words[5..8])
                    .for_each(|(to, word)| *to = (*word).to_owned());
            }
            "told" => told.ready = told.ready.or(Some(time)),
            "announced" => told.announced = told.announced.or(Some(time)),
            "got" => told.stopped = told.stopped.or(Some(time)),
            "heard" => told.heard.push((time, small(4))),
            "exit" => told.end = Some((time, small(4))),
            "die" => told.end = Some((time, -small(4))),
            "main" => (told.main, told.handed_over, told.named) = (small(4), Some(small(5)), false),
            "named" => told.named = true,
            "freeze" | "thaw" => told.frozen = words[3] == "freeze",
            "idle" => told.idle = true,
            _ => panic!("what is '{line}'?"),
        }
    }
}
