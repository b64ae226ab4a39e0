//! `evervip.conf(5)`.

use super::{Chapter, chapters, form, paragraphs, remarks};

const HEAD: &str = r#".\" Made from the tables of the program: do not edit.
.TH EVERVIP.CONF 5 "" "EverVIP" "File Formats"
.SH NAME
evervip.conf, keepalived.conf \- configuration of evervipd
.SH SYNOPSIS
.I /etc/keepalived/keepalived.conf
.SH DESCRIPTION
.BR evervipd (8)
reads the configuration language of keepalived 2.4.3.
.B evervip check
says what is wrong with a file, and
.B evervip explain
what a message means.
.SH LANGUAGE
A statement is a keyword with its values on a line of its own.
Some keywords open a block of further statements or of entries between { and }.
Keywords are case sensitive and cannot be shortened.
An unknown keyword is reported and left out, with the rest of its line.
.TP
.B # ! \fRcomment
To the end of the line, also within a word, but not between double quotes.
A backslash before the mark makes it a plain character.
.TP
.B \(dqwords\(dq
One word with blanks, braces or comment marks in it. Quotes end on their line.
.TP
.B include \fIPATTERN\fR
Reads files in its place. Relative names start in the directory of the file that holds the line.
A missing file is an error with
.BR includer ", " includem ", " includew ", " includeb " and " includea .
.TP
.B @ID \fIstatement\fR, \fB@^ID \fIstatement
Only for this configuration id, or for every other one (see
.B \-\-config\-id
of the daemon; the node name otherwise).
.TP
.B $NAME=\fIvalue
A definition, used as
.B $NAME
or
.BR ${NAME} .
A value that ends in a backslash goes on in the next line.
.TP
.B ${_PWD} ${_INSTANCE} ${_RANDOM \fIMIN MAX\fB} ${_ENV \fINAME\fB} ${_HASH} ${_BANG}
Definitions that are always there: the directory of the file, the configuration id, a random number, a variable
of the environment, the two comment marks.
.TP
.B ~SEQ(\fINAME\fB, \fISTART\fB, \fISTEP\fB, \fIEND\fB) \fIstatement
Repeats the line for each number; ~SEQx in hexadecimal.
.TP
.B ~LST(\fINAME\fB, \fIvalue\fB, ...) \fIstatement
Repeats the line for each value.
.PP
Numbers are decimal. Times are in seconds and may have decimals, without a unit.
Truth values are true, on, yes, false, off, no; a keyword that takes one and stands alone means true.
"#;

const TAIL: &str = r#".SH FILES
.I /etc/keepalived/keepalived.conf
.SH SEE ALSO
.BR evervipd (8),
.BR evervip (1)
"#;

/// The page in roff, for the `an` macros.
#[must_use]
pub fn manual() -> String {
    let mut page = HEAD.to_owned();
    for chapter in chapters() {
        write(&chapter, &mut page);
    }
    page.push_str(TAIL);
    page
}

fn write(chapter: &Chapter, page: &mut String) {
    match chapter.path.as_slice() {
        [] => page.push_str(".SH KEYWORDS OUTSIDE OF BLOCKS\n"),
        [name] => page.push_str(&format!(".SH \"{name}\"\n")),
        path => page.push_str(&format!(".SS \"{}\"\n", path.join(" / "))),
    }
    for (i, paragraph) in paragraphs(chapter.table.doc).iter().enumerate() {
        if i > 0 {
            page.push_str(".PP\n");
        }
        line(paragraph, page);
    }
    if let Some(name) = chapter.path.last() {
        let header = if chapter.header.is_empty() {
            String::new()
        } else {
            format!(" \\fI{}\\fR", escape(&chapter.header))
        };
        page.push_str(&format!(".PP\n\\fB{}\\fR{header} {{ ... }}\n", escape(name)));
    }
    for keyword in chapter.table.keywords {
        let value = form(keyword).map_or(String::new(), |f| format!(" \\fI{}\\fR", escape(&f)));
        page.push_str(&format!(".TP\n\\fB{}\\fR{value}\n", escape(keyword.name)));
        let mut meaning = paragraphs(keyword.doc).join(" ");
        if let Some(default) = keyword.default {
            meaning.push_str(&format!(" Default: {}.", default.text()));
        }
        for remark in remarks(keyword) {
            meaning.push(' ');
            meaning.push_str(&remark);
        }
        line(&meaning.replace('`', ""), page);
    }
}

/// A paragraph on a line of its own.
fn line(text: &str, page: &mut String) {
    let text = escape(text);
    // A line must not begin with a control character.
    if text.starts_with(['.', '\'']) {
        page.push_str("\\&");
    }
    page.push_str(&text);
    page.push('\n');
}

fn escape(text: &str) -> String {
    let text =
        text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace('→', "\\->");
    text.replace('\'', "\\(aq")
}
