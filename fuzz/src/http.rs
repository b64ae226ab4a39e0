//! Answers of a web server to a check.

use evervip::check::probe::Verdict;
use evervip::check::probe::http::{Heard, Http, Outcome};
use evervip::model::checker::{Pattern, Url};

/// An answer of any form: the verdict does not depend on the parts in which it arrives, and the reason is a short line.
/// The first octet selects the expected page.
pub fn answer(data: &[u8]) {
    let Some((kind, answer)) = data.split_first() else { return };
    let answer = answer.get(..100_000).unwrap_or(answer);
    let url = Url {
        path: "/".into(),
        digest: (kind & 1 != 0).then_some([kind & 2; 16]),
        status: if kind & 4 != 0 { vec![(100, 599)] } else { vec![(200, 299)] },
        virtualhost: None,
        pattern: (kind & 8 != 0).then(|| {
            Box::new(Pattern {
                text: b"(l+o)*w|^x$".as_slice().into(),
                options: vec!["multiline".into()],
                absent: kind & 16 != 0,
                min_offset: u64::from(kind >> 5),
                max_offset: None,
            })
        }),
        tls_compliant: None,
    };
    let judge = |size: usize| -> Verdict {
        let mut http = Http::new(url.clone());
        let parts = answer.chunks(size).map(Heard::Bytes);
        let end = parts.chain([Heard::End]).find_map(|heard| http.step(heard));
        match end.expect("an outcome when the server has closed") {
            Outcome::Verdict(verdict) => verdict,
            Outcome::Search(search) => {
                let regex = search.pattern.compile().ok();
                search.verdict(regex.as_ref())
            }
        }
    };
    let whole = judge(answer.len().max(1));
    let text = whole.to_string();
    assert!(text.len() < 200 && !text.contains(char::is_control), "{text:?}");
    for size in [1, 3, 1000] {
        let again = judge(size);
        assert_eq!(again == Verdict::SUCCESS, whole == Verdict::SUCCESS, "{size}: {again}, {text}");
    }
}
