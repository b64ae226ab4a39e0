//! One test as an entry of a list, and how the list is run: each with a laboratory of its own, skips named, a total at
//! the end.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab::{Lab, Res, Stop};

/// A test.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(&mut Lab) -> Res,
}

/// The list of a module: `cases![first, second]`.
#[macro_export]
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: $name,
        }),+];
    };
}

/// Runs the cases that the arguments choose and prints the totals.
pub fn run(arguments: &Arguments, cases: &[Case]) -> ExitCode {
    let skips: Arc<Mutex<Vec<String>>> = Arc::default();
    let trials = cases.iter().map(|&case| trial(case, &skips)).collect();
    let prior = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // A panic of a test is part of its failure; of any other thread it is printed as usual.
        if !NOTED.with_borrow_mut(|noted| noted.as_mut().map(|text| *text = info.to_string()).is_some())
        {
            prior(info);
        }
    }));
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

thread_local! {
    /// Set while the thread runs a test: the words of its panic.
    static NOTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn trial(case: Case, skips: &Arc<Mutex<Vec<String>>>) -> Trial {
    let skips = Arc::clone(skips);
    let name = case.name.trim_start_matches("netns::");
    Trial::ignorable_test(name, move || match once(case) {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Skip(reason)) => {
            let mut skips = skips.lock().unwrap_or_else(PoisonError::into_inner);
            skips.push(format!("{name}: {reason}"));
            Ok(Completion::ignored_with(reason))
        }
        Err(Stop::Fail(text)) => Err(Failed::from(text)),
    })
}

/// Runs a case in a new laboratory; a failure carries the whole timeline.
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
    Err(Stop::Fail(format!("{text}\n\n{}{}\n", lab.report(), lab.state())))
}

fn panicked(payload: &(dyn Any + Send), noted: &str) -> String {
    if noted.is_empty() {
        let text = payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words");
        return text.to_owned();
    }
    noted.to_owned()
}
