#!/usr/bin/env python3
"""Reads configurations with Debian's keepalived and with evervipd, both with -t, and lists where they differ.

    tests/tools/differential.py [OPTION]... FILE...

Needs root, keepalived and iproute2. Everything runs in a separate network namespace with an interface for each name
that a file mentions, so that the result depends on the text of the files and not on the machine. With --mutants N each
file is also read in N broken versions: lines deleted, doubled, swapped or joined, words dropped, misspelt or added,
numbers changed, braces dropped. The versions depend only on --seed and on the file's name; --keep DIRECTORY saves those
that differ.

keepalived reads a file up to four times, once per process, so a line counts as reported when one of them reports it.
Messages that depend on the machine (scripts, users, interfaces) and not on the text are compared only with --all.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Lines of keepalived that depend on the machine.
ENVIRONMENT = re.compile(
    "SECURITY VIOLATION|Disabling (track|notify)? ?script|insecure|doesn't exist|Error setting global script uid/gid"
    "|Unable to set default user|Unable to (access|resolve|find)|not found in path|Unable to set script"
    "|Invalid script_user|is a symbolic link|not executable|WARNING - script|Non-existent interface"
    "|default user 'keepalived_script'|No such file or directory|Couldn't setuid"
    "|(Unable|Failed) to set uid/gid|Invalid smtp server"
)
# Our codes that depend on the machine or on this version.
OURS_ENVIRONMENT = {"E0501", "W0501", "W0502", "W0503", "W0504", "W0505", "W0601", "W0602", "W0603"}
OURS_VERSION = {"W0702", "W0703"}

THEIR_LINE = re.compile(r"^\((?:(?P<file>.*): )?Line (?P<line>\d+)\) (?P<text>.*)$")
OUR_LINE = re.compile(r"^(?:\((?P<file>.*): Line (?P<line>\d+)\) )?(?P<text>.*) \[(?P<code>[EWL]\d{4})\]$")


class Verdict:
    """Output of one program: exit status, messages by file and line, messages without a place."""

    def __init__(self, status):
        self.status = status
        self.placed = collections.OrderedDict()
        self.loose = []
        self.environment = []

    def add(self, place, text):
        if place is None:
            if text not in self.loose:
                self.loose.append(text)
        elif text not in self.placed.setdefault(place, []):
            self.placed[place].append(text)


def run(words, cwd):
    try:
        done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape")
    except subprocess.TimeoutExpired:
        return "timeout", ""


def theirs(options, path):
    status, output = run([options.keepalived, "-t", "-f", path.name, *options.id], path.parent)
    verdict = Verdict(status)
    for line in output.splitlines():
        match = THEIR_LINE.match(line)
        text = match["text"] if match else line
        place = ((match["file"] or path.name), int(match["line"])) if match else None
        if ENVIRONMENT.search(line) and not options.all:
            verdict.environment.append(line)
        else:
            verdict.add(place, text)
    return verdict


def ours(options, path):
    status, output = run([options.binary, "-t", "-f", path.name, *options.id], path.parent)
    verdict = Verdict(status)
    for line in output.splitlines():
        match = OUR_LINE.match(line)
        if not match or line.startswith(" "):
            continue
        place = (match["file"], int(match["line"])) if match["file"] else None
        if match["code"] in OURS_VERSION or match["code"] in OURS_ENVIRONMENT and not options.all:
            verdict.environment.append(line)
        else:
            verdict.add(place, f"{match['code']} {match['text']}")
    return verdict


def compare(them, us):
    """The differences, as (kind, place, text)."""
    found = []
    for place, texts in them.placed.items():
        if place not in us.placed:
            found.append(("theirs", place, texts[0]))
    for place, texts in us.placed.items():
        # Only evervipd gives advice; advice refuses no configuration.
        if place not in them.placed and not all(t.startswith("L") for t in texts):
            found.append(("ours", place, texts[0]))
    if bool(them.loose) != bool(us.loose) and not found:
        found.append(("loose", None, " / ".join(them.loose or us.loose)))
    if them.status != us.status:
        found.append(("status", None, f"status {us.status} instead of {them.status}"))
    return found


INTERFACE = re.compile(
    rb"^\s*(?:interface|lvs_sync_daemon|lvs_sync_daemon_interface|default_interface|linkbeat_interfaces|garp_extra_if)\s+"
    rb"([\w.@-]{1,15})|\bdev\s+([\w.@-]{1,15})|\boif\s+([\w.@-]{1,15})|\biif\s+([\w.@-]{1,15})", re.M)
TRACKED = re.compile(rb"^\s*(?:track_interface|linkbeat_interfaces)\s*\{([^}]*)\}", re.M)


def interfaces(text):
    names = set()
    for match in INTERFACE.finditer(text):
        names.update(n for n in match.groups() if n)
    for match in TRACKED.finditer(text):
        for line in match[1].splitlines():
            words = re.split(rb"[\s#!]", line.strip())
            if words and re.fullmatch(rb"[A-Za-z][\w.@-]{0,14}", words[0]):
                names.add(words[0])
    return {n.decode() for n in names if n != b"lo"}


def furnish(names, made):
    """Makes interfaces that do not exist yet, with an address of each family."""
    commands = []
    for name in sorted(names - made):
        number = len(made)
        made.add(name)
        commands += [f"link add {name} type veth peer name peer{number}", f"link set {name} up",
                     f"link set peer{number} up",
                     f"address add 198.18.{number // 250}.{number % 250 + 1}/32 dev {name}",
                     f"address add 2001:2::{number + 1:x}/128 dev {name} nodad"]
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(commands).encode(), check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


UNITS = [b"s", b"ms", b"%", b".5", b"k", b","]
NUMBERS = [b"0", b"-1", b"1", b"256", b"65536", b"99999999999", b"1.5", b"007", b"0x10", b"abc", b"", b"1e3", b"3600", b"255"]
WORDS = [b"foo", b"0", b"{", b"}", b'"', b"off", b"1.2.3.4", b"eth0", b"#", b"dev", b"weight", b"'a b'"]


def keyword_line(lines, rng):
    candidates = [i for i, l in enumerate(lines) if l.split() and not l.strip().startswith((b"#", b"!"))]
    return rng.choice(candidates) if candidates else None


def mutate(lines, rng):
    """One change to the lines of a file, in place. Returns a description of it."""
    at = keyword_line(lines, rng)
    if at is None:
        return "nothing"
    line = lines[at]
    words = line.split()
    indent = line[: len(line) - len(line.lstrip())]
    put = lambda w: indent + b" ".join(w)
    what = rng.choice(["delete", "double", "swap", "drop-word", "drop-last", "number", "number", "number", "unit",
                       "drop-brace", "misspell", "case", "append", "append", "move-block", "join", "quote", "keyword-only",
                       "rename", "add-brace", "double-block", "word"])
    if what == "delete":
        del lines[at]
    elif what == "double":
        lines.insert(at, line)
    elif what == "swap":
        other = keyword_line(lines, rng)
        lines[at], lines[other] = lines[other], lines[at]
    elif what == "drop-word":
        del words[rng.randrange(len(words))]
        lines[at] = put(words)
    elif what == "drop-last":
        lines[at] = put(words[:-2] + words[-1:] if words[-1] == b"{" else words[:-1])
    elif what in ("number", "unit"):
        spots = [(i, m) for i, l in enumerate(lines) if not l.strip().startswith((b"#", b"!"))
                 for m in re.finditer(rb"(?<![\w.:])\d+(?:\.\d+)?(?![\w.:])", l)]
        if not spots:
            return "nothing"
        at, match = rng.choice(spots)
        new = match[0] + rng.choice(UNITS) if what == "unit" else rng.choice(NUMBERS)
        lines[at] = lines[at][: match.start()] + new + lines[at][match.end():]
    elif what == "drop-brace":
        spots = [i for i, l in enumerate(lines) if b"{" in l or b"}" in l]
        if not spots:
            return "nothing"
        at = rng.choice(spots)
        lines[at] = lines[at].replace(rng.choice([b"{", b"}"]), b"", 1)
    elif what == "misspell":
        word = words[0]
        place = rng.randrange(len(word))
        words[0] = word[:place] + rng.choice([b"x", b"", b"_", word[place:place + 1] * 2]) + word[place + 1:]
        lines[at] = put(words)
    elif what == "case":
        place = rng.randrange(len(words))
        words[place] = words[place].swapcase()
        lines[at] = put(words)
    elif what == "append":
        lines[at] = line + b" " + rng.choice(WORDS)
    elif what == "word":
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = put(words)
    elif what == "move-block":
        starts = [i for i, l in enumerate(lines) if l[:1].isalpha()]
        if len(starts) < 2:
            return "nothing"
        number = rng.randrange(len(starts))
        end = starts[number + 1] if number + 1 < len(starts) else len(lines)
        block = lines[starts[number]:end]
        del lines[starts[number]:end]
        rest = [i for i, l in enumerate(lines) if l[:1].isalpha()] + [len(lines)]
        place = rng.choice(rest)
        lines[place:place] = block
    elif what == "double-block":
        starts = [i for i, l in enumerate(lines) if l[:1].isalpha()]
        if not starts:
            return "nothing"
        number = rng.randrange(len(starts))
        end = starts[number + 1] if number + 1 < len(starts) else len(lines)
        lines[end:end] = lines[starts[number]:end]
    elif what == "join":
        if at + 1 < len(lines):
            lines[at:at + 2] = [lines[at].rstrip() + b" " + lines[at + 1].lstrip()]
    elif what == "quote":
        place = rng.randrange(len(words))
        words[place] = rng.choice([b'"' + words[place] + b'"', b"'" + words[place] + b"'", b'"' + words[place]])
        lines[at] = put(words)
    elif what == "keyword-only":
        lines[at] = put(words[:1] + ([b"{"] if words[-1] == b"{" else []))
    elif what == "rename":
        spots = [i for i, l in enumerate(lines) if re.match(rb"^(vrrp|virtual|track|static|garp|bfd)\w* ", l)]
        if not spots:
            return "nothing"
        at = rng.choice(spots)
        words = lines[at].split()
        words[1] = rng.choice([b"OTHER", b"VI_1", b'""', b"1.2.3.4", b"a b"])
        lines[at] = b" ".join(words)
    elif what == "add-brace":
        lines.insert(at, rng.choice([b"{", b"}"]))
    return f"{what} {at + 1}"


def versions(path, options):
    """The file itself and its mutants, as (name, text)."""
    text = path.read_bytes()
    if not options.mutants or not options.only_mutants:
        yield path.name, text
    seed = hashlib.sha256(f"{options.seed} {path.name}".encode()).digest()
    rng = random.Random(seed)
    for number in range(options.mutants):
        lines = text.split(b"\n")
        done = [mutate(lines, rng) for _ in range(1 if rng.random() < 0.8 else 2)]
        yield f"{path.stem}+{number:04}.conf", b"\n".join(lines)
        del done


def check(options, path, name, text, place):
    """Reads one text with both programs; place is a directory with the files it includes."""
    file = pathlib.Path(place) / name
    if file.exists():
        file = pathlib.Path(place) / f"same-{name}"
    file.write_bytes(text)
    try:
        them, us = theirs(options, file), ours(options, file)
    finally:
        file.unlink()
    return name, text, them, us, compare(them, us)


def shape(text):
    """A message without its variable parts, to count kinds."""
    text = re.sub(r"'[^']*'", "'..'", text)
    text = re.sub(r"\(\w[^)]*\)", "(..)", text)
    return re.sub(r"\d+", "N", text)


def neighbours(path, place):
    """Links to the files beside `path`, for its includes."""
    for other in path.parent.iterdir():
        target = pathlib.Path(place) / other.name
        if other.is_dir() or other.suffix != ".conf":
            os.symlink(other, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--binary", default=str(ROOT / "target/debug/evervipd"))
    parser.add_argument("--keepalived", default=shutil.which("keepalived") or "/usr/sbin/keepalived")
    parser.add_argument("--mutants", type=int, default=0, help="broken versions of each file")
    parser.add_argument("--only-mutants", action="store_true", help="do not read the file itself")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--id", default=None, help="configuration id (-i)")
    parser.add_argument("--all", action="store_true", help="compare messages about the machine as well")
    parser.add_argument("--bare", action="store_true", help="make no interfaces")
    parser.add_argument("--no-status", action="store_true", help="do not compare exit statuses")
    parser.add_argument("--show", action="store_true", help="print all messages of files that differ")
    parser.add_argument("--keep", type=pathlib.Path, help="save texts that differ here")
    parser.add_argument("--ignore", action="append", default=[], help="pattern of differences that are known")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if os.environ.get("EVERVIP_DIFFERENTIAL") != "inside":
        os.environ["EVERVIP_DIFFERENTIAL"] = "inside"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    options.id = ["-i", options.id] if options.id else []
    ignored = [re.compile(p) for p in options.ignore]
    made, kinds, examples = set(), collections.Counter(), {}
    count = different = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for path in options.files:
            path = path.resolve()
            if not options.bare:
                furnish(interfaces(path.read_bytes()), made)
            with tempfile.TemporaryDirectory() as place:
                neighbours(path, place)
                jobs = [pool.submit(check, options, path, n, t, place) for n, t in versions(path, options)]
                for job in jobs:
                    name, text, them, us, found = job.result()
                    count += 1
                    found = [f for f in found if not any(p.search(f"{f[0]}: {f[2]}") for p in ignored)
                             and not (options.no_status and f[0] == "status")]
                    if not found:
                        continue
                    different += 1
                    for kind, spot, message in found:
                        key = f"{kind}: {shape(message)}"
                        kinds[key] += 1
                        examples.setdefault(key, f"{name}:{spot[1] if spot else ''}: {message}")
                    if options.show:
                        report(name, them, us, found)
                    if options.keep:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        (options.keep / name).write_bytes(text)
    for key, number in kinds.most_common():
        print(f"{number:6} {key}\n         {examples[key]}")
    print(f"{count} texts read, {different} with differences")
    return 1 if different else 0


def report(name, them, us, found):
    print(f"== {name} [keepalived {them.status}, ours {us.status}]")
    for kind, place, text in found:
        where = f"{place[1]}" if place else "-"
        print(f"   {kind}:{where}: {text}")
    for place, texts in them.placed.items():
        print(f"      them {place[1]}: {' | '.join(texts)}")
    for text in them.loose + them.environment:
        print(f"      them -: {text}")
    for place, texts in us.placed.items():
        print(f"      us   {place[1]}: {' | '.join(texts)}")
    for text in us.loose + us.environment:
        print(f"      us   -: {text}")


if __name__ == "__main__":
    sys.exit(main())
