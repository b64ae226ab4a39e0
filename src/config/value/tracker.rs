//! Lines of `track_interface`, `track_script`, `track_file`, `track_process` and `track_bfd`, and weights.

use crate::base::{IfName, Name};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::value::number::integer;
use crate::config::value::text::{interface, text_of};

/// `weight N [reverse]` of a tracked object's own block. The bound is that of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockWeight<const MAX: i64> {
    pub weight: i16,
    pub reverse: bool,
}

/// A line that names a tracked object, with its weight if one is given there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackEntry<const MAX: i64> {
    pub name: Name,
    /// The weight, and `reverse` or `noreverse` if given.
    pub weight: Option<(i16, Option<bool>)>,
}

/// A line that names a tracked interface.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackInterface {
    pub interface: IfName,
    pub weight: i16,
    pub reverse: bool,
}

impl<const MAX: i64> Value for BlockWeight<MAX> {
    fn shape() -> Shape {
        Shape::Words(format!("an integer from -{MAX} to {MAX}, and optionally 'reverse'"))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let weight = integer(&word, -MAX, MAX, true, cx)?;
        let mut reverse = false;
        if let Some(word) = args.next() {
            if word.bytes == b"reverse" {
                reverse = true;
            } else {
                super::entry::unknown_option(&word, &["reverse"], "a weight", cx);
            }
        }
        Some(Self { weight: i16::try_from(weight).unwrap_or(0), reverse })
    }

    fn words(&self, out: &mut Words) {
        out.show(self.weight);
        if self.reverse {
            out.push("reverse");
        }
    }
}

impl<const MAX: i64> Value for TrackEntry<MAX> {
    fn shape() -> Shape {
        Shape::Words(format!("NAME [weight -{MAX}..{MAX} [reverse|noreverse]]"))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let name = Name::from(text_of(&word, cx));
        let weight = weight_option(args, &name, MAX, true, cx)?;
        Some(Self { name, weight })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.name.as_str());
        if let Some((weight, reverse)) = self.weight {
            out.push("weight");
            out.show(weight);
            match reverse {
                Some(true) => out.push("reverse"),
                Some(false) => out.push("noreverse"),
                None => {}
            }
        }
    }
}

impl Value for TrackInterface {
    fn shape() -> Shape {
        Shape::Words("IFNAME [weight -254..254 [reverse]]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let interface = interface(&word, cx)?;
        let name = Name::from(interface.as_str());
        let weight = weight_option(args, &name, 254, false, cx)?;
        cx.check_interface(Some(&interface), word.span(), "tracked here");
        let (weight, reverse) = weight.unwrap_or((0, None));
        Some(Self { interface, weight, reverse: reverse == Some(true) })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.interface.as_str());
        if self.weight != 0 || self.reverse {
            out.push("weight");
            out.show(self.weight);
        }
        if self.reverse {
            out.push("reverse");
        }
    }
}

type Weight = Option<(i16, Option<bool>)>;

/// `weight N [reverse]` at the end of a line. None: the line is ignored.
fn weight_option(
    args: &mut Args<'_>,
    name: &str,
    max: i64,
    noreverse: bool,
    cx: &mut Cx<'_>,
) -> Option<Weight> {
    let Some(option) = args.next() else {
        return Some(None);
    };
    if option.bytes != b"weight" {
        let message = format!(
            "'{}' is not an option of tracked '{name}', the line is ignored",
            option.shown()
        );
        cx.report(
            Diagnostic::error(&codes::OPTION, message)
                .at(option.span())
                .label("expected 'weight'")
                .help("each tracked object has a line of its own"),
        );
        args.finish();
        return None;
    }
    let word = super::entry::value(&option, args, cx)?;
    let weight = integer(&word, -max, max, true, cx).and_then(|w| i16::try_from(w).ok());
    let mut reverse = None;
    if let Some(word) = args.next() {
        match word.bytes {
            b"reverse" => reverse = Some(true),
            b"noreverse" if noreverse => reverse = Some(false),
            _ => {
                super::entry::unknown_option(&word, &["reverse", "noreverse"], "a weight", cx);
                args.finish();
            }
        }
    }
    Some(weight.map(|w| (w, reverse)))
}
