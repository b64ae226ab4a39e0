//! The list of tests and how it is run: each test with a laboratory of its own, skips by name, a total at the end.

use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab::guest::{Boot, Record, Verdict};
use crate::lab::{Lab, Res, Stop, need};

/// A test.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    pub place: Place,
    pub run: fn(&mut Lab) -> Res,
}

/// The reasons of tests that did not run.
type Skips = Arc<Mutex<Vec<String>>>;

/// Tests that run at the same time inside the guest, which has one slow processor.
const AT_A_TIME_INSIDE: usize = 4;

/// Which kernel a test needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Any: that of this machine.
    Here,
    /// One with IPVS: that of this machine, else the guest.
    Ipvs,
    /// One with a systemd that may be reloaded and stopped: always the guest.
    Systemd,
}

impl Case {
    pub const fn new(name: &'static str, place: Place, run: fn(&mut Lab) -> Res) -> Self {
        Self { name, place, run }
    }

    /// `module::test`.
    pub fn name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }
}

/// The list of a module: `cases![Here: first, second]`.
#[macro_export]
macro_rules! cases {
    ($place:ident: $($name:ident),+ $(,)?) => {
        pub const CASES: &[$crate::case::Case] = &[$($crate::case::Case::new(
            concat!(module_path!(), "::", stringify!($name)),
            $crate::case::Place::$place,
            $name,
        )),+];
    };
}

/// Runs the cases that the arguments choose and prints the totals.
pub fn run(arguments: &Arguments, cases: &[Case]) -> ExitCode {
    let skips: Skips = Arc::default();
    let here = |case: &Case| match case.place {
        Place::Here => true,
        Place::Ipvs => need::ipvs(),
        Place::Systemd => false,
    };
    // Those that need the guest come last: it works while the others run.
    let (mine, guests): (Vec<Case>, Vec<Case>) = cases.iter().partition(|case| here(case));
    let mut trials: Vec<Trial> = mine.into_iter().map(|case| trial(case, None, &skips)).collect();
    for place in [Place::Ipvs, Place::Systemd] {
        let group: Vec<Case> = guests.iter().copied().filter(|case| case.place == place).collect();
        let wanted: Vec<String> = group
            .iter()
            .map(|&case| trial(case, None, &skips))
            .filter(|trial| !arguments.list && !arguments.is_filtered_out(trial))
            .map(|trial| trial.name().to_owned())
            .collect();
        let boot = (!wanted.is_empty()).then(|| Boot::start(wanted, place == Place::Systemd));
        trials.extend(group.into_iter().map(|case| trial(case, boot.clone(), &skips)));
    }
    catch_panics();
    let conclusion = libtest_mimic::run(arguments, trials);
    if !arguments.list {
        for skip in skips.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("skipped: {skip}");
        }
        println!(
            "{} passed, {} failed, {} skipped",
            conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored
        );
    }
    conclusion.exit_code()
}

/// Inside the guest: runs the cases that a file names, a few at a time, and appends each result to another.
pub fn run_inside(cases: &[Case], names: &Path, results: &Path) -> Result<(), Box<dyn Error>> {
    let names = fs::read_to_string(names)?;
    let wanted = |case: &&Case| names.lines().any(|name| name == case.name());
    let queue: Mutex<Vec<Case>> = Mutex::new(cases.iter().filter(wanted).copied().rev().collect());
    let results = Mutex::new(OpenOptions::new().append(true).open(results)?);
    catch_panics();
    thread::scope(|scope| {
        // Those with systemd share one machine.
        let alone = cases.iter().filter(wanted).any(|case| case.place == Place::Systemd);
        for _ in 0..if alone { 1 } else { AT_A_TIME_INSIDE } {
            scope.spawn(|| {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                while let Some(case) = next() {
                    let verdict = match once(case) {
                        Ok(()) => Verdict::Passed,
                        Err(Stop::Fail(text)) => Verdict::Failed(text),
                        Err(Stop::Skip(reason)) => Verdict::Skipped(reason),
                    };
                    let record = Record { name: case.name().to_owned(), verdict };
                    let mut file = results.lock().unwrap_or_else(PoisonError::into_inner);
                    let written = serde_json::to_string(&record)
                        .map_err(|error| error.to_string())
                        .and_then(|line| writeln!(file, "{line}").map_err(|e| e.to_string()));
                    if let Err(error) = written {
                        println!("{}: cannot write the result: {error}", record.name);
                    }
                }
            });
        }
    });
    Ok(())
}

/// A panic of a test is part of its failure; one of any other thread is printed as usual.
fn catch_panics() {
    let prior = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let ours = NOTED
            .with_borrow_mut(|noted| noted.as_mut().map(|text| *text = info.to_string()).is_some());
        if !ours {
            prior(info);
        }
    }));
}

thread_local! {
    /// Set while the thread runs a test: the text of its panic.
    static NOTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn trial(case: Case, boot: Option<Arc<Boot>>, skips: &Skips) -> Trial {
    let (skips, name) = (Arc::clone(skips), case.name());
    Trial::ignorable_test(name, move || {
        let result = boot.map_or_else(|| once(case), |boot| boot.result(name));
        match result {
            Ok(()) => Ok(Completion::Completed),
            Err(Stop::Skip(reason)) => {
                let mut skips = skips.lock().unwrap_or_else(PoisonError::into_inner);
                skips.push(format!("{name}: {reason}"));
                Ok(Completion::ignored_with(reason))
            }
            Err(Stop::Fail(text)) => Err(Failed::from(text)),
        }
    })
}

/// Runs a case in a new laboratory; a failure contains the whole timeline.
fn once(case: Case) -> Res {
    let mut lab = Lab::new()?;
    NOTED.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| (case.run)(&mut lab)));
    let noted = NOTED.take().unwrap_or_default();
    let text = match result {
        Ok(Err(Stop::Fail(text))) => text,
        Ok(other) => return other,
        Err(payload) => panicked(payload.as_ref(), &noted),
    };
    // The reason again at the end: what keeps only the last lines of a log keeps it.
    Err(Stop::Fail(format!("{text}\n\n{}{}\n\n{text}\n", lab.report(), lab.state())))
}

fn panicked(payload: &(dyn Any + Send), noted: &str) -> String {
    if noted.is_empty() {
        let text = payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words");
        return text.to_owned();
    }
    noted.to_owned()
}
