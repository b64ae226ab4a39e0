//! The codes of diagnostics and what `evervip explain` says about them.

use crate::base::near::nearest;

/// A stable name for a kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `E0101`: the usual letter, and the number. The letter of a diagnostic tells what it stops
    /// ([`super::Diagnostic::id`]).
    pub id: &'static str,
    /// The kind of problem in a few words.
    pub title: &'static str,
    /// What it means and what to do, for `evervip explain`.
    pub text: &'static str,
}

/// The code named `id`, in upper or lower case and with any letter of diagnostics.
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

    /// Whether it is a lint, which keepalived does not have.
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
    /// The word is not a keyword of its block. Keywords are case sensitive, cannot be shortened, and are known only
    /// in their own block.
    ///
    /// The line is ignored. If the unknown word opens a block, its opening brace is ignored as well, as in keepalived,
    /// and its closing brace ends the enclosing block: what follows is then read outside that block. Correct or remove
    /// the unknown word first.
    UNKNOWN_KEYWORD = "E0101", "unknown keyword";
    /// An opening brace stands where no block can begin: the keyword before it takes no block. The brace is ignored, so
    /// the next closing brace ends the enclosing block.
    UNEXPECTED_OPEN = "E0102", "unexpected '{'";
    /// A keyword that opens a block is not followed by '{'. What follows is read as the block.
    MISSING_OPEN = "E0103", "missing '{'";
    /// There is no open block for a closing brace. The usual cause is an unknown keyword with a block further up:
    /// its closing brace ended the enclosing block.
    UNEXPECTED_CLOSE = "E0104", "unexpected '}'";
    /// A block is still open where the text ends, or at a keyword that is only valid outside it. What was read of the block
    /// is used.
    MISSING_CLOSE = "E0105", "missing '}'";
    /// A double quote is not closed on its line; quotes never span lines. The words before it are used.
    ///
    /// A double quote inside double quotes cannot be escaped, except in script keywords, where a backslash escapes it
    /// and apostrophes can enclose a value that contains double quotes.
    MISSING_QUOTE = "E0106", "missing closing quote";
    /// The keyword needs a value and has none. For most keywords keepalived exits at once with status 2 and does not
    /// start; for the others the line is ignored.
    MISSING_PARAMETER = "E0107", "missing value";
    /// There are words between a keyword and the '{' of its list. They are ignored.
    EXTRA_BEFORE_BLOCK = "E0108", "words before the block";
    /// A line is longer than 1022 bytes. The first 1023 bytes are discarded and the rest is read as a separate line, as
    /// in keepalived 2.4. Split the line.
    LINE_TOO_LONG = "E0109", "line too long";
    /// A line contains a zero byte. The line is ignored. The usual cause is a file that is not text, or whose encoding
    /// is not an extension of ASCII (UTF-16, for instance).
    ZERO_BYTE = "E0110", "zero byte";
    /// A list that should have entries is empty.
    EMPTY_LIST = "W0111", "empty list";
    /// The configuration is nested deeper, is larger or expands to more than the limits allow. Anything beyond the
    /// limit is ignored. The limits guard against files that include themselves and definitions that grow endlessly.
    LIMIT = "E0112", "limit exceeded";
    /// The main configuration file cannot be used: it is missing, cannot be read, is not a regular file, or is
    /// executable. Like keepalived, EverVIP refuses executable configuration files.
    MAIN_FILE = "F0113", "configuration file cannot be used";
    /// The line has more words than the keyword takes. keepalived ignores them without a message. For a flag such as
    /// `nopreempt` this is misleading: `nopreempt false` switches it on.
    EXTRA_WORDS = "L0114", "words without effect";
    /// The main file is a pattern that matches several files. All are read, in sorted order.
    SEVERAL_FILES = "W0115", "several main files";
    /// The file begins with a byte order mark, which some editors write into UTF-8 files. It is skipped; keepalived reads it
    /// as part of the first word.
    BYTE_ORDER_MARK = "W0116", "byte order mark";
    /// The file is not in an extension of ASCII, as UTF-8 and Latin-1 are, or its lines end with carriage returns alone.
    /// keepalived would read it as one line or as words with zero bytes. Nothing of it is used. The remedy converts it.
    ENCODING = "E0117", "encoding of the file";
    /// A name or another text is not UTF-8. Each of its octets is taken for a character of Latin-1, so logs, mails and scripts
    /// get it as UTF-8, while keepalived passes the octets on. `evervip convert` refuses such a file. Paths, commands
    /// and passwords keep their octets.
    NOT_UTF8 = "W0118", "not UTF-8";

    /// No file matches the name of an include. Relative names start in the directory of the file that holds the
    /// include. Plain `include` continues without it; `includem`, `includew`, `includeb`, `includea` and
    /// `include_check` make it an error, and then the daemon does not start.
    INCLUDE_MISSING = "E0201", "included file is missing";
    /// An included file cannot be used: it is a directory or another special file, it is executable, or
    /// it cannot be read. It is skipped; `includer` and the stricter forms make it an error.
    INCLUDE_UNUSABLE = "E0202", "included file cannot be used";
    /// A file includes itself, directly or through others. keepalived would read it until it runs out of file
    /// descriptors. The include is ignored.
    INCLUDE_LOOP = "E0203", "file includes itself";
    /// The value of a definition uses the definition itself. keepalived hangs or fills the line. Here the definition is
    /// replaced by nothing.
    DEFINITION_LOOP = "E0204", "definition uses itself";
    /// A `~SEQ` or `~LST` line is malformed, its step is zero, or its step leads away from the end. The line is
    /// ignored. The forms are `~SEQ(NAME, END)`, `~SEQ(NAME, START, END)`, `~SEQ(NAME, START, STEP, END)`, `~SEQx(...)`
    /// for hexadecimal, `~LST(NAME, a, b, ...)` and `~LST({N1, N2}, {a, b}, {c, d}, ...)`.
    REPETITION = "E0205", "malformed repetition";
    /// `${_RANDOM}` takes at most two integers, the lower one first.
    RANDOM = "E0206", "malformed random number";
    /// `${NAME}` is used, but `NAME` is not defined before that line. keepalived takes its braces as those of a block, which
    /// ends the enclosing block: what follows is not read as it was meant.
    UNDEFINED = "E0207", "undefined name";

    /// The keyword does not accept the value. The setting keeps its default or earlier value.
    VALUE = "E0300", "invalid value";
    /// A decimal integer is expected, without a unit or separators.
    NUMBER = "E0301", "not a number";
    /// The number is outside the range of its keyword. The setting keeps its default or earlier value.
    RANGE = "E0302", "number out of range";
    /// A time in seconds is expected: a decimal number with at most six digits after the point, without a unit or an
    /// exponent.
    SECONDS = "E0303", "not a time";
    /// The keyword takes one of a few words, and this is none of them. The words are case sensitive unless said
    /// otherwise.
    CHOICE = "E0304", "not one of the possible words";
    /// A truth value is one of true, on, yes, false, off, no, in lower case. A keyword that takes one and has no
    /// value means true.
    BOOLEAN = "E0305", "not a truth value";
    /// A numeric IPv4 or IPv6 address is expected.
    ADDRESS = "E0306", "not an address";
    /// The address is of a different family (IPv4 or IPv6) than the object it belongs to.
    FAMILY = "E0307", "address of the wrong family";
    /// An interface name must be 1 to 15 characters long and contain neither '/', ':' nor white space.
    INTERFACE_NAME = "E0308", "not an interface name";
    /// The text is longer than it may be.
    TOO_LONG = "E0309", "text too long";
    /// The number has more decimal places than the keyword supports. It is rounded.
    DECIMALS = "W0310", "too many decimal places";
    /// Text follows the digits of a number: a unit or a fraction, for instance. The number before it is used, as in a
    /// running keepalived; its configuration test (-t) treats it as an error and ignores the setting, so write only the
    /// number.
    TRAILING_TEXT = "W0311", "text after the number";
    /// The line of an address, route, rule, peer or tracked object contains a word that is not an option there.
    OPTION = "E0312", "unknown option";
    /// Hexadecimal digits are expected.
    HEX = "E0313", "not hexadecimal";
    /// The command of a script is malformed: it is empty, or a quote is not closed.
    SCRIPT_TEXT = "E0314", "malformed command";
    /// An advert of version 2 has room for a password of 8 bytes (RFC 2338 5.3.10). The rest is cut off, so
    /// passwords with the same first 8 bytes are equal.
    PASSWORD_CUT = "W0315", "password is cut off";

    /// The name is already in use. The later block is left out.
    DUPLICATE_NAME = "E0401", "name already in use";
    /// The keyword is already set in this block, and the first value is used. The later line is ignored.
    SET_TWICE = "E0402", "already set";
    /// The keyword is already set; the later value is used.
    OVERWRITTEN = "W0403", "overwrites an earlier setting";
    /// Nothing has this name. The reference is ignored.
    UNKNOWN_REFERENCE = "E0404", "unknown name";
    /// A required setting is missing. The block is left out.
    INCOMPLETE = "E0405", "block is incomplete";
    /// Two settings exclude each other. The message says which one is used.
    CONFLICT = "E0406", "settings exclude each other";
    /// The list already has this entry. The later one is ignored.
    DUPLICATE_ENTRY = "E0407", "already listed";
    /// Two instances use the same virtual router id on one interface, so each would accept the other's adverts as those
    /// of its own virtual router. keepalived does not start; here the later instance is left out.
    DUPLICATE_VRID = "E0408", "virtual router id used twice";
    /// The name is defined further down. Scripts, track files, processes and BFD sessions must be defined before the
    /// blocks that use them. The reference is ignored.
    DEFINED_LATER = "E0410", "defined after its use";
    /// The value is not possible here. The message says which value is used instead.
    ADJUSTED = "W0412", "value adjusted";
    /// A setting that should be explicit is missing. The default is used.
    DEFAULTED = "W0413", "default used";
    /// The setting has no effect together with the rest of the block.
    NO_EFFECT_HERE = "W0414", "setting without effect here";
    /// `nopreempt` prevents a router that returns from taking over. A router with `state MASTER` takes over when it
    /// starts, so keepalived and EverVIP ignore `nopreempt` there. Use `state BACKUP` on both routers.
    NOPREEMPT_MASTER = "W0415", "nopreempt with state MASTER";
    /// A setting that decides what is checked, or what counts as good, cannot be used: an address or port to connect to, a
    /// source, a digest, a regular expression, a name to query. The check fails, so its server stays out of service: without
    /// that setting nothing would show that the server is good. keepalived uses the default instead. Correct the setting.
    UNJUDGED = "W0416", "check fails because of a setting";

    /// The interface does not exist at present. keepalived does not start then, unless `dynamic_interfaces` is set. Here
    /// the instance stays in FAULT state until the interface appears, but a reload that adds it is refused: the name is
    /// probably mistyped. With `dynamic_interfaces` it is a warning.
    ///
    /// To check the file of another machine, leave it out with `--silence E0501`.
    NO_INTERFACE = "E0501", "interface does not exist";
    /// The program does not exist, is not a regular file, or is not executable for the account that should run it.
    /// Settings that use it are left out.
    NO_SCRIPT = "W0502", "script cannot be run";
    /// The user or group does not exist on this machine.
    NO_USER = "W0503", "unknown user or group";
    /// The host name cannot be resolved at present.
    NO_HOST = "W0504", "host name does not resolve";
    /// A file or directory that the configuration names cannot be used.
    NO_FILE = "W0505", "file cannot be used";
    /// The interface has this virtual address itself, and priority 255 makes this router its owner (RFC 5798 6.1).
    /// EverVIP uses the address and never removes it: it stays on the interface in every state, after a reload
    /// without it, and after a stop. Clients reach this host at the address as long as its link is up; another router
    /// that takes over meanwhile uses it as well.
    OWNS_ADDRESS = "N0506", "owner of a virtual address";

    /// Scripts are run, but `enable_script_security` is not set. It prevents scripts that users other than root can
    /// change from running as root. Set `enable_script_security` and `script_user` in `global_defs`.
    SECURITY_OFF = "W0601", "script security is not enabled";
    /// A script that root runs, or a directory on its path, can be changed by a user other than root. With
    /// `enable_script_security` it is not run.
    INSECURE_SCRIPT = "W0602", "insecure script";
    /// A file that contains a key can be read by other users.
    INSECURE_KEY = "W0603", "key file can be read by other users";

    /// The keyword or form still works but may be removed in the future. The message names its replacement.
    DEPRECATED = "W0701", "deprecated";
    /// The keyword is known and checked, but has no effect in this version yet.
    NOT_IN_EFFECT = "W0702", "not in effect in this version";
    /// The keyword is accepted for the sake of old files and has no effect, in keepalived as in EverVIP.
    DEAD = "W0703", "keyword does nothing";
    /// The daemon implements `vrrp_iptables` and `vrrp_ipsets` with nftables tables of its own, as keepalived does where
    /// the command `iptables` is the nftables version. The same packets are dropped, with one exception: an iptables
    /// rule that accepts packets before the named chain has no effect on them. Nothing is added to the named chains.
    /// Use `nftables` to choose the name of the tables.
    BY_NFTABLES = "N0704", "implemented with nftables";

    /// The failure of a tracked object lowers the priority, but not below that of the other router, so there
    /// is no failover. The weight must be greater than the difference between the two priorities.
    ///
    /// With `--peer FILE` the other router's priority is known. Without it, an instance with `state MASTER` is compared
    /// with priority 100, the default.
    WEAK_WEIGHT = "L0801", "weight smaller than the priority gap";
    /// In strict mode (`vrrp_strict`, `strict_mode`) a router that does not own the virtual addresses drops
    /// packets to them, as RFC 5798 6.4.3 requires: they do not answer, not even to ping. Only priority 255 owns them.
    /// In version 3 use `accept`; otherwise remove strict mode.
    STRICT_DROPS = "L0802", "strict mode drops traffic";
    /// Unicast adverts can come from any network, while multicast adverts stay on their link, which a TTL of 255 proves.
    /// Without authentication and without a packet filter, any host that can send packets to this router can take over.
    OPEN_UNICAST = "L0803", "unicast without authentication";
    /// The virtual address is written without the length of its network (or with /32, /128), and is in no network of an
    /// interface of this machine or of another virtual address. Hosts on the link send packets for it to their router
    /// instead of resolving it on the link, unless they have a route. Usually the address is mistyped.
    ///
    /// If no address of the file is in a network of this machine, the file is probably for another one: a single note
    /// reports this. Nothing is reported if this machine lacks an interface or a source address that the file names.
    OUTSIDE = "L0804", "address outside the networks of the machine";
    /// `state MASTER` without `priority` means priority 255: the router owns the addresses, takes over from every
    /// other router, and the weights of tracked objects have no effect.
    OWNER_BY_DEFAULT = "L0805", "address owner by default";
    /// A script that no `track_script` block lists never runs.
    UNUSED_SCRIPT = "L0806", "script is never run";
    /// Mail is enabled, but there is no address to send it to.
    MAIL_NOWHERE = "L0807", "mail without an address";
    /// Two virtual servers on different groups use one real server. Each of them checks the server and
    /// counts its connections separately, so schedulers do not see the rest of its load.
    TWO_GROUPS = "L0808", "real server in two groups";
    /// The file has instances, but neither one of them nor an interface has the address of this virtual server.
    NOBODY_HOLDS = "L0809", "no instance has the address of the service";

    /// The two routers use different virtual router ids for this instance or for one of its addresses. Neither accepts
    /// the other's adverts for it, and both become master.
    PEER_VRID = "L0811", "virtual router id differs from the peer's";
    /// The two routers send adverts at different intervals. Version 2 drops such adverts; in version 3 a backup uses
    /// the interval of its master, so the takeover time depends on which router is master.
    PEER_ADVERT_INT = "L0812", "advert interval differs from the peer's";
    /// The two routers use different versions of the protocol and drop each other's adverts.
    PEER_VERSION = "L0813", "version differs from the peer's";
    /// The two routers use different authentication, or different keys, and at least one of them drops the other's
    /// adverts. `mode permissive` and `mode receive-only` of `auth_hmac` allow to change one router after the other.
    PEER_AUTH = "L0814", "authentication differs from the peer's";
    /// The two routers have different virtual addresses. An address that only one of them has is unreachable while the
    /// other is master. With a different number of addresses they refuse each other's adverts, as RFC 3768 7.1
    /// demands: a router that takes over finds the other one still master. EverVIP ends this after ten adverts.
    PEER_ADDRESSES = "L0815", "addresses differ from the peer's";
    /// The two routers have the same priority, so the higher interface address decides, which is not visible in the
    /// files. With priority 255, which is that of the owner of the addresses, both become master at every start.
    PEER_PRIORITY = "L0816", "same priority as the peer";
    /// The other file has no instance of this name, with this virtual router id or with an address of this instance, so
    /// no router takes over.
    PEER_MISSING = "L0817", "instance without a counterpart";
    /// The adverts of one router do not reach the other one: unicast on one side and multicast on the other, different
    /// multicast groups, IPv4 and IPv6, or a `unicast_peer` list without the other's `unicast_src_ip`. A router that
    /// receives no adverts becomes master.
    PEER_DESTINATION = "L0818", "adverts do not reach the peer";
    /// One router sends a form of the version 3 checksum that the other one drops.
    PEER_CHECKSUM = "L0819", "checksum differs from the peer's";

    /// Two instances that are not in the same sync group have the same address on one interface. Their masters are
    /// elected independently, so two routers can have the address at the same time.
    TWO_INSTANCES = "L0821", "virtual address in two instances";
    /// The interface has the virtual address as its own. This router then answers for it in every state, even while
    /// another router is master. Only the owner of an address, with priority 255, may have it as its own.
    OWN_ADDRESS = "L0822", "virtual address is the interface's own";
    /// The keyword is set twice in the block, with different values. Only the last value is used, as in keepalived, which
    /// gives no message.
    REPEATED = "L0823", "set twice";
    /// `#` and `!` begin a comment anywhere in a line, even within a word, so the password ends there. The secret is
    /// shorter than it looks, and routers whose passwords differ after that character accept each other.
    PASSWORD_COMMENT = "L0824", "comment within a password";
}
