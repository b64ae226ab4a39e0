//! The codes of diagnostics and what `evervip explain` says about them.

use crate::base::near::nearest;

/// A stable name for a kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `E0101`: the letter with which it usually comes, and the number. A diagnostic has the letter that says what it
    /// stops ([`super::Diagnostic::id`]).
    pub id: &'static str,
    /// The kind of problem in a few words.
    pub title: &'static str,
    /// What it means and what to do, for `evervip explain`.
    pub text: &'static str,
}

/// The code named `id`, in any case and with any of the letters that a diagnostic can have.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    let number = id.strip_prefix(['F', 'E', 'W', 'L', 'N', 'f', 'e', 'w', 'l', 'n'])?;
    ALL.iter().copied().find(|c| c.number() == number)
}

/// The code that was probably meant by `id`.
#[must_use]
pub fn similar(id: &str) -> Option<&'static Code> {
    let id = id.to_ascii_uppercase();
    let number = id.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let padded = format!("{number:0>4}");
    let same = ALL.iter().copied().find(|c| !number.is_empty() && c.id.ends_with(&padded));
    same.or_else(|| find(nearest(&id, ALL.iter().map(|c| c.id))?))
}

impl Code {
    /// The number, which no other code has.
    #[must_use]
    pub fn number(&self) -> &'static str {
        self.id.trim_start_matches(|c: char| c.is_ascii_alphabetic())
    }

    /// Whether it is advice that keepalived does not give.
    #[must_use]
    pub fn is_lint(&self) -> bool {
        self.id.starts_with('L')
    }

    /// The lines of the text; an empty one stands between two paragraphs.
    pub fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().map(str::trim)
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $title:literal;)*) => {
        $(
            #[doc = concat!($id, ": ", $title, ".")]
            pub static $name: Code = Code {
                id: $id,
                title: $title,
                text: concat!($($doc, "\n"),+),
            };
        )*
        /// Every code, in order.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    /// The word is not a keyword of the block it stands in. Keywords are case sensitive, cannot be shortened, and
    /// are known only in their own block.
    ///
    /// The line is left out. When the unknown word opens a block, its brace is ignored, as keepalived does, and the
    /// closing brace ends the block around it: what follows is then read outside. So correct or remove this first.
    UNKNOWN_KEYWORD = "E0101", "unknown keyword";
    /// An opening brace stands where no block can begin: the keyword before it takes none. The brace is ignored, so
    /// the next closing brace ends the block around it.
    UNEXPECTED_OPEN = "E0102", "unexpected '{'";
    /// A keyword that opens a block is not followed by '{'. What follows is read as the block.
    MISSING_OPEN = "E0103", "missing '{'";
    /// A closing brace has no block to close. Usually an unknown keyword with a block of its own stands above:
    /// its closing brace ended the block around it.
    UNEXPECTED_CLOSE = "E0104", "unexpected '}'";
    /// The text ends inside a block. What was read is used.
    MISSING_CLOSE = "E0105", "missing '}'";
    /// A double quote is not closed on its line; quotes never span lines. The words before it are used.
    ///
    /// There is no escape for a double quote inside double quotes, except in script keywords, where a backslash
    /// serves. A value that must hold a double quote can use apostrophes there.
    MISSING_QUOTE = "E0106", "missing closing quote";
    /// The keyword needs a value and has none. For most keywords keepalived ends at once with status 2 and does not
    /// start; for the others the line is left out.
    MISSING_PARAMETER = "E0107", "missing value";
    /// Words stand between a keyword and the '{' of its list. They are ignored.
    EXTRA_BEFORE_BLOCK = "E0108", "words before the block";
    /// A line holds more than 1022 bytes. The first 1023 bytes are thrown away and the rest is read as a line of its
    /// own, as keepalived 2.4 does. Break the line.
    LINE_TOO_LONG = "E0109", "line too long";
    /// A line holds a byte of value zero. The line is left out. Usually the file is not text, or not in an encoding
    /// that extends ASCII (UTF-16, for instance).
    ZERO_BYTE = "E0110", "zero byte";
    /// A list that should hold something is empty.
    EMPTY_LIST = "W0111", "empty list";
    /// The configuration is deeper, larger or expands to more than the limits allow. This guards against files that
    /// include themselves and definitions that grow without end.
    LIMIT = "E0112", "limit exceeded";
    /// The main configuration file cannot be used: it is missing, cannot be read, is not a regular file, or is
    /// executable by somebody. keepalived refuses executable configuration files, and so do we.
    MAIN_FILE = "F0113", "configuration file cannot be used";
    /// Words follow that the keyword does not take. keepalived ignores them in silence. For a flag such as
    /// `nopreempt` this is a trap: `nopreempt false` switches it on.
    EXTRA_WORDS = "L0114", "words without effect";
    /// The main file is a pattern that matches several files. All are read, in sorted order.
    SEVERAL_FILES = "W0115", "several main files";

    /// No file matches the name of an include. Relative names start in the directory of the file that holds the
    /// include. Plain `include` goes on without it; `includem`, `includew`, `includeb`, `includea` and
    /// `include_check` make it an error, and then the daemon does not start.
    INCLUDE_MISSING = "E0201", "included file is missing";
    /// A file that an include names cannot be used: it is a directory or no regular file, it has an execute bit, or
    /// it cannot be read. It is skipped; `includer` and the stricter forms make it an error.
    INCLUDE_UNUSABLE = "E0202", "included file cannot be used";
    /// A file includes itself, directly or through others. keepalived would read it until it runs out of file
    /// descriptors. The include is left out.
    INCLUDE_LOOP = "E0203", "file includes itself";
    /// The value of a definition uses the definition itself. keepalived hangs or fills the line. Nothing is
    /// put in its place.
    DEFINITION_LOOP = "E0204", "definition uses itself";
    /// A `~SEQ` or `~LST` line is malformed, its step is zero, or its step leads away from the end. The line is left
    /// out. The forms are `~SEQ(NAME, END)`, `~SEQ(NAME, START, END)`, `~SEQ(NAME, START, STEP, END)`, `~SEQx(...)`
    /// for hexadecimal, `~LST(NAME, a, b, ...)` and `~LST({N1, N2}, {a, b}, {c, d}, ...)`.
    REPETITION = "E0205", "malformed repetition";
    /// `${_RANDOM}` takes at most two integers, the lower one first.
    RANDOM = "E0206", "malformed random number";

    /// The value is not acceptable to its keyword. What it would have set keeps its default or earlier value.
    VALUE = "E0300", "invalid value";
    /// A decimal integer is expected. There is no hexadecimal, no unit and no grouping.
    NUMBER = "E0301", "not a number";
    /// The number is outside the range of its keyword. The setting keeps its default or earlier value.
    RANGE = "E0302", "number out of range";
    /// A time in seconds is expected: a decimal number with at most six digits after the point, without a unit or an
    /// exponent.
    SECONDS = "E0303", "not a time";
    /// The keyword takes one of a few words, and this is none of them. The words are case sensitive unless said
    /// otherwise.
    CHOICE = "E0304", "not one of the possible words";
    /// A truth value is one of true, on, yes, false, off, no, in lower case. A keyword that takes one and stands alone
    /// means true.
    BOOLEAN = "E0305", "not a truth value";
    /// A numeric IPv4 or IPv6 address is expected.
    ADDRESS = "E0306", "not an address";
    /// The address is of another family than what it belongs to.
    FAMILY = "E0307", "address of the wrong family";
    /// An interface name has 1 to 15 characters, none of them '/', ':' or white space.
    INTERFACE_NAME = "E0308", "not an interface name";
    /// The text is longer than it may be.
    TOO_LONG = "E0309", "text too long";
    /// The number has more digits after the point than its keyword keeps. It is rounded.
    DECIMALS = "W0310", "too many decimal places";
    /// Text follows the digits of a number: a unit or a fraction, for instance. The number before it is used, as
    /// keepalived does when it runs; its configuration test (-t) calls it an error and ignores the setting, so
    /// write the plain number.
    TRAILING_TEXT = "W0311", "text after the number";
    /// The line of an address, route, rule, peer or tracked object holds a word that is not an option there.
    OPTION = "E0312", "unknown option";
    /// Hexadecimal digits are expected.
    HEX = "E0313", "not hexadecimal";
    /// The text of a script is malformed: a quote that is not closed, or nothing at all.
    SCRIPT_TEXT = "E0314", "malformed command";
    /// An advert of version 2 has room for a password of 8 bytes (RFC 2338 5.3.10). The rest is cut off, so
    /// passwords that begin alike are the same.
    PASSWORD_CUT = "W0315", "password is cut off";

    /// The name is used already. The later block is left out.
    DUPLICATE_NAME = "E0401", "name used already";
    /// The setting was made before and the first one counts. The later line is left out.
    SET_TWICE = "E0402", "set already";
    /// The setting was made before; the later one counts.
    OVERWRITTEN = "W0403", "overwrites an earlier setting";
    /// The name does not refer to anything. The reference is left out.
    UNKNOWN_REFERENCE = "E0404", "unknown name";
    /// Something that the block cannot do without is missing. The block is left out.
    INCOMPLETE = "E0405", "block is incomplete";
    /// Two settings exclude each other. The message says which one counts.
    CONFLICT = "E0406", "settings exclude each other";
    /// The entry is there already. The later one is left out.
    DUPLICATE_ENTRY = "E0407", "listed already";
    /// Two virtual routers would use the same id on one interface: they would take each other's adverts for their
    /// own. keepalived does not start; here the later instance is left out.
    DUPLICATE_VRID = "E0408", "virtual router id used twice";
    /// The name is defined further down. Scripts, track files, processes and BFD sessions must stand before what
    /// names them. The reference is left out.
    DEFINED_LATER = "E0410", "defined after its use";
    /// This version cannot carry out the instance. It is left out rather than run as something else: two routers
    /// with different ideas of an instance would both answer.
    LEFT_OUT = "W0411", "instance is not possible in this version";
    /// The value was adjusted to what is possible. The message says to what.
    ADJUSTED = "W0412", "value adjusted";
    /// A setting that ought to be written down is missing. The default is used.
    DEFAULTED = "W0413", "default used";
    /// The setting does not fit the rest of the block, so it has no effect.
    NO_EFFECT_HERE = "W0414", "setting without effect here";
    /// `nopreempt` keeps a router that returns from taking over. One that starts with state MASTER takes over by
    /// definition, so keepalived and EverVIP ignore `nopreempt` there. Write state BACKUP on both routers.
    NOPREEMPT_MASTER = "W0415", "nopreempt with state MASTER";

    /// The interface does not exist now. keepalived does not start then, unless `dynamic_interfaces` is set. Here the
    /// instance waits in FAULT until the interface appears.
    NO_INTERFACE = "W0501", "interface does not exist";
    /// The program does not exist, is not a regular file, or may not be executed by the account that is to run it.
    /// What needs it is left out.
    NO_SCRIPT = "W0502", "script cannot be run";
    /// The user or group does not exist on this machine.
    NO_USER = "W0503", "unknown user or group";
    /// The host name cannot be resolved now.
    NO_HOST = "W0504", "host name does not resolve";
    /// A file or directory that the configuration names cannot be used.
    NO_FILE = "W0505", "file cannot be used";

    /// Scripts are run, but `enable_script_security` is not set. With it, scripts that others than root could replace
    /// are not run as root. Set `enable_script_security` and `script_user` in `global_defs`.
    SECURITY_OFF = "W0601", "script security is not enabled";
    /// A script that root runs, or a directory on its path, can be changed by somebody else than root. With
    /// `enable_script_security` it is not run.
    INSECURE_SCRIPT = "W0602", "insecure script";
    /// A file that holds a key can be read by others.
    INSECURE_KEY = "W0603", "key file can be read by others";

    /// The keyword or form still works and will be removed some day. The message names its successor.
    DEPRECATED = "W0701", "deprecated";
    /// The keyword is known and checked, and this version does not carry it out yet.
    NOT_IN_EFFECT = "W0702", "not in effect in this version";
    /// The keyword is accepted for old files and does nothing, in keepalived as here.
    DEAD = "W0703", "keyword does nothing";

    /// The failure of a tracked object lowers the priority, but not below that of the other router, so the address
    /// stays where the failure is. The weight must be greater than the gap between the two priorities.
    ///
    /// With `--peer FILE` the other router's priority is known. Without, an instance that wants to be master is
    /// held against priority 100, which a router has that names none.
    WEAK_WEIGHT = "L0801", "weight smaller than the priority gap";
    /// In strict mode (`vrrp_strict`, `strict_mode`) a router that does not own the virtual addresses drops what is
    /// sent to them, as RFC 5798 6.4.3 asks: they do not answer, not even to ping. Only priority 255 owns them. In
    /// version 3 `accept` lets packets in; otherwise remove strict mode.
    STRICT_DROPS = "L0802", "strict mode drops traffic";
    /// Unicast adverts can come from anywhere, while multicast ones stay on their link and a TTL of 255 shows it.
    /// Without authentication and without a packet filter, whoever can send packets to this router can take over.
    OPEN_UNICAST = "L0803", "unicast without authentication";
    /// The virtual address is in no network that its interface is connected to. Hosts on the link ask their router for
    /// it instead of looking for it here, unless they have a route. Usually the address or `dev` is mistyped.
    OUTSIDE = "L0804", "address outside the networks of its interface";
    /// `state MASTER` without `priority` means priority 255: the router owns the addresses, takes over from every
    /// other one, and its tracked weights have no effect.
    OWNER_BY_DEFAULT = "L0805", "owner without meaning to";
    /// A script that no `track_script` block names is never run.
    UNUSED_SCRIPT = "L0806", "script is never run";
    /// Mails are asked for and there is nobody to mail to.
    MAIL_NOWHERE = "L0807", "mails without an address";
    /// Two virtual servers on different groups use one real server. Each checks it by itself and counts its
    /// connections by itself, so weights and schedulers do not know of the other half of its load.
    TWO_GROUPS = "L0808", "real server in two groups";
    /// The file has instances, and none of them brings the address of this virtual server; neither does an interface.
    NOBODY_HOLDS = "L0809", "nobody holds the address of the service";

    /// The two routers have different ids for this instance. Each takes the other's adverts for those of a stranger,
    /// and both become master.
    PEER_VRID = "L0811", "other router id than the peer";
    /// The two routers send adverts at different intervals. Version 2 drops them; in version 3 the backup follows its
    /// master, so the time of a takeover depends on who is master.
    PEER_ADVERT_INT = "L0812", "other interval than the peer";
    /// The two routers speak different versions of the protocol and drop each other's adverts.
    PEER_VERSION = "L0813", "other version than the peer";
    /// The two routers authenticate differently and drop each other's adverts.
    PEER_AUTH = "L0814", "other authentication than the peer";
    /// The two routers have different virtual addresses. What only one has is gone while the other is master.
    PEER_ADDRESSES = "L0815", "other addresses than the peer";
    /// The two routers have the same priority: the higher address decides, which nobody sees in the files.
    PEER_PRIORITY = "L0816", "same priority as the peer";
    /// The other file has no instance of this name or router id: nobody takes over.
    PEER_MISSING = "L0817", "instance without a counterpart";
}
